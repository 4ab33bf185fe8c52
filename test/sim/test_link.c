/* test_link.c: a link's life on the virtual clock: two ends in a network with delay and faults, at exact milliseconds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/random.h"
#include "io/budget.h"
#include "io/net.h"
#include "link/greet.h"
#include "link/ws.h"

enum { STREAMS = 64 };

/* One end of a stream: counts, and takes what comes unless told not to. */
struct flow {
  struct stream *s;
  bool keep, ended, fill;
  unsigned closed;
  int reason;
  uint64_t got;
};

struct side {
  struct link *k;
  uint64_t up_at, closed_at;
  int err, reason;
  struct flow flows[STREAMS];
  unsigned n;
};

struct sim {
  struct loop *l;
  struct net *net;
  struct listener *listener;
  struct dial *dial;
  struct key *device, *relay_key;
  struct side agent, relay;
  uint64_t began;
  bool keep; /* new streams at the agent are not read */
};

static char block[64 * 1024];
static bool over_ws; /* every link's bytes go as WebSocket messages */

static void fill(struct flow *f) {
  while (f->fill && stream_write(f->s, block, sizeof block) > 0)
    ;
}

static void on_readable(void *user) {
  struct flow *f = user;
  if (f->keep)
    return;
  f->got += stream_waiting(f->s);
  stream_consume(f->s, stream_waiting(f->s));
  f->ended = stream_at_end(f->s);
}
static void on_writable(void *user) {
  fill(user);
}
static void on_stream_closed(void *user, int reason) {
  struct flow *f = user;
  f->closed++;
  f->reason = reason;
}
static const struct stream_events flow_events = {on_readable, on_writable, on_stream_closed};

static struct flow *flow(struct side *side, struct stream *s) {
  assert_true(side->n < STREAMS);
  struct flow *f = &side->flows[side->n++];
  f->s = s;
  stream_own(s, &flow_events, f);
  return f;
}

static void on_stream(void *user, struct stream *s) {
  struct sim *w = user;
  flow(&w->agent, s)->keep = w->keep;
}

static void side_closed(struct sim *w, struct side *side, int reason) {
  side->closed_at = loop_now(w->l);
  side->reason = reason;
  link_close(side->k, reason);
  side->k = NULL;
}
static void agent_closed(void *user, int reason) {
  side_closed(user, &((struct sim *)user)->agent, reason);
}
static void relay_closed(void *user, int reason) {
  side_closed(user, &((struct sim *)user)->relay, reason);
}
static const struct link_events agent_events = {.stream = on_stream, .closed = agent_closed};
static const struct link_events relay_events = {.closed = relay_closed};

static void greeted(void *user, struct link *k, int err, const struct beam_error *why,
                    const struct greet_peer *peer) {
  (void)why, (void)peer;
  struct sim *w = user;
  struct side *side = k == w->agent.k ? &w->agent : &w->relay;
  side->err = err;
  if (err) {
    side_closed(w, side, err);
    return;
  }
  side->up_at = loop_now(w->l);
  link_own(k, side == &w->agent ? &agent_events : &relay_events, w);
}

static void on_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  (void)peer;
  struct sim *w = user;
  static const uint8_t exporter[32];
  struct greet_relay_conf conf = {.key = w->relay_key, .domain = "sim.test"};
  if (over_ws)
    assert_int_equal(ws_stream(s, WS_SERVER, &s), 0);
  assert_int_equal(link_h2_new(s, LINK_RELAY, exporter, &w->relay.k), 0);
  assert_string_equal(w->relay.k->ops->transport, over_ws ? "ws" : "h2");
  assert_int_equal(greet_relay(w->relay.k, &conf, greeted, w), 0);
}

