/* Log lines: level, shape, what strangers put into them, and the gate that keeps floods out. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "base/log.h"

static unsigned lines;
static char last[2048];
static enum beam_log_level last_level;

static void sink(void *user, enum beam_log_level level, const char *line) {
  assert_ptr_equal(user, &lines);
  assert_true(strlen(line) < sizeof last);
  memcpy(last, line, strlen(line) + 1);
  last_level = level;
  lines++;
}

static int listen_all(void **state) {
  (void)state;
  lines = 0;
  *last = 0;
  beam_log_to(sink, &lines, BEAM_LOG_DEBUG);
  return 0;
}

static int listen_none(void **state) {
  (void)state;
  beam_log_to(NULL, NULL, BEAM_LOG_DEBUG);
  return 0;
}

static int formatted;
static int count_formatting(void) {
  return ++formatted;
}

static void filters_by_level(void **state) {
  (void)state;
  static const enum beam_log_level levels[] = {BEAM_LOG_ERROR, BEAM_LOG_WARN, BEAM_LOG_INFO, BEAM_LOG_DEBUG};
  for (unsigned i = 0; i < 4; i++) {
    beam_log_to(sink, &lines, levels[i]);
    lines = 0;
    log_error("x", "e");
    assert_int_equal(last_level, BEAM_LOG_ERROR);
    log_warn("x", "w");
    log_info("x", "i");
    log_debug("x", "d");
    assert_int_equal(lines, i + 1);
    assert_int_equal(last_level, levels[i]);
  }
  beam_log_to(sink, &lines, BEAM_LOG_WARN);
  log_info("x", "%d", count_formatting());
  assert_int_equal(formatted, 0); /* a line nobody wants costs nothing */
  listen_none(NULL);
  lines = 0;
  log_error("x", "%d", count_formatting());
  log_write(BEAM_LOG_ERROR, "x", "straight");
  assert_int_equal(lines, 0);
  assert_int_equal(formatted, 0);
}

static void writes_one_line(void **state) {
  (void)state;
  log_info("relay", "tunnel up name=%s", "shop");
  assert_string_equal(last, "relay: tunnel up name=shop");
  log_info("relay", "name=%s", "a\r\nforged: line\x1b[31m\x7f\t");
  assert_string_equal(last, "relay: name=a??forged: line?[31m??");
  char big[3000];
  memset(big, 'x', sizeof big - 1);
  big[sizeof big - 1] = 0;
  log_info("relay", "%s", big);
  assert_int_equal(strlen(last), 1023);
  log_write(BEAM_LOG_INFO, big, "%s", big); /* a room without end */
  assert_int_equal(strlen(last), 1023);
}

static void limited(void) {
  log_limited(BEAM_LOG_WARN, "sniff", "garbage");
}

static void gates_floods(void **state) {
  (void)state;
  struct log_gate g = {0};
  unsigned dropped, open = 0, told = 0;
  for (int i = 0; i < 1000; i++) {
    open += log_gate_open(&g, &dropped);
    told += dropped;
  }
  assert_in_range(open, 10, 50); /* a second may have ended on the way */
  assert_int_equal(open + told + atomic_load(&g.dropped), 1000);
  unsigned waiting = atomic_load(&g.dropped);
  assert_true(waiting > 0);
  atomic_store(&g.window, 1); /* as if a second had passed */
  assert_true(log_gate_open(&g, &dropped));
  assert_int_equal(dropped, waiting);
  atomic_store(&g.window, 1);
  assert_true(log_gate_open(&g, &dropped));
  assert_int_equal(dropped, 0);

  lines = 0;
  for (int i = 0; i < 1000; i++)
    limited();
  assert_in_range(lines, 10, 60);
  beam_log_to(sink, &lines, BEAM_LOG_ERROR);
  lines = 0;
  limited();
  assert_int_equal(lines, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(filters_by_level, listen_all, listen_none),
      cmocka_unit_test_setup_teardown(writes_one_line, listen_all, listen_none),
      cmocka_unit_test_setup_teardown(gates_floods, listen_all, listen_none),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
