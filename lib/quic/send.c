/* send.c: packets out: what streams and datagrams have to say, in batches; the engine's timers.
 *
 *   flush (turn end) ─► timers due ─► packets into the endpoint's buffer, runs of one size and path ─► one system call a run ─► next timer
 *
 * Small streams go before bulk, and each kind takes turns packet by packet. The engine paces: when it gives nothing, its timer says when. What is
 * small waits for that, too; so no batch is longer than the path needs a millisecond for.
 */
#include <beam/beam.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "quic/conn.h"

enum {
  PIECES = 4,
  FINE_NS = 2 * QUIC_NS_PER_MS,
  PACE_NS = QUIC_NS_PER_MS / 4 /* no wake-up sooner: it costs some microseconds. The engine makes up for it */
};

/* --- one packet --- */

struct packet {
  struct quic_conn *c;
  ngtcp2_path_storage path;
  ngtcp2_pkt_info info;
  uint8_t *p;
  uint64_t ts;
  bool data_blocked; /* the connection's window is used up */
  enum quic_flight_state flight;
  size_t fresh; /* bytes of streams and datagrams in it */
};

/* 0: nothing of it fits or is left; 1: taken, more may go into the packet; else what the engine returned, the packet is complete. */
static long add_datagram(struct packet *k) {
  const uint8_t *p;
  size_t n;
  int accepted = 0;
  if (!k->c->up || !quic_datagram_next(k->c, &p, &n))
    return 0;
  ngtcp2_vec v = {(uint8_t *)p, n};
  ngtcp2_ssize got =
      ngtcp2_conn_writev_datagram(k->c->ng, &k->path.path, &k->info, k->p, QUIC_PAYLOAD_MAX, &accepted,
                                  NGTCP2_WRITE_DATAGRAM_FLAG_MORE, 0, &v, n ? 1 : 0, k->ts);
  bool refused = got == NGTCP2_ERR_INVALID_ARGUMENT || got == NGTCP2_ERR_INVALID_STATE;
  if (accepted)
    k->fresh += n;
  if (accepted || refused)
    quic_datagram_done(k->c);
  if (got == NGTCP2_ERR_WRITE_MORE || refused)
    return 1;
  return got ? (long)got : NGTCP2_ERR_STREAM_DATA_BLOCKED; /* 0: no room in the congestion window */
}

static bool has_something(struct quic_stream *st) {
  bool something = st->out.unsent || !st->announced || (st->s.out_ended && !st->fin_sent);
  return something && !st->mute && st->id >= 0 && quic_stream_may_send(st);
}

/* The next of a ring; those with nothing to say leave it. */
static struct quic_stream *next_of(struct quic_stream **ring) {
  while (*ring && !has_something(*ring))
    quic_stream_unwant(*ring);
  return *ring;
}

static struct quic_stream *next_stream(struct packet *k) {
  struct quic_conn *c = k->c;
  struct quic_stream *small = next_of(&c->want[0]), *bulk = next_of(&c->want[1]);
  if (small && k->flight != QUIC_FLIGHT_OVER)
    return small;
  if (bulk && k->flight == QUIC_FLIGHT_FREE)
    return bulk;
  c->flight.waited |= (small || bulk) && k->flight != QUIC_FLIGHT_SPARE;
  c->flight.full_flight |= (small || bulk) && k->flight >= QUIC_FLIGHT_FULL;
  return NULL;
}

static long add_stream(struct packet *k, struct quic_stream *st) {
  struct sendbuf_piece piece[PIECES];
  ngtcp2_vec v[PIECES];
  ngtcp2_ssize taken = -1;
  size_t n = 0;
  unsigned pieces = sendbuf_peek(&st->out, piece, PIECES);
  for (unsigned i = 0; i < pieces; i++) {
    v[i] = (ngtcp2_vec){(uint8_t *)piece[i].p, piece[i].n};
    n += piece[i].n;
  }
  bool fin = st->s.out_ended && n == st->out.unsent;
  uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_MORE | (fin ? NGTCP2_WRITE_STREAM_FLAG_FIN : 0);
  ngtcp2_ssize got = ngtcp2_conn_writev_stream(k->c->ng, &k->path.path, &k->info, k->p, QUIC_PAYLOAD_MAX,
                                               &taken, flags, st->id, v, pieces, k->ts);
  if (taken >= 0) {
    k->fresh += (size_t)taken;
    quic_stream_sent(st, (size_t)taken, fin && (size_t)taken == n);
  }
  switch (got) {
  case NGTCP2_ERR_WRITE_MORE:
    return 1;
  case NGTCP2_ERR_STREAM_DATA_BLOCKED:
    k->c->flight.blocked = true;
    if (!ngtcp2_conn_get_max_data_left(k->c->ng))
      k->data_blocked = true;
    else
      quic_stream_unwant(st); /* until its credit comes */
    return 1;
  case NGTCP2_ERR_STREAM_SHUT_WR:
  case NGTCP2_ERR_STREAM_NOT_FOUND:
    quic_stream_stopped(st);
    return 1;
  default:
    return (long)got;
  }
}

