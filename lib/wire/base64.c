#include "wire/base64.h"

#include <stdint.h>

void base64_encode(char *out, const void *p, size_t n) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const uint8_t *b = p;
  for (; n >= 3; b += 3, n -= 3) {
    *out++ = digits[b[0] >> 2];
    *out++ = digits[(b[0] & 3) << 4 | b[1] >> 4];
    *out++ = digits[(b[1] & 15) << 2 | b[2] >> 6];
    *out++ = digits[b[2] & 63];
  }
  if (n) {
    *out++ = digits[b[0] >> 2];
    *out++ = digits[(b[0] & 3) << 4 | (n > 1 ? b[1] >> 4 : 0)];
    *out++ = n > 1 ? digits[(b[1] & 15) << 2] : '=';
    *out++ = '=';
  }
  *out = 0;
}
