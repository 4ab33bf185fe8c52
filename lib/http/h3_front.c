/* h3_front.c: a visitor's HTTP/3 connection: its life, its QUIC streams, time. */
#include "http/h3_front.h"

#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "http/h3_conn.h"
#include "io/block.h"
#include "io/budget.h"

static struct h3_conn *of_base(const struct front *b) {
  return (struct h3_conn *)b;
}

static void leave(struct h3_conn *c) {
  mux_conn_leave(&c->m);
}

/* --- error codes, RFC 9114 8.1 --- */

static uint64_t code_of(int reason) {
  switch (reason) {
  case 0:
  case BEAM_ERR_CLOSED:
    return NGHTTP3_H3_NO_ERROR;
  case BEAM_ERR_REFUSED:
    return NGHTTP3_H3_REQUEST_REJECTED;
  case BEAM_ERR_RESET:
    return NGHTTP3_H3_REQUEST_CANCELLED;
  case BEAM_ERR_PROTOCOL:
    return NGHTTP3_H3_GENERAL_PROTOCOL_ERROR;
  case BEAM_ERR_LIMIT:
    return NGHTTP3_H3_EXCESSIVE_LOAD;
  default:
    return NGHTTP3_H3_INTERNAL_ERROR;
  }
}

static int reason_of(uint64_t code) {
  switch (code) {
  case NGHTTP3_H3_NO_ERROR:
    return BEAM_ERR_CLOSED;
  case NGHTTP3_H3_INTERNAL_ERROR:
    return BEAM_ERR_INTERNAL;
  case NGHTTP3_H3_REQUEST_CANCELLED:
    return BEAM_ERR_RESET;
  default:
    return code >= NGHTTP3_H3_GENERAL_PROTOCOL_ERROR && code <= NGHTTP3_H3_VERSION_FALLBACK
               ? BEAM_ERR_PROTOCOL
               : BEAM_ERR_RESET;
  }
}

static const struct quic_codes codes = {code_of, reason_of};

/* --- life --- */

void h3_conn_flush_soon(struct h3_conn *c) {
  if (!c->m.dead)
    loop_turn_end(c->m.loop, &c->flush);
}

void h3_conn_kill(struct h3_conn *c, int reason) {
  if (!c->kill)
    c->kill = reason;
  h3_conn_flush_soon(c);
}

static void free_stream(struct h3_stream *st) {
  if (st->request)
    st->request->st = NULL;
  DL_DELETE(st->c->streams, st);
  free(st);
}

static void die(struct h3_conn *c, int reason) {
  if (c->m.dead)
    return;
  c->m.dead = true;
  mux_conn_abandon(&c->m);
  timer_stop(&c->timer);
  task_cancel(&c->flush);
  while (c->streams) {
    stream_close(c->streams->s, reason == BEAM_ERR_CLOSED ? 0 : reason);
    free_stream(c->streams);
  }
  quic_conn_close(c->q, reason);
}

static void free_conn(struct mux_conn *m) {
  struct h3_conn *c = (struct h3_conn *)m;
  mux_head_clear(&c->head);
  nghttp3_conn_del(c->ng);
  free(c);
}

static void on_idle(struct mux_conn *m) {
  h3_conn_flush_soon((struct h3_conn *)m);
}

/* --- streams --- */

struct h3_stream *h3_stream_find(struct h3_conn *c, int64_t id) {
  struct h3_stream *st;
  DL_SEARCH_SCALAR(c->streams, st, id, id);
  return st;
}

/* Not from nghttp3's callbacks. */
void h3_stream_close(struct h3_stream *st, int reason) {
  struct h3_conn *c = st->c;
  struct h3_request *hr = st->request;
  int64_t id = st->id;
  stream_close(st->s, reason);
  free_stream(st);
  if (hr)
    mux_request_over(&hr->r, !reason);
  nghttp3_conn_set_stream_user_data(c->ng, id, NULL);
  int rv = nghttp3_conn_close_stream(c->ng, id, code_of(reason));
  if (rv && rv != NGHTTP3_ERR_STREAM_NOT_FOUND)
    h3_conn_kill(c, BEAM_ERR_PROTOCOL); /* one that must not end: control, QPACK */
  h3_conn_flush_soon(c);
}

/* Everything was said in both directions. */
static bool is_over(const struct h3_stream *st) {
  return st->request && st->fed_end && st->request->r.fin_sent && !st->request->block_n;
}

/* A body whose request has no room for more stays where it is. */
static bool may_feed(const struct h3_stream *st) {
  return !st->request || evbuffer_get_length(st->request->r.in) < LIMIT_STREAM_WINDOW_MIN;
}

