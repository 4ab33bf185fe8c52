/* Flight: beside bulk the queue of the path stays short, whoever does congestion control; and what looks like a queue and is none does not starve bulk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "../quic_pair.h"
#include "base/random.h"
#include "io/budget.h"
#include "quic/conn.h"

enum { TRIP_MS = 20, RATE = 12500 /* bytes a ms: 100 Mbit/s */ };

static struct loop *l;
static struct pair *p;
static struct stream *bulk, *small;
static size_t before, got;
static uint64_t asked, longest, slowest; /* ms: a request, the round trip */
static bool reads = true;

static void begin_at(bool cubic, unsigned trip_ms) {
  random_seed(7); /* BBR draws when it probes */
  assert_int_equal(loop_new_virtual(&l), 0);
  assert_non_null(p = calloc(1, sizeof *p));
  before = budget_left(&budget_pool);
  pair_init(p, l);
  p->memnet.delay_ms = trip_ms / 2;
  p->memnet.rate = RATE;
  p->memnet.queue_ms = 100;
  p->sc.cubic = p->cc.cubic = cubic;
  pair_meet(p);
  assert_int_equal(quic_conn_open(p->a.c, true, &bulk), 0);
  assert_int_equal(quic_conn_open(p->a.c, true, &small), 0);
  PAIR_UNTIL(p, p->b.streams == 2);
  asked = 0;
}

static void begin(bool cubic) {
  begin_at(cubic, TRIP_MS);
}

static void end(void) {
  stream_close(bulk, BEAM_ERR_RESET);
  stream_close(small, 0);
  pair_fini(p);
  udp_memnet_free(p->net);
  free(p);
  loop_free(l);
  assert_int_equal(budget_left(&budget_pool), before);
  random_seed(0);
}

/* Bulk as fast as it goes, and beside it one small request after the other: how much arrived, and what the longest request took. */
static void pour(uint64_t ms) {
  static char block[64 * 1024];
  struct stream *in = p->b.stream[0], *there = p->b.stream[1];
  got = longest = slowest = 0;
  for (uint64_t began = loop_now(l); loop_now(l) - began < ms;) {
    for (size_t n; (n = stream_room(bulk)) > 0;)
      stream_write(bulk, block, n < sizeof block ? n : sizeof block);
    if (!asked) {
      assert_int_equal(stream_write(small, "ask", 3), 3);
      asked = loop_now(l);
    }
    pair_turn(p, 1);
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(p->a.c->ng, &info);
    if (info.smoothed_rtt / QUIC_NS_PER_MS > slowest)
      slowest = info.smoothed_rtt / QUIC_NS_PER_MS;
    if (reads) {
      got += stream_waiting(in);
      stream_consume(in, stream_waiting(in));
    }
    if (stream_waiting(there)) {
      stream_consume(there, 3);
      stream_write(there, "yes", 3);
    }
    if (stream_waiting(small)) {
      stream_consume(small, 3);
      if (loop_now(l) - asked > longest)
        longest = loop_now(l) - asked;
      asked = 0;
    }
  }
}

static void leaves_the_queue_short(void **state) {
  (void)state;
  for (int cubic = 0; cubic < 2; cubic++) {
    begin(cubic);
    pour(2000);
    assert_int_not_equal(p->a.c->flight.limit, UINT64_MAX);
    pour(8000);
    assert_in_range(longest, TRIP_MS, 2 * TRIP_MS - 1);
    assert_true(got > (size_t)RATE * 8000 / 100 * 85);
    end();
  }
}

/* However many streams are bulk, a small one does not wait for each of them, nor for a batch of theirs to be paced: on a slow path that took the
 * longest of all. */
static void goes_before_many(void **state) {
  (void)state;
  enum { MANY = 24 };
  static char block[16 * 1024];
  struct stream *more[MANY];
  begin(false);
  p->memnet.rate = RATE / 5;
  p->memnet.queue_ms = 500;
  udp_memnet_set(p->net, &p->memnet);
  for (int i = 0; i < MANY; i++)
    assert_int_equal(quic_conn_open(p->a.c, true, &more[i]), 0);
  PAIR_UNTIL(p, p->b.streams == 2 + MANY);
  uint64_t most = 0;
  for (int ms = 0; ms < 6000; ms++) {
    for (int i = 0; i < MANY; i++) {
      size_t room = stream_room(more[i]);
      stream_write(more[i], block, room < sizeof block ? room : sizeof block);
      struct stream *in = p->b.stream[2 + i];
      stream_consume(in, stream_waiting(in));
    }
    pour(1);
    if (ms > 2000 && longest > most)
      most = longest;
  }
  assert_in_range(most, TRIP_MS, 2 * TRIP_MS - 1);
  for (int i = 0; i < MANY; i++)
    stream_close(more[i], BEAM_ERR_RESET);
  end();
}

