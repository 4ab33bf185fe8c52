#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/str.h"
#include "relay/route.h"

static struct route_change change(const char *name, enum route_state st, unsigned worker, uint64_t session,
                                  uint64_t gen) {
  struct route_change c = {.state = st, .worker = worker, .session = session, .generation = gen};
  str_copy(c.name, sizeof c.name, name);
  if (st == ROUTE_LIVE)
    c.stats = route_stats_new();
  return c;
}

static void test_later_generation_wins(void **state) {
  (void)state;
  struct route_table t = {0};
  struct route_change a = change("a.test", ROUTE_LIVE, 0, 1, 5), b = change("a.test", ROUTE_LIVE, 1, 2, 4);
  struct route_view v, before = {0};
  bool was = true;
  assert_true(route_apply(&t, &a, 100, &was, &before));
  assert_false(was);
  assert_false(route_apply(&t, &b, 200, &was, &before)); /* older: as if it never came */
  assert_true(was);
  assert_int_equal(before.session, 1);
  assert_true(route_find(&t, "a.test", &v));
  assert_int_equal(v.worker, 0);
  assert_int_equal(v.since_ms, 100);
  route_clear(&t);
}

static void test_away_only_by_its_session(void **state) {
  (void)state;
  struct route_table t = {0};
  struct route_change live = change("a.test", ROUTE_LIVE, 1, 7, 1),
                      foreign = change("a.test", ROUTE_AWAY, 0, 6, 2),
                      own = change("a.test", ROUTE_AWAY, 1, 7, 3),
                      unknown = change("b.test", ROUTE_GONE, 0, 1, 4);
  struct route_view v;
  route_apply(&t, &live, 1, NULL, NULL);
  assert_false(route_apply(&t, &foreign, 2, NULL, NULL));
  assert_true(route_find(&t, "a.test", &v) && v.state == ROUTE_LIVE);
  assert_true(route_apply(&t, &own, 3, NULL, NULL));
  assert_true(route_find(&t, "a.test", &v) && v.state == ROUTE_AWAY);
  assert_non_null(v.stats); /* counters outlive the link */
  assert_false(route_apply(&t, &unknown, 4, NULL, NULL));
  assert_false(route_find(&t, "b.test", &v));
  route_clear(&t);
}

static unsigned forgotten_worker;
static char forgotten[64];
static void on_forgotten(void *user, const char *name, unsigned worker) {
  ++*(int *)user;
  forgotten_worker = worker;
  str_copy(forgotten, sizeof forgotten, name);
}

static void test_sweep(void **state) {
  (void)state;
  struct route_table t = {0};
  struct route_change live = change("live.test", ROUTE_LIVE, 0, 1, 1),
                      b = change("away.test", ROUTE_LIVE, 3, 2, 2),
                      away = change("away.test", ROUTE_AWAY, 3, 2, 3);
  route_apply(&t, &live, 0, NULL, NULL);
  route_apply(&t, &b, 0, NULL, NULL);
  route_apply(&t, &away, 1000, NULL, NULL);
  int n = 0;
  route_sweep(&t, 1999, 1000, 100, on_forgotten, &n);
  assert_int_equal(n, 0);
  route_sweep(&t, 2000, 1000, 100, on_forgotten, &n);
  assert_int_equal(n, 1);
  assert_int_equal(forgotten_worker, 3);
  assert_string_equal(forgotten, "away.test");
  struct route_view v;
  assert_false(route_find(&t, "away.test", &v));
  assert_true(route_find(&t, "live.test", &v));
  route_clear(&t);
}

/* Strangers come and go faster than an hour forgets: the oldest go sooner. */
static void test_sweep_of_many(void **state) {
  (void)state;
  struct route_table t = {0};
  enum { MOST = 50, ALL = 4 * MOST };
  char name[16];
  int n = 0;
  for (unsigned i = 0; i < ALL; i++) { /* one each 10 ms, every fourth stays */
    str_fmt(name, sizeof name, "n%u.test", i);
    struct route_change live = change(name, ROUTE_LIVE, 0, i + 1, 2 * i + 1),
                        gone = change(name, i % 2 ? ROUTE_GONE : ROUTE_AWAY, 0, i + 1, 2 * i + 2);
    route_apply(&t, &live, 10ull * i, NULL, NULL);
    if (i % 4)
      route_apply(&t, &gone, 10ull * i, NULL, NULL);
  }
  route_sweep(&t, 10 * ALL, 10 * ALL, ALL, on_forgotten, &n);
  assert_int_equal(n, 0);
  route_sweep(&t, 10 * ALL, 10 * ALL, MOST, on_forgotten, &n); /* 150 of them: a third of the time */
  struct route_view v;
  unsigned live = 0, idle = 0;
  for (unsigned i = 0; i < ALL; i++) {
    str_fmt(name, sizeof name, "n%u.test", i);
    bool there = route_find(&t, name, &v);
    assert_true(there == (i % 4 == 0 || 10 * (ALL - i) < 10 * ALL / 3));
    live += there && v.state == ROUTE_LIVE;
    idle += there && v.state != ROUTE_LIVE;
  }
  assert_int_equal(live, ALL / 4);
  assert_true(idle <= MOST);
  assert_int_equal(n, ALL / 4 * 3 - (int)idle);
  route_clear(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_later_generation_wins),
                                     cmocka_unit_test(test_away_only_by_its_session),
                                     cmocka_unit_test(test_sweep), cmocka_unit_test(test_sweep_of_many)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
