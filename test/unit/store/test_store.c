/* What every driver does alike: memory, the journal file and SQLite go through the same questions. */
#include "wait.h"

#include <sys/wait.h>

#include "base/limits.h"

typedef int (*open_fn)(struct store **out, struct beam_error *e);
static int open_memory(struct store **out, struct beam_error *e) {
  return store_open_memory(out, e);
}
static int open_file(struct store **out, struct beam_error *e) {
  return store_open_file(tmp_path("j"), out, e);
}
static int open_sqlite(struct store **out, struct beam_error *e) {
  return store_open_sqlite(tmp_path("db"), out, e);
}

static open_fn driver;
static int64_t (*right_time)(void);

static int set_up(void **state) {
  struct beam_error e = BEAM_ERROR_INIT;
  if (tmp_make(state) || loop_new(&loop))
    return -1;
  int err = driver(&store, &e);
  if (err)
    print_error("%s\n", e.what);
  return err;
}

static int tear_down(void **state) {
  store_now = right_time;
  store_names_total = LIMIT_NAMES_TOTAL;
  store_close(store);
  loop_free(loop);
  store = NULL;
  return tmp_remove(state);
}

/* Close and open again; the memory driver forgets, so it stays open. */
static void reopen(void) {
  if (driver == open_memory)
    return;
  store_close(store);
  assert_int_equal(driver(&store, NULL), 0);
}

static const char *const list[] = {"one.tunnel.test", "two.tunnel.test", "three.tunnel.test", NULL};

static void names(void **state) {
  (void)state;
  struct got *g = ask_name("alice", NULL, list, 3000);
  assert_int_equal(g->err, 0);
  assert_string_equal(g->name, "one.tunnel.test");
  assert_true(g->fresh);
  g = ask_name("bob", NULL, list, 3000); /* the first is taken by now */
  assert_string_equal(g->name, "two.tunnel.test");
  g = ask_name("alice", NULL, list + 2, 3000); /* again the one she had for this port */
  assert_string_equal(g->name, "one.tunnel.test");
  assert_false(g->fresh);
  g = ask_name("alice", NULL, list, 4000); /* another port, another name */
  assert_string_equal(g->name, "three.tunnel.test");
  g = ask_name("carol", NULL, list, 3000);
  assert_int_equal(g->err, BEAM_ERR_TAKEN);

  g = ask_name("bob", "shop.tunnel.test", NULL, 3000);
  assert_int_equal(g->err, 0);
  assert_true(g->fresh);
  g = ask_name("alice", "shop.tunnel.test", NULL, 3000);
  assert_int_equal(g->err, BEAM_ERR_TAKEN);
  assert_string_equal(g->holder, "bob");
  assert_string_equal(g->name, "shop.tunnel.test");
  assert_non_null(strstr(g->error.what, "shop.tunnel.test"));
  g = ask_name("bob", "shop.tunnel.test", NULL, 3000);
  assert_int_equal(g->err, 0);
  assert_false(g->fresh);
  g = ask_name("bob", NULL, list, 3000); /* not the wanted one: that comes only when asked for */
  assert_string_equal(g->name, "two.tunnel.test");

  reopen();
  g = ask_name("alice", NULL, list, 3000);
  assert_string_equal(g->name, "one.tunnel.test");
  g = ask_name("alice", "shop.tunnel.test", NULL, 3000);
  assert_int_equal(g->err, BEAM_ERR_TAKEN);

  g = ask_names("alice");
  assert_int_equal(g->n, 2);
  assert_string_equal(g->names[0].name, "one.tunnel.test");
  assert_true(g->names[0].drawn);
  assert_int_equal(g->names[0].port, 3000);
  assert_string_equal(g->names[1].name, "three.tunnel.test");
  g = ask_names(NULL);
  assert_int_equal(g->n, 4);
  assert_string_equal(g->names[1].name, "shop.tunnel.test");
  assert_string_equal(g->names[1].owner, "bob");
  assert_false(g->names[1].drawn);
}

static void names_of_another_base_stay_out(void **state) {
  (void)state;
  static const char *const other[] = {"x.nottunnel.test", NULL};
  static const char *const port[] = {"8001.tcp.tunnel.test", NULL};
  assert_string_equal(ask_name("alice", NULL, other, 3000)->name, "x.nottunnel.test");
  assert_string_equal(ask_name("alice", NULL, port, 3000)->name, "8001.tcp.tunnel.test");
  assert_string_equal(ask_name("alice", NULL, list, 3000)->name, "one.tunnel.test");
}

