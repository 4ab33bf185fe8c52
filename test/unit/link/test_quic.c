/* A link over QUIC keeps the contract of every link; and what is particular to it. */
#include "contract.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "io/budget.h"
#include "obs/metrics.h"

#include "../quic_pair.h"

static struct pair *pair;
static struct link *at_relay;
static unsigned loss, delay = 1;

static void accepted(void *user, struct quic_conn *c) {
  (void)user;
  assert_null(at_relay);
  assert_int_equal(link_quic_new(c, LINK_RELAY, &at_relay), 0);
}

static int make(struct loop *l, struct link **relay, struct link **agent) {
  at_relay = NULL;
  pair = calloc(1, sizeof *pair);
  assert_non_null(pair);
  pair_init(pair, l);
  pair->memnet.loss = loss;
  pair->memnet.delay_ms = delay;
  pair->sc.accept = accepted;
  pair->sc.peer_bidi = 1;
  pair->sc.peer_uni = 0;
  assert_int_equal(pair_listen(pair), 0);
  assert_int_equal(quic_connect(l, &pair->addr, &pair->cc, &pair->a.c), 0);
  int err = link_quic_new(pair->a.c, LINK_AGENT, agent);
  pair->a.c = NULL;
  PAIR_UNTIL(pair, at_relay);
  *relay = at_relay;
  return err;
}

static void unmake(void) {
  pair_fini(pair);
  udp_memnet_free(pair->net);
  free(pair);
  assert_int_equal(budget_left(&budget_pool), LIMIT_POOL_BYTES);
}

static const struct pair_kind quic = {"quic", make, unmake, 300};

static void both_ends_have_the_same_exporter(void **state) {
  (void)state;
  static const uint8_t none[32];
  struct world w;
  world_make(&w, &quic);
  assert_memory_equal(w.relay.k->exporter, w.agent.k->exporter, 32);
  assert_memory_not_equal(w.relay.k->exporter, none, 32);
  assert_string_equal(w.agent.k->ops->transport, "quic");
  assert_int_equal(w.relay.k->streams, 0); /* control does not count */
  world_free(&w);
}

static void the_reason_of_the_end_crosses(void **state) {
  (void)state;
  static const int reasons[] = {BEAM_ERR_DENIED, BEAM_ERR_PROTOCOL, BEAM_ERR_LIMIT, BEAM_ERR_SUPERSEDED, 0};
  for (unsigned i = 0; i < 2 * sizeof reasons / sizeof *reasons; i++) {
    struct world w;
    world_make(&w, &quic);
    struct side *closer = i & 1 ? &w.relay : &w.agent, *other = i & 1 ? &w.agent : &w.relay;
    link_close(closer->k, reasons[i / 2]);
    closer->k = NULL;
    world_run(&w);
    assert_int_equal(other->closed, 1);
    assert_int_equal(other->reason, reasons[i / 2] ? reasons[i / 2] : BEAM_ERR_CLOSED);
    world_free(&w);
  }
}

static void a_peer_that_is_gone_is_noticed(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, &quic);
  world_open(&w, &r, &a);
  udp_memnet_blackhole(pair->net, UDP_MEMNET_TO | UDP_MEMNET_FROM);
  uint64_t heard = w.relay.k->heard;
  loop_run_for(w.l, LIMIT_QUIC_IDLE_MS - 1000);
  assert_int_equal(w.relay.closed + w.agent.closed, 0);
  assert_true(w.relay.k->heard == heard);
  loop_run_for(w.l, LIMIT_QUIC_IDLE_MS); /* asking without an answer begins it anew, once */
  assert_int_equal(w.relay.closed, 1);
  assert_int_equal(w.agent.closed, 1);
  assert_int_equal(w.relay.reason, BEAM_ERR_TIMEOUT);
  assert_int_equal(r->closed, 1);
  tap_free(r, 0);
  udp_memnet_blackhole(pair->net, 0);
  world_free(&w);
}

