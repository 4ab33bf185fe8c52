/* A stream of an HTTP/2 link.
 *
 *   owner closes(0):      finish ─► out drains ─► END_STREAM sent ─► peer not ended: RST(NO_ERROR) ─► freed
 *   owner closes(reason): RST(code) ─► freed at once
 *   peer resets:          dead, told ─► waits for the owner's close
 */
#include <stdlib.h>

#include "io/block.h"
#include "io/budget.h"
#include "link/h2.h"

static bool pool_is_rich(void) {
  return budget_left(&budget_pool) > LIMIT_POOL_SPARE;
}

/* What unsent bytes may amount to: a little for a peer that takes nothing, more while it has credit and LIMIT_POOL_SPARE is free, which
 * pays for it. So many stalled visitors hold LIMIT_SOCK_MIN each, and a fast one fills whole flights. */
size_t h2_stream_ceiling(const struct h2_stream *st) {
  int32_t credit =
      nghttp2_session_get_stream_remote_window_size(st->link->ng, st->id); /* -1: not opened yet */
  size_t more = !pool_is_rich() || !credit ? 0 : credit > 0 ? (size_t)credit : LIMIT_STREAM_WINDOW_MIN;
  if (more > LIMIT_SOCK_OUT - LIMIT_SOCK_MIN)
    more = LIMIT_SOCK_OUT - LIMIT_SOCK_MIN;
  return LIMIT_SOCK_MIN + more;
}

static void charge(struct h2_stream *st) {
  size_t n = evbuffer_get_length(st->out);
  n = n > LIMIT_SOCK_MIN ? n - LIMIT_SOCK_MIN : 0;
  if (n > st->queued)
    budget_charge(&budget_pool, n - st->queued);
  else
    budget_give(&budget_pool, st->queued - n);
  st->queued = n;
}

static void drop_out(struct h2_stream *st) {
  evbuffer_drain(st->out, evbuffer_get_length(st->out));
  charge(st);
}

static void wake(struct h2_stream *st) {
  if (st->deferred) {
    st->deferred = 0;
    h2_session_resume(st->link, st->id);
  }
  h2_flush_soon(st->link);
}

static void consumed(struct stream *s, size_t n) {
  h2_window_drained((struct h2_stream *)s, n);
}

static size_t room(struct stream *s) {
  struct h2_stream *st = (struct h2_stream *)s;
  if (st->mute || !st->id)
    return LIMIT_STREAM_WINDOW_MIN;
  size_t ceiling = h2_stream_ceiling(st), held = evbuffer_get_length(st->out);
  return held < ceiling ? ceiling - held : 0;
}

static size_t move(struct stream *s, struct evbuffer *from, size_t n) {
  struct h2_stream *st = (struct h2_stream *)s;
  size_t r = room(s);
  if (n > r)
    n = r;
  if (!n)
    return 0;
  if (st->mute || !st->id) {
    evbuffer_drain(from, n);
    return n;
  }
  n = buffer_move(st->out, from, n);
  charge(st);
  wake(st);
  return n;
}

static void finish(struct stream *s) {
  struct h2_stream *st = (struct h2_stream *)s;
  if (st->id)
    wake(st);
}

/* --- life --- */

static void leave(struct h2_stream *st) {
  struct h2 *h = st->link;
  if (!h)
    return;
  h2_stream_stale(st);
  if (st->prev)
    st->prev->next = st->next;
  else
    h->streams = st->next;
  if (st->next)
    st->next->prev = st->prev;
  if (st->orphan)
    h->orphans--;
  else
    h->k.streams--;
  st->link = NULL;
}

void h2_stream_free(struct h2_stream *st) {
  h2_window_fini(st);
  leave(st);
  stream_fini(&st->s);
  if (st->out) {
    drop_out(st);
    evbuffer_free(st->out);
  }
  free(st);
}

