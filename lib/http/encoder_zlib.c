/* encoder_zlib.c: gzip (RFC 1952) by zlib, for whoever takes no Brotli. */
#include <beam/beam.h>
#include <stdlib.h>
#include <zlib.h>

#include "http/encoder.h"

enum { LEVEL = 5, WINDOW_BITS = 15 + 16 /* with a gzip head */, MEM_LEVEL = 8 };

struct gzip {
  struct encoder encoder;
  z_stream z;
};

static int run(struct encoder *e, const void *p, size_t n, enum encode_what what, struct evbuffer *out) {
  static const int ops[] = {Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FINISH};
  z_stream *z = &((struct gzip *)e)->z;
  unsigned char made[8192];
  z->next_in = (unsigned char *)(uintptr_t)p;
  z->avail_in = (uInt)n;
  do {
    z->next_out = made;
    z->avail_out = sizeof made;
    if (deflate(z, ops[what]) == Z_STREAM_ERROR)
      return BEAM_ERR_INTERNAL;
    size_t got = sizeof made - z->avail_out;
    if (got && evbuffer_add(out, made, got))
      return BEAM_ERR_NOMEM;
  } while (!z->avail_out);
  return 0;
}

static void release(struct encoder *e) {
  struct gzip *g = (struct gzip *)e;
  deflateEnd(&g->z);
  free(g);
}

static void *get(void *opaque, unsigned n, unsigned size) {
  (void)opaque;
  return encoder_alloc((size_t)n * size);
}

static void give(void *opaque, void *p) {
  (void)opaque;
  encoder_release(p);
}

int encoder_gzip(struct encoder **out) {
  static const struct encoder_ops ops = {run, release};
  struct gzip *g = calloc(1, sizeof *g);
  if (!g)
    return BEAM_ERR_NOMEM;
  g->z.zalloc = get;
  g->z.zfree = give;
  if (deflateInit2(&g->z, LEVEL, Z_DEFLATED, WINDOW_BITS, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
    free(g);
    return BEAM_ERR_NOMEM;
  }
  g->encoder.ops = &ops;
  *out = &g->encoder;
  return 0;
}
