/* endpoint.c: the socket: packets to their connections, newcomers, and what is answered without a connection.
 *
 *   packet ─► known id? ─► the connection
 *              │ no: short header ─► another worker's? forward : stateless reset
 *              └ Initial ─► many handshakes under way, and no proof of the address? ─► Retry
 *                            └► a new connection
 *
 * A stranger can make us: hold LIMIT_QUIC_HALF_OPEN handshakes, send LIMIT_QUIC_REPLIES small packets a second, none larger than what it sent.
 */
#include <arpa/inet.h>
#include <beam/beam.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/random.h"
#include "io/block.h"
#include "quic/conn.h"

enum { REPLY_BYTES = 1200, RETRY_VALID_S = 10, RESET_BYTES = 43, MIN_RESET_BYTES = 21 };

static socklen_t addr_len(const struct sockaddr_storage *a) {
  return a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* --- received bytes of one stream, gathered into a block --- */

void quic_endpoint_gathered(struct quic_endpoint *e) {
  struct quic_stream *st = e->rx_stream;
  if (!st)
    return;
  e->rx_stream = NULL;
  void *block = e->rx;
  e->rx = NULL;
  if (block_append(st->s.in, block, e->rx_n)) { /* bytes are lost: the stream is over */
    ngtcp2_conn_shutdown_stream(st->c->ng, 0, st->id, st->c->codes->of(BEAM_ERR_NOMEM));
    stream_tell_closed(&st->s, BEAM_ERR_NOMEM);
    return;
  }
  quic_window_received(st);
  stream_tell_readable(&st->s);
}

void quic_endpoint_gather(struct quic_endpoint *e, struct quic_stream *st, const uint8_t *p, size_t n) {
  while (n) {
    if (e->rx_stream && (e->rx_stream != st || e->rx_n == BLOCK_BYTES))
      quic_endpoint_gathered(e);
    if (!e->rx && !(e->rx = block_get())) {
      ngtcp2_conn_shutdown_stream(st->c->ng, 0, st->id, st->c->codes->of(BEAM_ERR_NOMEM));
      stream_tell_closed(&st->s, BEAM_ERR_NOMEM);
      return;
    }
    if (!e->rx_stream) {
      e->rx_stream = st;
      e->rx_n = 0;
    }
    size_t part = n < BLOCK_BYTES - e->rx_n ? n : BLOCK_BYTES - e->rx_n;
    memcpy((uint8_t *)e->rx + e->rx_n, p, part);
    e->rx_n += part;
    p += part;
    n -= part;
  }
}

void quic_endpoint_forget(struct quic_endpoint *e, struct quic_stream *st) {
  if (e->rx_stream == st)
    e->rx_stream = NULL;
}

/* --- pacing: connections whose next packet is due within the loop's millisecond --- */

void quic_endpoint_unpace(struct quic_endpoint *e, struct quic_conn *c) {
  if (!c->is_paced)
    return;
  struct quic_conn **p = &e->paced;
  while (*p != c)
    p = &(*p)->paced;
  *p = c->paced;
  c->is_paced = 0;
}

void quic_endpoint_pace(struct quic_endpoint *e, struct quic_conn *c, uint64_t at) {
  if (!e->paced || at < e->alarm_at) {
    e->alarm_at = at;
    alarm_set(e->alarm, at);
  }
  c->paced = e->paced;
  c->paced_at = at;
  c->is_paced = 1;
  e->paced = c;
}

static void on_alarm(void *arg) {
  struct quic_endpoint *e = arg;
  uint64_t now = alarm_now(e->loop), next = UINT64_MAX;
  for (struct quic_conn **p = &e->paced, *c; (c = *p);) {
    if (c->paced_at <= now) {
      *p = c->paced;
      c->is_paced = 0;
      quic_conn_flush_soon(c);
    } else {
      if (c->paced_at < next)
        next = c->paced_at;
      p = &c->paced;
    }
  }
  if (e->paced) {
    e->alarm_at = next;
    alarm_set(e->alarm, next);
  }
}

/* --- how many handshakes are under way, in all and from one address --- */

/* A /48 or /64 is one site's: addresses in it cost nothing. IPv4 as it is. Sites that share a bucket prove their addresses a little earlier. */
static unsigned bucket_of(const struct quic_endpoint *e, const struct sockaddr_storage *a) {
  const uint8_t *p = a->ss_family == AF_INET ? (const uint8_t *)&((const struct sockaddr_in *)a)->sin_addr
                                             : ((const struct sockaddr_in6 *)a)->sin6_addr.s6_addr;
  size_t n = a->ss_family == AF_INET ? 4 : 6;
  uint64_t h = e->cids.secret[1];
  for (size_t i = 0; i < n; i++) {
    h = (h ^ p[i]) * (e->cids.secret[0] | 1);
    h ^= h >> 29;
  }
  return h % QUIC_ADDR_BUCKETS;
}

void quic_endpoint_half_open(struct quic_conn *c, bool begins) {
  struct quic_endpoint *e = c->ep;
  if (begins == c->half_open || !c->server)
    return;
  c->half_open = begins;
  if (begins) {
    c->addr_bucket = bucket_of(e, &c->peer);
    e->half_open++;
    e->half_open_at[c->addr_bucket]++;
  } else {
    e->half_open--;
    e->half_open_at[c->addr_bucket]--;
  }
}

/* --- answers without a connection --- */

static bool may_reply(struct quic_endpoint *e) {
  uint64_t second = loop_now(e->loop) / 1000;
  if (second != e->reply_second) {
    e->reply_second = second;
    e->replies = 0;
  }
  return e->replies++ < LIMIT_QUIC_REPLIES;
}

static void reply(struct quic_endpoint *e, const struct udp_packet *p, const uint8_t *answer,
                  ngtcp2_ssize n) {
  if (n > 0 && may_reply(e))
    quic_send_raw(e, p->from, p->to, answer, (size_t)n);
}

static void say_versions(struct quic_endpoint *e, const struct udp_packet *p, const ngtcp2_version_cid *id) {
  static const uint32_t ours[] = {NGTCP2_PROTO_VER_V1};
  uint8_t answer[REPLY_BYTES], unused;
  if (p->n < NGTCP2_MAX_UDP_PAYLOAD_SIZE)
    return;
  random_bytes(&unused, 1);
  reply(e, p, answer,
        ngtcp2_pkt_write_version_negotiation(answer, sizeof answer, unused, id->scid, id->scidlen, id->dcid,
                                             id->dcidlen, ours, 1));
}

/* Smaller than what it answers, so that two who know nothing of each other fall silent. */
static void say_reset(struct quic_endpoint *e, const struct udp_packet *p, const ngtcp2_version_cid *id) {
  uint8_t answer[RESET_BYTES], token[NGTCP2_STATELESS_RESET_TOKENLEN], fill[RESET_BYTES];
  ngtcp2_cid cid;
  if (p->n <= MIN_RESET_BYTES + 1)
    return;
  size_t n = p->n - 1 < sizeof answer ? p->n - 1 : sizeof answer;
  ngtcp2_cid_init(&cid, id->dcid, id->dcidlen);
  if (ngtcp2_crypto_generate_stateless_reset_token(token, e->reset_key, sizeof e->reset_key, &cid))
    return;
  random_bytes(fill, sizeof fill);
  reply(e, p, answer,
        ngtcp2_pkt_write_stateless_reset(answer, n, token, fill, n - NGTCP2_STATELESS_RESET_TOKENLEN));
}

static void say_retry(struct quic_endpoint *e, const struct udp_packet *p, const ngtcp2_pkt_hd *hd) {
  uint8_t answer[REPLY_BYTES], token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN];
  ngtcp2_cid cid;
  quic_cid_make(e, &cid);
  ngtcp2_ssize n = ngtcp2_crypto_generate_retry_token(token, e->reset_key, sizeof e->reset_key, hd->version,
                                                      (const ngtcp2_sockaddr *)p->from, addr_len(p->from),
                                                      &cid, &hd->dcid, alarm_now(e->loop));
  if (n > 0)
    reply(e, p, answer,
          ngtcp2_crypto_write_retry(answer, sizeof answer, hd->version, &hd->scid, &cid, &hd->dcid, token,
                                    (size_t)n));
}

