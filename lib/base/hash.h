/* hash.h: SHA-256 for those who may not see libsodium (store/, domain/, http/). */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HASH_BYTES = 32 };

void hash_sha256(uint8_t out[HASH_BYTES], const void *p, size_t n);

/* In constant time, for what nobody may guess byte by byte. */
bool hash_same(const uint8_t a[HASH_BYTES], const uint8_t b[HASH_BYTES]);

/* In pieces; hash_field puts the length before the bytes, so that no two lists of fields hash alike. */
struct hash {
  uint64_t opaque[16];
};
void hash_begin(struct hash *h);
void hash_add(struct hash *h, const void *p, size_t n);
void hash_field(struct hash *h, const void *p, size_t n); /* 4-byte big-endian length, then the bytes */
void hash_end(struct hash *h, uint8_t out[HASH_BYTES]);

#endif
