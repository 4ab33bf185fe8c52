/* domain.c: the names a relay hands out. The record waits for the disk: the slow lane. */
#include "addon.h"

#include <stdlib.h>
#include <string.h>

static const struct field config_fields[] = {
    FIELD(beam_domain_config, "base", base, F_TEXT),
    FIELD(beam_domain_config, "dataDir", data_dir, F_TEXT),
    FIELD_END,
};

static const struct field row_fields[] = {
    FIELD(beam_domain_row, "name", name, F_TEXT),
    FIELD(beam_domain_row, "owner", owner, F_TEXT),
    FIELD(beam_domain_row, "drawn", drawn, F_FLAG),
    FIELD(beam_domain_row, "port", port, F_U16),
    FIELD(beam_domain_row, "createdAt", created_at, F_I64),
    FIELD(beam_domain_row, "usedAt", used_at, F_I64),
    FIELD_END,
};

/* The arguments of the calls about a record. */
struct claim {
  const char *principal, *name;
  uint16_t port;
};
static const struct field claim_fields[] = {
    FIELD(claim, "principal", principal, F_TEXT),
    FIELD(claim, "name", name, F_TEXT),
    FIELD(claim, "port", port, F_U16),
    FIELD_END,
};

struct domain {
  struct thing thing;
  beam_domain *domain; /* the slow lane's */
};

struct domain_job {
  struct job job;
  struct beam_domain_config config;
  struct claim claim;
  char name[BEAM_NAME_SIZE];
  struct beam_domain_row *rows;
  size_t n, room;
  bool lacking; /* memory */
  uint64_t verified;
};

static void end(struct job *job) {
  struct domain_job *d = (struct domain_job *)job;
  fields_free(config_fields, &d->config);
  fields_free(claim_fields, &d->claim);
  for (size_t i = 0; i < d->n; i++)
    fields_free(row_fields, &d->rows[i]);
  free(d->rows);
}

static beam_domain *record(struct job *job) {
  return ((struct domain *)job->thing)->domain;
}

/* ---- without a record --------------------------------------------------------------------------------------------- */

static napi_value generate(napi_env env, napi_callback_info info) {
  char label[BEAM_LABEL_SIZE];
  struct beam_error e = BEAM_ERROR_INIT;
  (void)info;
  e.code = beam_domain_generate(label);
  return e.code ? throw_error(env, &e) : text_write(env, label);
}

/* domainCheck(label): throws what is wrong with it. */
static napi_value check(napi_env env, napi_callback_info info) {
  struct call c;
  char *label;
  struct beam_error e = BEAM_ERROR_INIT;
  if (!call_open(env, info, &c))
    return NULL;
  if (!text_read(env, c.arg[0], "the label", &label, &e)) {
    beam_domain_check(label, &e);
    free(label);
  }
  return e.code ? throw_error(env, &e) : NULL;
}

/* ---- with one ----------------------------------------------------------------------------------------------------- */

static int open_work(struct job *job) {
  struct domain_job *d = (struct domain_job *)job;
  return beam_domain_open(&d->config, &((struct domain *)job->thing)->domain, &job->error);
}

static napi_value domain_open(napi_env env, napi_callback_info info) {
  struct call c;
  if (!call_open(env, info, &c))
    return NULL;
  struct domain_job *d = job_new(env, sizeof *d, c.in, NULL);
  if (!d)
    return NULL;
  struct domain *t = calloc(1, sizeof *t);
  d->config = (struct beam_domain_config)BEAM_DOMAIN_CONFIG_INIT;
  d->job.work = open_work;
  d->job.settle = thing_gone_if_failed;
  d->job.end = end;
  int err = t ? fields_read(env, c.arg[1], config_fields, &d->config, &d->job.error)
              : error_set(&d->job.error, BEAM_ERR_NOMEM, NULL, "out of memory");
  if (err) {
    free(t);
    return job_refuse(env, &d->job);
  }
  d->job.thing = &t->thing;
  thing_add(c.in, &t->thing, call_id(env, &c), THING_DOMAIN);
  return job_start(env, &c.in->slow, &d->job);
}

static int close_work(struct job *job) {
  beam_domain_close(record(job));
  ((struct domain *)job->thing)->domain = NULL;
  return 0;
}

