/* Connections: handshakes and their refusals, ends, Retry, resets, workers, migration, keys, datagrams, what a bad network does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include <gnutls/gnutls.h>
#include <time.h>

#include "../quic_pair.h"
#include "io/budget.h"
#include "quic/conn.h"

static struct loop *l;
static struct pair *p;
static size_t pool; /* left before the test */

static int up(void **state) {
  (void)state;
  if (loop_new_virtual(&l) || !(p = calloc(1, sizeof *p)))
    return 1;
  pool = budget_left(&budget_pool);
  pair_init(p, l);
  return 0;
}
static int down(void **state) {
  (void)state;
  pair_fini(p);
  udp_memnet_free(p->net);
  free(p);
  loop_free(l);
  assert_int_equal(budget_left(&budget_pool), pool);
  return 0;
}

/* --- handshakes --- */

static void both_know_what_was_agreed(void **state) {
  (void)state;
  static const uint8_t none[32];
  uint8_t a[32], b[32];
  struct stream *s;
  assert_int_equal(pair_listen(p), 0);
  assert_int_equal(pair_connect(p), 0);
  assert_int_equal(quic_conn_exporter(p->a.c, a), BEAM_AGAIN);
  assert_int_equal(quic_conn_open(p->a.c, true, &s), BEAM_AGAIN);
  assert_string_equal(quic_conn_alpn(p->a.c), "");
  PAIR_UNTIL(p, p->a.ready && p->b.ready);
  assert_string_equal(quic_conn_alpn(p->a.c), "beam/1");
  assert_string_equal(quic_conn_alpn(p->b.c), "beam/1");
  assert_string_equal(quic_conn_sni(p->b.c), "relay.test");
  assert_string_equal(p->sni, "relay.test");
  assert_string_equal(p->alpn, "beam/1");
  assert_int_equal(quic_conn_exporter(p->a.c, a), 0);
  assert_int_equal(quic_conn_exporter(p->b.c, b), 0);
  assert_memory_equal(a, b, 32);
  assert_memory_not_equal(a, none, 32);
  assert_int_equal(p->verified, 1);
  assert_memory_equal(p->ca_seen, ca_fingerprint(p->ca), 32);
  assert_int_equal(p->seen.count, 2);
  assert_memory_equal(p->seen.leaf_sha256, p->leaf->fingerprint, 32);
  assert_int_equal(addr_port(quic_conn_peer(p->a.c)), 443);
}

static const char *const other_alpn[] = {"h3", NULL};

static void refusals(void **state) {
  (void)state;
  static const int verdicts[] = {BEAM_ERR_UNTRUSTED, BEAM_ERR_DENIED, BEAM_ERR_NOMEM};
  for (int i = 0; i < 9; i++) {
    if (i) {
      assert_int_equal(down(NULL), 0);
      assert_int_equal(up(NULL), 0);
    }
    struct ca *other = NULL;
    struct beam_error e = BEAM_ERROR_INIT;
    int want = BEAM_ERR_UNTRUSTED;
    if (i < 3)
      want = p->verdict = verdicts[i];
    if (i == 3) {
      p->cc.tls.alpn = other_alpn;
      want = BEAM_ERR_TLS; /* by the server's alert */
    }
    if (i == 4) {
      p->choose_none = true;
      want = BEAM_ERR_TLS;
    }
    if (i == 5) { /* another CA */
      assert_int_equal(ca_ephemeral(&other, &e), 0);
      p->cc.tls.trust = TLS_TRUST_CA;
      p->cc.tls.ca = ca_pem(other);
      p->cc.tls.ca_n = strlen(ca_pem(other));
    }
    if (i == 6) { /* another name */
      p->cc.tls.trust = TLS_TRUST_CA;
      p->cc.tls.ca = ca_pem(p->ca);
      p->cc.tls.ca_n = strlen(ca_pem(p->ca));
      p->cc.tls.name_any = false;
      p->cc.tls.server_name = "other.test";
    }
    if (i == 7) { /* another address */
      p->cc.tls.trust = TLS_TRUST_CA;
      p->cc.tls.ca = ca_pem(p->ca);
      p->cc.tls.ca_n = strlen(ca_pem(p->ca));
      p->cc.tls.name_any = false;
      p->cc.tls.server_name = "127.0.0.2";
    }
    if (i == 8) { /* a chain that stops short of its end */
      struct cert *leaf;
      tls_cert_unref(p->cert);
      assert_int_equal(ca_issue(p->ca, names, 1, CA_SERVER, 1, &leaf, &e), 0);
      assert_int_equal(tls_cert_new(leaf->leaf.p, leaf->leaf.n, leaf->key.p, leaf->key.n, &p->cert), 0);
      cert_unref(leaf);
    }
    assert_int_equal(pair_listen(p), 0);
    assert_int_equal(pair_connect(p), 0);
    PAIR_UNTIL(p, p->a.closed);
    assert_int_equal(p->a.reason, want);
    assert_int_equal(p->a.ready, 0);
    pair_turn(p, 5000);
    assert_int_equal(p->accepted, 0); /* nobody heard of it at the server */
    ca_free(other);
  }
}

