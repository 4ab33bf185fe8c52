/* The SQLite driver: what a relay uses unless told otherwise. Several processes may share the file.
 *
 * WAL: readers never wait for a writer, and a killed process leaves nothing to repair by hand. synchronous=FULL: a name that was told to its
 * owner is not given to somebody else after the power came back; NORMAL could lose the last commits. One fsync serves a whole group of
 * operations, and nothing of this is on the way of the data. BEGIN IMMEDIATE: the write lock is taken before the first read, so that two
 * relays cannot both find a name free. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"
#include "store/op.h"

enum { SCHEMA = 1, BUSY_MS = 5000, CHECK_BYTES = 16 * 1024 * 1024 };

/* Statements, prepared once. */
enum sql {
  SQL_BEGIN_READ,
  SQL_BEGIN_WRITE,
  SQL_COMMIT,
  SQL_ROLLBACK,
  SQL_NAME_OWNER,
  SQL_NAME_COUNT,
  SQL_NAME_SAME_PORT,
  SQL_NAME_OLDEST,
  SQL_NAME_INSERT,
  SQL_NAME_USE,
  SQL_NAME_DELETE,
  SQL_NAME_LIST,
  SQL_TUNNEL_PUT,
  SQL_TUNNEL_GET_STATUS,
  SQL_TUNNEL_SET_STATUS,
  SQL_TUNNEL_LIST,
  SQL_TUNNEL_RESET,
  SQL_TUNNEL_FORGET,
  SQL_AUDIT_LAST,
  SQL_AUDIT_INSERT,
  SQL_AUDIT_ALL,
  SQL_COUNT
};

static const char *const text[SQL_COUNT] = {
    [SQL_BEGIN_READ] = "BEGIN",
    [SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_NAME_OWNER] = "SELECT owner FROM names WHERE name=?1",
    [SQL_NAME_COUNT] = "SELECT count(*) FROM names WHERE owner=?1",
    [SQL_NAME_SAME_PORT] =
        "SELECT name FROM names WHERE owner=?1 AND drawn=1 AND port=?2 AND substr(name,-length(?3))=?3 "
        "ORDER BY used_at DESC LIMIT 1",
    [SQL_NAME_OLDEST] =
        "SELECT name FROM names n WHERE owner=?1 AND drawn=1 AND substr(name,-length(?2))=?2 AND NOT EXISTS "
        "(SELECT 1 FROM tunnels t WHERE t.name=n.name AND t.status<2) ORDER BY used_at LIMIT 1",
    [SQL_NAME_INSERT] =
        "INSERT INTO names(name,owner,drawn,port,created_at,used_at) VALUES(?1,?2,?3,?4,?5,?5)",
    [SQL_NAME_USE] = "UPDATE names SET used_at=?2, port=?3 WHERE name=?1",
    [SQL_NAME_DELETE] = "DELETE FROM names WHERE name=?1",
    [SQL_NAME_LIST] = "SELECT name,owner,drawn,port,created_at,used_at FROM names WHERE ?1='' OR owner=?1 "
                      "ORDER BY name LIMIT ?2",
    [SQL_TUNNEL_PUT] =
        "INSERT INTO tunnels(id,owner,name,port,framework,created_at,status) VALUES(?1,?2,?3,?4,?5,?6,?7) "
        "ON CONFLICT(id) DO UPDATE SET owner=?2,name=?3,port=?4,framework=?5,created_at=?6,status=?7",
    [SQL_TUNNEL_GET_STATUS] = "SELECT status FROM tunnels WHERE id=?1",
    [SQL_TUNNEL_SET_STATUS] = "UPDATE tunnels SET status=?2 WHERE id=?1",
    [SQL_TUNNEL_LIST] =
        "SELECT id,owner,name,port,framework,created_at,status FROM tunnels WHERE (?1='' OR owner=?1) "
        "AND (?2=0 OR status<2) ORDER BY seq DESC LIMIT ?3",
    [SQL_TUNNEL_RESET] = "UPDATE tunnels SET status=2 WHERE status<2 AND substr(name,-length(?1))=?1",
    [SQL_TUNNEL_FORGET] = "DELETE FROM tunnels WHERE status=2 AND created_at<?1",
    [SQL_AUDIT_LAST] = "SELECT seq,hash FROM audit ORDER BY seq DESC LIMIT 1",
    [SQL_AUDIT_INSERT] =
        "INSERT INTO audit(seq,at,actor,action,subject,detail,hash) VALUES(?1,?2,?3,?4,?5,?6,?7)",
    [SQL_AUDIT_ALL] = "SELECT seq,at,actor,action,subject,detail,hash FROM audit ORDER BY seq",
};

