#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "relay/relay.h"

static struct sockaddr_storage v4(const char *text) {
  struct sockaddr_storage s = {0};
  struct sockaddr_in *a = (struct sockaddr_in *)&s;
  a->sin_family = AF_INET;
  inet_pton(AF_INET, text, &a->sin_addr);
  return s;
}

static struct sockaddr_storage v6(const char *text) {
  struct sockaddr_storage s = {0};
  struct sockaddr_in6 *a = (struct sockaddr_in6 *)&s;
  a->sin6_family = AF_INET6;
  inet_pton(AF_INET6, text, &a->sin6_addr);
  return s;
}

static unsigned fill(struct admit *a, struct sockaddr_storage s, unsigned tries) {
  unsigned in = 0;
  while (tries--)
    in += admit_enter(a, &s);
  return in;
}

static void test_limit_is_per_address(void **state) {
  (void)state;
  struct admit *a;
  assert_int_equal(admit_new(&a), 0);
  struct sockaddr_storage one = v4("203.0.113.1"), other = v4("203.0.113.2");
  assert_int_equal(fill(a, one, LIMIT_VISITORS_PER_ADDR + 10), LIMIT_VISITORS_PER_ADDR);
  assert_true(admit_enter(a, &other));
  admit_leave(a, &one);
  assert_true(admit_enter(a, &one));
  assert_false(admit_enter(a, &one));
  admit_free(a);
}

static void test_ipv6_counts_by_subscriber(void **state) {
  (void)state;
  struct admit *a;
  assert_int_equal(admit_new(&a), 0);
  assert_int_equal(fill(a, v6("2001:db8:1:1::1"), LIMIT_VISITORS_PER_ADDR), LIMIT_VISITORS_PER_ADDR);
  struct sockaddr_storage same = v6("2001:db8:1:1:ffff::9"), next = v6("2001:db8:1:2::1");
  assert_false(admit_enter(a, &same));
  assert_true(admit_enter(a, &next));
  admit_free(a);
}

static void test_ipv4_on_an_ipv6_listener(void **state) {
  (void)state;
  struct admit *a;
  assert_int_equal(admit_new(&a), 0);
  assert_int_equal(fill(a, v6("::ffff:203.0.113.1"), LIMIT_VISITORS_PER_ADDR + 1), LIMIT_VISITORS_PER_ADDR);
  struct sockaddr_storage same = v4("203.0.113.1"), next = v6("::ffff:203.0.113.2");
  assert_false(admit_enter(a, &same));
  assert_true(admit_enter(a, &next));
  assert_int_equal(fill(a, v6("::ffff:127.0.0.1"), LIMIT_VISITORS_PER_ADDR + 5), LIMIT_VISITORS_PER_ADDR + 5);
  admit_free(a);
}

static void test_loopback_is_free(void **state) {
  (void)state;
  struct admit *a;
  assert_int_equal(admit_new(&a), 0);
  assert_int_equal(fill(a, v4("127.0.0.1"), LIMIT_VISITORS_PER_ADDR + 5), LIMIT_VISITORS_PER_ADDR + 5);
  assert_int_equal(fill(a, v6("::1"), LIMIT_VISITORS_PER_ADDR + 5), LIMIT_VISITORS_PER_ADDR + 5);
  admit_free(a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_limit_is_per_address), cmocka_unit_test(test_ipv6_counts_by_subscriber),
      cmocka_unit_test(test_ipv4_on_an_ipv6_listener), cmocka_unit_test(test_loopback_is_free)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