static void trusted_by_ca_and_name(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    if (i) {
      assert_int_equal(down(NULL), 0);
      assert_int_equal(up(NULL), 0);
    }
    p->cc.tls.trust = i == 2 ? TLS_TRUST_ANY : TLS_TRUST_CA;
    p->cc.tls.name_any = false;
    p->cc.tls.ca = ca_pem(p->ca);
    p->cc.tls.ca_n = strlen(ca_pem(p->ca));
    p->cc.tls.server_name = i ? "127.0.0.1" : "relay.test";
    pair_meet(p);
    assert_memory_equal(p->ca_seen, ca_fingerprint(p->ca), 32);
    assert_string_equal(p->sni, i ? "" : "relay.test"); /* an address is no server name */
  }
}

static int see_client(void *user, const struct tls_peer *peer) {
  struct pair *k = user;
  k->seen = *peer;
  k->verified++;
  return k->choose_none ? BEAM_ERR_DENIED : 0;
}

static void a_client_shows_its_certificate(void **state) {
  (void)state;
  struct beam_error e = BEAM_ERROR_INIT;
  for (int i = 0; i < 3; i++) {
    static const char *const device[] = {"device.test"};
    struct cert *leaf;
    struct tls_cert *cert;
    if (i) {
      assert_int_equal(down(NULL), 0);
      assert_int_equal(up(NULL), 0);
    }
    assert_int_equal(ca_issue(p->ca, device, 1, CA_CLIENT, 24, &leaf, &e), 0);
    char chain[16384];
    assert_true(snprintf(chain, sizeof chain, "%s%s", leaf->chain,
                         strstr(leaf->chain, "END") ? ca_pem(p->ca) : "") > 0);
    assert_int_equal(tls_cert_new(chain, strlen(chain), leaf->key.p, leaf->key.n, &cert), 0);
    p->sc.client_cert = true;
    p->sc.verify = see_client;
    p->cc.tls.verify = NULL;
    p->cc.tls.cert = i < 2 ? cert : NULL;
    if (i == 1) { /* refused by the server's verify(): the client hears of it later */
      p->sc.verify = verify;
      p->verdict = BEAM_ERR_DENIED;
      assert_int_equal(pair_listen(p), 0);
      assert_int_equal(pair_connect(p), 0);
      PAIR_UNTIL(p, p->a.closed);
      assert_int_equal(p->accepted, 0);
    } else {
      pair_meet(p);
      assert_int_equal(p->verified, i == 0);
      if (!i)
        assert_memory_equal(p->seen.leaf_sha256, leaf->fingerprint, 32);
    }
    cert_unref(leaf);
    tls_cert_unref(cert);
  }
}

static time_t in_ten_days(time_t *t) {
  time_t then = time(NULL) + 10 * 24 * 3600;
  return t ? *t = then : then;
}

/* Devices of this relay's CA show the leaf alone; whose it is and until when goes up with the connection. */
static void a_device_is_known_by_the_relays_own_ca(void **state) {
  (void)state;
  static const char *const device[] = {"device.test"};
  enum { OURS, NONE, FOREIGN, EXPIRED, FOR_SERVERS } row;
  struct beam_error e = BEAM_ERROR_INIT;
  for (row = OURS; row <= FOR_SERVERS; row++) {
    struct ca *other;
    struct cert *leaf;
    struct tls_cert *cert;
    if (row) {
      assert_int_equal(down(NULL), 0);
      assert_int_equal(up(NULL), 0);
    }
    assert_int_equal(ca_ephemeral(&other, &e), 0);
    assert_int_equal(ca_issue(row == FOREIGN ? other : p->ca, device, 1,
                              row == FOR_SERVERS ? CA_SERVER : CA_CLIENT, 24, &leaf, &e),
                     0);
    assert_int_equal(tls_cert_new(leaf->leaf.p, leaf->leaf.n, leaf->key.p, leaf->key.n, &cert), 0);
    p->sc.client_cert = true;
    p->sc.ca = ca_pem(p->ca);
    p->sc.ca_n = strlen(ca_pem(p->ca));
    p->sc.tickets = "beam/1";
    p->cc.tls.trust = TLS_TRUST_ANY; /* by then its own certificate has expired, too */
    p->cc.tls.cert = row == NONE ? NULL : cert;
    if (row == EXPIRED)
      gnutls_global_set_time_function(in_ten_days);
    if (row <= NONE) {
      pair_meet(p);
      assert_null(quic_conn_client(p->a.c));
      const struct quic_client *c = quic_conn_client(p->b.c);
      assert_int_equal(c != NULL, row == OURS);
      if (c) {
        assert_memory_equal(c->sha256, leaf->fingerprint, 32);
        assert_string_equal(c->name, device[0]);
        assert_int_equal(c->not_after, leaf->not_after);
      }
      pair_turn(p, 100);
      const uint8_t *session;
      size_t n; /* a session would outlive the certificate */
      assert_int_equal(quic_conn_session(p->a.c, &session, &n), row == OURS ? BEAM_ERR_NOT_FOUND : 0);
    } else {
      assert_int_equal(pair_listen(p), 0);
      assert_int_equal(pair_connect(p), 0);
      PAIR_UNTIL(p, p->a.closed);
      assert_int_equal(p->accepted, 0);
    }
    gnutls_global_set_time_function(time);
    cert_unref(leaf);
    tls_cert_unref(cert);
    ca_free(other);
  }
  p->sc.ca = NULL; /* asked for, and nothing to trust it by */
  struct quic_endpoint *none;
  assert_int_equal(quic_endpoint_server(l, "127.0.0.1", 444, false, &p->sc, &none), BEAM_ERR_INVALID);
}

