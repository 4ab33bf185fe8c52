/* conn.c: a connection's life, and what its owner is told. */
#include "quic/conn.h"

#include <arpa/inet.h>
#include <beam/beam.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"

/* --- error codes --- */

enum { CODE_BASE = 0x00bea000 };

static uint64_t beam_code(int reason) {
  return reason && reason != BEAM_ERR_CLOSED ? CODE_BASE + (uint64_t)-reason : 0;
}

static int beam_reason(uint64_t code) {
  return code > CODE_BASE + 1 && code <= CODE_BASE - BEAM_ERR_INTERNAL ? -(int)(code - CODE_BASE)
                                                                       : BEAM_ERR_RESET;
}

const struct quic_codes quic_codes_beam = {beam_code, beam_reason};

/* Why the peer closed. */
static int reason_of(struct quic_conn *c) {
  const ngtcp2_ccerr *e = ngtcp2_conn_get_ccerr(c->ng);
  if (c->was_reset)
    return BEAM_ERR_RESET;
  if (e->type == NGTCP2_CCERR_TYPE_APPLICATION)
    return e->error_code == c->codes->of(0) ? BEAM_ERR_CLOSED : c->codes->reason(e->error_code);
  switch (e->error_code) {
  case NGTCP2_NO_ERROR:
    return BEAM_ERR_CLOSED;
  case NGTCP2_CONNECTION_REFUSED:
    return BEAM_ERR_REFUSED;
  case NGTCP2_APPLICATION_ERROR: /* closed before the keys were there to say why */
    return BEAM_ERR_RESET;
  default:
    return (e->error_code & ~(uint64_t)0xff) == NGTCP2_CRYPTO_ERROR ? BEAM_ERR_TLS : BEAM_ERR_PROTOCOL;
  }
}

/* --- what the owner is told --- */

void quic_conn_tell_soon(struct quic_conn *c) {
  loop_soon(c->loop, &c->tell);
}

void quic_conn_flush_soon(struct quic_conn *c) {
  if (c->ng && !c->dead)
    loop_turn_end(c->loop, &c->flush);
}

static void tell_streams(struct quic_conn *c, const bool *gone) {
  while (!*gone && c->fresh && c->ev) {
    struct quic_stream *st = c->fresh;
    quic_stream_stale(st);
    c->ev->stream(c->user, &st->s, st->bidi);
  }
}

static void tell_state(struct quic_conn *c, const bool *gone) {
  if (c->server && c->up && !c->accepted && !c->dead) {
    c->accepted = 1;
    c->ep->conf.accept(c->ep->conf.user, c);
  }
  if (!*gone && c->tell_ready && c->ev) {
    c->tell_ready = 0;
    c->told_ready = 1;
    c->ev->ready(c->user);
  }
}

/* After each call the connection may be gone. */
static void tell(void *arg) {
  struct quic_conn *c = arg;
  bool gone = false;
  if (c->closing)
    return;
  c->gone = &gone;
  tell_state(c, &gone);
  if (!gone && c->told_ready)
    tell_streams(c, &gone);
  if (!gone && c->told_ready)
    quic_datagrams_tell(c, &gone);
  if (!gone && c->tell_room && c->ev) {
    c->tell_room = 0;
    if (c->ev->datagram_room)
      c->ev->datagram_room(c->user);
  }
  if (!gone && c->tell_closed && c->ev) {
    c->tell_closed = 0;
    c->ev->closed(c->user, c->closed);
  }
  if (!gone)
    c->gone = NULL;
}

/* --- the end --- */

static void abandon_streams(struct quic_conn *c, int reason, bool orphans_too) {
  if (c->early && c->ng) /* nobody's yet; the engine shall not look at its bytes any more */
    ngtcp2_conn_shutdown_stream(c->ng, 0, c->early->id, c->codes->of(BEAM_ERR_RESET));
  if (c->early)
    quic_stream_free(c->early);
  c->early = NULL;
  for (struct quic_stream *st = c->streams, *next; st; st = next) {
    next = st->next;
    if (!st->orphan || orphans_too)
      quic_stream_abandon(st, reason);
  }
}

/* Everything but the connection ids and the last words. */
static void end_engine(struct quic_conn *c) {
  quic_endpoint_unpace(c->ep, c);
  quic_endpoint_half_open(c, false);
  task_cancel(&c->flush);
  timer_stop(&c->timer);
  timer_stop(&c->trim);
  timer_stop(&c->deadline);
  timer_stop(&c->doubt);
  if (c->ng)
    ngtcp2_conn_del(c->ng);
  c->ng = NULL;
  quic_tls_end(c);
}

