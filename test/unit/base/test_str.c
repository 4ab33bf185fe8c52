/* Spans, bounded copies, numbers, hex. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/str.h"

static void compares_spans(void **state) {
  (void)state;
  struct span none = {0};
  assert_true(span_eq(none, span_of("")));
  assert_true(span_eq(none, span_of(NULL)));
  assert_true(span_ieq(none, none));
  assert_true(span_eq(SPAN("abc"), span_of("abc")));
  assert_false(span_eq(SPAN("abc"), SPAN("abd")));
  assert_false(span_eq(SPAN("abc"), SPAN("ab")));
  assert_false(span_eq(SPAN("abc"), SPAN("ABC")));
  assert_true(span_ieq(SPAN("Content-Length"), SPAN("cONTENT-lENGTH")));
  assert_false(span_ieq(SPAN("a\0b"), SPAN("a\0c"))); /* a NUL ends nothing */
  assert_false(span_eq(SPAN("a\0b"), SPAN("a\0c")));
  for (int a = 0; a < 256; a++)
    for (int b = 0; b < 256; b++) {
      char x = (char)a, y = (char)b;
      bool letters = (a | 0x20) == (b | 0x20) && (a | 0x20) >= 'a' && (a | 0x20) <= 'z' && a < 128 && b < 128;
      assert_int_equal(span_ieq((struct span){&x, 1}, (struct span){&y, 1}), a == b || letters);
    }
}

static void copies_texts(void **state) {
  (void)state;
  char *d = span_dup((struct span){"abcdef", 3});
  assert_string_equal(d, "abc");
  free(d);
  d = span_dup((struct span){0});
  assert_string_equal(d, "");
  free(d);
  d = str_dup("x");
  assert_string_equal(d, "x");
  free(d);
  assert_null(str_dup(NULL));

  char to[5];
  for (size_t n = 0; n < 8; n++) {
    static const char from[] = "1234567";
    memset(to, '?', sizeof to);
    const char *src = from + 7 - n;
    assert_int_equal(str_copy(to, sizeof to, src), n < sizeof to);
    assert_int_equal(strlen(to), n < sizeof to ? n : 4);
    assert_memory_equal(to, src, strlen(to));
    memset(to, '?', sizeof to);
    assert_int_equal(span_copy(to, sizeof to, (struct span){from, n}),
                     n < sizeof to); /* whatever comes after it */
    assert_int_equal(strlen(to), n < sizeof to ? n : 4);
    assert_memory_equal(to, from, strlen(to));
  }
  assert_true(span_copy(to, sizeof to, (struct span){NULL, 0}));
  assert_string_equal(to, "");
  to[0] = '?';
  assert_false(span_copy(to, 0, SPAN("a")));
  assert_int_equal(to[0], '?');
  assert_true(str_copy(to, sizeof to, NULL));
  assert_string_equal(to, "");
  assert_true(str_fmt(to, sizeof to, "%d-%s", 12, "a"));
  assert_string_equal(to, "12-a");
  assert_false(str_fmt(to, sizeof to, "%d-%s", 12, "ab"));
  assert_string_equal(to, "12-a");
}

static void reads_numbers(void **state) {
  (void)state;
  static const struct {
    const char *text;
    uint64_t max;
    bool ok;
    uint64_t want;
  } table[] = {
      {"0", 0, true, 0},
      {"1", 0, false, 0},
      {"7", 5, false, 0},
      {"25", 25, true, 25},
      {"26", 25, false, 0},
      {"00025", 25, true, 25},
      {"65535", 65535, true, 65535},
      {"65536", 65535, false, 0},
      {"9223372036854775807", INT64_MAX, true, INT64_MAX},
      {"9223372036854775808", INT64_MAX, false, 0},
      {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
      {"18446744073709551616", UINT64_MAX, false, 0},
      {"99999999999999999999999", UINT64_MAX, false, 0},
      {"", 9, false, 0},
      {"-1", 9, false, 0},
      {"+1", 9, false, 0},
      {" 1", 9, false, 0},
      {"1 ", 9, false, 0},
      {"1a", 9, false, 0},
      {"0x1", 9, false, 0},
      {"1.", 9, false, 0},
      {"\xb2", 9, false, 0},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    uint64_t v = 4711;
    if (str_u64(span_of(table[i].text), table[i].max, &v) != table[i].ok)
      fail_msg("%s at most %llu", table[i].text, (unsigned long long)table[i].max);
    assert_true(v == (table[i].ok ? table[i].want : 4711));
  }
  for (uint64_t max = 0; max < 130; max++) /* against the plain comparison, around every carry */
    for (uint64_t n = 0; n < 140; n++) {
      char text[8];
      uint64_t v;
      snprintf(text, sizeof text, "%u", (unsigned)n);
      assert_int_equal(str_u64(span_of(text), max, &v), n <= max);
    }
}

static void codes_hex(void **state) {
  (void)state;
  unsigned char all[256], back[256];
  char text[513];
  for (int i = 0; i < 256; i++)
    all[i] = (unsigned char)i;
  hex_encode(text, all, 256);
  assert_memory_equal(text, "000102", 6);
  assert_string_equal(text + 506, "fdfeff");
  assert_true(hex_decode(back, 256, span_of(text)));
  assert_memory_equal(back, all, 256);
  assert_true(hex_decode(back, 2, SPAN("AbcF")));
  assert_memory_equal(back, "\xab\xcf", 2);
  hex_encode(text, NULL, 0);
  assert_string_equal(text, "");
  assert_true(hex_decode(back, 0, SPAN("")));
  static const char *const bad[] = {"",     "ab",   "abc",  "abcde", "abcdef", "abxd", "ab d",
                                    "0xab", "abg0", "/bcd", ":bcd",  "@bcd",   "`bcd"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_false(hex_decode(back, 2, span_of(bad[i])));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(compares_spans),
      cmocka_unit_test(copies_texts),
      cmocka_unit_test(reads_numbers),
      cmocka_unit_test(codes_hex),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