/* One packet's bytes, 0: none now, negative: the engine's error. */
static long write_packet(struct packet *k) {
  struct quic_conn *c = k->c;
  long got;
  k->fresh = 0;
  while ((got = add_datagram(k)) == 1)
    ;
  if (got == NGTCP2_ERR_STREAM_DATA_BLOCKED)
    return 0;
  if (got)
    return got;
  k->flight = quic_flight_state(c, k->ts);
  for (struct quic_stream *st; !k->data_blocked && (st = next_stream(k));) {
    got = add_stream(k, st);
    if (got == 1)
      continue;
    if (st->want_next && c->want[st->bulk] == st)
      c->want[st->bulk] = st->want_next; /* the next one's turn */
    return got;
  }
  return (long)ngtcp2_conn_writev_stream(c->ng, &k->path.path, &k->info, k->p, QUIC_PAYLOAD_MAX, NULL, 0, -1,
                                         NULL, 0, k->ts);
}

/* --- batches --- */

static bool same_address(const struct sockaddr_storage *a, const ngtcp2_addr *b) {
  return !memcmp(a, b->addr, b->addrlen);
}

/* The packet at e->tx + e->tx_n joins the last run, or begins one. None joins a probe of the path's size: when that is too
 * large for the first hop, the run is refused as a whole, and to congestion control its other packets are losses. */
static void add_to_run(struct quic_endpoint *e, const struct packet *k, size_t n) {
  struct quic_run *r = e->runs ? &e->run[e->runs - 1] : NULL;
  bool is_probe = r && r->segment > ngtcp2_conn_get_path_max_tx_udp_payload_size(k->c->ng);
  bool joins = r && !is_probe && n <= r->segment && r->n % r->segment == 0 &&
               r->segments < UDP_BATCH_SEGMENTS && r->n + n <= UDP_BATCH_BYTES && r->ecn == k->info.ecn &&
               same_address(&r->to, &k->path.path.remote) && same_address(&r->from, &k->path.path.local);
  if (!joins) {
    r = &e->run[e->runs++];
    *r = (struct quic_run){.at = e->tx_n, .segment = n, .ecn = k->info.ecn};
    memcpy(&r->to, k->path.path.remote.addr, k->path.path.remote.addrlen);
    memcpy(&r->from, k->path.path.local.addr, k->path.path.local.addrlen);
  }
  r->n += n;
  r->segments++;
  e->tx_n += n;
}

bool quic_endpoint_push(struct quic_endpoint *e) {
  for (unsigned i = 0; i < e->runs; i++) {
    struct quic_run *r = &e->run[i];
    while (r->n) {
      long sent = udp_send(e->udp, &r->to, &r->from, r->ecn, e->tx + r->at, r->n, r->segment);
      if (sent <
          0) /* over the first hop's size: a probe that was too large, or the path shrank. Lost, as on the way */
        sent = (long)r->n;
      r->at += (size_t)sent;
      r->n -= (size_t)sent;
      if (r->n) {
        memmove(e->run, r, (e->runs - i) * sizeof *r);
        e->runs -= i;
        e->blocked = true;
        return false;
      }
    }
  }
  e->runs = 0;
  e->tx_n = 0;
  e->blocked = false;
  return true;
}

void quic_send_raw(struct quic_endpoint *e, const struct sockaddr_storage *to,
                   const struct sockaddr_storage *from, const uint8_t *p, size_t n) {
  if (e->udp)
    udp_send(e->udp, to, from, UDP_NOT_ECT, p, n, n); /* no room: lost */
}

