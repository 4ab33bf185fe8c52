/* chars.h: which byte may stand where in an HTTP/1 head (RFC 9110 5.5 and 5.6.2, RFC 3986). Inside wire/ only. */
#ifndef WIRE_CHARS_H
#define WIRE_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  CHAR_TOKEN = 1, /* field names, methods */
  CHAR_VALUE = 2, /* field values, reasons: printable, SP, HTAB, and bytes from 0x80 on, which are opaque */
  CHAR_TARGET =
      4, /* request targets: everything visible but '#'; browsers send raw | ^ { }, curl raw UTF-8 */
};
extern const uint8_t wire_chars[256];

static inline bool char_is(char c, int kind) {
  return wire_chars[(uint8_t)c] & kind;
}

/* The first of p[0..n) that is not of that kind, or NULL. */
static inline const char *char_first_not(const char *p, size_t n, int kind) {
  for (size_t i = 0; i < n; i++)
    if (!char_is(p[i], kind))
      return p + i;
  return NULL;
}

/* The same for CHAR_VALUE, eight bytes at a time: values are most of a head. */
const char *char_bad_value(const char *p, size_t n);

#endif