void quic_conn_free(struct quic_conn *c) {
  struct quic_endpoint *e = c->ep;
  abandon_streams(c, BEAM_ERR_RESET, true);
  end_engine(c);
  task_cancel(&c->tell);
  task_cancel(&c->reap);
  quic_cids_remove_all(&e->cids, c);
  quic_datagrams_free(c);
  quic_ticket_forget(c);
  if (c->prev)
    c->prev->next = c->next;
  else
    e->conns = c->next;
  if (c->next)
    c->next->prev = c->prev;
  free(c->client);
  free(c->last_words);
  free(c);
  if (!e->server || (e->closing && !e->conns))
    quic_endpoint_free(e);
}

static void say_bye(struct quic_conn *c, int reason);

/* The loop ends, or nobody wants it any more. */
static void reap(void *arg) {
  struct quic_conn *c = arg;
  say_bye(c, c->bye);
  quic_conn_free(c);
}

static bool is_owned(const struct quic_conn *c) {
  return !c->closing && (c->ev || (c->server ? c->accepted : true));
}

/* The engine goes; what comes late hears the last words again. */
static void linger(struct quic_conn *c) {
  enum { PTOS = 3, LINGER_MAX_MS = 3000 };
  uint64_t ms = PTOS * ngtcp2_conn_get_pto(c->ng) / QUIC_NS_PER_MS;
  bool stranger = c->server && !c->up;
  end_engine(c);
  c->lingering = 1;
  if (stranger) /* nothing of it stays */
    loop_soon(c->loop, &c->reap);
  else if (timer_start(&c->timer, ms < LINGER_MAX_MS ? ms : LINGER_MAX_MS) && !is_owned(c))
    loop_soon(c->loop, &c->reap);
}

void quic_conn_die(struct quic_conn *c, int reason, const ngtcp2_ccerr *error) {
  if (c->dead || !c->ng)
    return;
  quic_endpoint_gathered(c->ep);
  c->dead = 1;
  c->closed = reason;
  c->tell_closed = !c->closing;
  log_debug("quic", "closed role=%s reason=%s", c->server ? "server" : "client", err_find(reason)->what);
  abandon_streams(c, reason, true);
  if (error)
    quic_send_last_words(c, error);
  linger(c);
  quic_conn_tell_soon(c);
}

void quic_conn_failed(struct quic_conn *c, int liberr) {
  ngtcp2_ccerr e;
  ngtcp2_ccerr_default(&e);
  switch (liberr) {
  case NGTCP2_ERR_DRAINING:
    quic_conn_die(c, reason_of(c), NULL);
    return;
  case NGTCP2_ERR_IDLE_CLOSE:
  case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
  case NGTCP2_ERR_DROP_CONN:
    quic_conn_die(c, BEAM_ERR_TIMEOUT, NULL);
    return;
  case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
    quic_conn_die(c, BEAM_ERR_UNSUPPORTED, NULL);
    return;
  case NGTCP2_ERR_CRYPTO:
    ngtcp2_ccerr_set_tls_alert(&e, ngtcp2_conn_get_tls_alert(c->ng), NULL, 0);
    quic_conn_die(c, c->tls_err ? c->tls_err : BEAM_ERR_TLS, &e);
    return;
  case NGTCP2_ERR_NOMEM:
  case NGTCP2_ERR_CALLBACK_FAILURE:
    ngtcp2_ccerr_set_liberr(&e, NGTCP2_ERR_INTERNAL, NULL, 0);
    quic_conn_die(c, c->tls_err ? c->tls_err : BEAM_ERR_NOMEM, &e);
    return;
  default:
    log_limited(BEAM_LOG_INFO, "quic", "connection broken role=%s what=\"%s\"",
                c->server ? "server" : "client", ngtcp2_strerror(liberr));
    ngtcp2_ccerr_set_liberr(&e, liberr, NULL, 0);
    quic_conn_die(c, BEAM_ERR_PROTOCOL, &e);
  }
}

static void say_bye(struct quic_conn *c, int reason) {
  ngtcp2_ccerr e;
  ngtcp2_ccerr_set_application_error(&e, c->codes->of(reason), NULL, 0);
  quic_conn_die(c, reason ? reason : BEAM_ERR_CLOSED, &e);
}

/* All is delivered; but the peer must hear that its own last frames came, or it would take the end of the connection for an abort of its streams. */
void quic_conn_settle(struct quic_conn *c) {
  if (!c->closing || c->orphans || c->settling)
    return;
  c->settling = 1;
  if (timer_start(&c->deadline, 1 + ngtcp2_conn_get_pto(c->ng) / QUIC_NS_PER_MS))
    say_bye(c, c->bye);
}

