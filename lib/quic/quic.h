/* quic.h: QUIC connections (RFC 9000) with streams that keep the stream contract, and datagrams (RFC 9221). ngtcp2 and GnuTLS are caged in this folder.
 *
 *   endpoint (one UDP socket of one loop) ── packets by connection id ──► conn ──► streams (struct stream, kind "quic")
 *
 * Serves beam/1 links (link/quic.c) and, later, HTTP/3 visitors: nothing of either is in here.
 * Everything lives on the endpoint's loop; only packets for another worker leave it (forward). All callbacks come from the task queue.
 */
#ifndef QUIC_QUIC_H
#define QUIC_QUIC_H

#include "io/stream.h"
#include "io/udp.h"
#include "tls/tls.h"

struct quic_endpoint;
struct quic_conn;

struct quic_conn_events {
  void (*ready)(
      void *
          user); /* the handshake is complete; a client hears of a server's refusal of its certificate only later */
  /* The peer opened it: the callee owns it. Bytes may not have arrived yet. Unidirectional ones that the peer opened cannot be written. */
  void (*stream)(void *user, struct stream *s, bool bidi);
  void (*datagram)(void *user, const uint8_t *p, size_t n); /* borrowed. May be NULL */
  void (*datagram_room)(void *user);                        /* after AGAIN. May be NULL */
  /* Once; streams were told before or are being told. Then quic_conn_close() it. */
  void (*closed)(void *user, int reason);
};

/* Application error codes: on streams and at the end of a connection. 0 is "in order" and never asked for. */
struct quic_codes {
  uint64_t (*of)(int reason);   /* a beam_err */
  int (*reason)(uint64_t code); /* a beam_err */
};
/* beam/1's: 0x00BEA000 + -beam_err. The default. */
extern const struct quic_codes quic_codes_beam;

struct quic_server_conf {
  struct udp_net *net;     /* NULL: the kernel's */
  const char *const *alpn; /* NULL-terminated; kept, not copied */
  /* Pick the certificate by server name (lower case, "" when there is none) and ALPN: a reference, which quic gives back, or NULL: the
   * handshake fails. From inside the handshake: must not call back into quic. */
  struct tls_cert *(*choose)(void *user, const char *sni, const char *alpn);
  /* A handshake is complete: take the connection by quic_conn_own(), or quic_conn_close() it. */
  void (*accept)(void *user, struct quic_conn *c);
  /* Ask for a certificate; none shown is fine. One that is shown leads to `ca` (PEM or DER, kept, not copied; TLS_TRUST_CA), or without that to whatever its chain ends with
   * (TLS_TRUST_CHAIN), then it goes to verify(), which may be NULL with a CA. quic_conn_client() says what was shown. */
  bool client_cert;
  const void *ca;
  size_t ca_n;
  tls_verify verify;
  unsigned worker; /* carried in connection ids, below 256 */
  /* A packet for another worker: the relay posts it there, where quic_endpoint_inject() takes it. NULL: there is none. */
  void (*forward)(void *user, unsigned worker, const uint8_t *p, size_t n, uint8_t ecn,
                  const struct sockaddr_storage *from, const struct sockaddr_storage *to);
  const uint8_t *
      reset_key; /* 32 bytes, copied; the same for all workers and after a restart: connection ids, resets, Retry. NULL: random */
  unsigned peer_bidi, peer_uni; /* streams the peer may have open at a time; see quic_conn_allow() */
  bool cubic;                   /* else BBR, which fills a lossy path and leaves a deep queue short */
  /* Clients that agreed on this ALPN may resume, and say LIMIT_QUIC_EARLY bytes on their first stream before the handshake is over. Those may be a replay:
   * so no other gets a ticket. NULL: nobody does. */
  const char *tickets;
  bool always_retry; /* else when many handshakes are under way */
  void *user;
};
/* IN_USE, PERMISSION, INVALID, NOMEM, SYSTEM. */
int quic_endpoint_server(struct loop *l, const char *host, uint16_t port, bool reuse_port,
                         const struct quic_server_conf *conf, struct quic_endpoint **out);
uint16_t quic_endpoint_port(const struct quic_endpoint *e);
/* A packet another worker forwarded to us. */
void quic_endpoint_inject(struct quic_endpoint *e, const uint8_t *p, size_t n, uint8_t ecn,
                          const struct sockaddr_storage *from, const struct sockaddr_storage *to);
/* No newcomers any more; connections go on. */
void quic_endpoint_refuse(struct quic_endpoint *e);
/* Connections that are owned still are told closed(CLOSED), and stay their owners' to close. NULL is accepted. */
/* A server's: what its connections use that begin from now on. */
void quic_endpoint_cubic(struct quic_endpoint *e, bool cubic);
void quic_endpoint_close(struct quic_endpoint *e);

