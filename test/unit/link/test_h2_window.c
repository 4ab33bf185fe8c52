#include "contract.h"

#include <string.h>

#include "base/limits.h"
#include "io/budget.h"
#include "link/h2.h"

static const struct pair_kind h2 = {.name = "h2", .make = pair_h2};
static char block[256 * 1024];

static struct h2_stream *of(struct tap *t) {
  return (struct h2_stream *)t->s;
}

static size_t used(void) {
  return atomic_load(&budget_pool.used);
}

/* Sends until `total` bytes have been taken at the other end; both ends run dry in between. */
static void pour(struct world *w, struct tap *from, struct tap *to, size_t total) {
  while (total) {
    size_t n = stream_write(from->s, block, total < sizeof block ? total : sizeof block);
    assert_true(n > 0 || nghttp2_session_get_stream_remote_window_size(of(from)->link->ng, of(from)->id) > 0);
    total -= n;
    world_run(w);
    assert_int_equal(stream_waiting(to->s), 0);
    evbuffer_drain(to->got, evbuffer_get_length(to->got));
  }
}

static void test_grows_while_it_drains(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, &h2);
  world_open(&w, &r, &a);
  assert_int_equal(of(a)->window, LIMIT_STREAM_WINDOW_MIN);
  pour(&w, r, a, 64 * 1024 * 1024);
  /* doubled, then half of what was left each time; sockets keep what they need for large pieces */
  assert_true(of(a)->window > LIMIT_POOL_BYTES / 16 * 5 / 10 * 9);
  assert_true(budget_left(&budget_pool) > LIMIT_POOL_SPARE);
  assert_int_equal(of(a)->window % LIMIT_STREAM_WINDOW_MIN, 0);
  assert_int_equal(used(), of(a)->window - LIMIT_STREAM_WINDOW_MIN);
  assert_int_equal(of(r)->window, LIMIT_STREAM_WINDOW_MIN); /* nothing came back */
  tap_free(r, 0);
  tap_free(a, 0);
  w.agent.accepted[0] = NULL;
  world_run(&w);
  assert_int_equal(used(), 0);
  world_free(&w);
}

/* The sender hears of credit long before half of the window is free: on a long way it would stand still otherwise. */
static void test_credit_comes_in_small_parts(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, &h2);
  world_open(&w, &r, &a);
  pour(&w, r, a, 16 * 1024 * 1024);
  uint32_t window = of(a)->window;
  a->auto_read = false;
  while (stream_write(r->s, block, sizeof block))
    world_run(&w);
  size_t waiting = stream_waiting(a->s);
  assert_true(waiting > window - window / 8 && waiting <= window);
  stream_consume(a->s, window / 4); /* whatever was left of an eighth before: one becomes whole */
  world_run(&w);
  while (stream_write(r->s, block, sizeof block))
    world_run(&w);
  assert_true(stream_waiting(a->s) > waiting - window / 8);
  tap_free(r, BEAM_ERR_RESET);
  world_free(&w);
  assert_int_equal(used(), 0);
}

/* The round trip is known before the first stream, so that the first window that drained fast is followed by a larger one. */
static void test_grows_from_the_first_window(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, &h2);
  assert_true(((struct h2 *)w.agent.k)->rtt_at > 0);
  assert_true(((struct h2 *)w.relay.k)->rtt_at > 0);
  world_open(&w, &r, &a);
  loop_run_for(w.l, 5000); /* the local service thinks */
  pour(&w, r, a, LIMIT_STREAM_WINDOW_MIN);
  assert_int_equal(of(a)->window, 2 * LIMIT_STREAM_WINDOW_MIN);
  tap_free(r, BEAM_ERR_RESET);
  world_free(&w);
  assert_int_equal(used(), 0);
}