static const char schema[] =
    "CREATE TABLE names(name TEXT PRIMARY KEY NOT NULL, owner TEXT NOT NULL, drawn INTEGER NOT NULL, port "
    "INTEGER NOT NULL,"
    " created_at INTEGER NOT NULL, used_at INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX names_owner ON names(owner, drawn, port);"
    "CREATE TABLE tunnels(seq INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, owner TEXT NOT NULL, name TEXT "
    "NOT NULL,"
    " port INTEGER NOT NULL, framework TEXT NOT NULL, created_at INTEGER NOT NULL, status INTEGER NOT NULL);"
    "CREATE INDEX tunnels_owner ON tunnels(owner);"
    "CREATE INDEX tunnels_live ON tunnels(name) WHERE status<2;"
    "CREATE TABLE audit(seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT "
    "NULL,"
    " subject TEXT NOT NULL, detail TEXT NOT NULL, hash BLOB NOT NULL);"
    "PRAGMA user_version=1;"; /* SCHEMA */

struct sqlite {
  struct driver d;
  sqlite3 *db;
  char *path;
  sqlite3_stmt *st[SQL_COUNT];
};

/* --- errors --- */

static int sql_error(struct sqlite *s, struct beam_error *e) {
  int code = sqlite3_errcode(s->db);
  const char *hint = NULL;
  switch (code & 0xff) {
  case SQLITE_NOMEM:
    return err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for the store");
  case SQLITE_FULL:
    hint = "make room on the disk; nothing that was stored is lost";
    break;
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    hint = "restore it from a backup; or move it away, and names will be given anew";
    break;
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
    hint = "another process keeps it locked: stop that one, or give this one another data directory";
    break;
  case SQLITE_READONLY:
  case SQLITE_CANTOPEN:
  case SQLITE_PERM:
  case SQLITE_AUTH:
    hint = "check owner and mode of the file and of its directory";
    break;
  default:
    break;
  }
  int why = sqlite3_system_errno(s->db);
  bool show = (code & 0xff) == SQLITE_IOERR && why;
  return err_set(e, BEAM_ERR_STORE, hint, "the store %s: %s%s%s", s->path, sqlite3_errmsg(s->db),
                 show ? ": " : "", show ? strerror(why) : "");
}

static int op_sql_error(struct sqlite *s, struct store_op *op) {
  return op->err = sql_error(s, &op->error);
}

/* --- statements --- */

static sqlite3_stmt *use(struct sqlite *s, enum sql which) {
  sqlite3_stmt *st = s->st[which];
  sqlite3_reset(st);
  sqlite3_clear_bindings(st);
  return st;
}

/* For one that gives no rows. Returns 0 or SQLite's code. */
static int step_once(sqlite3_stmt *st) {
  int code = sqlite3_step(st);
  sqlite3_reset(st);
  return code == SQLITE_DONE || code == SQLITE_ROW ? 0 : code;
}

static void bind_text(sqlite3_stmt *st, int i, const char *v) {
  sqlite3_bind_text(st, i, v, -1, SQLITE_STATIC);
}

static void column_text(sqlite3_stmt *st, int i, char *out, size_t cap) {
  str_copy(out, cap, (const char *)sqlite3_column_text(st, i));
}

/* The first column of the first row, as text. 1: found, 0: no row, negative: failed (op has the error). */
static int first_text(struct sqlite *s, struct store_op *op, sqlite3_stmt *st, char *out, size_t cap) {
  int code = sqlite3_step(st);
  if (code == SQLITE_ROW)
    column_text(st, 0, out, cap);
  sqlite3_reset(st);
  if (code == SQLITE_ROW)
    return 1;
  return code == SQLITE_DONE ? 0 : op_sql_error(s, op);
}

static int first_number(struct sqlite *s, struct store_op *op, sqlite3_stmt *st, int64_t *out) {
  int code = sqlite3_step(st);
  if (code == SQLITE_ROW)
    *out = sqlite3_column_int64(st, 0);
  sqlite3_reset(st);
  if (code == SQLITE_ROW)
    return 1;
  return code == SQLITE_DONE ? 0 : op_sql_error(s, op);
}

static int change(struct sqlite *s, struct store_op *op, sqlite3_stmt *st) {
  if (step_once(st))
    return op_sql_error(s, op);
  op->reply.n = (size_t)sqlite3_changes(s->db);
  return 0;
}

