/* The in-memory link: two ends on one loop. Streams are its own kind, because an end that closes must tell all of them. */
#include <stdlib.h>

#include "base/limits.h"
#include "link/link.h"

enum { QUEUE_MAX = 256 }; /* control messages that wait for the peer's next turn */

enum event_kind { EVENT_READY, EVENT_CONTROL, EVENT_STREAM, EVENT_DRAIN, EVENT_CLOSED };

struct event {
  struct event *next;
  enum event_kind kind;
  int reason;
  struct end *end;
  beam_Control *control;
};

struct mem {
  struct link k;
  struct mem *peer; /* NULL once the peer was closed */
  struct loop_task task;
  struct event *events, **tail;
  struct event last; /* READY first, CLOSED later: neither may fail for want of memory */
  unsigned queued;
  struct end *ends;
  bool closing;
};

/* One end of a stream. */
struct end {
  struct stream s;
  struct mem *link; /* NULL once the link was closed */
  struct end *prev, *next;
  struct end *peer; /* NULL once the peer was closed */
};

/* --- streams --- */

static void leave(struct end *e) {
  if (!e->link)
    return;
  if (e->prev)
    e->prev->next = e->next;
  else
    e->link->ends = e->next;
  if (e->next)
    e->next->prev = e->prev;
  e->link->k.streams--;
  e->link = NULL;
}

static void join(struct mem *m, struct end *e) {
  e->link = m;
  e->prev = NULL;
  e->next = m->ends;
  if (e->next)
    e->next->prev = e;
  m->ends = e;
  m->k.streams++;
}

static void consumed(struct stream *s, size_t n) {
  (void)n;
  struct end *e = (struct end *)s;
  if (e->peer)
    stream_tell_writable(&e->peer->s);
}

static size_t room(struct stream *s) {
  struct end *e = (struct end *)s;
  if (!e->peer)
    return LIMIT_MEM_PIPE; /* nobody reads: bytes go nowhere, as after a peer that closed in order */
  size_t held = evbuffer_get_length(e->peer->s.in);
  return held < LIMIT_MEM_PIPE ? LIMIT_MEM_PIPE - held : 0;
}

static size_t move(struct stream *s, struct evbuffer *from, size_t n) {
  struct end *e = (struct end *)s;
  size_t r = room(s);
  if (n > r)
    n = r;
  if (!n)
    return 0;
  if (!e->peer) {
    evbuffer_drain(from, n);
    return n;
  }
  int took = evbuffer_remove_buffer(from, e->peer->s.in, n);
  if (took <= 0)
    return 0;
  stream_tell_readable(&e->peer->s);
  return (size_t)took;
}

static void finish(struct stream *s) {
  struct end *e = (struct end *)s;
  if (!e->peer)
    return;
  e->peer->s.in_ended = 1;
  stream_tell_readable(&e->peer->s);
}

static void close_end(struct stream *s, int reason) {
  struct end *e = (struct end *)s;
  leave(e);
  if (e->peer) {
    e->peer->peer = NULL;
    if (reason)
      stream_tell_closed(&e->peer->s, reason);
    else
      stream_tell_writable(&e->peer->s);
  }
  stream_fini(s);
  free(e);
}

static const struct stream_ops stream_ops = {"mem", consumed, room, move, finish, close_end};

static struct end *end_new(struct mem *m) {
  struct end *e = calloc(1, sizeof *e);
  if (e && stream_init(&e->s, &stream_ops, m->k.loop)) {
    stream_fini(&e->s);
    free(e);
    return NULL;
  }
  if (e)
    join(m, e);
  return e;
}

/* --- events: one at a time, because each callback may close the link --- */

static void push(struct mem *m, struct event *e) {
  e->next = NULL;
  *m->tail = e;
  m->tail = &e->next;
  loop_soon(m->k.loop, &m->task);
}

static void deliver(void *arg) {
  struct mem *m = arg;
  struct event *e = m->events;
  if (!e)
    return;
  m->events = e->next;
  if (e->kind != EVENT_CLOSED)
    m->k.heard = loop_now(m->k.loop);
  if (m->events)
    loop_soon(m->k.loop, &m->task);
  else
    m->tail = &m->events;
  struct event now = *e;
  struct event *heap = e == &m->last ? NULL : e;
  if (heap)
    m->queued--;
  switch (now.kind) {
  case EVENT_READY:
    link_tell_ready(&m->k);
    break;
  case EVENT_CONTROL:
    link_tell_control(&m->k, now.control);
    break;
  case EVENT_STREAM:
    link_tell_stream(&m->k, &now.end->s);
    break;
  case EVENT_DRAIN:
    link_tell_draining(&m->k);
    break;
  case EVENT_CLOSED:
    link_tell_closed(&m->k, now.reason);
    break;
  }
  free(now.control);
  free(heap);
}

