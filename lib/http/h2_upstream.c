/* h2_upstream.c: one exchange with the local service over HTTP/2. Drawn in h2_up.h. */
#include "http/h2_upstream.h"

#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "http/forward.h"
#include "http/h1_upstream.h"
#include "http/h2_up.h"
#include "io/block.h"
#include "io/budget.h"
#include "wire/h1.h"
#include "wire/ws.h"

static struct h2_req *of(struct http_end *e) {
  return (struct h2_req *)e;
}

void h2_req_soon(struct h2_req *r) {
  loop_soon(r->timer.loop, &r->step);
}

void h2_req_list(struct h2_req *r, struct h2_req **list) {
  if (r->list)
    DL_DELETE(*r->list, r);
  r->list = list;
  if (list)
    DL_APPEND(*list, r);
}

/* --- memory --- */

/* What waits beyond what every stream may hold is charged to the pool. */
static void charge(size_t *held, struct evbuffer *b) {
  size_t n = b ? evbuffer_get_length(b) : 0;
  n = n > LIMIT_SOCK_MIN ? n - LIMIT_SOCK_MIN : 0;
  if (n > *held)
    budget_charge(&budget_pool, n - *held);
  else
    budget_give(&budget_pool, *held - n);
  *held = n;
}

/* A little for a service that takes nothing, more while it gives credit and memory is there. */
static size_t ceiling(const struct h2_req *r) {
  size_t more = budget_left(&budget_pool) > LIMIT_POOL_SPARE ? h2_up_credit(r) : 0;
  if (more > LIMIT_SOCK_OUT - LIMIT_SOCK_MIN)
    more = LIMIT_SOCK_OUT - LIMIT_SOCK_MIN;
  return LIMIT_SOCK_MIN + more;
}

/* --- life --- */

static void free_infos(struct h2_req *r) {
  while (r->infos) {
    struct h2_info *i = r->infos;
    r->infos = i->next;
    http_head_free(&i->head);
    free(i);
  }
}

static void die(struct h2_req *r, uint32_t code) {
  if (r->dead)
    return;
  r->dead = 1;
  timer_stop(&r->timer);
  task_cancel(&r->step);
  if (r->c)
    h2_up_reset(r, code);
  h2_req_list(r, NULL);
  r->pool = NULL;
}

static void leave(struct h2_req *r) {
  if (--r->depth || !r->dead)
    return;
  http_head_free(&r->head);
  http_head_free(&r->trailers);
  http_head_free(&r->answer);
  http_head_free(&r->in_trailers);
  free_infos(r);
  if (r->in)
    evbuffer_free(r->in);
  if (r->out)
    evbuffer_free(r->out);
  r->in = r->out = NULL;
  charge(&r->in_held, NULL);
  charge(&r->out_held, NULL);
  free(r);
}

void h2_req_fail(struct h2_req *r, enum page page) {
  r->depth++;
  http_send_abort(&r->end, r->answered ? PAGE_TRUNCATED : page);
  die(r, NGHTTP2_CANCEL);
  leave(r);
}

/* Somebody else answers: all that was said so far is said to that end. */
void h2_req_to_h1(struct h2_req *r) {
  struct http_end *front = r->end.peer, *up = NULL;
  enum page page = r->grpc ? PAGE_LOCAL_H2 : PAGE_INTERNAL;
  bool can = front && !r->grpc && !evbuffer_get_length(r->out);
  if (!can || h1_pool_request(r->pool->conf.h1, &up)) {
    r->failing = page;
    h2_req_list(r, &r->pool->apart);
    h2_req_soon(r);
    return;
  }
  r->depth++;
  r->end.peer = NULL;
  http_join(front, up);
  http_send_head(front, &r->head, r->more);
  if (r->has_trailers)
    http_send_trailers(front, &r->trailers);
  if (r->more && r->req_closed)
    http_send_end(front);
  die(r, 0);
  leave(r);
}

/* --- what the connection says: nothing here calls a peer --- */

static int add_info(struct h2_req *r, struct http_head *h) {
  struct h2_info *i = calloc(1, sizeof *i), **at = &r->infos;
  if (!i)
    return BEAM_ERR_NOMEM;
  while (*at)
    at = &(*at)->next;
  i->head = *h;
  *at = i;
  return 0;
}

