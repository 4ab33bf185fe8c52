#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "relay/admit.h"

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
    in += admit_enter(a, &s, LIMIT_VISITORS_PER_ADDR);
  return in;
}

static void test_limit_is_per_address(void **state) {
  (void)state;
  struct admit *a;
  assert_int_equal(admit_new(&a), 0);
  struct sockaddr_storage one = v4("203.0.113.1"), other = v4("203.0.113.2");
  assert_int_equal(fill(a, one, LIMIT_VISITORS_PER_ADDR + 10), LIMIT_VISITORS_PER_ADDR);
  assert_true(admit_enter(a, &other, LIMIT_VISITORS_PER_ADDR));
  admit_leave(a, &one);
  assert_true(admit_enter(a, &one, LIMIT_VISITORS_PER_ADDR));
  assert_false(admit_enter(a, &one, LIMIT_VISITORS_PER_ADDR));
  admit_free(a);
}

static void test_ipv6_counts_by_subscriber(void **state) {
  (void)state;
  struct admit *a;
  assert_int_equal(admit_new(&a), 0);
  assert_int_equal(fill(a, v6("2001:db8:1:1::1"), LIMIT_VISITORS_PER_ADDR), LIMIT_VISITORS_PER_ADDR);
  struct sockaddr_storage same = v6("2001:db8:1:1:ffff::9"), next = v6("2001:db8:1:2::1");
  assert_false(admit_enter(a, &same, LIMIT_VISITORS_PER_ADDR));
  assert_true(admit_enter(a, &next, LIMIT_VISITORS_PER_ADDR));
  admit_free(a);
}

static void test_ipv4_on_an_ipv6_listener(void **state) {
  (void)state;
  struct admit *a;
  assert_int_equal(admit_new(&a), 0);
  assert_int_equal(fill(a, v6("::ffff:203.0.113.1"), LIMIT_VISITORS_PER_ADDR + 1), LIMIT_VISITORS_PER_ADDR);
  struct sockaddr_storage same = v4("203.0.113.1"), next = v6("::ffff:203.0.113.2");
  assert_false(admit_enter(a, &same, LIMIT_VISITORS_PER_ADDR));
  assert_true(admit_enter(a, &next, LIMIT_VISITORS_PER_ADDR));
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

/* Requests count by address over all its connections, and by tunnel over all addresses; whatever was counted is given back. */
static void test_requests(void **state) {
  (void)state;
  struct admit *a;
  struct route_stats *stats = route_stats_new(), *other = route_stats_new();
  struct admit_ticket t[8] = {0}, more;
  assert_int_equal(admit_new(&a), 0);
  struct sockaddr_storage one = v6("2001:db8:1:1::1"), same = v6("2001:db8:1:1::2"), far = v4("203.0.113.1"),
                          local = v4("127.0.0.1");
  struct admit_guest *g = admit_guest_new(a, &one, 2), *h = admit_guest_new(a, &same, 2),
                     *f = admit_guest_new(a, &far, 2), *l = admit_guest_new(a, &local, 1),
                     *l2 = admit_guest_new(a, &local, 1);
  assert_non_null(g);
  assert_non_null(h);
  assert_non_null(l2);
  assert_null(admit_guest_new(a, &one, 2));
  assert_int_equal(admit_addresses(a), 2);
  assert_int_equal(admit_request(g, 3, stats, 4, &t[0]), 0);
  assert_int_equal(admit_request(h, 3, stats, 4, &t[1]), 0);
  assert_int_equal(admit_request(g, 3, other, 4, &t[2]), 0);
  assert_int_equal(admit_request(h, 3, other, 4, &more), PAGE_TOO_MANY);
  assert_int_equal(admit_request(f, 3, stats, 4, &t[3]), 0);
  assert_int_equal(admit_request(l, 1, stats, 4, &t[4]),
                   0); /* loopback is no address, but a tunnel is a tunnel */
  assert_int_equal(admit_request(l, 1, stats, 4, &more), PAGE_TUNNEL_BUSY);
  assert_int_equal(admit_request(f, 3, stats, 4, &more), PAGE_TUNNEL_BUSY);
  assert_int_equal(admit_request(f, 3, NULL, 0, &t[5]), 0);
  admit_return(&t[0]);
  admit_return(&t[0]); /* once is enough */
  assert_int_equal(admit_request(f, 3, stats, 4, &t[0]), 0);
  assert_int_equal(admit_request(h, 3, other, 4, &t[6]), 0);
  /* A connection that ends before its requests is one until they have. */
  admit_guest_unref(g);
  admit_guest_unref(h);
  assert_int_equal(admit_addresses(a), 2);
  assert_null(admit_guest_new(a, &one, 2));
  for (unsigned i = 0; i < 8; i++)
    admit_return(&t[i]);
  assert_int_equal(admit_addresses(a), 1);
  admit_guest_unref(f);
  admit_guest_unref(l);
  admit_guest_unref(l2);
  assert_int_equal(admit_addresses(a), 0);
  assert_int_equal(atomic_load(&stats->now), 0);
  assert_int_equal(atomic_load(&stats->refs), 1);
  route_stats_unref(stats);
  route_stats_unref(other);
  admit_free(a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_limit_is_per_address), cmocka_unit_test(test_ipv6_counts_by_subscriber),
      cmocka_unit_test(test_ipv4_on_an_ipv6_listener), cmocka_unit_test(test_loopback_is_free),
      cmocka_unit_test(test_requests)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
