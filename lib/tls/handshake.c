/* handshake.c: mbedTLS shakes hands over a stream; then the connection goes to one of the two engines.
 *
 *   tls_accept / tls_connect ──► SHAKING ──done──► TLS 1.3: secrets to records13, mbedTLS freed ──┐
 *                                  │    └────────► TLS 1.2: mbedTLS's context to records12 ───────┴─► done(stream)
 *                                  └ fault, timeout, the lower stream's end ──► alert, lower closed in order ──► done(err)
 */
#include <beam/beam.h>
#include <ctype.h>
#include <mbedtls/error.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "tls/keys.h"
#include "tls/offer.h"
#include "tls/stream.h"

static const char export_label[] = "EXPORTER-beam-1";

struct tls {
  struct stream *lower;
  struct tls_context *ctx;
  mbedtls_ssl_context *ssl;
  struct evbuffer *out;
  struct tls_bio bio;
  struct tls_cert *cert; /* what choose() gave */
  struct verdict verdict;
  struct loop_task begin;
  struct loop_timer timer;
  tls_done done;
  void *user;
  uint8_t client_secret[SECRET_MAX], server_secret[SECRET_MAX]; /* TLS 1.3 application traffic secrets */
  bool has_client, has_server;
  bool ready;              /* mbedTLS has its settings */
  bool ticket;             /* a ticket of ours was good */
  bool psk;                /* our ServerHello accepted a ticket's key */
  bool offered;            /* client: a session was offered */
  struct record_half sent; /* counts the records that mbedTLS sent under the application keys */
  struct tls_info info;
};

static void destroy(struct tls *h) {
  task_cancel(&h->begin);
  timer_stop(&h->timer);
  if (h->ssl)
    mbedtls_ssl_free(h->ssl);
  free(h->ssl);
  if (h->out)
    evbuffer_free(h->out);
  half_wipe(&h->sent);
  tls_cert_unref(h->cert);
  tls_context_unref(h->ctx);
  sodium_memzero(h, sizeof *h);
  free(h);
}

/* --- failing --- */

static int reason_of(const struct tls *h, int code) {
  if (h->verdict.err)
    return h->verdict.err;
  switch (code) {
  case MBEDTLS_ERR_SSL_CONN_EOF:
    return BEAM_ERR_TRUNCATED;
  case MBEDTLS_ERR_SSL_ALLOC_FAILED:
  case MBEDTLS_ERR_X509_ALLOC_FAILED:
    return BEAM_ERR_NOMEM;
  case MBEDTLS_ERR_X509_CERT_VERIFY_FAILED:
  case MBEDTLS_ERR_SSL_BAD_CERTIFICATE:
  case MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE:
    return BEAM_ERR_UNTRUSTED;
  case MBEDTLS_ERR_SSL_INVALID_RECORD:
  case MBEDTLS_ERR_SSL_UNEXPECTED_RECORD:
  case MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE:
  case MBEDTLS_ERR_SSL_DECODE_ERROR:
  case MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION:
  case MBEDTLS_ERR_SSL_NO_APPLICATION_PROTOCOL:
    return BEAM_ERR_PROTOCOL;
  default:
    return BEAM_ERR_TLS;
  }
}

/* `reason` closes the lower stream in order when it is alive: an alert may be on its way. */
static void fail(struct tls *h, int reason) {
  tls_done done = h->done;
  void *user = h->user;
  if (!stream_dead(h->lower))
    tls_bio_flush(h->lower, h->out);
  stream_close(h->lower, stream_dead(h->lower) ? reason : 0);
  destroy(h);
  done(user, reason, NULL, NULL);
}

static void fail_with_code(struct tls *h, int code) {
  char text[128];
  int reason = reason_of(h, code);
  mbedtls_strerror(code, text, sizeof text);
  if (reason != BEAM_ERR_TRUNCATED)
    log_limited(BEAM_LOG_INFO, "tls", "handshake failed side=%s name=%s code=-0x%04x: %s",
                h->ctx->server ? "server" : "client",
                h->ctx->server        ? h->info.sni
                : h->ctx->server_name ? h->ctx->server_name
                                      : "",
                (unsigned)-code, text);
  fail(h, reason);
}

/* --- what mbedTLS asks and tells --- */

