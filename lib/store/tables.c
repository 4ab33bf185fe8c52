#include "store/tables.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/limits.h"
#include "base/str.h"

void tables_init(struct tables *t, bool keep_audits, tables_note note, void *user) {
  *t = (struct tables){.keep_audits = keep_audits, .note = note, .user = user};
  t->audits_end = &t->audits;
}

static void free_audit(struct tables *t) {
  struct audit_node *a = t->audits;
  t->before.seq = a->row.seq;
  memcpy(t->before.hash, a->row.hash, HASH_BYTES);
  t->audits = a->next;
  if (!t->audits)
    t->audits_end = &t->audits;
  t->audits_n--;
  free(a);
}

/* --- single rows --- */

static struct name_row *find_name(struct tables *t, const char *name) {
  struct name_row *n;
  HASH_FIND_STR(t->names, name, n);
  return n;
}

static struct tunnel_row *find_tunnel(struct tables *t, const char *id) {
  struct tunnel_row *u;
  HASH_FIND_STR(t->tunnels, id, u);
  return u;
}

static struct owner_row *find_owner(const struct tables *t, const char *owner) {
  struct owner_row *o;
  HASH_FIND_STR(t->owners, owner, o);
  return o;
}

static struct owner_row *make_owner(struct tables *t, const char *owner) {
  struct owner_row *o = find_owner(t, owner);
  if (o || !(o = calloc(1, sizeof *o)))
    return o;
  str_copy(o->owner, sizeof o->owner, owner);
  HASH_ADD_STR(t->owners, owner, o);
  if (o->hh.tbl)
    return o;
  free(o);
  return NULL;
}

static void drop_owner_if_empty(struct tables *t, struct owner_row *o) {
  if (o->n)
    return;
  HASH_DEL(t->owners, o);
  free(o);
}

static void drop_name(struct tables *t, struct name_row *n) {
  struct owner_row *o = n->owner;
  DL_DELETE(o->names, n);
  o->n--;
  drop_owner_if_empty(t, o);
  HASH_DEL(t->names, n);
  free(n);
}

static int add_name(struct tables *t, const struct store_name *row) {
  struct name_row *n = calloc(1, sizeof *n);
  struct owner_row *o = n ? make_owner(t, row->owner) : NULL;
  if (!o) {
    free(n);
    return BEAM_ERR_NOMEM;
  }
  n->row = *row;
  HASH_ADD_STR(t->names, row.name, n);
  if (!n->hh.tbl) {
    drop_owner_if_empty(t, o);
    free(n);
    return BEAM_ERR_NOMEM;
  }
  n->owner = o;
  DL_APPEND(o->names, n);
  o->n++;
  return 0;
}

static int put_name(struct tables *t, const struct store_name *row) {
  struct name_row *n = find_name(t, row->name);
  if (n && strcmp(n->row.owner, row->owner)) { /* only a journal that lost a record says so */
    drop_name(t, n);
    n = NULL;
  }
  if (!n)
    return add_name(t, row);
  n->row = *row;
  return 0;
}

static struct served_row *find_served(const struct tables *t, const char *name) {
  struct served_row *v;
  HASH_FIND_STR(t->served, name, v);
  return v;
}

static struct served_row *make_served(struct tables *t, const char *name) {
  struct served_row *v = find_served(t, name);
  if (v || !(v = calloc(1, sizeof *v)))
    return v;
  str_copy(v->name, sizeof v->name, name);
  HASH_ADD_STR(t->served, name, v);
  if (v->hh.tbl)
    return v;
  free(v);
  return NULL;
}

static void drop_served_if_empty(struct tables *t, struct served_row *v) {
  if (v->tunnels)
    return;
  HASH_DEL(t->served, v);
  free(v);
}

static void drop_tunnel(struct tables *t, struct tunnel_row *u) {
  DL_DELETE(u->served->tunnels, u);
  drop_served_if_empty(t, u->served);
  HASH_DEL(t->tunnels, u);
  free(u);
}

