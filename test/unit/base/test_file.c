/* Small files that survive: modes, atomic replacement, refusals, a full disk, locks between processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"
#include "base/str.h"

static char dir[64], path[PATH_ROOM];

static int make_dir(void **state) {
  (void)state;
  base_init();
  str_copy(dir, sizeof dir, "/tmp/beam-file-XXXXXX");
  assert_non_null(mkdtemp(dir));
  return path_join(path, dir, "f", NULL);
}

static unsigned entries(const char *d) {
  DIR *h = opendir(d);
  unsigned n = 0;
  for (struct dirent *x; (x = readdir(h));)
    n += x->d_name[0] != '.';
  closedir(h);
  return n;
}

static int remove_dir(void **state) {
  (void)state;
  DIR *h = opendir(dir);
  for (struct dirent *x; (x = readdir(h));)
    unlinkat(dirfd(h), x->d_name, 0);
  closedir(h);
  return rmdir(dir);
}

static void writes_and_reads(void **state) {
  (void)state;
  struct beam_error e = BEAM_ERROR_INIT;
  static const struct {
    mode_t mode;
    const char *text;
  } rows[] = {{0600, "first"}, {0644, "second, longer"}, {0600, ""}};
  for (size_t i = 0; i < 3; i++) {
    assert_int_equal(file_write(path, rows[i].mode, rows[i].text, strlen(rows[i].text), &e), 0);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, rows[i].mode);
    char *p;
    size_t n;
    assert_int_equal(file_read(path, 100, &p, &n, &e), 0);
    assert_int_equal(n, strlen(rows[i].text));
    assert_string_equal(p, rows[i].text);
    free(p);
  }
  assert_int_equal(entries(dir), 1); /* no temporary file stays */
}

static void refuses(void **state) {
  (void)state;
  struct beam_error e = BEAM_ERROR_INIT;
  char *p = NULL;
  size_t n;
  assert_int_equal(file_read(path, 100, &p, &n, &e), BEAM_ERR_NOT_FOUND);
  assert_non_null(strstr(e.what, path));
  assert_int_equal(file_write(path, 0640, "12345", 5, &e), 0);
  assert_int_equal(file_read(path, 4, &p, &n, &e), BEAM_ERR_TOO_LARGE);
  assert_int_equal(file_read_secret(path, 100, &p, &n, &e), BEAM_ERR_PERMISSION);
  assert_non_null(strstr(e.hint, "chmod 600"));
  assert_int_equal(file_read(dir, 100, &p, &n, &e), BEAM_ERR_INVALID);
  assert_null(p);
  assert_int_equal(chmod(path, 0600), 0);
  assert_int_equal(file_read_secret(path, 100, &p, &n, &e), 0);
  free(p);
}

static void makes_directories(void **state) {
  (void)state;
  struct beam_error e = BEAM_ERROR_INIT;
  char a[PATH_ROOM], b[PATH_ROOM];
  path_join(a, dir, "a", NULL);
  path_join(b, dir, "a/b/", NULL);
  mode_t old = umask(0);
  assert_int_equal(dir_make_private(b, &e), 0);
  assert_int_equal(dir_make_private(b, &e), 0);
  umask(old);
  struct stat st;
  assert_int_equal(stat(b, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0700);
  assert_int_equal(file_write(path, 0600, "", 0, &e), 0);
  assert_int_equal(dir_make_private(path, &e), BEAM_ERR_INVALID);
  assert_int_equal(dir_make_private("", &e), BEAM_ERR_INVALID);
  rmdir(b);
  rmdir(a);
}

/* A size limit of the process stands for the full disk: the old content stays, nothing else does. */
static void full_disk_keeps_the_old(void **state) {
  (void)state;
  assert_int_equal(file_write(path, 0600, "old", 3, NULL), 0);
  pid_t pid = fork();
  if (pid == 0) {
    static char big[10000];
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit lim = {4096, 4096};
    struct beam_error e = BEAM_ERROR_INIT;
    _exit(setrlimit(RLIMIT_FSIZE, &lim) || file_write(path, 0600, big, sizeof big, &e) != BEAM_ERR_STORE ||
          !*e.what);
  }
  int status;
  waitpid(pid, &status, 0);
  assert_int_equal(status, 0);
  char *p;
  size_t n;
  assert_int_equal(file_read(path, 100, &p, &n, NULL), 0);
  assert_string_equal(p, "old");
  free(p);
  assert_int_equal(entries(dir), 1);
}

/* Children count in a file under the lock; without the lock counts are lost. */
static void lock_excludes(void **state) {
  (void)state;
  enum { KIDS = 4, ROUNDS = 200 };
  assert_int_equal(file_write(path, 0600, "0", 1, NULL), 0);
  pid_t pids[KIDS];
  for (int i = 0; i < KIDS; i++) {
    pids[i] = fork();
    if (pids[i])
      continue;
    for (int k = 0; k < ROUNDS; k++) {
      int lock = file_lock(dir, "lock", NULL);
      int fd = open(path, O_RDWR);
      char text[16] = "";
      if (lock < 0 || fd < 0 || pread(fd, text, 15, 0) < 0)
        _exit(1);
      int len = snprintf(text, sizeof text, "%d", (int)strtol(text, NULL, 10) + 1);
      if (pwrite(fd, text, (size_t)len, 0) != len)
        _exit(1);
      close(fd);
      close(lock);
    }
    _exit(0);
  }
  for (int i = 0; i < KIDS; i++) {
    int status;
    waitpid(pids[i], &status, 0);
    assert_int_equal(status, 0);
  }
  char *p;
  size_t n;
  assert_int_equal(file_read(path, 100, &p, &n, NULL), 0);
  assert_int_equal((int)strtol(p, NULL, 10), KIDS * ROUNDS);
  free(p);
}

static void hashes(void **state) {
  (void)state;
  uint8_t a[HASH_BYTES], b[HASH_BYTES];
  char hex[2 * HASH_BYTES + 1];
  hash_sha256(a, "abc", 3); /* FIPS 180-2 B.1 */
  hex_encode(hex, a, sizeof a);
  assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  struct hash h;
  hash_begin(&h);
  hash_add(&h, "a", 1);
  hash_add(&h, NULL, 0);
  hash_add(&h, "bc", 2);
  hash_end(&h, b);
  assert_memory_equal(a, b, sizeof a);
  hash_begin(&h); /* ("ab","c") and ("a","bc") must differ */
  hash_field(&h, "ab", 2);
  hash_field(&h, "c", 1);
  hash_end(&h, a);
  hash_begin(&h);
  hash_field(&h, "a", 1);
  hash_field(&h, "bc", 2);
  hash_end(&h, b);
  assert_memory_not_equal(a, b, sizeof a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(writes_and_reads, make_dir, remove_dir),
      cmocka_unit_test_setup_teardown(refuses, make_dir, remove_dir),
      cmocka_unit_test_setup_teardown(makes_directories, make_dir, remove_dir),
      cmocka_unit_test_setup_teardown(full_disk_keeps_the_old, make_dir, remove_dir),
      cmocka_unit_test_setup_teardown(lock_excludes, make_dir, remove_dir),
      cmocka_unit_test(hashes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