/* The control stream ends and the connection does not: the link is over all the same. */
static void garbage_on_control_closes_the_link(void **state) {
  (void)state;
  struct loop *l;
  assert_int_equal(loop_new_virtual(&l), 0);
  for (int i = 0; i < 4; i++) {
    at_relay = NULL;
    pair = calloc(1, sizeof *pair);
    pair_init(pair, l);
    pair->sc.accept = accepted;
    pair->sc.peer_bidi = 1;
    pair->sc.peer_uni = 0;
    assert_int_equal(pair_listen(pair), 0);
    assert_int_equal(pair_connect(pair), 0);
    PAIR_UNTIL(pair, at_relay && pair->a.ready);
    struct side side = {.k = at_relay};
    static const struct link_events none;
    link_own(at_relay, &none, NULL);
    struct stream *s;
    assert_int_equal(quic_conn_open(pair->a.c, true, &s), 0);
    PAIR_UNTIL(pair, at_relay->ready);
    struct stream *second; /* an agent opens one stream */
    assert_int_equal(quic_conn_open(pair->a.c, true, &second), BEAM_ERR_LIMIT);
    assert_int_equal(quic_conn_open(pair->a.c, false, &second), BEAM_ERR_LIMIT);
    if (i == 0)
      assert_int_equal(stream_write(s, "\xff\xff\xff\xff", 4), 4);
    if (i == 1)
      stream_finish(s);
    if (i == 2)
      stream_close(s, BEAM_ERR_RESET);
    if (i == 3) {
      assert_int_equal(stream_write(s, "\0", 1), 1);
      PAIR_UNTIL(pair, at_relay->draining);
      stream_close(s, 0);
    }
    PAIR_UNTIL(pair, pair->a.closed);
    if (!i)
      assert_int_equal(pair->a.reason, BEAM_ERR_TOO_LARGE);
    assert_int_equal(link_open(at_relay, &s), BEAM_ERR_CLOSED);
    link_close(side.k, 0);
    if (i == 0 || i == 1)
      stream_close(s, 0);
    unmake();
  }
  loop_free(l);
}

struct dgrams {
  unsigned got;
  size_t n;
  uint8_t last[9000];
};
static void take_datagram(void *user, const uint8_t *p, size_t n) {
  struct dgrams *d = user;
  d->got++;
  d->n = n;
  memcpy(d->last, p, n);
}
static void mute_readable(void *user) {
  (void)user;
}
static void mute_closed(void *user, int reason) {
  (void)user, (void)reason;
}
static const struct stream_events mute = {mute_readable, NULL, mute_closed};

/* Beside each stream go datagrams of its own, both ways; those of a stream that is gone, or does not listen, are nobody's. */
static void datagrams_find_their_stream(void **state) {
  (void)state;
  enum { N = 20 };
  struct world w;
  struct tap *relay[N], *agent[N];
  struct dgrams at_a[N] = {0}, at_r[N] = {0};
  uint8_t p[9000] = {0};
  world_make(&w, &quic);
  for (int i = 0; i < N; i++) {
    world_open(&w, &relay[i], &agent[i]);
    stream_own(relay[i]->s, &mute, &at_r[i]);
    stream_own(agent[i]->s, &mute, &at_a[i]);
    stream_on_datagram(relay[i]->s, take_datagram);
    stream_on_datagram(agent[i]->s, take_datagram);
  }
  size_t max = stream_datagram_max(relay[0]->s);
  assert_true(max > 1000 && max < sizeof p);
  assert_int_equal(stream_datagram(relay[0]->s, p, max + 1), BEAM_ERR_TOO_LARGE);
  for (int i = 0; i < N; i++) {
    p[0] = (uint8_t)i;
    assert_int_equal(stream_datagram(relay[i]->s, p, i == 3 ? 0 : i == 4 ? max : 100), 0);
    assert_int_equal(stream_datagram(agent[i]->s, p, 7), 0);
  }
  world_run(&w);
  for (int i = 0; i < N; i++) {
    assert_int_equal(at_a[i].got, 1);
    assert_int_equal(at_r[i].got, 1);
    assert_int_equal(at_r[i].last[0], i);
    assert_int_equal(at_a[i].n, i == 3 ? 0 : i == 4 ? max : 100);
    if (i != 3)
      assert_int_equal(at_a[i].last[0], i);
  }
  /* One does not listen any more, one has another owner, one is closed. */
  int64_t stray = metric_read(METRIC_DATAGRAMS_STRAY);
  stream_on_datagram(agent[0]->s, NULL);
  stream_own(agent[1]->s, &mute, &at_a[1]);
  stream_close(agent[2]->s, BEAM_ERR_RESET);
  agent[2]->s = NULL;
  for (int i = 0; i < 4; i++)
    assert_int_equal(stream_datagram(relay[i]->s, p, 1), 0);
  world_run(&w);
  assert_int_equal(at_a[0].got + at_a[1].got + at_a[2].got, 3);
  assert_int_equal(at_a[3].got, 2);
  assert_int_equal(metric_read(METRIC_DATAGRAMS_STRAY) - stray, 3);
  for (int i = 0; i < N; i++)
    tap_free(relay[i], 0);
  world_free(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(both_ends_have_the_same_exporter),
      cmocka_unit_test(the_reason_of_the_end_crosses),
      cmocka_unit_test(a_peer_that_is_gone_is_noticed),
      cmocka_unit_test(garbage_on_control_closes_the_link),
      cmocka_unit_test(datagrams_find_their_stream),
  };
  int failed = link_contract_run(&quic);
  struct pair_kind lossy = quic;
  lossy.name = "quic, one packet in fifty lost";
  lossy.settle_ms = 3000;
  loss = 20;
  failed += link_contract_run(&lossy);
  loss = 0;
  return failed + cmocka_run_group_tests_name("link/quic", tests, NULL, NULL);
}
