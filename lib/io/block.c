#include "io/block.h"

#include <pthread.h>
#include <stdlib.h>

#include <beam/beam.h>

#include "base/limits.h"

/* Half full or more is handed over, less is copied: a buffer holds at most twice its length. */
enum { WELL_FILLED = BLOCK_BYTES / 2, COPY_MAX = 4096 };

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

int block_append(struct evbuffer *b, void *block, size_t n) {
  if (n >= WELL_FILLED && !evbuffer_add_reference(b, block, n, give_back, block))
    return 0;
  int bad = evbuffer_add(b, block, n);
  block_put(block);
  return bad ? BEAM_ERR_NOMEM : 0;
}

size_t buffer_move(struct evbuffer *to, struct evbuffer *from, size_t n) {
  if (n > COPY_MAX)
    return evbuffer_remove_buffer(from, to, n) == (int)n ? n : 0;
  char copy[COPY_MAX];
  if (evbuffer_copyout(from, copy, n) != (ev_ssize_t)n || evbuffer_add(to, copy, n))
    return 0;
  evbuffer_drain(from, n);
  return n;
}
