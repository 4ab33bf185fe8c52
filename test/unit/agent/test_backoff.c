#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/backoff.h"
#include "base/random.h"

/* Drives the policy on a pretended clock and keeps the longest delay of each period. */
static void test_caps(void **state) {
  (void)state;
  random_seed(42);
  uint64_t longest_soon = 0, longest_late = 0;
  for (int run = 0; run < 200; run++) {
    struct backoff b = {0};
    uint64_t start = 5000000, now = start;
    while (now - start < 600000) {
      uint64_t d = backoff_next(&b, now), *longest = now - start < 60000 ? &longest_soon : &longest_late;
      assert_true(d >= 1);
      if (d > *longest)
        *longest = d;
      now += d;
    }
  }
  random_seed(0);
  assert_in_range(longest_soon, 1900, 2000);
  assert_in_range(longest_late, 25000, 30000);
}

static void test_first_is_quick_and_reset_forgets(void **state) {
  (void)state;
  struct backoff b = {0};
  for (int i = 0; i < 100; i++) {
    backoff_reset(&b);
    assert_in_range(backoff_next(&b, 1000), 1, 250);
  }
  for (int i = 0; i < 30; i++)
    backoff_next(&b, 1000 + 100000u * (unsigned)i);
  backoff_reset(&b);
  assert_in_range(backoff_next(&b, 99000000), 1, 250);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_caps),
                                     cmocka_unit_test(test_first_is_quick_and_reset_forgets)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
