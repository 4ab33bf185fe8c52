#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "wire/cidr.h"

#define ROWS(t) (sizeof(t) / sizeof *(t))

static void addresses(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int n; /* 0: refused */
    uint8_t first, last;
  } rows[] = {
      {"203.0.113.9", 4, 203, 9},
      {"203.0.113.9:51234", 4, 203, 9},
      {"203.0.113.9:0", 4, 203, 9},
      {"2001:db8::1", 16, 0x20, 1},
      {"[2001:db8::1]", 16, 0x20, 1},
      {"[2001:db8::1]:443", 16, 0x20, 1},
      {"::ffff:10.0.0.1", 4, 10, 1},
      {"[::ffff:10.0.0.1]:80", 4, 10, 1},
      {"[::FFFF:a00:1]:80", 4, 10, 1},
      {"", 0, 0, 0},
      {"unix:", 0, 0, 0},
      {":443", 0, 0, 0},
      {"203.0.113.9:", 0, 0, 0},
      {"203.0.113.9:65536", 0, 0, 0},
      {"203.0.113.9:+1", 0, 0, 0},
      {"203.0.113", 0, 0, 0},
      {"203.0.113.256", 0, 0, 0},
      {"0203.0.113.9", 0, 0, 0},
      {"203.0.113.9 ", 0, 0, 0},
      {"[203.0.113.9]:1", 0, 0, 0},
      {"[2001:db8::1", 0, 0, 0},
      {"[2001:db8::1]443", 0, 0, 0},
      {"[2001:db8::1]:", 0, 0, 0},
      {"[]", 0, 0, 0},
      {"[", 0, 0, 0},
      {"2001:db8::1%eth0", 0, 0, 0},
      {"localhost", 0, 0, 0},
  };
  for (size_t i = 0; i < ROWS(rows); i++) {
    struct addr a;
    size_t n = strlen(rows[i].text);
    char *exact = malloc(n + 1); /* so that a look beyond the end is seen */
    memcpy(exact, rows[i].text, n);
    bool ok = addr_parse((struct span){exact, n}, &a);
    free(exact);
    if (ok != (rows[i].n != 0) || a.n != rows[i].n)
      fail_msg("%s: %d bytes", rows[i].text, a.n);
    if (ok) {
      assert_int_equal(a.bytes[0], rows[i].first);
      assert_int_equal(a.bytes[a.n - 1], rows[i].last);
    }
  }
  struct addr a;
  assert_false(addr_parse((struct span){NULL, 0}, &a));
  assert_false(addr_parse((struct span){"1.2.3.4\0", 8}, &a));
}

static void ranges(void **state) {
  (void)state;
  static const struct {
    const char *range, *addr;
    int want; /* -1: no range */
  } rows[] = {
      {"10.0.0.0/8", "10.255.0.1", 1},
      {"10.0.0.0/8", "11.0.0.1", 0},
      {"10.1.2.3/8", "10.9.9.9", 1},
      {"10.0.0.0/9", "10.127.0.1", 1},
      {"10.0.0.0/9", "10.128.0.1", 0},
      {"203.0.113.9", "203.0.113.9:51234", 1},
      {"203.0.113.9", "203.0.113.8:51234", 0},
      {"203.0.113.9/32", "203.0.113.9", 1},
      {"0.0.0.0/0", "198.51.100.1", 1},
      {"0.0.0.0/0", "2001:db8::1", 0},
      {"::/0", "2001:db8::1", 1},
      {"::/0", "198.51.100.1", 0},
      {"2001:db8::/32", "[2001:db8:1::2]:443", 1},
      {"2001:db8::/32", "2001:db9::2", 0},
      {"2001:db8::1", "2001:db8::1", 1},
      {"2001:db8::/127", "2001:db8::1", 1},
      {"2001:db8::/127", "2001:db8::2", 0},
      {"10.0.0.0/8", "[::ffff:10.2.3.4]:1", 1},
      {"::ffff:10.0.0.0/104", "10.2.3.4", 1},
      {"::ffff:10.0.0.0/104", "11.2.3.4", 0},
      {"::ffff:10.0.0.1", "10.0.0.1", 1},
      {"", "1.2.3.4", -1},
      {"/8", "1.2.3.4", -1},
      {"10.0.0.0/", "1.2.3.4", -1},
      {"10.0.0.0/33", "1.2.3.4", -1},
      {"10.0.0.0/-1", "1.2.3.4", -1},
      {"10.0.0.0/8 ", "1.2.3.4", -1},
      {"::/129", "1.2.3.4", -1},
      {"10/8", "1.2.3.4", -1},
      {"example.com/8", "1.2.3.4", -1},
      {"10.0.0.0:80", "1.2.3.4", -1},
  };
  for (size_t i = 0; i < ROWS(rows); i++) {
    struct cidr c;
    struct addr a;
    assert_true(addr_parse(span_of(rows[i].addr), &a));
    int got = cidr_parse(span_of(rows[i].range), &c) ? cidr_has(&c, &a) : -1;
    if (got != rows[i].want)
      fail_msg("%s in %s: %d", rows[i].addr, rows[i].range, got);
  }
  struct cidr all;
  struct addr none = {0};
  assert_true(cidr_parse(SPAN("0.0.0.0/0"), &all));
  assert_false(cidr_has(&all, &none)); /* an address nobody knows is in no range */
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(addresses), cmocka_unit_test(ranges)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
