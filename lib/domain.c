/* domain.c: the facade of include/beam/domain.h. The store answers through a loop; here the caller waits, so each domain turns one of its own. */
#include <beam/domain.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/random.h"
#include "domain/domain.h"
#include "io/loop.h"

_Static_assert((int)BEAM_LABEL_SIZE == (int)LABEL_MAX, "a label fits");
_Static_assert((int)BEAM_NAME_SIZE == (int)STORE_NAME, "a name fits");

struct beam_domain {
  struct loop *loop;
  struct store *store;
  struct domain *domain;
};

/* What is waited for. */
struct answer {
  bool done;
  int err;
  struct beam_error error;
  char *name;
  uint64_t n;
  beam_domain_row_fn fn;
  void *user;
};

int beam_domain_generate(char *label) {
  if (!label)
    return BEAM_ERR_INVALID;
  if (base_init())
    return BEAM_ERR_SYSTEM;
  name_draw(label);
  return 0;
}

int beam_domain_check(const char *label, struct beam_error *err) {
  return name_check(span_of(label), err);
}

static void tell_rows(const struct answer *a, const struct store_reply *r) {
  for (size_t i = 0; i < r->n; i++) {
    const struct store_name *n = &r->names[i];
    struct beam_domain_row row = {.size = sizeof row,
                                  .name = n->name,
                                  .owner = n->owner,
                                  .drawn = n->drawn,
                                  .port = n->port,
                                  .created_at = n->created_at,
                                  .used_at = n->used_at};
    a->fn(a->user, &row);
  }
}

static void on_answer(void *user, int err, const struct store_reply *r) {
  struct answer *a = user;
  a->done = true;
  a->err = err;
  a->error = *r->error;
  a->n = r->n;
  if (!err && a->name)
    str_copy(a->name, BEAM_NAME_SIZE, r->name);
  if (!err && a->fn)
    tell_rows(a, r);
}

/* asked: what handing the operation in gave. */
static int wait_for(beam_domain *d, struct answer *a, int asked, struct beam_error *err) {
  if (asked)
    return err_set(err, asked, NULL, "the request was refused: %s", err_find(asked)->what);
  while (!a->done)
    loop_turn(d->loop, 1000);
  return a->err ? err_set(err, a->err, a->error.hint, "%s", a->error.what) : 0;
}

int beam_domain_open(const struct beam_domain_config *config, beam_domain **out, struct beam_error *err) {
  struct beam_domain_config c = BEAM_DOMAIN_CONFIG_INIT;
  if (!config || !out || config->size < sizeof config->size)
    return err_set(err, BEAM_ERR_INVALID, "begin with BEAM_DOMAIN_CONFIG_INIT",
                   "the domain's configuration is missing");
  memcpy(&c, config, config->size < sizeof c ? config->size : sizeof c);
  if (!c.base || !c.data_dir)
    return err_set(err, BEAM_ERR_INVALID, "set both", "the configuration lacks base or data_dir");
  *out = NULL;
  beam_domain *d = calloc(1, sizeof *d);
  if (!d)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "no memory for the domain");
  int e = loop_new(&d->loop);
  if (e)
    err_set(err, e, NULL, "no loop for the domain: %s", err_find(e)->what);
  if (!e)
    e = store_open(c.data_dir, &d->store, err);
  if (!e)
    e = domain_new(d->store, c.base, &d->domain, err);
  if (e)
    beam_domain_close(d);
  else
    *out = d;
  return e;
}

void beam_domain_close(beam_domain *d) {
  if (!d)
    return;
  domain_free(d->domain);
  store_close(d->store);
  loop_free(d->loop);
  free(d);
}

int beam_domain_allocate(beam_domain *d, const char *principal, const char *wanted, uint16_t port, char *name,
                         struct beam_error *err) {
  if (!d || !principal || !name)
    return err_set(err, BEAM_ERR_INVALID, NULL, "an argument is missing");
  struct beam_error why = BEAM_ERROR_INIT;
  struct answer a = {.name = name};
  struct domain_claim c = {.principal = principal, .wanted = wanted, .local_port = port};
  int e = domain_allocate(d->domain, d->loop, &c, on_answer, &a, NULL, &why);
  if (e && why.code)
    return err_set(err, e, why.hint, "%s", why.what);
  return wait_for(d, &a, e, err);
}

int beam_domain_release(beam_domain *d, const char *principal, const char *name, struct beam_error *err) {
  if (!d || !principal || !name)
    return err_set(err, BEAM_ERR_INVALID, NULL, "an argument is missing");
  struct answer a = {0};
  return wait_for(d, &a, store_release(d->store, d->loop, principal, name, on_answer, &a, NULL), err);
}

int beam_domain_list(beam_domain *d, const char *principal, beam_domain_row_fn fn, void *user,
                     struct beam_error *err) {
  if (!d || !fn)
    return err_set(err, BEAM_ERR_INVALID, NULL, "an argument is missing");
  struct answer a = {.fn = fn, .user = user};
  return wait_for(d, &a, store_names(d->store, d->loop, principal, on_answer, &a, NULL), err);
}

int beam_domain_verify(beam_domain *d, uint64_t *rows, struct beam_error *err) {
  if (!d)
    return err_set(err, BEAM_ERR_INVALID, NULL, "an argument is missing");
  struct answer a = {0};
  int e = wait_for(d, &a, store_audit_verify(d->store, d->loop, on_answer, &a, NULL), err);
  if (rows)
    *rows = a.n;
  return e;
}
