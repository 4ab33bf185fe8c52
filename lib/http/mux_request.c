/* mux_request.c: one request of a visitor whose connection carries many. Drawn in mux.h. */
#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "http/mux.h"
#include "io/block.h"
#include "io/budget.h"
#include "obs/metrics.h"
#include "wire/ws.h"

static const struct http_end_ops front_ops;

static struct mux_request *of(struct http_end *e) {
  return (struct mux_request *)e;
}

static uint64_t now(struct mux_request *r) {
  return loop_now(r->c->loop);
}

void mux_request_soon(struct mux_request *r) {
  loop_soon(r->c->loop, &r->step);
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
static size_t ceiling(struct mux_request *r) {
  size_t more = budget_left(&budget_pool) > LIMIT_POOL_SPARE ? r->c->engine->credit(r) : 0;
  if (more > LIMIT_SOCK_OUT - LIMIT_SOCK_MIN)
    more = LIMIT_SOCK_OUT - LIMIT_SOCK_MIN;
  return LIMIT_SOCK_MIN + more;
}

/* n bytes left r->in. */
static void took(struct mux_request *r, size_t n) {
  r->c->waiting -= n;
  charge(&r->in_held, evbuffer_get_length(r->in));
  r->c->engine->took(r, n);
}

static void drop_in(struct mux_request *r) {
  size_t n = evbuffer_get_length(r->in);
  if (!n)
    return;
  evbuffer_drain(r->in, n);
  took(r, n);
}

/* --- life --- */

static void report(struct mux_request *r) {
  http_track_end(&r->track, r->c->conf.handler, now(r));
}

static void die(struct mux_request *r) {
  if (r->dead)
    return;
  r->dead = 1;
  bool unanswered = !r->resp_done || !r->fin_sent;
  http_send_abort(&r->end, PAGE_VISITOR_GONE);
  if (unanswered && r->track.open && !r->track.failed)
    r->track.failed = PAGE_VISITOR_GONE;
  report(r);
  drop_in(r);
  if (r->fini)
    r->fini(r);
  r->id = -1;
  task_cancel(&r->step);
}

static void leave(struct mux_request *r) {
  if (--r->depth || !r->dead)
    return;
  struct mux_conn *c = r->c;
  DL_DELETE(c->requests, r);
  c->requests_n--;
  if (!c->requests) {
    c->idle_since = loop_now(c->loop);
    if (c->last && !c->dead)
      c->idle(c);
  }
  charge(&r->in_held, 0);
  charge(&r->out_held, 0);
  evbuffer_free(r->in);
  evbuffer_free(r->out);
  http_head_free(&r->track.head);
  http_head_free(&r->trailers);
  http_head_free(&r->out_trailers);
  free(r->key);
  free(r);
}

void mux_request_abandon(struct mux_request *r) {
  r->depth++;
  die(r);
  leave(r);
}

static void reset(struct mux_request *r, enum mux_reset how) {
  if (r->id >= 0)
    r->c->engine->reset(r, how);
}

/* --- the response --- */

static void answer_page(struct mux_request *r, enum page page) {
  char text[PAGE_BYTES];
  struct page_head h;
  size_t n = r->grpc ? 0 : page_render(page, r->json, NULL, text, sizeof text);
  if (r->grpc)
    page_head_make_grpc(&h, page);
  else
    page_head_make(&h, page, r->json, n);
  r->req_closed = r->resp_done = r->answered = 1;
  r->track.failed = page;
  http_track_status(&r->track, h.head.status, now(r));
  bool body = !r->no_body && n;
  if ((body && evbuffer_add(r->out, text, n)) || (r->id >= 0 && r->c->engine->respond(r, &h.head, body)))
    reset(r, MUX_RESET_FAILED);
  r->track.body_out = body ? n : 0;
  drop_in(r);
  mux_request_soon(r);
}

/* A gRPC client takes a reset for a defect of somebody's; a status at the end tells it that the service is gone, and is no less visible. */
static bool end_grpc(struct mux_request *r, enum page page) {
  struct page_head h;
  if (!r->grpc || r->resp_done || page == PAGE_VISITOR_GONE || r->id < 0)
    return false;
  page_head_make_grpc(&h, page);
  struct http_head trailers = {.minor = 1, .fields = h.fields + 1, .fields_n = h.head.fields_n - 1};
  http_head_free(&r->out_trailers);
  r->has_out_trailers = !http_head_copy(&r->out_trailers, &trailers);
  if (!r->has_out_trailers)
    memset(&r->out_trailers, 0, sizeof r->out_trailers);
  return r->has_out_trailers;
}

/* The response cannot go on: a page while there is none yet, else the visitor sees a reset. */
static void fail(struct mux_request *r, enum page page) {
  http_send_abort(&r->end, PAGE_VISITOR_GONE);
  if (!r->answered) {
    answer_page(r, page);
    return;
  }
  bool told = end_grpc(r, page);
  r->req_closed = r->resp_done = 1;
  if (!r->track.failed)
    r->track.failed = page;
  if (told) {
    r->c->engine->wake(r);
    mux_request_soon(r);
  } else {
    reset(r, MUX_RESET_FAILED);
  }
}

static void fail_soon(struct mux_request *r, enum page page) {
  if (!r->failing)
    r->failing = page;
  mux_request_soon(r);
}

/* The local service granted what we asked in the visitor's name: did it read our key? */
static bool is_granted(struct mux_request *r, const struct http_head *h) {
  char want[WS_ACCEPT_SIZE];
  const struct http_field *got = http_field_find(h, "sec-websocket-accept");
  ws_accept_make(want, r->key);
  return got && span_eq(got->value, span_of(want));
}

/* 101 of HTTP/1 is 200 here (RFC 8441 5), without what only HTTP/1 needs. */
static int respond_upgraded(struct mux_request *r, const struct http_head *h) {
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
  return r->c->engine->respond(r, &out, true);
}

/* May this head be, as an answer to this request? */
static bool is_sound(struct mux_request *r, const struct http_head *h, bool more) {
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
  struct mux_request *r = of(e);
  mux_request_soon(r);
  if (r->gone)
    return;
  if (r->answered || !is_sound(r, h, more)) {
    log_limited(BEAM_LOG_WARN, "http", "response head refused status=%u", (unsigned)h->status);
    fail_soon(r, PAGE_LOCAL_BAD);
    return;
  }
  r->upgraded = h->status == 101;
  bool body = r->upgraded || (more && !r->no_body);
  int err = r->upgraded ? respond_upgraded(r, h) : r->c->engine->respond(r, h, body);
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
  struct mux_request *r = of(e);
  if (!r->gone && !r->answered && h->status >= 100 && h->status < 200 && h->status != 101 &&
      ++r->infos <= LIMIT_UPSTREAM_INFOS)
    r->c->engine->inform(r, h);
}

static size_t on_room(struct http_end *e) {
  struct mux_request *r = of(e);
  if (r->gone || !r->answered || r->resp_done || r->failing)
    return 0;
  if (r->no_body && !r->upgraded)
    return LIMIT_HEAD_BYTES; /* read and dropped */
  size_t held = evbuffer_get_length(r->out), most = ceiling(r);
  r->want_room = held >= most;
  return held < most ? most - held : 0;
}

static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  struct mux_request *r = of(e);
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
  r->c->engine->wake(r);
  return n;
}

