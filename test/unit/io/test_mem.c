/* What is particular to the pair in memory; the contract is in test_stream.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/limits.h"
#include "io/mem.h"

static void holds_no_more_than_its_limit(void **state) {
  (void)state;
  struct loop *l;
  struct stream *a, *b;
  static char block[LIMIT_MEM_PIPE + 1000];
  assert_int_equal(loop_new_virtual(&l), 0);
  assert_int_equal(mem_pair(l, &a, &b), 0);
  assert_int_equal(stream_write(a, block, sizeof block), LIMIT_MEM_PIPE);
  assert_int_equal(stream_room(a), 0);
  stream_consume(b, 10);
  assert_int_equal(stream_room(a), 10);
  assert_int_equal(stream_room(b), LIMIT_MEM_PIPE); /* its own direction is empty */
  stream_close(a, 0);
  stream_close(b, 0);
  loop_free(l);
}

/* A far side that closed in order takes everything and wants none of it, as a socket's would for a while. */
static void writes_after_the_far_side_left_go_nowhere(void **state) {
  (void)state;
  struct loop *l;
  struct stream *a, *b;
  static char block[LIMIT_MEM_PIPE];
  assert_int_equal(loop_new_virtual(&l), 0);
  assert_int_equal(mem_pair(l, &a, &b), 0);
  stream_close(b, 0);
  assert_true(a->in_ended);
  for (int i = 0; i < 4; i++)
    assert_int_equal(stream_write(a, block, sizeof block), sizeof block);
  assert_false(stream_dead(a));
  stream_close(a, BEAM_ERR_CLOSED);
  loop_free(l);
}

/* Many small writes weigh little more than their bytes. */
static void small_writes_do_not_weigh_a_block_each(void **state) {
  (void)state;
  struct loop *l;
  struct stream *a, *b;
  struct evbuffer_iovec v[64];
  assert_int_equal(loop_new_virtual(&l), 0);
  assert_int_equal(mem_pair(l, &a, &b), 0);
  for (int i = 0; i < 20000; i++)
    assert_int_equal(stream_write(a, "x", 1), 1);
  assert_in_range(evbuffer_peek(stream_input(b), 20000, NULL, v, 64), 1, 40);
  stream_close(a, 0);
  stream_close(b, 0);
  loop_free(l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(holds_no_more_than_its_limit),
      cmocka_unit_test(writes_after_the_far_side_left_go_nowhere),
      cmocka_unit_test(small_writes_do_not_weigh_a_block_each),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
