/* addon.c: the instance of an environment: its beginning, its end, and the way from the lanes back to JavaScript. */
#include "addon.h"

#include <stdlib.h>
#include <string.h>

/* process.exit() runs no hook of the main environment and goes straight to the C library's exit(), where the libraries below take themselves apart
 * while lanes still use them. Hence the list: what is left then is ended first. */
static struct instance *all;
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the end ------------------------------------------------------------------------------------------------------ */

static void end_tunnels(void *arg) {
  tunnels_end(arg);
}

static void end_others(void *arg) {
  relays_end(arg);
  domains_end(arg);
}

static void instance_end(struct instance *in) {
  if (in->ended)
    return;
  in->ended = true;
  atomic_store(&in->closing, true);
  command_end(in);
  lane_end(&in->net, end_tunnels, in);
  lane_end(&in->slow, end_others, in);
}

static void unlist(struct instance *in) {
  pthread_mutex_lock(&all_lock);
  struct instance **at = &all;
  while (*at && *at != in)
    at = &(*at)->next;
  if (*at)
    *at = in->next;
  pthread_mutex_unlock(&all_lock);
}

/* Before the threadsafe function's own hook, because it was added after it: no thread calls it any more when it goes. */
static void on_env_end(void *arg) {
  struct instance *in = arg;
  unlist(in);
  instance_end(in);
  napi_release_threadsafe_function(in->back, napi_tsfn_abort);
}

static void on_process_exit(void) {
  pthread_mutex_lock(&all_lock);
  struct instance *in = all;
  all = NULL;
  pthread_mutex_unlock(&all_lock);
  for (; in; in = in->next)
    instance_end(in);
}

static void instance_free(napi_env env, void *data, void *hint) {
  struct instance *in = data;
  (void)env;
  (void)hint;
  while (in->things) {
    struct thing *t = in->things;
    thing_remove(t);
    free(t);
  }
  free(in);
}

/* ---- the way back ------------------------------------------------------------------------------------------------- */

static void on_message(napi_env env, napi_value callback, void *context, void *data) {
  struct message *m = data;
  (void)callback;
  (void)context;
  if (env)
    m->deliver(env, m);
  else
    m->drop(m);
}

void send_message(struct instance *in, struct message *m) {
  if (atomic_load(&in->closing) ||
      napi_call_threadsafe_function(in->back, m, napi_tsfn_nonblocking) != napi_ok)
    m->drop(m);
}

void hold(struct instance *in) {
  if (in->held++ == 0)
    napi_ref_threadsafe_function(in->env, in->back);
}

void let_go(struct instance *in) {
  if (--in->held == 0)
    napi_unref_threadsafe_function(in->env, in->back);
}

struct instance *instance_of(napi_env env) {
  void *in = NULL;
  napi_get_instance_data(env, &in);
  return in;
}

napi_value error_write(napi_env env, const struct beam_error *e) {
  napi_value fn, undefined, result = NULL, args[3];
  napi_get_undefined(env, &undefined);
  args[0] = text_write(env, beam_err_code(e->code));
  args[1] = text_write(env, e->what[0] ? e->what : beam_strerror(e->code));
  args[2] = text_write(env, e->hint[0] ? e->hint : beam_err_hint(e->code));
  if (napi_get_reference_value(env, instance_of(env)->make_error, &fn) != napi_ok ||
      napi_call_function(env, undefined, fn, 3, args, &result) != napi_ok)
    return undefined;
  return result;
}

napi_value throw_error(napi_env env, const struct beam_error *e) {
  napi_throw(env, error_write(env, e));
  return NULL;
}

void emit(napi_env env, uint32_t id, const char *kind, napi_value a, napi_value b) {
  napi_value fn, undefined, thrown, args[4];
  bool pending = false;
  napi_get_undefined(env, &undefined);
  napi_create_uint32(env, id, &args[0]);
  args[1] = text_write(env, kind);
  args[2] = a ? a : undefined;
  args[3] = b ? b : undefined;
  if (napi_get_reference_value(env, instance_of(env)->on_event, &fn) != napi_ok)
    return;
  napi_call_function(env, undefined, fn, 4, args, NULL);
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
      napi_get_and_clear_last_exception(env, &thrown) == napi_ok)
    napi_fatal_exception(env, thrown);
}

