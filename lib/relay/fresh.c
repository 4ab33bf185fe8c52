#include "relay/fresh.h"

#include <stdlib.h>
#define HASH_NONFATAL_OOM 1 /* an add that failed leaves hh.tbl NULL */
#include <uthash.h>

#include "relay/admit.h"

enum { HOUR_MS = 3600000 };

/* A bucket that fills by LIMIT_FRESH_PER_HOUR an hour. Full again, it is forgotten. */
struct fresh_row {
  struct admit_key key;
  unsigned spent;
  uint64_t since; /* until when what was gained is counted */
  UT_hash_handle hh;
};

struct fresh {
  pthread_mutex_t lock;
  struct fresh_row *rows;
};

int fresh_new(struct fresh **out) {
  *out = calloc(1, sizeof **out);
  if (!*out)
    return BEAM_ERR_NOMEM;
  pthread_mutex_init(&(*out)->lock, NULL);
  return 0;
}

static void drop(struct fresh *f, struct fresh_row *r) {
  HASH_DEL(f->rows, r);
  free(r);
}

void fresh_free(struct fresh *f) {
  if (!f)
    return;
  struct fresh_row *r, *next;
  HASH_ITER(hh, f->rows, r, next) {
    drop(f, r);
  }
  pthread_mutex_destroy(&f->lock);
  free(f);
}

static void refill(struct fresh_row *r, uint64_t now) {
  uint64_t each = HOUR_MS / LIMIT_FRESH_PER_HOUR;
  uint64_t gained = now > r->since ? (now - r->since) / each : 0;
  r->since += gained * each;
  r->spent = gained < r->spent ? r->spent - (unsigned)gained : 0;
}

/* NULL: no memory, or more addresses within an hour than any honest relay sees. */
static struct fresh_row *row_of(struct fresh *f, const struct admit_key *k, uint64_t now) {
  struct fresh_row *r;
  HASH_FIND(hh, f->rows, k, sizeof *k, r);
  if (r) {
    refill(r, now);
    return r;
  }
  if (HASH_COUNT(f->rows) >= LIMIT_FRESH_ADDRS || !(r = calloc(1, sizeof *r)))
    return NULL;
  r->key = *k;
  r->since = now;
  HASH_ADD(hh, f->rows, key, sizeof *k, r);
  if (r->hh.tbl)
    return r;
  free(r);
  return NULL;
}

bool fresh_take(struct fresh *f, const struct sockaddr_storage *peer, uint64_t now) {
  struct admit_key k;
  if (!admit_key_of(peer, &k))
    return true;
  pthread_mutex_lock(&f->lock);
  struct fresh_row *r = row_of(f, &k, now);
  bool yes = r && r->spent < LIMIT_FRESH_PER_HOUR;
  if (yes && !r->spent++)
    r->since = now;
  pthread_mutex_unlock(&f->lock);
  return yes;
}

void fresh_give_back(struct fresh *f, const struct sockaddr_storage *peer) {
  struct admit_key k;
  struct fresh_row *r;
  if (!admit_key_of(peer, &k))
    return;
  pthread_mutex_lock(&f->lock);
  HASH_FIND(hh, f->rows, &k, sizeof k, r);
  if (r && r->spent && !--r->spent)
    drop(f, r);
  pthread_mutex_unlock(&f->lock);
}

void fresh_sweep(struct fresh *f, uint64_t now) {
  struct fresh_row *r, *next;
  pthread_mutex_lock(&f->lock);
  HASH_ITER(hh, f->rows, r, next) {
    refill(r, now);
    if (!r->spent)
      drop(f, r);
  }
  pthread_mutex_unlock(&f->lock);
}

size_t fresh_addresses(struct fresh *f) {
  pthread_mutex_lock(&f->lock);
  size_t n = HASH_COUNT(f->rows);
  pthread_mutex_unlock(&f->lock);
  return n;
}
