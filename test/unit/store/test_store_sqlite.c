/* SQLite: damage, a full disk, killed writers, several processes, a file of a newer Beam, rows changed behind its back. */
#include "wait.h"

#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/limits.h"

static struct beam_error e = BEAM_ERROR_INIT;

static int set_up(void **state) {
  return tmp_make(state) || loop_new(&loop);
}

static int tear_down(void **state) {
  store_close(store);
  store = NULL;
  loop_free(loop);
  return tmp_remove(state);
}

static int open_it(void) {
  return store_open_sqlite(tmp_path("db"), &store, &e);
}

static void close_it(void) {
  store_close(store);
  store = NULL;
}

static void sql(const char *text) {
  sqlite3 *db;
  char *why = NULL;
  assert_int_equal(sqlite3_open(tmp_path("db"), &db), SQLITE_OK);
  int code = sqlite3_exec(db, text, NULL, NULL, &why);
  if (code)
    print_error("%s\n", why);
  sqlite3_free(why);
  sqlite3_close(db);
  assert_int_equal(code, SQLITE_OK);
}

static void private_file(void **state) {
  (void)state;
  mode_t old = umask(0);
  assert_int_equal(open_it(), 0);
  ask_audit("bind", "");
  umask(old);
  assert_int_equal(tmp_mode("db"), 0600);
  assert_int_equal(tmp_mode("db-wal"), 0600);
  close_it();
  const char *dir = tmp_path("new/data");
  assert_int_equal(store_open(dir, &store, &e), 0);
  assert_int_equal(tmp_mode("new/data"), 0700);
  close_it();
  assert_int_equal(store_open_sqlite(tmp_path("none/db"), &store, &e), BEAM_ERR_STORE);
  assert_non_null(strstr(e.what, "none/db"));
}

static void damaged(void **state) {
  (void)state;
  assert_int_equal(open_it(), 0);
  char name[STORE_NAME];
  for (int i = 0; i < 60; i++) {
    snprintf(name, sizeof name, "n%d.tunnel.test", i);
    assert_int_equal(ask_name("alice", name, NULL, 1)->err, 0);
  }
  close_it();
  static char good[1 << 20], now[1 << 20], bad[1 << 20];
  size_t n = tmp_get("db", good, sizeof good);
  assert_true(n > 8192);
  static const struct {
    size_t keep, from, len; /* keep that much; spoil len bytes from there on */
  } rows[] = {{8192, 0, 0}, {1 << 20, 0, 16}, {1 << 20, 100, 900}, {1 << 20, 4096, 4096}, {50, 0, 0}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    size_t len = rows[i].keep < n ? rows[i].keep : n;
    memcpy(bad, good, n);
    for (size_t k = 0; k < rows[i].len; k++)
      bad[rows[i].from + k] ^= 0x5a;
    tmp_put("db", bad, len, 0600);
    assert_int_equal(open_it(), BEAM_ERR_STORE);
    assert_null(store);
    assert_true(*e.what && *e.hint);
    assert_int_equal(tmp_get("db", now, sizeof now), len);
    assert_memory_equal(now, bad, len);
  }
  tmp_put("db", good, n, 0600);
  assert_int_equal(open_it(), 0);
  assert_int_equal(ask_names("alice")->n, 60);
}

static void of_a_newer_beam(void **state) {
  (void)state;
  assert_int_equal(open_it(), 0);
  close_it();
  sql("PRAGMA user_version=1000");
  assert_int_equal(open_it(), BEAM_ERR_STORE);
  assert_non_null(strstr(e.what, "newer"));
}