static void say_refused(struct quic_endpoint *e, const struct udp_packet *p, const ngtcp2_pkt_hd *hd,
                        uint64_t code) {
  uint8_t answer[REPLY_BYTES];
  reply(e, p, answer,
        ngtcp2_crypto_write_connection_close(answer, sizeof answer, hd->version, &hd->scid, &hd->dcid, code,
                                             NULL, 0));
}

/* --- newcomers --- */

static void begin(struct quic_endpoint *e, const struct udp_packet *p, const struct quic_hello *hello) {
  struct quic_conn *c;
  if (quic_conn_new(e, &c))
    return;
  c->peer = *p->from;
  c->local = *p->to;
  quic_endpoint_half_open(c, true);
  int err = quic_session_server(c, hello);
  if (err) {
    log_limited(BEAM_LOG_WARN, "quic", "connection not accepted what=\"%s\"", err_find(err)->what);
    quic_conn_free(c);
    return;
  }
  quic_conn_input(c, p);
}

static void newcomer(struct quic_endpoint *e, const struct udp_packet *p) {
  ngtcp2_pkt_hd hd;
  if (ngtcp2_accept(&hd, p->p, p->n))
    return;
  if (e->refusing) {
    say_refused(e, p, &hd, NGTCP2_CONNECTION_REFUSED);
    return;
  }
  if (e->half_open >= LIMIT_QUIC_HALF_OPEN)
    return;
  ngtcp2_cid original;
  bool proof = hd.tokenlen && hd.token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY;
  if (proof &&
      ngtcp2_crypto_verify_retry_token(&original, hd.token, hd.tokenlen, e->reset_key, sizeof e->reset_key,
                                       hd.version, (const ngtcp2_sockaddr *)p->from, addr_len(p->from),
                                       &hd.dcid, RETRY_VALID_S * NGTCP2_SECONDS, alarm_now(e->loop))) {
    say_refused(e, p, &hd, NGTCP2_INVALID_TOKEN);
    return;
  }
  bool busy = e->conf.always_retry || e->half_open >= LIMIT_QUIC_HALF_OPEN_FREE ||
              e->half_open_at[bucket_of(e, p->from)] >= LIMIT_QUIC_HALF_OPEN_ADDR;
  if (!proof && busy) {
    say_retry(e, p, &hd);
    return;
  }
  struct quic_hello hello = {&hd, proof ? &original : NULL};
  begin(e, p, &hello);
}

