/* Tasks, timers on both clocks, posts from other threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "io/loop.h"

static struct loop *l;
static char trace[256];

static int up_virtual(void **state) {
  (void)state;
  trace[0] = 0;
  return loop_new_virtual(&l);
}
static int up_real(void **state) {
  (void)state;
  trace[0] = 0;
  return loop_new(&l);
}
static int down(void **state) {
  (void)state;
  loop_free(l);
  return 0;
}

struct note {
  struct loop_task task;
  struct loop_timer timer;
  char letter;
  uint64_t at;
  struct loop_task *then; /* queued when this runs */
};
static void on_note(void *arg) {
  struct note *n = arg;
  size_t len = strlen(trace);
  if (len + 1 < sizeof trace) {
    trace[len] = n->letter;
    trace[len + 1] = 0;
  }
  n->at = loop_now(l);
  if (n->then)
    loop_soon(l, n->then);
}
static void note_init(struct note *n, char letter) {
  memset(n, 0, sizeof *n);
  n->letter = letter;
  task_init(&n->task, on_note, n);
  timer_init(&n->timer, l, on_note, n);
}

static void tasks_run_in_order_and_flushes_last(void **state) {
  (void)state;
  struct note a, b, c, e;
  note_init(&a, 'a');
  note_init(&b, 'b');
  note_init(&c, 'c');
  note_init(&e, 'e');
  a.then = &c.task; /* made by a task: still before the turn's end */
  loop_turn_end(l, &e.task);
  loop_soon(l, &a.task);
  loop_soon(l, &b.task);
  loop_soon(l, &a.task); /* queued already */
  assert_string_equal(trace, "");
  loop_run_for(l, 0);
  assert_string_equal(trace, "abce");
}

static void a_task_may_be_cancelled(void **state) {
  (void)state;
  struct note a, b;
  note_init(&a, 'a');
  note_init(&b, 'b');
  task_cancel(&a.task); /* not queued */
  loop_soon(l, &a.task);
  loop_soon(l, &b.task);
  assert_true(task_queued(&a.task));
  task_cancel(&a.task);
  assert_false(task_queued(&a.task));
  loop_run_for(l, 0);
  assert_string_equal(trace, "b");
}

struct canceller {
  struct loop_task task;
  struct loop_task *victim;
};
static void on_cancel(void *arg) {
  struct canceller *c = arg;
  task_cancel(c->victim);
}
/* The victim is in the batch that runs. */
static void a_task_may_cancel_the_next(void **state) {
  (void)state;
  struct note b, d;
  struct canceller a = {.victim = &b.task};
  note_init(&b, 'b');
  note_init(&d, 'd');
  task_init(&a.task, on_cancel, &a);
  loop_soon(l, &a.task);
  loop_soon(l, &b.task);
  loop_soon(l, &d.task);
  loop_run_for(l, 0);
  assert_string_equal(trace, "d");
}

static void timers_fire_on_the_millisecond(void **state) {
  (void)state;
  static const uint64_t ms[] = {250, 0, 17, 250, 1, 1000, 17, 999};
  struct note n[8];
  uint64_t t = loop_now(l);
  for (size_t i = 0; i < 8; i++) {
    note_init(&n[i], (char)('a' + i));
    assert_int_equal(timer_start(&n[i].timer, ms[i]), 0);
  }
  loop_run_for(l, 1000);
  assert_string_equal(trace, "becgadhf"); /* equal deadlines in the order they were set */
  for (size_t i = 0; i < 8; i++)
    assert_int_equal(n[i].at - t, ms[i]);
  assert_int_equal(loop_now(l) - t, 1000);
}