/* --- transactions --- */

static int simple(struct sqlite *s, enum sql which, struct beam_error *e) {
  return step_once(use(s, which)) ? sql_error(s, e) : 0;
}

static void rollback(struct driver *d) {
  struct sqlite *s = (struct sqlite *)d;
  for (int i = 0; i < SQL_COUNT; i++)
    sqlite3_reset(s->st[i]);          /* an open statement would keep its lock */
  if (!sqlite3_get_autocommit(s->db)) /* SQLite may have undone it already: disk full, ... */
    simple(s, SQL_ROLLBACK, NULL);
}

static int begin(struct driver *d, bool write, struct beam_error *e) {
  return simple((struct sqlite *)d, write ? SQL_BEGIN_WRITE : SQL_BEGIN_READ, e);
}

static int commit(struct driver *d, struct beam_error *e) {
  int err = simple((struct sqlite *)d, SQL_COMMIT, e);
  if (err)
    rollback(d);
  return err;
}

/* --- names --- */

static int name_owner(struct sqlite *s, struct store_op *op, const char *name, char owner[STORE_PRINCIPAL]) {
  sqlite3_stmt *st = use(s, SQL_NAME_OWNER);
  bind_text(st, 1, name);
  return first_text(s, op, st, owner, STORE_PRINCIPAL);
}

static int use_name(struct sqlite *s, struct store_op *op, const char *name) {
  op_gives_name(op, name, false);
  sqlite3_stmt *st = use(s, SQL_NAME_USE);
  bind_text(st, 1, op->name);
  sqlite3_bind_int64(st, 2, op->now);
  sqlite3_bind_int(st, 3, op->in.claim.port);
  return change(s, op, st);
}

static int new_name(struct sqlite *s, struct store_op *op, const char *name) {
  op_gives_name(op, name, true);
  sqlite3_stmt *st = use(s, SQL_NAME_INSERT);
  bind_text(st, 1, op->name);
  bind_text(st, 2, op->in.claim.principal);
  sqlite3_bind_int(st, 3, !op->in.claim.wanted);
  sqlite3_bind_int(st, 4, op->in.claim.port);
  sqlite3_bind_int64(st, 5, op->now);
  return change(s, op, st);
}

/* 1: the principal has as many names as it may, 0: not, negative: failed. */
static int at_limit(struct sqlite *s, struct store_op *op) {
  int64_t n = 0;
  sqlite3_stmt *st = use(s, SQL_NAME_COUNT);
  bind_text(st, 1, op->in.claim.principal);
  int got = first_number(s, op, st, &n);
  return got < 0 ? got : n >= LIMIT_NAMES_PER_PRINCIPAL;
}

static int allocate_wanted(struct sqlite *s, struct store_op *op) {
  const char *want = op->in.claim.names[0];
  char owner[STORE_PRINCIPAL];
  int got = name_owner(s, op, want, owner);
  if (got < 0)
    return got;
  if (got && !strcmp(owner, op->in.claim.principal))
    return use_name(s, op, want);
  if (got) {
    op_taken(op, want, owner);
    return 0;
  }
  if ((got = at_limit(s, op)) < 0)
    return got;
  if (got) {
    op_too_many(op);
    return 0;
  }
  return new_name(s, op, want);
}

/* The principal's drawn name of this port, or (oldest) the one it has used longest ago. */
static int own_name(struct sqlite *s, struct store_op *op, bool oldest, char name[STORE_NAME]) {
  char suffix[STORE_NAME + 1];
  str_fmt(suffix, sizeof suffix, ".%s", op->in.claim.base);
  sqlite3_stmt *st = use(s, oldest ? SQL_NAME_OLDEST : SQL_NAME_SAME_PORT);
  bind_text(st, 1, op->in.claim.principal);
  if (!oldest)
    sqlite3_bind_int(st, 2, op->in.claim.port);
  bind_text(st, oldest ? 2 : 3, suffix);
  return first_text(s, op, st, name, STORE_NAME);
}

static int allocate_any(struct sqlite *s, struct store_op *op) {
  char name[STORE_NAME], owner[STORE_PRINCIPAL];
  int got = own_name(s, op, false, name);
  if (got)
    return got < 0 ? got : use_name(s, op, name);
  if ((got = at_limit(s, op)) < 0)
    return got;
  if (got) {
    if ((got = own_name(s, op, true, name)))
      return got < 0 ? got : use_name(s, op, name);
    op_too_many(op);
    return 0;
  }
  for (size_t i = 0; i < op->in.claim.n; i++) {
    got = name_owner(s, op, op->in.claim.names[i], owner);
    if (got <= 0)
      return got ? got : new_name(s, op, op->in.claim.names[i]);
  }
  op_fail(op, BEAM_ERR_TAKEN, "try again", "every name that was drawn is taken");
  return 0;
}