/* --- packets --- */

static void input(struct quic_endpoint *e, const struct udp_packet *p, bool forwarded) {
  ngtcp2_version_cid id;
  if (!p->n)
    return; /* ngtcp2 asserts that there is something */
  if (!e->server) {
    if (e->conns)
      quic_conn_input(e->conns, p);
    return;
  }
  int err = ngtcp2_pkt_decode_version_cid(&id, p->p, p->n, QUIC_CID);
  if (err == NGTCP2_ERR_VERSION_NEGOTIATION)
    say_versions(e, p, &id);
  if (err)
    return;
  struct quic_conn *c = quic_cids_find(&e->cids, id.dcid, id.dcidlen);
  if (c) {
    quic_conn_input(c, p);
    return;
  }
  if (p->p[0] & 0x80) { /* a long header: only a first packet makes something */
    newcomer(e, p);
    return;
  }
  unsigned worker = quic_cid_worker(e, id.dcid);
  if (worker != e->conf.worker && e->conf.forward && !forwarded)
    e->conf.forward(e->conf.user, worker, p->p, p->n, p->ecn, p->from, p->to);
  else
    say_reset(e, p, &id);
}

static void on_packet(void *user, const struct udp_packet *p) {
  input(user, p, false);
}

static void on_batch_end(void *user) {
  quic_endpoint_gathered(user);
}

static void on_writable(void *user) {
  struct quic_endpoint *e = user;
  if (quic_endpoint_push(e))
    for (struct quic_conn *c = e->conns; c; c = c->next)
      quic_conn_flush_soon(c);
}

