/* What holds for every HTTP/1 head that was taken, request or response. */
#ifndef FUZZ_H1_H
#define FUZZ_H1_H

#include <event2/buffer.h>

#include "fuzz.h"
#include "wire/frame.h"
#include "wire/h1.h"

/* The end of the head is found at the same place whole and byte by byte. */
static inline long head_length(const char *p, size_t n) {
  size_t scanned = 0;
  long whole = h1_head_length(p, n, &scanned);
  scanned = 0;
  for (size_t k = 0; k <= n; k++) {
    long part = h1_head_length(p, k, &scanned);
    MUST(part == 0 || part == whole);
    MUST(part != 0 || whole <= 0 || k < (size_t)whole);
  }
  return whole;
}

/* Over a link and back it is the same head. */
static inline void must_cross_a_link(const struct http_head *h) {
  struct evbuffer *b = evbuffer_new();
  MUST(b && frame_head_write(b, FRAME_HEAD, h) == 0);
  size_t n = evbuffer_get_length(b);
  const uint8_t *p = evbuffer_pullup(b, -1);
  struct frame f;
  struct http_head got;
  MUST(frame_decode(p, n, &f) == FRAME_HEADER && f.length == n - FRAME_HEADER);
  MUST(frame_head_decode(p + FRAME_HEADER, f.length, &got) == 0);
  must_be_same_head(&got, h);
  http_head_free(&got);
  evbuffer_free(b);
}

/* Written out it is one head again; the caller frees the buffer and what it parses from it. */
static inline struct evbuffer *must_be_written(const struct http_head *h) {
  struct evbuffer *b = evbuffer_new();
  size_t scanned = 0;
  MUST(b && h1_write_head(b, h) == 0);
  size_t n = evbuffer_get_length(b);
  long found = h1_head_length((const char *)evbuffer_pullup(b, -1), n, &scanned);
  MUST(found == (long)n || n > LIMIT_HEAD_BYTES);
  return b;
}

#endif
