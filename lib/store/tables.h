/* tables.h: the store's rows in memory and what each operation does to them: the whole of the memory driver, and the state behind the file driver. */
#ifndef STORE_TABLES_H
#define STORE_TABLES_H

#include "store/op.h"

struct name_row {
  struct store_name row;
  struct owner_row *owner;
  struct name_row *prev, *next; /* of the same owner */
  UT_hash_handle hh;            /* by name */
};
struct owner_row { /* as long as it has a name */
  char owner[STORE_PRINCIPAL];
  struct name_row *names;
  unsigned n;
  UT_hash_handle hh;
};
struct tunnel_row {
  struct store_tunnel row;
  struct served_row *served;
  struct tunnel_row *prev, *next; /* of the same name */
  UT_hash_handle hh;              /* by id, in the order they were put */
};
struct served_row { /* as long as a tunnel has the name */
  char name[STORE_NAME];
  struct tunnel_row *tunnels;
  UT_hash_handle hh;
};
struct audit_node {
  struct audit_row row;
  struct audit_node *next;
};

/* Told of each change, as the row's new image, before it is made. An error stops the operation. */
enum change {
  CHANGE_NAME,
  CHANGE_NAME_GONE,
  CHANGE_TUNNEL,
  CHANGE_TUNNEL_GONE,
  CHANGE_AUDIT,
  CHANGE_ANCHOR, /* a struct anchor: audit rows up to it are forgotten */
  CHANGE_CLOCK   /* a struct clock_seen */
};
struct anchor {
  uint64_t seq;
  uint8_t hash[HASH_BYTES]; /* of the last row forgotten */
};
typedef int (*tables_note)(void *user, enum change what, const void *row);

struct tables {
  struct name_row *names;
  struct owner_row *owners;
  struct tunnel_row *tunnels;
  struct served_row *served;
  struct clock_seen clock;
  struct audit_node *audits, **audits_end; /* the newest AUDITS_KEPT; none when keep_audits is false */
  size_t audits_n;
  bool keep_audits;
  uint64_t seq;             /* of the last audit row */
  uint8_t last[HASH_BYTES]; /* its hash */
  struct anchor before;     /* the row before the oldest one kept */
  tables_note note;         /* may be NULL */
  void *user;
};
enum { AUDITS_KEPT = 10000 };

void tables_init(struct tables *t, bool keep_audits, tables_note note, void *user);
void tables_free(struct tables *t); /* can be used again after tables_init */
/* As driver_ops.run. Every operation but OP_AUDIT_VERIFY without keep_audits. */
int tables_run(struct tables *t, struct store_op *op);

/* A row from a journal: put in place without a note. NOMEM; STORE: an audit row out of order. */
int tables_apply(struct tables *t, enum change what, const void *row);

/* Without keep_audits: the audit rows up to this one are forgotten, as part of OP_FORGET. */
int tables_forget_audits(struct tables *t, struct store_op *op, const struct anchor *a);
/* May this audit row be forgotten? */
bool tables_audit_old(const struct tables *t, const struct store_op *op, uint64_t seq, int64_t at);

#endif
