/* bio.c: mbedTLS's view of a stream: it takes bytes from its input and leaves bytes in a buffer beside it. */
#include <beam/beam.h>

#include "tls/stream.h"

int tls_bio_send(void *arg, const unsigned char *p, size_t n) {
  struct tls_bio *b = arg;
  return evbuffer_add(b->out, p, n) ? MBEDTLS_ERR_SSL_ALLOC_FAILED : (int)n;
}

/* mbedTLS asks for a header, then for exactly the record: nothing beyond is ever taken from the lower stream. */
int tls_bio_recv(void *arg, unsigned char *p, size_t n) {
  struct tls_bio *b = arg;
  int got = evbuffer_remove(stream_input(b->lower), p, n);
  if (got > 0) {
    stream_credit(b->lower, (size_t)got);
    return got;
  }
  return b->lower->in_ended ? 0 : MBEDTLS_ERR_SSL_WANT_READ;
}

void tls_bio_flush(struct stream *lower, struct evbuffer *out) {
  size_t n = evbuffer_get_length(out);
  if (n)
    stream_move(lower, out, n);
}