static bool wants(const struct quic_conn *c) {
  return c->want[0] || c->want[1];
}

/* As much as the engine gives, up to a burst; what it returned last. */
static long write_packets(struct quic_conn *c, uint64_t ts) {
  struct quic_endpoint *e = c->ep;
  struct packet k = {.c = c, .ts = ts};
  size_t total = 0;
  size_t burst = quic_flight_burst(c);
  long n = 0;
  ngtcp2_path_storage_zero(&k.path);
  while (total < burst) {
    if ((e->tx_n + QUIC_PAYLOAD_MAX > QUIC_TX_BYTES || e->runs == QUIC_TX_RUNS) && !quic_endpoint_push(e))
      break;
    k.p = e->tx + e->tx_n;
    n = write_packet(&k);
    if (n <= 0)
      break;
    add_to_run(e, &k, (size_t)n);
    c->sent_packets++;
    c->ect_packets += k.info.ecn != UDP_NOT_ECT;
    quic_flight_sent(&c->flight, (size_t)n, k.fresh);
    total += (size_t)n;
  }
  quic_endpoint_push(e);
  return n;
}

/* --- timers --- */

static void arm(struct quic_conn *c, bool more) {
  uint64_t at = ngtcp2_conn_get_expiry(c->ng), now = alarm_now(c->loop), early = quic_flight_early(c);
  if (early > now && early < at)
    at = early;
  quic_endpoint_unpace(c->ep, c);
  timer_stop(&c->timer);
  if (more && at <= now && !c->ep->blocked) {
    timer_start(&c->timer, 0); /* the next turn: what came in the meantime first */
    return;
  }
  if (at == UINT64_MAX)
    return;
  uint64_t wait = at > now ? at - now : 0;
  bool paced = wants(c) && wait < FINE_NS &&
               !loop_is_virtual(c->loop); /* acknowledgements, losses: a millisecond will do */
  if (paced)
    quic_endpoint_pace(c->ep, c, wait < PACE_NS ? now + PACE_NS : at);
  else if (timer_start(&c->timer, (wait + QUIC_NS_PER_MS - 1) / QUIC_NS_PER_MS))
    quic_conn_failed(c, NGTCP2_ERR_NOMEM);
}

void quic_send_flush(void *arg) {
  struct quic_conn *c = arg;
  if (c->dead || !c->ng || c->ep->blocked)
    return;
  uint64_t ts = alarm_now(c->loop);
  if (ngtcp2_conn_get_expiry(c->ng) <= ts) {
    int err = ngtcp2_conn_handle_expiry(c->ng, ts);
    if (err) {
      quic_conn_failed(c, err);
      return;
    }
  }
  quic_flight_look(c, ts);
  long n = write_packets(c, ts);
  if (n < 0) {
    quic_conn_failed(c, (int)n);
    return;
  }
  ngtcp2_conn_update_pkt_tx_time(c->ng, ts);
  quic_flight_turned(c);
  arm(c, n > 0);
  quic_conn_settle(c);
}

void quic_send_timer(void *arg) {
  struct quic_conn *c = arg;
  quic_conn_flush_soon(c);
}

/* --- the end --- */

long quic_send_last_words(struct quic_conn *c, const ngtcp2_ccerr *error) {
  uint8_t p[NGTCP2_MAX_UDP_PAYLOAD_SIZE];
  ngtcp2_path_storage path;
  ngtcp2_pkt_info info;
  ngtcp2_path_storage_zero(&path);
  ngtcp2_ssize n =
      ngtcp2_conn_write_connection_close(c->ng, &path.path, &info, p, sizeof p, error, alarm_now(c->loop));
  if (n <= 0)
    return n;
  struct sockaddr_storage to = c->peer, from = c->local;
  memcpy(&to, path.path.remote.addr, path.path.remote.addrlen);
  memcpy(&from, path.path.local.addr, path.path.local.addrlen);
  quic_endpoint_push(c->ep); /* behind what was said before */
  quic_send_raw(c->ep, &to, &from, p, (size_t)n);
  if ((c->last_words = malloc((size_t)n))) {
    memcpy(c->last_words, p, (size_t)n);
    c->last_words_n = (size_t)n;
  }
  return n;
}