static void changed_audit(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int err;
    unsigned seq;
  } rows[] = {{"UPDATE audit SET detail='other' WHERE seq=3", BEAM_ERR_STORE, 3},
              {"UPDATE audit SET seq=100 WHERE seq=2", BEAM_ERR_STORE, 3},
              {"DELETE FROM audit WHERE seq=1", BEAM_ERR_STORE, 2},
              {"INSERT INTO audit SELECT 6,at,actor,action,subject,detail,hash FROM audit WHERE seq=5",
               BEAM_ERR_STORE, 6},
              {"UPDATE audit SET hash=x'00' WHERE seq=4", BEAM_ERR_STORE, 4},
              {"DELETE FROM audit WHERE seq=5", BEAM_ERR_STORE, 5}, /* cut off at the end */
              {"DELETE FROM audit WHERE seq>2", BEAM_ERR_STORE, 3},
              {"DELETE FROM audit", BEAM_ERR_STORE, 1},
              {"DELETE FROM meta", BEAM_ERR_STORE, 6},
              {"UPDATE names SET used_at=1", 0, 0}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    unlink(tmp_path("db"));
    assert_int_equal(open_it(), 0);
    for (int k = 0; k < 5; k++)
      ask_audit("bind", "a detail");
    close_it();
    sql(rows[i].text);
    assert_int_equal(open_it(), 0);
    struct got *g = ask_verify();
    assert_int_equal(g->err, rows[i].err);
    assert_int_equal(g->seq, rows[i].seq);
    close_it();
  }
}

/* A store made before anything was forgotten: its names are counted, its chain goes on. */
static void of_an_older_beam(void **state) {
  (void)state;
  assert_int_equal(open_it(), 0);
  for (int k = 0; k < 3; k++)
    ask_audit("bind", "a detail");
  ask_name("alice", "one.tunnel.test", NULL, 1);
  ask_name("alice", "two.tunnel.test", NULL, 1);
  close_it();
  sql("DROP TABLE meta; DROP TRIGGER names_more; DROP TRIGGER names_less; DROP INDEX names_used; DROP INDEX "
      "tunnels_closed; PRAGMA user_version=1");
  assert_int_equal(open_it(), 0);
  assert_int_equal(ask_verify()->n, 3);
  assert_int_equal(ask_audit("bind", "another")->seq, 4);
  assert_int_equal(ask_verify()->n, 4);
  store_names_total = 3;
  assert_int_equal(ask_name("alice", "three.tunnel.test", NULL, 1)->err, 0);
  assert_int_equal(ask_name("alice", "four.tunnel.test", NULL, 1)->err, BEAM_ERR_LIMIT);
  store_names_total = LIMIT_NAMES_TOTAL;
  close_it();
  sql("DELETE FROM audit WHERE seq=4");
  assert_int_equal(open_it(), 0);
  assert_int_equal(ask_verify()->seq, 4);
}

/* --- full disk --- */

/* In a child: names until it is refused, then after `room` again. */
static void fill_up(void (*room)(void)) {
  char name[STORE_NAME], who[32];
  unsigned stored = 0;
  struct got *g;
  for (;; stored++) {
    snprintf(name, sizeof name, "%0200u.tunnel.test", stored);
    snprintf(who, sizeof who, "p%u", stored / 50);
    g = ask_name(who, name, NULL, 1);
    if (g->err || stored > 100000)
      break;
  }
  assert_int_equal(g->err, BEAM_ERR_STORE);
  assert_true(*g->error.what && *g->error.hint);
  assert_true(stored > 5);
  g = ask_name("thief", "00000000000000000000.tunnel.test", NULL,
               1); /* still refused in order, or stored in what is left */
  assert_true(g->err == 0 || g->err == BEAM_ERR_STORE);
  snprintf(name, sizeof name, "%0200u.tunnel.test", stored - 1);
  snprintf(who, sizeof who, "p%u", (stored - 1) / 50);
  struct got *names = ask_names(who); /* reading goes on */
  assert_int_equal(names->err, 0);
  assert_string_equal(names->names[names->n - 1].name, name);
  room();
  assert_int_equal(ask_name("dora", "dora.tunnel.test", NULL, 1)->err, 0);
  close_it();
  assert_int_equal(open_it(), 0);
  assert_int_equal(ask_name("thief", name, NULL, 1)->err, BEAM_ERR_TAKEN); /* nothing was lost */
  assert_int_equal(ask_name("thief", "dora.tunnel.test", NULL, 1)->err, BEAM_ERR_TAKEN);
  close_it();
  loop_free(loop);
}

