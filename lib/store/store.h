/* store.h: what must survive a restart: names, tunnels, the audit chain. Typed asynchronous operations, no SQL.
 *
 *   caller's loop ──► queue (LIMIT_STORE_QUEUE) ──► store thread: one transaction for all that waits ──► loop_post ──► callback on the caller's loop
 *
 * Each operation returns 0 (the callback comes exactly once, unless cancelled) or an error (no callback): LIMIT when the queue is full, NOMEM, CLOSED.
 * A callback's reply is borrowed for the call. cb may be NULL: nobody wants to know.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <beam/beam.h>
#include <stdbool.h>

struct loop;
struct store;
struct store_op;

/* Errors with text: STORE (corrupt, locked, disk full, made by a newer Beam), PERMISSION, NOMEM, SYSTEM, UNSUPPORTED (driver not in this build). */
int store_open_memory(
    struct store **out,
    struct beam_error *e); /* no thread: answers by the loop's next turn; tests and the sim */
int store_open_sqlite(const char *path, struct store **out,
                      struct beam_error *e); /* several processes may share it */
int store_open_file(const char *path, struct store **out,
                    struct beam_error *e); /* journal; one process only */
/* The best driver of this build in dir: dir/beam.db (SQLite) or dir/beam.journal. Makes dir. */
int store_open(const char *dir, struct store **out, struct beam_error *e);
/* Carries out what is queued, then frees. Callbacks that have not run will not come, whether or not their loop runs on. NULL is accepted. */
void store_close(struct store *s);

enum { STORE_NAME = 256, STORE_PRINCIPAL = 64, STORE_ID = 33, STORE_ROWS_MAX = 1000, STORE_KEEP_DAYS = 30 };

enum store_status { STORE_PROVISIONING, STORE_ACTIVE, STORE_CLOSED };
const char *store_status_text(enum store_status st);

struct store_tunnel {
  char id[STORE_ID]; /* 32 hex digits */
  char owner[STORE_PRINCIPAL];
  char name[STORE_NAME];
  uint16_t port;
  char framework[64];
  int64_t created_at; /* seconds since 1970 */
  enum store_status status;
};

struct store_name {
  char name[STORE_NAME];
  char owner[STORE_PRINCIPAL];
  bool drawn; /* by the generator, not wanted by its owner */
  uint16_t port;
  int64_t created_at, used_at;
};

struct store_reply {
  const struct beam_error *error; /* what and hint; code is 0 when all went well */
  const char *name;               /* allocate: the name; TAKEN: what was wanted */
  const char *holder;             /* TAKEN: the principal that has it */
  bool fresh;                     /* allocate: not the principal's before */
  const struct store_tunnel *tunnels;
  const struct store_name *names;
  size_t n;     /* of tunnels or names; rows changed; audit_verify: rows that are in order */
  uint64_t seq; /* audit: the row's number; audit_verify: the first bad row, 0 when none */
};
typedef void (*store_cb)(void *user, int err, const struct store_reply *r);

/* The requester is gone: cb will not come. On the loop's thread, before cb ran. What was asked may still be carried out.
 * Before a loop is freed its open operations are cancelled, or the store is closed. */
void store_cancel(struct store_op *op);

/* --- names --- */
struct store_claim {
  const char *principal;
  const char *wanted;            /* full name; NULL: any */
  const char *const *candidates; /* with wanted NULL: full names to try in order */
  size_t n;
  const char *base; /* names of the principal are given again only under this base domain */
  uint16_t port;    /* the local port: `beam 3000` gets the name it had for 3000 */
  bool no_fresh;    /* only what the principal has already, else LIMIT */
};
/* In one transaction. wanted: given when free or the principal's own already, else TAKEN. Not wanted: the principal's drawn name of the same port under base,
 * else the first free candidate, else (LIMIT_NAMES_PER_PRINCIPAL reached) its drawn name unused longest. LIMIT (also LIMIT_NAMES_TOTAL); TAKEN when all
 * candidates are taken. */
int store_allocate(struct store *s, struct loop *l, const struct store_claim *c, store_cb cb, void *user,
                   struct store_op **op);
/* Give a name up. NOT_FOUND; DENIED when it is another principal's. */
int store_release(struct store *s, struct loop *l, const char *principal, const char *name, store_cb cb,
                  void *user, struct store_op **op);
/* Names of a principal, NULL: all; by name, at most STORE_ROWS_MAX. */
int store_names(struct store *s, struct loop *l, const char *principal, store_cb cb, void *user,
                struct store_op **op);

/* --- tunnels --- */
void store_new_id(char id[STORE_ID]);
/* Insert, or update the row of that id. Of a name the last closed tunnel is kept, no more. */
int store_tunnel_put(struct store *s, struct loop *l, const struct store_tunnel *t, store_cb cb, void *user,
                     struct store_op **op);
/* provisioning -> active -> closed, never back: INVALID. NOT_FOUND. */
int store_tunnel_status(struct store *s, struct loop *l, const char *id, enum store_status st, store_cb cb,
                        void *user, struct store_op **op);
/* Owner NULL: all; live: leave closed ones out. Newest first, at most STORE_ROWS_MAX. */
int store_tunnels(struct store *s, struct loop *l, const char *owner, bool live, store_cb cb, void *user,
                  struct store_op **op);
/* At a relay's start: what a killed relay left open under base is closed, and rows closed over STORE_KEEP_DAYS ago are forgotten. */
int store_tunnels_reset(struct store *s, struct loop *l, const char *base, store_cb cb, void *user,
                        struct store_op **op);

/* --- forgetting --- */
/* What is too old: names nobody used for LIMIT_NAME_DRAWN_DAYS or LIMIT_NAME_WANTED_DAYS (a name is in use until its tunnel closes), closed tunnels, the
 * beginning of the audit chain. reply->n rows at most a batch: ask again while it is not 0, and every hour. Nothing is forgotten before the clock went
 * evenly for a day of such questions: one that jumped must cost nobody his name. */
int store_forget(struct store *s, struct loop *l, store_cb cb, void *user, struct store_op **op);

/* --- audit: each row carries SHA-256(hash of the row before || its fields) --- */
struct store_audit {
  const char *actor;   /* principal, or an address */
  const char *action;  /* "bind", "hello", "refused", ... */
  const char *subject; /* the name or id it was about */
  const char *detail;
};
/* With the queue full nothing is lost silently: a row with the number of those left out follows. */
int store_audit(struct store *s, struct loop *l, const struct store_audit *a, store_cb cb, void *user,
                struct store_op **op);
/* Walk the whole chain, from the first row not forgotten. STORE with text when a row was changed, removed or put in between. */
int store_audit_verify(struct store *s, struct loop *l, store_cb cb, void *user, struct store_op **op);

#endif
