/* tls.h: TLS over any stream. tls_accept() and tls_connect() take a stream and give back one that carries the plaintext.
 *
 *   lower stream ──► handshake (mbedTLS) ──► tls_done(s) ── TLS 1.3: own records (records.h), the mbedTLS context is gone
 *        │                  │                          └── TLS 1.2: mbedTLS's records, the same stream contract
 *        └ owned from here  └ fails: alert sent, lower closed, tls_done(err)
 *
 * The stream ("tls"): stream_finish() sends close_notify and half-closes; the peer's close_notify is stream_at_end(); the lower stream's
 * end without one is closed(BEAM_ERR_TRUNCATED). Writes of one loop turn leave together.
 * Threads: certificates, tickets and contexts are immutable or locked and may be shared between threads; everything else stays on its loop.
 */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/stream.h"

struct tls;         /* a handshake under way */
struct tls_cert;    /* a certificate chain with its private key */
struct tls_context; /* one side's settings, built once, used by many connections */
struct tls_tickets; /* the keys that seal session tickets */

enum { TLS_1_2 = 0x0303, TLS_1_3 = 0x0304 };
enum { TLS_EXPORT_BYTES = 32 };

/* Once per process before anything else here; any thread, again and again. 0 or SYSTEM. (The functions below that can fail do it themselves.) */
int tls_init(void);

/* --- certificates: immutable, refcounted, any thread --- */
/* `chain` is PEM (one or more certificates, leaf first) or one DER certificate; `key` is PEM or DER (PKCS#8, SEC1). Both are copied.
 * INVALID: unreadable, or the key does not belong to the leaf. NOMEM. */
int tls_cert_new(const void *chain, size_t chain_n, const void *key, size_t key_n, struct tls_cert **out);
struct tls_cert *tls_cert_ref(struct tls_cert *c);                    /* c; NULL is accepted */
void tls_cert_unref(struct tls_cert *c);                              /* NULL is accepted */
const uint8_t *tls_cert_leaf(const struct tls_cert *c, size_t *n);    /* DER, borrowed */
void tls_cert_fingerprint(const struct tls_cert *c, uint8_t out[32]); /* SHA-256 of the leaf's DER */
/* The i-th certificate, 0 the leaf: DER, borrowed; NULL: there are no more. */
const uint8_t *tls_cert_chain(const struct tls_cert *c, size_t i, size_t *n);
/* The private key as DER, for another TLS library (quic/): a secret, which the caller wipes. TOO_LARGE: over cap. */
enum { TLS_CERT_KEY_MAX = 4096 };
int tls_cert_key(struct tls_cert *c, uint8_t *out, size_t cap, size_t *n);

/* --- what is known of a peer's chain, leaf first; borrowed for the call --- */
enum { TLS_CHAIN_MAX = 8 };
struct tls_peer {
  size_t count; /* 0: the peer showed none */
  struct {
    const uint8_t *der;
    size_t n;
  } chain[TLS_CHAIN_MAX];
  uint8_t leaf_sha256[32];
  uint8_t
      ca_sha256[32]; /* of the certificate the chain was verified up to (TLS_TRUST_ANY: of its last one) */
};

enum tls_trust {
  TLS_TRUST_CA, /* the chain leads to one of `ca`, and (clients) the leaf covers server_name unless name_any */
  TLS_TRUST_CHAIN, /* the chain is sound up to the self-signed certificate it ends with; verify() decides about that one: pins */
  TLS_TRUST_ANY, /* nothing is checked but that the peer holds the leaf's key; verify() decides */
};

/* After the checks above passed. 0 goes on; a beam_err (UNTRUSTED, DENIED, ...) fails the handshake with it. May be NULL, but not with TLS_TRUST_CHAIN.
 * Only a hint until tls_done: the handshake may still fail, and whether the peer holds the leaf's key is seen after it. */
typedef int (*tls_verify)(void *user, const struct tls_peer *peer);

struct tls_server_config {
  const char *const *
      alpn; /* NULL-terminated, in order of preference; NULL: none. A client whose offer has none of them is refused */
  /* Called in the handshake with the client's server name, lower case, "" when there is none. Returns a reference, which tls gives back
   * (use tls_cert_ref), or NULL: the handshake fails with unrecognized_name. Must not call back into this connection. */
  struct tls_cert *(*choose)(void *user, const char *sni);
  struct tls_tickets *tickets; /* a reference is taken; NULL: no resumption */
  enum { TLS_CLIENT_CERT_NONE, TLS_CLIENT_CERT_OPTIONAL, TLS_CLIENT_CERT_REQUIRED } client_cert;
  enum tls_trust trust; /* of client certificates */
  const void *ca;       /* PEM or DER, copied */
  size_t ca_n;
  tls_verify verify;
  uint16_t min_version; /* 0: TLS_1_2 */
  bool link;            /* beam/1: TLS 1.3, TLS_AES_256_GCM_SHA384 and ephemeral keys only, no tickets */
  void *user;           /* of choose and verify */
};

