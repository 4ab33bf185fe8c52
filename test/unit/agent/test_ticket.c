/* Sessions to resume: kept with the relay's CA, taken once, bounded. */
#include "../tmpdir.h"

#include <sys/stat.h>

#include "agent/ticket.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/str.h"

static uint8_t ca[32];

static int keep(const char *relay, const char *session) {
  return ticket_keep(tmp, relay, ca, (const uint8_t *)session, strlen(session));
}

static const char *take(const char *relay) {
  static char text[64];
  uint8_t *p, whose[32];
  size_t n;
  if (ticket_take(tmp, relay, whose, &p, &n))
    return "";
  assert_memory_equal(whose, ca, 32);
  str_fmt(text, sizeof text, "%.*s", (int)n, (const char *)p);
  free(p);
  return text;
}

static void test_taken_once(void **state) {
  (void)state;
  struct stat st;
  char path[PATH_ROOM];
  memset(ca, 0xc4, sizeof ca);
  assert_string_equal(take("r:443"), "");
  assert_int_equal(keep("r:443", "one"), 0);
  assert_int_equal(keep("q:443", "other"), 0);
  assert_int_equal(keep("r:443", "two"), 0);
  path_join(path, tmp, "sessions", NULL);
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0600);
  assert_string_equal(take("r:44"), "");
  assert_string_equal(take("r:443"), "two");
  assert_string_equal(take("r:443"), "");
  assert_string_equal(take("q:443"), "other");
}

static void test_bounds(void **state) {
  (void)state;
  static uint8_t large[LIMIT_QUIC_SESSION + 1];
  assert_int_equal(keep("with blank", "x"), BEAM_ERR_INVALID);
  assert_int_equal(keep("", "x"), BEAM_ERR_INVALID);
  assert_int_equal(keep("r", ""), BEAM_ERR_INVALID);
  assert_int_equal(ticket_keep(tmp, "r", ca, large, sizeof large), BEAM_ERR_INVALID);
  for (int i = 0; i < 20; i++) {
    char relay[16];
    str_fmt(relay, sizeof relay, "r%d", i);
    assert_int_equal(ticket_keep(tmp, relay, ca, large, LIMIT_QUIC_SESSION), 0);
  }
  uint8_t *p, whose[32];
  size_t n;
  assert_int_equal(ticket_take(tmp, "r3", whose, &p, &n), BEAM_ERR_NOT_FOUND);
  assert_int_equal(ticket_take(tmp, "r4", whose, &p, &n), 0);
  assert_int_equal(n, LIMIT_QUIC_SESSION);
  free(p);
}

static void test_damaged_files(void **state) {
  (void)state;
  static const char *const texts[] = {"r", "r ", "r x", "r 00 00", "r \n\n\n", "\n", " ", "r zz zz\nr:443"};
  char path[PATH_ROOM], whole[256] = "r ";
  path_join(path, tmp, "sessions", NULL);
  memset(whole + 2, 'a', 64);
  str_copy(whole + 66, sizeof whole - 66, " 6f6e65\n");
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    assert_int_equal(file_write(path, 0600, texts[i], strlen(texts[i]), NULL), 0);
    assert_string_equal(take("r"), "");
  }
  memset(ca, 0xaa, sizeof ca);
  for (size_t n = 0; n <= strlen(whole); n++) {
    assert_int_equal(file_write(path, 0600, whole, n, NULL), 0);
    const char *got = take("r");
    assert_true(!*got || !strncmp("one", got, strlen(got)));
  }
  assert_int_equal(file_write(path, 0600, whole, strlen(whole), NULL), 0);
  assert_int_equal(chmod(path, 0644), 0); /* others could have read it: it is none */
  assert_string_equal(take("r"), "");
}

int main(void) {
  const struct CMUnitTest tests[] = {tmp_test(test_taken_once), tmp_test(test_bounds),
                                     tmp_test(test_damaged_files)};
  return cmocka_run_group_tests_name("agent/ticket", tests, NULL, NULL);
}