static void test_slow_reader_gets_no_more(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, &h2);
  world_open(&w, &r, &a);
  a->auto_read = false;
  for (int i = 0; i < 2000; i++) {
    stream_write(r->s, block, sizeof block);
    loop_run_for(w.l, 20);
    stream_consume(a->s, stream_waiting(a->s) < 8192 ? stream_waiting(a->s) : 8192);
    assert_true(stream_waiting(a->s) <= LIMIT_STREAM_WINDOW_MIN);
  }
  assert_int_equal(of(a)->window, LIMIT_STREAM_WINDOW_MIN);
  assert_true(stream_waiting(a->s) > LIMIT_STREAM_WINDOW_MIN / 4);
  assert_int_equal(used(), stream_waiting(a->s)); /* what waits is charged */
  tap_free(r, BEAM_ERR_RESET);
  world_run(&w);
  tap_free(a, 0);
  w.agent.accepted[0] = NULL;
  assert_int_equal(used(), 0);
  world_free(&w);
}

static void test_shrinks_when_idle(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, &h2);
  world_open(&w, &r, &a);
  pour(&w, r, a, 64 * 1024 * 1024);
  uint32_t large = of(a)->window;
  assert_true(large > LIMIT_STREAM_WINDOW_MIN);
  loop_run_for(w.l, 10000);
  assert_int_equal(of(a)->window, LIMIT_STREAM_WINDOW_MIN);
  /* the peer still has the credit: the pool waits for it */
  assert_int_equal(used(), large - LIMIT_STREAM_WINDOW_MIN);
  for (size_t sent = 0; sent < large; sent += 8192) {
    loop_run_for(w.l, 50); /* slowly: nothing grows again */
    pour(&w, r, a, 8192);
  }
  assert_int_equal(of(a)->window, LIMIT_STREAM_WINDOW_MIN);
  assert_int_equal(used(), 0);
  /* and it really is small now: a reader that stops holds no more than that */
  a->auto_read = false;
  for (int i = 0; i < 100; i++) {
    stream_write(r->s, block, sizeof block);
    world_run(&w);
  }
  assert_true(stream_waiting(a->s) <= LIMIT_STREAM_WINDOW_MIN);
  tap_free(r, BEAM_ERR_RESET);
  world_free(&w);
  assert_int_equal(used(), 0);
}

/* What the peer may still send is the window, less what waits here and what is not worth a frame yet; no frame is on its way. */
static void credit_adds_up(struct tap *from, struct tap *to) {
  int32_t may_send = nghttp2_session_get_stream_remote_window_size(of(from)->link->ng, of(from)->id);
  assert_int_equal(of(to)->window + of(to)->owed, (size_t)may_send + of(to)->credit + stream_waiting(to->s));
}

/* Downloads pause: the window shrinks, the peer uses up what it had, and then the window grows as if it never had been large. */
static void test_grows_again_after_it_shrank(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, &h2);
  world_open(&w, &r, &a);
  for (int pause = 0; pause < 3; pause++) {
    pour(&w, r, a, 64 * 1024 * 1024);
    uint32_t large = of(a)->window;
    assert_true(large > 32 * LIMIT_STREAM_WINDOW_MIN);
    credit_adds_up(r, a);
    loop_run_for(w.l, 10000);
    assert_int_equal(of(a)->window, LIMIT_STREAM_WINDOW_MIN);
    credit_adds_up(r, a);
  }
  pour(&w, r, a, 64 * 1024 * 1024);
  assert_int_equal(used(), of(a)->window - LIMIT_STREAM_WINDOW_MIN);
  a->auto_read = false; /* all of it can be used */
  for (int i = 0; i < 1000; i++) {
    stream_write(r->s, block, sizeof block);
    world_run(&w);
  }
  assert_true(stream_waiting(a->s) > of(a)->window / 8 * 7);
  tap_free(r, BEAM_ERR_RESET);
  world_free(&w);
  assert_int_equal(used(), 0);
}