static void reset(struct h2_stream *st, uint32_t code) {
  struct h2 *h = st->link;
  nghttp2_session_set_stream_user_data(h->ng, st->id, NULL);
  if (nghttp2_submit_rst_stream(h->ng, NGHTTP2_FLAG_NONE, st->id, code))
    h2_die(h, BEAM_ERR_NOMEM);
  st->id = 0;
  h2_flush_soon(h);
}

static void close_stream(struct stream *s, int reason) {
  struct h2_stream *st = (struct h2_stream *)s;
  if (!st->id) {
    h2_stream_free(st);
    return;
  }
  if (reason || st->fin_sent) { /* what was written has left, or does not matter any more */
    reset(st, !reason ? NGHTTP2_NO_ERROR : reason == BEAM_ERR_CLOSED ? NGHTTP2_CANCEL : h2_code_of(reason));
    h2_stream_free(st);
    return;
  }
  size_t waiting = evbuffer_get_length(s->in);
  evbuffer_drain(s->in, waiting);
  h2_window_drained(st, waiting);
  h2_stream_stale(st);
  st->orphan = 1;
  st->link->k.streams--;
  st->link->orphans++;
}

static const struct stream_ops ops = {"h2", consumed, room, move, finish, close_stream};

int h2_stream_new(struct h2 *h, struct h2_stream **out) {
  struct h2_stream *st = calloc(1, sizeof *st);
  if (!st)
    return BEAM_ERR_NOMEM;
  int err = stream_init(&st->s, &ops, h->k.loop);
  st->out = evbuffer_new();
  if (err || !st->out) {
    stream_fini(&st->s);
    if (st->out)
      evbuffer_free(st->out);
    free(st);
    return BEAM_ERR_NOMEM;
  }
  st->link = h;
  st->next = h->streams;
  if (st->next)
    st->next->prev = st;
  h->streams = st;
  h->k.streams++;
  h2_window_init(st);
  *out = st;
  return 0;
}

void h2_stream_fresh(struct h2_stream *st) {
  st->is_fresh = 1;
  st->fresh = NULL;
  *st->link->fresh_tail = st;
  st->link->fresh_tail = &st->fresh;
  h2_tell_soon(st->link);
}

void h2_stream_stale(struct h2_stream *st) {
  if (!st->is_fresh)
    return;
  st->is_fresh = 0;
  struct h2_stream **p = &st->link->fresh;
  while (*p != st)
    p = &(*p)->fresh;
  *p = st->fresh;
  if (st->link->fresh_tail == &st->fresh)
    st->link->fresh_tail = p;
}

/* --- what the engine says --- */

void h2_stream_sent(struct h2_stream *st) {
  charge(st);
  if (st->orphan && st->fin_sent && st->id && !st->s.in_ended) {
    reset(st, NGHTTP2_NO_ERROR);
    h2_stream_free(st);
    return;
  }
  if (!st->s.want_room || st->s.tell_write)
    return;
  if (evbuffer_get_length(st->out) <= h2_stream_ceiling(st) / 2)
    stream_tell_writable(&st->s);
}

void h2_stream_ended(struct h2_stream *st, uint32_t code) {
  st->id = 0;
  if (st->orphan || (st->is_fresh && code != NGHTTP2_NO_ERROR)) {
    h2_stream_free(st); /* nobody knows it, or cares any more */
    return;
  }
  h2_window_over(st);
  drop_out(st);
  if (code == NGHTTP2_NO_ERROR && st->s.in_ended) {
    st->mute = 1; /* done both ways; or the peer reads no more */
    stream_tell_writable(&st->s);
  } else {
    stream_tell_closed(&st->s, h2_reason_of(code));
  }
}

void h2_stream_abandon(struct h2_stream *st, int reason) {
  if (st->id)
    nghttp2_session_set_stream_user_data(st->link->ng, st->id, NULL);
  st->id = 0;
  if (st->orphan || st->is_fresh) {
    h2_stream_free(st);
    return;
  }
  h2_window_over(st);
  leave(st);
  drop_out(st);
  bool done = st->s.in_ended && st->s.out_ended && st->fin_sent;
  if (!st->mute && !done)
    stream_tell_closed(&st->s, reason);
}
