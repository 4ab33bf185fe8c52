/* x509.h: what cert.c and ca.c share about mbedTLS. Not for other folders. */
#ifndef IDENTITY_X509_H
#define IDENTITY_X509_H

#include <mbedtls/x509_crt.h>

#include "identity/ca.h"

#define X509_BEGIN_CERT "-----BEGIN CERTIFICATE-----\n"
#define X509_END_CERT "-----END CERTIFICATE-----\n"
#define X509_BEGIN_KEY "-----BEGIN EC PRIVATE KEY-----\n"
#define X509_END_KEY "-----END EC PRIVATE KEY-----\n"

int x509_init(struct beam_error *e);                       /* once or often; SYSTEM */
int x509_random(void *unused, unsigned char *p, size_t n); /* mbedTLS's f_rng, on base/random */
const char *x509_why(int code, char *buf, size_t cap);     /* mbedTLS's error as text */
int64_t x509_seconds(const mbedtls_x509_time *t);          /* UTC -> seconds since 1970 */
size_t x509_ip(const char *host, uint8_t ip[16]); /* 4 or 16 bytes of an address literal, 0: not one */
int x509_pem(const char *begin, const char *end, const void *der, size_t n,
             char **out); /* the caller frees it; NOMEM */
/* Copies both. INVALID: chain or key too large. NOMEM. */
int cert_from(const mbedtls_x509_crt *chain, mbedtls_pk_context *key, struct cert **out);

/* What a leaf is to say; the rest comes from the CA. */
struct leaf_plan {
  mbedtls_x509_san_list *names;
  mbedtls_asn1_sequence usage; /* of the key: server or client */
  char subject[80];
  int64_t seconds;
  bool with_ca; /* the CA's certificate follows the leaf */
};
/* Returns 0 or mbedTLS's error. Any thread. */
int ca_sign(struct ca *ca, struct leaf_plan *plan, mbedtls_pk_context *key, mbedtls_x509_crt *out);

#endif
