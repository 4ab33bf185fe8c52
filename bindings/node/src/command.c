/* command.c: the `beam` command, whole, on a thread of its own: JavaScript stays free to take the signals. */
#include "addon.h"
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cli_run {
  struct message message; /* first */
  struct instance *in;
  pthread_t thread;
  struct cli_stop *stop;
  char **argv, **envp;
  int status;
  bool sent; /* whoever takes the message frees the run */
  napi_deferred promise;
};

static void free_list(char **list) {
  for (size_t i = 0; list && list[i]; i++)
    free(list[i]);
  free(list);
}

static void run_free(struct cli_run *run) {
  cli_stop_free(run->stop);
  free_list(run->argv);
  free_list(run->envp);
  free(run);
}

/* An array of strings as C has it. NULL: no memory, or something else than strings, which is said. */
static char **read_list(napi_env env, napi_value array, struct beam_error *e) {
  uint32_t n = 0;
  if (napi_get_array_length(env, array, &n) != napi_ok) {
    error_set(e, BEAM_ERR_INVALID, NULL, "not an array of strings");
    return NULL;
  }
  char **list = calloc((size_t)n + 1, sizeof *list);
  for (uint32_t i = 0; list && i < n; i++) {
    napi_value v;
    if (napi_get_element(env, array, i, &v) != napi_ok || text_read(env, v, "an argument", &list[i], e)) {
      free_list(list);
      return NULL;
    }
  }
  return list;
}

static void deliver(napi_env env, struct message *m) {
  struct cli_run *run = (struct cli_run *)m;
  napi_value status;
  pthread_join(run->thread, NULL);
  run->in->cli = NULL;
  let_go(run->in);
  napi_create_int32(env, run->status, &status);
  napi_resolve_deferred(env, run->promise, status);
  run_free(run);
}

static void drop(struct message *m) {
  run_free((struct cli_run *)m);
}

static void *run_command(void *arg) {
  struct cli_run *run = arg;
  int argc = 0;
  while (run->argv[argc])
    argc++;
  struct cli_env env = {.argc = argc,
                        .argv = run->argv,
                        .envp = (const char *const *)run->envp,
                        .out_is_terminal = isatty(1),
                        .err_is_terminal = isatty(2),
                        .stop = run->stop};
  run->status = beam_cli_main(&env);
  run->sent = napi_call_threadsafe_function(run->in->back, run, napi_tsfn_nonblocking) == napi_ok;
  return NULL;
}

/* JavaScript's thread is here, so nobody takes the message meanwhile. */
void command_end(struct instance *in) {
  struct cli_run *run = in->cli;
  if (!run)
    return;
  in->cli = NULL;
  cli_stop_request(run->stop);
  pthread_join(run->thread, NULL);
  if (!run->sent)
    run_free(run);
}

static int start(napi_env env, const struct call *c, struct cli_run *run, struct beam_error *e) {
  if (c->in->cli)
    return error_set(e, BEAM_ERR_IN_USE, "wait for its end", "a command runs already");
  run->argv = read_list(env, c->arg[0], e);
  run->envp = run->argv ? read_list(env, c->arg[1], e) : NULL;
  run->stop = run->envp ? cli_stop_new() : NULL;
  if (!run->stop)
    return e->code ? e->code : error_set(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  int err = thread_start(&run->thread, run_command, run);
  return err ? error_set(e, err, NULL, "cannot start a thread") : 0;
}

/* command(argv, envp): a promise of the exit status. */
static napi_value command(napi_env env, napi_callback_info info) {
  struct call c;
  napi_value promise = NULL;
  struct beam_error e = BEAM_ERROR_INIT;
  if (!call_open(env, info, &c))
    return NULL;
  struct cli_run *run = calloc(1, sizeof *run);
  if (!run || napi_create_promise(env, &run->promise, &promise) != napi_ok) {
    free(run);
    error_set(&e, BEAM_ERR_NOMEM, NULL, "out of memory");
    return throw_error(env, &e);
  }
  run->message.deliver = deliver;
  run->message.drop = drop;
  run->in = c.in;
  if (start(env, &c, run, &e)) {
    napi_reject_deferred(env, run->promise, error_write(env, &e));
    run_free(run);
    return promise;
  }
  c.in->cli = run;
  hold(c.in);
  return promise;
}

/* commandSignal(number): true when the process is to end at once. */
static napi_value command_signal(napi_env env, napi_callback_info info) {
  struct call c;
  napi_value now = NULL;
  int32_t sig = 0;
  if (!call_open(env, info, &c) || napi_get_value_int32(env, c.arg[0], &sig) != napi_ok)
    return NULL;
  napi_get_boolean(env, !c.in->cli || cli_signal(c.in->cli->stop, sig), &now);
  return now;
}

/* Nothing is closed in order, and no hook runs. */
static napi_value exit_now(napi_env env, napi_callback_info info) {
  struct call c;
  int32_t status = CLI_INTERRUPTED;
  if (call_open(env, info, &c))
    napi_get_value_int32(env, c.arg[0], &status);
  _exit(status);
}

void command_methods(napi_env env, napi_value exports) {
  method(env, exports, "command", command);
  method(env, exports, "commandSignal", command_signal);
  method(env, exports, "exitNow", exit_now);
}