enum page h2_req_headers(struct h2_req *r, struct mux_head *h, bool end) {
  struct http_head head;
  bool first = !r->has_answer;
  enum page page = first ? mux_head_response(h, &head) : mux_head_trailers(h, &head);
  h2_req_soon(r);
  r->active = loop_now(r->timer.loop);
  if (page || (first && head.status == 101)) { /* RFC 9113 8.6 */
    http_head_free(&head);
    return page ? page : PAGE_LOCAL_BAD;
  }
  if (!first) {
    http_head_free(&r->in_trailers);
    r->in_trailers = head;
    r->has_in_trailers = head.fields_n > 0;
  } else if (head.status >= 200) {
    r->answer = head;
    r->has_answer = 1;
    timer_stop(&r->timer);
  } else if (++r->infos_n > LIMIT_UPSTREAM_INFOS || add_info(r, &head)) {
    http_head_free(&head);
    return PAGE_LOCAL_BAD;
  }
  r->read_whole = end;
  return PAGE_NONE;
}

int h2_req_data(struct h2_req *r, const uint8_t *p, size_t n) {
  if (evbuffer_add(r->in, p, n))
    return BEAM_ERR_NOMEM;
  charge(&r->in_held, r->in);
  h2_req_soon(r);
  return 0;
}

void h2_req_ended(struct h2_req *r) {
  r->read_whole = 1;
  h2_req_soon(r);
}

void h2_req_sent(struct h2_req *r) {
  charge(&r->out_held, r->out);
  if (r->want_room && evbuffer_get_length(r->out) <= ceiling(r) / 2) {
    r->want_room = 0;
    r->wake = 1;
    h2_req_soon(r);
  }
}

void h2_req_over(struct h2_req *r, uint32_t code) {
  r->over = 1;
  r->code = code;
  r->c = NULL;
  h2_req_list(r, &r->pool->apart);
  h2_req_soon(r);
}

void h2_req_lost(struct h2_req *r, enum page page) {
  r->lost = page;
  h2_req_over(r, NGHTTP2_INTERNAL_ERROR);
}

/* --- the response --- */

/* RFC 9113 8.1: the service has answered, what the visitor would still say is of no interest. */
static void stop(struct h2_req *r) {
  if (r->req_closed)
    return;
  r->req_closed = r->stopped = 1;
  http_send_stop(&r->end);
}

/* 2xx is the 101 of HTTP/1, with the answer to a key that did not cross. */
static void grant(struct h2_req *r) {
  struct http_field fields[LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS + 2];
  struct http_head head = r->answer;
  const struct http_field *key = http_field_find(&r->head, "sec-websocket-key");
  char text[WS_KEY_SIZE], accept[WS_ACCEPT_SIZE];
  if (!key || !str_fmt(text, sizeof text, "%.*s", SPAN_FMT(key->value)) ||
      head.fields_n > LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS) {
    h2_req_fail(r, PAGE_LOCAL_BAD);
    return;
  }
  ws_accept_make(accept, text);
  head.fields_n = forward_filter(&r->answer, fields, false);
  head.fields = fields;
  head.status = 101;
  head.reason = span_of(http_reason(101));
  fields[head.fields_n++] = (struct http_field){SPAN("Upgrade"), SPAN("websocket")};
  fields[head.fields_n++] = (struct http_field){SPAN("Sec-WebSocket-Accept"), span_of(accept)};
  r->answered = r->upgraded = 1;
  http_send_head(&r->end, &head, true);
  http_head_free(&r->answer);
  http_send_want(&r->end);
}

static void answer(struct h2_req *r) {
  if (r->connect && r->answer.status < 300) {
    grant(r);
    return;
  }
  bool more = !r->read_whole || evbuffer_get_length(r->in) || r->has_in_trailers;
  r->answered = 1;
  r->answer.fields_n = forward_filter(&r->answer, r->answer.fields, false);
  if (!more) {
    r->resp_done = 1;
    stop(r); /* first, so that the front's head can say close */
  }
  http_send_head(&r->end, &r->answer, more);
  http_head_free(&r->answer);
}

