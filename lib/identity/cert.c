#include "identity/cert.h"

#include <mbedtls/base64.h>
#include <mbedtls/error.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <psa/crypto.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "identity/x509.h"

enum { PEM_MAX = 256 * 1024, KEY_DER_MAX = 8 * 1024 };

/* --- life --- */

struct cert *cert_ref(struct cert *c) {
  atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
  return c;
}

void cert_unref(struct cert *c) {
  if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
    return;
  if (c->key.p)
    sodium_memzero(c->key.p, c->key.n);
  free(c->key.p);
  free(c->leaf.p);
  free(c->chain);
  free(c);
}

/* --- what mbedTLS needs, shared with ca.c --- */

int x509_random(void *unused, unsigned char *p, size_t n) {
  (void)unused;
  random_bytes(p, n);
  return 0;
}

int x509_init(struct beam_error *e) {
  if (base_init() || psa_crypto_init() != PSA_SUCCESS)
    return err_set(e, BEAM_ERR_SYSTEM, NULL, "cryptography cannot be started");
  return 0;
}

const char *x509_why(int code, char *buf, size_t cap) {
  mbedtls_strerror(code, buf, cap);
  return buf;
}

int64_t x509_seconds(const mbedtls_x509_time *t) {
  struct tm tm = {.tm_year = t->year - 1900,
                  .tm_mon = t->mon - 1,
                  .tm_mday = t->day,
                  .tm_hour = t->hour,
                  .tm_min = t->min,
                  .tm_sec = t->sec};
  return (int64_t)timegm(&tm);
}

int x509_pem(const char *begin, const char *end, const void *der, size_t n, char **out) {
  size_t b64 = 4 * ((n + 2) / 3) + 1, room = strlen(begin) + strlen(end) + b64 + b64 / 64 + 8, len = 0,
         used = 0;
  char *flat = malloc(b64), *pem = malloc(room);
  int err = flat && pem ? 0 : BEAM_ERR_NOMEM;
  if (!err && mbedtls_base64_encode((unsigned char *)flat, b64, &used, der, n))
    err = BEAM_ERR_INTERNAL;
  if (!err) {
    str_copy(pem, room, begin);
    len = strlen(pem);
    for (size_t i = 0; i < used; i += 64) {
      size_t k = used - i < 64 ? used - i : 64;
      memcpy(pem + len, flat + i, k);
      len += k;
      pem[len++] = '\n';
    }
    str_copy(pem + len, room - len, end);
  }
  if (flat)
    sodium_memzero(flat, b64);
  free(flat);
  if (err) {
    free(pem);
    return err;
  }
  *out = pem;
  return 0;
}

/* --- making one --- */

static int copy_der(struct der *d, const void *p, size_t n) {
  d->p = malloc(n ? n : 1);
  if (!d->p)
    return BEAM_ERR_NOMEM;
  memcpy(d->p, p, n);
  d->n = n;
  return 0;
}

/* PEM of every certificate of the chain, one after the other. */
static int chain_text(const mbedtls_x509_crt *crt, struct cert *c) {
  size_t len = 0;
  for (; crt && crt->raw.p; crt = crt->next) {
    if (c->chain_n == CERT_CHAIN_MAX)
      return BEAM_ERR_INVALID;
    char *one;
    int err = x509_pem(X509_BEGIN_CERT, X509_END_CERT, crt->raw.p, crt->raw.len, &one);
    if (err)
      return err;
    size_t n = strlen(one);
    char *all = realloc(c->chain, len + n + 1);
    if (all) {
      memcpy(all + len, one, n + 1);
      c->chain = all;
      len += n;
      c->chain_n++;
    }
    free(one);
    if (!all)
      return BEAM_ERR_NOMEM;
  }
  return 0;
}