static void in_child(void (*body)(void)) {
  pid_t pid = fork();
  if (pid == 0) {
    if (loop_new(&loop))
      _exit(1);
    body();
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
    print_message("skipped: no mount namespaces here\n");
    skip();
  }
  assert_int_equal(status, 0);
}

static void lift_limit(void) {
  struct rlimit lim = {1 << 26, 1 << 26};
  setrlimit(RLIMIT_FSIZE, &lim);
}

static void with_size_limit(void) {
  struct rlimit lim = {200000, 1 << 26};
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &lim);
  assert_int_equal(open_it(), 0);
  fill_up(lift_limit);
}

static void file_size_limit(void **state) {
  (void)state;
  in_child(with_size_limit);
}

static void grow_tmpfs(void) {
  assert_int_equal(mount("tmpfs", tmp, "tmpfs", MS_REMOUNT, "size=8m"), 0);
}

/* A real disk of 400 KiB, seen by this child alone. */
static void on_small_disk(void) {
  if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
      mount("tmpfs", tmp, "tmpfs", 0, "size=400k"))
    _exit(77);
  assert_int_equal(open_it(), 0);
  fill_up(grow_tmpfs);
}

static void full_disk(void **state) {
  (void)state;
  in_child(on_small_disk);
}

/* --- several processes --- */

static void killed(void **state) {
  (void)state;
  for (int round = 0; round < 10; round++) {
    int said[2];
    assert_int_equal(pipe(said), 0);
    pid_t pid = fork();
    if (pid == 0) {
      if (loop_new(&loop) || open_it())
        _exit(1);
      for (uint32_t i = 0;; i++) {
        char name[STORE_NAME], who[32];
        snprintf(name, sizeof name, "r%d-%u.tunnel.test", round, i);
        snprintf(who, sizeof who, "p%d-%u", round, i / 50);
        if (ask_name(who, name, NULL, 1)->err || ask_audit("bind", name)->err ||
            write(said[1], &i, sizeof i) != sizeof i)
          _exit(1);
      }
    }
    close(said[1]);
    uint32_t last = 0;
    while (last < (uint32_t)(3 + round * 3) && read(said[0], &last, sizeof last) == sizeof last)
      ;
    kill(pid, SIGKILL);
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status));
    while (read(said[0], &last, sizeof last) == sizeof last)
      ;
    close(said[0]);
    assert_int_equal(open_it(), 0);
    for (uint32_t i = 0; i <= last; i++) {
      char name[STORE_NAME];
      snprintf(name, sizeof name, "r%d-%u.tunnel.test", round, i);
      assert_int_equal(ask_name("thief", name, NULL, 1)->err, BEAM_ERR_TAKEN);
    }
    struct got *g = ask_verify();
    assert_int_equal(g->err, 0);
    assert_true(g->n > last);
    close_it();
  }
}

