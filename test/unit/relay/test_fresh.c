/* New names by address: a bucket each, that fills within an hour and is then forgotten. */
#include "../tmpdir.h"

#include <arpa/inet.h>

#include "relay/fresh.h"

static struct sockaddr_storage at(const char *text) {
  struct sockaddr_storage s = {0};
  struct sockaddr_in *v4 = (struct sockaddr_in *)&s;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&s;
  s.ss_family = strchr(text, ':') ? AF_INET6 : AF_INET;
  assert_int_equal(
      inet_pton(s.ss_family, text, s.ss_family == AF_INET ? (void *)&v4->sin_addr : &v6->sin6_addr), 1);
  return s;
}

static unsigned take(struct fresh *f, const char *from, uint64_t now, unsigned tries) {
  struct sockaddr_storage peer = at(from);
  unsigned n = 0;
  while (tries--)
    n += fresh_take(f, &peer, now);
  return n;
}

enum { MANY = LIMIT_FRESH_PER_HOUR + 20, HOUR = 3600000 };

static void so_many_an_hour(void **state) {
  (void)state;
  struct fresh *f;
  assert_int_equal(fresh_new(&f), 0);
  assert_int_equal(take(f, "203.0.113.1", 5000, MANY), LIMIT_FRESH_PER_HOUR);
  assert_int_equal(take(f, "::ffff:203.0.113.1", 5000, MANY), 0);
  assert_int_equal(take(f, "203.0.113.2", 5000, MANY), LIMIT_FRESH_PER_HOUR);
  assert_int_equal(take(f, "2001:db8:1:1::1", 5000, MANY), LIMIT_FRESH_PER_HOUR);
  assert_int_equal(take(f, "2001:db8:1:1:9::9", 5000, MANY), 0);
  assert_int_equal(take(f, "2001:db8:1:2::1", 5000, 1), 1);
  assert_int_equal(take(f, "203.0.113.1", 5000 + HOUR / 2, MANY), LIMIT_FRESH_PER_HOUR / 2);
  assert_int_equal(take(f, "203.0.113.1", 5000 + HOUR / 2 + 1, MANY), 0);
  assert_int_equal(take(f, "203.0.113.1", 5000 + HOUR * 3, MANY), LIMIT_FRESH_PER_HOUR);
  assert_int_equal(take(f, "127.0.0.1", 5000, MANY), MANY);
  assert_int_equal(take(f, "::1", 5000, MANY), MANY);
  fresh_free(f);
  fresh_free(NULL);
}

static void given_back(void **state) {
  (void)state;
  struct fresh *f;
  struct sockaddr_storage peer = at("203.0.113.1"), other = at("203.0.113.9");
  assert_int_equal(fresh_new(&f), 0);
  for (unsigned i = 0; i < MANY; i++) { /* names it had already */
    assert_true(fresh_take(f, &peer, 0));
    fresh_give_back(f, &peer);
  }
  assert_int_equal(fresh_addresses(f), 0);
  fresh_give_back(f, &other);
  assert_int_equal(take(f, "203.0.113.1", 0, MANY), LIMIT_FRESH_PER_HOUR);
  fresh_free(f);
}

static void addresses_are_forgotten(void **state) {
  (void)state;
  struct fresh *f;
  char text[32];
  assert_int_equal(fresh_new(&f), 0);
  for (unsigned i = 0; i < LIMIT_FRESH_ADDRS; i++) {
    snprintf(text, sizeof text, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
    assert_int_equal(take(f, text, 1000, 1), 1);
  }
  assert_int_equal(take(f, "203.0.113.1", 1000, 1), 0); /* more than can be counted: nothing new */
  assert_int_equal(take(f, "10.0.0.1", 1000, 1), 1);
  fresh_sweep(f, 1000);
  assert_int_equal(fresh_addresses(f), LIMIT_FRESH_ADDRS);
  fresh_sweep(f, 1000 + HOUR / LIMIT_FRESH_PER_HOUR);
  assert_int_equal(fresh_addresses(f), 1);
  assert_int_equal(take(f, "203.0.113.1", 1000 + HOUR, 1), 1);
  fresh_sweep(f, 1000 + HOUR * 2);
  assert_int_equal(fresh_addresses(f), 0);
  fresh_free(f);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(so_many_an_hour), cmocka_unit_test(given_back),
                                     cmocka_unit_test(addresses_are_forgotten)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
