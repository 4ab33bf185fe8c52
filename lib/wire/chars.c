#include "wire/chars.h"

#include <string.h>

/* Sums of CHAR_TOKEN 1, CHAR_VALUE 2, CHAR_TARGET 4; sixteen a row. */
// clang-format off
const uint8_t wire_chars[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, // 0x%X0
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 0x%X0
    2, 7, 6, 3, 7, 7, 7, 7, 6, 6, 7, 7, 6, 7, 7, 6, // 0x%X0
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 6, 6, 6, // 0x%X0
    6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // 0x%X0
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 7, 7, // 0x%X0
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // 0x%X0
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 7, 6, 7, 0, // 0x%X0
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, // 0x%X0
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, // 0x%X0
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, // 0x%X0
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, // 0x%X0
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, // 0x%X0
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, // 0x%X0
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, // 0x%X0
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, // 0x%X0
};
// clang-format on

const char *char_bad_value(const char *p, size_t n) {
  const uint64_t ones = UINT64_MAX / 255, high = ones * 128;
  while (n >= 8) {
    uint64_t x, del;
    memcpy(&x, p, 8);
    del = x ^ (ones * 0x7f);
    uint64_t low =
        (x - ones * 0x20) & ~x & high; /* a byte below 0x20; never misses one, may name a neighbour too */
    uint64_t dels = (del - ones) & ~del & high; /* a byte 0x7f */
    if (low | dels) {
      const char *bad = char_first_not(p, 8, CHAR_VALUE); /* a tab is none */
      if (bad)
        return bad;
    }
    p += 8;
    n -= 8;
  }
  return char_first_not(p, n, CHAR_VALUE);
}