static void on_deadline(void *arg) {
  struct quic_conn *c = arg;
  say_bye(c, c->bye);
}

static void on_timer(void *arg) {
  struct quic_conn *c = arg;
  if (!c->lingering)
    quic_send_timer(c);
  else if (!is_owned(c))
    quic_conn_free(c);
}

void quic_conn_close(struct quic_conn *c, int reason) {
  if (!c)
    return;
  if (c->gone)
    *c->gone = true;
  c->gone = NULL;
  c->ev = NULL;
  c->watch_streams = NULL;
  c->watch_heard = NULL;
  c->watch_moved = NULL;
  c->closing = 1;
  task_cancel(&c->tell);
  if (c->lingering || !c->ng) {
    if (!timer_set(&c->timer) || c->ep->closing)
      quic_conn_free(c);
    else if (!c->ep->server)
      loop_at_free(c->loop, &c->reap);
    return;
  }
  bool now = reason == BEAM_ERR_TIMEOUT || reason == BEAM_ERR_RESET || !c->up;
  /* CLOSED is what the peer says; here it would leave owners with streams that lead nowhere. */
  abandon_streams(c, reason && reason != BEAM_ERR_CLOSED ? reason : BEAM_ERR_RESET, now);
  if (!c->ep->server)
    loop_at_free(c->loop, &c->reap);
  c->bye = reason;
  if (now || !c->orphans || timer_start(&c->deadline, LIMIT_QUIC_CLOSE_MS))
    say_bye(c, reason);
  else
    quic_conn_flush_soon(c);
}

/* --- packets in --- */

/* The 1st, 2nd, 4th, 8th ... late packet hears it again. */
static void answer_late(struct quic_conn *c, const struct udp_packet *p) {
  c->late++;
  if (c->last_words && !(c->late & (c->late - 1)))
    quic_send_raw(c->ep, p->from, p->to, c->last_words, c->last_words_n);
}

void quic_conn_input(struct quic_conn *c, const struct udp_packet *p) {
  if (c->lingering || !c->ng) {
    answer_late(c, p);
    return;
  }
  socklen_t len = p->from->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
  ngtcp2_path path = {{(ngtcp2_sockaddr *)p->to, len}, {(ngtcp2_sockaddr *)p->from, len}, NULL};
  ngtcp2_pkt_info info = {.ecn = p->ecn};
  c->heard = loop_now(c->loop);
  if (c->watch_heard)
    *c->watch_heard = c->heard;
  c->ce_packets += p->ecn == UDP_CE;
  if (c->watch_moved)
    *c->watch_moved += p->n;
  int err = ngtcp2_conn_read_pkt(c->ng, &path, &info, p->p, p->n, alarm_now(c->loop));
  if (err)
    quic_conn_failed(c, err);
  else
    quic_conn_flush_soon(c);
}

/* --- doubt --- */

/* Nobody is there, says the network. Anybody can say so, and a relay that starts anew is away for a moment only: it is no proof. But what we sent when it
 * was said is still on its way, and the engine repeats it: a peer that is there answers. */
void quic_conn_doubt(struct quic_conn *c, int reason) {
  enum { PTOS = 3 };
  if (c->dead || c->closing || timer_set(&c->doubt))
    return;
  uint64_t ms = PTOS * ngtcp2_conn_get_pto(c->ng) / QUIC_NS_PER_MS;
  c->doubt_heard = c->heard;
  c->doubt_reason = reason;
  timer_start(&c->doubt, ms > LIMIT_QUIC_DOUBT_MS ? ms : LIMIT_QUIC_DOUBT_MS); /* without it PINGs find out */
}

static void on_doubt(void *arg) {
  struct quic_conn *c = arg;
  ngtcp2_conn_info info;
  ngtcp2_conn_get_conn_info(c->ng, &info);
  if (c->heard == c->doubt_heard && info.bytes_in_flight)
    quic_conn_die(c, c->doubt_reason, NULL);
}

/* --- made, asked --- */

int quic_conn_new(struct quic_endpoint *e, struct quic_conn **out) {
  struct quic_conn *c = calloc(1, sizeof *c);
  if (!c)
    return BEAM_ERR_NOMEM;
  c->ep = e;
  c->loop = e->loop;
  c->server = e->server;
  c->codes = &quic_codes_beam;
  c->fresh_tail = &c->fresh;
  quic_flight_init(&c->flight);
  task_init(&c->tell, tell, c);
  task_init(&c->flush, quic_send_flush, c);
  task_init(&c->reap, reap, c);
  timer_init(&c->timer, e->loop, on_timer, c);
  timer_init(&c->trim, e->loop, quic_window_trim, c);
  timer_init(&c->deadline, e->loop, on_deadline, c);
  timer_init(&c->doubt, e->loop, on_doubt, c);
  c->next = e->conns;
  if (c->next)
    c->next->prev = c;
  e->conns = c;
  *out = c;
  return 0;
}

