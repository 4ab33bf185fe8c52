/* base64.h: standard base64 with padding (RFC 4648 section 4), writing only. */
#ifndef WIRE_BASE64_H
#define WIRE_BASE64_H

#include <stddef.h>

/* Bytes of text for n bytes, with the terminating NUL. */
#define BASE64_SIZE(n) (((n) + 2) / 3 * 4 + 1)

void base64_encode(char *out, const void *p, size_t n); /* BASE64_SIZE(n) bytes, terminated */

#endif
