/* The typed operations: each copies what was asked into an op and hands it in. */
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/str.h"
#include "store/op.h"

static struct store_op *op_new(struct loop *l, enum op_kind kind, store_cb cb, void *user) {
  struct store_op *op = calloc(1, sizeof *op);
  if (!op)
    return NULL;
  op->kind = kind;
  op->loop = l;
  op->cb = cb;
  op->user = user;
  op->now = store_now();
  op->error = (struct beam_error)BEAM_ERROR_INIT;
  return op;
}

/* Hand in what was filled; a text that did not fit its field is the caller's mistake. */
static int hand_in(struct store *s, struct store_op *op, bool fits, struct store_op **out) {
  if (fits)
    return store_submit(s, op, out);
  op_free(op);
  return BEAM_ERR_INVALID;
}

int store_allocate(struct store *s, struct loop *l, const struct store_claim *c, store_cb cb, void *user,
                   struct store_op **out) {
  struct store_op *op = op_new(l, OP_ALLOCATE, cb, user);
  if (!op)
    return BEAM_ERR_NOMEM;
  size_t n = c->wanted ? 1 : c->n;
  op->in.claim.names = calloc(n ? n : 1, STORE_NAME);
  if (!op->in.claim.names) {
    op_free(op);
    return BEAM_ERR_NOMEM;
  }
  op->in.claim.n = n;
  op->in.claim.wanted = c->wanted != NULL;
  op->in.claim.port = c->port;
  op->in.claim.no_fresh = c->no_fresh;
  bool fits = str_copy(op->in.claim.principal, STORE_PRINCIPAL, c->principal) && *op->in.claim.principal &&
              str_copy(op->in.claim.base, STORE_NAME, c->base);
  for (size_t i = 0; i < n; i++)
    fits = fits && str_copy(op->in.claim.names[i], STORE_NAME, c->wanted ? c->wanted : c->candidates[i]);
  return hand_in(s, op, fits, out);
}

int store_release(struct store *s, struct loop *l, const char *principal, const char *name, store_cb cb,
                  void *user, struct store_op **out) {
  struct store_op *op = op_new(l, OP_RELEASE, cb, user);
  if (!op)
    return BEAM_ERR_NOMEM;
  bool fits = str_copy(op->in.release.principal, STORE_PRINCIPAL, principal) &&
              str_copy(op->in.release.name, STORE_NAME, name);
  return hand_in(s, op, fits, out);
}

int store_names(struct store *s, struct loop *l, const char *principal, store_cb cb, void *user,
                struct store_op **out) {
  struct store_op *op = op_new(l, OP_NAMES, cb, user);
  if (!op)
    return BEAM_ERR_NOMEM;
  return hand_in(s, op, str_copy(op->in.list.owner, STORE_PRINCIPAL, principal), out);
}

void store_new_id(char id[STORE_ID]) {
  uint8_t b[(STORE_ID - 1) / 2];
  random_bytes(b, sizeof b);
  hex_encode(id, b, sizeof b);
}

int store_tunnel_put(struct store *s, struct loop *l, const struct store_tunnel *t, store_cb cb, void *user,
                     struct store_op **out) {
  struct store_op *op = op_new(l, OP_TUNNEL_PUT, cb, user);
  if (!op)
    return BEAM_ERR_NOMEM;
  op->in.tunnel = *t;
  return hand_in(s, op, *t->id != 0, out);
}

int store_tunnel_status(struct store *s, struct loop *l, const char *id, enum store_status st, store_cb cb,
                        void *user, struct store_op **out) {
  struct store_op *op = op_new(l, OP_TUNNEL_STATUS, cb, user);
  if (!op)
    return BEAM_ERR_NOMEM;
  op->in.change.status = st;
  return hand_in(s, op, str_copy(op->in.change.id, STORE_ID, id), out);
}

int store_tunnels(struct store *s, struct loop *l, const char *owner, bool live, store_cb cb, void *user,
                  struct store_op **out) {
  struct store_op *op = op_new(l, OP_TUNNELS, cb, user);
  if (!op)
    return BEAM_ERR_NOMEM;
  op->in.list.live = live;
  return hand_in(s, op, str_copy(op->in.list.owner, STORE_PRINCIPAL, owner), out);
}

int store_tunnels_reset(struct store *s, struct loop *l, const char *base, store_cb cb, void *user,
                        struct store_op **out) {
  struct store_op *op = op_new(l, OP_TUNNELS_RESET, cb, user);
  if (!op)
    return BEAM_ERR_NOMEM;
  return hand_in(s, op, str_copy(op->in.base, STORE_NAME, base), out);
}

int store_forget(struct store *s, struct loop *l, store_cb cb, void *user, struct store_op **out) {
  struct store_op *op = op_new(l, OP_FORGET, cb, user);
  return op ? store_submit(s, op, out) : BEAM_ERR_NOMEM;
}

int store_audit(struct store *s, struct loop *l, const struct store_audit *a, store_cb cb, void *user,
                struct store_op **out) {
  struct store_op *op = op_new(l, OP_AUDIT, cb, user);
  if (!op)
    return BEAM_ERR_NOMEM;
  struct audit_row *row = &op->in.audit;
  row->at = op->now;
  /* Too long is cut: a row that is lost for its length is worse. */
  str_copy(row->actor, sizeof row->actor, a->actor);
  str_copy(row->action, sizeof row->action, a->action);
  str_copy(row->subject, sizeof row->subject, a->subject);
  str_copy(row->detail, sizeof row->detail, a->detail);
  return store_submit(s, op, out);
}

int store_audit_verify(struct store *s, struct loop *l, store_cb cb, void *user, struct store_op **out) {
  struct store_op *op = op_new(l, OP_AUDIT_VERIFY, cb, user);
  if (!op)
    return BEAM_ERR_NOMEM;
  return store_submit(s, op, out);
}