int cert_from(const mbedtls_x509_crt *chain, mbedtls_pk_context *key, struct cert **out) {
  *out = NULL;
  struct cert *c = calloc(1, sizeof *c);
  if (!c)
    return BEAM_ERR_NOMEM;
  atomic_init(&c->refs, 1);
  uint8_t der[KEY_DER_MAX];
  int n = mbedtls_pk_write_key_der(key, der, sizeof der);
  int err = n > 0 ? copy_der(&c->key, der + sizeof der - n, (size_t)n) : BEAM_ERR_INVALID;
  sodium_memzero(der, sizeof der);
  if (!err)
    err = copy_der(&c->leaf, chain->raw.p, chain->raw.len);
  if (!err)
    err = chain_text(chain, c);
  if (err) {
    cert_unref(c);
    return err;
  }
  c->not_before = x509_seconds(&chain->valid_from);
  c->not_after = x509_seconds(&chain->valid_to);
  crypto_hash_sha256(c->fingerprint, c->leaf.p, c->leaf.n);
  *out = c;
  return 0;
}

/* --- the owner's files --- */

static int parse_chain(const char *file, mbedtls_x509_crt *crt, struct beam_error *e) {
  char *text, why[128];
  size_t n;
  int err = file_read(file, PEM_MAX, &text, &n, e);
  if (err)
    return err;
  int code = mbedtls_x509_crt_parse(crt, (unsigned char *)text, n + 1); /* PEM counts its NUL */
  free(text);
  if (code < 0)
    return err_set(e, BEAM_ERR_INVALID, "give a PEM file with the certificate first, then those above it",
                   "%s holds no certificate that can be read: %s", file, x509_why(code, why, sizeof why));
  if (code > 0)
    return err_set(e, BEAM_ERR_INVALID, "write the file anew", "%d of the certificates in %s cannot be read",
                   code, file);
  return 0;
}

static int parse_key(const char *file, mbedtls_pk_context *key, struct beam_error *e) {
  char *text, why[128];
  size_t n;
  int err = file_read(file, PEM_MAX, &text, &n, e);
  if (err)
    return err;
  int code = mbedtls_pk_parse_key(key, (unsigned char *)text, n + 1, NULL, 0, x509_random, NULL);
  sodium_memzero(text, n);
  free(text);
  if (code == MBEDTLS_ERR_PK_PASSWORD_REQUIRED || code == MBEDTLS_ERR_PK_PASSWORD_MISMATCH)
    return err_set(e, BEAM_ERR_INVALID, "take the password off: openssl pkey -in KEY -out NEW",
                   "the key in %s is encrypted", file);
  if (code)
    return err_set(e, BEAM_ERR_INVALID, "give the private key that belongs to the certificate, as PEM",
                   "%s holds no key that can be read: %s", file, x509_why(code, why, sizeof why));
  return 0;
}

static int check_pair(const char *cert_file, const char *key_file, mbedtls_x509_crt *crt,
                      mbedtls_pk_context *key, struct beam_error *e) {
  if (mbedtls_pk_check_pair(&crt->pk, key, x509_random, NULL))
    return err_set(e, BEAM_ERR_INVALID,
                   "give the key that the certificate was made for; the certificate comes first in its file",
                   "the key in %s is not the one of the certificate in %s", key_file, cert_file);
  int64_t now = (int64_t)time(NULL);
  if (x509_seconds(&crt->valid_to) <= now)
    return err_set(e, BEAM_ERR_INVALID, "renew it", "the certificate in %s expired on %04d-%02d-%02d",
                   cert_file, crt->valid_to.year, crt->valid_to.mon, crt->valid_to.day);
  if (x509_seconds(&crt->valid_from) > now)
    return err_set(e, BEAM_ERR_INVALID, "check this machine's clock",
                   "the certificate in %s is valid from %04d-%02d-%02d on only", cert_file,
                   crt->valid_from.year, crt->valid_from.mon, crt->valid_from.day);
  return 0;
}

