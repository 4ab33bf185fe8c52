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

/* Rows of version 1; what stands behind the line is the visitor's. */
static void test_read_text(void **state) {
  (void)state;
  static const struct {
    const char *in;
    enum proxyline_what want;
    const char *visitor; /* of PROXY: what a header written from it says */
  } rows[] = {
      {"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\nGET", PROXYLINE_PROXY, "203.0.113.9"},
      {"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", PROXYLINE_PROXY, "2001:db8::1"},
      {"PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", PROXYLINE_BAD, NULL},
      {"PROXY UNKNOWN\r\n", PROXYLINE_LOCAL, NULL},
      {"PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\n\x16\x03", PROXYLINE_LOCAL, NULL},
      {"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\n", PROXYLINE_MORE, NULL}, /* until it is too long */
      {"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\r", PROXYLINE_BAD, NULL},
      {"PROXY TCP4  203.0.113.9 192.0.2.1 51234 443\r\n", PROXYLINE_BAD, NULL},
      {"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443 \r\n", PROXYLINE_BAD, NULL},
      {"PROXY TCP4 203.0.113.9 192.0.2.1 51234\r\n", PROXYLINE_BAD, NULL},
      {"PROXY TCP4 203.0.113.9 192.0.2.1 051234 443\r\n", PROXYLINE_BAD, NULL},
      {"PROXY TCP4 203.0.113.9 192.0.2.1 -1 443\r\n", PROXYLINE_BAD, NULL},
      {"PROXY TCP4 203.0.113.9 192.0.2.1 65536 443\r\n", PROXYLINE_BAD, NULL},
      {"PROXY TCP4 203.0.113.09 192.0.2.1 1 443\r\n", PROXYLINE_BAD, NULL},
      {"PROXY TCP4 2001:db8::1 ::1 1 2\r\n", PROXYLINE_BAD, NULL},
      {"PROXY TCP6 203.0.113.9 192.0.2.1 1 2\r\n", PROXYLINE_BAD, NULL},
      {"PROXY UDP4 203.0.113.9 192.0.2.1 1 2\r\n", PROXYLINE_BAD, NULL},
      {"PROXY tcp4 203.0.113.9 192.0.2.1 1 2\r\n", PROXYLINE_BAD, NULL},
      {"PROXY UNKNOWNS\r\n", PROXYLINE_BAD, NULL},
      {"PROXY \r\n", PROXYLINE_BAD, NULL},
      {"PROXY  UNKNOWN\r\n", PROXYLINE_BAD, NULL},
      {"PROXY\tUNKNOWN\r\n", PROXYLINE_BAD, NULL},
      {"proxy UNKNOWN\r\n", PROXYLINE_BAD, NULL},
      {"GET / HTTP/1.1\r\n", PROXYLINE_BAD, NULL},
      {"PROXIMITY", PROXYLINE_BAD, NULL},
      {"\x16\x03\x01", PROXYLINE_BAD, NULL},
      {"", PROXYLINE_MORE, NULL},
      {"PROX", PROXYLINE_MORE, NULL},
      {"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r", PROXYLINE_MORE, NULL},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct proxyline line;
    size_t n = strlen(rows[i].in), whole = strcspn(rows[i].in, "\n") + 1;
    if (proxyline_read(rows[i].in, n, &line) != rows[i].want)
      fail_msg("%s", rows[i].in);
    for (size_t k = 0; k < n; k++) { /* every beginning of it: not yet, or the same */
      enum proxyline_what early = proxyline_read(rows[i].in, k, &line);
      if (early != PROXYLINE_MORE && early != rows[i].want)
        fail_msg("%.*s", (int)k, rows[i].in);
      assert_true(rows[i].want == PROXYLINE_BAD || k >= whole || early == PROXYLINE_MORE);
    }
    struct addr want;
    if (rows[i].want != PROXYLINE_PROXY)
      continue;
    assert_int_equal(proxyline_read(rows[i].in, n, &line), PROXYLINE_PROXY);
    assert_int_equal(line.used, whole);
    assert_true(addr_parse(span_of(rows[i].visitor), &want));
    assert_memory_equal(&line.visitor, &want, sizeof want);
  }
  char endless[200] = "PROXY UNKNOWN ";
  memset(endless + 14, 'x', sizeof endless - 14);
  struct proxyline line;
  assert_int_equal(proxyline_read(endless, 106, &line), PROXYLINE_MORE);
  assert_int_equal(proxyline_read(endless, 107, &line), PROXYLINE_BAD);
  endless[105] = '\r', endless[106] = '\n';
  assert_int_equal(proxyline_read(endless, 107, &line), PROXYLINE_LOCAL);
  assert_int_equal(line.used, 107);
}

static void test_read_binary(void **state) {
  (void)state;
  static const struct {
    uint8_t command, family;
    uint16_t length;
    enum proxyline_what want;
  } rows[] = {
      {0x21, 0x11, 12, PROXYLINE_PROXY},   {0x21, 0x11, 30, PROXYLINE_PROXY},
      {0x21, 0x21, 36, PROXYLINE_PROXY},   {0x21, 0x11, 11, PROXYLINE_BAD},
      {0x21, 0x21, 35, PROXYLINE_BAD},     {0x20, 0x11, 12, PROXYLINE_LOCAL},
      {0x20, 0x00, 0, PROXYLINE_LOCAL},    {0x20, 0x21, 4, PROXYLINE_LOCAL},
      {0x21, 0x31, 216, PROXYLINE_LOCAL},  {0x21, 0x12, 12, PROXYLINE_LOCAL},
      {0x21, 0x00, 0, PROXYLINE_LOCAL},    {0x22, 0x11, 12, PROXYLINE_BAD},
      {0x11, 0x11, 12, PROXYLINE_BAD},     {0x31, 0x11, 12, PROXYLINE_BAD},
      {0x21, 0x11, 4096, PROXYLINE_PROXY}, {0x21, 0x11, 4097, PROXYLINE_BAD},
      {0x20, 0x00, 65535, PROXYLINE_BAD},
  };
  static uint8_t in[16 + 4097 + 3] = "\r\n\r\n\0\r\nQUIT\n";
  for (size_t i = 0; i < sizeof in - 16; i++)
    in[16 + i] = (uint8_t)(i + 1);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct proxyline line;
    in[12] = rows[i].command, in[13] = rows[i].family;
    in[14] = (uint8_t)(rows[i].length >> 8), in[15] = (uint8_t)rows[i].length;
    size_t whole = 16u + rows[i].length;
    enum proxyline_what got = proxyline_read(in, whole < sizeof in ? whole : sizeof in, &line);
    if (got != rows[i].want)
      fail_msg("row %zu: %d", i, got);
    if (got == PROXYLINE_PROXY) {
      size_t ip = rows[i].family == 0x11 ? 4 : 16;
      assert_int_equal(line.used, whole);
      assert_int_equal(line.visitor.n, ip);
      assert_memory_equal(line.visitor.bytes, in + 16, ip);
      assert_memory_equal(line.local.bytes, in + 16 + ip, ip);
      assert_int_equal(line.visitor_port, in[16 + 2 * ip] << 8 | in[17 + 2 * ip]);
      assert_int_equal(line.local_port, in[18 + 2 * ip] << 8 | in[19 + 2 * ip]);
    }
    for (size_t k = 0; k < whole && k < 300; k++) {
      enum proxyline_what early = proxyline_read(in, k, &line);
      assert_true(early == PROXYLINE_MORE || (early == PROXYLINE_BAD && got == PROXYLINE_BAD));
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_binary),
                                     cmocka_unit_test(test_read_text), cmocka_unit_test(test_read_binary)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