static void release(void **state) {
  (void)state;
  ask_name("bob", "shop.tunnel.test", NULL, 3000);
  struct got *g = ask_release("alice", "shop.tunnel.test");
  assert_int_equal(g->err, BEAM_ERR_DENIED);
  g = ask_release("bob", "shop.tunnel.test");
  assert_int_equal(g->err, 0);
  assert_int_equal(g->n, 1);
  g = ask_release("bob", "shop.tunnel.test");
  assert_int_equal(g->err, BEAM_ERR_NOT_FOUND);
  reopen();
  g = ask_name("alice", "shop.tunnel.test", NULL, 3000);
  assert_int_equal(g->err, 0);
}

static void limit_of_names(void **state) {
  (void)state;
  char name[STORE_NAME];
  const char *const one[] = {name, NULL};
  for (unsigned i = 0; i < LIMIT_NAMES_PER_PRINCIPAL; i++) {
    snprintf(name, sizeof name, "n%u.tunnel.test", i);
    assert_true(ask_name("alice", NULL, one, (uint16_t)(1000 + i))->fresh);
  }
  struct got *g = ask_name("alice", "wanted.tunnel.test", NULL, 1);
  assert_int_equal(g->err, BEAM_ERR_LIMIT);
  assert_true(*g->error.hint);
  /* one more drawn name: one of hers that serves nothing comes again instead */
  snprintf(name, sizeof name, "more.tunnel.test");
  for (unsigned i = 0; i < LIMIT_NAMES_PER_PRINCIPAL; i++) {
    char busy[STORE_NAME];
    snprintf(busy, sizeof busy, "n%u.tunnel.test", i);
    struct store_tunnel t = a_tunnel("alice", busy);
    if (i != 40)
      ask_put(&t);
  }
  g = ask_name("alice", NULL, one, 9);
  assert_int_equal(g->err, 0);
  assert_string_equal(g->name, "n40.tunnel.test");
  struct store_tunnel t = a_tunnel("alice", "n40.tunnel.test");
  ask_put(&t);
  assert_int_equal(ask_name("alice", NULL, one, 10)->err, BEAM_ERR_LIMIT);
  assert_int_equal(ask_name("bob", NULL, one, 10)->err, 0);
}

static void tunnels(void **state) {
  (void)state;
  struct store_tunnel a = a_tunnel("alice", "one.tunnel.test"), b = a_tunnel("bob", "two.tunnel.test");
  assert_int_equal(strlen(a.id), 32);
  assert_string_not_equal(a.id, b.id);
  assert_int_equal(ask_put(&a)->err, 0);
  assert_int_equal(ask_put(&b)->err, 0);
  assert_int_equal(ask_status(a.id, STORE_ACTIVE)->err, 0);
  assert_int_equal(ask_status(a.id, STORE_PROVISIONING)->err, BEAM_ERR_INVALID);
  assert_int_equal(ask_status("0123", STORE_ACTIVE)->err, BEAM_ERR_NOT_FOUND);
  reopen();
  struct got *g = ask_tunnels("alice", false);
  assert_int_equal(g->n, 1);
  a.status = STORE_ACTIVE;
  assert_string_equal(g->tunnels[0].id, a.id);
  assert_string_equal(g->tunnels[0].owner, a.owner);
  assert_string_equal(g->tunnels[0].name, a.name);
  assert_string_equal(g->tunnels[0].framework, "vite");
  assert_int_equal(g->tunnels[0].port, 3000);
  assert_int_equal(g->tunnels[0].created_at, a.created_at);
  assert_int_equal(g->tunnels[0].status, STORE_ACTIVE);
  g = ask_tunnels(NULL, true);
  assert_int_equal(g->n, 2);
  assert_string_equal(g->tunnels[0].id, b.id); /* newest first */
  assert_int_equal(ask_status(b.id, STORE_CLOSED)->err, 0);
  assert_int_equal(ask_status(b.id, STORE_ACTIVE)->err, BEAM_ERR_INVALID);
  assert_int_equal(ask_tunnels(NULL, true)->n, 1);
  assert_int_equal(ask_tunnels(NULL, false)->n, 2);
  str_copy(a.framework, sizeof a.framework, "next");
  assert_int_equal(ask_put(&a)->err, 0); /* the same id: an update */
  g = ask_tunnels("alice", true);
  assert_int_equal(g->n, 1);
  assert_string_equal(g->tunnels[0].framework, "next");
}

