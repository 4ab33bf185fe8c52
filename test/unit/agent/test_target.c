/* What the owner may say the local service is. */
#include "../tmpdir.h"

#include <string.h>

#include "agent/target.h"

static void test_read(void **state) {
  (void)state;
  static const struct {
    const char *text, *host, *authority;
    unsigned port;
    bool tls;
  } good[] = {
      {"http://localhost:3000", "localhost", "localhost:3000", 3000, false},
      {"http://localhost", "localhost", "localhost", 80, false},
      {"http://App.Internal:80/", "app.internal", "app.internal", 80, false},
      {"https://localhost", "localhost", "localhost", 443, true},
      {"https://localhost:8443/", "localhost", "localhost:8443", 8443, true},
      {"https://127.0.0.1:80", "127.0.0.1", "127.0.0.1:80", 80, true},
      {"https://[::1]", "::1", "[::1]", 443, true},
      {"http://[::1]:3000", "::1", "[::1]:3000", 3000, false},
      {"unix:/run/app.sock", "unix:/run/app.sock", "localhost", 0, false},
      {"unix:///run/app.sock", "unix:/run/app.sock", "localhost", 0, false},
      {"unix:app.sock", "unix:app.sock", "localhost", 0, false},
  };
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    struct target t;
    assert_int_equal(target_parse(good[i].text, &t, NULL), 0);
    assert_string_equal(t.host, good[i].host);
    assert_string_equal(t.authority, good[i].authority);
    assert_int_equal(t.tls, good[i].tls);
    assert_int_equal(t.local, !good[i].port);
    if (good[i].port)
      assert_int_equal(t.port, good[i].port);
  }
  static const char *const bad[] = {"",
                                    "3000",
                                    "localhost:3000",
                                    "ftp://localhost",
                                    "http://",
                                    "http:///",
                                    "http://a/b",
                                    "http://a?b",
                                    "https://a/#",
                                    "http://me@a",
                                    "http://a:",
                                    "http://a:0",
                                    "http://a:65536",
                                    "http://a:1:2",
                                    "http://[::1",
                                    "unix:",
                                    "unix://host",
                                    "http://a b",
                                    "https://::1",
                                    "HTTP://a",
                                    "http:/a",
                                    "unix://run/a.sock",
                                    "http://-a",
                                    "http://a..b"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct target t;
    struct beam_error e = BEAM_ERROR_INIT;
    if (target_parse(bad[i], &t, &e) != BEAM_ERR_INVALID)
      fail_msg("taken: %s", bad[i]);
  }
  char text[200];
  struct target t;
  memset(text, 'x', sizeof text);
  memcpy(text, "unix:/", 6);
  text[5 + 108] = 0; /* with its terminator one more than a socket's address holds */
  assert_int_equal(target_parse(text, &t, NULL), BEAM_ERR_INVALID);
  text[5 + 107] = 0;
  assert_int_equal(target_parse(text, &t, NULL), 0);
}

/* One number for one text, never 0: names are drawn for it. */
static void test_number(void **state) {
  (void)state;
  assert_int_equal(target_number("/run/a.sock"), target_number("/run/a.sock"));
  assert_int_not_equal(target_number("/run/a.sock"), target_number("/run/b.sock"));
  for (unsigned i = 0; i < 100000; i++) {
    char text[16];
    snprintf(text, sizeof text, "%u", i);
    assert_int_not_equal(target_number(text), 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_read), cmocka_unit_test(test_number)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
