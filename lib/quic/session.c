/* session.c: the QUIC engine of a connection: its settings, and what its callbacks note. Nothing here calls an owner, or frees a connection. */
#include <beam/beam.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "quic/conn.h"

/* --- streams --- */

/* Each abort costs us more than the peer: so many in a second, then it is a flood. */
static int count_reset(struct quic_conn *c) {
  uint64_t second = loop_now(c->loop) / 1000;
  if (second != c->reset_second) {
    c->reset_second = second;
    c->resets = 0;
  }
  if (++c->resets <= LIMIT_LINK_RESETS)
    return 0;
  c->tls_err = BEAM_ERR_LIMIT;
  return NGTCP2_ERR_CALLBACK_FAILURE;
}

static int on_stream_open(ngtcp2_conn *ng, int64_t id, void *user) {
  struct quic_conn *c = user;
  struct quic_stream *st;
  if (c->closing)
    return ngtcp2_conn_shutdown_stream(ng, 0, id, c->codes->of(BEAM_ERR_REFUSED));
  if (!quic_window_fits() || quic_stream_make(c, id, ngtcp2_is_bidi_stream(id), false, &st))
    return ngtcp2_conn_shutdown_stream(ng, 0, id, c->codes->of(BEAM_ERR_LIMIT));
  return ngtcp2_conn_set_stream_user_data(ng, id, st);
}

