/* The network in memory: exact times, faults, the same run for the same seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/limits.h"
#include "io/net.h"

struct seen {
  struct loop *l;
  struct stream *s;
  int calls, err;
  uint64_t at; /* of the last call */
};

static void on_dial(void *user, struct stream *s, int err) {
  struct seen *d = user;
  d->calls++;
  d->s = s;
  d->err = err;
  d->at = loop_now(d->l);
}

static void on_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  assert_int_equal(peer->ss_family, AF_INET);
  on_dial(user, s, 0);
}

static void on_readable(void *user) {
  struct seen *e = user;
  e->calls++;
  e->at = loop_now(e->l);
}
static void on_closed(void *user, int reason) {
  struct seen *e = user;
  e->err = reason;
  e->at = loop_now(e->l);
}
static const struct stream_events events = {on_readable, NULL, on_closed};

struct fixture {
  struct loop *l;
  struct net *n;
  struct listener *ls;
  struct seen in, out;
  struct dial *d;
};

static void open_net(struct fixture *f, uint64_t seed, uint64_t delay, uint64_t jitter) {
  const struct memnet_conf conf = {seed, delay, jitter};
  memset(f, 0, sizeof *f);
  assert_int_equal(loop_new_virtual(&f->l), 0);
  assert_int_equal(memnet_new(f->l, &conf, &f->n), 0);
  f->in.l = f->out.l = f->l;
  assert_int_equal(net_listen(f->n, f->l, "relay", 443, NULL, on_accept, &f->in, &f->ls), 0);
}

static void dial_to(struct fixture *f, const char *host, uint64_t timeout) {
  f->out.calls = 0;
  assert_int_equal(net_dial(f->n, f->l, host, 443, timeout, on_dial, &f->out, &f->d), 0);
}

static void connect_both(struct fixture *f) {
  dial_to(f, "relay", 1000);
  loop_run_for(f->l, 200);
  assert_non_null(f->in.s);
  assert_non_null(f->out.s);
  stream_own(f->in.s, &events, &f->in);
  stream_own(f->out.s, &events, &f->out);
  f->in.calls = f->out.calls = 0;
}

static void close_net(struct fixture *f) {
  stream_close(f->in.s, BEAM_ERR_CLOSED);
  stream_close(f->out.s, BEAM_ERR_CLOSED);
  memnet_free(f->n);
  loop_run_for(f->l, 1000);
  loop_free(f->l);
}

static void everything_takes_its_time(void **state) {
  (void)state;
  struct fixture f;
  open_net(&f, 1, 30, 0);
  uint64_t t = loop_now(f.l);
  dial_to(&f, "relay", 1000);
  assert_int_equal(f.out.calls, 0);
  loop_run_for(f.l, 200);
  assert_int_equal(f.in.at - t, 30);
  assert_int_equal(f.out.at - t, 60);
  stream_own(f.in.s, &events, &f.in);
  stream_own(f.out.s, &events, &f.out);
  t = loop_now(f.l);
  f.in.calls = 0;
  stream_write(f.out.s, "abc", 3);
  loop_run_for(f.l, 29);
  assert_int_equal(f.in.calls, 0);
  loop_run_for(f.l, 1);
  assert_int_equal(f.in.calls, 1);
  assert_int_equal(stream_waiting(f.in.s), 3);
  loop_run_for(f.l, 100);
  t = loop_now(f.l);
  stream_close(f.out.s, BEAM_ERR_DENIED);
  f.out.s = NULL;
  loop_run_for(f.l, 100);
  assert_int_equal(f.in.err, BEAM_ERR_RESET);
  assert_int_equal(f.in.at - t, 30);
  close_net(&f);
}

/* A window a round trip: what crosses in a second is limited by it, not by nothing. */
static void credit_travels_too(void **state) {
  (void)state;
  struct fixture f;
  open_net(&f, 1, 50, 0);
  connect_both(&f);
  static char block[64 * 1024];
  size_t got = 0;
  for (int ms = 0; ms < 1000; ms++) {
    stream_write(f.out.s, block, sizeof block);
    got += stream_waiting(f.in.s);
    stream_consume(f.in.s, stream_waiting(f.in.s));
    loop_run_for(f.l, 1);
  }
  assert_in_range(got, 9 * LIMIT_MEM_PIPE, 11 * LIMIT_MEM_PIPE);
  close_net(&f);
}

