/* The agents' token file: what is taken, what is refused and how that reads. */
#include "../tmpdir.h"

#include "identity/tokens.h"

static struct beam_error e = BEAM_ERROR_INIT;

static void put(const char *text) {
  tmp_put("tokens", text, strlen(text), 0600);
}

static void matches(void **state) {
  (void)state;
  struct tokens *t;
  put("# agents of the office\n\n0123456789abcdef\n  "
      "fedcba9876543210fedcba9876543210\t\r\nlast-one-without-newline");
  assert_int_equal(tokens_load(tmp_path("tokens"), &t, &e), 0);
  assert_int_equal(tokens_count(t), 3);
  static const struct {
    const char *token;
    bool yes;
  } rows[] = {{"0123456789abcdef", true},
              {"fedcba9876543210fedcba9876543210", true},
              {"last-one-without-newline", true},
              {"0123456789abcde", false},
              {"0123456789abcdef0", false},
              {"0123456789ABCDEF", false},
              {"# agents of the office", false},
              {"", false},
              {NULL, false},
              {"  fedcba9876543210fedcba9876543210", false}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    assert_int_equal(tokens_match(t, rows[i].token), rows[i].yes);
  char big[5000];
  memset(big, 'a', sizeof big);
  big[4999] = 0;
  assert_false(tokens_match(t, big));
  tokens_free(t);
  tokens_free(NULL);
}

static void refuses(void **state) {
  (void)state;
  struct tokens *t;
  char big[1100];
  memset(big, 'a', sizeof big);
  big[1025] = 0;
  const struct {
    const char *text, *says;
  } rows[] = {{"", "no token"},
              {"# only a comment\n", "no token"},
              {"0123456789abcdef\nshort\n", "line 2"},
              {"with space in the middle\n", "line 1"},
              {big, "line 1"}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    put(rows[i].text);
    assert_int_equal(tokens_load(tmp_path("tokens"), &t, &e), BEAM_ERR_INVALID);
    assert_null(t);
    assert_non_null(strstr(e.what, rows[i].says));
    assert_null(strstr(e.what, "short\n")); /* never shown */
  }
  assert_int_equal(tokens_load(tmp_path("none"), &t, &e), BEAM_ERR_NOT_FOUND);
  tmp_put("tokens", "0123456789abcdef", 16, 0644);
  assert_int_equal(tokens_load(tmp_path("tokens"), &t, &e), BEAM_ERR_PERMISSION);
}

int main(void) {
  const struct CMUnitTest tests[] = {tmp_test(matches), tmp_test(refuses)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