static int release(struct sqlite *s, struct store_op *op) {
  char owner[STORE_PRINCIPAL];
  int got = name_owner(s, op, op->in.release.name, owner);
  if (got < 0)
    return got;
  if (!got) {
    op_no_name(op);
    return 0;
  }
  if (strcmp(owner, op->in.release.principal)) {
    op_not_yours(op);
    return 0;
  }
  sqlite3_stmt *st = use(s, SQL_NAME_DELETE);
  bind_text(st, 1, op->in.release.name);
  return change(s, op, st);
}

static int list_names(struct sqlite *s, struct store_op *op) {
  sqlite3_stmt *st = use(s, SQL_NAME_LIST);
  bind_text(st, 1, op->in.list.owner);
  sqlite3_bind_int(st, 2, STORE_ROWS_MAX);
  int code;
  while ((code = sqlite3_step(st)) == SQLITE_ROW) {
    struct store_name *row = op_add_name(op);
    if (!row)
      return op_fail(op, BEAM_ERR_NOMEM, NULL, "no memory for the list");
    column_text(st, 0, row->name, sizeof row->name);
    column_text(st, 1, row->owner, sizeof row->owner);
    row->drawn = sqlite3_column_int(st, 2) != 0;
    row->port = (uint16_t)sqlite3_column_int(st, 3);
    row->created_at = sqlite3_column_int64(st, 4);
    row->used_at = sqlite3_column_int64(st, 5);
  }
  sqlite3_reset(st);
  return code == SQLITE_DONE ? 0 : op_sql_error(s, op);
}

/* --- tunnels --- */

static int put_tunnel(struct sqlite *s, struct store_op *op) {
  const struct store_tunnel *t = &op->in.tunnel;
  sqlite3_stmt *st = use(s, SQL_TUNNEL_PUT);
  bind_text(st, 1, t->id);
  bind_text(st, 2, t->owner);
  bind_text(st, 3, t->name);
  sqlite3_bind_int(st, 4, t->port);
  bind_text(st, 5, t->framework);
  sqlite3_bind_int64(st, 6, t->created_at);
  sqlite3_bind_int(st, 7, t->status);
  return change(s, op, st);
}

static int set_status(struct sqlite *s, struct store_op *op) {
  int64_t now = 0;
  sqlite3_stmt *st = use(s, SQL_TUNNEL_GET_STATUS);
  bind_text(st, 1, op->in.change.id);
  int got = first_number(s, op, st, &now);
  if (got < 0)
    return got;
  if (!got) {
    op_no_tunnel(op);
    return 0;
  }
  if (!status_may_follow((enum store_status)now, op->in.change.status)) {
    op_bad_status(op, (enum store_status)now);
    return 0;
  }
  st = use(s, SQL_TUNNEL_SET_STATUS);
  bind_text(st, 1, op->in.change.id);
  sqlite3_bind_int(st, 2, op->in.change.status);
  return change(s, op, st);
}

static int list_tunnels(struct sqlite *s, struct store_op *op) {
  sqlite3_stmt *st = use(s, SQL_TUNNEL_LIST);
  bind_text(st, 1, op->in.list.owner);
  sqlite3_bind_int(st, 2, op->in.list.live);
  sqlite3_bind_int(st, 3, STORE_ROWS_MAX);
  int code;
  while ((code = sqlite3_step(st)) == SQLITE_ROW) {
    struct store_tunnel *row = op_add_tunnel(op);
    if (!row)
      return op_fail(op, BEAM_ERR_NOMEM, NULL, "no memory for the list");
    column_text(st, 0, row->id, sizeof row->id);
    column_text(st, 1, row->owner, sizeof row->owner);
    column_text(st, 2, row->name, sizeof row->name);
    row->port = (uint16_t)sqlite3_column_int(st, 3);
    column_text(st, 4, row->framework, sizeof row->framework);
    row->created_at = sqlite3_column_int64(st, 5);
    row->status = (enum store_status)sqlite3_column_int(st, 6);
  }
  sqlite3_reset(st);
  return code == SQLITE_DONE ? 0 : op_sql_error(s, op);
}