static void reset(void **state) {
  (void)state;
  struct store_tunnel a = a_tunnel("alice", "one.tunnel.test"), b = a_tunnel("bob", "two.localhost"),
                      c = a_tunnel("bob", "old.tunnel.test"), d = a_tunnel("bob", "x.nottunnel.test");
  c.created_at -= (STORE_KEEP_DAYS + 1) * 86400;
  c.status = STORE_CLOSED;
  ask_put(&a);
  ask_put(&b);
  ask_put(&c);
  ask_put(&d);
  struct got *g = ask_reset("tunnel.test");
  assert_int_equal(g->err, 0);
  assert_int_equal(g->n, 1);
  reopen();
  g = ask_tunnels(NULL, false);
  assert_int_equal(g->n, 3); /* the old one is forgotten */
  g = ask_tunnels(NULL, true);
  assert_int_equal(g->n, 2);
  assert_string_equal(g->tunnels[0].id, d.id);
  assert_string_equal(g->tunnels[1].id, b.id);
}

static void audit(void **state) {
  (void)state;
  assert_int_equal(ask_verify()->n, 0);
  char big[2000];
  memset(big, 'x', sizeof big);
  big[1999] = 0;
  for (unsigned i = 1; i <= 20; i++) {
    if (i == 10)
      reopen();
    struct got *g = ask_audit(i % 2 ? "bind" : "refused", i == 7 ? big : i == 8 ? NULL : "a detail");
    assert_int_equal(g->err, 0);
    assert_int_equal(g->seq, i);
  }
  struct got *g = ask_verify();
  assert_int_equal(g->err, 0);
  assert_int_equal(g->n, 20);
  assert_int_equal(g->seq, 0);
}

/* --- forgetting --- */

static bool has(const char *principal, const char *name) {
  struct got *g = ask_names(principal);
  for (size_t i = 0; i < g->n; i++)
    if (!strcmp(g->names[i].name, name))
      return true;
  return false;
}

static void names_nobody_used(void **state) {
  (void)state;
  set_days(0);
  ask_name("alice", NULL, list, 3000);
  ask_name("alice", "shop.tunnel.test", NULL, 3000);
  assert_int_equal(live_until(0, 89), 0);
  ask_name("bob", NULL, list, 3000);
  reopen();
  assert_int_equal(live_until(89, 90), 0);
  assert_int_equal(live_until(90, 91), 1);
  assert_false(has("alice", "one.tunnel.test"));
  assert_true(has("bob", "two.tunnel.test"));
  assert_string_equal(ask_name("carol", NULL, list, 3000)->name, "one.tunnel.test");
  ask_name("bob", NULL, list, 3000); /* used again: 90 days more */
  assert_int_equal(live_until(91, 181), 0);
  assert_int_equal(live_until(181, 183), 2);
  assert_int_equal(live_until(183, 365), 0);
  reopen();
  assert_true(has("alice", "shop.tunnel.test"));
  assert_int_equal(live_until(365, 366), 1);
  reopen();
  assert_int_equal(ask_names(NULL)->n, 0);
}

/* A tunnel open for years keeps its name, and for 90 days after it closed, whoever closed it. */
static void names_in_use_stay(void **state) {
  (void)state;
  set_days(0);
  ask_name("alice", NULL, list, 3000);
  ask_name("bob", NULL, list, 3000);
  struct store_tunnel a = a_tunnel("alice", "one.tunnel.test"), b = a_tunnel("bob", "two.tunnel.test");
  a.status = b.status = STORE_ACTIVE;
  ask_put(&a);
  ask_put(&b);
  assert_int_equal(live_until(0, 1000), 0);
  assert_int_equal(ask_status(a.id, STORE_CLOSED)->err, 0);
  reopen();
  assert_int_equal(ask_reset("tunnel.test")->n, 1); /* the relay was killed: bob's is closed by this */
  assert_int_equal(ask_forget()->n, 1);             /* the tunnel's row, closed and old */
  assert_int_equal(live_until(1000, 1089), 0);
  assert_true(has("alice", "one.tunnel.test") && has("bob", "two.tunnel.test"));
  assert_int_equal(live_until(1089, 1091), 2);
}

/* A clock that jumps costs nobody his name: it has to go evenly for a day first. */
static void clock_jumps(void **state) {
  (void)state;
  set_days(0);
  ask_name("alice", NULL, list, 3000);
  ask_audit("bind", "");
  live_until(0, 3);
  set_days(5000); /* 2040, for an hour */
  for (int i = 0; i < 3; i++)
    assert_int_equal(ask_forget()->n, 0);
  set_days(5000.5);
  reopen();
  assert_int_equal(ask_forget()->n, 0);
  set_days(3.2); /* corrected */
  assert_int_equal(ask_forget()->n, 0);
  assert_int_equal(live_until(3.2, 6), 0);
  set_days(5000); /* nobody ran it for years, then it runs on */
  assert_int_equal(ask_forget()->n, 0);
  set_days(5001);
  assert_int_equal(ask_forget()->n, 2);
  assert_int_equal(ask_verify()->err, 0);
}