static int on_stream_data(ngtcp2_conn *ng, uint32_t flags, int64_t id, uint64_t offset, const uint8_t *p,
                          size_t n, void *user, void *stream) {
  (void)id, (void)offset;
  struct quic_conn *c = user;
  struct quic_stream *st = stream;
  if (flags & NGTCP2_STREAM_DATA_FLAG_0RTT && (c->early_n += n) > LIMIT_QUIC_EARLY) {
    c->tls_err = BEAM_ERR_PROTOCOL;
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  ngtcp2_conn_extend_max_offset(ng, n); /* the connection's credit goes back on receipt */
  if (!st || st->orphan)
    return 0;
  if (n)
    quic_endpoint_gather(c->ep, st, p, n);
  if (flags & NGTCP2_STREAM_DATA_FLAG_FIN) {
    quic_endpoint_gathered(c->ep);
    quic_stream_ended(st);
  }
  return 0;
}

static int on_stream_acked(ngtcp2_conn *ng, int64_t id, uint64_t offset, uint64_t n, void *user,
                           void *stream) {
  (void)ng, (void)id, (void)offset, (void)user;
  if (stream)
    quic_stream_acked(stream, n);
  return 0;
}

static int on_stream_reset(ngtcp2_conn *ng, int64_t id, uint64_t size, uint64_t code, void *user,
                           void *stream) {
  (void)ng, (void)id, (void)size;
  struct quic_conn *c = user;
  if (stream) {
    quic_endpoint_gathered(c->ep);
    quic_stream_reset(stream, code);
  }
  return count_reset(c);
}

static int on_stream_close(ngtcp2_conn *ng, uint32_t flags, int64_t id, uint64_t code, void *user,
                           void *stream) {
  struct quic_conn *c = user;
  if (!ngtcp2_conn_is_local_stream(ng, id)) {
    if (ngtcp2_is_bidi_stream(id))
      ngtcp2_conn_extend_max_streams_bidi(ng, 1);
    else
      ngtcp2_conn_extend_max_streams_uni(ng, 1);
  }
  if (stream) {
    quic_endpoint_gathered(c->ep);
    quic_stream_over(stream, flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET ? code : c->codes->of(0));
  }
  return 0;
}

static int on_stream_credit(ngtcp2_conn *ng, int64_t id, uint64_t max, void *user, void *stream) {
  (void)ng, (void)id, (void)max, (void)user;
  if (stream)
    quic_stream_credited(stream);
  return 0;
}

/* --- the connection --- */

static int on_handshake_completed(ngtcp2_conn *ng, void *user) {
  struct quic_conn *c = user;
  c->up = 1;
  c->confirmed = c->server;
  c->tell_ready = 1;
  c->tell_room = c->no_datagram_room;
  c->no_datagram_room = 0;
  quic_endpoint_half_open(c, false);
  quic_tls_agreed(c);
  quic_ticket_send(c);
  quic_conn_tell_soon(c);
  if (c->early && !(gnutls_session_get_flags(c->tls) & GNUTLS_SFLAGS_EARLY_DATA) &&
      ngtcp2_conn_tls_early_data_rejected(ng))
    return NGTCP2_ERR_CALLBACK_FAILURE;
  return 0;
}

static int on_early_rejected(ngtcp2_conn *ng, void *user) {
  (void)ng;
  quic_ticket_rejected(user);
  return 0;
}

static int on_handshake_confirmed(ngtcp2_conn *ng, void *user) {
  (void)ng;
  ((struct quic_conn *)user)->confirmed = 1;
  return 0;
}

/* The peer's address changed, and is proved: it is another path. */
static int on_path(ngtcp2_conn *ng, uint32_t flags, const ngtcp2_path *path, const ngtcp2_path *old,
                   ngtcp2_path_validation_result result, void *user) {
  (void)ng, (void)flags, (void)path, (void)old;
  struct quic_conn *c = user;
  if (c->server && result == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS)
    quic_flight_moved(&c->flight);
  return 0;
}

static int on_datagram(ngtcp2_conn *ng, uint32_t flags, const uint8_t *p, size_t n, void *user) {
  (void)ng, (void)flags;
  quic_datagram_received(user, p, n);
  return 0;
}

static int on_stateless_reset(ngtcp2_conn *ng, const ngtcp2_pkt_stateless_reset *sr, void *user) {
  (void)ng, (void)sr;
  ((struct quic_conn *)user)->was_reset = 1;
  return 0;
}

static int reset_token(struct quic_endpoint *e, const ngtcp2_cid *cid, uint8_t *token) {
  return ngtcp2_crypto_generate_stateless_reset_token(token, e->reset_key, sizeof e->reset_key, cid)
             ? NGTCP2_ERR_CALLBACK_FAILURE
             : 0;
}

static int on_new_cid(ngtcp2_conn *ng, ngtcp2_cid *cid, uint8_t *token, size_t n, void *user) {
  (void)ng, (void)n; /* every id of ours is QUIC_CID long */
  struct quic_conn *c = user;
  quic_cid_make(c->ep, cid);
  if (reset_token(c->ep, cid, token) || quic_cids_add(&c->ep->cids, c, cid))
    return NGTCP2_ERR_CALLBACK_FAILURE;
  return 0;
}

static int on_cid_removed(ngtcp2_conn *ng, const ngtcp2_cid *cid, void *user) {
  (void)ng;
  struct quic_conn *c = user;
  quic_cids_remove(&c->ep->cids, c, cid);
  return 0;
}

static void fill_random(uint8_t *p, size_t n, const ngtcp2_rand_ctx *ctx) {
  (void)ctx;
  random_bytes(p, n);
}

static ngtcp2_conn *engine_of(ngtcp2_crypto_conn_ref *ref) {
  return ((struct quic_conn *)ref->user_data)->ng;
}

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
static ngtcp2_callbacks quic_callbacks; /* a fuzzer lies under the encryption */
#define ENGINE_CALLBACKS (quic_callbacks.encrypt ? &quic_callbacks : &callbacks)
#else
#define ENGINE_CALLBACKS (&callbacks)
#endif

static const ngtcp2_callbacks callbacks = {
    .client_initial = ngtcp2_crypto_client_initial_cb,
    .recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
    .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
    .handshake_completed = on_handshake_completed,
    .encrypt = ngtcp2_crypto_encrypt_cb,
    .decrypt = ngtcp2_crypto_decrypt_cb,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .recv_stream_data = on_stream_data,
    .acked_stream_data_offset = on_stream_acked,
    .stream_open = on_stream_open,
    .stream_close = on_stream_close,
    .recv_stateless_reset = on_stateless_reset,
    .recv_retry = ngtcp2_crypto_recv_retry_cb,
    .rand = fill_random,
    .get_new_connection_id = on_new_cid,
    .remove_connection_id = on_cid_removed,
    .update_key = ngtcp2_crypto_update_key_cb,
    .stream_reset = on_stream_reset,
    .extend_max_stream_data = on_stream_credit,
    .handshake_confirmed = on_handshake_confirmed,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .recv_datagram = on_datagram,
    .path_validation = on_path,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
    .tls_early_data_rejected = on_early_rejected,
};

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
void quic_callbacks_lie(ngtcp2_encrypt encrypt) {
  quic_callbacks = callbacks;
  quic_callbacks.encrypt = encrypt;
}
#endif

/* --- settings --- */

/* Ethernet's size first, then what tunnels leave of it, then jumbo frames: each that arrives skips the smaller ones. */
static const uint16_t probes[] = {1452, 1406, 1342, 8952, 4052};

static void fill_settings(ngtcp2_settings *s, struct quic_conn *c, bool cubic) {
  ngtcp2_settings_default(s);
  s->initial_ts = alarm_now(c->loop);
  s->cc_algo = cubic ? NGTCP2_CC_ALGO_CUBIC : NGTCP2_CC_ALGO_BBR;
  s->max_tx_udp_payload_size = QUIC_PAYLOAD_MAX;
  s->pmtud_probes = probes;
  s->pmtud_probeslen = sizeof probes / sizeof *probes;
  s->initial_rtt = (uint64_t)LIMIT_QUIC_FIRST_RTT_MS * QUIC_NS_PER_MS; /* RFC 9002 6.2.2 would have 333 ms */
  s->handshake_timeout = (uint64_t)LIMIT_HANDSHAKE_MS * QUIC_NS_PER_MS;
  s->max_window = 0; /* windows are ours to grow: window.c */
  s->max_stream_window = 0;
}

static void fill_params(ngtcp2_transport_params *p, unsigned bidi, unsigned uni) {
  ngtcp2_transport_params_default(p);
  p->initial_max_streams_bidi = bidi;
  p->initial_max_streams_uni = uni;
  p->initial_max_data = LIMIT_QUIC_WINDOW;
  p->initial_max_stream_data_bidi_local = LIMIT_STREAM_WINDOW_MIN;
  p->initial_max_stream_data_bidi_remote = LIMIT_STREAM_WINDOW_MIN;
  p->initial_max_stream_data_uni = LIMIT_STREAM_WINDOW_MIN;
  p->max_idle_timeout = (uint64_t)LIMIT_QUIC_IDLE_MS * QUIC_NS_PER_MS;
  p->max_udp_payload_size = 65527;
  p->max_datagram_frame_size = QUIC_DATAGRAM_FRAME;
  p->active_connection_id_limit = 4;
}

static int attach_tls(struct quic_conn *c) {
  c->ref.get_conn = engine_of;
  c->ref.user_data = c;
  gnutls_session_set_ptr(c->tls, &c->ref);
  ngtcp2_conn_set_tls_native_handle(c->ng, c->tls);
  return 0;
}

int quic_session_server(struct quic_conn *c, const struct quic_hello *hello) {
  const ngtcp2_pkt_hd *hd = hello->hd;
  ngtcp2_settings settings;
  ngtcp2_transport_params params;
  ngtcp2_cid scid;
  fill_settings(&settings, c, c->ep->conf.cubic);
  fill_params(&params, c->ep->conf.peer_bidi, c->ep->conf.peer_uni);
  params.original_dcid = hello->original ? *hello->original : hd->dcid;
  params.original_dcid_present = 1;
  if (hello->original) {
    params.retry_scid = hd->dcid;
    params.retry_scid_present = 1;
    settings.token = hd->token;
    settings.tokenlen = hd->tokenlen;
    settings.token_type = NGTCP2_TOKEN_TYPE_RETRY;
  }
  quic_cid_make(c->ep, &scid);
  if (reset_token(c->ep, &scid, params.stateless_reset_token))
    return BEAM_ERR_INTERNAL;
  params.stateless_reset_token_present = 1;
  ngtcp2_path path = quic_conn_path(c);
  int err = quic_tls_server_begin(c);
  if (err)
    return err;
  if (ngtcp2_conn_server_new(&c->ng, &hd->scid, &scid, &path, hd->version, ENGINE_CALLBACKS, &settings,
                             &params, NULL, c))
    return BEAM_ERR_NOMEM;
  if (quic_cids_add(&c->ep->cids, c, &scid) || quic_cids_add(&c->ep->cids, c, &hd->dcid))
    return BEAM_ERR_NOMEM;
  return attach_tls(c);
}

int quic_session_client(struct quic_conn *c, const struct quic_client_conf *conf) {
  ngtcp2_settings settings;
  ngtcp2_transport_params params;
  ngtcp2_cid scid, dcid;
  fill_settings(&settings, c, conf->cubic);
  fill_params(&params, conf->peer_bidi, conf->peer_uni);
  quic_cid_make(c->ep, &scid);
  dcid.datalen = NGTCP2_MAX_CIDLEN - 2;
  random_bytes(dcid.data, dcid.datalen);
  ngtcp2_path path = quic_conn_path(c);
  int err = quic_tls_client_begin(c, conf);
  if (err)
    return err;
  if (ngtcp2_conn_client_new(&c->ng, &dcid, &scid, &path, NGTCP2_PROTO_VER_V1, ENGINE_CALLBACKS, &settings,
                             &params, NULL, c))
    return BEAM_ERR_NOMEM;
  if (quic_cids_add(&c->ep->cids, c, &scid))
    return BEAM_ERR_NOMEM;
  ngtcp2_conn_set_keep_alive_timeout(c->ng, (uint64_t)LIMIT_QUIC_KEEPALIVE_MS * QUIC_NS_PER_MS);
  attach_tls(c);
  return quic_ticket_resume(c, conf);
}
