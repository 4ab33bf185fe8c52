/* aead_sodium.c: libsodium's ChaCha20-Poly1305, and its AES-256-GCM where the processor has AES and carry-less multiplication. */
#include <beam/beam.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "tls/aead.h"

struct sodium_aes {
  struct aead base;
  crypto_aead_aes256gcm_state key; /* expanded; wants 16-byte alignment */
};

struct sodium_chacha {
  struct aead base;
  uint8_t key[crypto_aead_chacha20poly1305_ietf_KEYBYTES];
};

static const struct aead_ops aead_sodium_chacha;

static int make(enum aead_kind kind, const uint8_t *key, struct aead **out) {
  if (kind == AEAD_AES_128_GCM || (kind == AEAD_AES_256_GCM && !crypto_aead_aes256gcm_is_available()))
    return BEAM_ERR_UNSUPPORTED;
  if (kind == AEAD_CHACHA20_POLY1305) {
    struct sodium_chacha *c = malloc(sizeof *c);
    if (!c)
      return BEAM_ERR_NOMEM;
    c->base.ops = &aead_sodium_chacha;
    memcpy(c->key, key, sizeof c->key);
    *out = &c->base;
    return 0;
  }
  struct sodium_aes *a = NULL;
  if (posix_memalign((void **)&a, 64, sizeof *a))
    return BEAM_ERR_NOMEM;
  a->base.ops = &aead_sodium;
  crypto_aead_aes256gcm_beforenm(&a->key, key);
  *out = &a->base;
  return 0;
}

static int aes_seal(struct aead *base, const uint8_t *nonce, const uint8_t *ad, size_t adn, const uint8_t *in,
                    size_t n, uint8_t *out) {
  struct sodium_aes *a = (struct sodium_aes *)base;
  return crypto_aead_aes256gcm_encrypt_afternm(out, NULL, in, n, ad, adn, NULL, nonce, &a->key)
             ? BEAM_ERR_INTERNAL
             : 0;
}

static int aes_open(struct aead *base, const uint8_t *nonce, const uint8_t *ad, size_t adn, const uint8_t *in,
                    size_t n, uint8_t *out) {
  struct sodium_aes *a = (struct sodium_aes *)base;
  return n < AEAD_TAG ||
                 crypto_aead_aes256gcm_decrypt_afternm(out, NULL, NULL, in, n, ad, adn, nonce, &a->key)
             ? BEAM_ERR_PROTOCOL
             : 0;
}

static int chacha_seal(struct aead *base, const uint8_t *nonce, const uint8_t *ad, size_t adn,
                       const uint8_t *in, size_t n, uint8_t *out) {
  struct sodium_chacha *c = (struct sodium_chacha *)base;
  return crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, in, n, ad, adn, NULL, nonce, c->key)
             ? BEAM_ERR_INTERNAL
             : 0;
}

static int chacha_open(struct aead *base, const uint8_t *nonce, const uint8_t *ad, size_t adn,
                       const uint8_t *in, size_t n, uint8_t *out) {
  struct sodium_chacha *c = (struct sodium_chacha *)base;
  return n < AEAD_TAG ||
                 crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, in, n, ad, adn, nonce, c->key)
             ? BEAM_ERR_PROTOCOL
             : 0;
}

static void aes_free(struct aead *base) {
  sodium_memzero(base, sizeof(struct sodium_aes));
  free(base);
}

static void chacha_free(struct aead *base) {
  sodium_memzero(base, sizeof(struct sodium_chacha));
  free(base);
}

const struct aead_ops aead_sodium = {"sodium", make, aes_seal, aes_open, aes_free};
static const struct aead_ops aead_sodium_chacha = {"sodium", make, chacha_seal, chacha_open, chacha_free};
