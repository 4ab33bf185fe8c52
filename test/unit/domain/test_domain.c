/* Claims of names under a base domain, over the memory store and over SQLite. */
#include "../tmpdir.h"

#include <time.h>

#include "domain/domain.h"
#include "io/loop.h"
#include "wire/host.h"

static struct loop *loop;
static struct store *store;
static struct domain *domain;
static bool on_disk;
static struct beam_error e;

struct got {
  bool done;
  int err;
  char name[STORE_NAME], holder[STORE_PRINCIPAL];
  bool fresh;
};

static int open_all(void) {
  int err = on_disk ? store_open(tmp, &store, &e) : store_open_memory(&store, &e);
  return err ? err : domain_new(store, "tunnel.test", &domain, &e);
}

static void close_all(void) {
  domain_free(domain);
  store_close(store);
}

static int set_up(void **state) {
  e = (struct beam_error)BEAM_ERROR_INIT;
  return tmp_make(state) || loop_new(&loop) || open_all();
}

static int tear_down(void **state) {
  close_all();
  loop_free(loop);
  return tmp_remove(state);
}

static void on_got(void *user, int err, const struct store_reply *r) {
  struct got *g = user;
  g->done = true;
  g->err = err;
  g->fresh = r->fresh;
  str_copy(g->name, sizeof g->name, r->name);
  str_copy(g->holder, sizeof g->holder, r->holder);
}

static void turn_until(struct got *g) {
  time_t end = time(NULL) + 20;
  while (!g->done && time(NULL) < end)
    loop_turn(loop, 100);
  assert_true(g->done);
}

static struct got ask(const char *principal, const char *wanted, uint16_t port) {
  struct got g = {0};
  struct domain_claim c = {.principal = principal, .wanted = wanted, .local_port = port};
  g.err = domain_allocate(domain, loop, &c, on_got, &g, NULL, &e);
  if (!g.err)
    turn_until(&g);
  return g;
}

static void drawn(void **state) {
  (void)state;
  struct got a = ask("alice", NULL, 3000), b = ask("bob", "", 3000);
  struct span label;
  assert_int_equal(a.err, 0);
  assert_true(a.fresh);
  assert_true(host_label_under(a.name, "tunnel.test", &label));
  assert_true(host_name_ok(span_of(a.name)));
  assert_string_not_equal(a.name, b.name);
  assert_string_equal(ask("alice", NULL, 3000).name, a.name);
  assert_string_not_equal(ask("alice", NULL, 3001).name, a.name);
  close_all(); /* the relay is started again */
  assert_int_equal(open_all(), 0);
  if (on_disk) {
    assert_string_equal(ask("alice", NULL, 3000).name, a.name);
    assert_int_equal(ask("bob", a.name, 3000).err, BEAM_ERR_TAKEN);
  }
}

static void wanted(void **state) {
  (void)state;
  static const struct {
    const char *wanted, *name;
    int err;
  } rows[] = {{"shop", "shop.tunnel.test", 0},
              {"SHOP", "shop.tunnel.test", 0},
              {"shop.tunnel.test", "shop.tunnel.test", 0},
              {"Shop.Tunnel.Test.", "shop.tunnel.test", 0},
              {"shop.other.test", NULL, BEAM_ERR_NAME},
              {"a.b.tunnel.test", NULL, BEAM_ERR_NAME},
              {"tunnel.test", NULL, BEAM_ERR_NAME},
              {".tunnel.test", NULL, BEAM_ERR_NAME},
              {"www", NULL, BEAM_ERR_NAME},
              {"www.tunnel.test", NULL, BEAM_ERR_NAME},
              {"my shop", NULL, BEAM_ERR_NAME},
              {"127.0.0.1", NULL, BEAM_ERR_NAME},
              {"_x", NULL, BEAM_ERR_NAME}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    e = (struct beam_error)BEAM_ERROR_INIT;
    struct got g = ask("alice", rows[i].wanted, 1);
    assert_int_equal(g.err, rows[i].err);
    if (rows[i].name)
      assert_string_equal(g.name, rows[i].name);
    else
      assert_int_equal(e.code, rows[i].err);
  }
  struct got g = ask("bob", "shop", 1);
  assert_int_equal(g.err, BEAM_ERR_TAKEN);
  assert_string_equal(g.holder, "alice");
}

