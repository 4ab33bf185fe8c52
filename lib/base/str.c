#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct span span_of(const char *z) {
  return (struct span){z ? z : "", z ? strlen(z) : 0};
}

bool span_eq(struct span a, struct span b) {
  return a.n == b.n && (!a.n || !memcmp(a.p, b.p, a.n));
}

static char lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Not strncasecmp: that one ends at a NUL and asks the locale. */
bool span_ieq(struct span a, struct span b) {
  if (a.n != b.n)
    return false;
  for (size_t i = 0; i < a.n; i++)
    if (a.p[i] != b.p[i] && lower(a.p[i]) != lower(b.p[i]))
      return false;
  return true;
}

char *span_dup(struct span s) {
  char *d = malloc(s.n + 1);
  if (!d)
    return NULL;
  if (s.n)
    memcpy(d, s.p, s.n);
  d[s.n] = 0;
  return d;
}

char *str_dup(const char *s) {
  return s ? span_dup(span_of(s)) : NULL;
}

bool str_copy(char *dst, size_t cap, const char *src) {
  return span_copy(dst, cap, span_of(src));
}

bool span_copy(char *dst, size_t cap, struct span s) {
  bool whole = s.n < cap;
  size_t n = whole ? s.n : cap ? cap - 1 : 0;
  if (n)
    memcpy(dst, s.p, n);
  if (cap)
    dst[n] = 0;
  return whole;
}

bool str_fmt(char *dst, size_t cap, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(dst, cap, fmt, ap);
  va_end(ap);
  return n >= 0 && (size_t)n < cap;
}

bool str_u64(struct span s, uint64_t max, uint64_t *out) {
  uint64_t v = 0;
  if (!s.n)
    return false;
  for (size_t i = 0; i < s.n; i++) {
    if (s.p[i] < '0' || s.p[i] > '9')
      return false;
    uint64_t d = (uint64_t)(s.p[i] - '0');
    if (v > (max - d) / 10 || d > max)
      return false;
    v = v * 10 + d;
  }
  *out = v;
  return true;
}

void hex_encode(char *dst, const void *src, size_t n) {
  static const char digits[] = "0123456789abcdef";
  const unsigned char *s = src;
  for (size_t i = 0; i < n; i++) {
    dst[2 * i] = digits[s[i] >> 4];
    dst[2 * i + 1] = digits[s[i] & 15];
  }
  dst[2 * n] = 0;
}

static int nibble(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

bool hex_decode(void *dst, size_t n, struct span hex) {
  unsigned char *d = dst;
  if (hex.n != 2 * n)
    return false;
  for (size_t i = 0; i < n; i++) {
    int hi = nibble(hex.p[2 * i]), lo = nibble(hex.p[2 * i + 1]);
    if (hi < 0 || lo < 0)
      return false;
    d[i] = (unsigned char)(hi << 4 | lo);
  }
  return true;
}