static int add_tunnel(struct tables *t, const struct store_tunnel *row) {
  struct tunnel_row *u = calloc(1, sizeof *u);
  struct served_row *v = u ? make_served(t, row->name) : NULL;
  if (!v) {
    free(u);
    return BEAM_ERR_NOMEM;
  }
  u->row = *row;
  HASH_ADD_STR(t->tunnels, row.id, u);
  if (!u->hh.tbl) {
    drop_served_if_empty(t, v);
    free(u);
    return BEAM_ERR_NOMEM;
  }
  u->served = v;
  DL_APPEND(v->tunnels, u);
  return 0;
}

static int put_tunnel(struct tables *t, const struct store_tunnel *row) {
  struct tunnel_row *u = find_tunnel(t, row->id);
  if (!u)
    return add_tunnel(t, row);
  struct served_row *old = u->served, *v = make_served(t, row->name);
  if (!v)
    return BEAM_ERR_NOMEM;
  if (v != old) {
    DL_DELETE(old->tunnels, u);
    drop_served_if_empty(t, old);
    u->served = v;
    DL_APPEND(v->tunnels, u);
  }
  u->row = *row;
  return 0;
}

void tables_free(struct tables *t) {
  struct name_row *n, *n2;
  struct tunnel_row *u, *u2;
  HASH_ITER(hh, t->names, n, n2) {
    drop_name(t, n);
  }
  HASH_ITER(hh, t->tunnels, u, u2) {
    drop_tunnel(t, u);
  }
  while (t->audits)
    free_audit(t);
}

static int put_audit(struct tables *t, const struct audit_row *row) {
  if (row->seq != t->seq + 1 || !audit_hash_ok(row, t->last))
    return BEAM_ERR_STORE;
  if (t->keep_audits) {
    struct audit_node *a = malloc(sizeof *a);
    if (!a)
      return BEAM_ERR_NOMEM;
    *a = (struct audit_node){.row = *row};
    *t->audits_end = a;
    t->audits_end = &a->next;
    if (++t->audits_n > AUDITS_KEPT)
      free_audit(t);
  }
  t->seq = row->seq;
  memcpy(t->last, row->hash, sizeof t->last);
  return 0;
}

static void put_anchor(struct tables *t, const struct anchor *a) {
  while (t->audits && t->audits->row.seq <= a->seq)
    free_audit(t);
  t->before = *a;
  if (t->seq < a->seq) { /* a journal made smaller, with all its rows forgotten */
    t->seq = a->seq;
    memcpy(t->last, a->hash, HASH_BYTES);
  }
}

int tables_apply(struct tables *t, enum change what, const void *row) {
  struct name_row *n;
  struct tunnel_row *u;
  switch (what) {
  case CHANGE_NAME:
    return put_name(t, row);
  case CHANGE_NAME_GONE:
    if ((n = find_name(t, ((const struct store_name *)row)->name)))
      drop_name(t, n);
    return 0;
  case CHANGE_TUNNEL:
    return put_tunnel(t, row);
  case CHANGE_TUNNEL_GONE:
    if ((u = find_tunnel(t, ((const struct store_tunnel *)row)->id)))
      drop_tunnel(t, u);
    return 0;
  case CHANGE_AUDIT:
    return put_audit(t, row);
  case CHANGE_ANCHOR:
    put_anchor(t, row);
    return 0;
  case CHANGE_CLOCK:
    t->clock = *(const struct clock_seen *)row;
    return 0;
  }
  return BEAM_ERR_STORE;
}

/* Note, then make the change. A failure undoes the whole transaction. */
static int change(struct tables *t, struct store_op *op, enum change what, const void *row) {
  int err = t->note ? t->note(t->user, what, row) : 0;
  if (!err)
    err = tables_apply(t, what, row);
  return err ? op_fail(op, err, NULL, "no memory for the store's row") : 0;
}

/* --- names --- */

static bool under(const char *name, const char *base) {
  size_t n = strlen(name), b = strlen(base);
  return n > b && name[n - b - 1] == '.' && !strcmp(name + n - b, base);
}

