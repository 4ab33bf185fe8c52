/* A row of exchange frames. Each has one spelling only: what is read is written back byte for byte. */
#include <event2/buffer.h>

#include "fuzz.h"
#include "wire/frame.h"

static void one_head(enum frame_type type, const uint8_t *p, size_t n) {
  struct http_head h, copy;
  if (frame_head_decode(p, n, &h)) {
    MUST(!h.block);
    return;
  }
  must_be_clean(&h);
  bool request = h.method.n > 0, response = h.status > 0;
  MUST(!(request && response) && request == (p[0] == 0) && response == (p[0] == 1));
  MUST(http_head_copy(&copy, &h) == 0);
  http_head_free(&h);
  struct evbuffer *b = evbuffer_new();
  if (p[0] == 2)
    type = FRAME_TRAILERS;
  else if (type == FRAME_TRAILERS)
    type = FRAME_HEAD;
  MUST(b && frame_head_write(b, type, &copy) == 0);
  MUST(evbuffer_get_length(b) == FRAME_HEADER + n);
  MUST(!memcmp(evbuffer_pullup(b, -1) + FRAME_HEADER, p, n));
  evbuffer_free(b);
  http_head_free(&copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  for (;;) {
    struct frame f;
    long used = frame_decode(p, n, &f);
    if (used <= 0)
      return 0;
    uint8_t back[FRAME_HEADER];
    frame_encode(back, f.type, f.length);
    MUST(used == FRAME_HEADER && !memcmp(back, p, FRAME_HEADER));
    p += used;
    n -= (size_t)used;
    if (f.length > n)
      return 0;
    if (f.type == FRAME_HEAD || f.type == FRAME_INFO || f.type == FRAME_TRAILERS)
      one_head(f.type, p, f.length);
    p += f.length;
    n -= f.length;
  }
}
