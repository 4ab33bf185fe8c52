/* context.h: what certificates, contexts and tickets are inside; for the files of tls/ only. */
#ifndef TLS_CONTEXT_H
#define TLS_CONTEXT_H

#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tls/tls.h"

enum { ALPN_MAX = 8 };

struct tls_cert {
  _Atomic unsigned refs;
  mbedtls_x509_crt chain;
  mbedtls_pk_context key;
};

struct tls_context {
  _Atomic unsigned refs;
  bool server, name_any, alpn_required, resume;
  bool cert_required; /* of the peer */
  enum tls_trust trust;
  mbedtls_ssl_config conf;
  /* Servers: for clients that offer suite_first. A copy of conf with a shorter list of suites; what they point to is conf's. */
  mbedtls_ssl_config conf_first;
  uint16_t suite_first; /* 0: conf serves all */
  mbedtls_x509_crt ca;  /* never absent for mbedTLS: an empty one trusts nobody */
  const char *alpn[ALPN_MAX + 1];
  char *server_name;
  struct tls_cert *(*choose)(void *user, const char *sni);
  tls_verify verify;
  void *user;
  struct tls_tickets *tickets;
  struct tls_cert *cert;
  pthread_mutex_t lock; /* guards the client's last session: */
  bool has_session;
  mbedtls_ssl_session session;
};

/* The random source that mbedTLS is given. */
int tls_rng(void *unused, unsigned char *out, size_t n);

/* --- handshake.c --- */
int handshake_choose_cert(mbedtls_ssl_context *ssl); /* mbedTLS's certificate callback */

/* --- cert.c --- */
int tls_parse_chain(mbedtls_x509_crt *chain, const void *p,
                    size_t n); /* PEM or DER, appended. INVALID, NOMEM */

/* --- tickets.c --- */
int tickets_write(void *tickets, const mbedtls_ssl_session *session, unsigned char *start,
                  const unsigned char *end, size_t *n, uint32_t *lifetime);
int tickets_parse(void *tickets, mbedtls_ssl_session *session, unsigned char *ticket, size_t n);
/* Did tickets_parse accept one since the last call? Of this thread: handshakes do not interleave within a step. */
bool tickets_accepted(void);

/* --- verify.c --- */
struct verdict { /* of one handshake */
  const struct tls_context *ctx;
  bool seen;   /* a chain was looked at */
  bool broken; /* a certificate above the leaf has a fault */
  int err;     /* why it was refused; 0 */
  uint8_t leaf_sha256[32], ca_sha256[32];
};
/* mbedTLS's verification callback; arg is a struct verdict. */
int verdict_on_certificate(void *arg, mbedtls_x509_crt *crt, int depth, uint32_t *flags);
bool name_is_address(const char *name);

#endif
