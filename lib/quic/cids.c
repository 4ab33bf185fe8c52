/* cids.c: connection ids, and whose they are.
 *
 * An id of ours is 12 bytes: the worker's number, hidden by a keyed hash of the 11 random bytes after it. So any worker of the relay, and the relay
 * after a restart, knows where a packet belongs, and a watcher of the network does not.
 */
#include <beam/beam.h>
#include <gnutls/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "quic/conn.h"

enum { BUCKETS_MIN = 16 };

static uint8_t mask_of(const struct quic_endpoint *e, const uint8_t *cid) {
  uint8_t digest[32];
  if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, e->reset_key, sizeof e->reset_key, cid + 1, QUIC_CID - 1, digest))
    return 0;
  return digest[0];
}

void quic_cid_make(const struct quic_endpoint *e, ngtcp2_cid *out) {
  random_bytes(out->data, QUIC_CID);
  out->datalen = QUIC_CID;
  if (e->server)
    out->data[0] = (uint8_t)(mask_of(e, out->data) ^ e->conf.worker);
}

unsigned quic_cid_worker(const struct quic_endpoint *e, const uint8_t *cid) {
  return cid[0] ^ mask_of(e, cid);
}

/* --- the table --- */

/* Newcomers choose their first id themselves, so the hash has a secret. */
static size_t slot(const struct quic_cids *t, const uint8_t *p, size_t n) {
  uint64_t h = t->secret[0] ^ n;
  for (size_t i = 0; i < n; i++) {
    h = (h ^ p[i]) * (t->secret[1] | 1);
    h ^= h >> 29;
  }
  return h & (t->buckets - 1);
}

int quic_cids_init(struct quic_cids *t) {
  t->buckets = BUCKETS_MIN;
  t->bucket = calloc(t->buckets, sizeof(struct quic_cid *));
  random_bytes(t->secret, sizeof t->secret);
  return t->bucket ? 0 : BEAM_ERR_NOMEM;
}

void quic_cids_fini(struct quic_cids *t) {
  free(t->bucket);
}

struct quic_conn *quic_cids_find(const struct quic_cids *t, const uint8_t *p, size_t n) {
  for (struct quic_cid *i = t->bucket[slot(t, p, n)]; i; i = i->next)
    if (i->cid.datalen == n && !memcmp(i->cid.data, p, n))
      return i->conn;
  return NULL;
}

static void grow(struct quic_cids *t) {
  size_t old = t->buckets;
  struct quic_cid **before = t->bucket, **bucket = calloc(2 * old, sizeof(struct quic_cid *));
  if (!bucket)
    return; /* chains are longer */
  t->bucket = bucket;
  t->buckets = 2 * old;
  for (size_t k = 0; k < old; k++)
    for (struct quic_cid *i = before[k], *next; i; i = next) {
      struct quic_cid **to = &bucket[slot(t, i->cid.data, i->cid.datalen)];
      next = i->next;
      i->next = *to;
      *to = i;
    }
  free(before);
}

int quic_cids_add(struct quic_cids *t, struct quic_conn *c, const ngtcp2_cid *cid) {
  struct quic_cid *i = calloc(1, sizeof *i);
  if (!i)
    return BEAM_ERR_NOMEM;
  if (t->count >= t->buckets)
    grow(t);
  struct quic_cid **to = &t->bucket[slot(t, cid->data, cid->datalen)];
  *i = (struct quic_cid){*to, c->cids, c, *cid};
  *to = i;
  c->cids = i;
  t->count++;
  return 0;
}

static void unlink_cid(struct quic_cids *t, struct quic_cid *cid) {
  struct quic_cid **p = &t->bucket[slot(t, cid->cid.data, cid->cid.datalen)];
  while (*p != cid)
    p = &(*p)->next;
  *p = cid->next;
  t->count--;
  free(cid);
}

void quic_cids_remove(struct quic_cids *t, struct quic_conn *c, const ngtcp2_cid *cid) {
  for (struct quic_cid **p = &c->cids; *p; p = &(*p)->more)
    if (ngtcp2_cid_eq(&(*p)->cid, cid)) {
      struct quic_cid *found = *p;
      *p = found->more;
      unlink_cid(t, found);
      return;
    }
}

void quic_cids_remove_all(struct quic_cids *t, struct quic_conn *c) {
  while (c->cids) {
    struct quic_cid *i = c->cids;
    c->cids = i->more;
    unlink_cid(t, i);
  }
}
