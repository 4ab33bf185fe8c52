#include "store/journal.h"

#include <stdlib.h>
#include <string.h>

const char journal_magic[JOURNAL_MAGIC] = "beam journal 01";

enum { HEADER = 8, CHECK = 8 };

/* --- fields: numbers as 8 bytes, texts as 2 bytes of length and the bytes --- */

struct cursor {
  uint8_t *w;       /* writing */
  const uint8_t *r; /* reading */
  size_t left;
  bool bad;
};

static void put_number(struct cursor *c, uint64_t v) {
  for (int i = 0; i < 8; i++)
    *c->w++ = (uint8_t)(v >> (8 * i));
}

static void put_bytes(struct cursor *c, const void *p, size_t n) {
  memcpy(c->w, p, n);
  c->w += n;
}

static void put_text(struct cursor *c, const char *s) {
  size_t n = strlen(s);
  *c->w++ = (uint8_t)n;
  *c->w++ = (uint8_t)(n >> 8);
  put_bytes(c, s, n);
}

static const uint8_t *take(struct cursor *c, size_t n) {
  static const uint8_t none[HASH_BYTES];
  if (c->bad || c->left < n) {
    c->bad = true;
    return none;
  }
  const uint8_t *p = c->r;
  c->r += n;
  c->left -= n;
  return p;
}

static uint64_t get_number(struct cursor *c) {
  const uint8_t *p = take(c, 8);
  uint64_t v = 0;
  for (int i = 7; i >= 0; i--)
    v = v << 8 | p[i];
  return v;
}

static void get_text(struct cursor *c, char *out, size_t cap) {
  const uint8_t *len = take(c, 2);
  size_t n = len[0] | (size_t)len[1] << 8;
  if (n >= cap)
    c->bad = true;
  const uint8_t *p = take(c, n);
  if (c->bad)
    n = 0;
  memcpy(out, p, n);
  out[n] = 0;
}

/* --- rows --- */

static void put_row(struct cursor *c, enum change what, const void *row) {
  const struct store_name *n = row;
  const struct store_tunnel *t = row;
  const struct audit_row *a = row;
  const struct anchor *anchor = row;
  const struct clock_seen *clock = row;
  switch (what) {
  case CHANGE_NAME:
    put_text(c, n->name);
    put_text(c, n->owner);
    put_number(c, n->drawn);
    put_number(c, n->port);
    put_number(c, (uint64_t)n->created_at);
    put_number(c, (uint64_t)n->used_at);
    break;
  case CHANGE_NAME_GONE:
    put_text(c, n->name);
    break;
  case CHANGE_TUNNEL:
    put_text(c, t->id);
    put_text(c, t->owner);
    put_text(c, t->name);
    put_number(c, t->port);
    put_text(c, t->framework);
    put_number(c, (uint64_t)t->created_at);
    put_number(c, (uint64_t)t->status);
    break;
  case CHANGE_TUNNEL_GONE:
    put_text(c, t->id);
    break;
  case CHANGE_AUDIT:
    put_number(c, a->seq);
    put_number(c, (uint64_t)a->at);
    put_text(c, a->actor);
    put_text(c, a->action);
    put_text(c, a->subject);
    put_text(c, a->detail);
    put_bytes(c, a->hash, HASH_BYTES);
    break;
  case CHANGE_ANCHOR:
    put_number(c, anchor->seq);
    put_bytes(c, anchor->hash, HASH_BYTES);
    break;
  case CHANGE_CLOCK:
    put_number(c, (uint64_t)clock->since);
    put_number(c, (uint64_t)clock->last);
    break;
  }
}

static void get_name(struct cursor *c, struct store_name *n) {
  get_text(c, n->owner, sizeof n->owner);
  n->drawn = get_number(c) != 0;
  n->port = (uint16_t)get_number(c);
  n->created_at = (int64_t)get_number(c);
  n->used_at = (int64_t)get_number(c);
}