ngtcp2_path quic_conn_path(struct quic_conn *c) {
  socklen_t len = c->peer.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
  return (ngtcp2_path){{(ngtcp2_sockaddr *)&c->local, len}, {(ngtcp2_sockaddr *)&c->peer, len}, NULL};
}

void quic_conn_own(struct quic_conn *c, const struct quic_conn_events *ev, void *user) {
  c->ev = ev;
  c->user = user;
  quic_conn_tell_soon(c);
}

void quic_conn_codes(struct quic_conn *c, const struct quic_codes *codes) {
  c->codes = codes;
}

void quic_conn_watch(struct quic_conn *c, unsigned *streams, uint64_t *heard) {
  c->watch_streams = streams;
  c->watch_heard = heard;
  if (streams)
    *streams = c->streams_owned;
  if (heard)
    *heard = c->heard;
}

void quic_conn_count(struct quic_conn *c, uint64_t *moved) {
  c->watch_moved = moved;
}

size_t quic_conn_queued(const struct quic_conn *c) {
  size_t n = 0;
  for (const struct quic_stream *st = c->streams; st; st = st->next)
    n += st->out.unsent;
  return n;
}

int quic_conn_open(struct quic_conn *c, bool bidi, struct stream **out) {
  if (c->dead || c->closing || !c->ng)
    return BEAM_ERR_CLOSED;
  if (!c->up)
    return BEAM_AGAIN;
  if (bidi && c->early) {
    *out = &c->early->s;
    c->early = NULL;
    return 0;
  }
  if (bidi ? !ngtcp2_conn_get_streams_bidi_left(c->ng) : !ngtcp2_conn_get_streams_uni_left(c->ng))
    return BEAM_ERR_LIMIT;
  if (!quic_window_fits())
    return BEAM_ERR_NOMEM;
  struct quic_stream *st;
  int64_t id;
  int err = quic_stream_make(c, -1, bidi, true, &st);
  if (err)
    return err;
  if (bidi ? ngtcp2_conn_open_bidi_stream(c->ng, &id, st) : ngtcp2_conn_open_uni_stream(c->ng, &id, st)) {
    quic_stream_free(st);
    return BEAM_ERR_NOMEM;
  }
  st->id = id;
  *out = &st->s;
  return 0;
}

void quic_conn_allow(struct quic_conn *c, unsigned bidi, unsigned uni) {
  if (!c->ng)
    return;
  if (bidi)
    ngtcp2_conn_extend_max_streams_bidi(c->ng, bidi);
  if (uni)
    ngtcp2_conn_extend_max_streams_uni(c->ng, uni);
  quic_conn_flush_soon(c);
}

const char *quic_conn_alpn(const struct quic_conn *c) {
  return c->alpn;
}

const char *quic_conn_sni(const struct quic_conn *c) {
  return c->sni;
}

const struct sockaddr_storage *quic_conn_local(const struct quic_conn *c) {
  return &c->local;
}
const struct sockaddr_storage *quic_conn_peer(const struct quic_conn *c) {
  return &c->peer;
}

struct loop *quic_conn_loop(const struct quic_conn *c) {
  return c->loop;
}

void quic_conn_info(struct quic_conn *c, struct quic_conn_info *out) {
  ngtcp2_conn_info info;
  memset(out, 0, sizeof *out);
  if (!c->ng)
    return;
  ngtcp2_conn_get_conn_info(c->ng, &info);
  out->rtt_us = (uint32_t)(info.smoothed_rtt / 1000);
  out->window = info.cwnd;
  out->payload = ngtcp2_conn_get_path_max_tx_udp_payload_size(c->ng);
  out->sent = c->sent_packets;
  out->ect = c->ect_packets;
  out->ce = c->ce_packets;
  out->resumed = c->up && gnutls_session_is_resumed(c->tls);
  out->early = c->up && gnutls_session_get_flags(c->tls) & GNUTLS_SFLAGS_EARLY_DATA;
}

int quic_conn_update_keys(struct quic_conn *c) {
  if (c->dead || !c->ng)
    return BEAM_ERR_CLOSED;
  if (!c->confirmed || ngtcp2_conn_initiate_key_update(c->ng, alarm_now(c->loop)))
    return BEAM_AGAIN;
  quic_conn_flush_soon(c);
  return 0;
}
