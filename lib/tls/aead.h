/* aead.h: the three AEADs of TLS 1.3 (RFC 8446 B.4) over whichever library does each fastest on this machine.
 *
 *   AES-GCM            GnuTLS where it is built in, else libsodium (AES-256 and AES instructions only), else mbedTLS
 *   ChaCha20-Poly1305  libsodium
 */
#ifndef TLS_AEAD_H
#define TLS_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum aead_kind { AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305 };
enum { AEAD_KEY_MAX = 32, AEAD_NONCE = 12, AEAD_TAG = 16 };

struct aead; /* an expanded key; one thread at a time */

/* What a library brings. The first member of its `struct aead` is a pointer to this. */
struct aead_ops {
  const char *name;
  int (*make)(enum aead_kind kind, const uint8_t *key, struct aead **out); /* UNSUPPORTED: ask the next one */
  int (*seal)(struct aead *a, const uint8_t *nonce, const uint8_t *ad, size_t adn, const uint8_t *in,
              size_t n, uint8_t *out);
  int (*open)(struct aead *a, const uint8_t *nonce, const uint8_t *ad, size_t adn, const uint8_t *in,
              size_t n, uint8_t *out);
  void (*free)(struct aead *a);
};
extern const struct aead_ops aead_sodium, aead_gnutls, aead_mbedtls;
struct aead {
  const struct aead_ops *ops;
};

static inline size_t aead_key_size(enum aead_kind kind) {
  return kind == AEAD_AES_128_GCM ? 16 : 32;
}
bool aead_aes_is_fast(void); /* this machine has AES instructions */

/* NOMEM; UNSUPPORTED when no library of this build has it. `library` (may be NULL) forces one, for tests and the benchmark. */
int aead_new(enum aead_kind kind, const uint8_t *key, const struct aead_ops *library, struct aead **out);
void aead_free(struct aead *a); /* wipes; NULL is accepted */

/* n bytes of plaintext become n + AEAD_TAG; out may be in. 0, or INTERNAL when the library fails. */
static inline int aead_seal(struct aead *a, const uint8_t *nonce, const uint8_t *ad, size_t adn,
                            const uint8_t *in, size_t n, uint8_t *out) {
  return a->ops->seal(a, nonce, ad, adn, in, n, out);
}
/* n (with the tag) bytes become n - AEAD_TAG; out may be in. PROTOCOL: not authentic (out is then undefined). */
static inline int aead_open(struct aead *a, const uint8_t *nonce, const uint8_t *ad, size_t adn,
                            const uint8_t *in, size_t n, uint8_t *out) {
  return a->ops->open(a, nonce, ad, adn, in, n, out);
}

#endif