static void only_known_names(void **state) {
  (void)state;
  struct got g = {0};
  struct store_claim c = {.principal = "alice",
                          .candidates = list,
                          .n = 3,
                          .base = "tunnel.test",
                          .port = 3000,
                          .no_fresh = true};
  assert_int_equal(store_allocate(store, loop, &c, on_got, &g, NULL), 0);
  wait_for(&g);
  assert_int_equal(g.err, BEAM_ERR_LIMIT);
  assert_true(*g.error.what && *g.error.hint);
  ask_name("alice", NULL, list, 3000);
  ask_name("alice", "shop.tunnel.test", NULL, 3000);
  const char *const wanted[] = {NULL, "shop.tunnel.test", "new.tunnel.test"};
  for (int i = 0; i < 3; i++) {
    g.done = false;
    c.wanted = wanted[i];
    assert_int_equal(store_allocate(store, loop, &c, on_got, &g, NULL), 0);
    wait_for(&g);
    assert_int_equal(g.err, i < 2 ? 0 : BEAM_ERR_LIMIT);
    assert_false(g.fresh);
  }
  assert_int_equal(ask_names(NULL)->n, 2);
}

static void names_of_all(void **state) {
  (void)state;
  store_names_total = 2;
  ask_name("alice", NULL, list, 3000);
  ask_name("bob", NULL, list, 3000);
  struct got *g = ask_name("carol", NULL, list, 3000);
  assert_int_equal(g->err, BEAM_ERR_LIMIT);
  assert_true(*g->error.what && *g->error.hint);
  assert_int_equal(ask_name("carol", "shop.tunnel.test", NULL, 1)->err, BEAM_ERR_LIMIT);
  assert_int_equal(ask_name("bob", NULL, list, 3000)->err, 0);
  reopen();
  assert_int_equal(ask_name("carol", NULL, list, 3000)->err, BEAM_ERR_LIMIT);
  assert_int_equal(ask_release("bob", "two.tunnel.test")->err, 0);
  assert_int_equal(ask_name("carol", NULL, list, 3000)->err, 0);
}

/* Bound and closed again and again: of a name one closed tunnel stays. */
static void rows_of_closed_tunnels(void **state) {
  (void)state;
  struct store_tunnel other = a_tunnel("bob", "two.tunnel.test");
  ask_put(&other);
  ask_status(other.id, STORE_CLOSED);
  for (int i = 0; i < 20; i++) {
    struct store_tunnel t = a_tunnel("alice", "one.tunnel.test"), next = a_tunnel("alice", "one.tunnel.test");
    ask_put(&t);
    ask_put(&next); /* it supersedes t */
    assert_int_equal(ask_tunnels(NULL, true)->n, 2);
    ask_status(t.id, STORE_CLOSED);
    ask_status(next.id, STORE_CLOSED);
    if (i == 10)
      reopen();
    assert_int_equal(ask_tunnels(NULL, false)->n, 2);
  }
}

static void old_audit_rows(void **state) {
  (void)state;
  set_days(0);
  for (int i = 1; i <= 5; i++)
    ask_audit("bind", "old");
  assert_int_equal(live_until(0, 200), 0);
  for (int i = 6; i <= 8; i++)
    ask_audit("bind", "new");
  assert_int_equal(live_until(200, 400), 0);
  assert_int_equal(ask_verify()->n, 8);
  assert_int_equal(live_until(400, 401), 5);
  assert_int_equal(ask_verify()->n, 3);
  reopen();
  struct got *g = ask_verify();
  assert_int_equal(g->err, 0);
  assert_int_equal(g->n, 3);
  assert_int_equal(ask_audit("bind", "newest")->seq, 9);
  assert_int_equal(ask_verify()->n, 4);
  assert_int_equal(live_until(401, 1000), 4); /* none is left: the chain goes on from where it was */
  reopen();
  assert_int_equal(ask_verify()->err, 0);
  assert_int_equal(ask_audit("bind", "again")->seq, 10);
  reopen();
  g = ask_verify();
  assert_int_equal(g->err, 0);
  assert_int_equal(g->n, 1);
  assert_int_equal(ask_audit("bind", "and again")->seq, 11);
}

/* --- asking, cancelling, closing --- */

static void never(void *user, int err, const struct store_reply *r) {
  (void)user;
  (void)err;
  (void)r;
  fail_msg("a callback that must not come");
}

