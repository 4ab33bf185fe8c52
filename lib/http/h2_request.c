/* h2_request.c: one request of an HTTP/2 visitor: the front end of its exchange. Drawn in h2_conn.h. */
#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "http/h2_conn.h"
#include "io/block.h"
#include "io/budget.h"
#include "wire/ws.h"

/* A window that was used up within this time was too small: it should hold what comes in about so long. */
enum { WINDOW_MS = 250 };

static const struct http_end_ops front_ops;

static struct h2_request *of(struct http_end *e) {
  return (struct h2_request *)e;
}

static uint64_t now(struct h2_request *r) {
  return loop_now(r->c->s->loop);
}

void h2_request_soon(struct h2_request *r) {
  loop_soon(r->c->s->loop, &r->step);
}

/* --- memory --- */

/* What a body may hold beside the pool is charged to it. */
static void charge(size_t *held, size_t n) {
  if (n > *held)
    budget_charge(&budget_pool, n - *held);
  else
    budget_give(&budget_pool, *held - n);
  *held = n;
}

static size_t beyond(struct evbuffer *b, size_t free) {
  size_t n = evbuffer_get_length(b);
  return n > free ? n - free : 0;
}

/* A little for a visitor that takes nothing, more while it has credit and the pool is rich. */
static size_t ceiling(struct h2_request *r) {
  int32_t credit = nghttp2_session_get_stream_remote_window_size(r->c->ng, r->id);
  size_t more = credit > 0 && budget_left(&budget_pool) > LIMIT_POOL_SPARE ? (size_t)credit : 0;
  if (more > LIMIT_SOCK_OUT - LIMIT_SOCK_MIN)
    more = LIMIT_SOCK_OUT - LIMIT_SOCK_MIN;
  return LIMIT_SOCK_MIN + more;
}

/* The bytes of r->in were taken, or are dropped. */
static void took(struct h2_request *r, size_t n) {
  r->c->waiting -= n;
  charge(&r->in_held, evbuffer_get_length(r->in));
  h2_engine_credit(r, n);
}

static void drop_in(struct h2_request *r) {
  size_t n = evbuffer_get_length(r->in);
  if (!n)
    return;
  evbuffer_drain(r->in, n);
  took(r, n);
}

/* An upload that comes fast gets a larger window, out of what the pool can spare. */
static void widen(struct h2_request *r, size_t n) {
  r->drained += n;
  if (r->drained < r->window || !r->id)
    return;
  uint64_t took_ms = now(r) - r->since;
  if (took_ms < WINDOW_MS && r->window < LIMIT_STREAM_WINDOW_MAX && !evbuffer_get_length(r->in) &&
      budget_take(&budget_pool, r->window, LIMIT_POOL_SPARE))
    h2_engine_window(r, 2 * r->window);
  r->drained = 0;
  r->since = now(r);
}

/* --- life --- */

static void report(struct h2_request *r) {
  http_track_end(&r->track, r->c->conf.handler, now(r));
}

static void die(struct h2_request *r) {
  if (r->dead)
    return;
  r->dead = 1;
  bool unanswered = !r->resp_done || !r->fin_sent;
  http_send_abort(&r->end, PAGE_VISITOR_GONE);
  if (unanswered && r->track.open && !r->track.failed)
    r->track.failed = PAGE_VISITOR_GONE;
  report(r);
  if (r->id)
    nghttp2_session_set_stream_user_data(r->c->ng, r->id, NULL);
  r->id = 0;
  drop_in(r);
  task_cancel(&r->step);
}

static void leave(struct h2_request *r) {
  if (--r->depth || !r->dead)
    return;
  struct h2_conn *c = r->c;
  DL_DELETE(c->requests, r);
  c->requests_n--;
  if (!c->requests) {
    c->idle_since = loop_now(c->s->loop);
    if (c->last)
      h2_conn_flush_soon(c);
  }
  charge(&r->in_held, 0);
  charge(&r->out_held, 0);
  budget_give(&budget_pool, r->window - LIMIT_STREAM_WINDOW_MIN);
  evbuffer_free(r->in);
  evbuffer_free(r->out);
  http_head_free(&r->track.head);
  http_head_free(&r->trailers);
  http_head_free(&r->out_trailers);
  free(r->key);
  free(r);
}

