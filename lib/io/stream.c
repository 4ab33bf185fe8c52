#include "io/stream.h"

#include <string.h>

/* Tell the owner, one thing at a time: after each callback the stream may be gone, so the next one goes by a task of its own. */
static void tell(void *arg) {
  struct stream *s = arg;
  const struct stream_events *ev = s->ev;
  if (!ev)
    return;
  unsigned read = s->tell_read, write = s->tell_write && !s->dead, closed = s->tell_closed;
  if (read) {
    s->tell_read = 0;
    if (write || closed)
      loop_soon(s->loop, &s->tell);
    ev->readable(s->user);
  } else if (write) {
    s->tell_write = 0;
    s->want_room = 0;
    if (closed)
      loop_soon(s->loop, &s->tell);
    if (ev->writable)
      ev->writable(s->user);
  } else if (closed) {
    s->tell_closed = 0;
    ev->closed(s->user, s->reason);
  }
}

int stream_init(struct stream *s, const struct stream_ops *ops, struct loop *loop) {
  memset(s, 0, sizeof *s);
  s->ops = ops;
  s->loop = loop;
  task_init(&s->tell, tell, s);
  s->in = evbuffer_new();
  return s->in ? 0 : BEAM_ERR_NOMEM;
}

void stream_fini(struct stream *s) {
  task_cancel(&s->tell);
  if (s->in)
    evbuffer_free(s->in);
  s->in = NULL;
  s->ev = NULL;
}

void stream_own(struct stream *s, const struct stream_events *ev, void *user) {
  stream_on_datagram(s, NULL);
  s->ev = ev;
  s->user = user;
  s->want_room = 0;
  s->tell_write = 0;
  s->tell_read = s->in_ended || evbuffer_get_length(s->in) > 0;
  s->tell_closed = s->dead;
  task_cancel(&s->tell);
  if (ev && (s->tell_read || s->tell_closed))
    loop_soon(s->loop, &s->tell);
}

void stream_credit(struct stream *s, size_t n) {
  if (n && !s->dead)
    s->ops->consumed(s, n);
}

void stream_consume(struct stream *s, size_t n) {
  evbuffer_drain(s->in, n);
  stream_credit(s, n);
}

size_t stream_take(struct stream *s, struct evbuffer *to, size_t max) {
  int n = evbuffer_remove_buffer(s->in, to, max);
  if (n <= 0)
    return 0;
  stream_credit(s, (size_t)n);
  return (size_t)n;
}

size_t stream_room(struct stream *s) {
  if (s->dead || s->out_ended)
    return 0;
  size_t room = s->ops->room(s);
  if (!room)
    s->want_room = 1;
  return room;
}

size_t stream_move(struct stream *s, struct evbuffer *from, size_t max) {
  size_t n = evbuffer_get_length(from);
  if (n > max)
    n = max;
  if (!n || s->dead || s->out_ended)
    return 0;
  size_t took = s->ops->move(s, from, n);
  if (took < n)
    s->want_room = 1;
  return took;
}

size_t stream_write(struct stream *s, const void *p, size_t n) {
  size_t room = stream_room(s);
  if (n > room) {
    s->want_room = 1;
    n = room;
  }
  if (!n)
    return 0;
  struct evbuffer *tmp = evbuffer_new();
  if (!tmp)
    return 0;
  size_t took = evbuffer_add(tmp, p, n) ? 0 : s->ops->move(s, tmp, n);
  evbuffer_free(tmp);
  return took;
}

void stream_finish(struct stream *s) {
  if (s->out_ended || s->dead)
    return;
  s->out_ended = 1;
  s->ops->finish(s);
}

size_t stream_datagram_max(struct stream *s) {
  return s->datagrams && !s->dead ? s->datagrams->max(s) : 0;
}

int stream_datagram(struct stream *s, const uint8_t *p, size_t n) {
  if (s->dead)
    return BEAM_ERR_CLOSED;
  return s->datagrams ? s->datagrams->send(s, p, n) : BEAM_ERR_UNSUPPORTED;
}

void stream_on_datagram(struct stream *s, void (*fn)(void *user, const uint8_t *p, size_t n)) {
  if (s->datagrams && !fn != !s->on_datagram)
    s->datagrams->listen(s, fn != NULL);
  s->on_datagram = fn;
}

void stream_close(struct stream *s, int reason) {
  if (!s)
    return;
  if (s->dead && !reason)
    reason = s->reason;
  s->ev = NULL;
  stream_on_datagram(s, NULL);
  task_cancel(&s->tell);
  if (!reason)
    stream_finish(s);
  s->ops->close(s, reason);
}

void stream_tell_readable(struct stream *s) {
  s->tell_read = 1;
  if (s->ev)
    loop_soon(s->loop, &s->tell);
}

void stream_tell_writable(struct stream *s) {
  if (!s->want_room)
    return;
  s->tell_write = 1;
  if (s->ev)
    loop_soon(s->loop, &s->tell);
}

void stream_tell_closed(struct stream *s, int reason) {
  if (s->dead)
    return;
  s->dead = 1;
  s->reason = reason ? reason : BEAM_ERR_RESET;
  s->tell_closed = 1;
  if (s->ev)
    loop_soon(s->loop, &s->tell);
}
