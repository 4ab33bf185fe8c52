#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "wire/proxyline.h"

static void test_text(void **state) {
  (void)state;
  static const struct {
    const char *visitor, *local, *want;
  } rows[] = {
      {"203.0.113.9:51234", "192.0.2.1:443", "PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n"},
      {"[2001:DB8:0::1]:1", "[::1]:65535", "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"},
      {"203.0.113.9:51234", "[::1]:443", "PROXY UNKNOWN\r\n"},
      {"unix:", ":443", "PROXY UNKNOWN\r\n"},
      {"", "", "PROXY UNKNOWN\r\n"},
      {"203.0.113.9:99999", "192.0.2.1:443", "PROXY UNKNOWN\r\n"},
      {"1.2.3.4:5\r\nX", "192.0.2.1:443", "PROXY UNKNOWN\r\n"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char out[PROXYLINE_MAX];
    size_t n = proxyline_write(1, rows[i].visitor, rows[i].local, out);
    assert_int_equal(n, strlen(rows[i].want));
    assert_memory_equal(out, rows[i].want, n);
  }
}

static void test_binary(void **state) {
  (void)state;
  static const uint8_t v4[] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49,
                               0x54, 0x0a, 0x21, 0x11, 0,    12,   203,  0,    113,  9,
                               192,  0,    2,    1,    0xc8, 0x22, 0x01, 0xbb};
  char out[PROXYLINE_MAX];
  assert_int_equal(proxyline_write(2, "203.0.113.9:51234", "192.0.2.1:443", out), sizeof v4);
  assert_memory_equal(out, v4, sizeof v4);
  assert_int_equal(proxyline_write(2, "[2001:db8::1]:1", "[::1]:2", out), 16 + 36);
  assert_int_equal((uint8_t)out[13], 0x21);
  assert_int_equal((uint8_t)out[15], 36);
  assert_int_equal(proxyline_write(2, "", ":443", out), 16); /* LOCAL */
  assert_int_equal((uint8_t)out[12], 0x20);
  assert_int_equal(proxyline_write(3, "203.0.113.9:51234", "192.0.2.1:443", out), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_binary)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