void domains_end(struct instance *in) {
  for (struct thing *t = in->things; t; t = t->next) {
    if (t->kind != THING_DOMAIN)
      continue;
    beam_domain_close(((struct domain *)t)->domain);
    ((struct domain *)t)->domain = NULL;
  }
}

static int allocate_work(struct job *job) {
  struct domain_job *d = (struct domain_job *)job;
  return beam_domain_allocate(record(job), d->claim.principal, d->claim.name, d->claim.port, d->name,
                              &job->error);
}

static napi_value name_settle(napi_env env, struct job *job) {
  return job->err ? NULL : text_write(env, ((struct domain_job *)job)->name);
}

static int release_work(struct job *job) {
  struct domain_job *d = (struct domain_job *)job;
  return beam_domain_release(record(job), d->claim.principal, d->claim.name, &job->error);
}

static void keep_row(void *user, const struct beam_domain_row *row) {
  struct domain_job *d = user;
  if (d->n == d->room) {
    size_t room = d->room ? d->room * 2 : 64;
    void *grown = realloc(d->rows, room * sizeof *d->rows);
    if (!grown) {
      d->lacking = true;
      return;
    }
    d->rows = grown;
    d->room = room;
  }
  d->rows[d->n] = *row;
  if (!fields_own(row_fields, &d->rows[d->n++]))
    d->lacking = true;
}

static int list_work(struct job *job) {
  struct domain_job *d = (struct domain_job *)job;
  int err = beam_domain_list(record(job), d->claim.principal, keep_row, d, &job->error);
  return err ? err : d->lacking ? BEAM_ERR_NOMEM : 0;
}

static napi_value list_settle(napi_env env, struct job *job) {
  struct domain_job *d = (struct domain_job *)job;
  napi_value list = NULL;
  if (job->err)
    return NULL;
  napi_create_array_with_length(env, d->n, &list);
  for (size_t i = 0; i < d->n; i++)
    napi_set_element(env, list, (uint32_t)i, fields_write(env, row_fields, &d->rows[i]));
  return list;
}

static int verify_work(struct job *job) {
  return beam_domain_verify(record(job), &((struct domain_job *)job)->verified, &job->error);
}

static napi_value verify_settle(napi_env env, struct job *job) {
  napi_value rows = NULL;
  if (!job->err)
    napi_create_double(env, (double)((struct domain_job *)job)->verified, &rows);
  return rows;
}

/* f(id, { principal, name, port }) */
static napi_value ask(napi_env env, napi_callback_info info, int (*work)(struct job *),
                      napi_value (*settle)(napi_env, struct job *), bool last) {
  struct call c;
  napi_value refused;
  if (!call_open(env, info, &c))
    return NULL;
  struct domain_job *d = job_about(env, &c, THING_DOMAIN, sizeof *d, last, &refused);
  if (!d)
    return refused;
  d->job.work = work;
  d->job.settle = settle;
  d->job.end = end;
  if (c.n > 1 && fields_read(env, c.arg[1], claim_fields, &d->claim, &d->job.error))
    return job_refuse(env, &d->job);
  return job_start(env, &c.in->slow, &d->job);
}

static napi_value domain_close(napi_env env, napi_callback_info info) {
  return ask(env, info, close_work, thing_gone, true);
}
static napi_value allocate(napi_env env, napi_callback_info info) {
  return ask(env, info, allocate_work, name_settle, false);
}
static napi_value release(napi_env env, napi_callback_info info) {
  return ask(env, info, release_work, NULL, false);
}
static napi_value list(napi_env env, napi_callback_info info) {
  return ask(env, info, list_work, list_settle, false);
}
static napi_value verify(napi_env env, napi_callback_info info) {
  return ask(env, info, verify_work, verify_settle, false);
}

void domain_methods(napi_env env, napi_value exports) {
  method(env, exports, "domainGenerate", generate);
  method(env, exports, "domainCheck", check);
  method(env, exports, "domainOpen", domain_open);
  method(env, exports, "domainClose", domain_close);
  method(env, exports, "domainAllocate", allocate);
  method(env, exports, "domainRelease", release);
  method(env, exports, "domainList", list);
  method(env, exports, "domainVerify", verify);
}
