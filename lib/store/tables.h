/* tables.h: the store's rows in memory and what each operation does to them: the whole of the memory driver, and the state behind the file driver. */
#ifndef STORE_TABLES_H
#define STORE_TABLES_H

#include "store/op.h"

struct name_row {
  struct store_name row;
  UT_hash_handle hh; /* by name */
};
struct tunnel_row {
  struct store_tunnel row;
  UT_hash_handle hh; /* by id, in the order they were put */
};
struct audit_node {
  struct audit_row row;
  struct audit_node *next;
};

/* Told of each change, as the row's new image, before it is made. An error stops the operation. */
enum change { CHANGE_NAME, CHANGE_NAME_GONE, CHANGE_TUNNEL, CHANGE_TUNNEL_GONE, CHANGE_AUDIT };
typedef int (*tables_note)(void *user, enum change what, const void *row);

struct tables {
  struct name_row *names;
  struct tunnel_row *tunnels;
  struct audit_node *audits, **audits_end; /* the newest AUDITS_KEPT; none when keep_audits is false */
  size_t audits_n;
  bool keep_audits;
  uint64_t seq;               /* of the last audit row */
  uint8_t last[HASH_BYTES];   /* its hash */
  uint8_t before[HASH_BYTES]; /* the hash before the oldest row kept */
  tables_note note;           /* may be NULL */
  void *user;
};
enum { AUDITS_KEPT = 10000 };

void tables_init(struct tables *t, bool keep_audits, tables_note note, void *user);
void tables_free(struct tables *t); /* can be used again after tables_init */
/* As driver_ops.run. Every operation but OP_AUDIT_VERIFY without keep_audits. */
int tables_run(struct tables *t, struct store_op *op);

/* A row from a journal: put in place without a note. NOMEM; STORE: an audit row out of order. */
int tables_apply(struct tables *t, enum change what, const void *row);

#endif
