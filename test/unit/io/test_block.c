/* Blocks and moves: no bytes lost, no block pinned by a few bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "io/block.h"

/* Is the block's own memory part of b? */
static int holds(struct evbuffer *b, const void *block) {
  struct evbuffer_iovec v[8];
  int n = evbuffer_peek(b, -1, NULL, v, 8);
  for (int i = 0; i < n && i < 8; i++)
    if (v[i].iov_base == block)
      return 1;
  return 0;
}

static void only_well_filled_blocks_are_kept(void **state) {
  (void)state;
  static const struct {
    size_t n;
    int kept;
  } t[] = {{1, 0}, {4096, 0}, {BLOCK_BYTES / 2 - 1, 0}, {BLOCK_BYTES / 2, 1}, {BLOCK_BYTES, 1}};
  for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
    struct evbuffer *b = evbuffer_new();
    char *block = block_get(), *back = malloc(t[i].n);
    memset(block, 'a' + (int)i, BLOCK_BYTES);
    assert_int_equal(block_append(b, block, t[i].n), 0);
    assert_int_equal(evbuffer_get_length(b), t[i].n);
    assert_int_equal(holds(b, block), t[i].kept);
    assert_int_equal(evbuffer_remove(b, back, t[i].n), (int)t[i].n);
    for (size_t k = 0; k < t[i].n; k++)
      assert_int_equal(back[k], 'a' + (int)i);
    free(back);
    evbuffer_free(b);
    assert_ptr_equal(block_get(), block); /* it went back to the list, and the list is last in, first out */
    block_put(block);
  }
  block_put(NULL);
}

static void moves_keep_bytes_and_gather_small_ones(void **state) {
  (void)state;
  struct evbuffer *from = evbuffer_new(), *to = evbuffer_new();
  struct evbuffer_iovec v[64];
  for (int i = 0; i < 5000; i++) {
    struct evbuffer *one = evbuffer_new(); /* a chain of its own, as a write of one byte makes */
    evbuffer_add(one, &"abcdefg"[i % 7], 1);
    assert_int_equal(buffer_move(to, one, 1), 1);
    assert_int_equal(evbuffer_get_length(one), 0);
    evbuffer_free(one);
  }
  assert_in_range(evbuffer_peek(to, 5000, NULL, v, 64), 1, 10);
  size_t steps[] = {1, 4095, 900, 4};
  for (size_t i = 0; i < 4; i++)
    assert_int_equal(buffer_move(from, to, steps[i]), steps[i]);
  const char *all = (const char *)evbuffer_pullup(from, -1);
  for (int i = 0; i < 5000; i++)
    assert_int_equal(all[i], "abcdefg"[i % 7]);
  evbuffer_free(from);
  evbuffer_free(to);
}

static void large_moves_do_not_copy(void **state) {
  (void)state;
  struct evbuffer *from = evbuffer_new(), *to = evbuffer_new();
  void *block = block_get();
  memset(block, 7, BLOCK_BYTES);
  assert_int_equal(block_append(from, block, BLOCK_BYTES), 0);
  assert_int_equal(buffer_move(to, from, BLOCK_BYTES), BLOCK_BYTES);
  assert_true(holds(to, block));
  evbuffer_free(from);
  evbuffer_free(to);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_well_filled_blocks_are_kept),
      cmocka_unit_test(moves_keep_bytes_and_gather_small_ones),
      cmocka_unit_test(large_moves_do_not_copy),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
