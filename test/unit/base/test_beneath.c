/* Nothing outside of the directory, whatever the path and whatever lies there. */
#include "../tmpdir.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"

static void put(const char *dir, const char *name, const char *text) {
  char path[PATH_ROOM];
  assert_int_equal(path_join(path, dir, name, NULL), 0);
  assert_int_equal(file_write(path, 0644, text, strlen(text), NULL), 0);
}

static int open_both(int root, const char *path, bool steps) {
  return steps ? beneath_open_steps(root, path, O_RDONLY) : beneath_open(root, path, O_RDONLY);
}

static void test_beneath(void **state) {
  char in[128], path[PATH_ROOM];
  const char *dir = tmp;
  (void)state;
  snprintf(in, sizeof in, "%s/in", dir);
  assert_int_equal(mkdir(in, 0755), 0);
  snprintf(path, sizeof path, "%s/sub", in);
  assert_int_equal(mkdir(path, 0755), 0);
  put(dir, "secret", "secret");
  put(in, "a", "a");
  put(path, "b", "b");
  static const char *const links[][2] = {{"../secret", "out"},   {"a", "to-a"},       {"sub", "to-sub"},
                                         {"/etc/passwd", "abs"}, {"..", "up"},        {"self", "self"},
                                         {"sub/../a", "round"},  {"../in/a", "again"}};
  for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
    snprintf(path, sizeof path, "%s/%s", in, links[i][1]);
    assert_int_equal(symlink(links[i][0], path), 0);
  }
  static const struct {
    const char *path;
    int full, steps; /* 0: opens */
  } table[] = {{"a", 0, 0},           {"sub/b", 0, 0},     {"sub", 0, 0},       {"", 0, 0},
               {"to-a", 0, 1},        {"to-sub/b", 0, 1},  {"round", 0, 1},     {"out", 1, 1},
               {"abs", 1, 1},         {"up/secret", 1, 1}, {"up", 1, 1},        {"self", 1, 1},
               {"again", 1, 1},       {"..", 1, 1},        {"../secret", 1, 1}, {"sub/../../secret", 1, 1},
               {"/etc/passwd", 1, 1}, {"a/b", 1, 1},       {"none", 1, 1},      {"sub/none", 1, 1}};
  int root = open(in, O_PATH | O_DIRECTORY | O_CLOEXEC);
  assert_true(root >= 0);
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    for (int steps = 0; steps < 2; steps++) {
      int fd = open_both(root, table[i].path, steps);
      int want = steps ? table[i].steps : table[i].full;
      if ((fd < 0) != want || (want && fd != BEAM_ERR_NOT_FOUND))
        fail_msg("\"%s\" steps=%d: %d", table[i].path, steps, fd);
      if (fd >= 0)
        close(fd);
    }
  char longest[5000];
  memset(longest, 'x', sizeof longest - 1);
  longest[sizeof longest - 1] = 0;
  for (int steps = 0; steps < 2; steps++)
    assert_int_equal(open_both(root, longest, steps), BEAM_ERR_NOT_FOUND);
  close(root);
}

int main(void) {
  const struct CMUnitTest tests[] = {tmp_test(test_beneath)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
