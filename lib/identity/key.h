/* key.h: an Ed25519 key pair in a file: the device's identity, and the relay's. Immutable once loaded: any thread. */
#ifndef IDENTITY_KEY_H
#define IDENTITY_KEY_H

#include <beam/beam.h>

struct key;
enum { KEY_PUBLIC = 32, KEY_SIGNATURE = 64, KEY_ID = 21 };

/* Load dir/file, or make it (directory 0700, file 0600, atomic) when it is not there. A file that is damaged, readable by others or not
 * readable at all is an error with text and is never overwritten. Errors: INVALID (damaged), PERMISSION, STORE (disk full), SYSTEM, NOMEM. */
int key_load(const char *dir, const char *file, struct key **out, struct beam_error *e);
/* The key of this device: dir/device.key. It is the account of someone who has none. */
int device_load(const char *dir, struct key **out, struct beam_error *e);
/* A key that lives in memory only: tests, the sim. */
int key_ephemeral(struct key **out);
void key_free(struct key *k); /* wipes it; NULL accepted */

const uint8_t *key_public(const struct key *k); /* KEY_PUBLIC bytes */
/* 20 characters of base32 of the public key's SHA-256 ("k3x7-…" without hyphens): names the key for people and as principal in the store. */
const char *key_id(const struct key *k);
void key_id_of(char out[KEY_ID], const uint8_t pub[KEY_PUBLIC]);

void key_sign(const struct key *k, const void *msg, size_t n, uint8_t sig[KEY_SIGNATURE]);
/* 0 or UNTRUSTED. */
int key_verify(const uint8_t pub[KEY_PUBLIC], const void *msg, size_t n, const uint8_t sig[KEY_SIGNATURE]);

#endif
