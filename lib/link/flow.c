#include "link/flow.h"

#include <string.h>

#include "base/limits.h"
#include "io/budget.h"
#include "wire/datagram.h"

enum {
  LARGE =
      16 *
      1024 /* a datagram that the stream's window may not have room for: credit comes back half a window at a time */
};

static void drop_part(struct flow *f) {
  if (!f->part)
    return;
  budget_give(&budget_pool, evbuffer_get_length(f->part));
  evbuffer_free(f->part);
  f->part = NULL;
}

static void drop_rest(struct flow *f) {
  if (f->rest)
    evbuffer_free(f->rest);
  f->rest = NULL;
  budget_give(&budget_pool, f->charged);
  f->charged = 0;
}

static void end(struct flow *f, int reason) {
  drop_part(f);
  drop_rest(f);
  stream_close(f->s, reason);
  f->s = NULL;
  f->ev->closed(f->user, reason);
}

/* A large one is taken off the stream as it comes, or the window would never open for the rest of it. */
static int begin_part(struct flow *f, size_t n) {
  if (!(f->part = evbuffer_new()))
    return BEAM_ERR_NOMEM;
  f->want = n;
  stream_consume(f->s, DATAGRAM_HEADER);
  return 1;
}

static int next_of_part(struct flow *f) {
  budget_charge(&budget_pool, stream_take(f->s, f->part, f->want - evbuffer_get_length(f->part)));
  if (evbuffer_get_length(f->part) < f->want)
    return 0;
  struct evbuffer *whole = f->part;
  const uint8_t *p = evbuffer_pullup(whole, -1);
  f->part = NULL;
  budget_give(&budget_pool, f->want);
  if (p)
    f->ev->datagram(f->user, p, evbuffer_get_length(whole));
  evbuffer_free(whole);
  return 1;
}

/* One whole datagram of the stream is told, or begun. 1; 0: there is none yet; or what is wrong. */
static int next(struct flow *f, const bool *gone) {
  struct evbuffer *in = stream_input(f->s);
  uint8_t head[DATAGRAM_HEADER];
  size_t n = 0;
  if (f->part)
    return next_of_part(f);
  long used =
      evbuffer_copyout(in, head, sizeof head) == sizeof head ? datagram_decode(head, sizeof head, &n) : 0;
  bool whole = evbuffer_get_length(in) >= (size_t)used + n;
  if (used > 0 && !whole && n > LARGE)
    return begin_part(f, n);
  if (used <= 0 || !whole)
    return (int)(used < 0 ? used : 0);
  const uint8_t *p = evbuffer_pullup(in, (ev_ssize_t)((size_t)used + n));
  if (!p)
    return BEAM_ERR_NOMEM;
  f->ev->datagram(f->user, p + used, n);
  if (!*gone)
    stream_consume(f->s, (size_t)used + n);
  return 1;
}

static int tell_all(struct flow *f, const bool *gone) {
  int err = 1;
  while (!*gone && err > 0)
    err = next(f, gone);
  return err;
}

static void on_readable(void *user) {
  struct flow *f = user;
  bool gone = false;
  f->gone = &gone;
  int err = tell_all(f, &gone);
  if (gone)
    return;
  f->gone = NULL;
  if (err < 0)
    end(f, err);
  else if (f->s->in_ended)
    end(f, stream_waiting(f->s) || f->part ? BEAM_ERR_TRUNCATED : 0);
}

static void on_closed(void *user, int reason) {
  end(user, reason);
}

static void on_writable(void *user) {
  struct flow *f = user;
  if (!f->rest)
    return;
  stream_move(f->s, f->rest, evbuffer_get_length(f->rest));
  if (!evbuffer_get_length(f->rest))
    drop_rest(f);
}

static const struct stream_events events = {on_readable, on_writable, on_closed};

static void on_datagram(void *user, const uint8_t *p, size_t n) {
  struct flow *f = user;
  f->ev->datagram(f->user, p, n);
}

void flow_own(struct flow *f, struct stream *s, const struct flow_events *ev, void *user) {
  *f = (struct flow){.s = s, .ev = ev, .user = user};
  stream_own(s, &events, f);
  stream_on_datagram(s, on_datagram);
}

/* Off in pieces, or a stream with little room could never carry it. */
static int send_large(struct flow *f, const uint8_t head[DATAGRAM_HEADER], const uint8_t *p, size_t n) {
  struct evbuffer *b = evbuffer_new();
  if (!b || evbuffer_add(b, head, DATAGRAM_HEADER) || evbuffer_add(b, p, n)) {
    if (b)
      evbuffer_free(b);
    return BEAM_ERR_NOMEM;
  }
  stream_move(f->s, b, DATAGRAM_HEADER + n);
  if (!evbuffer_get_length(b))
    evbuffer_free(b);
  else
    f->rest = b;
  f->charged = f->rest ? evbuffer_get_length(b) : 0;
  budget_charge(&budget_pool, f->charged);
  return 0;
}

int flow_send(struct flow *f, const uint8_t *p, size_t n) {
  uint8_t small[DATAGRAM_HEADER + 2048];
  if (!f->s)
    return BEAM_ERR_CLOSED;
  if (n > DATAGRAM_MAX)
    return BEAM_ERR_TOO_LARGE;
  size_t most = f->beside ? stream_datagram_max(f->s) : 0;
  if (most && n <= most)
    return stream_datagram(f->s, p, n);
  size_t room = stream_room(f->s);
  bool in_pieces = n > LARGE && room > LARGE && budget_left(&budget_pool) > LIMIT_POOL_SPARE;
  if (f->rest || (room < DATAGRAM_HEADER + n && !in_pieces))
    return f->s->dead ? BEAM_ERR_CLOSED : BEAM_AGAIN;
  datagram_encode(small, n);
  if (DATAGRAM_HEADER + n <= sizeof small) {
    memcpy(small + DATAGRAM_HEADER, p, n);
    return stream_write(f->s, small, DATAGRAM_HEADER + n) ? 0 : BEAM_ERR_NOMEM;
  }
  return send_large(f, small, p, n);
}

void flow_close(struct flow *f, int reason) {
  if (f->gone)
    *f->gone = true;
  f->gone = NULL;
  drop_part(f);
  drop_rest(f);
  stream_close(f->s, reason);
  f->s = NULL;
}
