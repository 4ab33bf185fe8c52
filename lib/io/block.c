#include "io/block.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <beam/beam.h>

#include "base/limits.h"

/* Three quarters full or more is handed over, less is copied: a buffer holds at most a third more than its length. */
enum { WELL_FILLED = BLOCK_BYTES / 4 * 3, COPY_MAX = 4096, CHAINS = 64 };

struct spare {
  struct spare *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct spare *spares; /* last in, first out: the warmest in the cache */
static size_t spare_count;

void *block_get(void) {
  pthread_mutex_lock(&lock);
  struct spare *s = spares;
  if (s) {
    spares = s->next;
    spare_count--;
  }
  pthread_mutex_unlock(&lock);
  return s ? (void *)s : malloc(BLOCK_BYTES);
}

void block_put(void *block) {
  struct spare *s = block;
  if (!s)
    return;
  pthread_mutex_lock(&lock);
  if (spare_count < LIMIT_SPARE_BLOCKS) {
    s->next = spares;
    spares = s;
    spare_count++;
    s = NULL;
  }
  pthread_mutex_unlock(&lock);
  free(s);
}

static void give_back(const void *data, size_t n, void *block) {
  (void)data;
  (void)n;
  block_put(block);
}

int buffer_put(struct evbuffer *b, const void *p, size_t n) {
  struct evbuffer_iovec v;
  if (!n)
    return 0;
  if (evbuffer_reserve_space(b, (ev_ssize_t)n, &v, 1) != 1 || v.iov_len < n)
    return BEAM_ERR_NOMEM;
  memcpy(v.iov_base, p, n);
  v.iov_len = n;
  return evbuffer_commit_space(b, &v, 1) ? BEAM_ERR_NOMEM : 0;
}

int block_append(struct evbuffer *b, void *block, size_t n) {
  if (n >= WELL_FILLED && !evbuffer_add_reference(b, block, n, give_back, block))
    return 0;
  int err = buffer_put(b, block, n);
  block_put(block);
  return err;
}

static size_t copied(struct evbuffer *to, struct evbuffer *from, size_t n) {
  char small[COPY_MAX];
  struct evbuffer_iovec v = {small, n};
  if (n <= COPY_MAX ? evbuffer_copyout(from, small, n) != (ev_ssize_t)n
                    : evbuffer_peek(from, 1, NULL, &v, 1) != 1)
    return 0;
  if (v.iov_len < n || buffer_put(to, v.iov_base, n))
    return 0;
  evbuffer_drain(from, n);
  return n;
}

/* `whole` bytes in whole chains, then `rest` bytes from `part`, which is the beginning of the next chain. The part goes into a buffer of its own
 * first, so that nothing has moved when memory runs out. */
static size_t chains_and_part(struct evbuffer *to, struct evbuffer *from, size_t whole, const void *part,
                              size_t rest) {
  struct evbuffer *tail = evbuffer_new();
  size_t took = 0;
  if (tail && !buffer_put(tail, part, rest) && evbuffer_remove_buffer(from, to, whole) == (int)whole) {
    evbuffer_drain(from, rest);
    evbuffer_add_buffer(to, tail);
    took = whole + rest;
  }
  if (tail)
    evbuffer_free(tail);
  return took;
}

/* Whole chains change hands. A part of one is copied here and not by evbuffer_remove_buffer(), which would take for it as much memory as the
 * chain before it has. */
size_t buffer_move(struct evbuffer *to, struct evbuffer *from, size_t n) {
  struct evbuffer_iovec v[CHAINS];
  size_t whole = 0;
  int i = 0, count = n > COPY_MAX ? evbuffer_peek(from, (ev_ssize_t)n, NULL, v, CHAINS) : 0;
  if (!count)
    return n ? copied(to, from, n) : 0;
  while (i < count && i < CHAINS && whole + v[i].iov_len <= n)
    whole += v[i++].iov_len;
  if (whole == n || count > CHAINS)
    return evbuffer_remove_buffer(from, to, n) == (int)n ? n : 0;
  return whole ? chains_and_part(to, from, whole, v[i].iov_base, n - whole) : copied(to, from, n);
}