/* With one label before the base: "8001.tcp.tunnel.test" is a name under tcp.tunnel.test, not under tunnel.test. */
static bool directly_under(const char *name, const char *base) {
  const char *dot = strchr(name, '.');
  return dot && dot != name && !strcmp(dot + 1, base);
}

static bool live(const struct tables *t, const char *name) {
  const struct served_row *v = find_served(t, name);
  for (const struct tunnel_row *u = v ? v->tunnels : NULL; u; u = u->next)
    if (u->row.status != STORE_CLOSED)
      return true;
  return false;
}

static int use_name(struct tables *t, struct store_op *op, struct name_row *n) {
  struct store_name row = n->row;
  row.used_at = op->now;
  row.port = op->in.claim.port;
  op_gives_name(op, row.name, false);
  return change(t, op, CHANGE_NAME, &row);
}

static int new_name(struct tables *t, struct store_op *op, const char *name) {
  if (op->in.claim.no_fresh || HASH_COUNT(t->names) >= store_names_total) {
    op->in.claim.no_fresh ? op_no_fresh(op) : op_full(op);
    return 0;
  }
  struct store_name row = {
      .drawn = !op->in.claim.wanted, .port = op->in.claim.port, .created_at = op->now, .used_at = op->now};
  str_copy(row.name, sizeof row.name, name);
  str_copy(row.owner, sizeof row.owner, op->in.claim.principal);
  op_gives_name(op, name, true);
  return change(t, op, CHANGE_NAME, &row);
}

/* The principal's drawn names under base: that of the port which was used last; or (oldest) the one that serves nothing and was unused longest. */
static struct name_row *own_name(const struct tables *t, const struct store_op *op, const struct owner_row *o,
                                 bool oldest) {
  struct name_row *found = NULL;
  for (struct name_row *n = o ? o->names : NULL; n; n = n->next) {
    if (!n->row.drawn || !directly_under(n->row.name, op->in.claim.base))
      continue;
    bool fits = oldest ? !live(t, n->row.name) : n->row.port == op->in.claim.port;
    bool better =
        !found || (oldest ? n->row.used_at < found->row.used_at : n->row.used_at > found->row.used_at);
    if (fits && better)
      found = n;
  }
  return found;
}

static int allocate_wanted(struct tables *t, struct store_op *op, const struct owner_row *o) {
  const char *want = op->in.claim.names[0];
  struct name_row *n = find_name(t, want);
  if (n && !strcmp(n->row.owner, op->in.claim.principal))
    return use_name(t, op, n);
  if (n) {
    op_taken(op, want, n->row.owner);
    return 0;
  }
  if (o && o->n >= LIMIT_NAMES_PER_PRINCIPAL) {
    op_too_many(op);
    return 0;
  }
  return new_name(t, op, want);
}

static int allocate(struct tables *t, struct store_op *op) {
  struct owner_row *o = find_owner(t, op->in.claim.principal);
  if (op->in.claim.wanted)
    return allocate_wanted(t, op, o);
  struct name_row *n = own_name(t, op, o, false);
  if (n)
    return use_name(t, op, n);
  if (o && o->n >= LIMIT_NAMES_PER_PRINCIPAL) {
    if ((n = own_name(t, op, o, true)))
      return use_name(t, op, n);
    op_too_many(op);
    return 0;
  }
  for (size_t i = 0; i < op->in.claim.n; i++)
    if (!find_name(t, op->in.claim.names[i]))
      return new_name(t, op, op->in.claim.names[i]);
  op_fail(op, BEAM_ERR_TAKEN, "try again", "every name that was drawn is taken");
  return 0;
}

static int release(struct tables *t, struct store_op *op) {
  struct name_row *n = find_name(t, op->in.release.name);
  if (!n) {
    op_no_name(op);
    return 0;
  }
  if (strcmp(n->row.owner, op->in.release.principal)) {
    op_not_yours(op);
    return 0;
  }
  struct store_name row = n->row;
  op->reply.n = 1;
  return change(t, op, CHANGE_NAME_GONE, &row);
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const struct store_name *)a)->name, ((const struct store_name *)b)->name);
}

