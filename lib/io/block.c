#include "io/block.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <beam/beam.h>

#include "base/limits.h"

/* Three quarters full or more is handed over, less is copied: a buffer holds at most a third more than its length. From EXACT on memory of one's own is
 * worth the KiB that a chain without any takes. */
enum { WELL_FILLED = BLOCK_BYTES / 4 * 3, EXACT = 8192, COPY_MAX = 4096, CHAINS = 64 };

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

/* The last chain is filled before another one begins. In one piece a record of 16 KiB would take 32, for chains are powers of two with a head, and the half
 * that is left would never be large enough for the next one. */
int buffer_put(struct evbuffer *b, const void *p, size_t n) {
  struct evbuffer_iovec v[2];
  if (!n)
    return 0;
  int count = evbuffer_reserve_space(b, (ev_ssize_t)n, v, 2);
  if (count < 1 || (v[0].iov_len < n && (count < 2 || v[1].iov_len < n - v[0].iov_len)))
    return BEAM_ERR_NOMEM;
  size_t first = n < v[0].iov_len ? n : v[0].iov_len;
  memcpy(v[0].iov_base, p, first);
  v[0].iov_len = first;
  if (n > first)
    memcpy(v[1].iov_base, (const char *)p + first, v[1].iov_len = n - first);
  return evbuffer_commit_space(b, v, n > first ? 2 : 1) ? BEAM_ERR_NOMEM : 0;
}

static void free_exact(const void *data, size_t n, void *exact) {
  (void)data;
  (void)n;
  free(exact);
}

/* Memory of just this size: what goes from an empty buffer to the next one piece by piece has no chain before it to fill. */
static int put_exact(struct evbuffer *b, const void *p, size_t n) {
  void *exact = malloc(n);
  if (!exact)
    return BEAM_ERR_NOMEM;
  memcpy(exact, p, n);
  if (!evbuffer_add_reference(b, exact, n, free_exact, exact))
    return 0;
  free(exact);
  return BEAM_ERR_NOMEM;
}

int block_append(struct evbuffer *b, void *block, size_t n) {
  if (n >= WELL_FILLED && !evbuffer_add_reference(b, block, n, give_back, block))
    return 0;
  int err = n >= EXACT ? put_exact(b, block, n) : buffer_put(b, block, n);
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
