/* ticket.c: resumption: a client that was here before skips certificates and signatures, and may say a few bytes before the handshake is over (early
 * data, RFC 9001 4.6).
 *
 *   server   handshake complete, no client certificate shown ─► one ticket, sealed under a key that GnuTLS derives of ours and of the time (a new one
 *            every three days). Ours is derived of the endpoint's reset key: the same for all workers, and after a restart.
 *   client   ticket ─► quic_conn_session(): the ticket, its secret, and the transport parameters it was given with
 *
 * What a ticket is good for depends on the transport parameters it was given with (RFC 9000 7.4.1), so they are part of the key: a relay with others does not
 * know the ticket, and the handshake is a full one. A connection that showed a certificate gets no ticket: the certificate's end would not be seen.
 *
 * Early data may be a replay: somebody who recorded it sends it again. It is taken once per endpoint while it is remembered here; another worker takes it again,
 * and a restart forgets (but tickets from before it give no early data). That is why no more than LIMIT_QUIC_EARLY bytes are taken, and why their owner must
 * let nothing follow from them that a handshake does not cost anyway.
 */
#include <beam/beam.h>
#include <gnutls/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "quic/conn.h"

enum { KEY_HALF = 32, KEY_BYTES = 64 /* what GnuTLS wants */, VALID_S = 24 * 3600, LENGTH = 2, SUM = 32 };

/* --- server --- */

static int derive(const struct quic_endpoint *e, uint8_t out[KEY_BYTES]) {
  for (uint8_t half = 0; half < 2; half++) {
    struct {
      char label[24];
      uint32_t half, bidi, uni, window, stream, datagram;
    } in = {"beam quic ticket key 1", half,
            e->conf.peer_bidi,        e->conf.peer_uni,
            LIMIT_QUIC_WINDOW,        LIMIT_STREAM_WINDOW_MIN,
            QUIC_DATAGRAM_FRAME};
    if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, e->reset_key, sizeof e->reset_key, &in, sizeof in,
                         out + half * KEY_HALF))
      return BEAM_ERR_TLS;
  }
  return 0;
}

/* GnuTLS asks: was this early data here before? `key` is a hash of its first message. */
static int seen(void *arg, time_t until, const gnutls_datum_t *key, const gnutls_datum_t *data) {
  struct quic_endpoint *e = arg;
  uint8_t digest[QUIC_EARLY_ID] = {0};
  (void)until, (void)data;
  memcpy(digest, key->data, key->size < sizeof digest ? key->size : sizeof digest);
  for (unsigned i = 0; i < QUIC_EARLY_SEEN; i++)
    if (!memcmp(e->early[i], digest, sizeof digest))
      return GNUTLS_E_DB_ENTRY_EXISTS;
  memcpy(e->early[e->early_next++ % QUIC_EARLY_SEEN], digest, sizeof digest);
  return 0;
}

int quic_tickets_begin(struct quic_endpoint *e) {
  if (!e->conf.tickets)
    return 0;
  if (!(e->ticket_key = malloc(KEY_BYTES)) || gnutls_anti_replay_init(&e->anti_replay))
    return BEAM_ERR_NOMEM;
  gnutls_anti_replay_set_add_function(e->anti_replay, seen);
  gnutls_anti_replay_set_ptr(e->anti_replay, e);
  return derive(e, e->ticket_key);
}

void quic_tickets_end(struct quic_endpoint *e) {
  if (e->ticket_key)
    gnutls_memset(e->ticket_key, 0, KEY_BYTES);
  free(e->ticket_key);
  if (e->anti_replay)
    gnutls_anti_replay_deinit(e->anti_replay);
}

int quic_ticket_server(struct quic_conn *c) {
  struct quic_endpoint *e = c->ep;
  gnutls_datum_t key = {e->ticket_key, KEY_BYTES};
  if (!e->ticket_key)
    return 0;
  gnutls_db_set_cache_expiration(c->tls, VALID_S);
  gnutls_anti_replay_enable(c->tls, e->anti_replay);
  int err = gnutls_session_ticket_enable_server(c->tls, &key);
  return err ? err : gnutls_record_set_max_early_data_size(c->tls, UINT32_MAX); /* RFC 9001 4.6.1 */
}

