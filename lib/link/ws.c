/* ws.c: the stream contract over WebSocket frames.
 *
 *   lower's input ──fill──► s.in ──► owner      as much as LIMIT_WS_IN; the rest stays with the lower stream, which then stops reading
 *   owner ──move──► out ──► lower               framed (and masked) as it is written; out holds what the lower stream did not take
 *
 *            close frame received           stream_finish: close frame sent
 *   OPEN ─────────────────────────► IN ENDED / OUT ENDED ──both──► the lower stream is finished
 *     │ fault: close frame with its code, lower closed in order      lower ended without close frame: TRUNCATED
 *     ▼
 *   DEAD ──stream_close──► freed                   stream_close(0) with bytes still to leave: ORPHAN ──drained or LIMIT_SOCK_DRAIN_MS──► freed
 */
#include "link/ws.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/random.h"
#include "io/block.h"
#include "wire/ws.h"

enum {
  STEP = 16 * 1024, /* copied, then masked: the second pass finds it in the cache */
  SPARE = 2 * (WS_HEADER_MAX + WS_CONTROL_MAX), /* kept in the lower stream for a pong and a close */
  LEAST = 1024,                                 /* taken although the lower stream has hardly any room */
  HEAD = WS_HEADER_MAX + WS_CONTROL_MAX,
  FRAMES = LIMIT_SOCK_OUT / LIMIT_WS_FRAME + 1, /* in as much as is taken at once */
};

struct ws {
  struct stream s;
  struct stream *lower; /* NULL once closed */
  struct evbuffer *out;
  struct ws_reader reader;
  struct loop_task fill, flush;
  struct loop_timer drain;
  uint8_t pong[WS_CONTROL_MAX];
  uint8_t pong_n;
  bool client;
  unsigned pong_due : 1;
  unsigned heard_bye : 1;
  unsigned said_bye : 1; /* our close frame is in out, or beyond */
  unsigned finished : 1; /* the lower stream was finished */
  unsigned orphan : 1;   /* no owner any more: what was written drains, then it is freed */
};

static void destroy(struct ws *w, int reason) {
  task_cancel(&w->fill);
  task_cancel(&w->flush);
  timer_stop(&w->drain);
  stream_close(w->lower, reason);
  if (w->out)
    evbuffer_free(w->out);
  stream_fini(&w->s);
  free(w);
}

/* --- sending --- */

static void push_down(struct ws *w) {
  size_t n = evbuffer_get_length(w->out);
  if (n)
    stream_move(w->lower, w->out, n);
}

/* A frame's header into out; mask is what the payload is to be masked with. */
static int put_header(struct ws *w, uint8_t op, size_t n, uint8_t mask[4]) {
  struct ws_frame f = {.fin = true, .op = op, .masked = w->client, .length = n};
  uint8_t header[WS_HEADER_MAX];
  if (w->client)
    random_bytes(f.mask, 4);
  memcpy(mask, f.mask, 4);
  return evbuffer_add(w->out, header, ws_frame_encode(header, &f)) ? BEAM_ERR_NOMEM : 0;
}

static int put_control(struct ws *w, uint8_t op, const uint8_t *p, size_t n) {
  uint8_t mask[4], payload[WS_CONTROL_MAX];
  int err = put_header(w, op, n, mask);
  if (w->client)
    ws_mask(payload, p, n, mask, 0);
  else if (n)
    memcpy(payload, p, n);
  return err || evbuffer_add(w->out, payload, n) ? BEAM_ERR_NOMEM : 0;
}

static int put_close(struct ws *w, uint16_t code) {
  uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
  w->said_bye = 1;
  return put_control(w, WS_CLOSE, payload, 2);
}

/* Move n bytes behind `to`, masked with what stands `at` bytes into the mask. */
static int move_masked(struct evbuffer *to, struct evbuffer *from, size_t n, const uint8_t mask[4],
                       uint64_t at) {
  for (size_t k; n; n -= k, at += k) {
    struct evbuffer_iovec v;
    k = n < STEP ? n : STEP;
    if (evbuffer_reserve_space(to, (ev_ssize_t)k, &v, 1) < 1 ||
        evbuffer_remove(from, v.iov_base, k) != (int)k)
      return BEAM_ERR_NOMEM;
    ws_mask(v.iov_base, v.iov_base, k, mask, at);
    v.iov_len = k;
    if (evbuffer_commit_space(to, &v, 1))
      return BEAM_ERR_NOMEM;
  }
  return 0;
}

/* The connection is over. A close frame says why, if the lower stream takes it: that is then closed in order. */
static void fault(struct ws *w, int err, uint16_t code) {
  struct stream *lower = w->lower;
  if (!lower || w->s.dead)
    return;
  if (code && !w->said_bye)
    put_close(w, code);
  push_down(w);
  w->lower = w->s.below = NULL;
  stream_close(lower, code && !evbuffer_get_length(w->out) ? 0 : err);
  stream_tell_closed(&w->s, err);
}