static void nobody_answers(void **state) {
  (void)state;
  assert_int_equal(pair_listen(p), 0);
  udp_memnet_blackhole(p->net, UDP_MEMNET_TO);
  assert_int_equal(pair_connect(p), 0);
  pair_turn(p, LIMIT_HANDSHAKE_MS - 1);
  assert_int_equal(p->a.closed, 0);
  pair_turn(p, 5000);
  assert_int_equal(p->a.closed, 1);
  assert_int_equal(p->a.reason, BEAM_ERR_TIMEOUT);
  udp_memnet_blackhole(p->net, 0);
}

/* The client cannot know how long the way is; what it takes it for decides how long a lost first packet costs. */
static void the_first_packet_is_lost(void **state) {
  (void)state;
  assert_int_equal(pair_listen(p), 0);
  udp_memnet_blackhole(p->net, UDP_MEMNET_TO);
  assert_int_equal(pair_connect(p), 0);
  pair_turn(p, 10);
  udp_memnet_blackhole(p->net, 0);
  pair_turn(p, 3 * LIMIT_QUIC_FIRST_RTT_MS - 15);
  assert_int_equal(p->a.ready, 0);
  pair_turn(p, 20);
  assert_int_equal(p->a.ready, 1);
}

static void a_handshake_survives_loss(void **state) {
  (void)state;
  for (unsigned seed = 1; seed <= 8; seed++) {
    if (seed > 1) {
      assert_int_equal(down(NULL), 0);
      assert_int_equal(up(NULL), 0);
    }
    p->memnet.seed = seed;
    p->memnet.loss = 200;
    p->memnet.jitter_ms = 20;
    pair_meet(p);
  }
}

static void closing_midway(void **state) {
  (void)state;
  for (unsigned ms = 0; ms < 12; ms++) {
    if (ms) {
      assert_int_equal(down(NULL), 0);
      assert_int_equal(up(NULL), 0);
    }
    assert_int_equal(pair_listen(p), 0);
    assert_int_equal(pair_connect(p), 0);
    pair_turn(p, ms);
    if (ms & 1)
      quic_conn_close(p->a.c, ms & 2 ? BEAM_ERR_TIMEOUT : 0);
    if (!(ms & 1)) {
      quic_endpoint_close(p->server);
      p->server = NULL;
      quic_conn_close(p->b.c, 0);
      p->b.c = NULL;
    }
    if (ms & 1)
      p->a.c = NULL;
    pair_turn(p, 20000);
  }
}

/* --- ends --- */

static void the_reason_crosses(void **state) {
  (void)state;
  static const int reasons[] = {0, BEAM_ERR_DENIED, BEAM_ERR_TIMEOUT, BEAM_ERR_RESET, BEAM_ERR_INTERNAL};
  for (unsigned i = 0; i < 2 * sizeof reasons / sizeof *reasons; i++) {
    if (i) {
      assert_int_equal(down(NULL), 0);
      assert_int_equal(up(NULL), 0);
    }
    pair_meet(p);
    struct peer *closer = i & 1 ? &p->a : &p->b, *other = i & 1 ? &p->b : &p->a;
    int reason = reasons[i / 2];
    quic_conn_close(closer->c, reason);
    closer->c = NULL;
    PAIR_UNTIL(p, other->closed);
    assert_int_equal(other->reason, reason ? reason : BEAM_ERR_CLOSED);
    struct stream *s;
    assert_int_equal(quic_conn_open(other->c, true, &s), BEAM_ERR_CLOSED);
    assert_int_equal(quic_conn_datagram(other->c, (const uint8_t *)"x", 1), BEAM_ERR_CLOSED);
  }
}

/* The close was lost: what the other side says is answered with it again. */
static void a_lost_close_is_said_again(void **state) {
  (void)state;
  struct stream *s;
  pair_meet(p);
  assert_int_equal(quic_conn_open(p->a.c, true, &s), 0);
  pair_turn(p, 100);
  udp_memnet_blackhole(p->net, UDP_MEMNET_FROM);
  quic_conn_close(p->b.c, BEAM_ERR_LIMIT);
  p->b.c = NULL;
  pair_turn(p, 5);
  udp_memnet_blackhole(p->net, 0);
  assert_int_equal(p->a.closed, 0);
  assert_int_equal(stream_write(s, "still there?", 12), 12);
  PAIR_UNTIL(p, p->a.closed);
  assert_int_equal(p->a.reason, BEAM_ERR_LIMIT);
  stream_close(s, 0);
}