static void test_pool_bounds_all_windows(void **state) {
  (void)state;
  enum { MANY = 64, CAP = 4 * 1024 * 1024 };
  struct world w;
  struct tap *r[MANY], *a[MANY];
  world_make(&w, &h2);
  budget_pool.cap = CAP;
  for (int i = 0; i < MANY; i++)
    world_open(&w, &r[i], &a[i]);
  for (int i = 0; i < MANY; i++) {
    pour(&w, r[i], a[i], 16 * 1024 * 1024);
    assert_true(used() <= CAP / 16 * 5); /* something is always left for the next one */
  }
  assert_true(used() > CAP / 4);
  /* all of them stop reading at once: what waits stays within the pool and the first 64 KiB of each */
  size_t waiting = 0;
  for (int i = 0; i < MANY; i++)
    a[i]->auto_read = false;
  for (int turn = 0; turn < 40; turn++) {
    for (int i = 0; i < MANY; i++)
      stream_write(r[i]->s, block, sizeof block);
    world_run(&w);
  }
  for (int i = 0; i < MANY; i++)
    waiting += stream_waiting(a[i]->s);
  assert_true(waiting <= CAP / 16 * 5 + MANY * LIMIT_STREAM_WINDOW_MIN);
  assert_true(waiting > CAP / 2);
  for (int i = 0; i < MANY; i++)
    tap_free(r[i], BEAM_ERR_RESET);
  world_free(&w);
  assert_int_equal(used(), 0);
  budget_pool.cap = LIMIT_POOL_BYTES;
}

static void test_pool_low_halves_windows(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, &h2);
  world_open(&w, &r, &a);
  pour(&w, r, a, 8 * 1024 * 1024);
  uint32_t large = of(a)->window;
  size_t others = budget_left(&budget_pool) - budget_pool.cap / 16;
  budget_charge(&budget_pool, others);
  for (int i = 0; i < 12; i++) { /* busy, so not idle */
    loop_run_for(w.l, 100);
    pour(&w, r, a, large / 4);
  }
  assert_true(of(a)->window <= large / 2);
  budget_give(&budget_pool, others);
  tap_free(r, 0);
  world_free(&w);
  assert_int_equal(used(), 0);
}

/* A window that is no power of two: its half's half would be less than what every stream has. */
static void test_pool_low_leaves_the_first_window(void **state) {
  (void)state;
  enum { CAP = 16 * 44 * 1024 }; /* 220 KiB for growth: a step of 64 KiB, and another one */
  struct world w;
  struct tap *r, *a;
  world_make(&w, &h2);
  budget_pool.cap = CAP;
  world_open(&w, &r, &a);
  pour(&w, r, a, 1024 * 1024);
  assert_int_equal(of(a)->window, 3 * LIMIT_STREAM_WINDOW_MIN);
  budget_charge(&budget_pool, CAP); /* others took all */
  for (int i = 0; i < 40; i++) {    /* busy, so not idle */
    loop_run_for(w.l, 100);
    pour(&w, r, a, LIMIT_STREAM_WINDOW_MIN / 2);
    assert_true(of(a)->window >= LIMIT_STREAM_WINDOW_MIN);
  }
  assert_int_equal(of(a)->window, LIMIT_STREAM_WINDOW_MIN);
  tap_free(r, BEAM_ERR_RESET);
  world_free(&w);
  assert_int_equal(used(), CAP);
  budget_give(&budget_pool, CAP);
  budget_pool.cap = LIMIT_POOL_BYTES;
}