int cert_load(const char *cert_file, const char *key_file, struct cert **out, struct beam_error *e) {
  *out = NULL;
  int err = x509_init(e);
  if (err)
    return err;
  mbedtls_x509_crt crt;
  mbedtls_pk_context key;
  mbedtls_x509_crt_init(&crt);
  mbedtls_pk_init(&key);
  err = parse_chain(cert_file, &crt, e);
  if (!err)
    err = parse_key(key_file, &key, e);
  if (!err)
    err = check_pair(cert_file, key_file, &crt, &key, e);
  if (!err && (err = cert_from(&crt, &key, out)))
    err_set(e, err, NULL, "%s: %s", cert_file,
            err == BEAM_ERR_INVALID ? "more certificates than a chain needs, or a key that is too large"
                                    : "no memory");
  mbedtls_pk_free(&key);
  mbedtls_x509_crt_free(&crt);
  return err;
}

/* --- names --- */

/* One name of a certificate against a host, both as text; "*" only as the whole first label, for exactly one label. */
static bool name_fits(struct span pattern, struct span host) {
  if (span_ieq(pattern, host))
    return true;
  if (pattern.n < 3 || memcmp(pattern.p, "*.", 2))
    return false;
  const char *dot = memchr(host.p, '.', host.n);
  if (!dot || dot == host.p)
    return false;
  return span_ieq((struct span){pattern.p + 1, pattern.n - 1},
                  (struct span){dot, host.n - (size_t)(dot - host.p)});
}

bool cert_covers(const struct cert *c, const char *host) {
  mbedtls_x509_crt crt;
  mbedtls_x509_crt_init(&crt);
  uint8_t ip[16];
  size_t ip_n = x509_ip(host, ip);
  bool yes = false;
  if (mbedtls_x509_crt_parse_der(&crt, c->leaf.p, c->leaf.n) == 0) {
    for (const mbedtls_x509_sequence *s = &crt.subject_alt_names; s && s->buf.p && !yes; s = s->next) {
      struct span v = {(const char *)s->buf.p, s->buf.len};
      unsigned kind = s->buf.tag & 0x1f;
      if (ip_n)
        yes = kind == MBEDTLS_X509_SAN_IP_ADDRESS && v.n == ip_n && !memcmp(v.p, ip, ip_n);
      else
        yes = kind == MBEDTLS_X509_SAN_DNS_NAME && name_fits(v, span_of(host));
    }
  }
  mbedtls_x509_crt_free(&crt);
  return yes;
}

/* --- fingerprints --- */

void fingerprint_text(char out[FINGERPRINT_TEXT], const uint8_t fp[32]) {
  memcpy(out, "sha256:", 7);
  hex_encode(out + 7, fp, 32);
}

/* 64 hex digits of any case, with or without colons between the bytes. */
static bool parse_hex(const char *s, uint8_t out[32]) {
  char hex[64];
  size_t n = 0;
  for (; *s; s++) {
    if (*s == ':' && n && n % 2 == 0 && s[-1] != ':' && s[1])
      continue;
    if (n == sizeof hex)
      return false;
    hex[n++] = *s >= 'A' && *s <= 'F' ? (char)(*s | 0x20) : *s;
  }
  return n == sizeof hex && hex_decode(out, 32, (struct span){hex, sizeof hex});
}

int fingerprint_of(const char *text_or_file, uint8_t out[32], struct beam_error *e) {
  if (!strncasecmp(text_or_file, "sha256:", 7)) {
    if (parse_hex(text_or_file + 7, out))
      return 0;
    return err_set(e, BEAM_ERR_INVALID, "give sha256: and 64 hexadecimal digits", "not a fingerprint: %.100s",
                   text_or_file);
  }
  int err = x509_init(e);
  if (err)
    return err;
  mbedtls_x509_crt crt;
  mbedtls_x509_crt_init(&crt);
  err = parse_chain(text_or_file, &crt, e);
  if (!err && crt.next)
    err = err_set(e, BEAM_ERR_INVALID, "give the relay's ca.pem", "%s holds more than one certificate",
                  text_or_file);
  if (!err && !mbedtls_x509_crt_get_ca_istrue(&crt))
    err = err_set(e, BEAM_ERR_INVALID, "give the relay's ca.pem", "the certificate in %s is not that of a CA",
                  text_or_file);
  if (!err)
    crypto_hash_sha256(out, crt.raw.p, crt.raw.len);
  mbedtls_x509_crt_free(&crt);
  return err;
}
