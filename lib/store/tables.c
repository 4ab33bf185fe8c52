#include "store/tables.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"

void tables_init(struct tables *t, bool keep_audits, tables_note note, void *user) {
  *t = (struct tables){.keep_audits = keep_audits, .note = note, .user = user};
  t->audits_end = &t->audits;
}

static void free_audit(struct tables *t) {
  struct audit_node *a = t->audits;
  memcpy(t->before, a->row.hash, sizeof t->before);
  t->audits = a->next;
  if (!t->audits)
    t->audits_end = &t->audits;
  t->audits_n--;
  free(a);
}

void tables_free(struct tables *t) {
  struct name_row *n, *n2;
  struct tunnel_row *u, *u2;
  HASH_ITER(hh, t->names, n, n2) {
    HASH_DEL(t->names, n);
    free(n);
  }
  HASH_ITER(hh, t->tunnels, u, u2) {
    HASH_DEL(t->tunnels, u);
    free(u);
  }
  while (t->audits)
    free_audit(t);
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

static int put_name(struct tables *t, const struct store_name *row) {
  struct name_row *n = find_name(t, row->name);
  if (!n) {
    if (!(n = calloc(1, sizeof *n)))
      return BEAM_ERR_NOMEM;
    n->row = *row;
    HASH_ADD_STR(t->names, row.name, n);
    if (!n->hh.tbl) {
      free(n);
      return BEAM_ERR_NOMEM;
    }
  }
  n->row = *row;
  return 0;
}

static int put_tunnel(struct tables *t, const struct store_tunnel *row) {
  struct tunnel_row *u = find_tunnel(t, row->id);
  if (!u) {
    if (!(u = calloc(1, sizeof *u)))
      return BEAM_ERR_NOMEM;
    u->row = *row;
    HASH_ADD_STR(t->tunnels, row.id, u);
    if (!u->hh.tbl) {
      free(u);
      return BEAM_ERR_NOMEM;
    }
  }
  u->row = *row;
  return 0;
}

static void drop_name(struct tables *t, const char *name) {
  struct name_row *n = find_name(t, name);
  if (n) {
    HASH_DEL(t->names, n);
    free(n);
  }
}

static void drop_tunnel(struct tables *t, const char *id) {
  struct tunnel_row *u = find_tunnel(t, id);
  if (u) {
    HASH_DEL(t->tunnels, u);
    free(u);
  }
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

int tables_apply(struct tables *t, enum change what, const void *row) {
  switch (what) {
  case CHANGE_NAME:
    return put_name(t, row);
  case CHANGE_NAME_GONE:
    drop_name(t, ((const struct store_name *)row)->name);
    return 0;
  case CHANGE_TUNNEL:
    return put_tunnel(t, row);
  case CHANGE_TUNNEL_GONE:
    drop_tunnel(t, ((const struct store_tunnel *)row)->id);
    return 0;
  case CHANGE_AUDIT:
    return put_audit(t, row);
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
  for (const struct tunnel_row *u = t->tunnels; u; u = u->hh.next)
    if (u->row.status != STORE_CLOSED && !strcmp(u->row.name, name))
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
  struct store_name row = {
      .drawn = !op->in.claim.wanted, .port = op->in.claim.port, .created_at = op->now, .used_at = op->now};
  str_copy(row.name, sizeof row.name, name);
  str_copy(row.owner, sizeof row.owner, op->in.claim.principal);
  op_gives_name(op, name, true);
  return change(t, op, CHANGE_NAME, &row);
}

struct holdings { /* of one principal */
  unsigned count;
  struct name_row *same_port; /* drawn, under base, the last one used */
  struct name_row *oldest;    /* drawn, under base, serving nothing, unused longest */
};

static struct holdings look_through(struct tables *t, const struct store_op *op) {
  struct holdings h = {0};
  for (struct name_row *n = t->names; n; n = n->hh.next) {
    if (strcmp(n->row.owner, op->in.claim.principal))
      continue;
    h.count++;
    if (!n->row.drawn || !directly_under(n->row.name, op->in.claim.base))
      continue;
    if (n->row.port == op->in.claim.port && (!h.same_port || n->row.used_at > h.same_port->row.used_at))
      h.same_port = n;
    if ((!h.oldest || n->row.used_at < h.oldest->row.used_at) && !live(t, n->row.name))
      h.oldest = n;
  }
  return h;
}

static int allocate_wanted(struct tables *t, struct store_op *op, const struct holdings *h) {
  const char *want = op->in.claim.names[0];
  struct name_row *n = find_name(t, want);
  if (n && !strcmp(n->row.owner, op->in.claim.principal))
    return use_name(t, op, n);
  if (n) {
    op_taken(op, want, n->row.owner);
    return 0;
  }
  if (h->count >= LIMIT_NAMES_PER_PRINCIPAL) {
    op_too_many(op);
    return 0;
  }
  return new_name(t, op, want);
}

static int allocate(struct tables *t, struct store_op *op) {
  struct holdings h = look_through(t, op);
  if (op->in.claim.wanted)
    return allocate_wanted(t, op, &h);
  if (h.same_port)
    return use_name(t, op, h.same_port);
  if (h.count >= LIMIT_NAMES_PER_PRINCIPAL) {
    if (h.oldest)
      return use_name(t, op, h.oldest);
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
  return change(t, op, CHANGE_TUNNEL, &row);
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

static int reset_tunnels(struct tables *t, struct store_op *op) {
  int64_t old = op->now - (int64_t)STORE_KEEP_DAYS * 86400;
  size_t closed = 0;
  struct tunnel_row *u, *next;
  HASH_ITER(hh, t->tunnels, u, next) {
    struct store_tunnel row = u->row;
    int err = 0;
    if (row.status == STORE_CLOSED && row.created_at < old) {
      err = change(t, op, CHANGE_TUNNEL_GONE, &row);
    } else if (row.status != STORE_CLOSED && under(row.name, op->in.base)) {
      row.status = STORE_CLOSED;
      closed++;
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
  const uint8_t *before = t->before;
  for (struct audit_node *a = t->audits; a; a = a->next) {
    if (!audit_hash_ok(&a->row, before)) {
      op_bad_audit(op, a->row.seq);
      return;
    }
    before = a->row.hash;
    op->reply.n++;
  }
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
    op->reply.n = 1;
    return change(t, op, CHANGE_TUNNEL, &op->in.tunnel);
  case OP_TUNNEL_STATUS:
    return set_status(t, op);
  case OP_TUNNELS:
    list_tunnels(t, op);
    return 0;
  case OP_TUNNELS_RESET:
    return reset_tunnels(t, op);
  case OP_AUDIT:
    return append_audit(t, op);
  case OP_AUDIT_VERIFY:
    verify_audit(t, op);
    return 0;
  }
  return op_fail(op, BEAM_ERR_INTERNAL, NULL, "unknown operation");
}
