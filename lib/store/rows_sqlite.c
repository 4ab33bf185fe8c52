/* The SQLite driver's operations: each reads and writes rows inside the transaction that store_sqlite.c has begun. */
#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "store/sqlite.h"

static int op_sql_error(struct sqlite *s, struct store_op *op) {
  return op->err = sql_error(s, &op->error);
}

static void bind_text(sqlite3_stmt *st, int i, const char *v) {
  sqlite3_bind_text(st, i, v, -1, SQLITE_STATIC);
}

static void column_text(sqlite3_stmt *st, int i, char *out, size_t cap) {
  str_copy(out, cap, (const char *)sqlite3_column_text(st, i));
}

static void column_hash(sqlite3_stmt *st, int i, uint8_t out[HASH_BYTES]) {
  const void *hash = sqlite3_column_blob(st, i);
  if (hash && sqlite3_column_bytes(st, i) == HASH_BYTES)
    memcpy(out, hash, HASH_BYTES);
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
  if (sql_once(st))
    return op_sql_error(s, op);
  op->reply.n = (size_t)sqlite3_changes(s->db);
  return 0;
}

/* --- names --- */

static int name_owner(struct sqlite *s, struct store_op *op, const char *name, char owner[STORE_PRINCIPAL]) {
  sqlite3_stmt *st = sql_use(s, SQL_NAME_OWNER);
  bind_text(st, 1, name);
  return first_text(s, op, st, owner, STORE_PRINCIPAL);
}

static int use_name(struct sqlite *s, struct store_op *op, const char *name) {
  op_gives_name(op, name, false);
  sqlite3_stmt *st = sql_use(s, SQL_NAME_USE);
  bind_text(st, 1, op->name);
  sqlite3_bind_int64(st, 2, op->now);
  sqlite3_bind_int(st, 3, op->in.claim.port);
  return change(s, op, st);
}

static int new_name(struct sqlite *s, struct store_op *op, const char *name) {
  int64_t total = 0;
  int got = first_number(s, op, sql_use(s, SQL_NAME_TOTAL), &total);
  if (got < 0)
    return got;
  if (op->in.claim.no_fresh || total >= (int64_t)store_names_total) {
    op->in.claim.no_fresh ? op_no_fresh(op) : op_full(op);
    return 0;
  }
  op_gives_name(op, name, true);
  sqlite3_stmt *st = sql_use(s, SQL_NAME_INSERT);
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
  sqlite3_stmt *st = sql_use(s, SQL_NAME_COUNT);
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
  sqlite3_stmt *st = sql_use(s, oldest ? SQL_NAME_OLDEST : SQL_NAME_SAME_PORT);
  bind_text(st, 1, op->in.claim.principal);
  bind_text(st, 2, op->in.claim.base);
  if (!oldest)
    sqlite3_bind_int(st, 3, op->in.claim.port);
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
  sqlite3_stmt *st = sql_use(s, SQL_NAME_DELETE);
  bind_text(st, 1, op->in.release.name);
  return change(s, op, st);
}

