/* keys.c: from traffic secrets to keys, and from one generation to the next (RFC 8446 7.1 to 7.3). */
#include "tls/keys.h"

#include <beam/beam.h>
#include <mbedtls/hkdf.h>
#include <sodium.h>
#include <string.h>

size_t suite_hash_size(uint16_t suite) {
  switch (suite) {
  case TLS_AES_256_GCM_SHA384:
    return 48;
  case TLS_AES_128_GCM_SHA256:
  case TLS_CHACHA20_POLY1305_SHA256:
    return 32;
  default:
    return 0;
  }
}

static enum aead_kind suite_aead(uint16_t suite) {
  return suite == TLS_AES_128_GCM_SHA256   ? AEAD_AES_128_GCM
         : suite == TLS_AES_256_GCM_SHA384 ? AEAD_AES_256_GCM
                                           : AEAD_CHACHA20_POLY1305;
}

int expand_label(uint16_t suite, const uint8_t *secret, const char *label, uint8_t *out, size_t n) {
  static const char prefix[] = "tls13 ";
  uint8_t info[64];
  size_t hash = suite_hash_size(suite), label_n = strlen(label), k = 0;
  if (!hash || sizeof prefix - 1 + label_n + 4 > sizeof info || n > 255)
    return BEAM_ERR_INTERNAL;
  info[k++] = 0;
  info[k++] = (uint8_t)n;
  info[k++] = (uint8_t)(sizeof prefix - 1 + label_n);
  memcpy(info + k, prefix, sizeof prefix - 1);
  k += sizeof prefix - 1;
  memcpy(info + k, label, label_n);
  k += label_n;
  info[k++] = 0; /* no context */
  const mbedtls_md_info_t *md = mbedtls_md_info_from_type(hash == 48 ? MBEDTLS_MD_SHA384 : MBEDTLS_MD_SHA256);
  return mbedtls_hkdf_expand(md, secret, hash, info, k, out, n) ? BEAM_ERR_INTERNAL : 0;
}

int half_expand(struct record_half *h, uint16_t suite) {
  uint8_t key[AEAD_KEY_MAX];
  enum aead_kind kind = suite_aead(suite);
  struct aead *fresh = NULL;
  int err = expand_label(suite, h->secret, "key", key, aead_key_size(kind));
  if (!err)
    err = expand_label(suite, h->secret, "iv", h->iv, sizeof h->iv);
  if (!err)
    err = aead_new(kind, key, NULL, &fresh);
  sodium_memzero(key, sizeof key);
  if (err)
    return err;
  aead_free(h->aead);
  h->aead = fresh;
  h->seq = 0;
  return 0;
}

int half_roll(struct record_half *h, uint16_t suite) {
  uint8_t next[SECRET_MAX];
  int err = expand_label(suite, h->secret, "traffic upd", next, suite_hash_size(suite));
  if (err)
    return err;
  memcpy(h->secret, next, suite_hash_size(suite));
  sodium_memzero(next, sizeof next);
  return half_expand(h, suite);
}

void half_wipe(struct record_half *h) {
  aead_free(h->aead);
  sodium_memzero(h, sizeof *h);
}