/* The handshake is complete. From inside the engine. */
void quic_ticket_send(struct quic_conn *c) {
  unsigned shown = 0;
  if (c->server && c->ep->ticket_key && !strcmp(c->alpn, c->ep->conf.tickets) &&
      !gnutls_certificate_get_peers(c->tls, &shown) && !shown)
    gnutls_session_ticket_send(c->tls, 1, 0); /* without it the next handshake is a full one */
}

/* --- client --- */

/* GnuTLS: a message was read. */
static int on_ticket(gnutls_session_t tls, unsigned type, unsigned when, unsigned incoming,
                     const gnutls_datum_t *message) {
  struct quic_conn *c = ((ngtcp2_crypto_conn_ref *)gnutls_session_get_ptr(tls))->user_data;
  uint8_t params[256];
  gnutls_datum_t data;
  (void)type, (void)when, (void)message;
  ngtcp2_ssize n = ngtcp2_conn_encode_0rtt_transport_params(c->ng, params, sizeof params);
  if (!incoming || n <= 0 || gnutls_session_get_data2(tls, &data))
    return 0;
  size_t total = SUM + LENGTH + (size_t)n + data.size;
  uint8_t *session = total <= LIMIT_QUIC_SESSION ? malloc(total) : NULL;
  if (session) {
    quic_ticket_forget(c);
    uint8_t *p = session + SUM;
    p[0] = (uint8_t)(n >> 8);
    p[1] = (uint8_t)n;
    memcpy(p + LENGTH, params, (size_t)n);
    memcpy(p + LENGTH + n, data.data, data.size);
    hash_sha256(session, p, total - SUM);
    c->session = session;
    c->session_n = total;
  }
  gnutls_memset(data.data, 0, data.size);
  gnutls_free(data.data);
  return 0;
}

void quic_ticket_forget(struct quic_conn *c) {
  if (c->session)
    gnutls_memset(c->session, 0, c->session_n);
  free(c->session);
  c->session = NULL;
}

void quic_ticket_client(struct quic_conn *c) {
  gnutls_handshake_set_hook_function(c->tls, GNUTLS_HANDSHAKE_NEW_SESSION_TICKET, GNUTLS_HOOK_POST,
                                     on_ticket);
}

/* The engine is made: the session of earlier, if it can be read, and what is said at once. */
int quic_ticket_resume(struct quic_conn *c, const struct quic_client_conf *conf) {
  uint8_t sum[SUM];
  if (!conf->session || conf->session_n <= SUM + LENGTH)
    return 0;
  const uint8_t *p = conf->session + SUM;
  size_t all = conf->session_n - SUM, n = (size_t)p[0] << 8 | p[1];
  hash_sha256(sum, p, all);
  if (memcmp(sum, conf->session, SUM) || LENGTH + n >= all) /* a damaged one would be too much for GnuTLS */
    return 0;
  if (gnutls_session_set_data(c->tls, p + LENGTH + n, all - LENGTH - n))
    return 0;
  if (!conf->early_n || ngtcp2_conn_decode_and_set_0rtt_transport_params(c->ng, p + LENGTH, n))
    return 0;
  struct quic_stream *st;
  int err = quic_stream_make(c, -1, true, true, &st);
  if (err)
    return err;
  if (ngtcp2_conn_open_bidi_stream(c->ng, &st->id, st)) { /* the parameters allow none */
    quic_stream_free(st);
    return 0;
  }
  c->early = st;
  return stream_write(&st->s, conf->early, conf->early_n) == conf->early_n ? 0 : BEAM_ERR_NOMEM;
}

/* The server did not take it, and the engine has forgotten the stream. */
void quic_ticket_rejected(struct quic_conn *c) {
  if (c->early) {
    c->early->id = -1;
    quic_stream_free(c->early);
  }
  c->early = NULL;
}

/* --- asked --- */

int quic_conn_session(const struct quic_conn *c, const uint8_t **p, size_t *n) {
  if (!c->session)
    return BEAM_ERR_NOT_FOUND;
  *p = c->session;
  *n = c->session_n;
  return 0;
}
