#include "wire/control.h"

#include <beam/beam.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <string.h>

#include "base/limits.h"

_Static_assert(beam_Control_size <= LIMIT_CONTROL_BYTES, "the largest message of beam.options must fit");
_Static_assert(beam_StreamOpen_size <= LIMIT_STREAM_OPEN, "and the largest StreamOpen");

/* A length is a varint of at most three bytes: 2^21 is above every limit here. */
enum { LENGTH_MAX = 3 };

/* Bytes used; 0: need more; PROTOCOL: too long, or longer than it need be. */
static long length_decode(const uint8_t *p, size_t n, size_t *out) {
  size_t v = 0;
  for (size_t i = 0; i < LENGTH_MAX; i++) {
    if (i == n)
      return 0;
    v |= (size_t)(p[i] & 0x7f) << (7 * i);
    if (p[i] & 0x80)
      continue;
    if (i && !p[i])
      return BEAM_ERR_PROTOCOL;
    *out = v;
    return (long)i + 1;
  }
  return BEAM_ERR_TOO_LARGE;
}

static long decode(const uint8_t *p, size_t n, size_t limit, const pb_msgdesc_t *desc, void *out) {
  size_t length = 0;
  long used = length_decode(p, n, &length);
  if (used <= 0)
    return used;
  if (length > limit)
    return BEAM_ERR_TOO_LARGE;
  if (n - (size_t)used < length)
    return 0;
  pb_istream_t in = pb_istream_from_buffer(p + used, length);
  if (!pb_decode(&in, desc, out))
    return BEAM_ERR_PROTOCOL;
  return used + (long)length;
}

static size_t length_encode(size_t length, uint8_t p[LENGTH_MAX]) {
  size_t used = 0;
  for (; length > 0x7f; length >>= 7)
    p[used++] = (uint8_t)((length & 0x7f) | 0x80);
  p[used++] = (uint8_t)length;
  return used;
}

/* Written before its length is known and then moved: asking nanopb for the length first is as much work again. */
static long encode(const void *m, const pb_msgdesc_t *desc, size_t limit, uint8_t *p, size_t cap) {
  uint8_t prefix[LENGTH_MAX];
  size_t length;
  pb_ostream_t out = pb_ostream_from_buffer(p, cap < limit ? cap : limit);
  if (!pb_encode(&out, desc, m)) /* no room, or a string without its end */
    return pb_get_encoded_size(&length, desc, m) ? BEAM_ERR_TOO_LARGE : BEAM_ERR_INVALID;
  length = out.bytes_written;
  size_t used = length_encode(length, prefix);
  if (cap - length < used)
    return BEAM_ERR_TOO_LARGE;
  memmove(p + used, p, length);
  memcpy(p, prefix, used);
  return (long)(used + length);
}

long control_decode(const uint8_t *p, size_t n, beam_Control *out) {
  long used = decode(p, n, LIMIT_CONTROL_BYTES, beam_Control_fields, out);
  return used > 0 && out->which_kind == 0 && out->critical ? BEAM_ERR_UNSUPPORTED : used;
}

long control_encode(const beam_Control *m, uint8_t *p, size_t cap) {
  return encode(m, beam_Control_fields, LIMIT_CONTROL_BYTES, p, cap);
}

long stream_open_decode(const uint8_t *p, size_t n, beam_StreamOpen *out) {
  return decode(p, n, LIMIT_STREAM_OPEN, beam_StreamOpen_fields, out);
}

long stream_open_encode(const beam_StreamOpen *m, uint8_t *p, size_t cap) {
  return encode(m, beam_StreamOpen_fields, LIMIT_STREAM_OPEN, p, cap);
}
