/* A stream of a QUIC connection.
 *
 *   owner closes(0):      FIN behind what was written, STOP_SENDING(0) ─► ORPHAN: all of it acknowledged ─► freed
 *   owner closes(reason): RESET_STREAM + STOP_SENDING(code) ─► freed at once; QUIC settles the rest by itself
 *   peer resets:          dead, told ─► waits for the owner's close
 *   peer stops us with 0: mute: it reads no more, and what is written goes nowhere. (ngtcp2 tells of STOP_SENDING only when we write, or at the end.)
 */
#include <stdlib.h>

#include "io/budget.h"
#include "quic/conn.h"

enum {
  ROOM_AGAIN =
      LIMIT_SOCK_MIN / 2 /* so little unsent: word of room. Less than every ceiling, so there is some */
};

/* What unsent bytes may amount to: a little for a peer that takes nothing, more while it has credit and LIMIT_POOL_SPARE is free, which pays for it. So
 * many stalled visitors hold LIMIT_SOCK_MIN each, and a fast one fills whole flights. What was sent and is not acknowledged comes on top: it is bounded
 * by the peer's credit, and by quic_stream_may_send. */
static size_t ceiling(const struct quic_stream *st) {
  if (budget_left(&budget_pool) <= LIMIT_POOL_SPARE)
    return LIMIT_SOCK_MIN;
  uint64_t credit = ngtcp2_conn_get_max_stream_data_left(st->c->ng, st->id);
  uint64_t most = LIMIT_SOCK_OUT - LIMIT_SOCK_MIN;
  return LIMIT_SOCK_MIN + (size_t)(credit < most ? credit : most);
}

static void charge(struct quic_stream *st) {
  size_t held = st->out.flight + st->out.unsent;
  held = held > LIMIT_SOCK_MIN ? held - LIMIT_SOCK_MIN : 0;
  if (held > st->charged)
    budget_charge(&budget_pool, held - st->charged);
  else if (held < st->charged)
    budget_give(&budget_pool, st->charged - held);
  st->charged = held;
}

static void drop_out(struct quic_stream *st) {
  sendbuf_clear(&st->out);
  charge(st);
}

static bool is_live(const struct quic_stream *st) {
  return st->id >= 0 && st->c && st->c->ng;
}

/* --- the rings of those with something to send --- */

static void join(struct quic_stream *st) {
  st->bulk = !quic_flight_is_small(st);
  struct quic_stream **ring = &st->c->want[st->bulk];
  if (!*ring) {
    st->want_prev = st->want_next = st;
    *ring = st;
  } else { /* last in turn */
    st->want_next = *ring;
    st->want_prev = (*ring)->want_prev;
    st->want_prev->want_next = st;
    st->want_next->want_prev = st;
  }
}

void quic_stream_want(struct quic_stream *st) {
  if (st->want_next)
    return;
  join(st);
  quic_conn_flush_soon(st->c);
}

void quic_stream_unwant(struct quic_stream *st) {
  if (!st->want_next)
    return;
  struct quic_stream **ring = &st->c->want[st->bulk];
  if (st->want_next == st) {
    *ring = NULL;
  } else {
    st->want_prev->want_next = st->want_next;
    st->want_next->want_prev = st->want_prev;
    if (*ring == st)
      *ring = st->want_next;
  }
  st->want_prev = st->want_next = NULL;
}

/* A long flight needs memory: when the pool is low it waits for acknowledgements. */
bool quic_stream_may_send(struct quic_stream *st) {
  if (st->out.flight < LIMIT_STREAM_WINDOW_MIN || budget_left(&budget_pool) >= LIMIT_POOL_BYTES / 8)
    return true;
  st->starved = 1;
  return false;
}

/* --- the contract --- */

static void consumed(struct stream *s, size_t n) {
  quic_window_drained((struct quic_stream *)s, n);
}

static size_t room(struct stream *s) {
  struct quic_stream *st = (struct quic_stream *)s;
  if (st->mute || !is_live(st))
    return LIMIT_STREAM_WINDOW_MIN;
  size_t most = ceiling(st);
  return st->out.unsent < most ? most - st->out.unsent : 0;
}

