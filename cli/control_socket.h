/* control_socket.h: how `beam status` and `beam stop` reach a running beam: a Unix socket PID.sock in the runtime directory, one JSON object a line each way.
 *
 *   {"cmd":"status"}  ->  what the running command tells of itself
 *   {"cmd":"purge"}   ->  {"ok":true}: its cache, if it has one, is emptied; with "path":"/a" of that path and what is under it
 *   {"cmd":"stop"}    ->  {"ok":true}, then end of file when it has ended
 */
#ifndef CLI_CONTROL_SOCKET_H
#define CLI_CONTROL_SOCKET_H

#include "json.h"
#include "options.h"

struct control;
struct control_ops {
  void (*status)(void *user, struct json *j);  /* adds its keys; called from the control thread */
  void (*stop)(void *user);                    /* likewise; only asks */
  void (*purge)(void *user, const char *path); /* likewise; path NULL: all. NULL: nothing to purge */
  void *user;
};

/* Answer from now on, on a thread of its own. Errors with text: PERMISSION, SYSTEM, LIMIT. */
int control_open(const struct cli_env *env, const struct control_ops *ops, struct control **out,
                 struct beam_error *e);
/* No more questions from here on: the ops are not called any more. NULL is accepted. */
void control_quiet(struct control *c);
/* The last thing before the command returns: whoever asked for the end learns now that it came. NULL is accepted. */
void control_close(struct control *c);

/* The client's side: call fn for each running beam with its answer to {"cmd":"status"} and the socket for control_stop().
 * Sockets nobody answers at are removed. Returns the number of answers, or an error. */
typedef void (*control_fn)(void *user, const char *socket_path, const char *status);
int control_each(const struct cli_env *env, control_fn fn, void *user, struct beam_error *e);
/* Ask it to empty its cache, or to forget this path and what is under it (NULL: all). */
int control_purge(const char *socket_path, const char *path, struct beam_error *e);
/* Ask it to end and wait until it has (at most ten seconds: TIMEOUT). */
int control_stop(const char *socket_path, struct beam_error *e);

#endif