static void a_timer_restarts_and_stops(void **state) {
  (void)state;
  struct note a, b;
  note_init(&a, 'a');
  note_init(&b, 'b');
  uint64_t t = loop_now(l);
  assert_int_equal(timer_start(&a.timer, 10), 0);
  assert_int_equal(timer_start(&b.timer, 20), 0);
  loop_run_for(l, 5);
  assert_int_equal(timer_start(&a.timer, 100), 0);
  timer_stop(&b.timer);
  timer_stop(&b.timer);
  assert_true(timer_set(&a.timer));
  assert_false(timer_set(&b.timer));
  loop_run_for(l, 1000);
  assert_string_equal(trace, "a");
  assert_int_equal(a.at - t, 105);
  assert_false(timer_set(&a.timer));
}

/* The heap against a sorted list: starts, restarts and stops of many timers by a fixed sequence. */
static void many_timers_keep_their_order(void **state) {
  (void)state;
  enum { N = 300 };
  static struct note n[N];
  uint64_t due[N], base = loop_now(l);
  uint32_t seed = 9;
  for (int i = 0; i < N; i++) {
    note_init(&n[i], 0);
    due[i] = 0;
  }
  for (int step = 0; step < 2000; step++) {
    seed = seed * 1664525u + 1013904223u;
    int i = (int)(seed >> 8) % N;
    if (seed >> 30) {
      due[i] = base + (seed >> 4) % 5000 + 1;
      assert_int_equal(timer_start(&n[i].timer, due[i] - base), 0);
    } else {
      due[i] = 0;
      timer_stop(&n[i].timer);
    }
  }
  loop_run_for(l, 5001);
  for (int i = 0; i < N; i++)
    assert_int_equal(n[i].at, due[i]);
}

static void again(void *arg) {
  struct note *n = arg;
  n->letter++;
  assert_int_equal(timer_start(&n->timer, 0), 0);
}
/* A timer that starts itself again at once does not keep the rest from running. */
static void a_zero_timer_leaves_room_for_others(void **state) {
  (void)state;
  struct note a, b;
  note_init(&a, 0);
  note_init(&b, 'b');
  a.timer.fn = again;
  assert_int_equal(timer_start(&a.timer, 0), 0);
  loop_soon(l, &b.task);
  for (int i = 0; i < 3; i++)
    loop_turn(l, 0);
  assert_string_equal(trace, "b");
  assert_in_range(a.letter, 2, 4);
  timer_stop(&a.timer);
}

static void real_timers_wait(void **state) {
  (void)state;
  struct note a;
  note_init(&a, 'a');
  uint64_t t = loop_now(l);
  assert_int_equal(timer_start(&a.timer, 30), 0);
  while (!trace[0])
    loop_turn(l, 1000);
  assert_true(a.at - t >= 30);
}

static void stop(void *arg) {
  loop_stop(arg);
}
static void run_returns_after_stop(void **state) {
  (void)state;
  struct note a;
  struct loop_task s;
  note_init(&a, 'a');
  task_init(&s, stop, l);
  loop_soon(l, &s);
  loop_soon(l, &a.task);
  assert_int_equal(loop_run(l), 0);
  assert_string_equal(trace, "a");
  loop_soon(l, &s); /* and again */
  assert_int_equal(loop_run(l), 0);
}

/* --- posts --- */

enum { THREADS = 4, EACH = 5000 };
struct poster {
  pthread_t thread;
  unsigned next; /* read and written on the loop's thread */
};
struct message {
  struct poster *from;
  unsigned number;
};
static unsigned arrived, out_of_order;

static void on_message(void *arg) {
  struct message *m = arg;
  if (m->number != m->from->next++)
    out_of_order++;
  free(m);
  if (++arrived == THREADS * EACH)
    loop_stop(l);
}

static void *post_many(void *arg) {
  for (unsigned i = 0; i < EACH;) {
    struct message *m = malloc(sizeof *m);
    if (!m)
      abort();
    *m = (struct message){arg, i};
    if (!loop_post(l, on_message, m))
      i++;
    else
      free(m); /* the queue is full: again */
  }
  return NULL;
}

