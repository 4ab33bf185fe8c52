/* datagram.c: datagrams (RFC 9221) that wait for the engine or for the owner. Beyond LIMIT_QUIC_DATAGRAMS they are lost, as datagrams are. */
#include <beam/beam.h>
#include <string.h>

#include "io/budget.h"
#include "quic/conn.h"
#include "wire/datagram.h"

enum {
  LENGTH = 2,
  OVERHEAD = 1 + QUIC_CID + 4 + 16 + 3
}; /* of a packet with nothing else in it, and the frame's type and length */

static bool put(struct evbuffer **b, const uint8_t *p, size_t n) {
  uint8_t head[LENGTH] = {(uint8_t)(n >> 8), (uint8_t)n};
  if (!*b && !(*b = evbuffer_new()))
    return false;
  return !evbuffer_expand(*b, LENGTH + n) && !evbuffer_add(*b, head, LENGTH) && !evbuffer_add(*b, p, n);
}

static size_t waiting(const struct evbuffer *b) {
  return b ? evbuffer_get_length(b) : 0;
}

static bool first(struct evbuffer *b, const uint8_t **p, size_t *n) {
  uint8_t head[LENGTH];
  if (!b || evbuffer_copyout(b, head, LENGTH) != LENGTH)
    return false;
  *n = (size_t)head[0] << 8 | head[1];
  const uint8_t *all = evbuffer_pullup(b, (ev_ssize_t)(LENGTH + *n));
  *p = all ? all + LENGTH : NULL;
  return all != NULL;
}

/* The bytes it took. */
static size_t drop(struct evbuffer *b) {
  uint8_t head[LENGTH];
  if (evbuffer_remove(b, head, LENGTH) != LENGTH)
    return 0;
  size_t n = (size_t)head[0] << 8 | head[1];
  evbuffer_drain(b, n);
  return LENGTH + n;
}

static size_t out_limit(void) {
  return budget_left(&budget_pool) > LIMIT_POOL_SPARE ? LIMIT_QUIC_DATAGRAMS_MORE : LIMIT_QUIC_DATAGRAMS;
}

void quic_datagrams_free(struct quic_conn *c) {
  budget_give(&budget_pool, waiting(c->datagrams_out));
  if (c->datagrams_in)
    evbuffer_free(c->datagrams_in);
  if (c->datagrams_out)
    evbuffer_free(c->datagrams_out);
}

void quic_datagram_received(struct quic_conn *c, const uint8_t *p, size_t n) {
  if (n > 0xffff || waiting(c->datagrams_in) + LENGTH + n > LIMIT_QUIC_DATAGRAMS_IN ||
      !put(&c->datagrams_in, p, n))
    return;
  quic_conn_tell_soon(c);
}

void quic_datagrams_tell(struct quic_conn *c, const bool *gone) {
  const uint8_t *p;
  size_t n;
  /* What the owner does may bring no further ones: they come from the poll. */
  while (!*gone && first(c->datagrams_in, &p, &n)) {
    if (c->ev && c->ev->datagram)
      c->ev->datagram(c->user, p, n);
    if (!*gone)
      drop(c->datagrams_in);
  }
}

bool quic_datagram_next(struct quic_conn *c, const uint8_t **p, size_t *n) {
  return first(c->datagrams_out, p, n);
}

void quic_datagram_done(struct quic_conn *c) {
  budget_give(&budget_pool, drop(c->datagrams_out));
  if (!c->no_datagram_room || waiting(c->datagrams_out) > LIMIT_QUIC_DATAGRAMS / 2)
    return;
  c->no_datagram_room = 0;
  c->tell_room = 1;
  quic_conn_tell_soon(c);
}

size_t quic_conn_datagram_max(struct quic_conn *c) {
  const ngtcp2_transport_params *params =
      c->ng && c->up ? ngtcp2_conn_get_remote_transport_params(c->ng) : NULL;
  if (!params || params->max_datagram_frame_size <= 3)
    return 0;
  size_t n = ngtcp2_conn_get_path_max_tx_udp_payload_size(c->ng) - OVERHEAD;
  return n < params->max_datagram_frame_size - 3 ? n : (size_t)params->max_datagram_frame_size - 3;
}

int quic_conn_datagram(struct quic_conn *c, const uint8_t *p, size_t n) {
  if (c->dead || !c->ng)
    return BEAM_ERR_CLOSED;
  if (!c->up || waiting(c->datagrams_out) + LENGTH + n > out_limit()) {
    c->no_datagram_room = 1;
    return n > LIMIT_QUIC_DATAGRAMS / 2 ? BEAM_ERR_TOO_LARGE : BEAM_AGAIN;
  }
  size_t max = quic_conn_datagram_max(c);
  if (!max)
    return BEAM_ERR_UNSUPPORTED;
  if (n > max)
    return BEAM_ERR_TOO_LARGE;
  if (!put(&c->datagrams_out, p, n))
    return BEAM_ERR_NOMEM;
  budget_charge(&budget_pool, LENGTH + n);
  quic_conn_flush_soon(c);
  return 0;
}

/* --- of streams --- */

static size_t stream_max(struct stream *s) {
  struct quic_stream *st = (struct quic_stream *)s;
  uint8_t name[DATAGRAM_NAME_MAX];
  size_t head = datagram_name_encode(st->quarter, name), n = st->c ? quic_conn_datagram_max(st->c) : 0;
  return n > head ? n - head : 0;
}

static int stream_send(struct stream *s, const uint8_t *p, size_t n) {
  struct quic_stream *st = (struct quic_stream *)s;
  uint8_t all[QUIC_PAYLOAD_MAX];
  size_t head = datagram_name_encode(st->quarter, all);
  if (!st->c || st->id < 0)
    return BEAM_ERR_CLOSED;
  if (n > sizeof all - head)
    return BEAM_ERR_TOO_LARGE;
  memcpy(all + head, p, n);
  return quic_conn_datagram(st->c, all, head + n);
}

void quic_datagram_deafen(struct quic_stream *st) {
  if (st->listens)
    HASH_DEL(st->c->listeners, st);
  st->listens = 0;
}

static void stream_listen(struct stream *s, bool on) {
  struct quic_stream *st = (struct quic_stream *)s;
  if (!on) {
    quic_datagram_deafen(st);
  } else if (st->c && !st->listens) {
    HASH_ADD(hh, st->c->listeners, quarter, sizeof st->quarter, st);
    st->listens = st->hh.tbl != NULL; /* out of memory: what comes for it is lost */
  }
}

static const struct stream_datagrams of_stream = {stream_max, stream_send, stream_listen};

void quic_stream_datagrams(struct stream *s) {
  struct quic_stream *st = (struct quic_stream *)s;
  st->quarter = (uint64_t)st->id / 4;
  if (st->c && st->id >= 0)
    s->datagrams = &of_stream;
}

int quic_conn_deliver(struct quic_conn *c, const uint8_t *p, size_t n) {
  struct quic_stream *st;
  uint64_t quarter;
  long head = datagram_name_decode(p, n, &quarter);
  if (head < 0)
    return (int)head;
  HASH_FIND(hh, c->listeners, &quarter, sizeof quarter, st);
  if (!st || !st->s.on_datagram)
    return BEAM_ERR_NOT_FOUND;
  st->s.on_datagram(st->s.user, p + head, n - (size_t)head);
  return 0;
}