static void test_used_up_pool_refuses_streams(void **state) {
  (void)state;
  struct world w;
  struct stream *s;
  world_make(&w, &h2);
  budget_charge(&budget_pool, LIMIT_POOL_BYTES - LIMIT_STREAM_WINDOW_MIN / 2);
  assert_int_equal(link_open(w.relay.k, &s), BEAM_ERR_NOMEM);
  budget_give(&budget_pool, LIMIT_POOL_BYTES - LIMIT_STREAM_WINDOW_MIN / 2);
  /* the agent's own pool, as if it were another process */
  assert_int_equal(link_open(w.relay.k, &s), 0);
  struct tap *t = tap_new(s, true);
  budget_charge(&budget_pool, LIMIT_POOL_BYTES);
  world_run(&w);
  assert_int_equal(w.agent.streams, 0);
  assert_int_equal(t->closed, 1);
  assert_int_equal(t->reason, BEAM_ERR_LIMIT);
  tap_free(t, 0);
  budget_give(&budget_pool, LIMIT_POOL_BYTES);
  assert_int_equal(used(), 0);
  assert_int_equal(link_open(w.relay.k, &s), 0);
  stream_close(s, 0);
  world_free(&w);
}

/* 200 visitors that stop reading in the middle of a download: what both ends hold, and the pool knows of it. */
static void test_many_stalled_readers(void **state) {
  (void)state;
  enum { MANY = 200 };
  struct world w;
  static struct tap *r[MANY], *a[MANY];
  size_t in = 0, out = 0;
  world_make(&w, &h2);
  for (int i = 0; i < MANY; i++) {
    world_open(&w, &r[i], &a[i]);
    r[i]->auto_read = false;
  }
  for (int turn = 0; turn < 40; turn++) {
    for (int i = 0; i < MANY; i++)
      stream_write(a[i]->s, block, sizeof block);
    world_run(&w);
  }
  for (int i = 0; i < MANY; i++) {
    in += stream_waiting(r[i]->s);
    out += evbuffer_get_length(of(a[i])->out);
  }
  assert_true(in <= MANY * LIMIT_STREAM_WINDOW_MIN);
  assert_true(out <= MANY * LIMIT_STREAM_WINDOW_MIN);
  assert_int_equal(used(), in);
  struct tap *rx, *ax; /* another one goes on as if they were not there */
  world_open(&w, &rx, &ax);
  pour(&w, ax, rx, 4 * 1024 * 1024);
  tap_free(rx, 0);
  for (int i = 0; i < MANY; i++)
    tap_free(r[i], BEAM_ERR_RESET);
  world_free(&w);
  assert_int_equal(used(), 0);
}

/* A whole response waits for a slow visitor after HTTP/2 is done with the stream: it still counts. */
static void test_finished_stream_is_still_charged(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, &h2);
  world_open(&w, &r, &a);
  r->auto_read = false;
  assert_int_equal(stream_write(a->s, block, 50000), 50000);
  stream_finish(a->s);
  stream_finish(r->s);
  world_run(&w);
  assert_int_equal(of(r)->id, 0);
  assert_int_equal(stream_waiting(r->s), 50000);
  assert_int_equal(used(), 50000);
  stream_consume(r->s, 20000);
  assert_int_equal(used(), 30000);
  stream_consume(r->s, 30000);
  assert_int_equal(used(), 0);
  assert_true(stream_at_end(r->s));
  tap_free(r, 0);
  world_free(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_grows_while_it_drains),
      cmocka_unit_test(test_slow_reader_gets_no_more),
      cmocka_unit_test(test_credit_comes_in_small_parts),
      cmocka_unit_test(test_grows_from_the_first_window),
      cmocka_unit_test(test_shrinks_when_idle),
      cmocka_unit_test(test_grows_again_after_it_shrank),
      cmocka_unit_test(test_pool_bounds_all_windows),
      cmocka_unit_test(test_pool_low_halves_windows),
      cmocka_unit_test(test_pool_low_leaves_the_first_window),
      cmocka_unit_test(test_used_up_pool_refuses_streams),
      cmocka_unit_test(test_many_stalled_readers),
      cmocka_unit_test(test_finished_stream_is_still_charged),
  };
  return cmocka_run_group_tests_name("h2 windows", tests, NULL, NULL);
}
