#include "contract.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "io/budget.h"

/* --- the contract, both ends on one loop --- */

static void given(void *user, struct link *b) {
  *(struct link **)user = b;
}

static int pair_local(struct loop *l, struct link **relay, struct link **agent) {
  *agent = NULL;
  int err = link_local_pair(l, l, relay, given, agent);
  loop_run_for(l, 0);
  assert_true(err || *agent);
  return err;
}

/* --- two threads: each opens streams to the other, echoes what the other sends, and closes in all the ways there are --- */

enum { ROUNDS = 300, AT_ONCE = 20 };

struct thread {
  pthread_t id;
  struct loop *loop;
  struct link *k;
  unsigned seed, left, open, echoes, done, killed, refused;
  struct loop_task task;
  _Atomic bool *partner_done;
  _Atomic bool all_done;
  bool closed;
};

struct call {
  struct thread *t;
  struct stream *s;
  struct evbuffer *sent; /* a copy of what was sent and has not come back */
  size_t left;
  int end; /* how it closes */
};

static unsigned draw(struct thread *t) {
  return (t->seed = t->seed * 1664525 + 1013904223) >> 8;
}

static void next_call(struct thread *t);

static void call_end(struct call *c, int reason) {
  struct thread *t = c->t;
  stream_close(c->s, reason);
  evbuffer_free(c->sent);
  free(c);
  t->open--;
  next_call(t);
}

static void call_write(void *user) {
  struct call *c = user;
  uint8_t b[5000];
  while (c->left) {
    size_t n = 1 + draw(c->t) % sizeof b;
    if (n > c->left)
      n = c->left;
    memset(b, (int)draw(c->t), n);
    size_t took = stream_write(c->s, b, n);
    assert_int_equal(evbuffer_add(c->sent, b, took), 0);
    c->left -= took;
    if (took < n)
      return;
  }
  stream_finish(c->s);
}

static void call_readable(void *user) {
  struct call *c = user;
  size_t n = stream_waiting(c->s);
  assert_true(n <= evbuffer_get_length(c->sent));
  assert_memory_equal(evbuffer_pullup(stream_input(c->s), -1), evbuffer_pullup(c->sent, (ev_ssize_t)n), n);
  evbuffer_drain(c->sent, n);
  stream_consume(c->s, n);
  if (c->end == 1 && n) { /* enough: abort in the middle */
    c->t->killed++;
    call_end(c, BEAM_ERR_RESET);
    return;
  }
  if (!stream_at_end(c->s))
    return;
  assert_int_equal(evbuffer_get_length(c->sent), 0);
  assert_int_equal(c->left, 0);
  c->t->done++;
  call_end(c, 0);
}

static void call_closed(void *user, int reason) {
  struct call *c = user;
  assert_true(reason == BEAM_ERR_TIMEOUT || reason == BEAM_ERR_RESET);
  c->t->refused++;
  call_end(c, reason);
}

static const struct stream_events call_events = {call_readable, call_write, call_closed};

static void maybe_all_done(struct thread *t) {
  if (!t->left && !t->open && !atomic_load(&t->all_done))
    atomic_store(&t->all_done, true);
}

static void next_call(struct thread *t) {
  if (t->closed || !t->left) {
    maybe_all_done(t);
    return;
  }
  t->left--;
  struct call *c = calloc(1, sizeof *c);
  assert_non_null(c);
  c->t = t;
  c->sent = evbuffer_new();
  assert_non_null(c->sent);
  c->left = draw(t) % 4 ? draw(t) % 3000 : draw(t) % 400000;
  c->end = draw(t) % 5 == 0;
  assert_int_equal(link_open(t->k, &c->s), 0);
  t->open++;
  stream_own(c->s, &call_events, c);
  call_write(c);
}

struct echo {
  struct thread *t;
  struct stream *s;
  bool rude;
};

static void echo_move(void *user) {
  struct echo *e = user;
  if (e->rude && stream_waiting(e->s)) {
    stream_close(e->s, BEAM_ERR_TIMEOUT);
    free(e);
    return;
  }
  struct evbuffer *b = evbuffer_new();
  assert_non_null(b);
  size_t n = stream_take(e->s, b, stream_room(e->s));
  assert_int_equal(stream_move(e->s, b, n), n);
  evbuffer_free(b);
  if (!stream_at_end(e->s))
    return;
  stream_close(e->s, 0);
  free(e);
}