static size_t move(struct stream *s, struct evbuffer *from, size_t n) {
  struct quic_stream *st = (struct quic_stream *)s;
  size_t r = room(s);
  if (n > r)
    n = r;
  if (!n)
    return 0;
  if (st->mute || !is_live(st)) {
    evbuffer_drain(from, n);
    if (st->id < 0 && stream_at_end(s)) /* the connection is gone, and this may be an answer without end */
      stream_tell_closed(s, BEAM_ERR_RESET);
    return n;
  }
  n = sendbuf_add(&st->out, from, n);
  charge(st);
  quic_stream_want(st);
  return n;
}

static void finish(struct stream *s) {
  struct quic_stream *st = (struct quic_stream *)s;
  if (is_live(st) && !st->mute)
    quic_stream_want(st);
}

/* --- life --- */

static void count(struct quic_stream *st, int by) {
  if (st->uncounted)
    return;
  st->c->streams_owned += (unsigned)by;
  if (st->c->watch_streams)
    *st->c->watch_streams += (unsigned)by;
}

void quic_stream_uncount(struct stream *s) {
  struct quic_stream *st = (struct quic_stream *)s;
  if (st->c)
    count(st, -1);
  st->uncounted = 1;
}

int64_t quic_stream_id(const struct stream *s) {
  return ((const struct quic_stream *)s)->id;
}

static void leave(struct quic_stream *st) {
  struct quic_conn *c = st->c;
  if (!c)
    return;
  quic_stream_stale(st);
  quic_stream_unwant(st);
  quic_datagram_deafen(st);
  quic_endpoint_forget(c->ep, st);
  if (st->prev)
    st->prev->next = st->next;
  else
    c->streams = st->next;
  if (st->next)
    st->next->prev = st->prev;
  if (st->orphan)
    c->orphans--;
  else
    count(st, -1);
  if (st->id >= 0 && c->ng)
    ngtcp2_conn_set_stream_user_data(c->ng, st->id, NULL);
  st->c = NULL;
}

void quic_stream_free(struct quic_stream *st) {
  quic_window_fini(st);
  drop_out(st);
  leave(st);
  stream_fini(&st->s);
  free(st);
}

static void close_stream(struct stream *s, int reason) {
  struct quic_stream *st = (struct quic_stream *)s;
  struct quic_conn *c = st->c;
  if (!is_live(st)) {
    quic_stream_free(st);
    return;
  }
  if (reason) {
    uint64_t code = c->codes->of(reason == BEAM_ERR_CLOSED ? BEAM_ERR_RESET : reason);
    ngtcp2_conn_shutdown_stream(c->ng, 0, st->id, code);
    quic_conn_flush_soon(c);
    quic_stream_free(st);
    return;
  }
  quic_stream_stale(st);
  quic_endpoint_forget(c->ep, st);
  evbuffer_drain(s->in, evbuffer_get_length(s->in));
  quic_window_received(st);
  if (!s->in_ended)
    ngtcp2_conn_shutdown_stream_read(c->ng, 0, st->id, c->codes->of(0));
  st->orphan = 1;
  c->orphans++;
  count(st, -1);
  if (!st->mute)
    quic_stream_want(st);
  quic_conn_flush_soon(c);
}

static const struct stream_ops ops = {"quic", consumed, room, move, finish, close_stream};

int quic_stream_make(struct quic_conn *c, int64_t id, bool bidi, bool local, struct quic_stream **out) {
  struct quic_stream *st = calloc(1, sizeof *st);
  if (!st)
    return BEAM_ERR_NOMEM;
  if (stream_init(&st->s, &ops, c->loop)) {
    stream_fini(&st->s);
    free(st);
    return BEAM_ERR_NOMEM;
  }
  st->c = c;
  st->id = id;
  st->bidi = bidi;
  st->local = local;
  st->announced = !local;
  st->s.in_ended = local && !bidi;
  st->s.out_ended = !local && !bidi;
  st->fin_sent = st->s.out_ended;
  st->next = c->streams;
  if (st->next)
    st->next->prev = st;
  c->streams = st;
  count(st, 1);
  quic_window_init(st);
  if (local) {
    quic_stream_want(st); /* an empty frame tells the peer of it */
  } else {
    st->is_fresh = 1;
    *c->fresh_tail = st;
    c->fresh_tail = &st->fresh;
    quic_conn_tell_soon(c);
  }
  *out = st;
  return 0;
}

