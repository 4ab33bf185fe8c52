#include "io/mem.h"

#include <stdlib.h>

#include "base/limits.h"
#include "io/block.h"

struct mem {
  struct stream s;
  struct mem *peer; /* NULL once the peer was closed */
};

static void consumed(struct stream *s, size_t n) {
  (void)n;
  struct mem *m = (struct mem *)s;
  if (m->peer)
    stream_tell_writable(&m->peer->s);
}

static size_t room(struct stream *s) {
  struct mem *m = (struct mem *)s;
  if (!m->peer)
    return LIMIT_MEM_PIPE; /* nobody reads: bytes go nowhere, as after a peer that closed in order */
  size_t held = evbuffer_get_length(m->peer->s.in);
  return held < LIMIT_MEM_PIPE ? LIMIT_MEM_PIPE - held : 0;
}

static size_t move(struct stream *s, struct evbuffer *from, size_t n) {
  struct mem *m = (struct mem *)s;
  size_t r = room(s);
  if (n > r)
    n = r;
  if (!n)
    return 0;
  if (!m->peer) {
    evbuffer_drain(from, n);
    return n;
  }
  n = buffer_move(m->peer->s.in, from, n);
  if (n)
    stream_tell_readable(&m->peer->s);
  return n;
}

static void finish(struct stream *s) {
  struct mem *m = (struct mem *)s;
  if (!m->peer)
    return;
  m->peer->s.in_ended = 1;
  stream_tell_readable(&m->peer->s);
}

static void close_mem(struct stream *s, int reason) {
  struct mem *m = (struct mem *)s;
  if (m->peer) {
    m->peer->peer = NULL;
    if (reason)
      stream_tell_closed(&m->peer->s, BEAM_ERR_RESET);
    else
      stream_tell_writable(&m->peer->s);
  }
  stream_fini(s);
  free(m);
}

static const struct stream_ops ops = {"mem", consumed, room, move, finish, close_mem};

int mem_pair(struct loop *l, struct stream **a, struct stream **b) {
  struct mem *m[2] = {calloc(1, sizeof **m), calloc(1, sizeof **m)};
  if (!m[0] || !m[1]) {
    free(m[0]);
    free(m[1]);
    return BEAM_ERR_NOMEM;
  }
  int err = stream_init(&m[0]->s, &ops, l);
  int err2 = stream_init(&m[1]->s, &ops, l);
  if (err || err2) {
    stream_fini(&m[0]->s);
    stream_fini(&m[1]->s);
    free(m[0]);
    free(m[1]);
    return BEAM_ERR_NOMEM;
  }
  m[0]->peer = m[1];
  m[1]->peer = m[0];
  *a = &m[0]->s;
  *b = &m[1]->s;
  return 0;
}