/* ---- things ------------------------------------------------------------------------------------------------------- */

struct thing *thing_find(struct instance *in, uint32_t id, enum thing_kind kind) {
  struct thing *t = in->things;
  while (t && (t->id != id || t->kind != kind))
    t = t->next;
  return t;
}

void thing_add(struct instance *in, struct thing *t, uint32_t id, enum thing_kind kind) {
  t->in = in;
  t->id = id;
  t->kind = kind;
  t->next = in->things;
  in->things = t;
}

void thing_remove(struct thing *t) {
  struct thing **at = &t->in->things;
  while (*at && *at != t)
    at = &(*at)->next;
  if (*at)
    *at = t->next;
}

bool thing_may_send(struct thing *t) {
  if (atomic_fetch_add(&t->waiting, 1) < EVENTS_MAX)
    return true;
  atomic_fetch_sub(&t->waiting, 1);
  atomic_fetch_add(&t->lost, 1);
  return false;
}

unsigned thing_delivered(struct thing *t) {
  atomic_fetch_sub(&t->waiting, 1);
  return atomic_exchange(&t->lost, 0);
}

/* ---- calls -------------------------------------------------------------------------------------------------------- */

bool call_open(napi_env env, napi_callback_info info, struct call *c) {
  c->n = 4;
  c->in = instance_of(env);
  if (c->in && !c->in->ended && napi_get_cb_info(env, info, &c->n, c->arg, NULL, NULL) == napi_ok)
    return true;
  napi_throw_error(env, "BEAM-1005", "this environment is ending");
  return false;
}

uint32_t call_id(napi_env env, const struct call *c) {
  uint32_t id = 0;
  napi_get_value_uint32(env, c->arg[0], &id);
  return id;
}

void method(napi_env env, napi_value exports, const char *name, napi_callback fn) {
  napi_value f;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, fn, NULL, &f) == napi_ok)
    napi_set_named_property(env, exports, name, f);
}

static napi_value keep_alive(napi_env env, napi_callback_info info) {
  struct call c;
  bool on = false;
  if (!call_open(env, info, &c) || napi_get_value_bool(env, c.arg[0], &on) != napi_ok)
    return NULL;
  if (on)
    hold(c.in);
  else if (c.in->held)
    let_go(c.in);
  return NULL;
}

/* setup(makeError(code, what, hint), onEvent(id, kind, a, b)), once. */
static napi_value setup(napi_env env, napi_callback_info info) {
  struct call c;
  if (!call_open(env, info, &c) || c.in->make_error)
    return NULL;
  napi_create_reference(env, c.arg[0], 1, &c.in->make_error);
  napi_create_reference(env, c.arg[1], 1, &c.in->on_event);
  return NULL;
}

/* ---- the beginning ------------------------------------------------------------------------------------------------ */

static bool instance_new(napi_env env) {
  static bool watched;
  napi_value name;
  struct instance *in = calloc(1, sizeof *in);
  if (!in)
    return false;
  in->env = env;
  if (napi_create_string_utf8(env, "beam", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, NULL, NULL, in, on_message, &in->back) !=
          napi_ok) {
    free(in);
    return false;
  }
  napi_unref_threadsafe_function(env, in->back);
  napi_set_instance_data(env, in, instance_free, NULL);
  napi_add_env_cleanup_hook(env, on_env_end, in);
  pthread_mutex_lock(&all_lock);
  in->next = all;
  all = in;
  if (!watched)
    watched = atexit(on_process_exit) == 0;
  pthread_mutex_unlock(&all_lock);
  return true;
}

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  if (!instance_new(env)) {
    napi_throw_error(env, "BEAM-1002", "beam: out of memory");
    return NULL;
  }
  napi_set_named_property(env, exports, "version", text_write(env, beam_version()));
  napi_set_named_property(env, exports, "features", text_write(env, beam_features()));
  method(env, exports, "setup", setup);
  method(env, exports, "keepAlive", keep_alive);
  tunnel_methods(env, exports);
  relay_methods(env, exports);
  domain_methods(env, exports);
  command_methods(env, exports);
  return exports;
}
