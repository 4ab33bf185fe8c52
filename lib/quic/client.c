/* client.c: an endpoint for one connection that is dialled, and its move to another address. */
#include <beam/beam.h>
#include <netinet/in.h>
#include <string.h>

#include "base/log.h"
#include "quic/conn.h"

int quic_connect(struct loop *l, const struct sockaddr_storage *peer, const struct quic_client_conf *conf,
                 struct quic_conn **out) {
  struct udp_conf udp = {.net = conf->net, .peer = peer};
  struct quic_endpoint *e;
  struct quic_conn *c;
  if (!conf->tls.alpn || (conf->tls.trust == TLS_TRUST_CA && !conf->tls.ca))
    return BEAM_ERR_INVALID;
  int err = quic_endpoint_new(l, &udp, &e);
  if (err)
    return err;
  if ((err = quic_conn_new(e, &c))) {
    quic_endpoint_free(e);
    return err;
  }
  e->conf.net = conf->net;
  c->peer = *peer;
  c->local = *udp_address(e->udp);
  c->heard = loop_now(l);
  if ((err = quic_session_client(c, conf))) {
    quic_conn_free(c);
    return err;
  }
  quic_conn_flush_soon(c);
  *out = c;
  return 0;
}

int quic_conn_rebind(struct quic_conn *c) {
  struct quic_endpoint *e = c->ep;
  struct udp *old = e->udp, *fresh;
  if (c->server)
    return BEAM_ERR_INVALID;
  if (c->dead || !c->ng)
    return BEAM_ERR_CLOSED;
  if (!c->confirmed)
    return BEAM_AGAIN;
  struct udp_conf udp = {.net = e->conf.net, .peer = &c->peer};
  int err = udp_open(c->loop, &udp, &quic_endpoint_events, e, &fresh);
  if (err)
    return err;
  struct sockaddr_storage before = c->local;
  c->local = *udp_address(fresh);
  ngtcp2_path path = quic_conn_path(c);
  int rv = ngtcp2_conn_initiate_immediate_migration(c->ng, &path, alarm_now(c->loop));
  if (rv) { /* the handshake is not confirmed, or the peer has given no further connection id yet */
    c->local = before;
    udp_close(fresh);
    return rv == NGTCP2_ERR_NOMEM ? BEAM_ERR_NOMEM : BEAM_AGAIN;
  }
  log_info("quic", "moved to another address");
  quic_flight_moved(&c->flight);
  e->udp = fresh;
  e->runs = 0; /* what waited for the old socket is lost */
  e->tx_n = 0;
  e->blocked = false;
  udp_close(old);
  quic_conn_flush_soon(c);
  return 0;
}