static int reset_tunnels(struct sqlite *s, struct store_op *op) {
  char suffix[STORE_NAME + 1];
  str_fmt(suffix, sizeof suffix, ".%s", op->in.base);
  sqlite3_stmt *st = use(s, SQL_TUNNEL_FORGET);
  sqlite3_bind_int64(st, 1, op->now - (int64_t)STORE_KEEP_DAYS * 86400);
  int err = change(s, op, st);
  if (err)
    return err;
  st = use(s, SQL_TUNNEL_RESET);
  bind_text(st, 1, suffix);
  return change(s, op, st);
}

/* --- audit --- */

static int append_audit(struct sqlite *s, struct store_op *op) {
  struct audit_row *row = &op->in.audit;
  uint8_t before[HASH_BYTES] = {0};
  row->seq = 1;
  sqlite3_stmt *st = use(s, SQL_AUDIT_LAST);
  int code = sqlite3_step(st);
  if (code == SQLITE_ROW) {
    row->seq = (uint64_t)sqlite3_column_int64(st, 0) + 1;
    const void *hash = sqlite3_column_blob(st, 1);
    if (hash && sqlite3_column_bytes(st, 1) == HASH_BYTES)
      memcpy(before, hash, HASH_BYTES);
  }
  sqlite3_reset(st);
  if (code != SQLITE_ROW && code != SQLITE_DONE)
    return op_sql_error(s, op);
  audit_hash(row, before);
  st = use(s, SQL_AUDIT_INSERT);
  sqlite3_bind_int64(st, 1, (int64_t)row->seq);
  sqlite3_bind_int64(st, 2, row->at);
  bind_text(st, 3, row->actor);
  bind_text(st, 4, row->action);
  bind_text(st, 5, row->subject);
  bind_text(st, 6, row->detail);
  sqlite3_bind_blob(st, 7, row->hash, HASH_BYTES, SQLITE_STATIC);
  op->reply.seq = row->seq;
  return change(s, op, st);
}

static void read_audit(sqlite3_stmt *st, struct audit_row *row) {
  memset(row, 0, sizeof *row);
  row->seq = (uint64_t)sqlite3_column_int64(st, 0);
  row->at = sqlite3_column_int64(st, 1);
  column_text(st, 2, row->actor, sizeof row->actor);
  column_text(st, 3, row->action, sizeof row->action);
  column_text(st, 4, row->subject, sizeof row->subject);
  column_text(st, 5, row->detail, sizeof row->detail);
  const void *hash = sqlite3_column_blob(st, 6);
  if (hash && sqlite3_column_bytes(st, 6) == HASH_BYTES)
    memcpy(row->hash, hash, HASH_BYTES);
}

static int verify_audit(struct sqlite *s, struct store_op *op) {
  struct audit_row row;
  uint8_t before[HASH_BYTES] = {0};
  int code;
  sqlite3_stmt *st = use(s, SQL_AUDIT_ALL);
  while ((code = sqlite3_step(st)) == SQLITE_ROW) {
    read_audit(st, &row);
    if (row.seq != op->reply.n + 1 || !audit_hash_ok(&row, before)) {
      op_bad_audit(op, row.seq);
      code = SQLITE_DONE;
      break;
    }
    memcpy(before, row.hash, HASH_BYTES);
    op->reply.n++;
  }
  sqlite3_reset(st);
  return code == SQLITE_DONE ? 0 : op_sql_error(s, op);
}

static int run(struct driver *d, struct store_op *op) {
  struct sqlite *s = (struct sqlite *)d;
  switch (op->kind) {
  case OP_ALLOCATE:
    return op->in.claim.wanted ? allocate_wanted(s, op) : allocate_any(s, op);
  case OP_RELEASE:
    return release(s, op);
  case OP_NAMES:
    return list_names(s, op);
  case OP_TUNNEL_PUT:
    return put_tunnel(s, op);
  case OP_TUNNEL_STATUS:
    return set_status(s, op);
  case OP_TUNNELS:
    return list_tunnels(s, op);
  case OP_TUNNELS_RESET:
    return reset_tunnels(s, op);
  case OP_AUDIT:
    return append_audit(s, op);
  case OP_AUDIT_VERIFY:
    return verify_audit(s, op);
  }
  return op_fail(op, BEAM_ERR_INTERNAL, NULL, "unknown operation");
}

/* --- opening --- */

