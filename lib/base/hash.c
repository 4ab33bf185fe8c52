#include "base/hash.h"

#include <sodium.h>
#include <string.h>

_Static_assert(sizeof(struct hash) >= sizeof(crypto_hash_sha256_state),
               "struct hash holds libsodium's state");

static crypto_hash_sha256_state *state(struct hash *h) {
  return (crypto_hash_sha256_state *)(void *)h->opaque;
}

void hash_sha256(uint8_t out[HASH_BYTES], const void *p, size_t n) {
  crypto_hash_sha256(out, p, n);
}

bool hash_same(const uint8_t a[HASH_BYTES], const uint8_t b[HASH_BYTES]) {
  return sodium_memcmp(a, b, HASH_BYTES) == 0;
}

void hash_begin(struct hash *h) {
  crypto_hash_sha256_init(state(h));
}

void hash_add(struct hash *h, const void *p, size_t n) {
  if (n)
    crypto_hash_sha256_update(state(h), p, n);
}

void hash_field(struct hash *h, const void *p, size_t n) {
  uint8_t len[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
  hash_add(h, len, sizeof len);
  hash_add(h, p, n);
}

void hash_end(struct hash *h, uint8_t out[HASH_BYTES]) {
  crypto_hash_sha256_final(state(h), out);
}