/* An answer that is in the post of a loop which has not turned since: cancelled, or the store closed. */
static void cancelled_answers_do_not_come(void **state) {
  (void)state;
  struct loop *other;
  struct store_op *op, *dropped;
  struct got g = {0};
  assert_int_equal(loop_new(&other), 0);
  assert_int_equal(store_names(store, other, NULL, never, NULL, &op), 0);
  assert_non_null(op);
  assert_int_equal(store_names(store, other, NULL, on_got, &g, NULL), 0);
  ask_names(NULL); /* asked later, answered: the others are too */
  store_cancel(op);
  loop_turn(other, 0);
  assert_true(g.done);
  assert_int_equal(store_names(store, other, NULL, never, NULL, &dropped), 0);
  ask_names(NULL);
  store_close(store);
  loop_turn(other, 0);
  loop_free(other);
  assert_int_equal(driver(&store, NULL), 0);
  store_cancel(NULL);
}

static void nobody_waits(void **state) {
  (void)state;
  struct store_audit a = {.actor = "alice", .action = "bind", .subject = "x", .detail = ""};
  struct store_op *op = (struct store_op *)&a;
  assert_int_equal(store_audit(store, NULL, &a, NULL, NULL, &op), 0);
  assert_null(op);
  assert_int_equal(ask_verify()->n, 1);
}

static void loop_freed_first(void **state) {
  (void)state;
  struct loop *other;
  struct store_op *op;
  assert_int_equal(loop_new(&other), 0);
  for (int i = 0; i < 20; i++) {
    assert_int_equal(store_names(store, other, NULL, never, NULL, &op), 0);
    store_cancel(op);
  }
  loop_free(other);
  ask_names(NULL);
}

static void bad_arguments(void **state) {
  (void)state;
  char big[300];
  memset(big, 'a', sizeof big);
  big[299] = 0;
  struct store_claim c = {.principal = "", .wanted = "a.test", .base = "test"};
  assert_int_equal(store_allocate(store, loop, &c, never, NULL, NULL), BEAM_ERR_INVALID);
  c.principal = big;
  assert_int_equal(store_allocate(store, loop, &c, never, NULL, NULL), BEAM_ERR_INVALID);
  c.principal = "alice";
  c.wanted = big;
  assert_int_equal(store_allocate(store, loop, &c, never, NULL, NULL), BEAM_ERR_INVALID);
  assert_int_equal(store_release(store, loop, "alice", big, never, NULL, NULL), BEAM_ERR_INVALID);
  assert_int_equal(store_tunnel_status(store, loop, big, STORE_CLOSED, never, NULL, NULL), BEAM_ERR_INVALID);
}

/* Two principals ask for one name again and again, many at once: exactly one has it, and all answers come in order. */
static void race(void **state) {
  (void)state;
  enum { N = 200 };
  static struct got got[N];
  memset(got, 0, sizeof got);
  for (int i = 0; i < N; i++) {
    struct store_claim c = {
        .principal = i % 2 ? "alice" : "bob", .wanted = "shop.tunnel.test", .base = "tunnel.test", .port = 1};
    assert_int_equal(store_allocate(store, loop, &c, on_got, &got[i], NULL), 0);
  }
  wait_for(&got[N - 1]);
  for (int i = 0; i < N; i++) {
    assert_true(got[i].done);
    assert_int_equal(got[i].err, i % 2 ? BEAM_ERR_TAKEN : 0);
    assert_int_equal(got[i].fresh, i == 0);
    assert_string_equal(got[i].holder, i % 2 ? "bob" : "");
  }
}

#define store_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      store_test(names),
      store_test(names_of_another_base_stay_out),
      store_test(release),
      store_test(limit_of_names),
      store_test(tunnels),
      store_test(reset),
      store_test(audit),
      store_test(names_nobody_used),
      store_test(names_in_use_stay),
      store_test(clock_jumps),
      store_test(only_known_names),
      store_test(names_of_all),
      store_test(rows_of_closed_tunnels),
      store_test(old_audit_rows),
      store_test(cancelled_answers_do_not_come),
      store_test(nobody_waits),
      store_test(bad_arguments),
      store_test(loop_freed_first),
      store_test(race),
  };
  right_time = store_now;
  driver = open_memory;
  int bad = cmocka_run_group_tests_name("memory", tests, NULL, NULL);
  driver = open_file;
  bad += cmocka_run_group_tests_name("file", tests, NULL, NULL);
#ifndef BEAM_NO_SQLITE
  driver = open_sqlite;
  bad += cmocka_run_group_tests_name("sqlite", tests, NULL, NULL);
#else
  (void)open_sqlite;
#endif
  return bad;
}
