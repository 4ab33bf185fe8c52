/* Host names, labels, ports, addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "wire/host.h"

#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define L61 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define N253 L63 "." L63 "." L63 "." L61

static void parses_authorities(void **state) {
  (void)state;
  static const struct {
    const char *text, *host; /* NULL: refused */
    unsigned port;
  } table[] = {
      {"a", "a", 0},
      {"ABCDEFGHIJKLM.NOPQRSTUVWXYZ", "abcdefghijklm.nopqrstuvwxyz", 0},
      {"Shop.Example.COM:8443", "shop.example.com", 8443},
      {"shop.example.com.", "shop.example.com", 0},
      {"shop.example.com.:443", "shop.example.com", 443},
      {"localhost:1", "localhost", 1},
      {"localhost:65535", "localhost", 65535},
      {"localhost:08080", "localhost", 8080},
      {"my_app:3000", "my_app", 3000},
      {"_dmarc.a.test", "_dmarc.a.test", 0},
      {"xn--bcher-kva.test", "xn--bcher-kva.test", 0},
      {"a--b.test", "a--b.test", 0},
      {"127.0.0.1:80", "127.0.0.1", 80},
      {"1e100.net", "1e100.net", 0},
      {"[::1]", "::1", 0},
      {"[::1]:3000", "::1", 3000},
      {"[0:0:0:0:0:0:0:1]", "::1", 0},
      {"[2001:DB8::A]:443", "2001:db8::a", 443},
      {"[::ffff:127.0.0.1]", "::ffff:127.0.0.1", 0},
      {N253, N253, 0},
      {N253 ".", N253, 0},
      {N253 ":80", N253, 80},
      {N253 "a", NULL, 0},
      {L63 "a.test", NULL, 0},
      {"", NULL, 0},
      {".", NULL, 0},
      {"..", NULL, 0},
      {"a..", NULL, 0},
      {".a", NULL, 0},
      {"a..b", NULL, 0},
      {":80", NULL, 0},
      {"a:", NULL, 0},
      {"a:0", NULL, 0},
      {"a:00000", NULL, 0},
      {"a:65536", NULL, 0},
      {"a:000080", NULL, 0},
      {"a:+80", NULL, 0},
      {"a:80 ", NULL, 0},
      {"a: 80", NULL, 0},
      {"a:80:80", NULL, 0},
      {"a:http", NULL, 0},
      {" a", NULL, 0},
      {"a b", NULL, 0},
      {"a\tb", NULL, 0},
      {"u@a", NULL, 0},
      {"u:p@a", NULL, 0},
      {"a/b", NULL, 0},
      {"a?b", NULL, 0},
      {"a#b", NULL, 0},
      {"a,b", NULL, 0},
      {"a%41", NULL, 0},
      {"*.test", NULL, 0},
      {"-a.test", NULL, 0},
      {"a-.test", NULL, 0},
      {"b\xc3\xbc"
       "cher.test",
       NULL, 0},
      {"::1", NULL, 0},
      {"[::1", NULL, 0},
      {"[]", NULL, 0},
      {"[a]", NULL, 0},
      {"[127.0.0.1]", NULL, 0},
      {"[::1]80", NULL, 0},
      {"[::1]:", NULL, 0},
      {"[::1]x", NULL, 0},
      {"[fe80::1%eth0]", NULL, 0},
      {"[fe80::1%25eth0]", NULL, 0},
      {"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]", NULL, 0},
      {"1.2.3", NULL, 0}, /* URL parsers take these for addresses */
      {"256.1.1.1", NULL, 0},
      {"1.2.3.4.5", NULL, 0},
      {"2130706433", NULL, 0},
      {"a.test.0", NULL, 0},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    char host[HOST_MAX];
    uint16_t port = 7;
    bool ok = host_parse(span_of(table[i].text), host, &port);
    if (ok != (table[i].host != NULL))
      fail_msg("%s: %d", table[i].text, ok);
    if (ok) {
      assert_string_equal(host, table[i].host);
      assert_int_equal(port, table[i].port);
    }
  }
  char host[HOST_MAX];
  uint16_t port;
  assert_false(host_parse((struct span){"a\0b", 3}, host, &port));
  assert_false(host_parse((struct span){"[::1\0]", 6}, host, &port));
  assert_false(host_parse((struct span){"a:8\0", 4}, host, &port));
}

static void folds_names_without_ports(void **state) {
  (void)state;
  char host[HOST_MAX];
  assert_true(host_fold(SPAN("A.Test."), host));
  assert_string_equal(host, "a.test");
  assert_true(host_fold(SPAN("10.0.0.1"), host));
  assert_false(host_fold(SPAN("a.test:80"), host));
  assert_false(host_fold(SPAN("[::1]"), host));
  assert_false(host_fold(SPAN(""), host));
}

static void judges_labels(void **state) {
  (void)state;
  static const struct {
    const char *text;
    bool label, name;
  } table[] = {
      {"a", true, true},          {"0", true, true},
      {"a-b", true, true},        {"swift-beam-123", true, true},
      {L63, true, true},          {L63 "a", false, false},
      {"", false, false},         {"-", false, false},
      {"-a", false, false},       {"a-", false, false},
      {"ab--c", false, true},     {"a--b", true, true},
      {"xn--a", false, true},     {"a_b", false, false},
      {"A", false, false},        {"a b", false, false},
      {"a.b", false, true},       {"a.b.", false, false},
      {".a", false, false},       {"a..b", false, false},
      {"\xc3\xa4", false, false}, {N253, false, true},
      {N253 "a", false, false},   {"a.-b", false, false},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    if (host_label_ok(span_of(table[i].text)) != table[i].label)
      fail_msg("label %s", table[i].text);
    if (host_name_ok(span_of(table[i].text)) != table[i].name)
      fail_msg("name %s", table[i].text);
  }
}

static void knows_addresses(void **state) {
  (void)state;
  static const char *const yes[] = {"127.0.0.1", "0.0.0.0", "::1", "2001:db8::1", "::ffff:1.2.3.4"};
  static const char *const no[] = {"",      "localhost", "1.2.3",    "01.2.3.4",
                                   "[::1]", "a.test",    "1.2.3.4.", "::g"};
  for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
    assert_true(host_is_ip(yes[i]));
  for (size_t i = 0; i < sizeof no / sizeof *no; i++)
    assert_false(host_is_ip(no[i]));
}

static void finds_the_label(void **state) {
  (void)state;
  static const struct {
    const char *host, *base, *label;
  } table[] = {
      {"shop.tunnel.test", "tunnel.test", "shop"},
      {"s.t", "t", "s"},
      {"tunnel.test", "tunnel.test", NULL},
      {"a.b.tunnel.test", "tunnel.test", NULL},
      {".tunnel.test", "tunnel.test", NULL},
      {"shoptunnel.test", "tunnel.test", NULL},
      {"shop.tunnel.tesT", "tunnel.test", NULL},
      {"shop.tunnel.test.evil", "tunnel.test", NULL},
      {"", "tunnel.test", NULL},
      {"shop", "", NULL},
      {"shop.", "", NULL},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    struct span label;
    bool ok = host_label_under(table[i].host, table[i].base, &label);
    if (ok != (table[i].label != NULL))
      fail_msg("%s under %s", table[i].host, table[i].base);
    if (ok)
      assert_true(span_eq(label, span_of(table[i].label)));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(parses_authorities), cmocka_unit_test(folds_names_without_ports),
      cmocka_unit_test(judges_labels),      cmocka_unit_test(knows_addresses),
      cmocka_unit_test(finds_the_label),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
