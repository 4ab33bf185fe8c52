/* job.c: see addon.h. */
#include "addon.h"

#include <stdlib.h>

static void job_free(struct job *job) {
  if (job->end)
    job->end(job);
  free(job);
}

static void deliver(napi_env env, struct message *m) {
  struct job *job = (struct job *)m;
  napi_value result = NULL;
  let_go(job->in);
  if (job->settle)
    result = job->settle(env, job);
  if (job->err) {
    napi_reject_deferred(env, job->promise, error_write(env, &job->error));
  } else {
    if (!result)
      napi_get_undefined(env, &result);
    napi_resolve_deferred(env, job->promise, result);
  }
  job_free(job);
}

/* The environment ends: the promise with it. */
static void drop(struct message *m) {
  job_free((struct job *)m);
}

static void run(void *arg) {
  struct job *job = arg;
  job->err = job->work(job);
  if (job->err && !job->error.code)
    error_set(&job->error, job->err, NULL, "%s", beam_strerror(job->err));
  send_message(job->in, &job->message);
}

void *job_new(napi_env env, size_t size, struct instance *in, struct thing *thing) {
  struct job *job = calloc(1, size);
  if (!job) {
    napi_throw_error(env, "BEAM-1002", "out of memory");
    return NULL;
  }
  job->message.deliver = deliver;
  job->message.drop = drop;
  job->in = in;
  job->thing = thing;
  job->error.size = sizeof job->error;
  return job;
}

napi_value job_refuse(napi_env env, struct job *job) {
  napi_value promise = NULL;
  napi_deferred deferred;
  if (napi_create_promise(env, &deferred, &promise) == napi_ok)
    napi_reject_deferred(env, deferred, error_write(env, &job->error));
  job_free(job);
  return promise;
}

napi_value job_start(napi_env env, struct lane *lane, struct job *job) {
  napi_value promise = NULL;
  int err = lane_start(lane);
  if (err) {
    error_set(&job->error, err, NULL, "cannot start a thread");
    return job_refuse(env, job);
  }
  if (napi_create_promise(env, &job->promise, &promise) != napi_ok) {
    job_free(job);
    return NULL;
  }
  hold(job->in);
  if (beam_loop_post(lane->loop, run, job)) {
    error_set(&job->error, BEAM_ERR_NOMEM, NULL, "out of memory");
    job->err = BEAM_ERR_NOMEM;
    deliver(env, &job->message);
  }
  return promise;
}

void *job_about(napi_env env, const struct call *c, enum thing_kind kind, size_t size, bool last,
                napi_value *out) {
  static const char *const nouns[] = {"tunnel", "relay", "domain"};
  struct thing *t = thing_find(c->in, call_id(env, c), kind);
  struct job *job = job_new(env, size, c->in, t);
  *out = NULL;
  if (!job)
    return NULL;
  if (!t || t->closing) {
    error_set(&job->error, BEAM_ERR_CLOSED, "open another one", "the %s is closed", nouns[kind]);
    *out = job_refuse(env, job);
    return NULL;
  }
  t->closing = last;
  return job;
}

napi_value thing_gone(napi_env env, struct job *job) {
  (void)env;
  thing_remove(job->thing);
  free(job->thing);
  return NULL;
}

napi_value thing_gone_if_failed(napi_env env, struct job *job) {
  return job->err ? thing_gone(env, job) : NULL;
}