static int send_event(struct mem *m, enum event_kind kind, struct end *end, const beam_Control *control) {
  struct mem *to = m->peer;
  if (!to || to->closing)
    return BEAM_ERR_CLOSED;
  if (to->queued >= QUEUE_MAX && kind == EVENT_CONTROL)
    return BEAM_ERR_LIMIT;
  struct event *e = calloc(1, sizeof *e);
  beam_Control *copy = control ? malloc(sizeof *copy) : NULL;
  if (!e || (control && !copy)) {
    free(e);
    free(copy);
    return BEAM_ERR_NOMEM;
  }
  e->kind = kind;
  e->end = end;
  e->control = copy;
  if (control)
    *copy = *control;
  to->queued++;
  push(to, e);
  return 0;
}

/* --- the link --- */

static int open_stream(struct link *k, struct stream **out) {
  struct mem *m = (struct mem *)k;
  if (!k->ready)
    return BEAM_AGAIN;
  if (!m->peer)
    return BEAM_ERR_CLOSED;
  if (k->draining)
    return BEAM_ERR_DRAINING;
  if (k->streams >= LIMIT_LINK_STREAMS || m->peer->k.streams >= LIMIT_LINK_STREAMS)
    return BEAM_ERR_LIMIT;
  struct end *a = end_new(m), *b = end_new(m->peer);
  int err = a && b ? send_event(m, EVENT_STREAM, b, NULL) : BEAM_ERR_NOMEM;
  if (err) {
    if (a)
      close_end(&a->s, 0);
    if (b)
      close_end(&b->s, 0);
    return err;
  }
  a->peer = b;
  b->peer = a;
  *out = &a->s;
  return 0;
}

static int send_control(struct link *k, const beam_Control *c) {
  if (!k->ready)
    return BEAM_AGAIN;
  return send_event((struct mem *)k, EVENT_CONTROL, NULL, c);
}

static void drain(struct link *k) {
  struct mem *m = (struct mem *)k;
  if (k->draining)
    return;
  k->draining = true;
  if (m->peer)
    send_event(m, EVENT_DRAIN, NULL, NULL);
}

/* Every stream of this end is dead from now on; its owner is told from the task queue. */
static void kill_streams(struct mem *m, int reason) {
  while (m->ends) {
    struct end *e = m->ends;
    leave(e);
    if (e->peer || !e->s.in_ended) /* else the far side had closed it in order: what waits is whole */
      stream_tell_closed(&e->s, reason);
  }
}

static void peer_closed(struct mem *m, int reason) {
  m->peer = NULL;
  m->closing = true;
  m->last.kind = EVENT_CLOSED;
  m->last.reason = reason;
  if (m->k.ready)
    push(m, &m->last);
  /* else READY, which is on its way, becomes CLOSED */
  kill_streams(m, BEAM_ERR_RESET);
}

static void close_link(struct link *k, int reason) {
  struct mem *m = (struct mem *)k;
  task_cancel(&m->task);
  for (struct event *e = m->events, *next; e; e = next) {
    next = e->next;
    if (e->kind == EVENT_STREAM) /* nobody was told of it, so nobody else closes it */
      stream_close(&e->end->s, BEAM_ERR_RESET);
    free(e->control);
    if (e != &m->last)
      free(e);
  }
  kill_streams(m, reason ? reason : BEAM_ERR_RESET);
  if (m->peer)
    peer_closed(m->peer, reason ? BEAM_ERR_RESET : BEAM_ERR_CLOSED);
  free(m);
}

static const struct link_ops ops = {"mem", open_stream, send_control, drain, close_link, NULL, NULL};

int link_mem_pair(struct loop *l, struct link **relay, struct link **agent) {
  struct mem *m[2] = {calloc(1, sizeof **m), calloc(1, sizeof **m)};
  if (!m[0] || !m[1]) {
    free(m[0]);
    free(m[1]);
    return BEAM_ERR_NOMEM;
  }
  for (int i = 0; i < 2; i++) {
    m[i]->k.ops = &ops;
    m[i]->k.loop = l;
    m[i]->peer = m[!i];
    m[i]->tail = &m[i]->events;
    task_init(&m[i]->task, deliver, m[i]);
    m[i]->last.kind = EVENT_READY;
    push(m[i], &m[i]->last);
  }
  *relay = &m[0]->k;
  *agent = &m[1]->k;
  return 0;
}