static void pass_body(struct h2_req *r) {
  size_t n, room;
  while (!r->dead && r->end.peer && (n = evbuffer_get_length(r->in)) > 0 && (room = http_room(&r->end)) > 0) {
    n = http_send_body(&r->end, r->in, n < room ? n : room);
    if (!n)
      return;
    charge(&r->in_held, r->in);
    if (r->c)
      h2_up_took(r, n);
  }
}

static void pass_end(struct h2_req *r) {
  r->resp_done = 1;
  if (r->has_in_trailers && !r->upgraded)
    http_send_trailers(&r->end, &r->in_trailers);
  if (!r->upgraded)
    stop(r);
  http_send_end(&r->end);
}

static void pass_on(struct h2_req *r) {
  while (r->infos && !r->dead && r->end.peer) {
    struct h2_info *i = r->infos;
    r->infos = i->next;
    i->head.fields_n = forward_filter(&i->head, i->head.fields, false);
    http_send_info(&r->end, &i->head);
    http_head_free(&i->head);
    free(i);
  }
  if (r->has_answer && !r->answered && !r->dead && r->end.peer)
    answer(r);
  if (!r->answered || r->dead || r->resp_done)
    return;
  pass_body(r);
  if (!r->dead && r->end.peer && r->read_whole && !evbuffer_get_length(r->in))
    pass_end(r);
}

/* --- the stream ended before the response did --- */

/* The service did nothing with it; or it closed an idle connection just when a request that may be repeated came. */
static bool may_go_again(const struct h2_req *r) {
  if (r->has_answer || r->infos_n || r->begun || r->tries >= LIMIT_H2_UP_TRIES)
    return false;
  return r->code == NGHTTP2_REFUSED_STREAM || (r->lost && r->safe && r->reused && r->tries == 1);
}

static enum page page_of(const struct h2_req *r) {
  if (r->lost)
    return r->lost;
  return r->code == NGHTTP2_PROTOCOL_ERROR ? PAGE_LOCAL_BAD : PAGE_LOCAL_CLOSED;
}

static void cut(struct h2_req *r) {
  if (may_go_again(r)) {
    r->over = 0;
    r->lost = PAGE_NONE;
    h2_pool_wait(r);
  } else if (r->code == NGHTTP2_HTTP_1_1_REQUIRED && r->pool->conf.h1 && !r->begun && !r->has_answer) {
    h2_req_to_h1(r);
  } else {
    h2_req_fail(r, page_of(r));
  }
}

/* --- steps --- */

/* Both messages are complete here. The stream ends by itself once all of the request is sent, unless the service does not take it. */
static void finish(struct h2_req *r) {
  http_done(&r->end);
  if (!r->c || r->stopped || (!r->lingers && timer_start(&r->timer, LIMIT_SOCK_DRAIN_MS)))
    die(r, NGHTTP2_NO_ERROR);
  r->lingers = 1;
}

static void work(struct h2_req *r) {
  if (r->failing) {
    h2_req_fail(r, r->failing);
    return;
  }
  if (r->wake) {
    r->wake = 0;
    http_send_want(&r->end);
  }
  pass_on(r);
  if (r->dead)
    return;
  if (r->over && !r->read_whole)
    cut(r);
  else if (r->over && r->resp_done && !r->req_closed)
    h2_req_fail(r, PAGE_TRUNCATED); /* upgraded: what the visitor still says goes nowhere */
  else if (r->resp_done && r->req_closed)
    finish(r);
}

static void on_step(void *arg) {
  struct h2_req *r = arg;
  r->depth++;
  if (!r->dead)
    work(r);
  leave(r);
}

/* gRPC has deadlines of its own, and streams on which nobody speaks for hours. */
static void on_timer(void *arg) {
  struct h2_req *r = arg;
  uint64_t idle = loop_now(r->timer.loop) - r->active;
  if (r->grpc && r->c && !r->lingers)
    return;
  if (r->lingers || idle >= LIMIT_UPSTREAM_HEAD_MS || timer_start(&r->timer, LIMIT_UPSTREAM_HEAD_MS - idle))
    h2_req_fail(r, PAGE_LOCAL_TIMEOUT);
}

