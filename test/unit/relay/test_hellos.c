#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "relay/hellos.h"

enum { MANY = 100 };

static struct loop *l;
static struct hellos h;
static struct hello waits[MANY];
static unsigned order[MANY], begun_n, leaves;

static void begin(void *user) {
  unsigned i = (unsigned)((struct hello *)user - waits);
  order[begun_n++] = i;
  if (leaves) /* one ends another's connection while it begins */
    hellos_leave(&h, &waits[leaves]);
}

static int up(void **state) {
  (void)state;
  begun_n = leaves = 0;
  memset(waits, 0, sizeof waits);
  if (loop_new(&l))
    return -1;
  hellos_init(&h, l);
  return 0;
}
static int down(void **state) {
  (void)state;
  hellos_close(&h);
  loop_free(l);
  return 0;
}

static void ask(unsigned from, unsigned to) {
  for (unsigned i = from; i < to; i++)
    hellos_ask(&h, &waits[i], begin, &waits[i]);
}

static void few_begin_at_once(void **state) {
  (void)state;
  for (unsigned i = 0; i < MANY; i += HELLOS_A_TURN / 2) {
    ask(i, i + HELLOS_A_TURN / 2);
    assert_int_equal(begun_n, i + HELLOS_A_TURN / 2);
    loop_turn(l, 0);
  }
  for (unsigned i = 0; i < MANY; i++)
    assert_int_equal(order[i], i);
}

static void many_begin_a_few_a_turn_the_newest_first(void **state) {
  (void)state;
  ask(0, 50);
  assert_int_equal(begun_n, HELLOS_A_TURN);
  loop_turn(l, 0);
  assert_int_equal(begun_n, 2 * HELLOS_A_TURN);
  for (unsigned i = 0; i < HELLOS_A_TURN; i++) {
    assert_int_equal(order[i], i);
    assert_int_equal(order[HELLOS_A_TURN + i], 49 - i);
  }
  ask(50, 51); /* comes last, begins next */
  assert_int_equal(begun_n, 2 * HELLOS_A_TURN);
  loop_turn(l, 0);
  assert_int_equal(order[2 * HELLOS_A_TURN], 50);
  for (int i = 0; i < 20; i++)
    loop_turn(l, 0);
  assert_int_equal(begun_n, 51);
  assert_int_equal(order[50], HELLOS_A_TURN); /* the oldest of those that waited */
  ask(51, 52);
  assert_int_equal(begun_n, 52);
}

static void who_leaves_does_not_begin(void **state) {
  (void)state;
  ask(0, 30);
  hellos_leave(&h, &waits[3]); /* had begun */
  hellos_leave(&h, &waits[20]);
  hellos_leave(&h, &waits[20]);
  leaves = 25;
  for (int i = 0; i < 20; i++)
    loop_turn(l, 0);
  assert_int_equal(begun_n, 28);
  for (unsigned i = 0; i < begun_n; i++)
    assert_true(order[i] != 20 && order[i] != 25);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(few_begin_at_once, up, down),
      cmocka_unit_test_setup_teardown(many_begin_a_few_a_turn_the_newest_first, up, down),
      cmocka_unit_test_setup_teardown(who_leaves_does_not_begin, up, down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
