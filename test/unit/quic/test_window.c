/* Windows: what a peer may send ahead grows while it drains, out of the pool, and shrinks when idle or when the pool runs low. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "../quic_pair.h"
#include "io/budget.h"
#include "quic/conn.h"

static struct loop *l;
static struct pair *p;
static struct stream *out;
static struct quic_stream *in;
static size_t before;

static int up(void **state) {
  (void)state;
  if (loop_new_virtual(&l) || !(p = calloc(1, sizeof *p)))
    return 1;
  before = budget_left(&budget_pool);
  pair_init(p, l);
  p->memnet.delay_ms = 10;
  pair_meet(p);
  assert_int_equal(quic_conn_open(p->a.c, true, &out), 0);
  PAIR_UNTIL(p, p->b.streams == 1);
  in = (struct quic_stream *)p->b.stream[0];
  return 0;
}
static int down(void **state) {
  (void)state;
  stream_close(out, BEAM_ERR_RESET);
  pair_fini(p);
  udp_memnet_free(p->net);
  free(p);
  loop_free(l);
  assert_int_equal(budget_left(&budget_pool), before);
  return 0;
}

static void pour(unsigned ms, bool drink) {
  static char block[64 * 1024];
  for (unsigned i = 0; i < ms; i++) {
    for (size_t n; (n = stream_room(out)) > 0;)
      stream_write(out, block, n < sizeof block ? n : sizeof block);
    pair_turn(p, 1);
    if (drink)
      stream_consume(&in->s, stream_waiting(&in->s));
  }
}

static void grows_while_it_drains(void **state) {
  (void)state;
  assert_int_equal(in->window, LIMIT_STREAM_WINDOW_MIN);
  size_t left = budget_left(&budget_pool);
  pour(1500, true);
  assert_true(in->window >= 1024 * 1024);
  assert_true(in->window <= LIMIT_STREAM_WINDOW_MAX);
  assert_true(budget_left(&budget_pool) <= left - (in->window - LIMIT_STREAM_WINDOW_MIN));
}

static void a_slow_reader_gets_no_more(void **state) {
  (void)state;
  for (int i = 0; i < 300; i++) {
    pour(20, false);
    stream_consume(&in->s, stream_waiting(&in->s) < 2000 ? stream_waiting(&in->s) : 2000);
    assert_true(stream_waiting(&in->s) <= LIMIT_STREAM_WINDOW_MIN);
  }
  assert_int_equal(in->window, LIMIT_STREAM_WINDOW_MIN);
}

static void shrinks_when_idle_and_keeps_its_word(void **state) {
  (void)state;
  pour(1500, true);
  uint32_t large = in->window;
  pair_turn(p, 5000);
  stream_consume(&in->s, stream_waiting(&in->s));
  pair_turn(p, 5000);
  assert_int_equal(in->window, LIMIT_STREAM_WINDOW_MIN);
  assert_true(in->owed <= large - LIMIT_STREAM_WINDOW_MIN);
  assert_true(in->owed > 0); /* the peer still has that credit, and it stays charged */
  assert_true(budget_left(&budget_pool) <= before - in->owed);
  pour(100, true);
  for (int i = 0; i < 100 && in->owed; i++)
    pour(20, true);
  assert_int_equal(in->owed, 0); /* withheld by now */
}

static void a_low_pool_stops_growth_and_flights(void **state) {
  (void)state;
  size_t most = budget_left(&budget_pool) - LIMIT_POOL_BYTES / 16;
  budget_charge(&budget_pool, most);
  pour(1500, true);
  assert_int_equal(in->window, LIMIT_STREAM_WINDOW_MIN);
  assert_true(((struct quic_stream *)out)->out.flight <= LIMIT_STREAM_WINDOW_MIN);
  budget_give(&budget_pool, most);
  pour(1500, true); /* and goes on */
  assert_true(in->window > LIMIT_STREAM_WINDOW_MIN);
}

static void a_flight_waits_for_memory(void **state) {
  (void)state;
  pour(1500, true); /* a large window */
  size_t most = budget_left(&budget_pool) > LIMIT_POOL_BYTES / 16
                    ? budget_left(&budget_pool) - LIMIT_POOL_BYTES / 16
                    : 0;
  budget_charge(&budget_pool, most);
  for (int i = 0; i < 100; i++) { /* what is acknowledged makes room, and what is sent leaves an eighth */
    size_t left = budget_left(&budget_pool), flight = ((struct quic_stream *)out)->out.flight;
    pour(1, true);
    size_t now = ((struct quic_stream *)out)->out.flight;
    if (left < LIMIT_POOL_BYTES / 8 - LIMIT_SOCK_OUT && flight > LIMIT_STREAM_WINDOW_MIN)
      assert_true(now <= flight);
    assert_true(budget_left(&budget_pool) >= LIMIT_POOL_BYTES / 16 - LIMIT_SOCK_OUT);
  }
  budget_give(&budget_pool, most);
}

static void a_used_up_pool_refuses_streams(void **state) {
  (void)state;
  struct stream *s;
  size_t all = budget_left(&budget_pool);
  budget_charge(&budget_pool, all);
  assert_int_equal(quic_conn_open(p->a.c, true, &s), BEAM_ERR_NOMEM);
  budget_give(&budget_pool, all);
  assert_int_equal(quic_conn_open(p->a.c, true, &s), 0);
  budget_charge(&budget_pool, all); /* the other side refuses what it hears of now */
  PAIR_UNTIL(p, stream_dead(s));
  assert_int_equal(s->reason, BEAM_ERR_LIMIT);
  budget_give(&budget_pool, all);
  stream_close(s, 0);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)
  const struct CMUnitTest tests[] = {TEST(grows_while_it_drains),
                                     TEST(a_slow_reader_gets_no_more),
                                     TEST(shrinks_when_idle_and_keeps_its_word),
                                     TEST(a_low_pool_stops_growth_and_flights),
                                     TEST(a_flight_waits_for_memory),
                                     TEST(a_used_up_pool_refuses_streams)};
  return cmocka_run_group_tests_name("quic/window", tests, NULL, NULL);
}
