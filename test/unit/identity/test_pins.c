/* Relays met before: new, known, changed, damaged, and two agents writing at once. */
#include "../tmpdir.h"

#include <sys/wait.h>

#include "identity/pins.h"

static struct beam_error e = BEAM_ERROR_INIT;
static const uint8_t one[32] = {1}, two[32] = {2};

static void first_use(void **state) {
  (void)state;
  const char *dir = tmp_path("data");
  assert_int_equal(pins_check(dir, "relay.test:443", one, &e), PIN_NEW);
  assert_int_equal(access(dir, F_OK), -1); /* looking makes nothing */
  assert_int_equal(pins_remember(dir, "relay.test:443", one, &e), 0);
  assert_int_equal(tmp_mode("data/known_relays"), 0600);
  assert_int_equal(pins_check(dir, "relay.test:443", one, &e), PIN_KNOWN);
  assert_int_equal(pins_check(dir, "RELAY.test:443", one, &e), PIN_KNOWN);
  assert_int_equal(pins_check(dir, "relay.test:8443", one, &e), PIN_NEW);
  assert_int_equal(pins_check(dir, "relay.test:44", one, &e), PIN_NEW);
  assert_int_equal(pins_check(dir, "relay.test:443", two, &e), BEAM_ERR_UNTRUSTED);
  assert_non_null(strstr(e.what, "relay.test:443"));
  assert_non_null(strstr(e.hint, "known_relays"));
  assert_int_equal(pins_remember(dir, "[::1]:8443", two, &e), 0);
  assert_int_equal(pins_check(dir, "[::1]:8443", two, &e), PIN_KNOWN);
  assert_int_equal(pins_check(dir, "relay.test:443", one, &e), PIN_KNOWN);

  assert_int_equal(pins_remember(dir, "relay.test:443", two, &e), 0);
  assert_int_equal(pins_check(dir, "relay.test:443", two, &e), PIN_KNOWN);
  char text[1024];
  tmp_get("data/known_relays", text, sizeof text);
  char *line = strstr(text, "relay.test:443 ");
  assert_non_null(line);
  assert_null(strstr(line + 1, "relay.test:443 ")); /* replaced, not added */

  assert_int_equal(pins_forget(dir, "relay.test:443", &e), 0);
  assert_int_equal(pins_check(dir, "relay.test:443", one, &e), PIN_NEW);
  assert_int_equal(pins_forget(dir, "relay.test:443", &e), BEAM_ERR_NOT_FOUND);
  assert_int_equal(pins_check(dir, "[::1]:8443", two, &e), PIN_KNOWN);
}

static void comments_stay(void **state) {
  (void)state;
  static const char text[] =
      "# mine\n\na.test:1 sha256:0100000000000000000000000000000000000000000000000000000000000000";
  tmp_put("known_relays", text, sizeof text - 1, 0600);
  assert_int_equal(pins_check(tmp, "a.test:1", one, &e), PIN_KNOWN);
  assert_int_equal(pins_remember(tmp, "b.test:1", two, &e), 0);
  assert_int_equal(pins_check(tmp, "a.test:1", one, &e), PIN_KNOWN);
  assert_int_equal(pins_check(tmp, "b.test:1", two, &e), PIN_KNOWN);
  char now[1024];
  tmp_get("known_relays", now, sizeof now);
  assert_memory_equal(now, text, sizeof text - 1);
}

static void damaged(void **state) {
  (void)state;
  static const char good[] =
      "a.test:1 sha256:0100000000000000000000000000000000000000000000000000000000000000";
  char now[1024];
  for (size_t cut = 1; cut < sizeof good - 1; cut++) {
    tmp_put("known_relays", good, cut, 0600);
    assert_int_equal(pins_check(tmp, "b.test:1", one, &e), BEAM_ERR_INVALID);
    assert_non_null(strstr(e.what, "line 1"));
    assert_int_equal(pins_remember(tmp, "b.test:1", one, &e), BEAM_ERR_INVALID);
    assert_int_equal(tmp_get("known_relays", now, sizeof now), cut);
  }
  tmp_put("known_relays", good, sizeof good - 1, 0666);
  assert_int_equal(pins_check(tmp, "a.test:1", one, &e), BEAM_ERR_PERMISSION);
  static const char *bad[] = {"", "a b:1", "#a:1", "a:1\nb:2"};
  for (size_t i = 0; i < 4; i++)
    assert_int_equal(pins_remember(tmp_path("x"), bad[i], one, &e), BEAM_ERR_INVALID);
}

static void written_at_once(void **state) {
  (void)state;
  enum { KIDS = 4, EACH = 10 };
  for (int i = 0; i < KIDS; i++) {
    if (fork())
      continue;
    for (int k = 0; k < EACH; k++) {
      char relay[32];
      snprintf(relay, sizeof relay, "r%d-%d.test:1", i, k);
      if (pins_remember(tmp, relay, one, NULL))
        _exit(1);
    }
    _exit(0);
  }
  for (int i = 0, status; i < KIDS; i++) {
    wait(&status);
    assert_int_equal(status, 0);
  }
  for (int i = 0; i < KIDS; i++)
    for (int k = 0; k < EACH; k++) {
      char relay[32];
      snprintf(relay, sizeof relay, "r%d-%d.test:1", i, k);
      assert_int_equal(pins_check(tmp, relay, one, &e), PIN_KNOWN);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {tmp_test(first_use), tmp_test(comments_stay), tmp_test(damaged),
                                     tmp_test(written_at_once)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