static void list_names(struct tables *t, struct store_op *op) {
  for (struct name_row *n = t->names; n; n = n->hh.next) {
    if (*op->in.list.owner && strcmp(n->row.owner, op->in.list.owner))
      continue;
    struct store_name *row = op_add_name(op);
    if (!row)
      break;
    *row = n->row;
  }
  if (op->rows)
    qsort(op->names, op->rows, sizeof *op->names, by_name);
}

/* --- tunnels --- */

/* Binding and closing again and again must not fill the store: of a name the last closed tunnel stays. */
static int drop_others(struct tables *t, struct store_op *op, const char *id, const char *name) {
  struct served_row *v = find_served(t, name);
  int err = 0;
  for (struct tunnel_row *u = v ? v->tunnels : NULL, *next; u && !err; u = next) {
    next = u->next; /* while there is one, v stays */
    if (u->row.status == STORE_CLOSED && strcmp(u->row.id, id) != 0) {
      struct store_tunnel row = u->row;
      err = change(t, op, CHANGE_TUNNEL_GONE, &row);
    }
  }
  return err;
}

static int put_tunnel_row(struct tables *t, struct store_op *op) {
  const struct store_tunnel *row = &op->in.tunnel;
  op->reply.n = 1;
  int err = change(t, op, CHANGE_TUNNEL, row);
  return err ? err : drop_others(t, op, row->id, row->name);
}

/* The name of a tunnel that closes was in use till now. */
static int touch_name(struct tables *t, struct store_op *op, const struct store_tunnel *of) {
  struct name_row *n = find_name(t, of->name);
  if (!n || strcmp(n->row.owner, of->owner) || n->row.used_at >= op->now)
    return 0;
  struct store_name row = n->row;
  row.used_at = op->now;
  return change(t, op, CHANGE_NAME, &row);
}

static int set_status(struct tables *t, struct store_op *op) {
  struct tunnel_row *u = find_tunnel(t, op->in.change.id);
  if (!u) {
    op_no_tunnel(op);
    return 0;
  }
  if (!status_may_follow(u->row.status, op->in.change.status)) {
    op_bad_status(op, u->row.status);
    return 0;
  }
  struct store_tunnel row = u->row;
  row.status = op->in.change.status;
  op->reply.n = 1;
  int err = change(t, op, CHANGE_TUNNEL, &row);
  if (!err && row.status == STORE_CLOSED && !(err = touch_name(t, op, &row)))
    err = drop_others(t, op, row.id, row.name);
  return err;
}

static void list_tunnels(struct tables *t, struct store_op *op) {
  struct tunnel_row *last = t->tunnels ? ELMT_FROM_HH(t->tunnels->hh.tbl, t->tunnels->hh.tbl->tail) : NULL;
  for (struct tunnel_row *u = last; u; u = u->hh.prev) {
    if ((*op->in.list.owner && strcmp(u->row.owner, op->in.list.owner)) ||
        (op->in.list.live && u->row.status == STORE_CLOSED))
      continue;
    struct store_tunnel *row = op_add_tunnel(op);
    if (!row)
      break;
    *row = u->row;
  }
}

static bool tunnel_old(const struct store_op *op, const struct store_tunnel *row) {
  return row->status == STORE_CLOSED && row->created_at < days_before(op, STORE_KEEP_DAYS);
}

static int reset_tunnels(struct tables *t, struct store_op *op) {
  size_t closed = 0;
  struct tunnel_row *u, *next;
  HASH_ITER(hh, t->tunnels, u, next) {
    struct store_tunnel row = u->row;
    int err = 0;
    if (tunnel_old(op, &row)) {
      err = change(t, op, CHANGE_TUNNEL_GONE, &row);
    } else if (row.status != STORE_CLOSED && under(row.name, op->in.base)) {
      row.status = STORE_CLOSED;
      closed++;
      err = touch_name(t, op, &row);
      if (!err)
        err = change(t, op, CHANGE_TUNNEL, &row);
    }
    if (err)
      return err;
  }
  op->reply.n = closed;
  return 0;
}

