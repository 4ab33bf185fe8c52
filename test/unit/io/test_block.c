/* Blocks and moves: no bytes lost, no block pinned by a few bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>
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
  } t[] = {{1, 0}, {4096, 0}, {BLOCK_BYTES / 4 * 3 - 1, 0}, {BLOCK_BYTES / 4 * 3, 1}, {BLOCK_BYTES, 1}};
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

static size_t in_use(void) {
  return mallinfo2().uordblks;
}

/* What libevent's own calls take behind a block: as much again as the block, and rounded up. */
static void few_bytes_behind_a_block_weigh_little(void **state) {
  (void)state;
  char nine[9] = {0};
  for (int how = 0; how < 4; how++) {
    struct evbuffer *b = evbuffer_new(), *from = evbuffer_new();
    char *block = block_get(), *sparse = block_get();
    assert_int_equal(block_append(b, block, BLOCK_BYTES), 0);
    assert_int_equal(block_append(from, block_get(), BLOCK_BYTES), 0);
    size_t before = in_use();
    if (how == 0)
      assert_int_equal(buffer_put(b, nine, sizeof nine), 0);
    else if (how == 1)
      assert_int_equal(block_append(b, sparse, sizeof nine), 0);
    else
      assert_int_equal(buffer_move(b, from, how == 2 ? 900 : 9000), how == 2 ? 900 : 9000);
    assert_true(in_use() - before < (how == 3 ? 20000 : 4096));
    if (how != 1)
      block_put(sparse);
    evbuffer_free(b);
    evbuffer_free(from);
  }
}

/* TLS records are a power of two and some, datagrams' worth of bytes are anything: a buffer of many weighs hardly more than what is in it. */
static void sparse_blocks_fill_what_is_left(void **state) {
  (void)state;
  static const size_t sizes[] = {16384 + 22, 32768 + 44, 1400, 20000, 12345, 40000, 1, 4096};
  for (size_t i = 0; i <= sizeof sizes / sizeof *sizes; i++) { /* each alone, then all in turns */
    struct evbuffer *b = evbuffer_new();
    size_t before = in_use(), all = 0;
    unsigned char next = 0, *back;
    for (unsigned k = 0; k < 40; k++) {
      size_t n = sizes[i < sizeof sizes / sizeof *sizes ? i : k % 8];
      unsigned char *block = block_get();
      for (size_t j = 0; j < n; j++)
        block[j] = next++;
      assert_int_equal(block_append(b, block, n), 0);
      all += n;
    }
    assert_int_equal(evbuffer_get_length(b), all);
    size_t weight = in_use() - before;
    if (weight > all / 8 * 9 + 32768) /* the last chain is up to half empty */
      fail_msg("%zu bytes weigh %zu (sizes %zu)", all, weight, i);
    back = evbuffer_pullup(b, -1);
    next = 0;
    for (size_t j = 0; j < all; j++)
      if (back[j] != next++)
        fail_msg("byte %zu is wrong", j);
    evbuffer_free(b);
  }
}

/* The way of a sealed record to its socket: into an empty buffer, and whole to the next. */
static void sparse_blocks_move_on_as_light(void **state) {
  (void)state;
  struct evbuffer *b = evbuffer_new(), *to = evbuffer_new();
  enum { RECORD = 16384 + 22, COUNT = 40 };
  size_t before = in_use();
  for (unsigned k = 0; k < COUNT; k++) {
    char *block = block_get();
    memset(block, (int)k, RECORD);
    assert_int_equal(block_append(b, block, RECORD), 0);
    assert_int_equal(buffer_move(to, b, RECORD), RECORD);
  }
  assert_true(in_use() - before < COUNT * RECORD / 8 * 9);
  evbuffer_free(b);
  evbuffer_free(to);
}

/* Whole chains move, the part of the next one is copied, and what stays behind is right. */
static void a_move_may_end_inside_any_chain(void **state) {
  (void)state;
  enum { CHAIN = 10000, COUNT = 70 };
  unsigned char *want = malloc(CHAIN * COUNT), *got = malloc(CHAIN * COUNT);
  static const size_t ends[] = {1,     4096,  4097,   9999,   10000,  10001, 14096,
                                20000, 25000, 635000, 645000, 699999, 700000};
  for (size_t i = 0; i < CHAIN * COUNT; i++)
    want[i] = (unsigned char)(i * 7 + i / 251);
  for (size_t k = 0; k < sizeof ends / sizeof *ends; k++) {
    struct evbuffer *from = evbuffer_new(), *to = evbuffer_new();
    for (size_t i = 0; i < COUNT; i++)
      assert_int_equal(evbuffer_add_reference(from, want + i * CHAIN, CHAIN, NULL, NULL), 0);
    assert_int_equal(buffer_move(to, from, ends[k]), ends[k]);
    assert_int_equal(evbuffer_get_length(to), ends[k]);
    assert_int_equal(evbuffer_get_length(from), CHAIN * COUNT - ends[k]);
    assert_int_equal(evbuffer_remove(to, got, ends[k]), (int)ends[k]);
    evbuffer_remove(from, got + ends[k], CHAIN * COUNT - ends[k]);
    assert_memory_equal(got, want, CHAIN * COUNT);
    evbuffer_free(from);
    evbuffer_free(to);
  }
  free(want);
  free(got);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_well_filled_blocks_are_kept),
      cmocka_unit_test(sparse_blocks_fill_what_is_left),
      cmocka_unit_test(sparse_blocks_move_on_as_light),
      cmocka_unit_test(moves_keep_bytes_and_gather_small_ones),
      cmocka_unit_test(large_moves_do_not_copy),
      cmocka_unit_test(few_bytes_behind_a_block_weigh_little),
      cmocka_unit_test(a_move_may_end_inside_any_chain),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
