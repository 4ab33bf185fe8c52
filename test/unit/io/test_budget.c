#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/limits.h"
#include "io/budget.h"

static void test_take_leaves_some(void **state) {
  (void)state;
  struct budget b = {0, 100};
  assert_false(budget_take(&b, 101, 0));
  assert_false(budget_take(&b, 60, 41));
  assert_true(budget_take(&b, 60, 40));
  assert_int_equal(budget_left(&b), 40);
  assert_false(budget_take(&b, SIZE_MAX, 0));
  assert_false(budget_take(&b, 1, SIZE_MAX));
  assert_true(budget_take(&b, 40, 0));
  assert_int_equal(budget_left(&b), 0);
  budget_give(&b, 100);
  assert_int_equal(budget_left(&b), 100);
}

static void test_charge_may_overdraw(void **state) {
  (void)state;
  struct budget b = {0, 100};
  budget_charge(&b, 150);
  assert_int_equal(budget_left(&b), 0);
  assert_false(budget_take(&b, 1, 0));
  budget_give(&b, 100);
  assert_int_equal(budget_left(&b), 50);
  assert_true(budget_take(&b, 50, 0));
}

static void *churn(void *arg) {
  struct budget *b = arg;
  size_t held = 0, most = 0;
  for (int i = 0; i < 200000; i++) {
    if (budget_take(b, 7, 0)) {
      held++;
    } else if (held) {
      budget_give(b, 7);
      held--;
    }
    most = held > most ? held : most;
  }
  budget_give(b, 7 * held);
  return (void *)(uintptr_t)(most <= 1000 / 7);
}

static void test_threads(void **state) {
  (void)state;
  struct budget b = {0, 1000};
  pthread_t t[4];
  for (int i = 0; i < 4; i++)
    assert_int_equal(pthread_create(&t[i], NULL, churn, &b), 0);
  for (int i = 0; i < 4; i++) {
    void *ok;
    assert_int_equal(pthread_join(t[i], &ok), 0);
    assert_non_null(ok);
  }
  assert_int_equal(budget_left(&b), 1000);
}

static void test_pool_is_the_limit(void **state) {
  (void)state;
  assert_int_equal(budget_left(&budget_pool), LIMIT_POOL_BYTES);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_take_leaves_some),
      cmocka_unit_test(test_charge_may_overdraw),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_pool_is_the_limit),
  };
  return cmocka_run_group_tests_name("budget", tests, NULL, NULL);
}