/* Processes with one file: each name goes to exactly one of them, each audit row has its number. */
static void processes_race(void **state) {
  (void)state;
  enum { KIDS = 3, NAMES = 25 };
  int back[2];
  assert_int_equal(pipe(back), 0);
  pid_t pids[KIDS];
  for (int i = 0; i < KIDS; i++) {
    pids[i] = fork();
    if (pids[i])
      continue;
    uint32_t won = 0;
    char who[16], name[STORE_NAME];
    snprintf(who, sizeof who, "kid%d", i);
    if (loop_new(&loop) || open_it()) /* they make the file together, too */
      _exit(1);
    for (int k = 0; k < NAMES; k++) {
      snprintf(name, sizeof name, "n%d.tunnel.test", k);
      struct got *g = ask_name(who, name, NULL, 1);
      if (g->err && g->err != BEAM_ERR_TAKEN)
        _exit(2);
      won += g->err == 0;
      if (ask_audit("bind", name)->err)
        _exit(3);
    }
    close_it();
    _exit(write(back[1], &won, sizeof won) != sizeof won);
  }
  uint32_t total = 0, won;
  for (int i = 0, status; i < KIDS; i++) {
    waitpid(pids[i], &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(read(back[0], &won, sizeof won), sizeof won);
    total += won;
  }
  assert_int_equal(total, NAMES);
  close(back[0]);
  close(back[1]);
  assert_int_equal(open_it(), 0);
  assert_int_equal(ask_names(NULL)->n, NAMES);
  struct got *g = ask_verify();
  assert_int_equal(g->err, 0);
  assert_int_equal(g->n, KIDS * NAMES);
}

/* --- the queue --- */

static unsigned answers;
static void count(void *user, int err, const struct store_reply *r) {
  (void)user;
  (void)r;
  answers += err == 0;
}

/* Somebody else holds the file's lock, so that nothing moves: the queue fills, then refuses, and the audit says how many are missing. */
static void full_queue(void **state) {
  (void)state;
  sqlite3 *db;
  struct store_audit a = {.actor = "alice", .action = "bind", .subject = "x", .detail = ""};
  assert_int_equal(open_it(), 0);
  ask_audit("bind", "");
  assert_int_equal(sqlite3_open(tmp_path("db"), &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
  unsigned taken = 0, refused = 0;
  answers = 0;
  while (refused < 7) {
    int err = store_audit(store, loop, &a, count, NULL, NULL);
    taken += err == 0;
    refused += err == BEAM_ERR_LIMIT;
    assert_true(err == 0 || err == BEAM_ERR_LIMIT);
    assert_true(taken <= 2 * LIMIT_STORE_QUEUE);
  }
  assert_true(taken >= LIMIT_STORE_QUEUE);
  struct store_claim c = {.principal = "alice", .wanted = "a.tunnel.test", .base = "tunnel.test"};
  assert_int_equal(store_allocate(store, loop, &c, count, NULL, NULL), BEAM_ERR_LIMIT);
  assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
  while (answers < taken)
    loop_turn(loop, 100);
  struct got *g = ask_verify();
  assert_int_equal(g->err, 0);
  assert_int_equal(g->n, 1 + taken + 1); /* and one row that tells of the 7 */
  close_it();
  assert_int_equal(sqlite3_open(tmp_path("db"), &db), SQLITE_OK);
  sqlite3_stmt *st;
  sqlite3_prepare_v2(db, "SELECT detail FROM audit WHERE action='left-out'", -1, &st, NULL);
  assert_int_equal(sqlite3_step(st), SQLITE_ROW);
  assert_int_equal(strtol((const char *)sqlite3_column_text(st, 0), NULL, 10), 7);
  sqlite3_finalize(st);
  sqlite3_close(db);
}

/* Closing carries out what is queued. */
static void close_finishes(void **state) {
  (void)state;
  assert_int_equal(open_it(), 0);
  struct store_audit a = {.actor = "alice", .action = "bind", .subject = "x", .detail = ""};
  for (int i = 0; i < 1000; i++)
    assert_int_equal(store_audit(store, NULL, &a, NULL, NULL, NULL), 0);
  close_it();
  assert_int_equal(open_it(), 0);
  assert_int_equal(ask_verify()->n, 1000);
}

#define sqlite_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      sqlite_test(private_file),     sqlite_test(damaged),        sqlite_test(of_a_newer_beam),
      sqlite_test(of_an_older_beam), sqlite_test(changed_audit),  sqlite_test(full_disk),
      sqlite_test(file_size_limit),  sqlite_test(killed),         sqlite_test(processes_race),
      sqlite_test(full_queue),       sqlite_test(close_finishes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
