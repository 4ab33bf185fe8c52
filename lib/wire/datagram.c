#include "wire/datagram.h"

#include <beam/beam.h>

long datagram_decode(const uint8_t *p, size_t n, size_t *length) {
  if (n < DATAGRAM_HEADER)
    return 0;
  *length = (size_t)p[0] << 8 | p[1];
  return *length > DATAGRAM_MAX ? BEAM_ERR_PROTOCOL : DATAGRAM_HEADER;
}

void datagram_encode(uint8_t p[DATAGRAM_HEADER], size_t length) {
  p[0] = (uint8_t)(length >> 8);
  p[1] = (uint8_t)length;
}

long datagram_name_decode(const uint8_t *p, size_t n, uint64_t *quarter) {
  size_t bytes = n ? (size_t)1 << (p[0] >> 6) : 1;
  if (n < bytes)
    return BEAM_ERR_PROTOCOL;
  *quarter = p[0] & 0x3f;
  for (size_t i = 1; i < bytes; i++)
    *quarter = *quarter << 8 | p[i];
  return (long)bytes;
}

size_t datagram_name_encode(uint64_t quarter, uint8_t p[DATAGRAM_NAME_MAX]) {
  unsigned log = quarter < 1u << 6 ? 0 : quarter < 1u << 14 ? 1 : quarter < 1u << 30 ? 2 : 3;
  size_t bytes = (size_t)1 << log;
  for (size_t i = bytes; i-- > 0; quarter >>= 8)
    p[i] = (uint8_t)quarter;
  p[0] = (uint8_t)((p[0] & 0x3f) | log << 6);
  return bytes;
}