static void echo_closed(void *user, int reason) {
  struct echo *e = user;
  stream_close(e->s, reason);
  free(e);
}

static const struct stream_events echo_events = {echo_move, echo_move, echo_closed};

static void on_stream(void *user, struct stream *s) {
  struct thread *t = user;
  struct echo *e = calloc(1, sizeof *e);
  assert_non_null(e);
  e->t = t;
  e->s = s;
  e->rude = draw(t) % 10 == 0;
  t->echoes++;
  stream_own(s, &echo_events, e);
}

static void on_ready(void *user) {
  struct thread *t = user;
  for (int i = 0; i < AT_ONCE; i++)
    next_call(t);
}

static void on_closed(void *user, int reason) {
  struct thread *t = user;
  assert_int_equal(reason, BEAM_ERR_CLOSED);
  link_close(t->k, 0);
  t->k = NULL;
  t->closed = true;
  loop_stop(t->loop);
}

static void on_control(void *user, const beam_Control *m) {
  (void)user;
  assert_int_equal(m->which_kind, beam_Control_ping_tag);
}

static const struct link_events events = {on_ready, on_stream, on_control, on_closed, NULL};

static void take(void *user, struct link *k) {
  struct thread *t = user;
  t->k = k;
  link_own(k, &events, t);
}

static void *run(void *arg) {
  struct thread *t = arg;
  loop_run(t->loop);
  return NULL;
}

static void test_two_threads(void **state) {
  (void)state;
  struct thread t[2];
  memset(t, 0, sizeof t);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(loop_new(&t[i].loop), 0);
    t[i].seed = 7 + (unsigned)i;
    t[i].left = ROUNDS;
  }
  assert_int_equal(link_local_pair(t[0].loop, t[1].loop, &t[0].k, take, &t[1]), 0);
  take(&t[0], t[0].k);
  assert_int_equal(pthread_create(&t[1].id, NULL, run, &t[1]), 0);
  while (!atomic_load(&t[0].all_done) || !atomic_load(&t[1].all_done))
    loop_turn(t[0].loop, 5);
  link_close(t[0].k, 0); /* the other end hears of it and stops its loop */
  assert_int_equal(pthread_join(t[1].id, NULL), 0);
  loop_turn(t[0].loop, 0);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(t[i].done + t[i].killed + t[i].refused, ROUNDS);
    assert_true(t[i].done > ROUNDS / 4 && t[i].killed && t[i].refused);
    assert_int_equal(t[i].echoes, ROUNDS);
    loop_free(t[i].loop);
  }
  assert_int_equal(atomic_load(&budget_pool.used), 0);
}

/* --- loops that go away --- */

static void never(void *user, struct link *k) {
  (void)user;
  (void)k;
  fail();
}

static void test_loop_freed_before_the_gift(void **state) {
  (void)state;
  struct world w;
  struct loop *b;
  memset(&w, 0, sizeof w);
  assert_int_equal(loop_new_virtual(&w.l), 0);
  assert_int_equal(loop_new_virtual(&b), 0);
  assert_int_equal(link_local_pair(w.l, b, &w.relay.k, never, NULL), 0);
  struct side *side = &w.relay;
  static const struct link_events ears = {.closed = NULL};
  link_own(side->k, &ears, side);
  loop_run_for(w.l, 0);
  struct stream *s;
  assert_int_equal(link_open(side->k, &s), 0);
  struct tap *t = tap_new(s, true);
  stream_write(s, "lost", 4);
  loop_run_for(w.l, 0);
  loop_free(b); /* with the gift and a delivery waiting */
  loop_run_for(w.l, 0);
  assert_int_equal(t->closed, 1);
  assert_int_equal(link_open(side->k, &s), BEAM_ERR_CLOSED);
  tap_free(t, 0);
  link_close(side->k, 0);
  loop_free(w.l);
}