static void on_dialled(void *user, struct stream *s, int err) {
  struct sim *w = user;
  static const uint8_t exporter[32];
  struct greet_agent_conf conf = {.device = w->device};
  w->dial = NULL;
  assert_int_equal(err, 0);
  if (over_ws)
    assert_int_equal(ws_stream(s, WS_CLIENT, &s), 0);
  assert_int_equal(link_h2_new(s, LINK_AGENT, exporter, &w->agent.k), 0);
  assert_int_equal(greet_agent(w->agent.k, &conf, greeted, w), 0);
}

static void start(struct sim *w, uint64_t delay_ms, uint64_t jitter_ms, uint64_t seed) {
  struct memnet_conf conf = {.seed = seed, .delay_ms = delay_ms, .jitter_ms = jitter_ms};
  memset(w, 0, sizeof *w);
  random_seed(seed);
  assert_int_equal(loop_new_virtual(&w->l), 0);
  assert_int_equal(memnet_new(w->l, &conf, &w->net), 0);
  assert_int_equal(key_ephemeral(&w->device), 0);
  assert_int_equal(key_ephemeral(&w->relay_key), 0);
  assert_int_equal(net_listen(w->net, w->l, "relay", 443, NULL, on_accept, w, &w->listener), 0);
  w->began = loop_now(w->l);
  assert_int_equal(net_dial(w->net, w->l, "relay", 443, 60000, on_dialled, w, &w->dial), 0);
}

static void start_up(struct sim *w, uint64_t delay_ms) {
  start(w, delay_ms, 0, 5);
  loop_run_for(w->l, 6 * delay_ms);
  assert_true(w->agent.up_at && w->relay.up_at);
}

static void stop(struct sim *w) {
  if (w->dial)
    net_dial_cancel(w->net, w->dial);
  link_close(w->agent.k, 0);
  link_close(w->relay.k, 0);
  for (unsigned i = 0; i < w->agent.n; i++)
    stream_close(w->agent.flows[i].s, 0);
  for (unsigned i = 0; i < w->relay.n; i++)
    stream_close(w->relay.flows[i].s, 0);
  net_listener_close(w->net, w->listener);
  loop_run_for(w->l, 60000);
  memnet_free(w->net);
  key_free(w->device);
  key_free(w->relay_key);
  loop_free(w->l);
  random_seed(0);
  assert_int_equal(atomic_load(&budget_pool.used), 0);
}

static struct flow *open_flow(struct sim *w) {
  struct stream *s;
  assert_int_equal(link_open(w->relay.k, &s), 0);
  return flow(&w->relay, s);
}

/* --- the tests --- */

/* dial 2, SETTINGS 1, control stream 1, HELLO 1, WELCOME 1: six ways. */
static void test_round_trips(void **state) {
  (void)state;
  struct sim w;
  start(&w, 50, 0, 1);
  loop_run_for(w.l, 1000);
  assert_int_equal(w.relay.up_at - w.began, 5 * 50);
  assert_int_equal(w.agent.up_at - w.began, 6 * 50);
  assert_int_equal(greet_rtt_ms(w.agent.k), 0);
  loop_run_for(w.l, LIMIT_PING_MS);
  assert_int_equal(greet_rtt_ms(w.agent.k), 100);
  assert_int_equal(greet_rtt_ms(w.relay.k), 100);
  stop(&w);
}

/* Silence in both directions at any moment: each end notices LIMIT_PONG_MS after its next PING. */
static void test_dead_peer(void **state) {
  (void)state;
  static const uint64_t moments[] = {0, 1, 500, 9949, 9950, 12345, 25000};
  for (unsigned i = 0; i < sizeof moments / sizeof *moments; i++) {
    struct sim w;
    start_up(&w, 20);
    loop_run_for(w.l, moments[i]);
    uint64_t cut = loop_now(w.l);
    memnet_blackhole(w.net, "relay", MEMNET_TO | MEMNET_FROM);
    loop_run_for(w.l, 60000);
    struct side *sides[] = {&w.agent, &w.relay};
    for (int j = 0; j < 2; j++) {
      struct side *s = sides[j];
      /* PINGs leave at up + n * 10 s; the first one whose PONG cannot come */
      uint64_t n = 1;
      while (s->up_at + n * LIMIT_PING_MS + 2 * 20 <= cut)
        n++;
      assert_int_equal(s->reason, BEAM_ERR_TIMEOUT);
      assert_int_equal(s->closed_at, s->up_at + n * LIMIT_PING_MS + LIMIT_PONG_MS);
      assert_true(s->closed_at - cut <= LIMIT_PING_MS + LIMIT_PONG_MS);
    }
    stop(&w);
  }
}

