/* str.h: text and byte helpers that cannot overflow. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that somebody else owns. */
struct span {
  const char *p;
  size_t n;
};
#define SPAN(lit) ((struct span){(lit), sizeof(lit) - 1})
#define SPAN_FMT(s) (int)(s).n, (s).p

struct span span_of(const char *z); /* NULL gives an empty span */
bool span_eq(struct span a, struct span b);
bool span_ieq(struct span a, struct span b); /* ASCII case ignored */
char *span_dup(struct span s);               /* NUL-terminated copy, NULL when out of memory */

/* Copy, always terminated; returns false when it was cut. */
bool str_copy(char *dst, size_t cap, const char *src);
bool span_copy(char *dst, size_t cap, struct span s);
/* printf into dst, always terminated; returns false when it was cut. */
bool str_fmt(char *dst, size_t cap, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
char *str_dup(const char *s); /* NULL stays NULL */

/* Decimal number with nothing before or after it, at most max. */
bool str_u64(struct span s, uint64_t max, uint64_t *out);

void hex_encode(char *dst, const void *src, size_t n); /* 2n+1 bytes */
bool hex_decode(void *dst, size_t n, struct span hex); /* exactly n bytes */

#endif
