#include "quic/sendbuf.h"

#include <stdlib.h>
#include <string.h>

#include "io/block.h"

/* Small writes get small chunks, so that thousands of quiet streams weigh little; bulk gets the recycled blocks. */
enum { CHUNK_MIN = 1024, CHUNK_BULK = 16 * 1024 };

struct sendbuf_chunk {
  struct sendbuf_chunk *next;
  size_t start, end, cap; /* acknowledged up to start, filled up to end */
  uint8_t data[];
};

static struct sendbuf_chunk *chunk_new(size_t n) {
  struct sendbuf_chunk *c;
  size_t cap = n < CHUNK_MIN ? CHUNK_MIN : n;
  if (n > CHUNK_BULK) {
    c = block_get();
    cap = BLOCK_BYTES - sizeof *c;
  } else {
    c = malloc(sizeof *c + cap);
  }
  if (c) {
    c->next = NULL;
    c->start = c->end = 0;
    c->cap = cap;
  }
  return c;
}

static void chunk_free(struct sendbuf_chunk *c) {
  if (c->cap == BLOCK_BYTES - sizeof *c)
    block_put(c);
  else
    free(c);
}

static struct sendbuf_chunk *grow(struct sendbuf *b, size_t n) {
  struct sendbuf_chunk *c = chunk_new(n);
  if (!c)
    return NULL;
  if (b->last)
    b->last->next = c;
  else
    b->first = c;
  b->last = c;
  return c;
}

size_t sendbuf_add(struct sendbuf *b, struct evbuffer *from, size_t n) {
  size_t done = 0;
  while (done < n) {
    struct sendbuf_chunk *c = b->last;
    if ((!c || c->end == c->cap) && !(c = grow(b, n - done)))
      break;
    size_t part = c->cap - c->end;
    if (part > n - done)
      part = n - done;
    if (!b->at) {
      b->at = c;
      b->at_offset = c->end;
    }
    if (evbuffer_remove(from, c->data + c->end, part) != (int)part)
      break; /* there is less than was promised */
    c->end += part;
    done += part;
    b->unsent += part;
  }
  return done;
}

unsigned sendbuf_peek(const struct sendbuf *b, struct sendbuf_piece *v, unsigned max) {
  unsigned count = 0;
  size_t offset = b->at_offset;
  for (struct sendbuf_chunk *c = b->at; c && count < max; c = c->next, offset = 0)
    if (c->end > offset)
      v[count++] = (struct sendbuf_piece){c->data + offset, c->end - offset};
  return count;
}

void sendbuf_sent(struct sendbuf *b, size_t n) {
  b->flight += n;
  b->unsent -= n;
  while (n) {
    size_t part = b->at->end - b->at_offset;
    if (part > n)
      part = n;
    b->at_offset += part;
    n -= part;
    if (b->at_offset == b->at->end && b->at->next) {
      b->at = b->at->next;
      b->at_offset = 0;
    }
  }
  if (!b->unsent)
    b->at = NULL;
}

void sendbuf_acked(struct sendbuf *b, size_t n) {
  if (n > b->flight)
    n = b->flight;
  b->flight -= n;
  while (b->first) {
    struct sendbuf_chunk *c = b->first;
    size_t part = c->end - c->start;
    if (part > n)
      part = n;
    c->start += part;
    n -= part;
    /* An emptied chunk goes, also the last one: a quiet stream holds nothing. */
    if (c->start < c->end || c == b->at)
      break;
    b->first = c->next;
    if (!b->first)
      b->last = NULL;
    chunk_free(c);
  }
}

void sendbuf_clear(struct sendbuf *b) {
  for (struct sendbuf_chunk *c = b->first, *next; c; c = next) {
    next = c->next;
    chunk_free(c);
  }
  memset(b, 0, sizeof *b);
}