/* The server knows nothing of it any more, but its key is the same. */
static void a_restart_resets_statelessly(void **state) {
  (void)state;
  static const uint8_t key[32] = "the same before and after it";
  struct stream *s;
  p->sc.reset_key = key;
  pair_meet(p);
  assert_int_equal(quic_conn_open(p->a.c, true, &s), 0);
  pair_turn(p, 200);
  udp_memnet_blackhole(p->net, UDP_MEMNET_FROM);
  quic_endpoint_close(p->server);
  quic_conn_close(p->b.c, 0);
  p->b.c = NULL;
  pair_turn(p, 100);
  udp_memnet_blackhole(p->net, 0);
  assert_int_equal(quic_endpoint_server(l, "127.0.0.1", 443, false, &p->sc, &p->server), 0);
  assert_int_equal(p->a.closed, 0);
  static char block[2000];
  assert_int_equal(stream_write(s, block, sizeof block), sizeof block);
  PAIR_UNTIL(p, p->a.closed);
  assert_int_equal(p->a.reason, BEAM_ERR_RESET);
  stream_close(s, 0);
}

static void silence_ends_it(void **state) {
  (void)state;
  pair_meet(p);
  pair_turn(p, 3 * LIMIT_QUIC_IDLE_MS); /* the client says something from time to time */
  assert_int_equal(p->a.closed + p->b.closed, 0);
  udp_memnet_blackhole(p->net, UDP_MEMNET_TO);
  pair_turn(p, 2 * LIMIT_QUIC_IDLE_MS);
  assert_int_equal(p->a.reason, BEAM_ERR_TIMEOUT);
  assert_int_equal(p->b.reason, BEAM_ERR_TIMEOUT);
  udp_memnet_blackhole(p->net, 0);
}

/* "Port unreachable", which anybody can forge: who lives answers what was just sent, and goes on; who does not is given up a second later. */
static void the_network_says_nobody_is_there(void **state) {
  (void)state;
  static char few[100];
  struct stream *s;
  pair_meet(p);
  assert_int_equal(quic_conn_open(p->a.c, true, &s), 0);
  pair_turn(p, 200);
  for (int gone = 0; gone < 2; gone++) {
    udp_memnet_blackhole(p->net, gone ? UDP_MEMNET_TO : 0);
    assert_int_equal(stream_write(s, few, sizeof few), sizeof few);
    pair_turn(p, 1);
    uint64_t said = loop_now(l);
    quic_endpoint_events.failed(p->a.c->ep, BEAM_ERR_REFUSED);
    pair_turn(p, LIMIT_QUIC_DOUBT_MS - 1);
    assert_int_equal(p->a.closed, 0);
    if (gone)
      PAIR_UNTIL(p, p->a.closed);
    else
      pair_turn(p, 2 * LIMIT_QUIC_DOUBT_MS);
    assert_int_equal(p->a.closed, gone);
    if (gone)
      assert_int_equal(loop_now(l) - said, LIMIT_QUIC_DOUBT_MS);
  }
  assert_int_equal(p->a.reason, BEAM_ERR_REFUSED);
  udp_memnet_blackhole(p->net, 0);
  stream_close(s, BEAM_ERR_RESET);
}

static void a_closing_endpoint_tells_everyone(void **state) {
  (void)state;
  struct stream *s;
  pair_meet(p);
  assert_int_equal(quic_conn_open(p->b.c, true, &s), 0);
  quic_endpoint_refuse(p->server);
  pair_turn(p, 100);
  assert_int_equal(p->a.closed + p->b.closed, 0);
  struct quic_conn *late;
  struct peer third = {0};
  assert_int_equal(quic_connect(l, &p->addr, &p->cc, &late), 0);
  third.c = late;
  quic_conn_own(late, &events, &third);
  PAIR_UNTIL(p, third.closed);
  assert_int_equal(third.reason, BEAM_ERR_REFUSED);
  quic_conn_close(late, 0);
  quic_endpoint_close(p->server);
  p->server = NULL;
  PAIR_UNTIL(p, p->a.closed && p->b.closed);
  assert_int_equal(p->a.reason, BEAM_ERR_CLOSED);
  assert_true(stream_dead(s));
  stream_close(s, 0);
}

static void closing_inside_a_callback(void **state) {
  (void)state;
  struct stream *s[3];
  pair_meet(p);
  p->a.close_on_stream = true;
  for (int i = 0; i < 3; i++)
    assert_int_equal(quic_conn_open(p->b.c, true, &s[i]), 0);
  PAIR_UNTIL(p, p->b.closed);
  assert_int_equal(p->a.streams, 1);
  assert_int_equal(p->b.reason, BEAM_ERR_LIMIT);
  for (int i = 0; i < 3; i++)
    stream_close(s[i], 0);
}

/* --- newcomers --- */

static unsigned retries;
static void watch(void *user, uint8_t *packet, size_t *n) {
  (void)user, (void)n;
  retries += (packet[0] & 0xf0) == 0xf0; /* a long header of type Retry */
}

static void an_address_is_proved_when_asked(void **state) {
  (void)state;
  p->sc.always_retry = true;
  p->memnet.mangle = watch;
  retries = 0;
  pair_meet(p);
  assert_int_equal(retries, 1);
  quic_conn_close(p->a.c, 0);
  p->a.c = NULL;
  PAIR_UNTIL(p, p->b.closed);
}

