#include "http/filter.h"

#include <beam/beam.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"

/* Of a filter that encodes. */
struct encoding {
  struct http_filter *f;
  struct encode_share *share;
  struct evbuffer *out; /* made, and not taken by the front */
  struct loop_task work;
  struct loop_timer next_turn;
  struct http_head trailers;
  bool unflushed; /* the encoder may hold something back */
  bool held;      /* the upstream was told that there is no room */
  bool closing;   /* it has ended: so do we once out is empty */
};

static struct http_filter *of_above(struct http_end *e) {
  return (struct http_filter *)((char *)e - offsetof(struct http_filter, above));
}

static struct http_filter *of_below(struct http_end *e) {
  return (struct http_filter *)((char *)e - offsetof(struct http_filter, below));
}

/* Off everybody's stack: nobody calls us any more. */
static void encoding_free(struct encoding *c) {
  if (!c)
    return;
  task_cancel(&c->work);
  timer_stop(&c->next_turn);
  http_head_free(&c->trailers);
  evbuffer_free(c->out);
  free(c);
}

/* The front gets another upstream, ours is let go. True: what it still says is wanted. */
static bool answered(struct http_filter *f) {
  struct http_end *front = f->above.peer;
  f->answers = false;
  http_done(&f->above);
  if (front)
    f->ops->answer(f, front);
  return f->sink && f->below.peer && !f->resp_ended;
}

static void step(void *arg) {
  struct http_filter *f = arg;
  if (f->answers && !f->failed && answered(f))
    return;
  if (!f->resp_ended)
    http_send_abort(&f->below, PAGE_VISITOR_GONE);
  if (f->failed) {
    http_send_abort(&f->below, PAGE_VISITOR_GONE);
    http_send_abort(&f->above, f->failed);
  }
  http_done(&f->above);
  http_done(&f->below);
  encoding_free(f->encoding);
  f->ops->free(f);
}

static void over(struct http_filter *f) {
  loop_soon(f->loop, &f->step);
}

static void maybe_over(struct http_filter *f) {
  if (f->req_ended && f->resp_ended)
    over(f);
}

static void fail(struct http_filter *f, enum page page) {
  if (!f->failed)
    f->failed = page;
  over(f);
}

/* --- the request: the front speaks to `above` --- */

static void req_head(struct http_end *e, const struct http_head *h, bool more) {
  struct http_filter *f = of_above(e);
  struct http_head out = {0};
  f->body_follows = more;
  int what = f->ops->request ? f->ops->request(f, h, &out) : 0;
  if (what < 0) {
    fail(f, PAGE_INTERNAL);
    return;
  }
  f->req_ended = !more;
  f->answers = what >= FILTER_ANSWER;
  f->sink = what == FILTER_ANSWER_FETCH;
  if (f->answers)
    over(f); /* before the upstream hears of it: the front is gone by the time that answers */
  if (what != FILTER_ANSWER)
    http_send_head(&f->below, what ? &out : h, more);
  http_head_free(&out);
}

static size_t req_room(struct http_end *e) {
  struct http_filter *f = of_above(e);
  return f->failed ? 0 : http_room(&f->below);
}

static size_t req_body(struct http_end *e, struct evbuffer *from, size_t n) {
  struct http_filter *f = of_above(e);
  enum page page = f->ops->request_body ? f->ops->request_body(f, n) : PAGE_NONE;
  if (page || f->failed) {
    fail(f, page);
    return 0;
  }
  return http_send_body(&f->below, from, n);
}

static void req_trailers(struct http_end *e, const struct http_head *h) {
  http_send_trailers(&of_above(e)->below, h);
}

static void req_end(struct http_end *e) {
  struct http_filter *f = of_above(e);
  f->req_ended = true;
  http_send_end(&f->below);
  maybe_over(f);
}

static void req_abort(struct http_end *e, enum page page) {
  struct http_filter *f = of_above(e);
  http_send_abort(&f->below, page);
  over(f);
}

static void req_want(struct http_end *e) {
  struct http_filter *f = of_above(e);
  if (f->encoding)
    loop_soon(f->loop, &f->encoding->work);
  else
    http_send_want(&f->below);
}