static void feed(struct h3_stream *st) {
  struct h3_conn *c = st->c;
  struct evbuffer *in = stream_input(st->s);
  struct evbuffer_iovec v;
  long err = 0;
  while (!err && may_feed(st) && evbuffer_peek(in, -1, NULL, &v, 1) > 0 && v.iov_len) {
    size_t n = v.iov_len < BLOCK_BYTES ? v.iov_len : BLOCK_BYTES;
    bool end = st->s->in_ended && n == evbuffer_get_length(in);
    st->fed_end = end;
    err = h3_engine_feed(st, v.iov_base, n, end);
    stream_consume(st->s, n);
  }
  if (!err && !st->fed_end && stream_at_end(st->s)) {
    st->fed_end = true;
    err = h3_engine_feed(st, NULL, 0, true);
  }
  if (err)
    h3_conn_kill(c, (int)err);
  else if (is_over(st) || (!st->bidi && st->fed_end))
    h3_stream_close(st, 0);
  h3_conn_flush_soon(c);
}

static void on_readable(void *user) {
  struct h3_stream *st = user;
  struct h3_conn *c = st->c;
  c->m.depth++;
  if (!c->kill && !(st->local && !st->bidi))
    feed(st);
  leave(c);
}

void h3_stream_feed_soon(struct h3_stream *st) {
  if (!st->c->m.dead && (stream_waiting(st->s) || (st->s->in_ended && !st->fed_end)))
    stream_tell_readable(st->s);
}

static void on_writable(void *user) {
  struct h3_stream *st = user;
  nghttp3_conn_unblock_stream(st->c->ng, st->id);
  if (st->request)
    mux_request_sent(&st->request->r);
  h3_conn_flush_soon(st->c);
}

static void on_stream_closed(void *user, int reason) {
  struct h3_stream *st = user;
  struct h3_conn *c = st->c;
  c->m.depth++;
  h3_stream_close(st, reason);
  leave(c);
}

static const struct stream_events stream_events = {on_readable, on_writable, on_stream_closed};

static struct h3_stream *take_stream(struct h3_conn *c, struct stream *s, bool bidi, bool local) {
  struct h3_stream *st = calloc(1, sizeof *st);
  if (!st) {
    stream_close(s, BEAM_ERR_NOMEM);
    return NULL;
  }
  st->c = c;
  st->s = s;
  st->id = quic_stream_id(s);
  st->bidi = bidi;
  st->local = local;
  DL_APPEND(c->streams, st);
  stream_own(s, &stream_events, st);
  return st;
}

static void fini(struct mux_request *r) {
  struct h3_request *hr = (struct h3_request *)r;
  if (hr->st)
    hr->st->request = NULL;
  if (hr->st && !r->c->dead)
    h3_stream_close(hr->st, hr->malformed ? BEAM_ERR_PROTOCOL : r->gone ? BEAM_ERR_RESET : 0);
  hr->st = NULL;
  block_put(hr->block);
  hr->block = NULL;
}

/* A request that was given up keeps its slot for the rest of the second, as in HTTP/2. */
static bool is_full(struct h3_conn *c) {
  uint64_t second = loop_now(c->m.loop) / 1000;
  if (second != c->reset_second) {
    c->reset_second = second;
    c->m.resets = 0;
  }
  return c->said_last || c->m.requests_n + c->m.resets >= LIMIT_H2_STREAMS;
}

static void on_stream(void *user, struct stream *s, bool bidi) {
  struct h3_conn *c = user;
  if (bidi && is_full(c)) {
    stream_close(s, BEAM_ERR_REFUSED); /* nothing was done: it may be tried again */
    return;
  }
  struct h3_stream *st = take_stream(c, s, bidi, false);
  if (!st || !bidi)
    return;
  st->request = (struct h3_request *)mux_request_new(&c->m, st->id, sizeof *st->request);
  if (!st->request) {
    h3_stream_close(st, BEAM_ERR_NOMEM);
    return;
  }
  st->request->st = st;
  st->request->r.fini = fini;
}

/* --- the connection --- */

static void work(struct h3_conn *c) {
  int err = c->m.dead || c->kill ? 0 : h3_engine_write(c);
  if (err)
    h3_conn_kill(c, err);
  struct h3_stream *st, *next;
  DL_FOREACH_SAFE(c->streams, st, next) {
    if (is_over(st))
      h3_stream_close(st, 0);
  }
  if (c->kill)
    die(c, c->kill);
  else if (c->said_last && !c->m.requests)
    die(c, 0);
}

