/* datagram.c: datagrams (RFC 9221) that wait for the engine or for the owner. Beyond LIMIT_QUIC_DATAGRAMS they are lost, as datagrams are. */
#include <beam/beam.h>

#include "quic/conn.h"

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

static void drop(struct evbuffer *b) {
  uint8_t head[LENGTH];
  if (evbuffer_remove(b, head, LENGTH) == LENGTH)
    evbuffer_drain(b, (size_t)head[0] << 8 | head[1]);
}

void quic_datagram_received(struct quic_conn *c, const uint8_t *p, size_t n) {
  if (n > 0xffff || waiting(c->datagrams_in) + LENGTH + n > LIMIT_QUIC_DATAGRAMS ||
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
  drop(c->datagrams_out);
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
  if (!c->up || waiting(c->datagrams_out) + LENGTH + n > LIMIT_QUIC_DATAGRAMS) {
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
  quic_conn_flush_soon(c);
  return 0;
}
