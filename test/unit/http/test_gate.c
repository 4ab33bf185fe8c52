/* Bursts towards the local service: who goes at once, who waits, for whom and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/limits.h"
#include "http/gate.h"

enum { MOST = LIMIT_UPSTREAM_BURST, COUNT = 3 * MOST };

static struct loop *loop;
static struct gate gate;
static unsigned told; /* how many were let in later, in order of their coming */
static struct guest {
  struct gate_pass pass;
  struct loop_task step;
} guests[COUNT];

static void on_step(void *arg) {
  struct guest *g = arg;
  assert_int_equal(g->pass.place, GATE_INSIDE);
  assert_ptr_equal(g, &guests[MOST + told]);
  told++;
}

static int set_up(void **state) {
  (void)state;
  told = 0;
  if (loop_new_virtual(&loop))
    return -1;
  gate_init(&gate, loop);
  for (unsigned i = 0; i < COUNT; i++) {
    guests[i] = (struct guest){0};
    task_init(&guests[i].step, on_step, &guests[i]);
    assert_int_equal(gate_enter(&gate, &guests[i].pass, &guests[i].step), i < MOST);
  }
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  for (unsigned i = 0; i < COUNT; i++) {
    task_cancel(&guests[i].step);
    gate_leave(&gate, &guests[i].pass);
    assert_int_equal(guests[i].pass.place, GATE_OUT);
  }
  assert_null(gate.inside);
  assert_null(gate.waiting);
  assert_int_equal(gate.inside_n, 0);
  assert_false(timer_set(&gate.timer));
  gate_fini(&gate);
  loop_free(loop);
  return 0;
}

static void one_goes_for_one_that_is_done(void **state) {
  (void)state;
  loop_run_for(loop, 0);
  assert_int_equal(told, 0);
  for (unsigned i = 0; i < MOST; i++) { /* in whatever order they are done */
    gate_leave(&gate, &guests[MOST - 1 - i].pass);
    gate_leave(&gate, &guests[MOST - 1 - i].pass); /* once is enough */
    loop_run_for(loop, 0);
    assert_int_equal(told, i + 1);
    assert_int_equal(gate.inside_n, MOST);
  }
}

static void a_slow_service_is_not_waited_for(void **state) {
  (void)state;
  loop_run_for(loop, LIMIT_UPSTREAM_BURST_MS - 1);
  assert_int_equal(told, 0);
  loop_run_for(loop, 1);
  assert_int_equal(told, MOST);
  loop_run_for(loop, LIMIT_UPSTREAM_BURST_MS - 1);
  assert_int_equal(told, MOST);
  loop_run_for(loop, 1);
  assert_int_equal(told, COUNT - MOST);
  assert_false(timer_set(&gate.timer));
}

static void who_gives_up_waiting_is_passed_over(void **state) {
  (void)state;
  for (unsigned i = MOST; i < COUNT; i++)
    gate_leave(&gate, &guests[i].pass);
  assert_false(timer_set(&gate.timer));
  loop_run_for(loop, 2 * LIMIT_UPSTREAM_BURST_MS);
  assert_int_equal(told, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(one_goes_for_one_that_is_done, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_slow_service_is_not_waited_for, set_up, tear_down),
      cmocka_unit_test_setup_teardown(who_gives_up_waiting_is_passed_over, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