/* --- audit --- */

static int append_audit(struct tables *t, struct store_op *op) {
  struct audit_row *row = &op->in.audit;
  row->seq = t->seq + 1;
  audit_hash(row, t->last);
  op->reply.seq = row->seq;
  return change(t, op, CHANGE_AUDIT, row);
}

static void verify_audit(struct tables *t, struct store_op *op) {
  const uint8_t *before = t->before.hash;
  for (struct audit_node *a = t->audits; a; a = a->next) {
    if (!audit_hash_ok(&a->row, before)) {
      op_bad_audit(op, a->row.seq);
      return;
    }
    before = a->row.hash;
    op->reply.n++;
  }
}

/* --- forgetting --- */

bool tables_audit_old(const struct tables *t, const struct store_op *op, uint64_t seq, int64_t at) {
  return at < days_before(op, LIMIT_AUDIT_DAYS) || t->seq - seq >= LIMIT_AUDIT_ROWS;
}

int tables_forget_audits(struct tables *t, struct store_op *op, const struct anchor *a) {
  if (a->seq <= t->before.seq)
    return 0;
  op->reply.n += a->seq - t->before.seq;
  return change(t, op, CHANGE_ANCHOR, a);
}

static int forget_names(struct tables *t, struct store_op *op) {
  int64_t drawn = days_before(op, LIMIT_NAME_DRAWN_DAYS), wanted = days_before(op, LIMIT_NAME_WANTED_DAYS);
  struct name_row *n, *next;
  HASH_ITER(hh, t->names, n, next) {
    if (op->reply.n >= FORGET_NAMES || n->row.used_at >= (n->row.drawn ? drawn : wanted) ||
        live(t, n->row.name))
      continue;
    struct store_name row = n->row;
    int err = change(t, op, CHANGE_NAME_GONE, &row);
    if (err)
      return err;
    op->reply.n++;
  }
  return 0;
}

static int forget_tunnels(struct tables *t, struct store_op *op) {
  struct tunnel_row *u, *next;
  HASH_ITER(hh, t->tunnels, u, next) {
    if (!tunnel_old(op, &u->row))
      continue;
    struct store_tunnel row = u->row;
    int err = change(t, op, CHANGE_TUNNEL_GONE, &row);
    if (err)
      return err;
    op->reply.n++;
  }
  return 0;
}

static int forget(struct tables *t, struct store_op *op) {
  struct clock_seen clock = t->clock;
  clock_note(&clock, op->now);
  int err = change(t, op, CHANGE_CLOCK, &clock);
  if (err || !clock_steady(&clock))
    return err;
  if ((err = forget_names(t, op)) || (err = forget_tunnels(t, op)))
    return err;
  struct anchor a = {0};
  for (struct audit_node *n = t->audits; n && tables_audit_old(t, op, n->row.seq, n->row.at); n = n->next) {
    a.seq = n->row.seq;
    memcpy(a.hash, n->row.hash, HASH_BYTES);
  }
  return tables_forget_audits(t, op, &a);
}

int tables_run(struct tables *t, struct store_op *op) {
  switch (op->kind) {
  case OP_ALLOCATE:
    return allocate(t, op);
  case OP_RELEASE:
    return release(t, op);
  case OP_NAMES:
    list_names(t, op);
    return 0;
  case OP_TUNNEL_PUT:
    return put_tunnel_row(t, op);
  case OP_TUNNEL_STATUS:
    return set_status(t, op);
  case OP_TUNNELS:
    list_tunnels(t, op);
    return 0;
  case OP_TUNNELS_RESET:
    return reset_tunnels(t, op);
  case OP_FORGET:
    return forget(t, op);
  case OP_AUDIT:
    return append_audit(t, op);
  case OP_AUDIT_VERIFY:
    verify_audit(t, op);
    return 0;
  }
  return op_fail(op, BEAM_ERR_INTERNAL, NULL, "unknown operation");
}
