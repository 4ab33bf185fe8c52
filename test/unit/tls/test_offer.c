#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tls/offer.h"

/* A ClientHello up to its suites, with what follows left out; the lengths of its headers count on 200 bytes. */
static size_t hello(uint8_t *out, size_t session_id, const uint16_t *suites, size_t n) {
  memset(out, 0xee, 600);
  static const uint8_t head[] = {22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3};
  memcpy(out, head, sizeof head);
  size_t at = sizeof head + 32;
  out[at++] = (uint8_t)session_id;
  at += session_id;
  out[at++] = (uint8_t)(2 * n >> 8);
  out[at++] = (uint8_t)(2 * n);
  for (size_t i = 0; i < n; i++) {
    out[at++] = (uint8_t)(suites[i] >> 8);
    out[at++] = (uint8_t)suites[i];
  }
  return at;
}

static void every_length(void **state) {
  (void)state;
  static const uint16_t suites[] = {0x1301, 0x1303, 0xc02b, 0x1302, 0x00ff};
  for (size_t id = 0; id <= 32; id += 16) {
    uint8_t p[600];
    size_t all = hello(p, id, suites, 5);
    for (size_t n = 0; n <= all; n++) {
      assert_int_equal(offer_has(p, n, 0x1302), n < all - 2 ? OFFER_MORE : OFFER_YES);
      assert_int_equal(offer_has(p, n, 0x1304), n < all ? OFFER_MORE : OFFER_NO);
      assert_int_equal(offer_has(p, n, 0xeeee),
                       n < all ? OFFER_MORE : OFFER_NO); /* what follows is no suite */
    }
  }
}

static void others(void **state) {
  (void)state;
  static const uint16_t suites[] = {0x1302};
  static uint16_t many[300];
  uint8_t p[700];
  size_t n = hello(p, 32, suites, 1);
  p[0] = 'G';
  assert_int_equal(offer_has(p, 1, 0x1302), OFFER_NO);
  p[0] = 22;
  p[5] = 2;
  assert_int_equal(offer_has(p, n, 0x1302), OFFER_NO);
  assert_int_equal(offer_has(p, 5, 0x1302), OFFER_MORE);
  n = hello(p, 32, suites, 1);
  p[4] = 50; /* cut by its record before the suites */
  assert_int_equal(offer_has(p, n, 0x1302), OFFER_NO);
  n = hello(p, 255, suites, 1);
  p[3] = 2; /* a long record, a long session id */
  assert_int_equal(offer_has(p, n, 0x1302), OFFER_YES);
  hello(p, 32, many, 200);
  p[3] = 4;
  assert_int_equal(offer_has(p, OFFER_PEEK - 40, 0x1302), OFFER_MORE);
  memset(p + 78, 0, 500);
  hello(p, 32, many, 250);
  p[3] = 4;
  assert_int_equal(offer_has(p, OFFER_PEEK, 0x1302), OFFER_NO); /* too far to be waited for */
  assert_int_equal(offer_has(p, 0, 0x1302), OFFER_MORE);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_length), cmocka_unit_test(others)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