struct tls_client_config {
  const char *const
      *alpn; /* NULL-terminated; a server that picks none of them is refused when `alpn_required` */
  bool alpn_required;
  const char *
      server_name; /* sent as SNI when it is a name; checked against the leaf (names and addresses) with TLS_TRUST_CA */
  bool name_any; /* do not check the name */
  enum tls_trust trust;
  const void *ca; /* PEM (one or more) or DER, copied */
  size_t ca_n;
  bool
      ca_some; /* those of `ca` that cannot be read are left out, as long as one can: a system's collection */
  tls_verify verify;
  struct tls_cert *cert; /* the client's own; a reference is taken; NULL: none */
  uint16_t min_version;  /* 0: TLS_1_2 */
  bool link;             /* as above */
  bool resume;           /* keep the last ticket in the context and use it for the next connection */
  void *user;            /* of verify */
};

/* INVALID: the CA is unreadable, or the settings contradict each other. NOMEM, SYSTEM. */
int tls_server_context(const struct tls_server_config *config, struct tls_context **out);
int tls_client_context(const struct tls_client_config *config, struct tls_context **out);
struct tls_context *tls_context_ref(struct tls_context *c);
void tls_context_unref(struct tls_context *c); /* NULL is accepted; connections keep their own reference */

/* --- session tickets: shared between workers, any thread --- */
int tls_tickets_new(struct tls_tickets **out); /* fresh random keys; they rotate by themselves */
struct tls_tickets *tls_tickets_ref(struct tls_tickets *t);
void tls_tickets_unref(struct tls_tickets *t);
/* The keys as a secret blob, to be kept in a file of mode 0600 so that sessions survive a restart. Export again after a rotation:
 * tls_tickets_epoch() changes with each. import: INVALID leaves the keys as they were; expired keys are dropped. */
enum { TLS_TICKETS_BLOB = 128 };
void tls_tickets_export(struct tls_tickets *t, uint8_t out[TLS_TICKETS_BLOB]);
int tls_tickets_import(struct tls_tickets *t, const uint8_t *blob, size_t n);
uint64_t tls_tickets_epoch(struct tls_tickets *t);

/* --- connections --- */
struct tls_info {   /* borrowed for the call */
  uint16_t version; /* TLS_1_2, TLS_1_3 */
  uint16_t cipher;  /* as registered, 0x1302 */
  const char *cipher_name;
  char alpn[32]; /* "" when none was agreed */
  char sni[256]; /* server: what the client asked for, lower case */
  bool resumed;
  bool has_peer;           /* the peer showed a certificate (now, or in the session that was resumed) */
  uint8_t peer_sha256[32]; /* of its leaf */
  uint8_t ca_sha256[32];   /* as in tls_peer; zero when resumed */
};

/* The outcome, once, from the task queue: a stream to own (err 0; stream_own() it before returning), or why not: TLS (the log line says
 * what), UNTRUSTED, TIMEOUT (LIMIT_HANDSHAKE_MS), TRUNCATED, RESET, PROTOCOL (no TLS, or no common ALPN), NOMEM, or what verify() returned. With an
 * error s and info are NULL, and the lower stream has been closed.
 * In TLS 1.3 a client is done before the server has judged its certificate: a refusal then comes as closed(BEAM_ERR_RESET). */
typedef void (*tls_done)(void *user, int err, struct stream *s, const struct tls_info *info);

/* Both take `lower`, also when they fail (then it is closed). Bytes that wait in its input already are read first. The context is
 * referenced. `out` (may be NULL) is for tls_cancel() and is gone when `done` is called. NOMEM, TLS. */
int tls_accept(struct stream *lower, struct tls_context *ctx, tls_done done, void *user, struct tls **out);
int tls_connect(struct stream *lower, struct tls_context *ctx, tls_done done, void *user, struct tls **out);
void tls_cancel(struct tls *t); /* before done, which does not come then; closes the lower stream */

/* Keying material of the connection, RFC 8446 7.5 / RFC 5705, label "EXPORTER-beam-1", empty context: what HELLO is bound to. UNSUPPORTED
 * when s is no TLS stream or is TLS 1.2. */
int tls_exporter(struct stream *s, uint8_t out[TLS_EXPORT_BYTES]);

#endif
