/* A name, then a row of framed datagrams, as a link brings them. What is read is written back with the same meaning. */
#include <beam/beam.h>

#include "fuzz.h"
#include "wire/datagram.h"

static void names(const uint8_t *p, size_t n) {
  uint64_t quarter, again;
  uint8_t back[DATAGRAM_NAME_MAX];
  long used = datagram_name_decode(p, n, &quarter);
  MUST(used == BEAM_ERR_PROTOCOL || (used > 0 && (size_t)used <= n && quarter < 1ull << 62));
  if (used < 0)
    return;
  size_t shortest = datagram_name_encode(quarter, back);
  MUST(shortest <= (size_t)used);
  MUST(datagram_name_decode(back, shortest, &again) == (long)shortest && again == quarter);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  names(p, n);
  for (;;) {
    size_t length;
    uint8_t back[DATAGRAM_HEADER];
    long used = datagram_decode(p, n, &length);
    if (used <= 0)
      return 0;
    MUST(used == DATAGRAM_HEADER && length <= DATAGRAM_MAX);
    datagram_encode(back, length);
    MUST(!memcmp(back, p, DATAGRAM_HEADER));
    p += used;
    n -= (size_t)used;
    if (length > n)
      return 0;
    p += length;
    n -= length;
  }
}