void quic_stream_stale(struct quic_stream *st) {
  if (!st->is_fresh)
    return;
  st->is_fresh = 0;
  struct quic_stream **p = &st->c->fresh;
  while (*p != st)
    p = &(*p)->fresh;
  *p = st->fresh;
  if (st->c->fresh_tail == &st->fresh)
    st->c->fresh_tail = p;
  st->fresh = NULL;
}

/* --- what the engine says --- */

void quic_stream_sent(struct quic_stream *st, size_t n, bool fin) {
  st->announced = 1;
  sendbuf_sent(&st->out, n);
  if (st->c->watch_moved)
    *st->c->watch_moved += n;
  if (fin)
    st->fin_sent = 1;
  if (!st->out.unsent && (st->fin_sent || !st->s.out_ended))
    quic_stream_unwant(st);
  if (st->want_next && !st->bulk && !quic_flight_is_small(st)) {
    quic_stream_unwant(st);
    join(st);
  }
  if (st->s.want_room && st->out.unsent <= ROOM_AGAIN)
    stream_tell_writable(&st->s);
}

void quic_stream_acked(struct quic_stream *st, size_t n) {
  sendbuf_acked(&st->out, n);
  charge(st);
  if (st->starved) {
    st->starved = 0;
    quic_stream_want(st);
  }
}

void quic_stream_credited(struct quic_stream *st) {
  if (st->out.unsent || (st->s.out_ended && !st->fin_sent) || !st->announced)
    quic_stream_want(st);
  if (st->s.want_room && st->out.unsent <= ROOM_AGAIN) /* the ceiling rose */
    stream_tell_writable(&st->s);
}

void quic_stream_ended(struct quic_stream *st) {
  if (st->s.in_ended)
    return;
  st->s.in_ended = 1;
  if (!st->orphan)
    stream_tell_readable(&st->s);
}

void quic_stream_reset(struct quic_stream *st, uint64_t code) {
  if (st->orphan || st->s.in_ended)
    return; /* the answer to our STOP_SENDING; or all of it has come */
  quic_window_over(st);
  quic_stream_unwant(st);
  stream_tell_closed(&st->s, st->c->codes->reason(code));
}

/* The peer reads no more; the engine has reset our direction. If that is an abort, a reset or the stream's end will say so. */
void quic_stream_stopped(struct quic_stream *st) {
  drop_out(st);
  quic_stream_unwant(st);
  st->mute = 1;
  if (!st->orphan)
    stream_tell_writable(&st->s);
}

void quic_stream_over(struct quic_stream *st, uint64_t code) {
  bool done = st->s.in_ended && st->fin_sent && !st->out.flight && !st->out.unsent;
  bool failed = code != st->c->codes->of(0) && !done;
  st->id = -1;
  if (st->orphan || (st->is_fresh && failed)) {
    quic_stream_free(st); /* nobody knows it, or cares any more */
    return;
  }
  quic_window_over(st);
  quic_stream_unwant(st);
  drop_out(st);
  if (st->s.dead)
    return;
  if (failed) {
    stream_tell_closed(&st->s, st->c->codes->reason(code));
    return;
  }
  st->mute = 1;
  stream_tell_writable(&st->s);
}

void quic_stream_abandon(struct quic_stream *st, int reason) {
  if (st->orphan || st->is_fresh) {
    quic_stream_free(st);
    return;
  }
  bool done = st->s.in_ended && st->s.out_ended && st->fin_sent;
  if (is_live(st) && !st->c->dead) /* the connection lives on for a while: the peer is told of this one now */
    ngtcp2_conn_shutdown_stream(st->c->ng, 0, st->id,
                                st->c->codes->of(reason == BEAM_ERR_CLOSED ? BEAM_ERR_RESET : reason));
  leave(st);
  st->id = -1;
  quic_window_over(st);
  drop_out(st);
  bool whole = st->s.in_ended && (st->mute || reason == BEAM_ERR_CLOSED);
  if (done || st->s.dead)
    return;
  if (whole) { /* all of it came before the peer ended the connection in order: it wants nothing more of us */
    st->mute = 1;
    stream_tell_writable(&st->s);
  } else {
    stream_tell_closed(&st->s, reason == BEAM_ERR_CLOSED ? BEAM_ERR_RESET : reason);
  }
}
