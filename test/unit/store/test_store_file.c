/* The journal: cut at every byte, spoiled at every byte, full disk, killed writers, a second process, compaction. */
#include "wait.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "store/journal.h"

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
  return store_open_file(tmp_path("j"), &store, &e);
}

static void close_it(void) {
  store_close(store);
  store = NULL;
}

static char bytes[1 << 20];

/* A journal with a few rows of each kind; its text in `bytes`. */
static size_t fill(void) {
  assert_int_equal(open_it(), 0);
  ask_name("alice", "one.tunnel.test", NULL, 3000);
  struct store_tunnel t = a_tunnel("alice", "one.tunnel.test");
  ask_put(&t);
  ask_audit("bind", "first");
  ask_name("bob", "two.tunnel.test", NULL, 3000);
  ask_release("bob", "two.tunnel.test");
  ask_audit("unbind", "second");
  close_it();
  assert_int_equal(tmp_mode("j"), 0600);
  return tmp_get("j", bytes, sizeof bytes);
}

/* The power goes while the last record is being written: what was committed before stays, the rest is cut off, and it goes on. */
static void torn_end(void **state) {
  (void)state;
  size_t n = fill();
  for (size_t cut = JOURNAL_MAGIC; cut < n; cut++) {
    tmp_put("j", bytes, cut, 0600);
    assert_int_equal(open_it(), 0);
    size_t names = ask_names(NULL)->n;
    assert_true(names <= 2);
    assert_int_equal(ask_name("carol", "three.tunnel.test", NULL, 1)->err, 0);
    close_it();
    assert_int_equal(open_it(), 0);
    assert_int_equal(ask_names(NULL)->n, names + 1);
    assert_int_equal(ask_verify()->err, 0);
    close_it();
  }
  static char grown[1 << 20]; /* the file had grown, its data had not arrived */
  memcpy(grown, bytes, n);
  tmp_put("j", grown, n + 100, 0600);
  assert_int_equal(open_it(), 0);
  assert_int_equal(ask_names(NULL)->n, 1);
}

static void damage_is_told_and_kept(void **state) {
  (void)state;
  size_t n = fill(), last = n;
  enum change what;
  union journal_row row;
  for (size_t at = JOURNAL_MAGIC; at < n;) { /* the last record: damage there looks like a torn end */
    last = at;
    at += (size_t)journal_decode((uint8_t *)bytes + at, n - at, &what, &row);
  }
  static char now[1 << 20];
  for (size_t i = 0; i < last; i++) {
    bytes[i] ^= 0x40;
    tmp_put("j", bytes, n, 0600);
    assert_int_equal(open_it(), BEAM_ERR_STORE);
    assert_null(store);
    assert_non_null(strstr(e.what, "damaged"));
    assert_int_equal(tmp_get("j", now, sizeof now), n);
    assert_memory_equal(now, bytes, n);
    bytes[i] ^= 0x40;
  }
  tmp_put("j", bytes, 5, 0600); /* not even the first bytes */
  assert_int_equal(open_it(), BEAM_ERR_STORE);
}

static void one_process_at_a_time(void **state) {
  (void)state;
  struct store *second;
  assert_int_equal(open_it(), 0);
  assert_int_equal(store_open_file(tmp_path("j"), &second, &e), BEAM_ERR_STORE);
  assert_non_null(strstr(e.what, "another process"));
  close_it();
  assert_int_equal(open_it(), 0);
}

/* A row that was changed with its checksum put right: opening is fine, the chain says which row. */
static void changed_audit(void **state) {
  (void)state;
  size_t n = fill(), at = JOURNAL_MAGIC, len;
  enum change what;
  union journal_row row;
  while ((len = (size_t)journal_decode((uint8_t *)bytes + at, n - at, &what, &row)) && what != CHANGE_AUDIT)
    at += len;
  assert_int_equal(row.audit.seq, 1);
  row.audit.detail[0] ^= 1;
  uint8_t record[RECORD_MAX];
  assert_int_equal(journal_encode(record, CHANGE_AUDIT, &row.audit), len);
  memcpy(bytes + at, record, len);
  tmp_put("j", bytes, n, 0600);
  assert_int_equal(open_it(), 0);
  struct got *g = ask_verify();
  assert_int_equal(g->err, BEAM_ERR_STORE);
  assert_int_equal(g->seq, 1);
}