void h2_request_abandon(struct h2_request *r) {
  r->depth++;
  die(r);
  leave(r);
}

static void reset(struct h2_request *r, uint32_t code) {
  if (r->id)
    h2_engine_reset(r->c, r->id, code);
}

/* --- the response --- */

static void answer_page(struct h2_request *r, enum page page) {
  char text[PAGE_BYTES];
  size_t n = page_render(page, r->json, NULL, text, sizeof text);
  struct page_head h;
  page_head_make(&h, page, r->json, n);
  r->req_closed = r->resp_done = r->answered = 1;
  r->track.failed = page;
  http_track_status(&r->track, h.head.status, now(r));
  bool body = !r->no_body;
  if ((body && evbuffer_add(r->out, text, n)) || (r->id && h2_engine_respond(r, &h.head, body)))
    reset(r, NGHTTP2_INTERNAL_ERROR);
  r->track.body_out = body ? n : 0;
  drop_in(r);
  h2_request_soon(r);
}

/* The response cannot go on: a page while there is none yet, else the visitor sees a reset. */
static void fail(struct h2_request *r, enum page page) {
  http_send_abort(&r->end, PAGE_VISITOR_GONE);
  if (!r->answered) {
    answer_page(r, page);
    return;
  }
  r->req_closed = r->resp_done = 1;
  if (!r->track.failed)
    r->track.failed = page;
  reset(r, NGHTTP2_INTERNAL_ERROR);
}

static void fail_soon(struct h2_request *r, enum page page) {
  if (!r->failing)
    r->failing = page;
  h2_request_soon(r);
}

/* The local service granted what we asked in the visitor's name: did it read our key? */
static bool is_granted(struct h2_request *r, const struct http_head *h) {
  char want[WS_ACCEPT_SIZE];
  const struct http_field *got = http_field_find(h, "sec-websocket-accept");
  ws_accept_make(want, r->key);
  return got && span_eq(got->value, span_of(want));
}

/* 101 of HTTP/1 is 200 here (RFC 8441 5), without what only HTTP/1 needs. */
static int respond_upgraded(struct h2_request *r, const struct http_head *h) {
  struct http_field fields[LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS];
  struct http_head out = *h;
  if (h->fields_n > sizeof fields / sizeof *fields)
    return BEAM_ERR_TOO_LARGE;
  out.status = 200;
  out.fields = fields;
  out.fields_n = 0;
  for (size_t i = 0; i < h->fields_n; i++)
    if (!span_ieq(h->fields[i].name, SPAN("sec-websocket-accept")))
      fields[out.fields_n++] = h->fields[i];
  return h2_engine_respond(r, &out, true);
}

/* May this head be, as an answer to this request? */
static bool is_sound(struct h2_request *r, const struct http_head *h, bool more) {
  uint64_t length;
  int err = http_length(h, &length);
  if (h->status == 101)
    return r->asks && more && is_granted(r, h);
  if (h->status < 200 || err == BEAM_ERR_INVALID)
    return false;
  r->no_body = r->no_body || h->status == 204 || h->status == 304;
  r->has_length = !err && !r->no_body;
  r->left = r->has_length ? length : 0;
  return more || !r->has_length || !length;
}

static void on_head(struct http_end *e, const struct http_head *h, bool more) {
  struct h2_request *r = of(e);
  h2_request_soon(r);
  if (r->gone)
    return;
  if (r->answered || !is_sound(r, h, more)) {
    log_limited(BEAM_LOG_WARN, "http", "response head refused status=%u", (unsigned)h->status);
    fail_soon(r, PAGE_LOCAL_BAD);
    return;
  }
  r->upgraded = h->status == 101;
  bool body = r->upgraded || (more && !r->no_body);
  int err = r->upgraded ? respond_upgraded(r, h) : h2_engine_respond(r, h, body);
  if (err) {
    fail_soon(r, PAGE_INTERNAL);
    return;
  }
  r->answered = 1;
  r->asks = 0; /* refused, if it was not granted: the request ends at the next step */
  http_track_status(&r->track, h->status, now(r));
  r->resp_done = !more;
  r->moved = now(r);
}

