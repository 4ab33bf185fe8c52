#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#define HASH_NONFATAL_OOM 1 /* an add that failed leaves hh.tbl NULL */
#include <uthash.h>

#include "relay/admit.h"

struct admit_row {
  struct admit_key key;
  unsigned connections; /* under the lock */
  _Atomic unsigned requests;
  UT_hash_handle hh;
};
struct admit {
  pthread_mutex_t lock;
  struct admit_row *rows;
};

const char *const admit_refusal_names[ADMIT_REFUSALS] = {"relay", "address", "requests", "tunnel",
                                                         "tunnel-connections"};

void admit_refused(struct relay *r, enum admit_refusal why) {
  atomic_fetch_add(&r->refusals[why], 1);
}

int admit_new(struct admit **out) {
  *out = calloc(1, sizeof **out);
  if (!*out)
    return BEAM_ERR_NOMEM;
  pthread_mutex_init(&(*out)->lock, NULL);
  return 0;
}

void admit_free(struct admit *a) {
  if (!a)
    return;
  struct admit_row *r, *next;
  HASH_ITER(hh, a->rows, r, next) {
    HASH_DEL(a->rows, r);
    free(r);
  }
  pthread_mutex_destroy(&a->lock);
  free(a);
}

size_t admit_addresses(struct admit *a) {
  pthread_mutex_lock(&a->lock);
  size_t n = HASH_COUNT(a->rows);
  pthread_mutex_unlock(&a->lock);
  return n;
}

static bool key_of_v4(const void *addr, struct admit_key *k) {
  k->family = 4;
  memcpy(k->prefix, addr, 4);
  return k->prefix[0] != 127;
}

bool admit_key_of(const struct sockaddr_storage *peer, struct admit_key *k) {
  memset(k, 0, sizeof *k);
  if (peer->ss_family == AF_INET)
    return key_of_v4(&((const struct sockaddr_in *)peer)->sin_addr, k);
  if (peer->ss_family == AF_INET6) {
    const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)peer;
    if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr)) /* IPv4 on a listener of both: not all of it is one subscriber */
      return key_of_v4(a->sin6_addr.s6_addr + 12, k);
    k->family = 6;
    memcpy(k->prefix, &a->sin6_addr, 8);
    return !IN6_IS_ADDR_LOOPBACK(&a->sin6_addr);
  }
  return false;
}

/* NULL: there are too many, or no memory. */
static struct admit_row *enter(struct admit *a, const struct admit_key *k, unsigned most) {
  struct admit_row *r;
  HASH_FIND(hh, a->rows, k, sizeof *k, r);
  if (r && r->connections >= most)
    return NULL;
  if (!r) {
    r = calloc(1, sizeof *r);
    if (!r)
      return NULL;
    r->key = *k;
    HASH_ADD(hh, a->rows, key, sizeof *k, r);
    if (!r->hh.tbl) {
      free(r);
      return NULL;
    }
  }
  r->connections++;
  return r;
}

static void leave(struct admit *a, struct admit_row *r) {
  if (!r || --r->connections)
    return;
  HASH_DEL(a->rows, r);
  free(r);
}

bool admit_enter(struct admit *a, const struct sockaddr_storage *peer, unsigned most) {
  struct admit_key k;
  if (!admit_key_of(peer, &k))
    return true;
  pthread_mutex_lock(&a->lock);
  bool in = enter(a, &k, most) != NULL;
  pthread_mutex_unlock(&a->lock);
  return in;
}

void admit_leave(struct admit *a, const struct sockaddr_storage *peer) {
  struct admit_key k;
  struct admit_row *r = NULL;
  if (!admit_key_of(peer, &k))
    return;
  pthread_mutex_lock(&a->lock);
  HASH_FIND(hh, a->rows, &k, sizeof k, r);
  leave(a, r);
  pthread_mutex_unlock(&a->lock);
}

/* --- connections that bring requests --- */

struct admit_guest {
  struct admit *a;
  struct admit_row *row; /* NULL: not counted */
  unsigned refs;         /* the connection's, and one of each ticket */
};

struct admit_guest *admit_guest_new(struct admit *a, const struct sockaddr_storage *peer, unsigned most) {
  struct admit_key k;
  struct admit_guest *g = calloc(1, sizeof *g);
  if (!g)
    return NULL;
  g->a = a;
  g->refs = 1;
  if (!admit_key_of(peer, &k))
    return g;
  pthread_mutex_lock(&a->lock);
  g->row = enter(a, &k, most);
  pthread_mutex_unlock(&a->lock);
  if (g->row)
    return g;
  free(g);
  return NULL;
}

void admit_guest_unref(struct admit_guest *g) {
  if (!g || --g->refs)
    return;
  if (g->row) {
    pthread_mutex_lock(&g->a->lock);
    leave(g->a, g->row);
    pthread_mutex_unlock(&g->a->lock);
  }
  free(g);
}

/* False: there are `most` already. */
static bool count(_Atomic unsigned *n, unsigned most) {
  if (atomic_fetch_add(n, 1) < most)
    return true;
  atomic_fetch_sub(n, 1);
  return false;
}

enum page admit_request(struct admit_guest *g, unsigned most, struct route_stats *stats, unsigned tunnel_most,
                        struct admit_ticket *out) {
  *out = (struct admit_ticket){0};
  if (g->row && !count(&g->row->requests, most))
    return PAGE_TOO_MANY;
  if (stats && !count(&stats->now, tunnel_most)) {
    if (g->row)
      atomic_fetch_sub(&g->row->requests, 1);
    return PAGE_TUNNEL_BUSY;
  }
  g->refs++;
  *out = (struct admit_ticket){g, route_stats_ref(stats)};
  return PAGE_NONE;
}

void admit_return(struct admit_ticket *t) {
  if (t->guest && t->guest->row)
    atomic_fetch_sub(&t->guest->row->requests, 1);
  if (t->stats)
    atomic_fetch_sub(&t->stats->now, 1);
  admit_guest_unref(t->guest);
  route_stats_unref(t->stats);
  *t = (struct admit_ticket){0};
}