int handshake_choose_cert(mbedtls_ssl_context *ssl) {
  struct tls *h = mbedtls_ssl_get_user_data_p(ssl);
  size_t n = 0;
  const unsigned char *name = mbedtls_ssl_get_hs_sni(ssl, &n);
  tls_cert_unref(h->cert); /* a second ClientHello, after HelloRetryRequest */
  h->cert = NULL;
  if (n < sizeof h->info.sni && (!n || !memchr(name, 0, n))) {
    for (size_t i = 0; i < n; i++)
      h->info.sni[i] = (char)tolower(name[i]);
    h->info.sni[n] = 0;
    h->cert = h->ctx->choose(h->ctx->user, h->info.sni);
  }
  if (h->cert)
    return mbedtls_ssl_set_hs_own_cert(ssl, &h->cert->chain, &h->cert->key);
  mbedtls_ssl_send_alert_message(ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL, MBEDTLS_SSL_ALERT_MSG_UNRECOGNIZED_NAME);
  return MBEDTLS_ERR_SSL_UNRECOGNIZED_NAME;
}

static void on_key(void *arg, mbedtls_ssl_key_export_type type, const unsigned char *secret, size_t n,
                   const unsigned char client_random[32], const unsigned char server_random[32],
                   mbedtls_tls_prf_types prf) {
  struct tls *h = arg;
  (void)client_random;
  (void)server_random;
  (void)prf;
  if (n > SECRET_MAX)
    return;
  if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_CLIENT_APPLICATION_TRAFFIC_SECRET) {
    memcpy(h->client_secret, secret, n);
    h->has_client = true;
  } else if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_SERVER_APPLICATION_TRAFFIC_SECRET) {
    memcpy(h->server_secret, secret, n);
    h->has_server = true;
  }
}

/* --- what mbedTLS sent --- */

/* Does this handshake record hold a ServerHello that accepts a pre-shared key (RFC 8446 4.2.11)? */
static bool accepts_psk(const uint8_t *p, size_t n) {
  enum { SERVER_HELLO = 2, PRE_SHARED_KEY = 41, FIXED = 4 + 2 + 32 };
  if (n < FIXED + 1 || p[0] != SERVER_HELLO)
    return false;
  size_t at = FIXED + 1u + p[FIXED] + 3; /* session id, suite, compression */
  if (at + 2 > n)
    return false;
  for (at += 2; at + 4 <= n; at += 4 + ((size_t)p[at + 2] << 8 | p[at + 3]))
    if (p[at] == 0 && p[at + 1] == PRE_SHARED_KEY)
      return true;
  return false;
}

/* Our first record under the application keys has number 0, and so on; mbedTLS sends tickets under them before it is done. Which of its records those
 * are is not guessed from its states: a record that opens with the application key and the next number is one. */
static void count_sent(struct tls *h, const uint8_t *record, size_t n) {
  struct record_half *s = &h->sent;
  uint16_t suite = (uint16_t)mbedtls_ssl_get_ciphersuite_id_from_ssl(h->ssl);
  bool known = h->ctx->server ? h->has_server : h->has_client;
  if (!known || record[0] != RECORD_DATA_TYPE || n < RECORD_HEADER + AEAD_TAG || !suite_hash_size(suite))
    return;
  if (!s->aead) {
    memcpy(s->secret, h->ctx->server ? h->server_secret : h->client_secret, sizeof s->secret);
    if (half_expand(s, suite))
      return;
  }
  uint8_t nonce[AEAD_NONCE], *plain = malloc(n);
  memcpy(nonce, s->iv, sizeof nonce);
  for (int i = 0; i < 8; i++)
    nonce[AEAD_NONCE - 1 - i] ^= (uint8_t)(s->seq >> (8 * i));
  if (plain &&
      !aead_open(s->aead, nonce, record, RECORD_HEADER, record + RECORD_HEADER, n - RECORD_HEADER, plain))
    s->seq++;
  free(plain);
}

/* mbedTLS hands over whole records, because nothing that it hands over is ever refused. */
static int send_record(void *arg, const unsigned char *p, size_t n) {
  struct tls *h = arg;
  for (size_t at = 0, len; at + RECORD_HEADER <= n; at += len) {
    len = RECORD_HEADER + ((size_t)p[at + 3] << 8 | p[at + 4]);
    if (at + len > n)
      break;
    if (p[at] == RECORD_HANDSHAKE && h->ctx->server &&
        accepts_psk(p + at + RECORD_HEADER, len - RECORD_HEADER))
      h->psk = true;
    count_sent(h, p + at, len);
  }
  return tls_bio_send(&h->bio, p, n);
}

static int recv_bytes(void *arg, unsigned char *p, size_t n) {
  struct tls *h = arg;
  return tls_bio_recv(&h->bio, p, n);
}

/* --- the end in order --- */