static void on_info(struct http_end *e, const struct http_head *h) {
  struct h2_request *r = of(e);
  if (!r->gone && !r->answered && h->status >= 100 && h->status < 200 && h->status != 101 &&
      evbuffer_get_length(r->c->out) <= LIMIT_HEAD_BYTES)
    h2_engine_inform(r, h); /* of a visitor that does not read, none are missed */
}

static size_t on_room(struct http_end *e) {
  struct h2_request *r = of(e);
  if (r->gone || !r->answered || r->resp_done || r->failing)
    return 0;
  if (r->no_body && !r->upgraded)
    return LIMIT_HEAD_BYTES; /* read and dropped */
  size_t held = evbuffer_get_length(r->out), most = ceiling(r);
  r->want_room = held >= most;
  return held < most ? most - held : 0;
}

static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  struct h2_request *r = of(e);
  size_t room = on_room(e);
  n = n < room ? n : room;
  if (!n)
    return 0;
  if (r->no_body && !r->upgraded) {
    evbuffer_drain(from, n);
    return n;
  }
  if (r->has_length && n > r->left) {
    fail_soon(r, PAGE_TRUNCATED);
    return 0;
  }
  n = buffer_move(r->out, from, n);
  if (!n)
    fail_soon(r, PAGE_TRUNCATED);
  r->left -= r->has_length ? n : 0;
  r->track.body_out += n;
  charge(&r->out_held, beyond(r->out, LIMIT_SOCK_MIN));
  if (r->deferred) {
    r->deferred = 0;
    nghttp2_session_resume_data(r->c->ng, r->id);
  }
  h2_conn_flush_soon(r->c);
  return n;
}

static void on_trailers(struct http_end *e, const struct http_head *h) {
  struct h2_request *r = of(e);
  if (!r->answered || r->resp_done || r->no_body || r->upgraded || r->has_out_trailers)
    return;
  if (http_head_copy(&r->out_trailers, h))
    fail_soon(r, PAGE_TRUNCATED);
  r->has_out_trailers = h->fields_n > 0;
}

static void on_end(struct http_end *e) {
  struct h2_request *r = of(e);
  h2_request_soon(r);
  if (r->resp_done || r->failing || r->gone)
    return;
  if (!r->answered || r->left) {
    fail_soon(r, PAGE_TRUNCATED);
    return;
  }
  r->resp_done = 1;
  if (r->deferred) {
    r->deferred = 0;
    nghttp2_session_resume_data(r->c->ng, r->id);
  }
  h2_conn_flush_soon(r->c);
}

static void on_stop(struct http_end *e) {
  struct h2_request *r = of(e);
  r->req_closed = 1;
  h2_request_soon(r);
}

static void on_abort(struct http_end *e, enum page page) {
  struct h2_request *r = of(e);
  if (!r->gone)
    fail_soon(r, page);
}

static void on_want(struct http_end *e) {
  h2_request_soon(of(e));
}

static const struct http_end_ops front_ops = {"h2",        on_head, on_info, on_room,  on_body,
                                              on_trailers, on_end,  on_stop, on_abort, on_want};

/* --- the request --- */

static void begin(struct h2_request *r) {
  struct http_head head = r->track.head;
  r->fresh = 0;
  memset(&r->track.head, 0, sizeof r->track.head);
  http_track_begin(&r->track, &head, now(r));
  if (r->fault) {
    answer_page(r, r->fault);
    return;
  }
  r->json = page_wants_json(&r->track.head);
  r->no_body = span_eq(r->track.head.method, SPAN("HEAD"));
  r->req_closed = !r->more;
  r->c->conf.handler->request(r->c->conf.handler->user, &r->end, &r->track.head, r->more);
  if (!r->end.peer && !r->resp_done && !r->failing)
    fail(r, PAGE_INTERNAL);
}

