/* admit.c: how many connections come from one address. IPv6 counts by /64, which one subscriber has. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "relay/admit.h"

struct admit_row {
  struct admit_key key;
  unsigned count;
  UT_hash_handle hh;
};
struct admit {
  struct admit_row *rows;
};

int admit_new(struct admit **out) {
  *out = calloc(1, sizeof **out);
  return *out ? 0 : BEAM_ERR_NOMEM;
}

void admit_free(struct admit *a) {
  if (!a)
    return;
  struct admit_row *r, *next;
  HASH_ITER(hh, a->rows, r, next) {
    HASH_DEL(a->rows, r);
    free(r);
  }
  free(a);
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

bool admit_enter(struct admit *a, const struct sockaddr_storage *peer) {
  struct admit_key k;
  if (!admit_key_of(peer, &k))
    return true;
  struct admit_row *r;
  HASH_FIND(hh, a->rows, &k, sizeof k, r);
  if (!r) {
    r = calloc(1, sizeof *r);
    if (!r)
      return false;
    r->key = k;
    HASH_ADD(hh, a->rows, key, sizeof k, r);
  }
  if (r->count >= LIMIT_VISITORS_PER_ADDR)
    return false;
  r->count++;
  return true;
}

void admit_leave(struct admit *a, const struct sockaddr_storage *peer) {
  struct admit_key k;
  struct admit_row *r = NULL;
  if (!admit_key_of(peer, &k))
    return;
  HASH_FIND(hh, a->rows, &k, sizeof k, r);
  if (!r || --r->count)
    return;
  HASH_DEL(a->rows, r);
  free(r);
}
