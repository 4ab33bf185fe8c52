/* test_spread.c: when a name gets another link, and when it loses one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/spread.h"

/* Looks every 100 ms until the advice is not 0; the ms it took, or -1 after `most`. */
static long until(struct spread *s, struct spread_facts f, uint64_t from, uint64_t most, int *advice) {
  for (uint64_t ms = 0; ms <= most; ms += SPREAD_LOOK_MS)
    if ((*advice = spread_advice(s, &f, from + ms)))
      return (long)ms;
  return -1;
}

static void test_cases(void **state) {
  (void)state;
  static const struct {
    struct spread_facts f;
    long ms;
    int advice;
  } cases[] = {
      {{.links = 1, .most = 2, .busy = 0, .streams = 32}, -1, 0},
      {{.links = 1, .most = 2, .busy = 0, .streams = 33}, 0, 1}, /* a crowd at once */
      {{.links = 1, .most = 2, .busy = 1, .streams = 1}, 300, 1},
      {{.links = 1, .most = 1, .busy = 1, .streams = 99}, -1, 0},
      {{.links = 2, .most = 2, .busy = 2, .streams = 99}, -1, 0},
      {{.links = 2, .most = 8, .busy = 1, .streams = 64}, -1, 0}, /* one has room */
      {{.links = 2, .most = 8, .busy = 2, .streams = 2}, 300, 1},
      {{.links = 2, .most = 8, .busy = 0, .streams = 17},
       -1,
       0}, /* too many for the one that would be left */
      {{.links = 2, .most = 8, .busy = 0, .streams = 16}, 60000, -1},
      {{.links = 3, .most = 8, .busy = 0, .streams = 0}, 60000, -1},
      {{.links = 1, .most = 8, .busy = 0, .streams = 0}, -1, 0},
      {{.links = 0, .most = 8, .busy = 0, .streams = 0}, -1, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct spread s = {0};
    int advice;
    assert_int_equal(until(&s, cases[i].f, 1000, 120000, &advice), cases[i].ms);
    assert_int_equal(advice, cases[i].advice);
  }
}

static void test_a_pause_begins_anew(void **state) {
  (void)state;
  struct spread s = {0};
  struct spread_facts busy = {.links = 1, .most = 2, .busy = 1, .streams = 1}, calm = {.links = 1, .most = 2};
  assert_int_equal(spread_advice(&s, &busy, 1000), 0);
  assert_int_equal(spread_advice(&s, &busy, 1200), 0);
  assert_int_equal(spread_advice(&s, &calm, 1300), 0);
  assert_int_equal(spread_advice(&s, &busy, 1400), 0);
  assert_int_equal(spread_advice(&s, &busy, 1600), 0);
  assert_int_equal(spread_advice(&s, &busy, 1700), 1);
  struct spread_facts two = {.links = 2, .most = 2}, used = {.links = 2, .most = 2, .busy = 1, .streams = 1};
  assert_int_equal(spread_advice(&s, &two, 2000), 0);
  assert_int_equal(spread_advice(&s, &used, 61900), 0);
  assert_int_equal(spread_advice(&s, &two, 62000), 0);
  assert_int_equal(spread_advice(&s, &two, 121900), 0);
  assert_int_equal(spread_advice(&s, &two, 122000), -1);
}

static void test_most(void **state) {
  (void)state;
  assert_int_equal(spread_most(0, true), 2);
  assert_int_equal(spread_most(0, false), 1);
  assert_int_equal(spread_most(1, true), 1);
  assert_int_equal(spread_most(5, false), 5);
}

static void test_what_is_busy(void **state) {
  (void)state;
  assert_false(spread_busy(64 * 1024 - 1, 1024 * 1024 - 1));
  assert_true(spread_busy(64 * 1024, 0));
  assert_true(spread_busy(0, 1024 * 1024));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_a_pause_begins_anew),
                                     cmocka_unit_test(test_most), cmocka_unit_test(test_what_is_busy)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