/* One direction only: who hears nothing notices, and the other one is told by the end of the connection. */
static void test_half_dead(void **state) {
  (void)state;
  static const int directions[] = {MEMNET_TO, MEMNET_FROM};
  for (int i = 0; i < 2; i++) {
    struct sim w;
    start_up(&w, 20);
    loop_run_for(w.l, 1000);
    memnet_blackhole(w.net, "relay", directions[i]);
    loop_run_for(w.l, 60000);
    struct side *deaf = directions[i] == MEMNET_TO ? &w.relay : &w.agent;
    struct side *other = deaf == &w.relay ? &w.agent : &w.relay;
    assert_int_equal(deaf->reason, BEAM_ERR_TIMEOUT);
    assert_int_equal(deaf->closed_at - deaf->up_at, LIMIT_PING_MS + LIMIT_PONG_MS);
    assert_true(other->closed_at && other->closed_at <= deaf->closed_at + 20);
    assert_true(other->reason == BEAM_ERR_RESET || other->reason == BEAM_ERR_TIMEOUT);
    stop(&w);
  }
}

/* A short fault does no harm. */
static void test_short_silence(void **state) {
  (void)state;
  struct sim w;
  start_up(&w, 20);
  struct flow *f = open_flow(&w);
  f->fill = true;
  fill(f);
  for (int i = 0; i < 20; i++) {
    loop_run_for(w.l, 5000);
    memnet_blackhole(w.net, "relay", MEMNET_TO | MEMNET_FROM);
    loop_run_for(w.l, 5000);
    memnet_blackhole(w.net, "relay", 0);
  }
  assert_int_equal(w.agent.closed_at + w.relay.closed_at, 0);
  assert_true(w.agent.flows[0].got > 1000000);
  stop(&w);
}

static void test_idle_for_a_day(void **state) {
  (void)state;
  struct sim w;
  start_up(&w, 150);
  loop_run_for(w.l, 24ull * 3600 * 1000);
  assert_int_equal(w.agent.closed_at + w.relay.closed_at, 0);
  stop(&w);
}

/* Visitors that read nothing stall their streams for minutes; the link lives, and others pass. */
static void test_stalled_streams_keep_the_link(void **state) {
  (void)state;
  struct sim w;
  start_up(&w, 20);
  for (int i = 0; i < 30; i++) {
    struct flow *f = open_flow(&w);
    f->fill = true;
    fill(f);
    loop_run_for(w.l, 50);
    w.agent.flows[i].keep = true;
  }
  loop_run_for(w.l, 300000);
  assert_int_equal(w.agent.closed_at + w.relay.closed_at, 0);
  struct flow *f = open_flow(&w);
  uint64_t asked = loop_now(w.l);
  assert_int_equal(stream_write(f->s, "hello", 5), 5);
  while (w.agent.n < 31 || !w.agent.flows[30].got) {
    loop_run_for(w.l, 1);
    assert_true(loop_now(w.l) - asked <= 20);
  }
  stop(&w);
}