static void test_loop_freed_with_posts_waiting(void **state) {
  (void)state;
  struct loop *a, *b;
  struct link *ka, *kb = NULL;
  struct stream *s;
  assert_int_equal(loop_new_virtual(&a), 0);
  assert_int_equal(loop_new_virtual(&b), 0);
  assert_int_equal(link_local_pair(a, b, &ka, given, &kb), 0);
  loop_run_for(a, 0);
  loop_run_for(b, 0);
  assert_non_null(kb);
  assert_int_equal(link_open(ka, &s), 0);
  stream_write(s, "x", 1);
  assert_int_equal(say_ping(ka, 1), 0);
  loop_run_for(a, 0); /* posted, never delivered */
  link_close(kb, 0);
  loop_free(b);
  stream_write(s, "y", 1);
  loop_run_for(a, 0);
  assert_int_equal(say_ping(ka, 1), BEAM_ERR_CLOSED);
  stream_close(s, 0);
  link_close(ka, 0);
  loop_free(a);
}

static void test_pair_towards_a_freed_loop_that_is_closed(void **state) {
  (void)state;
  struct loop *a, *b;
  struct link *ka, *kb = NULL;
  assert_int_equal(loop_new_virtual(&a), 0);
  assert_int_equal(loop_new_virtual(&b), 0);
  assert_int_equal(link_local_pair(a, b, &ka, given, &kb), 0);
  link_close(ka, 0); /* before the other end was given */
  loop_run_for(b, 0);
  assert_non_null(kb);
  loop_run_for(b, 0);
  link_close(kb, 0);
  loop_free(a);
  loop_free(b);
}

/* The queue of the other loop is full: nothing is lost, it only waits. */
static void nothing(void *arg) {
  (void)arg;
}

static unsigned delivered;
static void count(void *user, const beam_Control *m) {
  (void)user, (void)m;
  delivered++;
}

static void test_full_queue(void **state) {
  (void)state;
  static const struct link_events ears = {.control = count};
  for (int closing = 0; closing < 2; closing++) {
    struct loop *a, *b;
    struct link *ka, *kb = NULL;
    assert_int_equal(loop_new_virtual(&a), 0);
    assert_int_equal(loop_new_virtual(&b), 0);
    assert_int_equal(link_local_pair(a, b, &ka, given, &kb), 0);
    loop_run_for(a, 0);
    loop_run_for(b, 0);
    link_own(kb, &ears, NULL);
    delivered = 0;
    while (!loop_post(b, nothing, NULL))
      ;
    assert_int_equal(say_ping(ka, 1), 0);
    if (closing)
      link_close(ka, 0);
    loop_run_for(a, 5);
    loop_run_for(b, 0);
    assert_int_equal(delivered, 0);
    loop_run_for(a, 20);
    loop_run_for(b, 0);
    assert_int_equal(delivered, 1);
    if (!closing)
      link_close(ka, 0);
    link_close(kb, 0);
    loop_run_for(a, 0);
    loop_free(a);
    loop_free(b);
  }
}

static void test_control_is_bounded(void **state) {
  (void)state;
  struct loop *a, *b;
  struct link *ka, *kb = NULL;
  assert_int_equal(loop_new_virtual(&a), 0);
  assert_int_equal(loop_new_virtual(&b), 0);
  assert_int_equal(link_local_pair(a, b, &ka, given, &kb), 0);
  loop_run_for(a, 0);
  unsigned n = 0;
  int err = 0;
  for (; n < 100000 && !(err = say_ping(ka, n)); n++)
    loop_run_for(a, 0);
  assert_int_equal(err, BEAM_ERR_LIMIT);
  assert_true(n >= 32 && n <= 1024);
  loop_run_for(b, 0);
  assert_int_equal(say_ping(ka, 1), 0); /* and goes on once the other reads */
  link_close(ka, 0);
  link_close(kb, 0);
  loop_free(a);
  loop_free(b);
}

int main(void) {
  static const struct pair_kind local = {.name = "local", .make = pair_local};
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_two_threads),
      cmocka_unit_test(test_loop_freed_before_the_gift),
      cmocka_unit_test(test_loop_freed_with_posts_waiting),
      cmocka_unit_test(test_pair_towards_a_freed_loop_that_is_closed),
      cmocka_unit_test(test_full_queue),
      cmocka_unit_test(test_control_is_bounded),
  };
  int failed = link_contract_run(&local);
  return failed + cmocka_run_group_tests_name("local, threads", tests, NULL, NULL);
}