static void fill_info(struct tls *h) {
  struct tls_info *i = &h->info;
  const char *alpn = mbedtls_ssl_get_alpn_protocol(h->ssl);
  i->version = mbedtls_ssl_get_version_number(h->ssl) == MBEDTLS_SSL_VERSION_TLS1_3 ? TLS_1_3 : TLS_1_2;
  i->cipher = (uint16_t)mbedtls_ssl_get_ciphersuite_id_from_ssl(h->ssl);
  i->cipher_name = mbedtls_ssl_get_ciphersuite(h->ssl);
  str_copy(i->alpn, sizeof i->alpn, alpn ? alpn : "");
  i->resumed = h->ctx->server ? (i->version == TLS_1_3 ? h->psk : h->ticket) : h->offered && !h->verdict.seen;
  i->has_peer = h->verdict.seen;
  if (i->has_peer) {
    memcpy(i->peer_sha256, h->verdict.leaf_sha256, sizeof i->peer_sha256);
    memcpy(i->ca_sha256, h->verdict.ca_sha256, sizeof i->ca_sha256);
  }
}

/* What mbedTLS accepted and we do not. */
static int refuse(struct tls *h) {
  if (h->verdict.seen && h->ctx->trust != TLS_TRUST_ANY && mbedtls_ssl_get_verify_result(h->ssl))
    return BEAM_ERR_UNTRUSTED; /* an optional certificate with the wrong usage */
  if (h->ctx->alpn_required && !h->info.alpn[0])
    return BEAM_ERR_PROTOCOL;
  /* Bytes of the peer's that follow its Finished in the same record were sent under no key at all (RFC 8446 5.1). */
  if (h->info.version == TLS_1_3 && (mbedtls_ssl_check_pending(h->ssl) || !h->has_client || !h->has_server))
    return BEAM_ERR_PROTOCOL;
  return 0;
}

static int start_13(struct tls *h, struct tls_stream *t) {
  int max_out = mbedtls_ssl_get_max_out_record_payload(h->ssl);
  struct records_setup setup = {.suite = h->info.cipher,
                                .client = !h->ctx->server,
                                .client_secret = h->client_secret,
                                .server_secret = h->server_secret,
                                .tx_seq = h->sent.seq,
                                .max_out = max_out > 0 ? (size_t)max_out : 1};
  struct records *r = malloc(sizeof *r);
  int err = r ? records_init(r, &setup) : BEAM_ERR_NOMEM;
  if (!err)
    t->records = r;
  else
    free(r);
  if (!err && mbedtls_ssl_export_keying_material(h->ssl, t->exporter, sizeof t->exporter, export_label,
                                                 sizeof export_label - 1, NULL, 0, 0))
    err = BEAM_ERR_TLS;
  t->has_export = !err;
  if (!err && h->ctx->resume) {
    resume_wait(t, h->ssl, h->ctx);
    h->ssl = NULL;
  }
  return err;
}

static int start_12(struct tls *h, struct tls_stream *t) {
  if (h->ctx->resume)
    resume_keep(h->ctx, h->ssl);
  t->bio = (struct tls_bio){t->lower, t->out};
  mbedtls_ssl_set_export_keys_cb(h->ssl, NULL, NULL);
  mbedtls_ssl_set_verify(h->ssl, NULL, NULL);
  mbedtls_ssl_set_user_data_p(h->ssl, NULL);
  mbedtls_ssl_set_bio(h->ssl, &t->bio, tls_bio_send, tls_bio_recv, NULL);
  t->ssl = h->ssl;
  t->ctx = tls_context_ref(h->ctx);
  h->ssl = NULL;
  return 0;
}

static void succeed(struct tls *h) {
  struct tls_stream *t = NULL;
  fill_info(h);
  int err = refuse(h);
  if (err) {
    log_limited(BEAM_LOG_INFO, "tls", "handshake refused: %s", err_find(err)->what);
    fail(h, err);
    return;
  }
  struct stream *lower = h->lower;
  struct evbuffer *out = h->out;
  tls_done done = h->done;
  void *user = h->user;
  struct tls_info info = h->info;
  bool is_13 = info.version == TLS_1_3;
  tls_bio_flush(lower, out);
  h->out = NULL;
  err = tls_stream_new(lower, out, is_13 ? &tls_engine_13 : &tls_engine_12, &t);
  if (!err)
    err = is_13 ? start_13(h, t) : start_12(h, t);
  destroy(h);
  if (err) {
    if (t)
      stream_close(&t->s, err);
    done(user, err, NULL, NULL);
    return;
  }
  tls_stream_start(t);
  done(user, 0, &t->s, &info);
}

/* --- going --- */

