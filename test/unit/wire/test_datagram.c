/* Datagrams on a stream and beside it: both ways, every length of a name, every truncation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include <beam/beam.h>

#include "base/limits.h"
#include "wire/datagram.h"

static void lengths(void **state) {
  (void)state;
  static const size_t good[] = {0, 1, 255, 256, 1200, 65507, DATAGRAM_MAX};
  size_t n = 1;
  uint8_t p[2];
  assert_int_equal(DATAGRAM_MAX, LIMIT_UDP_PAYLOAD);
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    datagram_encode(p, good[i]);
    assert_int_equal(datagram_decode(p, 0, &n), 0);
    assert_int_equal(datagram_decode(p, 1, &n), 0);
    assert_int_equal(datagram_decode(p, 2, &n), 2);
    assert_int_equal(n, good[i]);
  }
  for (unsigned bad = DATAGRAM_MAX + 1; bad <= 0xffff; bad++) {
    uint8_t q[2] = {(uint8_t)(bad >> 8), (uint8_t)bad};
    assert_int_equal(datagram_decode(q, 2, &n), BEAM_ERR_PROTOCOL);
  }
}

/* RFC 9000, appendix A.1 */
static void published_names(void **state) {
  (void)state;
  static const struct {
    uint8_t p[8];
    size_t n;
    uint64_t quarter;
    size_t shortest;
  } table[] = {
      {{0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c}, 8, 151288809941952652u, 8},
      {{0x9d, 0x7f, 0x3e, 0x7d}, 4, 494878333, 4},
      {{0x7b, 0xbd}, 2, 15293, 2},
      {{0x25}, 1, 37, 1},
      {{0x40, 0x25}, 2, 37, 1}, /* longer than need be: read all the same */
      {{0x3f}, 1, 63, 1},
      {{0x40, 0x40}, 2, 64, 2},
      {{0x7f, 0xff}, 2, 16383, 2},
      {{0x80, 0, 0x40, 0}, 4, 16384, 4},
      {{0xbf, 0xff, 0xff, 0xff}, 4, 0x3fffffff, 4},
      {{0xc0, 0, 0, 0, 0x40, 0, 0, 0}, 8, 0x40000000, 8},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    uint64_t quarter = 0;
    uint8_t back[DATAGRAM_NAME_MAX];
    for (size_t n = 0; n < table[i].n; n++)
      assert_int_equal(datagram_name_decode(table[i].p, n, &quarter), BEAM_ERR_PROTOCOL);
    assert_int_equal(datagram_name_decode(table[i].p, sizeof table[i].p, &quarter), table[i].n);
    assert_true(quarter == table[i].quarter);
    assert_int_equal(datagram_name_encode(quarter, back), table[i].shortest);
    if (table[i].shortest == table[i].n)
      assert_memory_equal(back, table[i].p, table[i].n);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(lengths), cmocka_unit_test(published_names)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