/* Nobody is there, says the network: believed while the handshake has not said otherwise; later it is a reason to ask, because anybody can say so. */
static void on_failed(void *user, int err) {
  struct quic_endpoint *e = user;
  if (e->server || !e->conns)
    return;
  if (e->conns->up)
    quic_conn_doubt(e->conns, err);
  else
    quic_conn_die(e->conns, err, NULL);
}

const struct udp_events quic_endpoint_events = {on_packet, on_batch_end, on_writable, on_failed};

void quic_endpoint_inject(struct quic_endpoint *e, const uint8_t *p, size_t n, uint8_t ecn,
                          const struct sockaddr_storage *from, const struct sockaddr_storage *to) {
  struct udp_packet packet = {p, n, ecn, from, to};
  input(e, &packet, true);
  quic_endpoint_gathered(e);
}

/* --- life --- */

int quic_endpoint_new(struct loop *l, const struct udp_conf *udp, struct quic_endpoint **out) {
  struct quic_endpoint *e = calloc(1, sizeof *e);
  if (!e)
    return BEAM_ERR_NOMEM;
  e->loop = l;
  int err = BEAM_ERR_NOMEM;
  if (quic_cids_init(&e->cids) || !(e->tx = malloc(QUIC_TX_BYTES)))
    goto fail;
  random_bytes(e->reset_key, sizeof e->reset_key);
  if ((err = alarm_new(l, on_alarm, e, &e->alarm)) ||
      (err = udp_open(l, udp, &quic_endpoint_events, e, &e->udp)))
    goto fail;
  *out = e;
  return 0;
fail:
  quic_endpoint_free(e);
  return err;
}

void quic_endpoint_free(struct quic_endpoint *e) {
  udp_close(e->udp);
  alarm_free(e->alarm);
  quic_tls_credentials_free(e->credentials);
  quic_tickets_end(e);
  quic_cids_fini(&e->cids);
  block_put(e->rx);
  free(e->tx);
  gnutls_memset(e->reset_key, 0, sizeof e->reset_key);
  free(e);
}

int quic_endpoint_server(struct loop *l, const char *host, uint16_t port, bool reuse_port,
                         const struct quic_server_conf *conf, struct quic_endpoint **out) {
  struct udp_conf udp = {.net = conf->net, .host = host, .port = port, .reuse_port = reuse_port};
  if (!conf->alpn || !conf->choose || !conf->accept || conf->worker > 255 || !quic_verify_can(conf))
    return BEAM_ERR_INVALID;
  int err = quic_endpoint_new(l, &udp, out);
  if (err)
    return err;
  (*out)->server = true;
  (*out)->conf = *conf;
  if (conf->reset_key)
    memcpy((*out)->reset_key, conf->reset_key, sizeof(*out)->reset_key);
  if ((err = quic_tickets_begin(*out))) {
    quic_endpoint_free(*out);
    return err;
  }
  return 0;
}

uint16_t quic_endpoint_port(const struct quic_endpoint *e) {
  return udp_port(e->udp);
}

void quic_endpoint_refuse(struct quic_endpoint *e) {
  e->refusing = true;
}

/* A connection somebody owns stays until its owner lets go of it: the endpoint goes with the last one, its socket at once. */
void quic_endpoint_cubic(struct quic_endpoint *e, bool cubic) {
  e->conf.cubic = cubic;
}

void quic_endpoint_close(struct quic_endpoint *e) {
  if (!e)
    return;
  for (struct quic_conn *c = e->conns, *next; c; c = next) {
    next = c->next;
    ngtcp2_ccerr error;
    ngtcp2_ccerr_set_application_error(&error, c->codes->of(0), NULL, 0);
    quic_conn_die(c, BEAM_ERR_CLOSED, &error);
    if (c->closing || !c->accepted)
      quic_conn_free(c);
  }
  udp_close(e->udp);
  e->udp = NULL;
  e->closing = true;
  if (!e->conns)
    quic_endpoint_free(e);
}
