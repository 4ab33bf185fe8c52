/* encoder.h: a content coding as a stream: bytes in, bytes out. One file for each library; inside http/ only. */
#ifndef HTTP_ENCODER_H
#define HTTP_ENCODER_H

#include <event2/buffer.h>
#include <stdint.h>

#include "http/filter.h"

struct encoder;

struct encoder_ops {
  /* As http_filter_ops.encode. */
  int (*run)(struct encoder *e, const void *p, size_t n, enum encode_what what, struct evbuffer *out);
  void (*free)(struct encoder *e);
};

struct encoder {
  const struct encoder_ops *ops;
};

/* What one keeps at most while it is fed LIMIT_ENCODE_STEP bytes at once (test_compress measures it). */
enum { ENCODER_BROTLI_BYTES = 1400 * 1024, ENCODER_GZIP_BYTES = 268 * 1024 };

/* `length`: of what will come, 0: unknown. NOMEM. */
int encoder_brotli(uint64_t length, struct encoder **out);
int encoder_gzip(struct encoder **out);

/* Tests: memory comes from here. */
extern void *(*encoder_alloc)(size_t n);
extern void (*encoder_release)(void *p);

#endif