static const struct http_end_ops above_ops = {"filter",     req_head, NULL, req_room,  req_body,
                                              req_trailers, req_end,  NULL, req_abort, req_want};

/* --- a body that becomes another --- */

static void share_reset(void *arg) {
  ((struct encode_share *)arg)->spent = 0;
}

static void share_spend(struct loop *l, struct encode_share *s, size_t n) {
  if (!n)
    return;
  if (!s->spent)
    task_init(&s->reset, share_reset, s);
  s->spent += n;
  loop_turn_end(l, &s->reset);
}

void encode_share_fini(struct encode_share *s) {
  if (s->spent)
    task_cancel(&s->reset);
}

/* What was made goes to the front as far as it takes it. True: all of it. */
static bool push(struct encoding *c) {
  struct http_end *to = &c->f->above;
  size_t left, room;
  while ((left = evbuffer_get_length(c->out)) && (room = http_room(to)))
    if (!http_send_body(to, c->out, left < room ? left : room))
      break;
  return !left;
}

static bool encode(struct encoding *c, const void *p, size_t n, enum encode_what what) {
  struct http_filter *f = c->f;
  c->unflushed = what == ENCODE_MORE;
  if (f->failed || !f->ops->encode(f, p, n, what, c->out))
    return !f->failed;
  fail(f, PAGE_TRUNCATED);
  return false;
}

/* The message is whole and made: its end follows the last of it. */
static void finish(struct encoding *c) {
  struct http_filter *f = c->f;
  if (f->resp_ended || !push(c))
    return;
  if (c->trailers.fields_n)
    http_send_trailers(&f->above, &c->trailers);
  f->resp_ended = true;
  http_send_end(&f->above);
  maybe_over(f);
}

/* After what the upstream had to say now, or when the front has room again. */
static void work(void *arg) {
  struct encoding *c = arg;
  struct http_filter *f = c->f;
  if (f->failed || !f->above.peer || !push(c)) /* ... or want() comes */
    return;
  if (c->closing) {
    finish(c);
    return;
  }
  if (timer_set(&c->next_turn))
    return;
  if (c->held) { /* more may be waiting behind us: it comes first, and a flush after it */
    c->held = false;
    http_send_want(&f->below);
    loop_soon(f->loop, &c->work);
  } else if (c->unflushed && encode(c, NULL, 0, ENCODE_FLUSH)) {
    push(c);
  }
}

static size_t encode_room(struct encoding *c) {
  size_t left = c->share->spent < LIMIT_ENCODE_TURN ? LIMIT_ENCODE_TURN - c->share->spent : 0;
  if (c->closing || c->f->failed)
    return 0;
  if (push(c) && left)
    return left < LIMIT_ENCODE_STEP ? left : LIMIT_ENCODE_STEP;
  c->held = true;
  if (!left && !timer_set(&c->next_turn) && timer_start(&c->next_turn, 0))
    fail(c->f, PAGE_TRUNCATED);
  return 0;
}

static size_t encode_body(struct encoding *c, struct evbuffer *from, size_t n) {
  size_t room = encode_room(c), done = 0;
  n = n < room ? n : room;
  while (done < n) {
    struct evbuffer_iovec v;
    if (evbuffer_peek(from, (ev_ssize_t)(n - done), NULL, &v, 1) < 1)
      break;
    size_t some = v.iov_len < n - done ? v.iov_len : n - done;
    if (!encode(c, v.iov_base, some, ENCODE_MORE))
      return done;
    evbuffer_drain(from, some);
    done += some;
  }
  share_spend(c->f->loop, c->share, done);
  push(c);
  loop_soon(c->f->loop, &c->work);
  return done;
}

static void encode_end(struct encoding *c) {
  c->closing = true;
  if (encode(c, NULL, 0, ENCODE_END))
    finish(c);
}

static void on_next_turn(void *arg) {
  work(arg);
}

