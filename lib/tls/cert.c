/* cert.c: a certificate chain with its private key, parsed once and shared by connections and threads. */
#include <beam/beam.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "tls/context.h"

static bool is_pem(const void *p, size_t n) {
  static const char mark[] = "-----BEGIN ";
  return n > sizeof mark && memmem(p, n, mark, sizeof mark - 1) != NULL;
}

/* mbedTLS wants PEM with a terminating NUL that is counted. */
static unsigned char *terminated(const void *p, size_t n) {
  unsigned char *copy = malloc(n + 1);
  if (copy) {
    memcpy(copy, p, n);
    copy[n] = 0;
  }
  return copy;
}

int tls_parse_chain(mbedtls_x509_crt *chain, const void *p, size_t n) {
  if (!is_pem(p, n))
    return mbedtls_x509_crt_parse_der(chain, p, n) ? BEAM_ERR_INVALID : 0;
  unsigned char *copy = terminated(p, n);
  if (!copy)
    return BEAM_ERR_NOMEM;
  int err = mbedtls_x509_crt_parse(chain, copy, n + 1); /* > 0: that many were unreadable */
  free(copy);
  return err == MBEDTLS_ERR_X509_ALLOC_FAILED ? BEAM_ERR_NOMEM : err ? BEAM_ERR_INVALID : 0;
}

static int parse_key(mbedtls_pk_context *key, const void *p, size_t n) {
  if (!is_pem(p, n))
    return mbedtls_pk_parse_key(key, p, n, NULL, 0, tls_rng, NULL) ? BEAM_ERR_INVALID : 0;
  unsigned char *copy = terminated(p, n);
  if (!copy)
    return BEAM_ERR_NOMEM;
  int err = mbedtls_pk_parse_key(key, copy, n + 1, NULL, 0, tls_rng, NULL);
  sodium_memzero(copy, n);
  free(copy);
  return err ? BEAM_ERR_INVALID : 0;
}

int tls_cert_new(const void *chain, size_t chain_n, const void *key, size_t key_n, struct tls_cert **out) {
  int err = tls_init();
  if (err)
    return err;
  struct tls_cert *c = calloc(1, sizeof *c);
  if (!c)
    return BEAM_ERR_NOMEM;
  atomic_init(&c->refs, 1);
  mbedtls_x509_crt_init(&c->chain);
  mbedtls_pk_init(&c->key);
  err = tls_parse_chain(&c->chain, chain, chain_n);
  if (!err)
    err = parse_key(&c->key, key, key_n);
  if (!err && mbedtls_pk_check_pair(&c->chain.pk, &c->key, tls_rng, NULL))
    err = BEAM_ERR_INVALID;
  if (err) {
    tls_cert_unref(c);
    return err;
  }
  *out = c;
  return 0;
}

struct tls_cert *tls_cert_ref(struct tls_cert *c) {
  if (c)
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
  return c;
}

void tls_cert_unref(struct tls_cert *c) {
  if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
    return;
  mbedtls_x509_crt_free(&c->chain);
  mbedtls_pk_free(&c->key); /* wipes */
  free(c);
}

const uint8_t *tls_cert_leaf(const struct tls_cert *c, size_t *n) {
  *n = c->chain.raw.len;
  return c->chain.raw.p;
}

void tls_cert_fingerprint(const struct tls_cert *c, uint8_t out[32]) {
  crypto_hash_sha256(out, c->chain.raw.p, c->chain.raw.len);
}

const uint8_t *tls_cert_chain(const struct tls_cert *c, size_t i, size_t *n) {
  const mbedtls_x509_crt *crt = &c->chain;
  while (crt && i--)
    crt = crt->next;
  *n = crt ? crt->raw.len : 0;
  return crt ? crt->raw.p : NULL;
}

int tls_cert_key(struct tls_cert *c, uint8_t *out, size_t cap, size_t *n) {
  int len = mbedtls_pk_write_key_der(&c->key, out, cap); /* at the end of `out` */
  if (len <= 0) {
    sodium_memzero(out, cap);
    return BEAM_ERR_TOO_LARGE;
  }
  memmove(out, out + cap - (size_t)len, (size_t)len);
  sodium_memzero(out + len, cap - (size_t)len);
  *n = (size_t)len;
  return 0;
}