static void on_trailers(struct http_end *e, const struct http_head *h) {
  struct mux_request *r = of(e);
  if (!r->answered || r->resp_done || r->no_body || r->upgraded || r->has_out_trailers)
    return;
  if (http_head_copy(&r->out_trailers, h))
    fail_soon(r, PAGE_TRUNCATED);
  r->has_out_trailers = h->fields_n > 0;
}

static void on_end(struct http_end *e) {
  struct mux_request *r = of(e);
  mux_request_soon(r);
  if (r->resp_done || r->failing || r->gone)
    return;
  if (!r->answered || r->left) {
    fail_soon(r, PAGE_TRUNCATED);
    return;
  }
  r->resp_done = 1;
  r->c->engine->wake(r);
}

static void on_stop(struct http_end *e) {
  struct mux_request *r = of(e);
  r->req_closed = 1;
  mux_request_soon(r);
}

static void on_abort(struct http_end *e, enum page page) {
  struct mux_request *r = of(e);
  if (!r->gone)
    fail_soon(r, page);
}

static void on_want(struct http_end *e) {
  mux_request_soon(of(e));
}

static const struct http_end_ops front_ops = {"mux",       on_head, on_info, on_room,  on_body,
                                              on_trailers, on_end,  on_stop, on_abort, on_want};

/* --- the request --- */

static void begin(struct mux_request *r) {
  struct http_head head = r->track.head;
  r->fresh = 0;
  memset(&r->track.head, 0, sizeof r->track.head);
  http_track_begin(&r->track, &head, now(r));
  if (r->fault) {
    answer_page(r, r->fault);
    return;
  }
  r->json = page_wants_json(&r->track.head);
  r->grpc = page_is_grpc(&r->track.head);
  r->no_body = span_eq(r->track.head.method, SPAN("HEAD"));
  r->req_closed = !r->more;
  r->pace = (struct front_pace){now(r), 0};
  r->unhurried = !r->c->conf.body_rate || r->asks || front_may_be_slow(&r->track.head) ||
                 http_field_find(&r->track.head, "expect");
  r->c->conf.handler->request(r->c->conf.handler->user, &r->end, &r->track.head, r->more);
  if (!r->end.peer && !r->resp_done && !r->failing)
    fail(r, PAGE_INTERNAL);
}

