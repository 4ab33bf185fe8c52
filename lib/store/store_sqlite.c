/* The SQLite driver: what a relay uses unless told otherwise. Several processes may share the file.
 *
 * WAL: readers never wait for a writer, and a killed process leaves nothing to repair by hand. synchronous=FULL: a name that was told to its
 * owner is not given to somebody else after the power came back; NORMAL could lose the last commits. One fsync serves a whole group of
 * operations, and nothing of this is on the way of the data. BEGIN IMMEDIATE: the write lock is taken before the first read, so that two
 * relays cannot both find a name free. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/str.h"
#include "store/sqlite.h"

enum { SCHEMA = 2, BUSY_MS = 5000, CHECK_BYTES = 16 * 1024 * 1024 };

static const char *const text[SQL_COUNT] = {
    [SQL_BEGIN_READ] = "BEGIN",
    [SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_NAME_OWNER] = "SELECT owner FROM names WHERE name=?1",
    [SQL_NAME_COUNT] = "SELECT count(*) FROM names WHERE owner=?1",
    [SQL_NAME_TOTAL] = "SELECT n FROM meta WHERE key='names'",
    /* Directly under the base ?2: one label before it. */
    [SQL_NAME_SAME_PORT] =
        "SELECT name FROM names WHERE owner=?1 AND drawn=1 AND port=?3 AND substr(name,instr(name,'.')+1)=?2 "
        "ORDER BY used_at DESC LIMIT 1",
    [SQL_NAME_OLDEST] =
        "SELECT name FROM names n WHERE owner=?1 AND drawn=1 AND substr(name,instr(name,'.')+1)=?2 AND NOT "
        "EXISTS "
        "(SELECT 1 FROM tunnels t WHERE t.name=n.name AND t.status<2) ORDER BY used_at LIMIT 1",
    [SQL_NAME_INSERT] =
        "INSERT INTO names(name,owner,drawn,port,created_at,used_at) VALUES(?1,?2,?3,?4,?5,?5)",
    [SQL_NAME_USE] = "UPDATE names SET used_at=?2, port=?3 WHERE name=?1",
    [SQL_NAME_DELETE] = "DELETE FROM names WHERE name=?1",
    [SQL_NAME_LIST] = "SELECT name,owner,drawn,port,created_at,used_at FROM names WHERE ?1='' OR owner=?1 "
                      "ORDER BY name LIMIT ?2",
    /* In use till now: the name of a tunnel (?1) that closes; those of all that are open under the base ?1. */
    [SQL_NAME_TOUCH] = "UPDATE names SET used_at=max(used_at,?2) WHERE (name,owner)=(SELECT name,owner FROM "
                       "tunnels WHERE id=?1)",
    [SQL_NAME_TOUCH_OPEN] = "UPDATE names SET used_at=max(used_at,?2) WHERE (name,owner) IN (SELECT "
                            "name,owner FROM tunnels WHERE status<2 AND substr(name,-length(?1))=?1)",
    [SQL_NAME_FORGET] =
        "DELETE FROM names WHERE name IN (SELECT name FROM names n WHERE used_at<?1 AND (drawn=1 OR "
        "used_at<?2) AND NOT EXISTS (SELECT 1 FROM tunnels t WHERE t.name=n.name AND t.status<2) LIMIT ?3)",
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
    [SQL_TUNNEL_OTHERS] =
        "DELETE FROM tunnels WHERE status=2 AND id<>?1 AND name=(SELECT name FROM tunnels WHERE id=?1)",
    [SQL_AUDIT_INSERT] =
        "INSERT INTO audit(seq,at,actor,action,subject,detail,hash) VALUES(?1,?2,?3,?4,?5,?6,?7)",
    [SQL_AUDIT_ALL] = "SELECT seq,at,actor,action,subject,detail,hash FROM audit ORDER BY seq",
    [SQL_AUDIT_FRONT] = "SELECT seq,at,hash FROM audit ORDER BY seq LIMIT ?1",
    [SQL_AUDIT_CUT] = "DELETE FROM audit WHERE seq<=?1",
    [SQL_META_GET] = "SELECT n,at,hash FROM meta WHERE key=?1",
    [SQL_META_SET] = "UPDATE meta SET n=?2,at=?3,hash=?4 WHERE key=?1",
};

static const char schema1[] =
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
    "PRAGMA user_version=1;";

/* How many names there are (counting a million takes too long for each claim); the last audit row that was forgotten, and the newest of all: rows cut off at
 * the end are missed; how the clock went. */
static const char schema2[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL DEFAULT 0, "
    "hash BLOB) WITHOUT ROWID;"
    "INSERT INTO meta(key,n) SELECT 'names',count(*) FROM names;"
    "INSERT INTO meta(key,n,hash) VALUES('audit-first',0,zeroblob(32)),('audit-last',0,zeroblob(32)),"
    "('clock',0,NULL);"
    "REPLACE INTO meta(key,n,hash) SELECT 'audit-last',seq,hash FROM audit WHERE seq=(SELECT max(seq) FROM "
    "audit);"
    "CREATE TRIGGER names_more AFTER INSERT ON names BEGIN UPDATE meta SET n=n+1 WHERE key='names'; END;"
    "CREATE TRIGGER names_less AFTER DELETE ON names BEGIN UPDATE meta SET n=n-1 WHERE key='names'; END;"
    "CREATE INDEX names_used ON names(used_at);"
    "CREATE INDEX tunnels_closed ON tunnels(name) WHERE status=2;"
    "PRAGMA user_version=2;"; /* SCHEMA */

/* --- errors --- */

int sql_error(struct sqlite *s, struct beam_error *e) {
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

/* --- statements --- */

sqlite3_stmt *sql_use(struct sqlite *s, enum sql which) {
  sqlite3_stmt *st = s->st[which];
  sqlite3_reset(st);
  sqlite3_clear_bindings(st);
  return st;
}

int sql_once(sqlite3_stmt *st) {
  int code = sqlite3_step(st);
  sqlite3_reset(st);
  return code == SQLITE_DONE || code == SQLITE_ROW ? 0 : code;
}

/* --- transactions --- */

static int simple(struct sqlite *s, enum sql which, struct beam_error *e) {
  return sql_once(sql_use(s, which)) ? sql_error(s, e) : 0;
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

/* --- opening --- */

static void finish(struct driver *d) {
  struct sqlite *s = (struct sqlite *)d;
  for (int i = 0; i < SQL_COUNT; i++)
    sqlite3_finalize(s->st[i]);
  sqlite3_close(s->db);
  free(s->path);
  free(s);
}

static const struct driver_ops ops = {begin, commit, rollback, sql_run, finish};

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
    err = exec(s, schema1, e);
  if (!err && version < 2)
    err = exec(s, schema2, e);
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
