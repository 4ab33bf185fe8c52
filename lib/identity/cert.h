/* cert.h: a certificate chain and its private key as plain bytes; immutable, refcounted, any thread. No type of a TLS library shows. */
#ifndef IDENTITY_CERT_H
#define IDENTITY_CERT_H

#include <beam/beam.h>
#include <stdatomic.h>
#include <stdbool.h>

struct der {
  uint8_t *p;
  size_t n;
};

enum { CERT_CHAIN_MAX = 8 };

struct cert {
  _Atomic unsigned refs;
  char *chain;                   /* PEM text, leaf first */
  unsigned chain_n;              /* certificates in it */
  struct der leaf;               /* the first one's DER */
  struct der key;                /* DER, SEC1 or PKCS#8; wiped when freed */
  int64_t not_before, not_after; /* of the leaf, seconds since 1970 */
  uint8_t fingerprint[32];       /* SHA-256 of the leaf's DER */
};

struct cert *cert_ref(struct cert *c);
void cert_unref(struct cert *c); /* NULL accepted */

/* The owner's certificate and key from PEM files (--tls-cert/--tls-key). Refused with text: unreadable, no certificate inside, encrypted key,
 * key of another certificate, expired or not yet valid, over CERT_CHAIN_MAX. Errors: INVALID, NOT_FOUND, PERMISSION, NOMEM. */
int cert_load(const char *cert_file, const char *key_file, struct cert **out, struct beam_error *e);

/* Does the leaf cover this host name (or address)? Wildcards stand for exactly one label (RFC 6125 6.4.3). */
bool cert_covers(const struct cert *c, const char *host);

/* "sha256:HEX" (colons between bytes and upper case accepted) or a PEM file with one CA certificate -> its fingerprint. INVALID, NOT_FOUND, PERMISSION. */
int fingerprint_of(const char *text_or_file, uint8_t out[32], struct beam_error *e);
enum { FINGERPRINT_TEXT = 7 + 64 + 1 };
void fingerprint_text(char out[FINGERPRINT_TEXT], const uint8_t fp[32]); /* "sha256:..." in lower case */

#endif
