/* aead_mbedtls.c: AES-GCM where neither GnuTLS nor AES instructions with libsodium are there. Slow, but TLS 1.3 and links need it. */
#include <beam/beam.h>
#include <mbedtls/gcm.h>
#include <stdlib.h>

#include "tls/aead.h"

struct mbedtls_aead {
  struct aead base;
  mbedtls_gcm_context gcm;
};

static void release(struct aead *base) {
  struct mbedtls_aead *a = (struct mbedtls_aead *)base;
  mbedtls_gcm_free(&a->gcm); /* wipes */
  free(a);
}

static int make(enum aead_kind kind, const uint8_t *key, struct aead **out) {
  if (kind == AEAD_CHACHA20_POLY1305)
    return BEAM_ERR_UNSUPPORTED;
  struct mbedtls_aead *a = calloc(1, sizeof *a);
  if (!a)
    return BEAM_ERR_NOMEM;
  a->base.ops = &aead_mbedtls;
  mbedtls_gcm_init(&a->gcm);
  if (mbedtls_gcm_setkey(&a->gcm, MBEDTLS_CIPHER_ID_AES, key, (unsigned)aead_key_size(kind) * 8)) {
    release(&a->base);
    return BEAM_ERR_NOMEM;
  }
  *out = &a->base;
  return 0;
}

static int seal(struct aead *base, const uint8_t *nonce, const uint8_t *ad, size_t adn, const uint8_t *in,
                size_t n, uint8_t *out) {
  struct mbedtls_aead *a = (struct mbedtls_aead *)base;
  return mbedtls_gcm_crypt_and_tag(&a->gcm, MBEDTLS_GCM_ENCRYPT, n, nonce, AEAD_NONCE, ad, adn, in, out,
                                   AEAD_TAG, out + n)
             ? BEAM_ERR_INTERNAL
             : 0;
}

static int open(struct aead *base, const uint8_t *nonce, const uint8_t *ad, size_t adn, const uint8_t *in,
                size_t n, uint8_t *out) {
  struct mbedtls_aead *a = (struct mbedtls_aead *)base;
  return n < AEAD_TAG || mbedtls_gcm_auth_decrypt(&a->gcm, n - AEAD_TAG, nonce, AEAD_NONCE, ad, adn,
                                                  in + n - AEAD_TAG, AEAD_TAG, in, out)
             ? BEAM_ERR_PROTOCOL
             : 0;
}

const struct aead_ops aead_mbedtls = {"mbedtls", make, seal, open, release};
