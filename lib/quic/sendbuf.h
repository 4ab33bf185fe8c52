/* sendbuf.h: what a stream wrote, from the first byte the peer has not acknowledged: the engine refers to sent bytes until then, so they must not move.
 *
 *   ├── flight: sent, not acknowledged ──┼── unsent ──┤
 */
#ifndef QUIC_SENDBUF_H
#define QUIC_SENDBUF_H

#include <event2/buffer.h>
#include <stddef.h>
#include <stdint.h>

struct sendbuf_chunk;

struct sendbuf {
  struct sendbuf_chunk *first, *last;
  struct sendbuf_chunk *at; /* holds the next byte to send; NULL: nothing unsent */
  size_t at_offset;         /* in it */
  size_t flight, unsent;
};

struct sendbuf_piece {
  const uint8_t *p;
  size_t n;
};

/* Copies n bytes off the front of `from`; the count, less only when out of memory. */
size_t sendbuf_add(struct sendbuf *b, struct evbuffer *from, size_t n);
/* Unsent bytes, in at most max pieces; how many pieces. */
unsigned sendbuf_peek(const struct sendbuf *b, struct sendbuf_piece *v, unsigned max);
void sendbuf_sent(struct sendbuf *b, size_t n);
void sendbuf_acked(struct sendbuf *b, size_t n);
void sendbuf_clear(struct sendbuf *b);

#endif
