/* h2_front.c: a visitor's HTTP/2 connection: its life, the stream below, time, floods. */
#include "http/h2_front.h"

#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "http/h2_conn.h"
#include "io/block.h"
#include "io/budget.h"
#include "obs/metrics.h"

static struct h2_conn *of_base(const struct front *b) {
  return (struct h2_conn *)b;
}

static uint64_t now(struct h2_conn *c) {
  return loop_now(c->m.loop);
}

static void leave(struct h2_conn *c) {
  mux_conn_leave(&c->m);
}

/* --- life --- */

static void die(struct h2_conn *c, int reason) {
  if (c->m.dead)
    return;
  c->m.dead = true;
  mux_conn_abandon(&c->m);
  timer_stop(&c->timer);
  task_cancel(&c->flush);
  if (!c->s->dead && evbuffer_get_length(c->out))
    stream_move(c->s, c->out, evbuffer_get_length(c->out)); /* last words */
  stream_close(c->s, reason == BEAM_ERR_CLOSED ? 0 : reason);
}

static void free_conn(struct mux_conn *m) {
  struct h2_conn *c = (struct h2_conn *)m;
  mux_head_clear(&c->head);
  nghttp2_session_del(c->ng);
  evbuffer_free(c->out);
  free(c);
}

void h2_conn_flush_soon(struct h2_conn *c) {
  if (!c->m.dead)
    loop_turn_end(c->m.loop, &c->flush);
}

void h2_conn_kill(struct h2_conn *c, int reason) {
  if (!c->kill)
    c->kill = reason;
  h2_conn_flush_soon(c);
}

/* --- floods --- */

/* Frames that cost us and move nothing: an allowance that refills. Beyond it the visitor is told to calm down, and hears no more. */
bool h2_conn_spend(struct h2_conn *c) {
  uint64_t t = now(c), more = (t - c->tokens_at) * LIMIT_H2_GLITCHES_S / 1000;
  if (more) {
    c->tokens = c->tokens + more < LIMIT_H2_GLITCHES ? c->tokens + (unsigned)more : LIMIT_H2_GLITCHES;
    c->tokens_at = t;
  }
  if (c->tokens) {
    c->tokens--;
    return true;
  }
  if (!c->calm) {
    c->calm = 1;
    metric_add(METRIC_FLOODS, 1);
    log_limited(BEAM_LOG_WARN, "http", "http2 visitor: a flood of frames that move nothing");
    nghttp2_session_terminate_session(c->ng, NGHTTP2_ENHANCE_YOUR_CALM);
    h2_conn_flush_soon(c);
  }
  return false;
}

/* A request that was reset keeps its slot for the rest of the second: what it set in motion behind us ends no sooner. */
bool h2_conn_full(struct h2_conn *c) {
  uint64_t second = now(c) / 1000;
  if (second != c->reset_second) {
    c->reset_second = second;
    c->m.resets = 0;
  }
  return c->said_last || c->calm || c->m.requests_n + c->m.resets >= LIMIT_H2_STREAMS;
}

/* --- the stream below --- */

/* Frames into c->out, until there are as many bytes as the stream has room for, or none are left. */
static int fill(struct h2_conn *c) {
  while (evbuffer_get_length(c->out) < c->room) {
    const uint8_t *p;
    ssize_t n = nghttp2_session_mem_send(c->ng, &p);
    if (n <= 0)
      return n < 0 ? BEAM_ERR_PROTOCOL : 0;
    if (buffer_put(c->out, p, (size_t)n))
      return BEAM_ERR_NOMEM;
  }
  return 0;
}

static bool push_down(struct h2_conn *c) {
  size_t n = evbuffer_get_length(c->out);
  return !n || stream_move(c->s, c->out, n) == n;
}

/* Nothing more will be said, and nothing more is heard: the engine gave up on the peer, or everything is answered after GOAWAY. */
static bool is_over(struct h2_conn *c) {
  if (evbuffer_get_length(c->out) || nghttp2_session_want_write(c->ng))
    return false;
  return c->calm || !nghttp2_session_want_read(c->ng) || (c->said_last && !c->m.requests);
}

static void work(struct h2_conn *c) {
  bool more = !c->m.dead && !c->kill;
  while (more && push_down(c) && (c->room = stream_room(c->s)) > 0) {
    int err = fill(c);
    if (err)
      h2_conn_kill(c, err);
    more = !err && evbuffer_get_length(c->out) > 0;
  }
  if (c->kill)
    die(c, c->kill);
  else if (!c->m.dead && is_over(c))
    die(c, 0);
}

static void flush(void *arg) {
  struct h2_conn *c = arg;
  c->m.depth++;
  work(c);
  leave(c);
}

static void feed(struct h2_conn *c) {
  struct evbuffer *in = stream_input(c->s);
  struct evbuffer_iovec v[16];
  c->heard = now(c);
  c->pinged = 0;
  while (evbuffer_get_length(in) && !c->kill && !c->calm) {
    int pieces = evbuffer_peek(in, -1, NULL, v, 16), err = 0;
    size_t used = 0;
    for (int i = 0; i < pieces && i < 16; i++) {
      if (!err)
        err = h2_engine_feed(c, v[i].iov_base, v[i].iov_len);
      used += v[i].iov_len;
    }
    stream_consume(c->s, used);
    if (err)
      h2_conn_kill(c, err);
  }
}