static void refuses_and_times_out(void **state) {
  (void)state;
  struct fixture f;
  open_net(&f, 1, 10, 0);
  uint64_t t = loop_now(f.l);
  dial_to(&f, "nobody", 1000);
  loop_run_for(f.l, 100);
  assert_int_equal(f.out.err, BEAM_ERR_REFUSED);
  assert_int_equal(f.out.at - t, 20);
  memnet_blackhole(f.n, "relay", MEMNET_TO);
  t = loop_now(f.l);
  dial_to(&f, "relay", 300);
  loop_run_for(f.l, 1000);
  assert_int_equal(f.out.err, BEAM_ERR_TIMEOUT);
  assert_int_equal(f.out.at - t, 300);
  assert_int_equal(f.in.calls, 0);
  memnet_blackhole(f.n, "relay", MEMNET_FROM); /* it hears us, we do not hear it */
  dial_to(&f, "relay", 300);
  loop_run_for(f.l, 1000);
  assert_int_equal(f.in.calls, 1);
  assert_int_equal(f.out.err, BEAM_ERR_TIMEOUT);
  assert_true(stream_dead(f.in.s)); /* given up: a reset got through */
  memnet_blackhole(f.n, "relay", 0);
  struct listener *other;
  assert_int_equal(net_listen(f.n, f.l, "relay", 443, NULL, on_accept, &f.in, &other), BEAM_ERR_IN_USE);
  assert_int_equal(net_listener_port(f.n, f.ls), 443);
  dial_to(&f, "relay", 300); /* cancelled: at once, and while the answer travels */
  net_dial_cancel(f.n, f.d);
  dial_to(&f, "relay", 300);
  stream_close(f.in.s, BEAM_ERR_CLOSED);
  f.in.s = NULL;
  loop_run_for(f.l, 15);
  assert_non_null(f.in.s);
  net_dial_cancel(f.n, f.d);
  loop_run_for(f.l, 1000);
  assert_int_equal(f.out.calls, 0);
  assert_true(stream_dead(f.in.s));
  f.out.s = NULL;
  close_net(&f);
}

static void a_black_hole_is_silent_until_it_is_gone(void **state) {
  (void)state;
  struct fixture f;
  open_net(&f, 1, 10, 0);
  connect_both(&f);
  memnet_blackhole(f.n, "relay", MEMNET_TO | MEMNET_FROM);
  stream_write(f.out.s, "one", 3);
  stream_finish(f.in.s);
  loop_run_for(f.l, 60000);
  assert_int_equal(f.in.calls + f.out.calls, 0);
  assert_int_equal(f.in.err + f.out.err, 0);
  memnet_blackhole(f.n, "relay", MEMNET_FROM);
  loop_run_for(f.l, 100);
  assert_int_equal(stream_waiting(f.in.s), 3);
  assert_false(stream_at_end(f.out.s));
  memnet_blackhole(f.n, "relay", 0);
  loop_run_for(f.l, 100);
  assert_true(stream_at_end(f.out.s));
  close_net(&f);
}

static void a_cut_resets_both_ends_and_refuses(void **state) {
  (void)state;
  struct fixture f;
  open_net(&f, 1, 10, 0);
  connect_both(&f);
  stream_write(f.out.s, "lost", 4);
  memnet_cut(f.n, "relay", true);
  loop_run_for(f.l, 100);
  assert_int_equal(f.in.err, BEAM_ERR_RESET);
  assert_int_equal(f.out.err, BEAM_ERR_RESET);
  assert_int_equal(stream_waiting(f.in.s), 0);
  stream_close(f.out.s, 0);
  stream_close(f.in.s, 0);
  f.in.s = f.out.s = NULL;
  dial_to(&f, "relay", 1000);
  loop_run_for(f.l, 100);
  assert_int_equal(f.out.err, BEAM_ERR_REFUSED);
  memnet_cut(f.n, "relay", false);
  connect_both(&f);
  close_net(&f);
}

/* Times of arrival of 50 small writes, as one number. */
static uint64_t run_with(uint64_t seed) {
  struct fixture f;
  uint64_t sum = 0;
  open_net(&f, seed, 10, 20);
  connect_both(&f);
  for (int i = 0; i < 50; i++) {
    uint64_t t = loop_now(f.l);
    int before = f.in.calls;
    stream_write(f.out.s, "x", 1);
    loop_run_for(f.l, 31);
    assert_int_equal(f.in.calls, before + 1);
    assert_in_range(f.in.at - t, 10, 30);
    sum = sum * 31 + (f.in.at - t);
  }
  close_net(&f);
  return sum;
}

static void the_same_seed_gives_the_same_run(void **state) {
  (void)state;
  assert_true(run_with(5) == run_with(5));
  assert_true(run_with(5) != run_with(6));
}

static void streams_may_outlive_the_net(void **state) {
  (void)state;
  struct fixture f;
  open_net(&f, 1, 10, 0);
  connect_both(&f);
  stream_write(f.out.s, "x", 1);
  memnet_free(f.n);
  loop_run_for(f.l, 100);
  assert_int_equal(f.in.err, BEAM_ERR_CLOSED);
  stream_consume(f.in.s, stream_waiting(f.in.s));
  stream_finish(f.out.s);
  stream_close(f.in.s, 0);
  stream_close(f.out.s, 0);
  loop_free(f.l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(everything_takes_its_time),
      cmocka_unit_test(credit_travels_too),
      cmocka_unit_test(refuses_and_times_out),
      cmocka_unit_test(a_black_hole_is_silent_until_it_is_gone),
      cmocka_unit_test(a_cut_resets_both_ends_and_refuses),
      cmocka_unit_test(the_same_seed_gives_the_same_run),
      cmocka_unit_test(streams_may_outlive_the_net),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