/* Handshakes that never go on: the ninth of one address must prove it, and those after it still get in. */
static void half_open_handshakes_are_bounded(void **state) {
  (void)state;
  enum { MANY = 40 };
  struct quic_conn *c[MANY];
  struct peer e[MANY];
  static struct peer zero;
  p->memnet.mangle = watch;
  retries = 0;
  assert_int_equal(pair_listen(p), 0);
  udp_memnet_blackhole(p->net, UDP_MEMNET_FROM); /* they ask, and hear nothing */
  for (int i = 0; i < MANY; i++) {
    e[i] = zero;
    assert_int_equal(quic_connect(l, &p->addr, &p->cc, &c[i]), 0);
    quic_conn_own(c[i], &events, &e[i]);
    pair_turn(p, 2);
  }
  udp_memnet_blackhole(p->net, 0);
  assert_int_equal(retries, 0); /* the black hole took them */
  assert_int_equal(pair_connect(p), 0);
  PAIR_UNTIL(p, p->a.ready);
  assert_true(retries > 0);
  for (int i = 0; i < MANY; i++)
    quic_conn_close(c[i], 0);
}

/* --- packets nobody asked for --- */

static unsigned answers;
static size_t answer_n;
static uint8_t answer[2000];
static void on_answer(void *user, const struct udp_packet *packet) {
  (void)user;
  answers++;
  answer_n = packet->n;
  memcpy(answer, packet->p, packet->n < sizeof answer ? packet->n : sizeof answer);
}
static void nothing(void *user) {
  (void)user;
}
static const struct udp_events stranger_events = {.packet = on_answer, .writable = nothing};

static void strangers_are_answered_sparingly(void **state) {
  (void)state;
  struct udp *u;
  uint8_t packet[1400] = {0};
  assert_int_equal(pair_listen(p), 0);
  struct udp_conf conf = {.net = p->net};
  assert_int_equal(udp_open(l, &conf, &stranger_events, NULL, &u), 0);
  answers = 0;
  /* another version: what we speak, if it was large enough */
  packet[0] = 0xc0;
  packet[1] = 0x1a;
  packet[5] = 8;
  packet[14] = 8;
  udp_send(u, &p->addr, NULL, 0, packet, 1200, 1200);
  pair_turn(p, 5);
  assert_int_equal(answers, 1);
  assert_true(answer[0] & 0x80);
  assert_memory_equal(answer + 1, "\0\0\0\0", 4);
  udp_send(u, &p->addr, NULL, 0, packet, 600, 600);
  pair_turn(p, 5);
  assert_int_equal(answers, 1);
  /* a connection nobody knows: a reset, smaller than what it answers */
  for (size_t n = 1; n < 100; n++) {
    memset(packet, 0x55, sizeof packet);
    packet[0] = 0x40;
    answers = 0;
    udp_send(u, &p->addr, NULL, 0, packet, n, n);
    pair_turn(p, 5);
    assert_true(answers <= 1);
    assert_true(!answers || answer_n < n);
    assert_int_equal(answers, n > 22);
  }
  /* an Initial that is too small, or garbage: silence */
  answers = 0;
  for (size_t n = 1; n < 1400; n += 13) {
    memset(packet, 0x77, sizeof packet);
    memcpy(packet, "\xc0\0\0\0\1\x08", 6);
    udp_send(u, &p->addr, NULL, 0, packet, n, n);
  }
  pair_turn(p, 100);
  assert_int_equal(answers, 0);
  /* and no more than so many in a second */
  packet[0] = 0x40;
  pair_turn(p, 2000);
  for (unsigned i = 0; i < 3 * LIMIT_QUIC_REPLIES; i++)
    udp_send(u, &p->addr, NULL, 0, packet, 100, 100);
  pair_turn(p, 5);
  assert_in_range(answers, 1, 2 * LIMIT_QUIC_REPLIES); /* a new second may have begun */
  udp_close(u);
}

/* --- workers --- */

static unsigned forwarded, forwarded_to;
static struct quic_endpoint *other_worker;
static void forward(void *user, unsigned worker, const uint8_t *q, size_t n, uint8_t ecn,
                    const struct sockaddr_storage *from, const struct sockaddr_storage *to) {
  (void)user;
  forwarded++;
  forwarded_to = worker;
  quic_endpoint_inject(other_worker, q, n, ecn, from, to);
}

/* Packets that land on the wrong worker: its socket has the port, the connection lives on the other. */
static void a_packet_finds_its_worker(void **state) {
  (void)state;
  static const uint8_t key[32] = "one key for all workers of it";
  struct quic_endpoint *wrong;
  struct stream *s;
  p->sc.reset_key = key;
  p->sc.worker = 7;
  pair_meet(p);
  assert_int_equal(quic_conn_open(p->a.c, true, &s), 0);
  pair_turn(p, 300);
  assert_int_equal(p->b.streams, 1);
  /* the right worker moves to another port, so that this one's packets come to the wrong one */
  struct quic_server_conf conf = p->sc;
  conf.worker = 3;
  conf.forward = forward;
  forwarded = 0;
  other_worker = p->server;
  udp_memnet_rename(p->net, 443, 444);
  assert_int_equal(quic_endpoint_server(l, "127.0.0.1", 443, false, &conf, &wrong), 0);
  assert_int_equal(stream_write(s, "hello", 5), 5);
  PAIR_UNTIL(p, stream_waiting(p->b.stream[0]) == 5);
  assert_true(forwarded > 0);
  assert_int_equal(forwarded_to, 7);
  stream_close(s, 0);
  quic_endpoint_close(wrong);
}

/* --- the network changes --- */