static void flush(void *arg) {
  struct h3_conn *c = arg;
  c->m.depth++;
  work(c);
  leave(c);
}

static void on_ready(void *user) {
  (void)user; /* it was before it was ours */
}

static void on_closed(void *user, int reason) {
  struct h3_conn *c = user;
  c->m.depth++;
  die(c, reason);
  leave(c);
}

static const struct quic_conn_events events = {.ready = on_ready, .stream = on_stream, .closed = on_closed};

static void say_last(struct h3_conn *c) {
  c->said_last = true;
  nghttp3_conn_shutdown(c->ng);
  h3_conn_flush_soon(c);
}

static void on_timer(void *arg) {
  struct h3_conn *c = arg;
  uint64_t t = loop_now(c->m.loop);
  bool low = budget_left(&budget_pool) < budget_pool.cap / 8;
  c->m.depth++;
  struct mux_request *r, *next;
  DL_FOREACH_SAFE(c->m.requests, r, next) {
    if (!r->fresh && !r->track.open && !r->dead && t - r->moved >= LIMIT_HEAD_MS) {
      r->gone = 1; /* its head does not come */
      mux_request_soon(r);
    }
    mux_request_tick(r, t, low);
  }
  bool idle = !c->m.requests && t - c->m.idle_since >= LIMIT_KEEPALIVE_MS;
  if (!c->said_last && (idle || (c->last_at && t - c->last_at >= H3_CONN_LAST_MS)))
    say_last(c);
  if (timer_start(&c->timer, c->last_at && !c->said_last ? H3_CONN_LAST_MS : H3_CONN_TICK_MS))
    h3_conn_kill(c, BEAM_ERR_NOMEM);
  leave(c);
}

/* --- for the owner --- */

static void last(struct front *b) {
  struct h3_conn *c = of_base(b);
  if (c->m.last || c->m.dead)
    return;
  c->m.last = true;
  c->last_at = loop_now(c->m.loop);
  nghttp3_conn_submit_shutdown_notice(c->ng);
  h3_conn_flush_soon(c);
  if (timer_start(&c->timer, H3_CONN_LAST_MS))
    h3_conn_kill(c, BEAM_ERR_NOMEM);
}

static bool is_busy(const struct front *b) {
  return of_base(b)->m.requests != NULL;
}

static void drain(struct front *b) {
  last(b);
}

static void abort_now(struct front *b, int reason) {
  struct h3_conn *c = of_base(b);
  c->m.conf.closed = NULL;
  c->m.depth++;
  die(c, reason ? reason : BEAM_ERR_CLOSED);
  leave(c);
}

static uint64_t stalled(const struct front *b) {
  return mux_conn_stalled(&of_base(b)->m);
}

static void shed(struct front *b) {
  mux_conn_shed(&of_base(b)->m);
}

static const struct front_ops ops = {drain, last, is_busy, stalled, shed, abort_now};

/* Control, and QPACK's two: they live as long as the connection. */
static int open_streams(struct h3_conn *c) {
  int64_t id[3];
  for (int i = 0; i < 3; i++) {
    struct stream *s;
    int err = quic_conn_open(c->q, false, &s);
    if (err)
      return err;
    struct h3_stream *st = take_stream(c, s, false, true);
    if (!st)
      return BEAM_ERR_NOMEM;
    id[i] = st->id;
  }
  return h3_engine_bind(c, id[0], id[1], id[2]);
}

int h3_front_new(struct quic_conn *q, const struct front_conf *conf, struct front **out) {
  struct h3_conn *c = calloc(1, sizeof *c);
  if (!c) {
    quic_conn_close(q, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  c->m.base.ops = &ops;
  c->m.conf = *conf;
  c->m.conf.tls = true;
  c->m.loop = quic_conn_loop(q);
  c->m.engine = &h3_engine;
  c->m.idle = on_idle;
  c->m.free = free_conn;
  c->m.idle_since = loop_now(c->m.loop);
  c->q = q;
  task_init(&c->flush, flush, c);
  timer_init(&c->timer, c->m.loop, on_timer, c);
  quic_conn_codes(q, &codes);
  quic_conn_own(q, &events, c);
  int err = h3_engine_new(c);
  if (!err)
    err = open_streams(c);
  if (!err)
    err = timer_start(&c->timer, H3_CONN_TICK_MS);
  if (err) {
    c->m.conf.closed = NULL;
    c->m.depth++;
    die(c, err);
    leave(c);
    return err;
  }
  h3_conn_flush_soon(c);
  if (out)
    *out = &c->m.base;
  return 0;
}
