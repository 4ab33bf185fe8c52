/* op.h: one operation on its way: what was asked, who waits for it, what came of it. And what a driver has to do. */
#ifndef STORE_OP_H
#define STORE_OP_H

#define HASH_NONFATAL_OOM 1 /* an add that failed leaves hh.tbl NULL */
#include <uthash.h>

#include "base/hash.h"
#include "store/store.h"

enum op_kind {
  OP_ALLOCATE,
  OP_RELEASE,
  OP_NAMES,
  OP_TUNNEL_PUT,
  OP_TUNNEL_STATUS,
  OP_TUNNELS,
  OP_TUNNELS_RESET,
  OP_FORGET,
  OP_AUDIT,
  OP_AUDIT_VERIFY,
};

enum { AUDIT_ACTION = 32, AUDIT_DETAIL = 512 };

struct audit_row {
  uint64_t seq; /* from 1, without gaps */
  int64_t at;
  char actor[STORE_PRINCIPAL];
  char action[AUDIT_ACTION];
  char subject[STORE_NAME];
  char detail[AUDIT_DETAIL];
  uint8_t hash[HASH_BYTES];
};

/* How the clock went while it was asked: evenly since then, and when it was last looked at. Kept in the store. */
struct clock_seen {
  int64_t since, last;
};

struct store_op {
  struct store *store;
  enum op_kind kind;
  struct store_op *next; /* in the queue */
  int64_t now;           /* seconds since 1970, when it was asked */

  /* who waits; cb NULL: nobody */
  struct loop *loop;
  store_cb cb;
  void *user;
  bool cancelled; /* these two under the post office's lock (store.c) */
  uintptr_t id;   /* 0: not answered yet */
  UT_hash_handle hh;

  /* what was asked */
  union {
    struct {
      char principal[STORE_PRINCIPAL], base[STORE_NAME];
      char (*names)[STORE_NAME]; /* wanted (then n is 1), or candidates */
      size_t n;
      bool wanted, no_fresh;
      uint16_t port;
    } claim;
    struct {
      char principal[STORE_PRINCIPAL], name[STORE_NAME];
    } release;
    struct {
      char owner[STORE_PRINCIPAL]; /* "": all */
      bool live;
    } list;
    struct store_tunnel tunnel;
    struct {
      char id[STORE_ID];
      enum store_status status;
    } change;
    char base[STORE_NAME];
    struct audit_row audit;
  } in;

  /* what came of it */
  int err;
  struct beam_error error;
  struct store_reply reply;
  char name[STORE_NAME], holder[STORE_PRINCIPAL];
  struct store_tunnel *tunnels;
  struct store_name *names;
  size_t rows, room;
};

/* Tests pretend others. */
extern int64_t (*store_now)(void); /* seconds since 1970 */
extern size_t store_names_total;   /* LIMIT_NAMES_TOTAL */

enum { FORGET_NAMES = 1000, FORGET_AUDITS = 10000 }; /* a batch: others wait for the store's thread */

bool op_writes(const struct store_op *op);
void op_forget(struct store_op *op); /* the outcome, so that it can be run again */
void op_free(struct store_op *op);

/* For drivers: the outcome. op_fail returns err. */
int op_fail(struct store_op *op, int err, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void op_gives_name(struct store_op *op, const char *name, bool fresh);
int op_taken(struct store_op *op, const char *name, const char *holder); /* returns TAKEN */
int op_too_many(struct store_op *op);                                    /* LIMIT: names of one principal */
int op_no_fresh(struct store_op *op);                                    /* LIMIT: only what it has already */
int op_full(struct store_op *op);                                        /* LIMIT: names of all */
int op_bad_status(struct store_op *op, enum store_status from);          /* INVALID */
int op_no_tunnel(struct store_op *op);                                   /* NOT_FOUND */
int op_no_name(struct store_op *op);                                     /* NOT_FOUND */
int op_not_yours(struct store_op *op);                                   /* DENIED */
int op_bad_audit(struct store_op *op, uint64_t seq);                     /* STORE */
struct store_tunnel *op_add_tunnel(struct store_op *op);                 /* NULL: out of memory, or enough */
struct store_name *op_add_name(struct store_op *op);
bool status_may_follow(enum store_status from, enum store_status to);

/* Evenly: no step back over an hour, no gap over two days. Steady: so for a day at least, it may be believed. */
void clock_note(struct clock_seen *c, int64_t now);
bool clock_steady(const struct clock_seen *c);
int64_t days_before(const struct store_op *op, unsigned days);

/* hash = SHA-256(hash before || seq || at || the texts, each with its length) */
void audit_hash(struct audit_row *row, const uint8_t before[HASH_BYTES]);
bool audit_hash_ok(const struct audit_row *row, const uint8_t before[HASH_BYTES]);

/* --- drivers: one thread at a time --- */
struct driver;
struct driver_ops {
  /* A transaction around one or more runs. A failed commit has been rolled back. STORE, ... with text. */
  int (*begin)(struct driver *d, bool write, struct beam_error *e);
  int (*commit)(struct driver *d, struct beam_error *e);
  void (*rollback)(struct driver *d);
  /* Fill op's outcome. Returns 0 when it stands (also a refusal: TAKEN, LIMIT, ...), or an error: the transaction has to be rolled back. */
  int (*run)(struct driver *d, struct store_op *op);
  void (*close)(struct driver *d);
};
struct driver {
  const struct driver_ops *ops;
};

/* Takes the driver, also when it fails. threaded: through the queue and the store thread. */
int store_start(struct driver *d, bool threaded, struct store **out, struct beam_error *e);
/* Takes op, also when it fails. Sets *out (may be NULL) to op when its callback will come. */
int store_submit(struct store *s, struct store_op *op, struct store_op **out);

#endif
