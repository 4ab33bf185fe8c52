/* WebSocket frames. A header has one spelling; and in whatever pieces the bytes come, the reader says the same. */
#include <beam/beam.h>

#include "fuzz.h"
#include "wire/ws.h"

enum { MAX_MESSAGE = 300 };

/* What was read, folded into one number; so that two readings can be compared. */
struct sum {
  uint64_t hash, data;
  unsigned controls;
  uint16_t code;
};

static void fold(struct sum *s, const uint8_t *p, uint64_t n) {
  for (uint64_t i = 0; i < n; i++)
    s->hash = (s->hash ^ p[i]) * 0x100000001b3u;
}

static struct sum read_all(const uint8_t *p, size_t n, bool masked, size_t step) {
  struct sum s = {.hash = 1};
  struct ws_reader r;
  ws_reader_init(&r, masked, MAX_MESSAGE);
  for (size_t at = 0, given = 0; given < n;) {
    given = step < n - given ? given + step : n;
    for (enum ws_what what = WS_WHAT_DATA; what != WS_WHAT_MORE;) {
      size_t used;
      uint64_t data;
      uint8_t plain[256];
      what = ws_reader_next(&r, p + at, given - at, &used, &data);
      MUST(used <= given - at);
      at += used;
      if (what == WS_WHAT_BAD) {
        MUST(r.code >= 1002 && r.code <= 1009);
        s.code = r.code;
        return s;
      }
      uint64_t take = data < given - at ? data : given - at;
      if (take > sizeof plain)
        take = sizeof plain;
      if (what == WS_WHAT_MORE || (what == WS_WHAT_DATA && !take)) {
        MUST(what == WS_WHAT_DATA ||
             given - at < WS_HEADER_MAX + WS_CONTROL_MAX); /* so much always suffices */
        break;
      }
      MUST(what == WS_WHAT_DATA || (take == data && data <= WS_CONTROL_MAX));
      MUST(r.message <= MAX_MESSAGE);
      ws_reader_unmask(&r, plain, p + at, (size_t)take);
      fold(&s, plain, take);
      if (what == WS_WHAT_CONTROL) {
        s.controls++;
        fold(&s, &r.f.op, 1);
        int code = ws_close_code(plain, (size_t)take);
        MUST(code == BEAM_ERR_PROTOCOL || (code >= 1000 && code < 5000));
      }
      s.data += take;
      ws_reader_ate(&r, take);
      at += (size_t)take;
    }
  }
  return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  struct ws_frame f;
  long used = ws_frame_decode(p, n, &f);
  if (used > 0) {
    uint8_t back[WS_HEADER_MAX];
    MUST(ws_frame_encode(back, &f) == (size_t)used && !memcmp(back, p, (size_t)used));
  }
  for (int masked = 0; masked < 2; masked++) {
    struct sum whole = read_all(p, n, masked, n ? n : 1);
    for (size_t step = 1; step < n; step = step * 3 + 1) {
      struct sum part = read_all(p, n, masked, step);
      MUST(part.code == whole.code && part.hash == whole.hash && part.data == whole.data &&
           part.controls == whole.controls);
    }
  }
  return 0;
}