static void a_client_moves_to_another_address(void **state) {
  (void)state;
  struct stream *s;
  uint8_t before[32], after[32];
  assert_int_equal(pair_listen(p), 0);
  assert_int_equal(pair_connect(p), 0);
  assert_int_equal(quic_conn_rebind(p->a.c), BEAM_AGAIN);
  PAIR_UNTIL(p, p->a.ready && p->b.ready);
  assert_int_equal(quic_conn_open(p->a.c, true, &s), 0);
  pair_turn(p, 300);
  assert_int_equal(quic_conn_exporter(p->a.c, before), 0);
  size_t got = 0;
  static char block[15000];
  for (int moves = 0; moves < 4; moves++) {
    assert_int_equal(quic_conn_rebind(p->a.c), 0);
    assert_int_equal(stream_write(s, block, sizeof block), sizeof block);
    got += sizeof block;
    PAIR_UNTIL(p, stream_waiting(p->b.stream[0]) == got);
    assert_int_equal(stream_write(p->b.stream[0], "y", 1), 1);
    PAIR_UNTIL(p, stream_waiting(s) == (size_t)moves + 1);
    pair_turn(p, 1000);
  }
  assert_int_equal(quic_conn_exporter(p->a.c, after), 0);
  assert_memory_equal(before, after, 32);
  assert_int_equal(quic_conn_rebind(p->b.c), BEAM_ERR_INVALID);
  assert_int_equal(p->a.closed + p->b.closed, 0);
  stream_close(s, 0);
}

/* The same on real sockets: a stream under way goes on from each new port, whole and in order. */
static void a_move_on_real_sockets(void **state) {
  (void)state;
  enum { TOTAL = 8 * 1024 * 1024, MOVES = 3 };
  static uint8_t block[64 * 1024];
  struct loop *virtual_one = l;
  struct pair *before = p;
  struct stream *s;
  size_t sent = 0, got = 0;
  assert_int_equal(loop_new(&l), 0);
  assert_non_null(p = calloc(1, sizeof *p));
  pair_init(p, l);
  pair_meet(p);
  assert_int_equal(quic_conn_open(p->b.c, true, &s), 0); /* a download, as most are */
  PAIR_UNTIL(p, p->a.streams == 1);
  struct stream *in = p->a.stream[0];
  for (unsigned moves = 0; got < TOTAL;) {
    for (size_t room; sent < TOTAL && (room = stream_room(s)) > 0;) {
      size_t n = room < sizeof block ? room : sizeof block;
      for (size_t i = 0; i < n; i++)
        block[i] = (uint8_t)((sent + i) % 251);
      sent += stream_write(s, block, n);
    }
    pair_turn(p, 1);
    size_t n = stream_waiting(in);
    const uint8_t *at = evbuffer_pullup(stream_input(in), (ev_ssize_t)n);
    for (size_t i = 0; i < n; i++)
      if (at[i] != (got + i) % 251)
        fail_msg("byte %zu is another's", got + i);
    got += n;
    stream_consume(in, n);
    if (moves < MOVES && got > TOTAL / (MOVES + 1) * (moves + 1))
      moves += quic_conn_rebind(p->a.c) == 0; /* AGAIN: no further connection id yet */
    if (got == TOTAL)
      assert_int_equal(moves, MOVES);
    assert_int_equal(p->a.closed + p->b.closed, 0);
  }
  stream_close(s, 0);
  pair_fini(p);
  free(p);
  loop_free(l);
  l = virtual_one;
  p = before;
  assert_int_equal(pair_listen(p), 0); /* what down() expects */
}

static void keys_change(void **state) {
  (void)state;
  struct stream *s;
  pair_meet(p);
  assert_int_equal(quic_conn_open(p->a.c, true, &s), 0);
  pair_turn(p, 300);
  size_t n = 0;
  for (int i = 0; i < 3; i++) {
    struct quic_conn *c = i & 1 ? p->a.c : p->b.c;
    int err;
    while ((err = quic_conn_update_keys(c)) == BEAM_AGAIN) { /* the last change must have settled */
      assert_true(n < 100);
      n += stream_write(s, "k", 1);
      pair_turn(p, 100);
    }
    assert_int_equal(err, 0);
    assert_int_equal(quic_conn_update_keys(c), BEAM_AGAIN);
    n += stream_write(s, "k", 1);
    PAIR_UNTIL(p, stream_waiting(p->b.stream[0]) == n);
  }
  stream_close(s, 0);
}

static void packets_grow_to_what_the_path_carries(void **state) {
  (void)state;
  static const struct {
    size_t mtu, least, most;
  } rows[] = {
      {1200, 1200, 1200}, {1300, 1200, 1300}, {1400, 1342, 1400}, {1452, 1452, 1452}, {9000, 8952, 8952}};
  for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct quic_conn_info info;
    if (i) {
      assert_int_equal(down(NULL), 0);
      assert_int_equal(up(NULL), 0);
    }
    p->memnet.mtu = rows[i].mtu;
    pair_meet(p);
    pair_turn(p, 20000);
    quic_conn_info(p->a.c, &info);
    assert_in_range(info.payload, rows[i].least, rows[i].most);
    assert_true(info.sent > 0 && info.window > 0);
  }
}

/* --- streams, beyond their contract --- */