/* A path that is wider than before is found to be so. */
static void follows_a_wider_path(void **state) {
  (void)state;
  begin(false);
  pour(3000);
  p->memnet.rate = 4 * RATE;
  udp_memnet_set(p->net, &p->memnet);
  pour(3000);
  pour(3000);
  assert_true(got > (size_t)4 * RATE * 3000 / 100 * 80);
  end();
}

/* Where the peer's windows hold bulk back, no queue ever tells what the path can do. A pause of the reader is not made up for faster than before, or all of
 * it would be in the queue at once. */
static void makes_up_for_a_pause_slowly(void **state) {
  (void)state;
  enum { LONG_MS = 100, WINDOW = 1024 * 1024 };
  begin_at(false, LONG_MS);
  size_t most = budget_left(&budget_pool) - budget_pool.cap / 16 * 11 - WINDOW - WINDOW / 2;
  budget_charge(&budget_pool, most); /* no larger window than that */
  pour(3000);
  pour(1000);
  assert_in_range(slowest, LONG_MS, LONG_MS + 5);
  assert_true(p->a.c->flight.limit == UINT64_MAX);
  reads = false;
  pour(60);
  reads = true;
  pour(1000);
  assert_in_range(slowest, LONG_MS, LONG_MS + 5);
  budget_give(&budget_pool, most);
  end();
}

/* A longer route, or others in the queue: the round trip stays long whatever we do. */
static void does_not_starve_behind_others(void **state) {
  (void)state;
  begin(true);
  pour(3000);
  p->memnet.delay_ms = 3 * TRIP_MS;
  udp_memnet_set(p->net, &p->memnet);
  pour(5000);
  pour(5000);
  assert_true(got > (size_t)RATE * 5000 / 100 * 60);
  end();
}

/* A queue that marks instead of losing is heard: the receiver sees the marks, CUBIC's window stays small, and nothing is lost. */
static void answers_marks(void **state) {
  (void)state;
  uint64_t window[2];
  for (int marks = 0; marks < 2; marks++) {
    struct quic_conn_info a, b;
    begin(true);
    p->memnet.mark_ms = marks ? 2 : 0;
    udp_memnet_set(p->net, &p->memnet);
    pour(3000);
    quic_conn_info(p->a.c, &a);
    quic_conn_info(p->b.c, &b);
    assert_true(a.ect > a.sent / 2);
    assert_true(marks ? b.ce : !b.ce);
    window[marks] = a.window;
    pour(3000);
    assert_true(got > (size_t)RATE * 3000 / 100 * 50); /* two milliseconds of queue are little for CUBIC */
    end();
  }
  assert_true(window[1] < window[0] / 2);
}

/* Without bulk there is no limit, however the round trips vary. */
static void lets_small_streams_be(void **state) {
  (void)state;
  static const char few[] = "a few bytes";
  begin(false);
  struct stream *in = p->b.stream[0];
  for (int i = 0; i < 3000; i++) {
    if (i % 500 == 0) {
      p->memnet.delay_ms = i % 1000 ? 40 : 10;
      udp_memnet_set(p->net, &p->memnet);
    }
    assert_int_equal(stream_write(bulk, few, sizeof few), sizeof few);
    pair_turn(p, 1);
    stream_consume(in, stream_waiting(in));
  }
  assert_true(p->a.c->flight.limit == UINT64_MAX);
  end();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(leaves_the_queue_short),        cmocka_unit_test(goes_before_many),
      cmocka_unit_test(follows_a_wider_path),          cmocka_unit_test(makes_up_for_a_pause_slowly),
      cmocka_unit_test(does_not_starve_behind_others), cmocka_unit_test(answers_marks),
      cmocka_unit_test(lets_small_streams_be)};
  return cmocka_run_group_tests_name("quic/flight", tests, NULL, NULL);
}
