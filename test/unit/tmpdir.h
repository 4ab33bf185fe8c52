/* tmpdir.h: a directory of its own for each test, gone afterwards. */
#ifndef TEST_TMPDIR_H
#define TEST_TMPDIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/random.h"

static char tmp[64];

static inline int tmp_make(void **state) {
  (void)state;
  const char *in = getenv("TMPDIR");
  snprintf(tmp, sizeof tmp, "%s/beam-test-XXXXXX", in && strlen(in) < 40 ? in : "/tmp");
  return base_init() || !mkdtemp(tmp);
}

static inline int tmp_unlink(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
  (void)st;
  (void)flag;
  (void)ftw;
  return remove(path);
}

static inline int tmp_remove(void **state) {
  (void)state;
  return nftw(tmp, tmp_unlink, 8, FTW_DEPTH | FTW_PHYS);
}

/* tmp + "/" + name, in one of a few static buffers. */
static inline const char *tmp_path(const char *name) {
  static char paths[4][128];
  static unsigned next;
  char *p = paths[next++ % 4];
  snprintf(p, sizeof paths[0], "%s/%s", tmp, name);
  return p;
}

static inline void tmp_put(const char *name, const void *p, size_t n, mode_t mode) {
  int fd = open(tmp_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, p, n), (ssize_t)n);
  assert_int_equal(fchmod(fd, mode), 0);
  close(fd);
}

static inline size_t tmp_get(const char *name, char *p, size_t cap) {
  int fd = open(tmp_path(name), O_RDONLY);
  assert_true(fd >= 0);
  ssize_t n = read(fd, p, cap - 1);
  assert_true(n >= 0);
  p[n] = 0;
  close(fd);
  return (size_t)n;
}

static inline mode_t tmp_mode(const char *name) {
  struct stat st;
  assert_int_equal(stat(tmp_path(name), &st), 0);
  return st.st_mode & 0777;
}

#define tmp_test(f) cmocka_unit_test_setup_teardown(f, tmp_make, tmp_remove)

#endif