static void finish(struct driver *d) {
  struct sqlite *s = (struct sqlite *)d;
  for (int i = 0; i < SQL_COUNT; i++)
    sqlite3_finalize(s->st[i]);
  sqlite3_close(s->db);
  free(s->path);
  free(s);
}

static const struct driver_ops ops = {begin, commit, rollback, run, finish};

/* SQLite makes files with the umask's mode; this one is secret from the start, and its -wal and -shm take its mode. */
static int make_private(struct sqlite *s, off_t *size, struct beam_error *e) {
  int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  struct stat st;
  if (fd < 0 || fstat(fd, &st)) {
    int why = errno;
    if (fd >= 0)
      close(fd);
    int err = why == EACCES || why == EPERM || why == EROFS ? BEAM_ERR_PERMISSION : BEAM_ERR_STORE;
    return err_set(e, err, NULL, "cannot open the store %s: %s", s->path, strerror(why));
  }
  *size = st.st_size;
  close(fd);
  return 0;
}

static int pragma_number(struct sqlite *s, const char *sql, int64_t *out, struct beam_error *e) {
  sqlite3_stmt *st = NULL;
  if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK)
    return sql_error(s, e);
  int code = sqlite3_step(st);
  if (code == SQLITE_ROW)
    *out = sqlite3_column_int64(st, 0);
  int err = code == SQLITE_ROW ? 0 : sql_error(s, e);
  sqlite3_finalize(st);
  return err;
}

/* Small files are looked through at opening: damage is better told at the start than at somebody's next name. */
static int look_through(struct sqlite *s, off_t size, struct beam_error *e) {
  if (size == 0 || size > CHECK_BYTES)
    return 0;
  sqlite3_stmt *st = NULL;
  if (sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &st, NULL) != SQLITE_OK)
    return sql_error(s, e);
  int code = sqlite3_step(st), err = 0;
  const char *says = code == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : NULL;
  if (code != SQLITE_ROW)
    err = sql_error(s, e);
  else if (!says || strcmp(says, "ok"))
    err =
        err_set(e, BEAM_ERR_STORE, "restore it from a backup; or move it away, and names will be given anew",
                "the store %s is damaged: %s", s->path, says ? says : "unreadable");
  sqlite3_finalize(st);
  return err;
}

static int exec(struct sqlite *s, const char *sql, struct beam_error *e) {
  return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sql_error(s, e);
}

/* Make the tables in a new file, once however many processes open it now. */
static int make_schema(struct sqlite *s, struct beam_error *e) {
  int64_t version = 0;
  int err = exec(s, "BEGIN IMMEDIATE", e);
  if (err)
    return err;
  err = pragma_number(s, "PRAGMA user_version", &version, e);
  if (!err && version == 0)
    err = exec(s, schema, e);
  if (!err && version > SCHEMA)
    err = err_set(e, BEAM_ERR_STORE, "update Beam, or give it another data directory",
                  "the store %s was made by a newer Beam", s->path);
  if (!err)
    err = exec(s, "COMMIT", e);
  if (err && !sqlite3_get_autocommit(s->db))
    sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
  return err;
}

static int prepare(struct sqlite *s, struct beam_error *e) {
  for (int i = 0; i < SQL_COUNT; i++)
    if (sqlite3_prepare_v3(s->db, text[i], -1, SQLITE_PREPARE_PERSISTENT, &s->st[i], NULL) != SQLITE_OK)
      return sql_error(s, e);
  return 0;
}

static int open_db(struct sqlite *s, struct beam_error *e) {
  off_t size = 0;
  int err = make_private(s, &size, e);
  if (err)
    return err;
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX; /* one thread at a time: the store's */
  if (sqlite3_open_v2(s->path, &s->db, flags, NULL) != SQLITE_OK)
    return s->db ? sql_error(s, e) : err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for the store");
  sqlite3_extended_result_codes(s->db, 1);
  sqlite3_busy_timeout(s->db, BUSY_MS);
  if (!(err = look_through(s, size, e)))
    err = exec(s, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF", e);
  if (!err)
    err = make_schema(s, e);
  return err ? err : prepare(s, e);
}

int store_open_sqlite(const char *path, struct store **out, struct beam_error *e) {
  *out = NULL;
  struct sqlite *s = calloc(1, sizeof *s);
  if (!s || !(s->path = str_dup(path))) {
    free(s);
    return err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for the store");
  }
  s->d.ops = &ops;
  int err = open_db(s, e);
  if (err) {
    finish(&s->d);
    return err;
  }
  return store_start(&s->d, true, out, e);
}