int http_filter_encode(struct http_filter *f, struct encode_share *share) {
  struct encoding *c = calloc(1, sizeof *c);
  if (!c || !(c->out = evbuffer_new())) {
    free(c);
    return BEAM_ERR_NOMEM;
  }
  c->f = f;
  c->share = share;
  task_init(&c->work, work, c);
  timer_init(&c->next_turn, f->loop, on_next_turn, c);
  f->encoding = c;
  return 0;
}

/* --- the response: the upstream speaks to `below` --- */

static void ended(struct http_filter *f) {
  if (f->ops->response_end)
    f->ops->response_end(f, f->trailers);
}

static void resp_head(struct http_end *e, const struct http_head *h, bool more) {
  struct http_filter *f = of_below(e);
  struct http_head out = {0};
  f->body_follows = more;
  int what = f->ops->response(f, h, &out);
  if (what < 0) {
    log_limited(BEAM_LOG_WARN, "http", "response head refused: %s", beam_strerror(what));
    fail(f, PAGE_LOCAL_BAD);
    return;
  }
  f->resp_ended = !more;
  if (what == FILTER_ANSWER) {
    f->answers = true;
    over(f);
    return;
  }
  if (!f->sink)
    http_send_head(&f->above, what ? &out : h, more);
  http_head_free(&out);
  if (!more)
    ended(f);
  maybe_over(f);
}

static void resp_info(struct http_end *e, const struct http_head *h) {
  http_send_info(&of_below(e)->above, h);
}

static size_t resp_room(struct http_end *e) {
  struct http_filter *f = of_below(e);
  if (f->sink)
    return LIMIT_STREAM_WINDOW_MIN;
  return f->encoding ? encode_room(f->encoding) : http_room(&f->above);
}

/* As it is. Whoever wants to see it sees exactly what passes. */
static size_t pass_body(struct http_filter *f, struct evbuffer *from, size_t n) {
  if (!f->ops->response_body && !f->sink)
    return http_send_body(&f->above, from, n);
  size_t room = f->sink ? n : http_room(&f->above);
  n = n < room ? n : room;
  if (n && f->ops->response_body)
    f->ops->response_body(f, from, n);
  size_t took = f->sink ? n : http_send_body(&f->above, from, n);
  if (f->sink)
    evbuffer_drain(from, n);
  if (took != n && f->ops->response_body)
    f->ops->response_body(f, NULL, 0);
  return took;
}

static size_t resp_body(struct http_end *e, struct evbuffer *from, size_t n) {
  struct http_filter *f = of_below(e);
  return f->encoding ? encode_body(f->encoding, from, n) : pass_body(f, from, n);
}

static void resp_trailers(struct http_end *e, const struct http_head *h) {
  struct http_filter *f = of_below(e);
  f->trailers = true;
  if (!f->encoding)
    http_send_trailers(&f->above, h);
  else if (http_head_copy(&f->encoding->trailers, h))
    fail(f, PAGE_TRUNCATED);
}

static void resp_end(struct http_end *e) {
  struct http_filter *f = of_below(e);
  if (f->encoding) {
    encode_end(f->encoding);
    return;
  }
  f->resp_ended = true;
  ended(f);
  http_send_end(&f->above);
  maybe_over(f);
}

static void resp_stop(struct http_end *e) {
  struct http_filter *f = of_below(e);
  f->req_ended = true;
  http_send_stop(&f->above);
  maybe_over(f);
}

static void resp_abort(struct http_end *e, enum page page) {
  struct http_filter *f = of_below(e);
  http_send_abort(&f->above, page);
  over(f);
}

static void resp_want(struct http_end *e) {
  http_send_want(&of_below(e)->above);
}

static const struct http_end_ops below_ops = {"filter",      resp_head, resp_info, resp_room,  resp_body,
                                              resp_trailers, resp_end,  resp_stop, resp_abort, resp_want};

void http_filter_join(struct loop *l, struct http_filter *f, const struct http_filter_ops *ops,
                      struct http_end *front, struct http_end *upstream) {
  f->ops = ops;
  f->loop = l;
  f->above.ops = &above_ops;
  f->below.ops = &below_ops;
  task_init(&f->step, step, f);
  http_join(front, &f->above);
  http_join(&f->below, upstream);
}
