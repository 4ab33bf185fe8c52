/* Every allocation fails once, in the caller's thread or in the store's: no crash, no leak, an answer or an error for each question, and what was
 * answered is in the store afterwards. */
#include "wait.h"

#include "../nomem.h"

typedef int (*open_fn)(struct store **out, struct beam_error *e);
static int open_file(struct store **out, struct beam_error *e) {
  return store_open_file(tmp_path("j"), out, e);
}
static int open_sqlite(struct store **out, struct beam_error *e) {
  return store_open_sqlite(tmp_path("db"), out, e);
}
static open_fn driver;

enum { QUESTIONS = 6 };
static struct got got[QUESTIONS];

/* Ask all, wait for what was taken. True: alice has the name. */
static bool dialogue(void) {
  const char *const list[] = {"one.tunnel.test", NULL};
  struct store_claim c = {
      .principal = "alice", .candidates = list, .n = 1, .base = "tunnel.test", .port = 3000};
  struct store_tunnel t = a_tunnel("alice", "one.tunnel.test");
  struct store_audit a = {.actor = "alice", .action = "bind", .subject = "one", .detail = "x"};
  memset(got, 0, sizeof got);
  int err[QUESTIONS] = {store_allocate(store, loop, &c, on_got, &got[0], NULL),
                        store_tunnel_put(store, loop, &t, on_got, &got[1], NULL),
                        store_audit(store, loop, &a, on_got, &got[2], NULL),
                        store_names(store, loop, NULL, on_got, &got[3], NULL),
                        store_tunnels(store, loop, NULL, false, on_got, &got[4], NULL),
                        store_audit_verify(store, loop, on_got, &got[5], NULL)};
  for (int i = 0; i < QUESTIONS; i++) {
    if (!err[i])
      wait_for(&got[i]);
    int e = err[i] ? err[i] : got[i].err;
    assert_true(e == 0 || e == BEAM_ERR_NOMEM || e == BEAM_ERR_STORE);
  }
  return !err[0] && !got[0].err;
}

static void each_fails_once(void **state) {
  (void)state;
  if (!INTERPOSE) {
    print_message("skipped: the sanitizer owns malloc\n");
    skip();
  }
  struct beam_error e = BEAM_ERROR_INIT;
  const char *how_long = getenv("BEAM_TEST_LONG"); /* set and empty: not */
  bool every_one = how_long && *how_long;
  assert_int_equal(loop_new(&loop), 0);
  assert_int_equal(driver(&store, &e), 0); /* once in peace, for what libraries keep for ever */
  dialogue();
  store_close(store);
  long at = 0;
  bool reached = true;
  while (reached) {
    tmp_remove(NULL);
    assert_int_equal(mkdir(tmp, 0700), 0);
    long before = live;
    at += at < 20 || every_one ? 1 : 97; /* SQLite makes 2,000 of them */
    count = 0;
    fail_at = at;
    bool stored = driver(&store, &e) == 0 && dialogue();
    reached = count >= at;
    fail_at = 0;
    if (store)
      store_close(store);
    store = NULL;
    assert_int_equal(live, before);
    assert_int_equal(driver(&store, &e), 0); /* nothing is broken for good */
    struct got *g = ask_name("thief", "one.tunnel.test", NULL, 1);
    if (stored)
      assert_int_equal(g->err, BEAM_ERR_TAKEN);
    assert_int_equal(ask_verify()->err, 0);
    store_close(store);
    store = NULL;
  }
  print_message("about %ld allocations\n", at - 1);
  assert_true(at > 20);
  loop_free(loop);
}

int main(void) {
  const struct CMUnitTest tests[] = {tmp_test(each_fails_once)};
  driver = open_file;
  int bad = cmocka_run_group_tests_name("file", tests, NULL, NULL);
#ifndef BEAM_NO_SQLITE
  driver = open_sqlite;
  bad += cmocka_run_group_tests_name("sqlite", tests, NULL, NULL);
#else
  (void)open_sqlite;
#endif
  return bad;
}
