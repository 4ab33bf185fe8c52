/* The table of bytes against the RFC's words, and the eight-at-a-time search against the plain one. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "wire/chars.h"

static void knows_every_byte(void **state) {
  (void)state;
  for (int c = 0; c < 256; c++) {
    bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    bool token = alnum || (c && strchr("!#$%&'*+-.^_`|~", c));
    bool visible = c > 0x20 && c != 0x7f;
    assert_int_equal(char_is((char)c, CHAR_TOKEN), token);
    assert_int_equal(char_is((char)c, CHAR_VALUE), visible || c == ' ' || c == '\t');
    assert_int_equal(char_is((char)c, CHAR_TARGET), visible && c != '#');
  }
}

static void finds_the_first_bad_byte(void **state) {
  (void)state;
  char text[40];
  for (size_t n = 0; n <= sizeof text; n++)
    for (size_t at = 0; at < n; at++)
      for (int c = 0; c < 256; c++) {
        memset(text, 'x', sizeof text);
        text[at] = (char)c;
        bool ok = char_is((char)c, CHAR_VALUE);
        assert_ptr_equal(char_bad_value(text, n), ok ? NULL : text + at);
        if (at + 1 < n) { /* the first of two, whatever stands beside it */
          text[at + 1] = 0x01;
          assert_ptr_equal(char_bad_value(text, n), ok ? text + at + 1 : text + at);
        }
      }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(knows_every_byte),
                                     cmocka_unit_test(finds_the_first_bad_byte)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
