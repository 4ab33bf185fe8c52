#include "http/rate.h"

#include <stdlib.h>
#include <string.h>
#define HASH_NONFATAL_OOM 1 /* an add that failed leaves hh.tbl NULL */
#include <uthash.h>
#include <utlist.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/random.h"
#include "wire/cidr.h"

struct key {
  uint8_t salt[8]; /* secret: so that nobody chooses addresses which fall together */
  uint8_t n, prefix[8];
};

struct row {
  struct key key;
  uint64_t full_us; /* when the bucket is full again */
  UT_hash_handle hh;
  struct row *prev, *next; /* least recently used first */
};

struct rate {
  uint64_t each_us, whole_us; /* a request's share of the period; the period */
  uint8_t salt[8];
  struct row *rows, *used;
};

struct rate *rate_of(uint64_t n, uint64_t seconds) {
  struct rate *r = calloc(1, sizeof *r);
  if (!r)
    return NULL;
  r->whole_us = seconds * 1000000;
  r->each_us = r->whole_us / n;
  random_bytes(r->salt, sizeof r->salt);
  return r;
}

int rate_new(const char *text, struct rate **out, struct beam_error *err) {
  const char *slash = strchr(text, '/');
  uint64_t n = 0;
  uint64_t period = !slash                 ? 0
                    : !strcmp(slash, "/s") ? 1
                    : !strcmp(slash, "/m") ? 60
                    : !strcmp(slash, "/h") ? 3600
                                           : 0;
  if (!period || !str_u64((struct span){text, (size_t)(slash - text)}, 1000000, &n) || !n)
    return err_set(err, BEAM_ERR_INVALID, "write 10/s, 100/m or 1000/h", "\"%.60s\" is no rate", text);
  *out = rate_of(n, period);
  return *out ? 0 : err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
}

static void forget(struct rate *r, struct row *w) {
  HASH_DEL(r->rows, w);
  DL_DELETE(r->used, w);
  free(w);
}

void rate_free(struct rate *r) {
  if (!r)
    return;
  struct row *w, *next;
  HASH_ITER(hh, r->rows, w, next) {
    forget(r, w);
  }
  free(r);
}

size_t rate_rows(const struct rate *r) {
  return HASH_COUNT(r->rows);
}

static struct key key_of(const struct rate *r, const char *visitor) {
  struct key k = {.n = 0};
  struct addr a;
  memcpy(k.salt, r->salt, sizeof k.salt);
  if (!addr_parse(span_of(visitor), &a))
    return k;
  k.n = a.n;
  memcpy(k.prefix, a.bytes, a.n == 4 ? 4 : 8);
  return k;
}

/* NULL: no memory. Of too many the one that was longest silent is forgotten: its bucket is the fullest. */
static struct row *row_of(struct rate *r, const struct key *k) {
  struct row *w;
  HASH_FIND(hh, r->rows, k, sizeof *k, w);
  if (w) {
    DL_DELETE(r->used, w);
    DL_APPEND(r->used, w);
    return w;
  }
  while (r->rows && HASH_COUNT(r->rows) >= LIMIT_RATE_VISITORS)
    forget(r, r->used);
  if (!(w = calloc(1, sizeof *w)))
    return NULL;
  w->key = *k;
  HASH_ADD(hh, r->rows, key, sizeof w->key, w);
  if (!w->hh.tbl) {
    free(w);
    return NULL;
  }
  DL_APPEND(r->used, w);
  return w;
}

/* When the bucket would be full after one more; *wait: the seconds until that fits, 0: now. */
static uint64_t one_more(const struct rate *r, uint64_t full_us, uint64_t now_us, unsigned *wait) {
  uint64_t after = (full_us > now_us ? full_us : now_us) + r->each_us, most = now_us + r->whole_us;
  *wait = after > most ? (unsigned)((after - most + 999999) / 1000000) : 0;
  return after;
}

unsigned rate_wait(const struct rate *r, const char *visitor, uint64_t now_ms) {
  struct key k = key_of(r, visitor);
  struct row *w;
  unsigned wait;
  HASH_FIND(hh, r->rows, &k, sizeof k, w);
  one_more(r, w ? w->full_us : 0, now_ms * 1000, &wait);
  return wait;
}

unsigned rate_take(struct rate *r, const char *visitor, uint64_t now_ms) {
  uint64_t now = now_ms * 1000;
  while (r->rows && r->used && r->used->full_us <= now) /* those who did not come for a whole period */
    forget(r, r->used);
  struct key k = key_of(r, visitor);
  struct row *w = row_of(r, &k);
  unsigned wait;
  if (!w)
    return 1;
  uint64_t after = one_more(r, w->full_us, now, &wait);
  if (!wait)
    w->full_us = after;
  return wait;
}
