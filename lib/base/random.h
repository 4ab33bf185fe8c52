/* random.h: secure random numbers, from libsodium; a seeded source for simulations. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

enum { RANDOM_ID = 16 };

int base_init(void); /* sodium_init and friends, once; any thread; 0 or BEAM_ERR_SYSTEM */

void random_bytes(void *p, size_t n);
/* A name for a thing, unlike any other, but no secret: many are drawn with one system call. */
void random_id(uint8_t id[RANDOM_ID]);
uint32_t random_below(uint32_t n); /* uniform in [0, n) */

/* Tests and the sim only: random_below/random_bytes of this thread become a deterministic stream; 0 turns it off. */
void random_seed(uint64_t seed);

#endif
