/* pki.h: certificates made on the spot for the tests of tls/. */
#ifndef TEST_PKI_H
#define TEST_PKI_H

#include <mbedtls/pk.h>
#include <stddef.h>
#include <stdint.h>

#include "tls/tls.h"

struct pki_cert {
  char pem[8192]; /* the certificate, and for a leaf of pki_leaf the CA after it */
  char key_pem[1024];
  uint8_t sha256[32];
  mbedtls_pk_context key;
};

enum { PKI_SERVER = 1, PKI_CLIENT = 2, PKI_EXPIRED = 4 };
void pki_ca(struct pki_cert *ca, const char *name);
/* dns, and address ("127.0.0.1") may be NULL. */
void pki_leaf(const struct pki_cert *ca, const char *ca_name, struct pki_cert *leaf, const char *dns,
              const char *address, int flags);
void pki_free(struct pki_cert *c);
struct tls_cert *pki_tls_cert(const struct pki_cert *c);

#endif