/* What waits goes down: frames, then a pong, then the close frame; then the lower stream is finished, once the peer has said its close too. */
static int send_all(struct ws *w) {
  push_down(w);
  if (w->pong_due && !w->said_bye && evbuffer_get_length(w->out) < SPARE) {
    w->pong_due = 0;
    if (put_control(w, WS_PONG, w->pong, w->pong_n))
      return BEAM_ERR_NOMEM;
    push_down(w);
  }
  if (w->s.out_ended && !w->said_bye) {
    if (put_close(w, WS_CODE_NORMAL))
      return BEAM_ERR_NOMEM;
    push_down(w);
  }
  if (w->said_bye && w->heard_bye && !w->finished && !evbuffer_get_length(w->out)) {
    w->finished = 1;
    stream_finish(w->lower);
  }
  return 0;
}

static void flush(void *arg) {
  struct ws *w = arg;
  if (!w->lower || w->s.dead)
    return;
  int err = send_all(w);
  if (w->orphan) {
    if (err || !evbuffer_get_length(w->out))
      destroy(w, err);
    else
      stream_room(w->lower); /* it tells when there is more */
    return;
  }
  if (err)
    fault(w, err, 0);
  else if (w->s.want_room && stream_room(&w->s))
    stream_tell_writable(&w->s);
}

static void on_writable(void *user) {
  flush(user);
}

static size_t room(struct stream *s) {
  struct ws *w = (struct ws *)s;
  size_t held = evbuffer_get_length(w->out), below = w->lower ? stream_room(w->lower) : 0;
  size_t added = held + FRAMES * WS_HEADER_MAX + SPARE;
  size_t fits = below > added ? below - added : 0;
  if (fits)
    return fits < LIMIT_SOCK_OUT ? fits : LIMIT_SOCK_OUT;
  return !held && below ? LEAST : 0;
}

static size_t move(struct stream *s, struct evbuffer *from, size_t n) {
  struct ws *w = (struct ws *)s;
  size_t r = room(s), took = 0;
  if (n > r || s->want_room) /* the lower stream may still have room then, and would never tell: look again */
    loop_turn_end(s->loop, &w->flush);
  if (n > r)
    n = r;
  while (took < n) {
    uint8_t mask[4];
    size_t k = n - took < LIMIT_WS_FRAME ? n - took : LIMIT_WS_FRAME;
    int err = put_header(w, WS_BINARY, k, mask);
    if (!err && w->client)
      err = move_masked(w->out, from, k, mask, 0);
    else if (!err && buffer_move(w->out, from, k) != k)
      err = BEAM_ERR_NOMEM;
    if (err) { /* a header without its payload: nothing more can be said */
      fault(w, err, 0);
      return took;
    }
    took += k;
  }
  if (took)
    push_down(w);
  return took;
}

static void finish(struct stream *s) {
  struct ws *w = (struct ws *)s;
  if (w->lower && send_all(w))
    fault(w, BEAM_ERR_NOMEM, 0);
}

/* --- receiving --- */

static int take_data(struct ws *w, size_t n) {
  struct evbuffer *from = stream_input(w->lower);
  int err = 0;
  if (w->client)
    err = buffer_move(w->s.in, from, n) == n ? 0 : BEAM_ERR_NOMEM;
  else
    err = move_masked(w->s.in, from, n, w->reader.f.mask, w->reader.at);
  if (err)
    return err;
  stream_credit(w->lower, n);
  ws_reader_ate(&w->reader, n);
  return 0;
}

/* A whole control frame; its payload is p. 0, or the code to close with. */
static uint16_t take_control(struct ws *w, const uint8_t *p, size_t n) {
  switch (w->reader.f.op) {
  case WS_PING: /* of several the last may be answered alone, RFC 6455 5.5.3 */
    ws_reader_unmask(&w->reader, w->pong, p, n);
    w->pong_n = (uint8_t)n;
    w->pong_due = 1;
    return 0;
  case WS_CLOSE: {
    uint8_t payload[WS_CONTROL_MAX];
    ws_reader_unmask(&w->reader, payload, p, n);
    int code = ws_close_code(payload, n);
    if (code < 0)
      return WS_CODE_PROTOCOL;
    w->heard_bye = 1;
    if (code != WS_CODE_NORMAL && code != WS_CODE_NONE)
      log_debug("ws", "closed by the peer code=%d", code);
    return 0;
  }
  default:
    return 0;
  }
}

