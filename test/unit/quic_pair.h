/* quic_pair.h: a QUIC client and a server that have met, over packets in memory (virtual loops) or loopback. Include it after cmocka.h.
 *
 * pair_init, then change sc, cc, memnet; pair_listen, pair_connect or pair_meet (all of it, until both are ready); pair_close, pair_fini. */
#ifndef QUIC_PAIR_H
#define QUIC_PAIR_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/limits.h"
#include "identity/ca.h"
#include "quic/quic.h"

struct peer {
  struct quic_conn *c;
  unsigned ready, closed, rooms, datagrams;
  int reason;
  size_t datagram_n;
  uint8_t datagram[65536];
  unsigned streams;
  struct stream *stream[4200]; /* those the other side opened */
  bool bidi[4200];
  int refuse; /* close what is opened with this at once */
  bool close_on_stream;
};

struct pair {
  struct loop *l;
  struct udp_net *net;
  struct udp_memnet_conf memnet;
  struct ca *ca;
  struct cert *leaf;
  struct tls_cert *cert;
  struct quic_server_conf sc;
  struct quic_client_conf cc;
  struct quic_endpoint *server;
  struct sockaddr_storage addr;
  struct peer a, b; /* client, server */
  bool real;
  unsigned accepted;
  int verdict; /* of the client's verify() */
  unsigned verified;
  struct tls_peer seen;
  uint8_t ca_seen[32];
  char sni[256], alpn[32]; /* as choose() heard them */
  bool choose_none;
};

#define PAIR_FN __attribute__((unused)) static
PAIR_FN void pair_turn(struct pair *p, unsigned ms);

#define PAIR_UNTIL(p, condition)                                                                             \
  do {                                                                                                       \
    for (int turns_ = 0; !(condition); turns_++) {                                                           \
      if (turns_ > 20000)                                                                                    \
        fail_msg("waited in vain for %s", #condition);                                                       \
      pair_turn(p, 1);                                                                                       \
    }                                                                                                        \
  } while (0)

static const char *const alpn[] = {"beam/1", NULL};
static const char *const names[] = {"relay.test", "127.0.0.1"};

static void on_ready(void *user) {
  ((struct peer *)user)->ready++;
}
static void on_stream(void *user, struct stream *s, bool bidi) {
  struct peer *e = user;
  assert_true(e->ready);
  if (e->refuse) {
    e->streams++;
    stream_close(s, e->refuse);
    return;
  }
  assert_true(e->streams < 4200);
  e->bidi[e->streams] = bidi;
  e->stream[e->streams++] = s;
  if (e->close_on_stream) {
    quic_conn_close(e->c, BEAM_ERR_LIMIT);
    e->c = NULL;
  }
}
static void on_datagram(void *user, const uint8_t *p, size_t n) {
  struct peer *e = user;
  e->datagrams++;
  e->datagram_n = n;
  memcpy(e->datagram, p, n);
}
static void on_room(void *user) {
  ((struct peer *)user)->rooms++;
}
static void on_closed(void *user, int reason) {
  struct peer *e = user;
  e->closed++;
  e->reason = reason;
  assert_int_equal(e->closed, 1);
  assert_true(reason < BEAM_AGAIN);
}
static const struct quic_conn_events events = {on_ready, on_stream, on_datagram, on_room, on_closed};

static void on_accept(void *user, struct quic_conn *c) {
  struct pair *p = user;
  if (p->accepted++) { /* only the first is looked at */
    quic_conn_close(c, BEAM_ERR_REFUSED);
    return;
  }
  p->b.c = c;
  quic_conn_own(c, &events, &p->b);
}

static struct tls_cert *choose(void *user, const char *sni, const char *which) {
  struct pair *p = user;
  strncpy(p->sni, sni, sizeof p->sni - 1);
  strncpy(p->alpn, which, sizeof p->alpn - 1);
  return p->choose_none ? NULL : tls_cert_ref(p->cert);
}

static int verify(void *user, const struct tls_peer *peer) {
  struct pair *p = user;
  p->verified++;
  memcpy(p->ca_seen, peer->ca_sha256, 32);
  p->seen = *peer;
  return p->verdict;
}

PAIR_FN void pair_init(struct pair *p, struct loop *l) {
  struct beam_error e = BEAM_ERROR_INIT;
  memset(p, 0, sizeof *p);
  p->l = l;
  p->real = !loop_is_virtual(l);
  p->memnet = (struct udp_memnet_conf){.seed = 1, .delay_ms = 1};
  assert_int_equal(ca_ephemeral(&p->ca, &e), 0);
  assert_int_equal(ca_issue(p->ca, names, 2, CA_LINK, 24, &p->leaf, &e), 0);
  assert_int_equal(
      tls_cert_new(p->leaf->chain, strlen(p->leaf->chain), p->leaf->key.p, p->leaf->key.n, &p->cert), 0);
  p->sc = (struct quic_server_conf){
      .alpn = alpn, .choose = choose, .accept = on_accept, .peer_bidi = 100, .peer_uni = 3, .user = p};
  p->cc = (struct quic_client_conf){.tls = {.alpn = alpn,
                                            .server_name = "relay.test",
                                            .name_any = true,
                                            .trust = TLS_TRUST_CHAIN,
                                            .verify = verify,
                                            .link = true,
                                            .user = p},
                                    .peer_bidi = LIMIT_LINK_STREAMS};
}

PAIR_FN int pair_listen(struct pair *p) {
  if (!p->real && !p->net)
    assert_int_equal(udp_memnet_new(p->l, &p->memnet, &p->net), 0);
  p->sc.net = p->cc.net = p->net;
  int err = quic_endpoint_server(p->l, "127.0.0.1", p->real ? 0 : 443, false, &p->sc, &p->server);
  struct sockaddr_in *v4 = (struct sockaddr_in *)&p->addr;
  v4->sin_family = AF_INET;
  v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  v4->sin_port = err ? 0 : htons(quic_endpoint_port(p->server));
  return err;
}

PAIR_FN int pair_connect(struct pair *p) {
  int err = quic_connect(p->l, &p->addr, &p->cc, &p->a.c);
  if (!err)
    quic_conn_own(p->a.c, &events, &p->a);
  return err;
}

PAIR_FN void pair_turn(struct pair *p, unsigned ms) {
  if (p->real)
    loop_turn(p->l, (int)ms);
  else
    loop_run_for(p->l, ms);
}

PAIR_FN void pair_meet(struct pair *p) {
  assert_int_equal(pair_listen(p), 0);
  assert_int_equal(pair_connect(p), 0);
  assert_int_equal(p->a.ready, 0); /* never from inside the call */
  PAIR_UNTIL(p, p->a.ready && p->b.ready);
}

PAIR_FN void pair_close(struct pair *p) {
  quic_conn_close(p->a.c, 0);
  quic_conn_close(p->b.c, 0);
  p->a.c = p->b.c = NULL;
}

PAIR_FN void pair_fini(struct pair *p) {
  pair_close(p);
  for (int i = 0; i < 4200; i++) {
    stream_close(p->a.stream[i], BEAM_ERR_RESET);
    stream_close(p->b.stream[i], BEAM_ERR_RESET);
  }
  quic_endpoint_close(p->server);
  pair_turn(p, p->real ? 1 : 10000); /* a client's last words linger */
  for (int i = 0; p->real && i < 10; i++)
    loop_turn(p->l, 1);
  tls_cert_unref(p->cert);
  cert_unref(p->leaf);
  ca_free(p->ca);
}

#endif
