#include "base/random.h"

#include <beam/beam.h>
#include <sodium.h>
#include <string.h>

static _Thread_local uint64_t seeded; /* non-zero: the deterministic stream of a simulation */

int base_init(void) {
  return sodium_init() < 0 ? BEAM_ERR_SYSTEM : 0;
}

void random_seed(uint64_t seed) {
  seeded = seed;
}

static uint64_t next_seeded(void) { /* splitmix64 */
  uint64_t z = (seeded += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void random_bytes(void *p, size_t n) {
  if (!seeded) {
    randombytes_buf(p, n);
    return;
  }
  unsigned char *d = p;
  while (n) {
    uint64_t v = next_seeded();
    size_t k = n < sizeof v ? n : sizeof v;
    memcpy(d, &v, k);
    d += k;
    n -= k;
  }
}

void random_id(uint8_t id[RANDOM_ID]) {
  static _Thread_local struct {
    uint8_t bytes[64 * RANDOM_ID];
    size_t left;
  } drawn;
  if (seeded) {
    random_bytes(id, RANDOM_ID);
    return;
  }
  if (!drawn.left) {
    random_bytes(drawn.bytes, sizeof drawn.bytes);
    drawn.left = sizeof drawn.bytes;
  }
  drawn.left -= RANDOM_ID;
  memcpy(id, drawn.bytes + drawn.left, RANDOM_ID);
}

uint32_t random_below(uint32_t n) {
  if (n < 2)
    return 0;
  return seeded ? (uint32_t)(next_seeded() % n) : randombytes_uniform(n);
}