static int list_names(struct sqlite *s, struct store_op *op) {
  sqlite3_stmt *st = sql_use(s, SQL_NAME_LIST);
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

/* Binding and closing again and again must not fill the disk: of a name the last closed tunnel stays. */
static int drop_others(struct sqlite *s, struct store_op *op, const char *id) {
  sqlite3_stmt *st = sql_use(s, SQL_TUNNEL_OTHERS);
  bind_text(st, 1, id);
  return sql_once(st) ? op_sql_error(s, op) : 0;
}

static int put_tunnel(struct sqlite *s, struct store_op *op) {
  const struct store_tunnel *t = &op->in.tunnel;
  sqlite3_stmt *st = sql_use(s, SQL_TUNNEL_PUT);
  bind_text(st, 1, t->id);
  bind_text(st, 2, t->owner);
  bind_text(st, 3, t->name);
  sqlite3_bind_int(st, 4, t->port);
  bind_text(st, 5, t->framework);
  sqlite3_bind_int64(st, 6, t->created_at);
  sqlite3_bind_int(st, 7, t->status);
  int err = change(s, op, st);
  return err ? err : drop_others(s, op, t->id);
}

static int set_status(struct sqlite *s, struct store_op *op) {
  int64_t now = 0;
  sqlite3_stmt *st = sql_use(s, SQL_TUNNEL_GET_STATUS);
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
  st = sql_use(s, SQL_TUNNEL_SET_STATUS);
  bind_text(st, 1, op->in.change.id);
  sqlite3_bind_int(st, 2, op->in.change.status);
  int err = change(s, op, st);
  if (err || op->in.change.status != STORE_CLOSED)
    return err;
  st = sql_use(s, SQL_NAME_TOUCH);
  bind_text(st, 1, op->in.change.id);
  sqlite3_bind_int64(st, 2, op->now);
  return sql_once(st) ? op_sql_error(s, op) : drop_others(s, op, op->in.change.id);
}

static int list_tunnels(struct sqlite *s, struct store_op *op) {
  sqlite3_stmt *st = sql_use(s, SQL_TUNNEL_LIST);
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
  sqlite3_stmt *st = sql_use(s, SQL_TUNNEL_FORGET);
  sqlite3_bind_int64(st, 1, days_before(op, STORE_KEEP_DAYS));
  if (sql_once(st))
    return op_sql_error(s, op);
  st = sql_use(s, SQL_NAME_TOUCH_OPEN);
  bind_text(st, 1, suffix);
  sqlite3_bind_int64(st, 2, op->now);
  if (sql_once(st))
    return op_sql_error(s, op);
  st = sql_use(s, SQL_TUNNEL_RESET);
  bind_text(st, 1, suffix);
  return change(s, op, st);
}

/* --- what there is one of --- */

struct meta {
  int64_t n, at;
  uint8_t hash[HASH_BYTES];
};

/* A row that somebody deleted reads as zeros: then the chain does not fit, and says so. */
static int meta_get(struct sqlite *s, struct store_op *op, const char *key, struct meta *m) {
  *m = (struct meta){0};
  sqlite3_stmt *st = sql_use(s, SQL_META_GET);
  bind_text(st, 1, key);
  int code = sqlite3_step(st);
  if (code == SQLITE_ROW) {
    m->n = sqlite3_column_int64(st, 0);
    m->at = sqlite3_column_int64(st, 1);
    column_hash(st, 2, m->hash);
  }
  sqlite3_reset(st);
  return code == SQLITE_ROW || code == SQLITE_DONE ? 0 : op_sql_error(s, op);
}

static int meta_set(struct sqlite *s, struct store_op *op, const char *key, const struct meta *m) {
  sqlite3_stmt *st = sql_use(s, SQL_META_SET);
  bind_text(st, 1, key);
  sqlite3_bind_int64(st, 2, m->n);
  sqlite3_bind_int64(st, 3, m->at);
  sqlite3_bind_blob(st, 4, m->hash, HASH_BYTES, SQLITE_STATIC);
  return sql_once(st) ? op_sql_error(s, op) : 0;
}

/* --- audit --- */

static int append_audit(struct sqlite *s, struct store_op *op) {
  struct audit_row *row = &op->in.audit;
  struct meta last;
  int err = meta_get(s, op, "audit-last", &last);
  if (err)
    return err;
  row->seq = (uint64_t)last.n + 1;
  audit_hash(row, last.hash);
  last.n++;
  memcpy(last.hash, row->hash, HASH_BYTES);
  if ((err = meta_set(s, op, "audit-last", &last)))
    return err;
  sqlite3_stmt *st = sql_use(s, SQL_AUDIT_INSERT);
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
  column_hash(st, 6, row->hash);
}

static int verify_audit(struct sqlite *s, struct store_op *op) {
  struct audit_row row;
  struct meta at, last; /* where we are, where the end must be */
  int err = meta_get(s, op, "audit-first", &at);
  if (err || (err = meta_get(s, op, "audit-last", &last)))
    return err;
  int code;
  sqlite3_stmt *st = sql_use(s, SQL_AUDIT_ALL);
  while ((code = sqlite3_step(st)) == SQLITE_ROW) {
    read_audit(st, &row);
    if (row.seq != (uint64_t)at.n + 1 || !audit_hash_ok(&row, at.hash)) {
      sqlite3_reset(st);
      op_bad_audit(op, row.seq);
      return 0;
    }
    memcpy(at.hash, row.hash, HASH_BYTES);
    at.n++;
    op->reply.n++;
  }
  sqlite3_reset(st);
  if (code != SQLITE_DONE)
    return op_sql_error(s, op);
  if (at.n != last.n || memcmp(at.hash, last.hash, HASH_BYTES))
    op_bad_audit(op, (uint64_t)at.n + 1);
  return 0;
}

/* --- forgetting --- */

/* The last row of the front that may go, and of it number and hash; n is 0 when none may. */
static int audit_front(struct sqlite *s, struct store_op *op, struct meta *cut) {
  struct meta last;
  *cut = (struct meta){0};
  int err = meta_get(s, op, "audit-last", &last);
  if (err)
    return err;
  int64_t old = days_before(op, LIMIT_AUDIT_DAYS);
  sqlite3_stmt *st = sql_use(s, SQL_AUDIT_FRONT);
  sqlite3_bind_int(st, 1, FORGET_AUDITS);
  int code;
  while ((code = sqlite3_step(st)) == SQLITE_ROW) {
    int64_t seq = sqlite3_column_int64(st, 0);
    if (sqlite3_column_int64(st, 1) >= old && last.n - seq < (int64_t)LIMIT_AUDIT_ROWS)
      break;
    cut->n = seq;
    column_hash(st, 2, cut->hash);
  }
  sqlite3_reset(st);
  return code == SQLITE_ROW || code == SQLITE_DONE ? 0 : op_sql_error(s, op);
}

static int forget_audits(struct sqlite *s, struct store_op *op) {
  struct meta cut;
  int err = audit_front(s, op, &cut);
  if (err || !cut.n)
    return err;
  sqlite3_stmt *st = sql_use(s, SQL_AUDIT_CUT);
  sqlite3_bind_int64(st, 1, cut.n);
  if ((err = sql_once(st) ? op_sql_error(s, op) : 0))
    return err;
  op->reply.n += (size_t)sqlite3_changes(s->db);
  return meta_set(s, op, "audit-first", &cut);
}

static int forget(struct sqlite *s, struct store_op *op) {
  struct meta m;
  int err = meta_get(s, op, "clock", &m);
  if (err)
    return err;
  struct clock_seen clock = {.since = m.at, .last = m.n};
  clock_note(&clock, op->now);
  m.at = clock.since;
  m.n = clock.last;
  if ((err = meta_set(s, op, "clock", &m)) || !clock_steady(&clock))
    return err;
  sqlite3_stmt *st = sql_use(s, SQL_NAME_FORGET);
  sqlite3_bind_int64(st, 1, days_before(op, LIMIT_NAME_DRAWN_DAYS));
  sqlite3_bind_int64(st, 2, days_before(op, LIMIT_NAME_WANTED_DAYS));
  sqlite3_bind_int(st, 3, FORGET_NAMES);
  if (sql_once(st))
    return op_sql_error(s, op);
  op->reply.n = (size_t)sqlite3_changes(s->db);
  st = sql_use(s, SQL_TUNNEL_FORGET);
  sqlite3_bind_int64(st, 1, days_before(op, STORE_KEEP_DAYS));
  if (sql_once(st))
    return op_sql_error(s, op);
  op->reply.n += (size_t)sqlite3_changes(s->db);
  return forget_audits(s, op);
}

int sql_run(struct driver *d, struct store_op *op) {
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
  case OP_FORGET:
    return forget(s, op);
  case OP_AUDIT:
    return append_audit(s, op);
  case OP_AUDIT_VERIFY:
    return verify_audit(s, op);
  }
  return op_fail(op, BEAM_ERR_INTERNAL, NULL, "unknown operation");
}