static void one_way_streams(void **state) {
  (void)state;
  struct stream *s;
  pair_meet(p);
  assert_int_equal(quic_conn_open(p->b.c, false, &s), BEAM_ERR_LIMIT); /* the client allows none */
  quic_conn_allow(p->a.c, 0, 1);
  pair_turn(p, 100);
  assert_int_equal(quic_conn_open(p->b.c, false, &s), 0);
  assert_int_equal(stream_write(s, "one way", 7), 7);
  assert_true(stream_at_end(s));
  stream_close(s, 0);
  PAIR_UNTIL(p, p->a.streams == 1 && p->a.stream[0]->in_ended);
  assert_false(p->a.bidi[0]);
  assert_int_equal(stream_room(p->a.stream[0]), 0);
  assert_int_equal(stream_waiting(p->a.stream[0]), 7);
}

static void limits_come_back_when_streams_end(void **state) {
  (void)state;
  struct stream *s[3];
  p->sc.peer_bidi = 2;
  pair_meet(p);
  p->b.refuse = BEAM_ERR_REFUSED;
  for (int round = 0; round < 5; round++) {
    assert_int_equal(quic_conn_open(p->a.c, true, &s[0]), 0);
    assert_int_equal(quic_conn_open(p->a.c, true, &s[1]), 0);
    assert_int_equal(quic_conn_open(p->a.c, true, &s[2]), BEAM_ERR_LIMIT);
    PAIR_UNTIL(p, stream_dead(s[0]) && stream_dead(s[1]));
    assert_int_equal(s[0]->reason, BEAM_ERR_REFUSED);
    stream_close(s[0], 0);
    stream_close(s[1], 0);
    pair_turn(p, 100);
  }
}

static void streams_are_counted(void **state) {
  (void)state;
  unsigned streams = 77;
  uint64_t heard = 0;
  struct stream *s[3];
  pair_meet(p);
  quic_conn_watch(p->a.c, &streams, &heard);
  assert_int_equal(streams, 0);
  assert_true(heard >= 1000000);
  for (int i = 0; i < 3; i++)
    assert_int_equal(quic_conn_open(p->a.c, true, &s[i]), 0);
  assert_int_equal(streams, 3);
  quic_stream_uncount(s[2]);
  assert_int_equal(streams, 2);
  stream_close(s[2], 0);
  stream_close(s[1], BEAM_ERR_RESET);
  assert_int_equal(streams, 1);
  stream_close(s[0], 0);
  assert_int_equal(streams, 0);
  uint64_t before = heard;
  pair_turn(p, 50);
  assert_true(heard > before);
}

/* One second of a peer that does nothing but abort. */
static void too_many_aborts_are_a_flood(void **state) {
  (void)state;
  struct stream *s;
  p->sc.peer_bidi = 2000;
  pair_meet(p);
  p->b.refuse = BEAM_ERR_REFUSED;
  unsigned made = 0;
  for (int turn = 0; !p->a.closed && turn < 900; turn++) {
    while (!quic_conn_open(p->a.c, true, &s)) {
      stream_close(s, BEAM_ERR_RESET);
      made++;
    }
    pair_turn(p, 1);
  }
  assert_int_equal(p->b.closed, 1);
  assert_int_equal(p->b.reason, BEAM_ERR_LIMIT);
  assert_true(made > LIMIT_LINK_RESETS);
}

/* Packets that probe the path's size are refused by the first hop; what is sent with them is not lost, and the window grows on. */
static void probes_take_nothing_with_them(void **state) {
  (void)state;
  uint64_t window[2];
  for (int i = 0; i < 2; i++) {
    struct stream *s;
    struct quic_conn_info info;
    static unsigned char block[64 * 1024];
    if (i) {
      assert_int_equal(down(NULL), 0);
      assert_int_equal(up(NULL), 0);
    }
    p->memnet.delay_ms = 20;
    p->memnet.mtu = p->memnet.first_hop = 1472;
    if (!i) /* as far as it can be: nothing is refused, probes are lost on the way */
      p->memnet.first_hop = 0;
    p->sc.cubic = p->cc.cubic = true; /* which takes a loss for a full queue */
    pair_meet(p);
    assert_int_equal(quic_conn_open(p->b.c, true, &s), 0);
    PAIR_UNTIL(p, p->a.streams == 1);
    for (size_t sent = 0; sent < 4u << 20;) {
      sent += stream_write(s, block, sizeof block);
      pair_turn(p, 1);
      stream_consume(p->a.stream[0], stream_waiting(p->a.stream[0]));
    }
    quic_conn_info(p->b.c, &info);
    window[i] = info.window;
    stream_close(s, 0);
  }
  assert_true(window[0] > 1u << 20);
  assert_true(window[1] > window[0] / 2);
}