static void pump(struct mux_request *r) {
  size_t n, room;
  while (!r->req_closed && !r->asks && r->end.peer && (n = evbuffer_get_length(r->in)) > 0) {
    room = http_room(&r->end);
    n = http_send_body(&r->end, r->in, n < room ? n : room);
    if (!n)
      break;
    r->track.body_in += n;
    took(r, n);
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
static void finish(struct mux_request *r) {
  http_done(&r->end);
  if (r->id >= 0 && !r->fin_sent)
    return;
  report(r);
  if (r->id >= 0 && !r->read_whole)
    reset(r, MUX_RESET_ENOUGH);
  else if (r->id < 0)
    die(r);
}

static void work(struct mux_request *r) {
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
  struct mux_request *r = arg;
  struct mux_conn *c = r->c;
  c->depth++;
  r->depth++;
  if (!r->dead)
    work(r);
  leave(r);
  mux_conn_leave(c);
}

/* --- the connection's part --- */

void mux_conn_leave(struct mux_conn *c) {
  if (--c->depth || !c->dead)
    return;
  if (c->conf.closed)
    c->conf.closed(c->conf.user, &c->base);
  c->free(c);
}

/* One that is on the stack goes when that is left, and before the connection. */
void mux_conn_abandon(struct mux_conn *c) {
  struct mux_request *r, *next;
  DL_FOREACH_SAFE(c->requests, r, next) {
    mux_request_abandon(r);
  }
}

/* --- what the engine says --- */

struct mux_request *mux_request_new(struct mux_conn *c, int64_t id, size_t size) {
  struct mux_request *r = calloc(1, size);
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
  r->moved = now(r);
  task_init(&r->step, on_step, r);
  DL_APPEND(c->requests, r);
  c->requests_n++;
  return r;
}

void mux_request_head(struct mux_request *r, struct mux_head *h, bool end) {
  r->fault = mux_head_request(h, r->c->conf.tls, &r->track.head, &r->key);
  r->asks = r->key != NULL;
  r->more = !end || r->asks;
  r->fresh = 1;
  if (end)
    r->read_whole = 1;
  mux_request_soon(r);
}

void mux_request_ended(struct mux_request *r) {
  r->read_whole = 1;
  mux_request_soon(r);
}

int mux_request_received(struct mux_request *r, const uint8_t *p, size_t n) {
  if (evbuffer_add(r->in, p, n))
    return BEAM_ERR_NOMEM;
  r->c->waiting += n;
  charge(&r->in_held, evbuffer_get_length(r->in));
  mux_request_soon(r);
  return 0;
}

void mux_request_sent(struct mux_request *r) {
  size_t n = evbuffer_get_length(r->out);
  charge(&r->out_held, beyond(r->out, LIMIT_SOCK_MIN));
  r->moved = now(r);
  if (r->fin_sent)
    mux_request_soon(r);
  if (r->want_room && r->end.peer && n <= ceiling(r) / 2) {
    r->want_room = 0;
    r->wake = 1;
    mux_request_soon(r);
  }
}

void mux_request_over(struct mux_request *r, bool in_order) {
  bool whole = in_order && r->resp_done && (r->fin_sent || r->track.failed);
  r->id = -1;
  if (!whole) {
    r->gone = 1;
    r->c->resets++;
  }
  mux_request_soon(r);
}

static bool body_in_time(struct mux_request *r, uint64_t t) {
  if (r->unhurried || r->fresh || r->read_whole || r->req_closed || r->answered || r->id < 0)
    return true;
  bool owes = !evbuffer_get_length(r->in) && r->end.peer && http_room(&r->end) > 0;
  return front_in_time(&r->pace, r->c->conf.body_rate, r->track.body_in, owes, t);
}

static uint64_t stalled_for(const struct mux_request *r, uint64_t t) {
  return r->id >= 0 && !r->gone && !r->failing && evbuffer_get_length(r->out) ? t - r->moved : 0;
}

static struct mux_request *slowest(struct mux_conn *c) {
  struct mux_request *r, *found = NULL;
  uint64_t t = loop_now(c->loop), most = 0;
  DL_FOREACH(c->requests, r) {
    if (stalled_for(r, t) > most) {
      found = r;
      most = stalled_for(r, t);
    }
  }
  return found;
}

uint64_t mux_conn_stalled(struct mux_conn *c) {
  struct mux_request *r = slowest(c);
  return r ? stalled_for(r, loop_now(c->loop)) : 0;
}

static void give_up(struct mux_request *r) {
  metric_add(METRIC_STALLED, 1);
  fail_soon(r, PAGE_VISITOR_GONE);
  r->answered = 1;
}

void mux_conn_shed(struct mux_conn *c) {
  struct mux_request *r = slowest(c);
  if (r)
    give_up(r);
}

/* A visitor that gives no credit holds what was written for it: not for ever, and for a short time when memory is short. */
void mux_request_tick(struct mux_request *r, uint64_t t, bool low) {
  if (stalled_for(r, t) >= (low ? LIMIT_STALL_LOW_MS : LIMIT_STALL_MS))
    give_up(r);
  else if (!body_in_time(r, t))
    fail_soon(r, PAGE_SLOW_BODY);
}