/* On a long way the first window is the brake: 64 KiB a round trip. It grows until the network is what limits. */
static void test_windows_grow_with_the_round_trip(void **state) {
  (void)state;
  static const uint64_t delays[] = {5, 50, 200};
  for (int i = 0; i < 3; i++) {
    struct sim w;
    uint64_t rtt = 2 * delays[i];
    start_up(&w, delays[i]);
    struct flow *f = open_flow(&w);
    f->fill = true;
    fill(f);
    loop_run_for(w.l, 20 * rtt); /* grown by now */
    uint64_t before = w.agent.flows[0].got;
    loop_run_for(w.l, 50 * rtt);
    uint64_t per_rtt = (w.agent.flows[0].got - before) / 50;
    assert_true(per_rtt > 3 * LIMIT_STREAM_WINDOW_MIN);
    stop(&w);
  }
}

/* And a slow reader on the same way keeps its small one. */
static void test_slow_reader_keeps_the_first_window(void **state) {
  (void)state;
  struct sim w;
  start_up(&w, 20);
  w.keep = true;
  struct flow *f = open_flow(&w);
  f->fill = true;
  fill(f);
  loop_run_for(w.l, 20);
  for (int i = 0; i < 1000; i++) {
    loop_run_for(w.l, 100);
    struct stream *s = w.agent.flows[0].s;
    stream_consume(s, stream_waiting(s) < 10000 ? stream_waiting(s) : 10000);
    assert_true(stream_waiting(s) <= LIMIT_STREAM_WINDOW_MIN);
  }
  stop(&w);
}

/* Cut at a random moment of a busy life: every stream at both ends is told once, both links end, nothing stays. */
static void test_cut_at_any_moment(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 60; seed++) {
    struct sim w;
    start(&w, 10, 15, seed);
    loop_run_for(w.l, 500);
    assert_true(w.agent.up_at && w.relay.up_at);
    unsigned streams = 1 + random_below(20);
    for (unsigned i = 0; i < streams; i++) {
      struct flow *f = open_flow(&w);
      f->fill = random_below(2);
      fill(f);
      stream_write(f->s, block, random_below(1000));
      if (random_below(4) == 0)
        stream_finish(f->s);
      loop_run_for(w.l, random_below(40));
    }
    memnet_cut(w.net, "relay", true);
    loop_run_for(w.l, 1000);
    assert_true(w.agent.closed_at && w.relay.closed_at);
    for (unsigned i = 0; i < w.relay.n; i++)
      assert_int_equal(w.relay.flows[i].closed, 1);
    for (unsigned i = 0; i < w.agent.n; i++)
      assert_int_equal(w.agent.flows[i].closed, 1);
    stop(&w);
  }
}

/* The relay goes away in order: what streams had written before arrives, then both hear the end. */
static void test_orderly_end(void **state) {
  (void)state;
  struct sim w;
  start_up(&w, 30);
  struct flow *f = open_flow(&w);
  assert_int_equal(stream_write(f->s, block, 40000), 40000);
  stream_close(f->s, 0);
  w.relay.n = 0;
  link_close(w.relay.k, 0);
  w.relay.k = NULL;
  uint64_t closed = loop_now(w.l);
  loop_run_for(w.l, 1000);
  assert_int_equal(w.agent.flows[0].got, 40000);
  assert_true(w.agent.flows[0].ended);
  assert_int_equal(w.agent.reason, BEAM_ERR_CLOSED);
  assert_true(w.agent.closed_at - closed <= 3 * 30);
  stop(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trips),
      cmocka_unit_test(test_dead_peer),
      cmocka_unit_test(test_half_dead),
      cmocka_unit_test(test_short_silence),
      cmocka_unit_test(test_idle_for_a_day),
      cmocka_unit_test(test_stalled_streams_keep_the_link),
      cmocka_unit_test(test_windows_grow_with_the_round_trip),
      cmocka_unit_test(test_slow_reader_keeps_the_first_window),
      cmocka_unit_test(test_cut_at_any_moment),
      cmocka_unit_test(test_orderly_end),
  };
  int failed = cmocka_run_group_tests_name("a link's life over h2", tests, NULL, NULL);
  over_ws = true;
  return failed + cmocka_run_group_tests_name("a link's life over WebSocket", tests, NULL, NULL);
}
