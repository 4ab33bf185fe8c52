/* addon.h: what the files of the addon share. Two kinds of threads: JavaScript's, and the lanes, on which all calls into libbeam run.
 *
 *   JavaScript ── job ──► lane (a beam_loop of its own) ── message ──► JavaScript: settles the job's promise, or emits an event
 *
 * Each environment (the main thread, a worker) has an instance of its own: two lanes, one list of things, one way back. Nothing is shared
 * between instances, and an instance ends before its environment does.
 */
#ifndef ADDON_H
#define ADDON_H

#include <beam/domain.h>
#include <beam/relay.h>
#include <beam/tunnel.h>

#define NAPI_VERSION 8
#include <node_api.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- lane.c: a thread that runs a loop ---------------------------------------------------------------------------- */

struct lane {
  beam_loop *loop;
  pthread_t thread;
};

/* A thread that takes no signal: those are JavaScript's. 0 or a beam_err. */
int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg);
/* Starts it the first time. 0 or a beam_err. */
int lane_start(struct lane *lane);
/* Runs last(arg) after all that was posted, ends the thread and frees the loop. A lane that was never started has nothing to end. */
void lane_end(struct lane *lane, void (*last)(void *arg), void *arg);

/* ---- fields.c: C structs and JavaScript objects, by a table ------------------------------------------------------- */

enum field_type { F_TEXT, F_FLAG, F_INT, F_U16, F_U32, F_U64, F_I64, F_DOUBLE, F_NAME };

/* F_NAME: an enum whose values 0, 1, ... are called names[0], names[1], ...; ended by NULL. */
struct field {
  const char *key;
  size_t at;
  enum field_type type;
  const char *const *names;
};
#define FIELD(s, key, member, type)                                                                          \
  { key, offsetof(struct s, member), type, NULL }
#define FIELD_END                                                                                            \
  { NULL, 0, F_TEXT, NULL }

/* From an object into a struct whose other members keep their defaults; undefined and null leave the default. Texts are the struct's own then
 * (fields_free). BEAM_ERR_INVALID with text: a key that is not in the table, or a value of the wrong type or out of range. */
int fields_read(napi_env env, napi_value object, const struct field *table, void *to, struct beam_error *e);
napi_value fields_write(napi_env env, const struct field *table, const void *from);
/* The texts of a struct that borrows them become its own. False: no memory; what could not be copied is NULL. */
bool fields_own(const struct field *table, void *of);
void fields_free(const struct field *table, void *of);