static void bulk_through_a_bad_network(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) {
    struct stream *s;
    if (i) {
      assert_int_equal(down(NULL), 0);
      assert_int_equal(up(NULL), 0);
    }
    p->memnet.delay_ms = 25;
    p->memnet.jitter_ms = i & 1 ? 10 : 0;
    p->memnet.loss = i ? 20 : 0;
    p->sc.cubic = p->cc.cubic = i >= 2;
    pair_meet(p);
    assert_int_equal(quic_conn_open(p->b.c, true, &s), 0);
    PAIR_UNTIL(p, p->a.streams == 1);
    static unsigned char block[64 * 1024];
    size_t sent = 0, got = 0, total = 4u << 20;
    uint64_t began = loop_now(l);
    for (int turns = 0; got < total; turns++) {
      assert_true(turns < 120000);
      size_t n = total - sent < sizeof block ? total - sent : sizeof block;
      for (size_t k = 0; k < n; k++)
        block[k] = (unsigned char)((sent + k) * 131 >> 3);
      sent += n ? stream_write(s, block, n) : 0;
      pair_turn(p, 1);
      unsigned char have[4096];
      int m;
      while ((m = evbuffer_remove(stream_input(p->a.stream[0]), have, sizeof have)) > 0) {
        for (int k = 0; k < m; k++)
          if (have[k] != (unsigned char)((got + (size_t)k) * 131 >> 3))
            fail_msg("byte %zu is wrong", got + (size_t)k);
        got += (size_t)m;
        stream_credit(p->a.stream[0], (size_t)m);
      }
    }
    if (!i) /* no loss: the window grew with the path */
      assert_true(loop_now(l) - began < 4000);
    stream_close(s, 0);
  }
}

/* --- datagrams --- */

static void datagrams_cross_whole(void **state) {
  (void)state;
  uint8_t out[2000];
  pair_meet(p);
  size_t max = quic_conn_datagram_max(p->a.c);
  assert_in_range(max, 1100, 9000);
  for (size_t i = 0; i < sizeof out; i++)
    out[i] = (uint8_t)i;
  static const size_t sizes[] = {0, 1, 100, 1100};
  for (unsigned i = 0; i < 4; i++) {
    assert_int_equal(quic_conn_datagram(i & 1 ? p->a.c : p->b.c, out, sizes[i]), 0);
    struct peer *to = i & 1 ? &p->b : &p->a;
    unsigned n = to->datagrams;
    PAIR_UNTIL(p, to->datagrams == n + 1);
    assert_int_equal(to->datagram_n, sizes[i]);
    assert_memory_equal(to->datagram, out, sizes[i]);
  }
  static uint8_t huge[65535];
  assert_int_equal(quic_conn_datagram(p->a.c, huge, sizeof huge), BEAM_ERR_TOO_LARGE);
  assert_int_equal(quic_conn_datagram(p->a.c, huge, quic_conn_datagram_max(p->a.c) + 1), BEAM_ERR_TOO_LARGE);
}

static void datagrams_do_not_pile_up(void **state) {
  (void)state;
  uint8_t out[1000] = {0};
  pair_meet(p);
  pair_turn(p, 100);
  static const unsigned bytes[] = {LIMIT_QUIC_DATAGRAMS, LIMIT_QUIC_DATAGRAMS_MORE};
  for (unsigned i = 0; i < 2; i++) { /* first with little left in the pool */
    size_t used = i ? 0 : LIMIT_POOL_BYTES - LIMIT_POOL_SPARE;
    unsigned n = 0, before = p->b.datagrams;
    int err;
    budget_charge(&budget_pool, used);
    while (!(err = quic_conn_datagram(p->a.c, out, sizeof out)))
      n++;
    assert_int_equal(err, BEAM_AGAIN);
    assert_int_equal(n, bytes[i] / (2 + sizeof out)); /* each has its length before it */
    PAIR_UNTIL(p, p->a.rooms == i + 1);
    assert_int_equal(quic_conn_datagram(p->a.c, out, sizeof out), 0);
    pair_turn(p, 100);
    assert_true(p->b.datagrams > before && p->b.datagrams <= before + n + 1);
    budget_give(&budget_pool, used);
  }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)
  const struct CMUnitTest tests[] = {
      TEST(both_know_what_was_agreed),
      TEST(refusals),
      TEST(trusted_by_ca_and_name),
      TEST(a_client_shows_its_certificate),
      TEST(a_device_is_known_by_the_relays_own_ca),
      TEST(nobody_answers),
      TEST(the_first_packet_is_lost),
      TEST(a_handshake_survives_loss),
      TEST(closing_midway),
      TEST(the_reason_crosses),
      TEST(a_lost_close_is_said_again),
      TEST(a_restart_resets_statelessly),
      TEST(silence_ends_it),
      TEST(the_network_says_nobody_is_there),
      TEST(a_closing_endpoint_tells_everyone),
      TEST(closing_inside_a_callback),
      TEST(an_address_is_proved_when_asked),
      TEST(half_open_handshakes_are_bounded),
      TEST(strangers_are_answered_sparingly),
      TEST(a_packet_finds_its_worker),
      TEST(a_client_moves_to_another_address),
      TEST(a_move_on_real_sockets),
      TEST(keys_change),
      TEST(packets_grow_to_what_the_path_carries),
      TEST(one_way_streams),
      TEST(limits_come_back_when_streams_end),
      TEST(streams_are_counted),
      TEST(too_many_aborts_are_a_flood),
      TEST(probes_take_nothing_with_them),
      TEST(bulk_through_a_bad_network),
      TEST(datagrams_cross_whole),
      TEST(datagrams_do_not_pile_up),
  };
  return cmocka_run_group_tests_name("quic/conn", tests, NULL, NULL);
}