/* Read frames until s.in holds `ceiling` bytes, or the peer said its close. 0; an error; or a positive code to close with. */
static int read_frames(struct ws *w, size_t ceiling) {
  struct evbuffer *in = stream_input(w->lower);
  while (!w->heard_bye && evbuffer_get_length(w->s.in) < ceiling) {
    uint8_t head[HEAD];
    size_t used;
    uint64_t data;
    ev_ssize_t n = evbuffer_copyout(in, head, sizeof head);
    if (n < 0)
      return BEAM_ERR_NOMEM;
    enum ws_what what = ws_reader_next(&w->reader, head, (size_t)n, &used, &data);
    if (what == WS_WHAT_BAD)
      return w->reader.code;
    stream_consume(w->lower, used);
    size_t left = ceiling - evbuffer_get_length(w->s.in), waiting = evbuffer_get_length(in);
    if (what == WS_WHAT_CONTROL) {
      uint16_t code = take_control(w, head + used, (size_t)data);
      ws_reader_ate(&w->reader, data);
      stream_consume(w->lower, (size_t)data);
      if (code)
        return code;
    } else if (what == WS_WHAT_MORE || !waiting) {
      return w->lower->in_ended ? BEAM_ERR_TRUNCATED : 0;
    } else {
      size_t k = data < waiting ? (size_t)data : waiting;
      int err = take_data(w, k < left ? k : left);
      if (err)
        return err;
    }
  }
  return 0;
}

static void read_up_to(struct ws *w, size_t ceiling) {
  size_t before = evbuffer_get_length(w->s.in);
  int err = read_frames(w, ceiling);
  if (w->heard_bye)
    stream_consume(w->lower, stream_waiting(w->lower)); /* whatever comes now means nothing */
  if (w->heard_bye && !err)
    w->s.in_ended = 1;
  if (evbuffer_get_length(w->s.in) > before || (w->heard_bye && !err))
    stream_tell_readable(&w->s);
  if (!err)
    err = send_all(w); /* a pong, the end of both */
  if (err)
    fault(w, err > 0 ? BEAM_ERR_PROTOCOL : err, err > 0 ? (uint16_t)err : 0);
}

static void fill(void *arg) {
  struct ws *w = arg;
  if (!w->lower || w->s.dead || w->orphan)
    return;
  if (w->heard_bye)
    stream_consume(w->lower, stream_waiting(w->lower));
  else
    read_up_to(w, LIMIT_WS_IN);
}

static void consumed(struct stream *s, size_t n) {
  struct ws *w = (struct ws *)s;
  (void)n;
  if (w->lower && !w->heard_bye && (stream_waiting(w->lower) || w->lower->in_ended) &&
      evbuffer_get_length(s->in) < LIMIT_WS_IN)
    loop_soon(s->loop, &w->fill);
}

/* --- what the lower stream tells --- */

static void on_readable(void *user) {
  struct ws *w = user;
  if (w->orphan)
    stream_consume(w->lower, stream_waiting(w->lower));
  else
    fill(w);
}

static void on_closed(void *user, int reason) {
  struct ws *w = user;
  if (w->orphan) {
    destroy(w, reason);
    return;
  }
  if (w->s.dead)
    return;
  /* What came before the end is the owner's, ceiling or not: the lower stream's own ceiling bounds it. */
  if (!w->heard_bye)
    read_up_to(w, SIZE_MAX);
  fault(w, reason, 0);
}

static const struct stream_events below = {on_readable, on_writable, on_closed};

/* --- life --- */

static void drained_too_slowly(void *arg) {
  destroy(arg, BEAM_ERR_TIMEOUT);
}

static void end_of_loop(void *arg) {
  destroy(arg, BEAM_ERR_CLOSED);
}

static void close_ws(struct stream *s, int reason) {
  struct ws *w = (struct ws *)s;
  if (reason || !w->lower || stream_dead(w->lower) || !evbuffer_get_length(w->out)) {
    destroy(w, reason);
    return;
  }
  if (timer_start(&w->drain, LIMIT_SOCK_DRAIN_MS)) {
    destroy(w, BEAM_ERR_NOMEM);
    return;
  }
  w->orphan = 1;
  evbuffer_drain(s->in, evbuffer_get_length(s->in));
  stream_consume(w->lower, stream_waiting(w->lower));
  stream_room(w->lower);
  task_cancel(&w->flush);
  task_cancel(&w->fill);
  task_init(&w->fill, end_of_loop, w);
  loop_at_free(s->loop, &w->fill);
}

static const struct stream_ops ops = {"ws", consumed, room, move, finish, close_ws};

int ws_stream(struct stream *lower, enum ws_role role, struct stream **out) {
  struct ws *w = calloc(1, sizeof *w);
  if (!w) {
    stream_close(lower, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  int err = stream_init(&w->s, &ops, lower->loop);
  w->s.via = ops.kind;
  w->lower = w->s.below = lower;
  w->client = role == WS_CLIENT;
  w->out = evbuffer_new();
  ws_reader_init(&w->reader, !w->client, LIMIT_WS_MESSAGE);
  task_init(&w->fill, fill, w);
  task_init(&w->flush, flush, w);
  timer_init(&w->drain, lower->loop, drained_too_slowly, w);
  if (err || !w->out) {
    destroy(w, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  stream_own(lower, &below, w);
  *out = &w->s;
  return 0;
}