static void pump(struct h2_request *r) {
  size_t n, room;
  while (!r->req_closed && !r->asks && r->end.peer && (n = evbuffer_get_length(r->in)) > 0) {
    room = http_room(&r->end);
    n = http_send_body(&r->end, r->in, n < room ? n : room);
    if (!n)
      break;
    r->track.body_in += n;
    took(r, n);
    widen(r, n);
  }
  if (r->req_closed) {
    drop_in(r);
    return;
  }
  /* An upgrade that was refused had no body (exchange.h). */
  bool refused = r->key && r->answered && !r->upgraded;
  if (refused)
    drop_in(r);
  if (r->asks || !(refused || (r->read_whole && !evbuffer_get_length(r->in))))
    return;
  r->req_closed = 1;
  if (r->has_trailers)
    http_send_trailers(&r->end, &r->trailers);
  http_send_end(&r->end);
}

/* Both directions are complete: what is left to do is the engine's. */
static void finish(struct h2_request *r) {
  http_done(&r->end);
  if (r->id && !r->fin_sent)
    return;
  report(r);
  if (r->id && !r->read_whole)
    reset(r, NGHTTP2_NO_ERROR); /* RFC 9113 8.1: send no more of that body */
  else if (!r->id)
    die(r);
}

static void work(struct h2_request *r) {
  if (r->fresh && !r->gone)
    begin(r);
  if (r->failing && !r->gone) {
    enum page page = r->failing;
    r->failing = PAGE_NONE;
    fail(r, page);
  }
  if (r->gone) {
    die(r);
    return;
  }
  if (r->wake) {
    r->wake = 0;
    http_send_want(&r->end);
  }
  pump(r);
  if (r->req_closed && r->resp_done)
    finish(r);
}

static void on_step(void *arg) {
  struct h2_request *r = arg;
  struct h2_conn *c = r->c;
  c->depth++;
  r->depth++;
  if (!r->dead)
    work(r);
  leave(r);
  h2_conn_leave(c);
}

/* --- what the engine says --- */

struct h2_request *h2_request_new(struct h2_conn *c, int32_t id) {
  struct h2_request *r = calloc(1, sizeof *r);
  if (!r)
    return NULL;
  r->in = evbuffer_new();
  r->out = evbuffer_new();
  if (!r->in || !r->out) {
    if (r->in)
      evbuffer_free(r->in);
    if (r->out)
      evbuffer_free(r->out);
    free(r);
    return NULL;
  }
  r->end.ops = &front_ops;
  r->c = c;
  r->id = id;
  r->window = LIMIT_STREAM_WINDOW_MIN;
  r->since = r->moved = now(r);
  task_init(&r->step, on_step, r);
  DL_APPEND(c->requests, r);
  c->requests_n++;
  return r;
}

void h2_request_received(struct h2_request *r) {
  charge(&r->in_held, evbuffer_get_length(r->in));
  h2_request_soon(r);
}

void h2_request_sent(struct h2_request *r) {
  size_t n = evbuffer_get_length(r->out);
  charge(&r->out_held, beyond(r->out, LIMIT_SOCK_MIN));
  r->moved = now(r);
  if (r->fin_sent)
    h2_request_soon(r);
  if (r->want_room && r->end.peer && n <= ceiling(r) / 2) {
    r->want_room = 0;
    r->wake = 1;
    h2_request_soon(r);
  }
}

void h2_request_over(struct h2_request *r, uint32_t code) {
  bool whole = code == NGHTTP2_NO_ERROR && r->resp_done && (r->fin_sent || r->track.failed);
  r->id = 0;
  if (!whole) {
    r->gone = 1;
    r->c->resets++;
  }
  h2_request_soon(r);
}

/* A visitor that gives no credit holds what was written for it: not for ever, and for a short time when memory is short. */
void h2_request_tick(struct h2_request *r, uint64_t t, bool low) {
  if (r->id && evbuffer_get_length(r->out) && t - r->moved >= (low ? LIMIT_STALL_LOW_MS : LIMIT_STALL_MS)) {
    fail_soon(r, PAGE_VISITOR_GONE);
    r->answered = 1;
  }
}
