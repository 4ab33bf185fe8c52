/* sqlite.h: what the two halves of the SQLite driver share: the connection with its statements. */
#ifndef STORE_SQLITE_H
#define STORE_SQLITE_H

#include <sqlite3.h>

#include "store/op.h"

/* Statements, prepared once. */
enum sql {
  SQL_BEGIN_READ,
  SQL_BEGIN_WRITE,
  SQL_COMMIT,
  SQL_ROLLBACK,
  SQL_NAME_OWNER,
  SQL_NAME_COUNT,
  SQL_NAME_TOTAL,
  SQL_NAME_SAME_PORT,
  SQL_NAME_OLDEST,
  SQL_NAME_INSERT,
  SQL_NAME_USE,
  SQL_NAME_DELETE,
  SQL_NAME_LIST,
  SQL_NAME_TOUCH,
  SQL_NAME_TOUCH_OPEN,
  SQL_NAME_FORGET,
  SQL_TUNNEL_PUT,
  SQL_TUNNEL_GET_STATUS,
  SQL_TUNNEL_SET_STATUS,
  SQL_TUNNEL_LIST,
  SQL_TUNNEL_RESET,
  SQL_TUNNEL_FORGET,
  SQL_TUNNEL_OTHERS,
  SQL_AUDIT_INSERT,
  SQL_AUDIT_ALL,
  SQL_AUDIT_FRONT,
  SQL_AUDIT_CUT,
  SQL_META_GET,
  SQL_META_SET,
  SQL_COUNT
};

struct sqlite {
  struct driver d;
  sqlite3 *db;
  char *path;
  sqlite3_stmt *st[SQL_COUNT];
};

/* STORE (or NOMEM) with text, from the connection's last error. */
int sql_error(struct sqlite *s, struct beam_error *e);
sqlite3_stmt *sql_use(struct sqlite *s, enum sql which); /* ready to bind */
int sql_once(sqlite3_stmt *st);                          /* run one that gives no rows: 0 or SQLite's code */
/* As driver_ops.run. */
int sql_run(struct driver *d, struct store_op *op);

#endif