static int set_up_client(struct tls *h) {
  struct tls_context *c = h->ctx;
  int err = mbedtls_ssl_set_hostname(
      h->ssl, c->server_name && !name_is_address(c->server_name) ? c->server_name : NULL);
  if (err || !c->resume)
    return err;
  pthread_mutex_lock(&c->lock);
  if (c->has_session) { /* a ticket is used once, or connections could be told to be the same client's (RFC 8446 C.4) */
    h->offered = !mbedtls_ssl_set_session(h->ssl, &c->session);
    mbedtls_ssl_session_free(&c->session);
    mbedtls_ssl_session_init(&c->session);
    c->has_session = false;
  }
  pthread_mutex_unlock(&c->lock);
  return 0;
}

static int set_up(struct tls *h, const mbedtls_ssl_config *conf) {
  int err = mbedtls_ssl_setup(h->ssl, conf);
  if (!err && !h->ctx->server)
    err = set_up_client(h);
  if (err)
    return err;
  mbedtls_ssl_set_user_data_p(h->ssl, h);
  mbedtls_ssl_set_verify(h->ssl, verdict_on_certificate, &h->verdict);
  mbedtls_ssl_set_export_keys_cb(h->ssl, on_key, h);
  mbedtls_ssl_set_bio(h->ssl, h, send_record, recv_bytes, NULL);
  h->ready = true;
  return 0;
}

/* A server's settings follow from the first bytes: "want read" while they are not all there. */
static int get_ready(struct tls *h) {
  const struct tls_context *c = h->ctx;
  enum offer offer = OFFER_NO;
  if (c->suite_first) {
    uint8_t first[OFFER_PEEK];
    ev_ssize_t n = evbuffer_copyout(stream_input(h->lower), first, sizeof first);
    offer = offer_has(first, n > 0 ? (size_t)n : 0, c->suite_first);
  }
  if (offer == OFFER_MORE && !h->lower->in_ended)
    return MBEDTLS_ERR_SSL_WANT_READ;
  return set_up(h, offer == OFFER_YES ? &c->conf_first : &c->conf);
}

static void step(void *arg) {
  struct tls *h = arg;
  int code = h->ready ? 0 : get_ready(h);
  if (!code) {
    tickets_accepted(); /* forget what another handshake of this thread left */
    code = mbedtls_ssl_handshake(h->ssl);
    h->ticket |= tickets_accepted();
  }
  if (code == MBEDTLS_ERR_SSL_WANT_READ) {
    tls_bio_flush(h->lower, h->out);
    return;
  }
  if (code)
    fail_with_code(h, code);
  else
    succeed(h);
}

static void on_writable(void *arg) {
  struct tls *h = arg;
  tls_bio_flush(h->lower, h->out);
}

static void on_closed(void *arg, int reason) {
  fail(arg, reason);
}

static void on_timeout(void *arg) {
  fail(arg, BEAM_ERR_TIMEOUT);
}

static const struct stream_events events = {step, on_writable, on_closed};

static int allocate(struct tls *h) {
  h->out = evbuffer_new();
  h->ssl = malloc(sizeof *h->ssl);
  if (h->ssl)
    mbedtls_ssl_init(h->ssl);
  if (!h->out || !h->ssl)
    return BEAM_ERR_NOMEM;
  h->bio = (struct tls_bio){h->lower, h->out};
  h->verdict.ctx = h->ctx;
  return timer_start(&h->timer, LIMIT_HANDSHAKE_MS);
}

static int begin(struct stream *lower, struct tls_context *ctx, tls_done done, void *user, struct tls **out) {
  struct tls *h = calloc(1, sizeof *h);
  if (!h) {
    stream_close(lower, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  h->lower = lower;
  h->ctx = tls_context_ref(ctx);
  h->done = done;
  h->user = user;
  task_init(&h->begin, step, h);
  timer_init(&h->timer, lower->loop, on_timeout, h);
  int err = allocate(h);
  if (err) {
    destroy(h);
    stream_close(lower, err);
    return err;
  }
  stream_own(lower, &events, h); /* readable() follows when the ClientHello waits already */
  if (!ctx->server)
    loop_soon(lower->loop, &h->begin);
  if (out)
    *out = h;
  return 0;
}

int tls_accept(struct stream *lower, struct tls_context *ctx, tls_done done, void *user, struct tls **out) {
  return begin(lower, ctx, done, user, out);
}

int tls_connect(struct stream *lower, struct tls_context *ctx, tls_done done, void *user, struct tls **out) {
  return begin(lower, ctx, done, user, out);
}

void tls_cancel(struct tls *h) {
  struct stream *lower = h->lower;
  destroy(h);
  stream_close(lower, BEAM_ERR_CLOSED);
}