/* Made smaller while it runs: a relay is not started again for months. What is forgotten of the chain is then gone from the disk. */
static void small_again(void **state) {
  (void)state;
  static char big[8 << 20];
  assert_int_equal(open_it(), 0);
  set_days(0);
  ask_audit("bind", "long-ago");
  assert_int_equal(live_until(0, 401), 1);
  assert_int_equal(ask_audit("bind", "before")->seq, 2);
  struct store_tunnel t = a_tunnel("alice", "one.tunnel.test");
  struct got g = {0};
  ask_name("alice", "one.tunnel.test", NULL, 3000);
  for (int i = 1; i <= 12000; i++) {
    bool wait = i % 1000 == 0; /* the queue is bounded */
    assert_int_equal(store_tunnel_put(store, loop, &t, wait ? on_got : NULL, &g, NULL), 0);
    if (wait) {
      wait_for(&g);
      g.done = false;
    }
  }
  ask_audit("bind", "after");
  close_it();
  size_t n = tmp_get("j", big, sizeof big); /* 12,000 records were 2.5 MB */
  assert_true(n > 4096 && n < 1200 * 1024);
  assert_null(memmem(big, n, "long-ago", 8));
  assert_int_equal(open_it(), 0);
  assert_int_equal(tmp_mode("j"), 0600);
  assert_int_equal(ask_tunnels(NULL, false)->n, 1);
  assert_int_equal(ask_names("alice")->n, 1);
  assert_int_equal(ask_audit("bind", "later")->seq, 4);
  close_it();
  assert_int_equal(open_it(), 0);
  struct got *v = ask_verify();
  assert_int_equal(v->err, 0);
  assert_int_equal(v->n, 3);
}

/* A size limit of the process stands for the full disk: refused with text, what is there stays, and it goes on when there is room. */
static void full_disk(void **state) {
  (void)state;
  pid_t pid = fork();
  if (pid == 0) {
    struct rlimit lim = {4096, 1 << 20};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &lim);
    assert_int_equal(loop_new(&loop) | open_it(), 0);
    char name[STORE_NAME];
    unsigned stored = 0;
    struct got *g;
    for (;; stored++) {
      snprintf(name, sizeof name, "n%u.tunnel.test", stored);
      g = ask_name("alice", name, NULL, 1);
      if (g->err)
        break;
    }
    assert_int_equal(g->err, BEAM_ERR_STORE);
    assert_true(*g->error.what && *g->error.hint);
    assert_int_equal(ask_names(NULL)->n, stored); /* memory is as the file */
    lim.rlim_cur = lim.rlim_max;
    setrlimit(RLIMIT_FSIZE, &lim);
    assert_int_equal(ask_name("alice", name, NULL, 1)->err, 0);
    close_it();
    assert_int_equal(open_it(), 0);
    assert_int_equal(ask_names(NULL)->n, stored + 1);
    close_it();
    loop_free(loop);
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  assert_int_equal(status, 0);
}

/* kill -9 at any moment: every name whose answer had come is there. */
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
        if (ask_name(who, name, NULL, 1)->err || write(said[1], &i, sizeof i) != sizeof i)
          _exit(1);
      }
    }
    close(said[1]);
    uint32_t last = 0;
    while (last < (uint32_t)(5 + round * 3) && read(said[0], &last, sizeof last) == sizeof last)
      ;
    kill(pid, SIGKILL);
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status));                        /* it was at work until then */
    while (read(said[0], &last, sizeof last) == sizeof last) /* what it said before it died counts too */
      ;
    close(said[0]);
    assert_int_equal(open_it(), 0);
    for (uint32_t i = 0; i <= last; i++) {
      char name[STORE_NAME];
      snprintf(name, sizeof name, "r%d-%u.tunnel.test", round, i);
      assert_int_equal(ask_name("thief", name, NULL, 1)->err, BEAM_ERR_TAKEN);
    }
    close_it();
  }
}

#define file_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {file_test(torn_end),      file_test(damage_is_told_and_kept),
                                     file_test(changed_audit), file_test(one_process_at_a_time),
                                     file_test(small_again),   file_test(full_disk),
                                     file_test(killed)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
