#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/limits.h"
#include "pair.h"

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

void pair_init(struct pair *p, struct loop *l) {
  struct beam_error e = BEAM_ERROR_INIT;
  memset(p, 0, sizeof *p);
  p->l = l;
  p->real = !loop_is_virtual(l);
  p->memnet = (struct udp_memnet_conf){.seed = 1, .delay_ms = 1};
  assert_int_equal(ca_ephemeral(&p->ca, &e), 0);
  assert_int_equal(ca_issue(p->ca, names, 2, CA_LINK, 24, &p->leaf, &e), 0);
  assert_int_equal(tls_cert_new(p->leaf->chain, strlen(p->leaf->chain), p->leaf->key.p, p->leaf->key.n, &p->cert), 0);
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

int pair_listen(struct pair *p) {
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

int pair_connect(struct pair *p) {
  int err = quic_connect(p->l, &p->addr, &p->cc, &p->a.c);
  if (!err)
    quic_conn_own(p->a.c, &events, &p->a);
  return err;
}

void pair_turn(struct pair *p, unsigned ms) {
  if (p->real)
    loop_turn(p->l, (int)ms);
  else
    loop_run_for(p->l, ms);
}

void pair_meet(struct pair *p) {
  assert_int_equal(pair_listen(p), 0);
  assert_int_equal(pair_connect(p), 0);
  assert_int_equal(p->a.ready, 0); /* never from inside the call */
  PAIR_UNTIL(p, p->a.ready && p->b.ready);
}

void pair_close(struct pair *p) {
  quic_conn_close(p->a.c, 0);
  quic_conn_close(p->b.c, 0);
  p->a.c = p->b.c = NULL;
}

void pair_fini(struct pair *p) {
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