/* "Local", "utf8"; NULL and BEAM_ERR_INVALID when the value is no text or has a NUL in it. The caller frees it. */
int text_read(napi_env env, napi_value value, const char *what, char **out, struct beam_error *e);
napi_value text_write(napi_env env, const char *text); /* NULL becomes null */
int error_set(struct beam_error *e, int code, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- addon.c: the instance and the way back ----------------------------------------------------------------------- */

/* What a lane says to JavaScript. Exactly one of the two is called: deliver on JavaScript's thread, or drop where nobody listens any more. */
struct message {
  void (*deliver)(napi_env env, struct message *m);
  void (*drop)(struct message *m);
};

enum thing_kind { THING_TUNNEL, THING_RELAY, THING_DOMAIN };

/* A tunnel, a relay or a domain, under the number that JavaScript gave it. The list belongs to JavaScript's thread. */
struct thing {
  struct instance *in;
  struct thing *next;
  uint32_t id;
  enum thing_kind kind;
  bool closing; /* its last job is on the way; JavaScript's thread */
  /* Events on their way. JavaScript may be busy for seconds while visitors come: beyond the limit events are counted instead of kept. */
  atomic_uint waiting, lost;
};
enum { EVENTS_MAX = 10000 }; /* about 5 MB of requests */

struct instance {
  napi_env env;
  napi_threadsafe_function back;
  napi_ref make_error, on_event; /* functions of the JavaScript side */
  struct lane net;               /* tunnels */
  struct lane slow;              /* relays and domains: their calls wait for disks and threads */
  struct cli_run *cli;           /* the command while it runs */
  struct thing *things;
  unsigned held; /* what keeps the process alive */
  atomic_bool closing;
  bool ended;
  struct instance *next; /* all of the process; see addon.c */
};

struct instance *instance_of(napi_env env);
/* JavaScript's thread: while somebody holds it, the event loop does not end. */
void hold(struct instance *in);
void let_go(struct instance *in);
/* From any thread of Beam; takes the message. */
void send_message(struct instance *in, struct message *m);
/* JavaScript's thread: the promise for what runs elsewhere. */
napi_value error_write(napi_env env, const struct beam_error *e);
/* on_event(id, kind, a, b). What it throws is an uncaught exception, as in any emitter. */
void emit(napi_env env, uint32_t id, const char *kind, napi_value a, napi_value b);

/* Find by number; NULL when it is gone. */
struct thing *thing_find(struct instance *in, uint32_t id, enum thing_kind kind);
void thing_add(struct instance *in, struct thing *t, uint32_t id, enum thing_kind kind);
void thing_remove(struct thing *t);
/* May one more event be sent? If so it is counted until thing_delivered(). Any thread. */
bool thing_may_send(struct thing *t);
/* JavaScript's thread; returns how many were lost since the last one. */
unsigned thing_delivered(struct thing *t);

/* The arguments of a call: at most 4; those that are not there are undefined. */
struct call {
  struct instance *in;
  size_t n;
  napi_value arg[4];
};
bool call_open(napi_env env, napi_callback_info info, struct call *c);
uint32_t call_id(napi_env env, const struct call *c); /* argument 0 */
/* Throws the error, in the manner of JavaScript; returns NULL. */
napi_value throw_error(napi_env env, const struct beam_error *e);

/* ---- job.c: a call on a lane, a promise here ---------------------------------------------------------------------- */

struct job {
  struct message message;
  struct instance *in;
  struct thing *thing; /* may be NULL */
  napi_deferred promise;
  struct beam_error error;
  int err;
  int (*work)(struct job *job); /* on the lane; fills job->error */
  napi_value (*settle)(
      napi_env env,
      struct job *job);         /* JavaScript's thread, after work(), also after a failure; may be NULL */
  void (*end)(struct job *job); /* frees what the job holds; may be NULL */
};

/* Takes the job (made by job_new) and returns its promise. */
napi_value job_start(napi_env env, struct lane *lane, struct job *job);
/* A job of that size, zeroed but for `in` and `thing`; NULL: no memory, thrown already. */
void *job_new(napi_env env, size_t size, struct instance *in, struct thing *thing);
/* A promise that is rejected already. Ends the job. */
napi_value job_refuse(napi_env env, struct job *job);
/* The job for a call about the thing whose number is argument 0; NULL when it was refused: *out is what the call returns then. The last job of a thing
 * frees it. */
void *job_about(napi_env env, const struct call *c, enum thing_kind kind, size_t size, bool last,
                napi_value *out);
/* job->settle of a last job, and of one that opens a thing: after a failure there is none. */
napi_value thing_gone(napi_env env, struct job *job);
napi_value thing_gone_if_failed(napi_env env, struct job *job);

/* ---- tunnel.c, relay.c, domain.c, command.c ----------------------------------------------------------------------- */

void tunnel_methods(napi_env env, napi_value exports);
void relay_methods(napi_env env, napi_value exports);
void domain_methods(napi_env env, napi_value exports);
void command_methods(napi_env env, napi_value exports);
void method(napi_env env, napi_value exports, const char *name, napi_callback fn);

/* At the end of an instance, on the lane: what is still open is closed. JavaScript's thread waits meanwhile. */
void tunnels_end(struct instance *in);
void relays_end(struct instance *in);
void domains_end(struct instance *in);
void command_end(struct instance *in); /* JavaScript's thread: stops the command and waits for it */

#endif
