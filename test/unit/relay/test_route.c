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
  struct route_view v;
  struct route_effect did;
  assert_true(route_apply(&t, &a, 100, &did));
  assert_false(did.was);
  assert_false(route_apply(&t, &b, 200, &did)); /* older: as if it never came */
  assert_true(did.was);
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
  route_apply(&t, &live, 1, NULL);
  assert_false(route_apply(&t, &foreign, 2, NULL));
  assert_true(route_find(&t, "a.test", &v) && v.state == ROUTE_LIVE);
  assert_true(route_apply(&t, &own, 3, NULL));
  assert_true(route_find(&t, "a.test", &v) && v.state == ROUTE_AWAY);
  assert_non_null(v.stats); /* counters outlive the link */
  assert_false(route_apply(&t, &unknown, 4, NULL));
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
  route_apply(&t, &live, 0, NULL);
  route_apply(&t, &b, 0, NULL);
  route_apply(&t, &away, 1000, NULL);
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
    route_apply(&t, &live, 10ull * i, NULL);
    if (i % 4)
      route_apply(&t, &gone, 10ull * i, NULL);
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

/* --- several links --- */

static struct route_change member(unsigned lane, unsigned worker, uint64_t session, uint64_t gen,
                                  char group) {
  struct route_change c = change("a.test", ROUTE_LIVE, worker, session, gen);
  str_copy(c.owner, sizeof c.owner, "me");
  c.grouped = true;
  memset(c.group, group, sizeof c.group);
  c.lane = lane;
  c.load = route_load_new();
  return c;
}

static struct route_view apply(struct route_table *t, struct route_change c, struct route_effect *did) {
  struct route_view v = {0};
  route_apply(t, &c, c.generation, did);
  route_find(t, "a.test", &v);
  return v;
}

static void test_links_share_a_name(void **state) {
  (void)state;
  struct route_table t = {0};
  struct route_effect did;
  struct route_view v = apply(&t, member(0, 0, 10, 1, 'g'), &did);
  assert_false(did.joined);
  v = apply(&t, member(1, 1, 11, 2, 'g'), &did);
  assert_true(did.joined && !did.lost_n);
  assert_int_equal(v.members_n, 2);
  assert_int_equal(v.since_ms, 1); /* it was live before */
  assert_true(route_has_worker(&v, 0) && route_has_worker(&v, 1) && !route_has_worker(&v, 2));

  v = apply(&t, member(0, 1, 12, 3, 'g'), &did); /* the same number: in its place */
  assert_true(did.joined);
  assert_int_equal(v.members_n, 2);
  assert_int_equal(did.lost_n, 1);
  assert_int_equal(did.lost[0].session, 10);
  assert_int_equal(did.lost[0].how, ROUTE_REPLACED);
  v = apply(&t, change("a.test", ROUTE_AWAY, 0, 10, 4), &did); /* what was replaced ends: nobody minds */
  assert_int_equal(v.members_n, 2);

  v = apply(&t, change("a.test", ROUTE_AWAY, 1, 12, 5), &did);
  assert_int_equal(v.state, ROUTE_LIVE);
  assert_int_equal(v.members_n, 1);
  v = apply(&t, change("a.test", ROUTE_AWAY, 1, 11, 6), &did);
  assert_true(did.was_live);
  assert_int_equal(v.state, ROUTE_AWAY);
  assert_int_equal(v.members_n, 0);
  v = apply(&t, member(1, 1, 13, 7, 'g'), &did); /* nothing to join any more */
  assert_false(did.joined);
  route_clear(&t);
}

