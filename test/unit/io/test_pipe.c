/* Two streams joined: a pair in memory on each side of the pipe, the test at both far ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "io/mem.h"
#include "io/pipe.h"

struct fixture {
  struct loop *l;
  struct stream *left, *right; /* the far ends */
  struct pipe *p;
  int done;
  struct pipe_result result;
};

static void on_done(void *user, const struct pipe_result *r) {
  struct fixture *f = user;
  f->done++;
  f->result = *r;
}

static int up(void **state) {
  struct fixture *f = calloc(1, sizeof *f);
  struct stream *a, *b;
  *state = f;
  return !f || loop_new_virtual(&f->l) || mem_pair(f->l, &f->left, &a) || mem_pair(f->l, &f->right, &b) ||
         pipe_start(a, b, on_done, f, &f->p);
}

static int down(void **state) {
  struct fixture *f = *state;
  stream_close(f->left, BEAM_ERR_CLOSED);
  stream_close(f->right, BEAM_ERR_CLOSED);
  loop_run_for(f->l, 0);
  loop_free(f->l);
  free(f);
  return 0;
}

static void moves_both_ways_and_counts(void **state) {
  struct fixture *f = *state;
  stream_write(f->left, "request", 7);
  stream_finish(f->left);
  loop_run_for(f->l, 0);
  assert_int_equal(stream_waiting(f->right), 7);
  assert_true(f->right->in_ended); /* the half-close crosses */
  stream_consume(f->right, 7);
  assert_int_equal(f->done, 0);
  stream_write(f->right, "the reply", 9);
  loop_run_for(f->l, 0);
  assert_int_equal(stream_waiting(f->left), 9);
  assert_false(f->left->in_ended);
  stream_finish(f->right);
  loop_run_for(f->l, 0);
  assert_true(f->left->in_ended);
  assert_int_equal(f->done, 1);
  assert_int_equal(f->result.reason, 0);
  assert_int_equal(f->result.a_to_b, 7);
  assert_int_equal(f->result.b_to_a, 9);
}

static void holds_back_the_sender(void **state) {
  struct fixture *f = *state;
  static char block[64 * 1024];
  size_t sent = 0, got = 0, total = 4u << 20;
  for (int i = 0; i < 100; i++) {
    sent += stream_write(f->left, block, sizeof block);
    loop_run_for(f->l, 0);
  }
  assert_int_equal(sent, 2 * LIMIT_MEM_PIPE); /* both pairs are full, the pipe itself holds nothing */
  while (got < total) {
    size_t n = stream_waiting(f->right);
    got += n;
    stream_consume(f->right, n);
    loop_run_for(f->l, 0);
    if (sent < total)
      sent += stream_write(f->left, block, total - sent < sizeof block ? total - sent : sizeof block);
    loop_run_for(f->l, 0);
    assert_true(n || sent < total || stream_waiting(f->right));
  }
  assert_int_equal(got, total);
}

static void an_end_waits_for_bytes_that_do_not_fit(void **state) {
  struct fixture *f = *state;
  static char block[2 * LIMIT_MEM_PIPE];
  assert_int_equal(stream_write(f->left, block, LIMIT_MEM_PIPE), LIMIT_MEM_PIPE);
  loop_run_for(f->l, 0);
  assert_int_equal(stream_write(f->left, block, 1000), 1000);
  stream_finish(f->left);
  stream_finish(f->right);
  loop_run_for(f->l, 0);
  assert_int_equal(f->done, 0); /* both ended, but 1000 bytes are still here */
  stream_consume(f->right, LIMIT_MEM_PIPE);
  loop_run_for(f->l, 0);
  assert_int_equal(stream_waiting(f->right), 1000);
  assert_int_equal(f->done, 1);
  assert_int_equal(f->result.a_to_b, LIMIT_MEM_PIPE + 1000);
}

static void an_abort_crosses(void **state) {
  struct fixture *f = *state;
  stream_write(f->left, "part", 4);
  loop_run_for(f->l, 0);
  stream_close(f->right, BEAM_ERR_PROTOCOL);
  f->right = NULL;
  loop_run_for(f->l, 0);
  assert_true(stream_dead(f->left));
  assert_int_equal(f->done, 1);
  assert_int_equal(f->result.reason, BEAM_ERR_RESET);
  assert_int_equal(f->result.a_to_b, 4);
}

static void an_aborted_pipe_says_nothing(void **state) {
  struct fixture *f = *state;
  pipe_abort(f->p, BEAM_ERR_TIMEOUT);
  loop_run_for(f->l, 0);
  assert_int_equal(f->done, 0);
  assert_true(stream_dead(f->left));
  assert_true(stream_dead(f->right));
}

static void request_abort(void *arg) {
  struct fixture *f = arg;
  pipe_abort(f->p, BEAM_ERR_TIMEOUT);
}
/* Aborted between the end and the word of it. */
static void an_abort_may_meet_the_end(void **state) {
  struct fixture *f = *state;
  struct loop_task t;
  task_init(&t, request_abort, f);
  stream_finish(f->left);
  loop_run_for(f->l, 0);
  stream_finish(f->right); /* its end is told by the next task, ours comes after that, and done after ours */
  loop_soon(f->l, &t);
  loop_run_for(f->l, 0);
  assert_int_equal(f->done, 0);
}

static void takes_what_waits_and_what_is_dead(void **state) {
  struct fixture *f = *state;
  struct stream *a, *b, *fa, *fb;
  assert_int_equal(mem_pair(f->l, &fa, &a), 0);
  assert_int_equal(mem_pair(f->l, &fb, &b), 0);
  stream_write(fa, "early", 5);
  loop_run_for(f->l, 0);
  stream_close(fa, BEAM_ERR_RESET);
  assert_int_equal(pipe_start(a, b, on_done, f, NULL), 0);
  loop_run_for(f->l, 0);
  assert_int_equal(f->done, 1);
  assert_int_equal(f->result.reason, BEAM_ERR_RESET);
  assert_int_equal(f->result.a_to_b, 5); /* what came before the abort was passed on */
  assert_true(stream_dead(fb));
  stream_close(fb, 0);
}

int main(void) {
#define T(t) cmocka_unit_test_setup_teardown(t, up, down)
  const struct CMUnitTest tests[] = {
      T(moves_both_ways_and_counts),
      T(holds_back_the_sender),
      T(an_end_waits_for_bytes_that_do_not_fit),
      T(an_abort_crosses),
      T(an_aborted_pipe_says_nothing),
      T(an_abort_may_meet_the_end),
      T(takes_what_waits_and_what_is_dead),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