static void on_readable(void *user) {
  struct h2_conn *c = user;
  c->m.depth++;
  feed(c);
  if (stream_at_end(c->s) && !c->kill)
    c->kill = c->m.requests ? BEAM_ERR_RESET : BEAM_ERR_CLOSED;
  h2_conn_flush_soon(c);
  leave(c);
}

static void on_writable(void *user) {
  flush(user);
}

static void on_closed(void *user, int reason) {
  struct h2_conn *c = user;
  c->m.depth++;
  die(c, reason);
  leave(c);
}

static const struct stream_events events = {on_readable, on_writable, on_closed};

/* --- time --- */

static bool start_timer(struct h2_conn *c, uint64_t ms) {
  if (timer_start(&c->timer, ms))
    h2_conn_kill(c, BEAM_ERR_NOMEM);
  return !c->kill;
}

/* A visitor that went without a word, such as a browser whose machine sleeps, would hold a server-sent events stream for ever. */
static void check_alive(struct h2_conn *c, uint64_t t) {
  if (c->pinged && t - c->pinged >= LIMIT_H2_PONG_MS) {
    h2_conn_kill(c, BEAM_ERR_TIMEOUT);
  } else if (!c->pinged && t - c->heard >= LIMIT_H2_PING_MS) {
    c->pinged = t;
    nghttp2_submit_ping(c->ng, NGHTTP2_FLAG_NONE, NULL);
    h2_conn_flush_soon(c);
  }
}

static void say_last(struct h2_conn *c) {
  c->said_last = 1;
  nghttp2_submit_goaway(c->ng, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(c->ng),
                        NGHTTP2_NO_ERROR, NULL, 0);
  h2_conn_flush_soon(c);
}

static void on_timer(void *arg) {
  struct h2_conn *c = arg;
  uint64_t t = now(c);
  bool low = budget_left(&budget_pool) < budget_pool.cap / 8;
  c->m.depth++;
  struct mux_request *r, *next;
  DL_FOREACH_SAFE(c->m.requests, r, next) {
    mux_request_tick(r, t, low);
  }
  if (c->block_since && t - c->block_since >= LIMIT_HEAD_MS)
    h2_conn_kill(c, BEAM_ERR_TIMEOUT);
  else if (!c->saw_settings && t - c->m.idle_since >= LIMIT_HEAD_MS)
    h2_conn_kill(c, BEAM_ERR_TIMEOUT);
  else if (c->last_at && !c->said_last && t - c->last_at >= H2_CONN_LAST_MS)
    say_last(c);
  else if (!c->m.requests && !c->said_last && t - c->m.idle_since >= LIMIT_KEEPALIVE_MS)
    say_last(c);
  else if (c->m.requests)
    check_alive(c, t);
  start_timer(c, c->last_at && !c->said_last ? H2_CONN_LAST_MS : H2_CONN_TICK_MS);
  leave(c);
}

/* --- for the owner --- */

static void last(struct front *b) {
  struct h2_conn *c = of_base(b);
  if (c->m.last || c->m.dead)
    return;
  c->m.last = true;
  c->last_at = now(c);
  nghttp2_submit_shutdown_notice(c->ng);
  h2_conn_flush_soon(c);
  start_timer(c, H2_CONN_LAST_MS);
}

static bool is_busy(const struct front *b) {
  return of_base(b)->m.requests != NULL;
}

static void drain(struct front *b) {
  last(b);
}

static void abort_now(struct front *b, int reason) {
  struct h2_conn *c = of_base(b);
  c->m.conf.closed = NULL;
  c->m.depth++;
  die(c, reason ? reason : BEAM_ERR_CLOSED);
  leave(c);
}

static void on_idle(struct mux_conn *m) {
  h2_conn_flush_soon((struct h2_conn *)m);
}

static uint64_t stalled(const struct front *b) {
  return mux_conn_stalled(&of_base(b)->m);
}

static void shed(struct front *b) {
  mux_conn_shed(&of_base(b)->m);
}

static const struct front_ops ops = {drain, last, is_busy, stalled, shed, abort_now};

int h2_front_new(struct stream *s, const struct front_conf *conf, struct front **out) {
  struct h2_conn *c = calloc(1, sizeof *c);
  if (!c) {
    stream_close(s, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  c->m.base.ops = &ops;
  c->s = s;
  c->m.conf = *conf;
  c->m.loop = s->loop;
  c->m.engine = &h2_engine;
  c->m.idle = on_idle;
  c->m.free = free_conn;
  c->heard = c->m.idle_since = c->tokens_at = now(c);
  c->tokens = LIMIT_H2_GLITCHES;
  task_init(&c->flush, flush, c);
  timer_init(&c->timer, s->loop, on_timer, c);
  c->out = evbuffer_new();
  if (!c->out || h2_engine_new(c) || timer_start(&c->timer, H2_CONN_TICK_MS)) {
    nghttp2_session_del(c->ng);
    if (c->out)
      evbuffer_free(c->out);
    free(c);
    stream_close(s, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  stream_own(s, &events, c);
  h2_conn_flush_soon(c);
  if (out)
    *out = &c->m.base;
  return 0;
}