/* --- the request --- */

static bool is_safe(struct span method) {
  static const struct span names[] = {{"GET", 3}, {"HEAD", 4}, {"OPTIONS", 7}, {"TRACE", 5}, {"QUERY", 5}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (span_eq(method, names[i]))
      return true;
  return false;
}

static void fail_soon(struct h2_req *r, enum page page) {
  if (!r->failing)
    r->failing = page;
  h2_req_soon(r);
}

static void on_head(struct http_end *e, const struct http_head *h, bool more) {
  struct h2_req *r = of(e);
  int err = http_length(h, &r->left);
  if (r->head.block || r->failing || r->dead)
    return;
  r->more = more;
  r->req_closed = !more;
  r->grpc = page_is_grpc(h);
  r->safe = !more && is_safe(h->method);
  r->asks = more && http_field_find(h, "upgrade");
  r->has_length = !err;
  r->active = loop_now(r->timer.loop);
  if (err == BEAM_ERR_INVALID || (!err && !more && r->left))
    fail_soon(r, PAGE_BAD_BODY);
  else if (http_head_copy(&r->head, h) || timer_start(&r->timer, LIMIT_UPSTREAM_HEAD_MS))
    fail_soon(r, PAGE_OVERLOADED);
  else
    h2_pool_wait(r);
}

static size_t on_room(struct http_end *e) {
  struct h2_req *r = of(e);
  if (r->req_closed || r->failing || r->dead || (r->connect && !r->upgraded))
    return 0;
  size_t held = evbuffer_get_length(r->out), most = r->c ? ceiling(r) : 0;
  r->want_room = held >= most;
  return held < most ? most - held : 0;
}

static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  struct h2_req *r = of(e);
  size_t room = on_room(e);
  n = n < room ? n : room;
  if (!n)
    return 0;
  if (r->has_length && n > r->left) {
    fail_soon(r, PAGE_BAD_BODY);
    return 0;
  }
  n = buffer_move(r->out, from, n);
  if (!n)
    fail_soon(r, PAGE_OVERLOADED);
  r->left -= r->has_length ? n : 0;
  r->active = loop_now(r->timer.loop);
  charge(&r->out_held, r->out);
  h2_up_wake(r);
  return n;
}

static void on_trailers(struct http_end *e, const struct http_head *h) {
  struct h2_req *r = of(e);
  if (r->req_closed || r->has_trailers || r->dead)
    return;
  if (http_head_copy(&r->trailers, h))
    fail_soon(r, PAGE_OVERLOADED);
  r->has_trailers = h->fields_n > 0;
}

static void on_end(struct http_end *e) {
  struct h2_req *r = of(e);
  if (r->req_closed || r->dead)
    return;
  r->req_closed = 1;
  if (r->has_length && r->left)
    fail_soon(r, PAGE_BAD_BODY);
  else if (r->c)
    h2_up_wake(r);
  h2_req_soon(r);
}

static void on_abort(struct http_end *e, enum page page) {
  struct h2_req *r = of(e);
  if (r->depth) { /* in the middle of passing something on: the step ends it */
    fail_soon(r, page);
    return;
  }
  r->depth++;
  die(r, NGHTTP2_CANCEL);
  leave(r);
}

static void on_want(struct http_end *e) {
  h2_req_soon(of(e));
}

static const struct http_end_ops ops = {"h2-upstream", on_head, NULL, on_room,  on_body,
                                        on_trailers,   on_end,  NULL, on_abort, on_want};

int h2_pool_request(struct h2_pool *p, struct http_end **out) {
  struct h2_req *r = calloc(1, sizeof *r);
  if (!r)
    return BEAM_ERR_NOMEM;
  r->in = evbuffer_new();
  r->out = evbuffer_new();
  if (!r->in || !r->out) {
    r->depth = r->dead = 1;
    leave(r);
    return BEAM_ERR_NOMEM;
  }
  r->end.ops = &ops;
  r->pool = p;
  task_init(&r->step, on_step, r);
  timer_init(&r->timer, p->conf.loop, on_timer, r);
  h2_req_list(r, &p->apart);
  *out = &r->end;
  return 0;
}