static void test_other_groups_supersede(void **state) {
  (void)state;
  struct route_table t = {0};
  struct route_effect did;
  apply(&t, member(0, 0, 10, 1, 'g'), &did);
  apply(&t, member(1, 1, 11, 2, 'g'), &did);
  struct route_change foreign = member(2, 0, 12, 3, 'g');
  str_copy(foreign.owner, sizeof foreign.owner,
           "you"); /* the domain says who may; here it only joins nobody */
  struct route_view v = apply(&t, foreign, &did);
  assert_false(did.joined);
  assert_int_equal(did.lost_n, 2);
  assert_int_equal(did.lost[0].how, ROUTE_SUPERSEDED);
  assert_int_equal(v.members_n, 1);
  v = apply(&t, member(0, 0, 14, 4, 'h'), &did);
  assert_false(did.joined);
  assert_int_equal(did.lost_n, 1);
  v = apply(&t, member(1, 0, 15, 5, 'h'), &did);
  struct route_change alone = change("a.test", ROUTE_LIVE, 1, 16, 6); /* an agent that knows no groups */
  str_copy(alone.owner, sizeof alone.owner, "me");
  v = apply(&t, alone, &did);
  assert_int_equal(did.lost_n, 2);
  assert_int_equal(v.members_n, 1);
  v = apply(&t, member(1, 0, 17, 7, 'h'), &did);
  assert_false(did.joined);
  assert_int_equal(did.lost[0].session, 16);
  route_clear(&t);
}

static void test_unbind_ends_all(void **state) {
  (void)state;
  struct route_table t = {0};
  struct route_effect did;
  for (unsigned i = 0; i < LIMIT_LINKS_PER_NAME; i++)
    apply(&t, member(i, i % 2, 10 + i, 1 + i, 'g'), &did);
  struct route_view v = apply(&t, change("a.test", ROUTE_GONE, 0, 12, 20), &did);
  assert_int_equal(v.state, ROUTE_GONE);
  assert_int_equal(v.members_n, 0);
  assert_int_equal(did.lost_n, LIMIT_LINKS_PER_NAME - 1);
  for (unsigned i = 0; i < did.lost_n; i++) {
    assert_int_equal(did.lost[i].how, ROUTE_ENDED);
    assert_int_not_equal(did.lost[i].session, 12);
  }
  route_clear(&t);
}

static void test_the_least_busy_is_chosen(void **state) {
  (void)state;
  struct route_table t = {0};
  struct route_effect did;
  struct route_load *load[3];
  for (unsigned i = 0; i < 3; i++) {
    struct route_change c = member(i, i % 2, 10 + i, 1 + i, 'g');
    load[i] = route_load_ref(c.load);
    apply(&t, c, &did);
  }
  unsigned seen = 0;
  for (int i = 0; i < 3; i++)
    seen |= 1u << route_choose(&t, "a.test", 0, false, 0);
  assert_int_equal(seen, 1u << 0 | 1u << 2); /* those of worker 0, in turn */
  assert_int_equal(route_choose(&t, "a.test", 1, false, 0), 1);
  atomic_store(&load[1]->streams, 1);
  assert_int_not_equal(route_choose(&t, "a.test", 1, false, 0), 1); /* a hop is better than company */
  atomic_store(&load[0]->streams, 2);
  atomic_store(&load[2]->streams, 3);
  atomic_store(&load[1]->bytes, 1000000);
  assert_int_equal(route_choose(&t, "a.test", 1, false, 0), 0); /* bytes weigh more than streams */
  atomic_store(&load[0]->bytes, 5000);                          /* and few bytes nothing */
  assert_int_equal(route_choose(&t, "a.test", 1, false, 0), 0);
  assert_int_equal(route_choose(&t, "a.test", 1, true, 0), 1);
  atomic_store(&load[0]->draining, true);
  assert_int_equal(route_choose(&t, "a.test", 1, false, 0), 2);
  assert_int_equal(route_choose(&t, "a.test", 1, false, 1u << 2), 1);
  assert_int_equal(route_choose(&t, "a.test", 1, false, 1u << 2 | 1u << 1), -1);
  assert_int_equal(route_choose(&t, "b.test", 1, false, 0), -1);
  for (int i = 0; i < 3; i++)
    route_load_unref(load[i]);
  route_clear(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_later_generation_wins),
                                     cmocka_unit_test(test_away_only_by_its_session),
                                     cmocka_unit_test(test_sweep),
                                     cmocka_unit_test(test_sweep_of_many),
                                     cmocka_unit_test(test_links_share_a_name),
                                     cmocka_unit_test(test_other_groups_supersede),
                                     cmocka_unit_test(test_unbind_ends_all),
                                     cmocka_unit_test(test_the_least_busy_is_chosen),
                                     cmocka_unit_test(test_sweep)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