static void get_tunnel(struct cursor *c, struct store_tunnel *t) {
  get_text(c, t->owner, sizeof t->owner);
  get_text(c, t->name, sizeof t->name);
  t->port = (uint16_t)get_number(c);
  get_text(c, t->framework, sizeof t->framework);
  t->created_at = (int64_t)get_number(c);
  uint64_t status = get_number(c);
  c->bad |= status > STORE_CLOSED;
  t->status = (enum store_status)(status & 3);
}

static void get_audit(struct cursor *c, struct audit_row *a) {
  a->seq = get_number(c);
  a->at = (int64_t)get_number(c);
  get_text(c, a->actor, sizeof a->actor);
  get_text(c, a->action, sizeof a->action);
  get_text(c, a->subject, sizeof a->subject);
  get_text(c, a->detail, sizeof a->detail);
  memcpy(a->hash, take(c, HASH_BYTES), HASH_BYTES);
}

static void get_row(struct cursor *c, enum change what, union journal_row *row) {
  memset(row, 0, sizeof *row);
  switch (what) {
  case CHANGE_NAME:
  case CHANGE_NAME_GONE:
    get_text(c, row->name.name, sizeof row->name.name);
    if (what == CHANGE_NAME)
      get_name(c, &row->name);
    return;
  case CHANGE_TUNNEL:
  case CHANGE_TUNNEL_GONE:
    get_text(c, row->tunnel.id, sizeof row->tunnel.id);
    if (what == CHANGE_TUNNEL)
      get_tunnel(c, &row->tunnel);
    return;
  case CHANGE_AUDIT:
    get_audit(c, &row->audit);
    return;
  case CHANGE_ANCHOR:
    row->anchor.seq = get_number(c);
    memcpy(row->anchor.hash, take(c, HASH_BYTES), HASH_BYTES);
    return;
  case CHANGE_CLOCK:
    row->clock.since = (int64_t)get_number(c);
    row->clock.last = (int64_t)get_number(c);
    return;
  }
  c->bad = true;
}

/* --- records --- */

static void put_u32(uint8_t *p, uint32_t v) {
  for (int i = 0; i < 4; i++)
    p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_u32(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

size_t journal_encode(uint8_t out[RECORD_MAX], enum change what, const void *row) {
  uint8_t sum[HASH_BYTES];
  struct cursor c = {.w = out + HEADER};
  *c.w++ = (uint8_t)what;
  put_row(&c, what, row);
  size_t n = (size_t)(c.w - out) - HEADER;
  put_u32(out, (uint32_t)n);
  put_u32(out + 4, ~(uint32_t)n);
  hash_sha256(sum, out + HEADER, n);
  memcpy(c.w, sum, CHECK);
  return HEADER + n + CHECK;
}

static bool all_zero(const uint8_t *p, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (p[i])
      return false;
  return true;
}

long journal_decode(const uint8_t *p, size_t n, enum change *what, union journal_row *row) {
  if (n == 0)
    return 0;
  if (n < HEADER || all_zero(p, n)) /* zeros: the file had grown, its data had not arrived */
    return JOURNAL_TORN;
  uint32_t len = get_u32(p);
  if (len != ~get_u32(p + 4) || len == 0 || len > RECORD_MAX - HEADER - CHECK)
    return JOURNAL_DAMAGED;
  size_t whole = HEADER + (size_t)len + CHECK;
  if (n < whole)
    return JOURNAL_TORN;
  uint8_t sum[HASH_BYTES];
  hash_sha256(sum, p + HEADER, len);
  if (memcmp(sum, p + HEADER + len, CHECK))
    return n == whole ? JOURNAL_TORN : JOURNAL_DAMAGED;
  struct cursor c = {.r = p + HEADER + 1, .left = len - 1};
  *what = (enum change)p[HEADER];
  get_row(&c, *what, row);
  return c.bad || c.left ? JOURNAL_DAMAGED : (long)whole;
}