struct quic_client_conf {
  struct udp_net *net;
  /* Used of it: alpn (required), server_name, name_any, trust, ca, verify, cert (the client's own), link, user. The pointers must live until
   * ready() or closed(), alpn as long as the connection. */
  struct tls_client_config tls;
  unsigned peer_bidi, peer_uni;
  bool cubic;
  /* What quic_conn_session() gave on a connection to the same peer, or NULL. When the peer takes it, no certificate is shown and verify() does not come: keep who
   * the peer was with the session, and use it for nobody else. When not, the handshake is a full one. */
  const uint8_t *session;
  size_t session_n;
  /* Written at once to the first bidirectional stream, which is what quic_conn_open() then gives. Without a session that allows it, or when the peer does not take it,
   * that stream is empty. Anybody may send it to the peer again. */
  const uint8_t *early;
  size_t early_n;
};
/* The handshake begins in the next turn. INVALID, UNREACHABLE, NOMEM, SYSTEM, TLS. */
int quic_connect(struct loop *l, const struct sockaddr_storage *peer, const struct quic_client_conf *conf,
                 struct quic_conn **out);

void quic_conn_own(struct quic_conn *c, const struct quic_conn_events *ev, void *user);
void quic_conn_codes(struct quic_conn *c, const struct quic_codes *codes); /* static */
/* Kept up to date until the connection is closed: the streams somebody owns, and loop_now() when the peer was last heard. Either may be NULL. */
void quic_conn_watch(struct quic_conn *c, unsigned *streams, uint64_t *heard);
/* Keep *moved up to date: bytes of packets that came and of streams that were sent. NULL: no more; it ends with the connection. */
void quic_conn_count(struct quic_conn *c, uint64_t *moved);
/* Bytes of all its streams that were written and not sent yet. */
size_t quic_conn_queued(const struct quic_conn *c);
/* s does not count among the watched streams: a control channel. */
void quic_stream_uncount(struct stream *s);
int64_t quic_stream_id(const struct stream *s); /* RFC 9000 2.1; -1: QUIC is done with it */
/* AGAIN: not ready; LIMIT: the peer's stream limit; NOMEM: also when the window pool is used up; CLOSED. The peer hears of it at once. */
int quic_conn_open(struct quic_conn *c, bool bidi, struct stream **out);
/* Let the peer open more streams than peer_bidi, peer_uni. */
void quic_conn_allow(struct quic_conn *c, unsigned bidi, unsigned uni);
/* TOO_LARGE; AGAIN (datagram_room() comes, also before ready); UNSUPPORTED: the peer takes none; CLOSED. Sent is not arrived. */
int quic_conn_datagram(struct quic_conn *c, const uint8_t *p, size_t n);
size_t quic_conn_datagram_max(struct quic_conn *c); /* 0: none */
/* s has datagrams of its own (stream_datagram()): those that name it (RFC 9297 section 2.1: a quarter of its number, then the payload). */
void quic_stream_datagrams(struct stream *s);
/* What the connection's datagram() brought, to the stream it names. PROTOCOL: it names none; NOT_FOUND: nobody there wants it: it is lost. */
int quic_conn_deliver(struct quic_conn *c, const uint8_t *p, size_t n);
/* RFC 8446 7.5, label "EXPORTER-beam-1", empty context. AGAIN before ready. */
int quic_conn_exporter(struct quic_conn *c, uint8_t out[TLS_EXPORT_BYTES]);
const char *quic_conn_alpn(const struct quic_conn *c); /* "" before it is agreed */
const char *quic_conn_sni(const struct quic_conn *c);  /* servers: lower case */
/* Server: the certificate a client showed and holds the key of. Borrowed; NULL: none. */
struct quic_client {
  uint8_t sha256[32]; /* of the leaf's DER */
  char name[256];     /* its first DNS name, else its common name, else "" */
  int64_t not_after;  /* seconds since 1970: trust ends then, also of a connection that is up */
};
const struct quic_client *quic_conn_client(const struct quic_conn *c);
const struct sockaddr_storage *quic_conn_peer(const struct quic_conn *c);
const struct sockaddr_storage *quic_conn_local(const struct quic_conn *c); /* the path in use */
struct loop *quic_conn_loop(const struct quic_conn *c);

struct quic_conn_info {
  uint32_t rtt_us;
  uint64_t window;  /* congestion window, bytes */
  size_t payload;   /* of one packet: what path MTU discovery found */
  uint64_t sent;    /* packets */
  bool resumed;     /* no certificates were shown */
  bool early;       /* early data was taken */
  uint64_t ect, ce; /* packets sent that know ECN; packets that came with a mark */
};
void quic_conn_info(struct quic_conn *c, struct quic_conn_info *out);

/* Client: our address changed: a new socket, and migrate (RFC 9000 section 9). AGAIN: too early; CLOSED; what udp_open() answers. */
int quic_conn_rebind(struct quic_conn *c);
int quic_conn_update_keys(struct quic_conn *c); /* by itself before the cipher's limit; AGAIN: too early */

/* Client, after the peer sent a ticket (soon after ready): what resumes this session, a secret, borrowed. NOT_FOUND. */
int quic_conn_session(const struct quic_conn *c, const uint8_t **p, size_t *n);

/* Free. Streams still owned are told closed(reason or RESET). Streams closed in order before still drain (LIMIT_QUIC_CLOSE_MS at most), unless
 * reason says that the peer is gone (TIMEOUT, RESET). The peer hears the reason. No callback comes after it. */
void quic_conn_close(struct quic_conn *c, int reason);

#endif
