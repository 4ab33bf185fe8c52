/* Control messages and StreamOpen: what is understood can be said again, and is then understood the same. */
#include "base/limits.h"
#include "fuzz.h"
#include "wire/control.h"

enum { ROOM = LIMIT_CONTROL_BYTES + 3 };

static void control(const uint8_t *p, size_t n) {
  static uint8_t once[ROOM], twice[ROOM];
  beam_Control m, again;
  long used = control_decode(p, n, &m);
  if (used <= 0)
    return;
  MUST((size_t)used <= n);
  long a = control_encode(&m, once, ROOM);
  MUST(a > 0);
  long back = control_decode(once, (size_t)a, &again);
  MUST(back == a && again.which_kind == m.which_kind && again.critical == m.critical);
  long b = control_encode(&again, twice, ROOM);
  MUST(a == b && !memcmp(once, twice, (size_t)a));
}

static void stream_open(const uint8_t *p, size_t n) {
  static uint8_t once[ROOM], twice[ROOM];
  beam_StreamOpen m, again;
  long used = stream_open_decode(p, n, &m);
  if (used <= 0)
    return;
  MUST((size_t)used <= n);
  long a = stream_open_encode(&m, once, ROOM);
  MUST(a > 0 && stream_open_decode(once, (size_t)a, &again) == a);
  long b = stream_open_encode(&again, twice, ROOM);
  MUST(a == b && !memcmp(once, twice, (size_t)a));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  control(p, n);
  stream_open(p, n);
  return 0;
}
