#include "store/op.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"

static int64_t now(void) {
  return (int64_t)time(NULL);
}
int64_t (*store_now)(void) = now;
size_t store_names_total = LIMIT_NAMES_TOTAL;

bool op_writes(const struct store_op *op) {
  return op->kind != OP_NAMES && op->kind != OP_TUNNELS && op->kind != OP_AUDIT_VERIFY;
}

void op_forget(struct store_op *op) {
  free(op->tunnels);
  free(op->names);
  op->tunnels = NULL;
  op->names = NULL;
  op->rows = op->room = 0;
  op->err = 0;
  op->error = (struct beam_error)BEAM_ERROR_INIT;
  op->reply = (struct store_reply){0};
}

void op_free(struct store_op *op) {
  if (!op)
    return;
  op_forget(op);
  if (op->kind == OP_ALLOCATE)
    free(op->in.claim.names);
  free(op);
}

int op_fail(struct store_op *op, int err, const char *hint, const char *fmt, ...) {
  char what[sizeof op->error.what];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(what, sizeof what, fmt, ap);
  va_end(ap);
  return op->err = err_set(&op->error, err, hint, "%s", what);
}

void op_gives_name(struct store_op *op, const char *name, bool fresh) {
  str_copy(op->name, sizeof op->name, name);
  op->reply.name = op->name;
  op->reply.fresh = fresh;
}

int op_taken(struct store_op *op, const char *name, const char *holder) {
  op_gives_name(op, name, false);
  str_copy(op->holder, sizeof op->holder, holder);
  op->reply.holder = op->holder;
  return op_fail(op, BEAM_ERR_TAKEN, NULL, "%s belongs to someone else (%.8s...)", name, holder);
}

int op_too_many(struct store_op *op) {
  return op_fail(op, BEAM_ERR_LIMIT, "give one up that you do not need any more",
                 "you have %u names, as many as are allowed", LIMIT_NAMES_PER_PRINCIPAL);
}

int op_no_fresh(struct store_op *op) {
  return op_fail(op, BEAM_ERR_LIMIT, "use a name you have already, or try again in an hour",
                 "too many new names were given to your address within an hour");
}

int op_full(struct store_op *op) {
  return op_fail(op, BEAM_ERR_LIMIT, "use a name you have already, or another relay",
                 "this relay has as many names as it may");
}

int op_bad_status(struct store_op *op, enum store_status from) {
  return op_fail(op, BEAM_ERR_INVALID, NULL, "a tunnel that is %s cannot become %s", store_status_text(from),
                 store_status_text(op->in.change.status));
}

int op_no_tunnel(struct store_op *op) {
  return op_fail(op, BEAM_ERR_NOT_FOUND, NULL, "there is no tunnel %s", op->in.change.id);
}

int op_no_name(struct store_op *op) {
  return op_fail(op, BEAM_ERR_NOT_FOUND, NULL, "nobody has the name %s", op->in.release.name);
}

int op_not_yours(struct store_op *op) {
  return op_fail(op, BEAM_ERR_DENIED, "only its owner can give it up", "%s belongs to someone else",
                 op->in.release.name);
}

int op_bad_audit(struct store_op *op, uint64_t seq) {
  op->reply.seq = seq;
  return op_fail(op, BEAM_ERR_STORE,
                 "keep a copy of the store: somebody or something changed it behind Beam's back",
                 "the audit chain is broken at row %llu", (unsigned long long)seq);
}

/* Room for one more row of `size` bytes, zeroed. */
static void *add_row(struct store_op *op, void **rows, size_t size) {
  if (op->rows == STORE_ROWS_MAX)
    return NULL;
  if (op->rows == op->room) {
    size_t room = op->room ? op->room * 2 : 8;
    void *more = realloc(*rows, room * size);
    if (!more)
      return NULL;
    *rows = more;
    op->room = room;
  }
  void *row = (char *)*rows + op->rows++ * size;
  op->reply.n = op->rows;
  memset(row, 0, size);
  return row;
}

struct store_tunnel *op_add_tunnel(struct store_op *op) {
  void *rows = op->tunnels, *row = add_row(op, &rows, sizeof *op->tunnels);
  op->reply.tunnels = op->tunnels = rows;
  return row;
}

struct store_name *op_add_name(struct store_op *op) {
  void *rows = op->names, *row = add_row(op, &rows, sizeof *op->names);
  op->reply.names = op->names = rows;
  return row;
}

const char *store_status_text(enum store_status st) {
  switch (st) {
  case STORE_PROVISIONING:
    return "provisioning";
  case STORE_ACTIVE:
    return "active";
  case STORE_CLOSED:
    return "closed";
  }
  return "unknown";
}

void clock_note(struct clock_seen *c, int64_t at) {
  enum { BACK = 3600, GAP = 2 * 86400 };
  if (!c->last || at < c->last - BACK || at > c->last + GAP)
    c->since = at;
  c->last = at;
}

bool clock_steady(const struct clock_seen *c) {
  return c->last - c->since >= 86400;
}

int64_t days_before(const struct store_op *op, unsigned days) {
  return op->now - (int64_t)days * 86400;
}

bool status_may_follow(enum store_status from, enum store_status to) {
  return to == from || to > from;
}

static void number(uint8_t out[8], uint64_t v) {
  for (int i = 0; i < 8; i++)
    out[i] = (uint8_t)(v >> (56 - 8 * i));
}

static void hash_row(const struct audit_row *row, const uint8_t before[HASH_BYTES], uint8_t out[HASH_BYTES]) {
  struct hash h;
  uint8_t n[8];
  hash_begin(&h);
  hash_add(&h, before, HASH_BYTES);
  number(n, row->seq);
  hash_add(&h, n, sizeof n);
  number(n, (uint64_t)row->at);
  hash_add(&h, n, sizeof n);
  hash_field(&h, row->actor, strlen(row->actor));
  hash_field(&h, row->action, strlen(row->action));
  hash_field(&h, row->subject, strlen(row->subject));
  hash_field(&h, row->detail, strlen(row->detail));
  hash_end(&h, out);
}

void audit_hash(struct audit_row *row, const uint8_t before[HASH_BYTES]) {
  hash_row(row, before, row->hash);
}

bool audit_hash_ok(const struct audit_row *row, const uint8_t before[HASH_BYTES]) {
  uint8_t want[HASH_BYTES];
  hash_row(row, before, want);
  return !memcmp(want, row->hash, HASH_BYTES);
}
