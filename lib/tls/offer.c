#include "tls/offer.h"

enum { HANDSHAKE = 22, CLIENT_HELLO = 1, HEADERS = 5 + 4, RANDOM_END = HEADERS + 2 + 32 };

static size_t u16(const uint8_t *p) {
  return (size_t)p[0] << 8 | p[1];
}

/* MORE while it may still come, NO when it never will. */
static enum offer lacks(size_t n, size_t need, size_t record) {
  return need > record || need > OFFER_PEEK ? OFFER_NO : n < need ? OFFER_MORE : OFFER_YES;
}

enum offer offer_has(const uint8_t *p, size_t n, uint16_t suite) {
  if ((n > 0 && p[0] != HANDSHAKE) || (n > 5 && p[5] != CLIENT_HELLO))
    return OFFER_NO;
  if (n < HEADERS)
    return OFFER_MORE;
  size_t record = 5 + u16(p + 3), at = RANDOM_END;
  enum offer have = lacks(n, at + 1, record);
  if (have != OFFER_YES)
    return have;
  at += 1u + p[at]; /* session id */
  if ((have = lacks(n, at + 2, record)) != OFFER_YES)
    return have;
  size_t end = at + 2 + u16(p + at);
  for (at += 2; at + 2 <= end; at += 2) {
    if ((have = lacks(n, at + 2, record)) != OFFER_YES)
      return have;
    if (u16(p + at) == suite)
      return OFFER_YES;
  }
  return OFFER_NO;
}