static void posts_of_one_thread_keep_their_order(void **state) {
  (void)state;
  struct poster p[THREADS] = {0};
  arrived = out_of_order = 0;
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&p[i].thread, NULL, post_many, &p[i]), 0);
  assert_int_equal(loop_run(l), 0);
  for (int i = 0; i < THREADS; i++)
    pthread_join(p[i].thread, NULL);
  assert_int_equal(arrived, THREADS * EACH);
  assert_int_equal(out_of_order, 0);
}

static void *stop_it(void *arg) {
  loop_stop(arg);
  return NULL;
}
static void another_thread_may_stop_it(void **state) {
  (void)state;
  pthread_t t;
  assert_int_equal(pthread_create(&t, NULL, stop_it, l), 0);
  assert_int_equal(loop_run(l), 0);
  pthread_join(t, NULL);
}

static void count(void *arg) {
  ++*(unsigned *)arg;
}
static void the_queue_of_posts_has_an_end(void **state) {
  (void)state;
  unsigned ran = 0;
  for (unsigned i = 0; i < LIMIT_POSTS; i++)
    assert_int_equal(loop_post(l, count, &ran), 0);
  assert_int_equal(loop_post(l, count, &ran), BEAM_ERR_LIMIT);
  loop_run_for(l, 0);
  assert_int_equal(ran, LIMIT_POSTS);
  assert_int_equal(loop_post(l, count, &ran), 0); /* never run: dropped with the loop, without a leak */
}

static void loop_free_runs_what_asked_for_it(void **state) {
  (void)state;
  struct loop *m;
  unsigned ran = 0, not_this = 0;
  struct loop_task a, b;
  assert_int_equal(loop_new(&m), 0);
  task_init(&a, count, &ran);
  task_init(&b, count, &not_this);
  loop_at_free(m, &a);
  loop_at_free(m, &b);
  task_cancel(&b);
  loop_turn(m, 0);
  assert_int_equal(ran, 0);
  loop_free(m);
  assert_int_equal(ran, 1);
  assert_int_equal(not_this, 0);
}

/* --- the clock after a long poll --- */

struct later {
  uint64_t from;
  struct note *note;
};

static void *post_after_20_ms(void *arg) {
  struct later *p = arg;
  struct timespec ts;
  uint64_t now;
  do {
    clock_gettime(CLOCK_MONOTONIC, &ts);
    now = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
  } while (now < p->from + 20);
  loop_post(l, on_note, p->note);
  return NULL;
}

/* A timer that is started by an event counts from the event, not from before the loop went to sleep. */
static void events_see_the_time(void **state) {
  (void)state;
  struct note n;
  struct later arg = {0, &n};
  pthread_t thread;
  note_init(&n, 'e');
  loop_turn(l, 0);
  arg.from = loop_now(l);
  assert_int_equal(pthread_create(&thread, NULL, post_after_20_ms, &arg), 0);
  while (!trace[0])
    loop_turn(l, 10000);
  pthread_join(thread, NULL);
  assert_true(n.at >= arg.from + 20);
}

int main(void) {
#define VIRTUAL(t) cmocka_unit_test_setup_teardown(t, up_virtual, down)
#define REAL(t) cmocka_unit_test_setup_teardown(t, up_real, down)
  const struct CMUnitTest tests[] = {
      VIRTUAL(tasks_run_in_order_and_flushes_last),
      VIRTUAL(a_task_may_be_cancelled),
      VIRTUAL(a_task_may_cancel_the_next),
      VIRTUAL(timers_fire_on_the_millisecond),
      VIRTUAL(a_timer_restarts_and_stops),
      VIRTUAL(many_timers_keep_their_order),
      VIRTUAL(the_queue_of_posts_has_an_end),
      REAL(a_zero_timer_leaves_room_for_others),
      REAL(real_timers_wait),
      REAL(run_returns_after_stop),
      REAL(posts_of_one_thread_keep_their_order),
      REAL(another_thread_may_stop_it),
      REAL(loop_free_runs_what_asked_for_it),
      REAL(events_see_the_time),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
