/* Random numbers: in range, all values reached, and a stream that repeats when it is seeded. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "base/random.h"

static void stays_in_range(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < 2; seed++) { /* secure, then seeded */
    random_seed(seed);
    assert_int_equal(random_below(0), 0);
    assert_int_equal(random_below(1), 0);
    for (uint32_t n = 2; n < 40; n++) {
      uint64_t seen = 0;
      for (int i = 0; i < 4000; i++) {
        uint32_t v = random_below(n);
        assert_true(v < n);
        seen |= UINT64_C(1) << v;
      }
      assert_true(seen == (UINT64_C(1) << n) - 1); /* misses one of 40 values with probability 40 * e^-100 */
    }
  }
  random_seed(0);
}

static void repeats_when_seeded(void **state) {
  (void)state;
  unsigned char a[37], b[37], c[37];
  random_seed(42);
  random_bytes(a, sizeof a);
  uint32_t na = random_below(1000000);
  random_seed(42);
  random_bytes(b, sizeof b);
  assert_memory_equal(a, b, sizeof a);
  assert_int_equal(random_below(1000000), na);
  random_seed(43);
  random_bytes(c, sizeof c);
  assert_memory_not_equal(a, c, sizeof a);
  random_seed(0);
  random_bytes(b, sizeof b);
  random_bytes(c, sizeof c);
  assert_memory_not_equal(b, c, sizeof b);
  assert_memory_not_equal(a, b, sizeof a);
}

static void fills_exactly(void **state) {
  (void)state;
  unsigned char p[40];
  for (uint64_t seed = 0; seed < 2; seed++)
    for (size_t n = 0; n <= 32; n++) {
      random_seed(seed);
      memset(p, 0xa5, sizeof p);
      random_bytes(p + 4, n);
      for (size_t i = 0; i < 4; i++)
        assert_true(p[i] == 0xa5 && p[4 + n + i] == 0xa5);
      if (n >= 16) /* nothing was left as it was */
        assert_memory_not_equal(p + 4 + n - 8, "\xa5\xa5\xa5\xa5\xa5\xa5\xa5\xa5", 8);
    }
  random_seed(0);
}

/* More than are drawn at once: no two alike, in any place of them; seeded they repeat. */
static void ids_differ(void **state) {
  (void)state;
  enum { COUNT = 200 };
  uint8_t ids[COUNT][RANDOM_ID], again[RANDOM_ID];
  for (int i = 0; i < COUNT; i++) {
    random_id(ids[i]);
    for (int k = 0; k < i; k++)
      for (int half = 0; half < RANDOM_ID; half += 8)
        assert_memory_not_equal(ids[i] + half, ids[k] + half, 8);
  }
  random_seed(42);
  random_id(ids[0]);
  random_seed(42);
  random_id(again);
  random_seed(0);
  assert_memory_equal(ids[0], again, RANDOM_ID);
}

static void *draw(void *arg) {
  random_bytes(arg, 16);
  return NULL;
}

static void seeds_only_its_own_thread(void **state) {
  (void)state;
  unsigned char here[16], there[16];
  pthread_t t;
  random_seed(42);
  assert_int_equal(pthread_create(&t, NULL, draw, there), 0);
  assert_int_equal(pthread_join(t, NULL), 0);
  random_bytes(here, sizeof here);
  random_seed(0);
  assert_memory_not_equal(here, there, sizeof here);
}

static int init(void **state) {
  (void)state;
  return base_init() || base_init(); /* twice is as good as once */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(stays_in_range),
      cmocka_unit_test(repeats_when_seeded),
      cmocka_unit_test(fills_exactly),
      cmocka_unit_test(ids_differ),
      cmocka_unit_test(seeds_only_its_own_thread),
  };
  return cmocka_run_group_tests(tests, init, NULL);
}