/* Every friendly name that a seed gives is taken already: eight hex digits come instead. */
static void hex_when_all_are_taken(void **state) {
  (void)state;
  char label[LABEL_MAX];
  random_seed(7);
  for (int i = 0; i < 10; i++) {
    name_draw(label);
    assert_int_equal(ask("somebody", label, (uint16_t)i).err, 0);
  }
  random_seed(7);
  struct got g = ask("alice", NULL, 3000);
  random_seed(0);
  assert_int_equal(g.err, 0);
  assert_int_equal(strspn(g.name, "0123456789abcdef"), 8);
  assert_string_equal(g.name + 8, ".tunnel.test");
}

static struct got ask_port(const char *principal, uint16_t wanted, uint16_t lo, uint16_t hi, uint16_t local) {
  struct got g = {0};
  struct domain_claim c = {.principal = principal, .local_port = local, .port = wanted, .lo = lo, .hi = hi};
  g.err = domain_allocate_port(domain, loop, &c, on_got, &g, NULL, &e);
  if (!g.err)
    turn_until(&g);
  return g;
}

static void ports(void **state) {
  (void)state;
  bool seen[5] = {false};
  for (int i = 0; i < 5; i++) { /* the whole of a small range is given out */
    char who[8];
    snprintf(who, sizeof who, "p%d", i);
    struct got g = ask_port(who, 0, 7001, 7005, 5432);
    assert_int_equal(g.err, 0);
    uint16_t port = domain_port(g.name);
    assert_in_range(port, 7001, 7005);
    assert_false(seen[port - 7001]);
    seen[port - 7001] = true;
    assert_string_equal(ask_port(who, 0, 7001, 7005, 5432).name, g.name); /* and sticks */
    assert_int_equal(ask_port("thief", port, 7001, 7005, 1).err, BEAM_ERR_TAKEN);
  }
  assert_int_equal(ask_port("late", 0, 7001, 7005, 5432).err, BEAM_ERR_TAKEN);
  assert_int_equal(ask_port("late", 7006, 7001, 7005, 5432).err, BEAM_ERR_NAME);
  assert_int_equal(ask_port("late", 7006, 7001, 65535, 5432).err, 0);
  assert_int_equal(ask_port("late", 0, 0, 0, 5432).err, BEAM_ERR_UNSUPPORTED);
  /* a port is no name: the same local port over HTTP gets a fresh one, and the other way round */
  struct got http = ask("p0", NULL, 5432);
  struct span label;
  assert_true(host_label_under(http.name, "tunnel.test", &label));
  assert_int_equal(domain_port(http.name), 0);
  static const char *const none[] = {"", "tcp.tunnel.test", "x.tcp.tunnel.test", "70000.tcp.tunnel.test",
                                     "7001.tunnel.test"};
  for (size_t i = 0; i < 5; i++)
    assert_int_equal(domain_port(none[i]), 0);
}

static void race(void **state) {
  (void)state;
  enum { N = 100 };
  struct got got[N] = {{0}};
  for (int i = 0; i < N; i++) {
    struct domain_claim c = {.principal = i % 2 ? "alice" : "bob", .wanted = "shop", .local_port = 1};
    assert_int_equal(domain_allocate(domain, loop, &c, on_got, &got[i], NULL, &e), 0);
  }
  for (int i = 0; i < N; i++) {
    turn_until(&got[i]);
    assert_int_equal(got[i].err, i % 2 ? BEAM_ERR_TAKEN : 0);
  }
}

static void bases(void **state) {
  (void)state;
  struct domain *d;
  char big[256];
  memset(big, 'a', sizeof big);
  for (size_t i = 40; i < 255; i += 40)
    big[i] = '.';
  big[255] = 0;
  static const char *const good[] = {"localhost", "beam", "tunnel.example.com"};
  const char *const bad[] = {"", "-a", "a..b", "a b", "*.a", big, NULL};
  for (size_t i = 0; i < 3; i++) {
    assert_int_equal(domain_new(store, good[i], &d, &e), 0);
    assert_string_equal(domain_base(d), good[i]);
    domain_free(d);
  }
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(domain_new(store, bad[i], &d, &e), BEAM_ERR_INVALID);
    assert_null(d);
  }
}

#define domain_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      domain_test(drawn), domain_test(wanted), domain_test(hex_when_all_are_taken),
      domain_test(ports), domain_test(race),   domain_test(bases)};
  int bad = cmocka_run_group_tests_name("memory", tests, NULL, NULL);
  on_disk = true;
  return bad + cmocka_run_group_tests_name("on disk", tests, NULL, NULL);
}
