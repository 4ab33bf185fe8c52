/* h1_front.c: a visitor's HTTP/1 connection.
 *
 *             head parsed             request and response complete
 *   HEAD ───────────────────► BUSY ──────────────────────────────────► HEAD    keep-alive, and the body was read to its end
 *    │ timer, end, garbage      │ the exchange failed                    └────► closed in order: the stream sends what was written, then its end
 *    ▼                          ▼
 *   closed, or a page         before its head: a page. After it: the stream is reset, so that the visitor sees a truncation
 *
 * What comes behind a request stays in the stream until its turn: back-pressure is all there is to pipelining.
 */
#include "http/h1_front.h"

#include <beam/beam.h>
#include <event2/buffer.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "http/forward.h"
#include "http/h1_body.h"
#include "io/budget.h"
#include "obs/metrics.h"

enum phase { HEAD, BUSY };

enum { WATCH_MS = 5000 }; /* slow bodies, and responses that nobody takes, are looked for so often */

struct h1_front {
  struct http_end end;
  struct front base;
  struct stream *s;
  struct front_conf conf;
  struct loop_task step;
  struct loop_timer timer;
  struct h1_in in;
  struct h1_out out;
  struct http_track track;
  size_t scanned;
  enum phase phase;
  unsigned depth;    /* entries on the stack: the last one to leave frees */
  int kill;          /* abort the stream with this reason, once off the peer's stack */
  enum page failing; /* the peer broke the rules: fail the exchange, once off its stack */
  bool dead;         /* freed by the last one to leave */
  bool draining;
  bool last;       /* no request after this one, or the next */
  bool head_timer; /* the timer runs for a head, not for keep-alive */
  /* of the exchange: */
  struct front_pace pace;
  uint64_t moved; /* the visitor last took something of the response, or nothing was waiting for it */
  bool unhurried; /* its body may be slow */
  bool keep;      /* the connection may serve another */
  bool json;
  bool no_body; /* HEAD: the response has none */
  bool old;     /* an HTTP/1.0 visitor */
  bool expects; /* waits for 100 before it sends its body */
  bool asks;    /* asks for an upgrade, not answered yet */
  bool upgraded;
  bool req_closed; /* our request ended, or the peer said stop */
  bool read_whole; /* the request's body was read to its end */
  bool answered;   /* a final head went out */
  bool resp_done;
};

static const struct http_end_ops front_ops;

static uint64_t now(struct h1_front *f) {
  return loop_now(f->s->loop);
}

/* --- life --- */

static void die(struct h1_front *f, int reason) {
  if (f->dead)
    return;
  f->dead = true;
  http_send_abort(&f->end, PAGE_VISITOR_GONE);
  if (f->track.open && !f->track.failed && !f->resp_done)
    f->track.failed = PAGE_VISITOR_GONE;
  http_track_end(&f->track, f->conf.handler, now(f));
  timer_stop(&f->timer);
  task_cancel(&f->step);
  h1_out_flush(&f->out);
  stream_close(f->s, reason);
}

static void leave(struct h1_front *f) {
  if (--f->depth || !f->dead)
    return;
  h1_out_fini(&f->out);
  if (f->conf.closed)
    f->conf.closed(f->conf.user, &f->base);
  free(f);
}

static void soon(struct h1_front *f) {
  loop_soon(f->s->loop, &f->step);
}

static void kill_soon(struct h1_front *f, int reason) {
  if (!f->track.failed)
    f->track.failed = PAGE_TRUNCATED;
  f->kill = reason;
  soon(f);
}

/* --- the response --- */

static void write_head(struct h1_front *f, const struct http_head *h, enum http_body kind) {
  struct http_field fields[LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS + 3];
  struct http_head out = *h;
  if (h->fields_n > LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS) {
    kill_soon(f, BEAM_ERR_TOO_LARGE);
    return;
  }
  out.fields = fields;
  out.fields_n = forward_filter(h, fields, kind == HTTP_BODY_UPGRADE);
  if (kind == HTTP_BODY_CHUNKED)
    fields[out.fields_n++] = (struct http_field){SPAN("Transfer-Encoding"), SPAN("chunked")};
  if (kind == HTTP_BODY_UPGRADE)
    fields[out.fields_n++] = (struct http_field){SPAN("Connection"), SPAN("upgrade")};
  else if (h->status >= 200 && !f->keep)
    fields[out.fields_n++] = (struct http_field){SPAN("Connection"), SPAN("close")};
  else if (h->status >= 200 && f->old)
    fields[out.fields_n++] = (struct http_field){SPAN("Connection"), SPAN("keep-alive")};
  if (h1_write_head(f->out.pend, &out))
    kill_soon(f, BEAM_ERR_NOMEM);
}

/* Our own answer, in place of the upstream's. What the visitor still sends is not read by anyone: then the connection ends with it. */
static void answer_page(struct h1_front *f, enum page page, const char *detail) {
  char text[PAGE_BYTES];
  size_t n = page_render(page, f->json, detail, text, sizeof text);
  struct page_head h;
  page_head_make(&h, page, f->json, n);
  f->keep = f->keep && f->read_whole && !f->last;
  f->req_closed = f->resp_done = f->answered = true;
  f->track.failed = page;
  http_track_status(&f->track, h.head.status, now(f));
  write_head(f, &h.head, HTTP_BODY_LENGTH);
  if (!f->no_body) {
    if (evbuffer_add(f->out.pend, text, n))
      kill_soon(f, BEAM_ERR_NOMEM);
    f->track.body_out = n;
  }
  soon(f);
}

/* The response cannot go on: a page while there is none yet, else the visitor sees a truncation. */
static void fail(struct h1_front *f, enum page page) {
  http_send_abort(&f->end, PAGE_VISITOR_GONE);
  if (!f->answered) {
    answer_page(f, page, NULL);
    return;
  }
  f->track.failed = page;
  kill_soon(f, BEAM_ERR_TRUNCATED);
}

/* How the body of this response is framed for this visitor; -1: the head contradicts itself. */
static int framing(struct h1_front *f, const struct http_head *h, bool more, uint64_t *length) {
  int err = http_length(h, length);
  if (h->status == 101)
    return f->asks && more ? HTTP_BODY_UPGRADE : -1;
  if (h->status < 200 || err == BEAM_ERR_INVALID)
    return -1;
  if (f->no_body || h->status == 204 || h->status == 304)
    return HTTP_BODY_NONE;
  if (!err)
    return more || !*length ? HTTP_BODY_LENGTH : -1;
  if (!more)
    return HTTP_BODY_LENGTH; /* the caller adds the 0 */
  return f->old ? HTTP_BODY_CLOSE : HTTP_BODY_CHUNKED;
}

/* "Content-Length: 0" for a response that ends with its head and does not say so. */
static void write_empty(struct h1_front *f, const struct http_head *h) {
  struct http_field fields[LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS];
  struct http_head out = *h;
  if (h->fields_n >= sizeof fields / sizeof *fields) {
    kill_soon(f, BEAM_ERR_TOO_LARGE);
    return;
  }
  if (h->fields_n)
    memcpy(fields, h->fields, h->fields_n * sizeof *fields);
  fields[out.fields_n++] = (struct http_field){SPAN("Content-Length"), SPAN("0")};
  out.fields = fields;
  write_head(f, &out, HTTP_BODY_LENGTH);
}

static void on_head(struct http_end *e, const struct http_head *h, bool more) {
  struct h1_front *f = (struct h1_front *)e;
  uint64_t length = 0;
  int kind = f->answered ? -1 : framing(f, h, more, &length);
  soon(f);
  if (kind < 0) {
    log_limited(BEAM_LOG_WARN, "http", "response head refused status=%u", (unsigned)h->status);
    f->failing = PAGE_LOCAL_BAD;
    return;
  }
  f->answered = true;
  f->upgraded = kind == HTTP_BODY_UPGRADE;
  if (f->upgraded)
    h1_in_start(&f->in, HTTP_BODY_UPGRADE, 0);
  f->asks = false; /* refused, if it was not granted: the request ends at the next step */
  bool unread = !f->read_whole && (f->req_closed || (f->expects && !f->in.passed));
  if (f->last || f->upgraded || kind == HTTP_BODY_CLOSE || unread)
    f->keep = false;
  http_track_status(&f->track, h->status, now(f));
  h1_out_start(&f->out, (enum http_body)kind, length);
  if (kind == HTTP_BODY_LENGTH && http_length(h, &length) == BEAM_ERR_NOT_FOUND)
    write_empty(f, h);
  else
    write_head(f, h, (enum http_body)kind);
  if (!more)
    f->resp_done = true;
}

static void on_info(struct http_end *e, const struct http_head *h) {
  struct h1_front *f = (struct h1_front *)e;
  /* An HTTP/1.0 visitor would take it for the answer. One that does not read gets no more of them. */
  if (f->old || f->answered || h->status < 100 || h->status >= 200 || h->status == 101 ||
      evbuffer_get_length(f->out.pend) > LIMIT_HEAD_BYTES)
    return;
  if (h->status == 100)
    f->expects = false;
  write_head(f, h, HTTP_BODY_NONE);
  soon(f);
}

static size_t on_room(struct http_end *e) {
  struct h1_front *f = (struct h1_front *)e;
  return f->kill || f->failing ? 0 : h1_out_room(&f->out);
}

static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  struct h1_front *f = (struct h1_front *)e;
  size_t took = f->answered && !f->resp_done && !f->kill && !f->failing ? h1_out_body(&f->out, from, n) : 0;
  f->track.body_out = f->out.passed;
  if (took)
    f->moved = now(f);
  if (f->out.err)
    kill_soon(f, f->out.err);
  return took;
}

static void on_trailers(struct http_end *e, const struct http_head *h) {
  struct h1_front *f = (struct h1_front *)e;
  if (f->answered && !f->resp_done)
    h1_out_trailers(&f->out, h);
}

static void on_end(struct http_end *e) {
  struct h1_front *f = (struct h1_front *)e;
  soon(f);
  if (f->resp_done || f->failing)
    return;
  if (f->answered && !h1_out_end(&f->out))
    f->resp_done = true;
  else
    f->failing = PAGE_TRUNCATED;
}

static void on_stop(struct http_end *e) {
  struct h1_front *f = (struct h1_front *)e;
  f->req_closed = true;
  soon(f);
}

static void on_abort(struct http_end *e, enum page page) {
  struct h1_front *f = (struct h1_front *)e;
  fail(f, page);
}

static void on_want(struct http_end *e) {
  soon((struct h1_front *)e);
}

static const struct http_end_ops front_ops = {"h1",        on_head, on_info, on_room,  on_body,
                                              on_trailers, on_end,  on_stop, on_abort, on_want};

/* --- the request --- */

static enum page fault_page(enum h1_fault fault) {
  switch (fault) {
  case H1_FAULT_VERSION:
    return PAGE_VERSION;
  case H1_FAULT_HOST:
    return PAGE_BAD_HOST;
  case H1_FAULT_NEWLINE:
    return PAGE_BAD_NEWLINE;
  case H1_FAULT_FIELD:
  case H1_FAULT_FOLD:
    return PAGE_BAD_FIELD;
  case H1_FAULT_CONTROL:
    return PAGE_BAD_VALUE;
  case H1_FAULT_LENGTH:
  case H1_FAULT_BOTH:
    return PAGE_BAD_LENGTH;
  case H1_FAULT_CODING:
    return PAGE_BAD_CODING;
  case H1_FAULT_UPGRADE:
    return PAGE_BAD_UPGRADE;
  case H1_FAULT_TOO_LARGE:
  case H1_FAULT_TOO_MANY:
    return PAGE_HEAD_TOO_LARGE;
  case H1_FAULT_NOMEM:
    return PAGE_OVERLOADED;
  default:
    return PAGE_BAD_REQUEST;
  }
}

static void reset_exchange(struct h1_front *f) {
  f->scanned = 0;
  f->phase = BUSY;
  f->keep = f->json = f->no_body = f->old = f->expects = f->asks = f->upgraded = false;
  f->req_closed = f->read_whole = f->answered = f->resp_done = f->head_timer = false;
  f->failing = PAGE_NONE;
  h1_in_start(&f->in, HTTP_BODY_NONE, 0);
  h1_out_start(&f->out, HTTP_BODY_NONE, 0);
  f->moved = now(f);
  f->pace = (struct front_pace){f->moved, 0};
  f->unhurried = !f->conf.body_rate;
  if (timer_start(&f->timer, WATCH_MS))
    kill_soon(f, BEAM_ERR_NOMEM);
}

/* A head that is none: nothing after it can be told apart, so the page is the last thing said. */
static void refuse(struct h1_front *f, enum page page, const char *detail) {
  reset_exchange(f);
  http_track_begin(&f->track, NULL, now(f));
  answer_page(f, page, detail);
}

static bool is_h2c(const struct http_head *h) {
  return http_field_has_token(h, "upgrade", "h2c");
}

static bool is_upgrade_field(struct span name) {
  return span_ieq(name, SPAN("upgrade")) || span_ieq(name, SPAN("http2-settings"));
}

/* An upgrade to HTTP/2 in clear text would end our part in reading this connection: it is declined by not passing it on (RFC 9110 7.8). */
static void drop_upgrade(struct http_head *h) {
  size_t n = 0;
  for (size_t i = 0; i < h->fields_n; i++)
    if (!is_upgrade_field(h->fields[i].name))
      h->fields[n++] = h->fields[i];
  h->fields_n = n;
}

static void begin(struct h1_front *f, struct h1_message *m) {
  struct http_head *h = &f->track.head;
  reset_exchange(f);
  http_track_begin(&f->track, &m->head, now(f));
  h->scheme = f->conf.tls ? SPAN("https") : SPAN("http");
  if (m->upgrade && is_h2c(h)) {
    m->upgrade = false;
    drop_upgrade(h);
  }
  bool more = m->upgrade || m->body != HTTP_BODY_NONE;
  f->json = page_wants_json(h);
  f->no_body = span_eq(h->method, SPAN("HEAD"));
  f->old = h->minor == 0;
  f->expects = m->expect_100 && m->body != HTTP_BODY_NONE;
  f->asks = m->upgrade;
  f->unhurried = f->unhurried || m->upgrade || front_may_be_slow(h);
  f->keep = m->keep_alive && !f->last;
  f->read_whole = m->body == HTTP_BODY_NONE;
  f->req_closed = !more;
  h1_in_start(&f->in, m->body, m->length);
  if (span_eq(h->method, SPAN("CONNECT"))) {
    f->read_whole = false;
    answer_page(f, PAGE_UNSUPPORTED, NULL);
    return;
  }
  f->conf.handler->request(f->conf.handler->user, &f->end, h, more);
  if (!f->end.peer && !f->resp_done && !f->kill && !f->dead)
    fail(f, PAGE_INTERNAL);
}

static void read_head(struct h1_front *f) {
  const char *p;
  size_t n = stream_waiting(f->s);
  if (!n) {
    if (f->s->in_ended || f->draining)
      die(f, 0);
    return;
  }
  long len = h1_head_waiting(f->s, &f->scanned, &p);
  if (len < 0) {
    refuse(f, PAGE_HEAD_TOO_LARGE, NULL);
    return;
  }
  if (!len && f->s->in_ended) {
    refuse(f, PAGE_BAD_REQUEST, "the connection ended inside the head");
    return;
  }
  if (!len) {
    if (!f->head_timer && timer_start(&f->timer, LIMIT_HEAD_MS))
      die(f, BEAM_ERR_NOMEM);
    f->head_timer = true;
    return;
  }
  struct h1_message m;
  enum h1_fault fault = h1_parse_request(p, (size_t)len, &m);
  stream_consume(f->s, (size_t)len);
  if (fault)
    refuse(f, fault_page(fault), h1_fault_text(fault));
  else
    begin(f, &m);
}

static void bad_body(struct h1_front *f) {
  f->keep = false;
  if (f->resp_done) /* it got its answer: let that leave */
    http_send_abort(&f->end, PAGE_BAD_BODY);
  else if (!f->req_closed)
    fail(f, PAGE_BAD_BODY);
  f->req_closed = true;
}

static void pump_request(struct h1_front *f) {
  if (f->asks || (f->upgraded && f->req_closed) || (f->read_whole && f->req_closed))
    return;
  enum h1_pump what = h1_in_pump(&f->in, f->s, f->req_closed ? NULL : &f->end);
  f->track.body_in = f->in.passed;
  switch (what) {
  case H1_PUMP_END:
    f->read_whole = true;
    if (!f->req_closed) {
      f->req_closed = true;
      http_send_end(&f->end);
    }
    break;
  case H1_PUMP_BAD:
  case H1_PUMP_CUT:
    bad_body(f);
    break;
  default:
    break;
  }
}

/* Both directions are complete. */
static void finish(struct h1_front *f) {
  http_done(&f->end);
  if (!h1_out_flush(&f->out))
    return; /* writable() comes back here */
  http_track_end(&f->track, f->conf.handler, now(f));
  if (!f->keep || !f->read_whole) {
    die(f, 0);
    return;
  }
  f->phase = HEAD;
  f->scanned = 0;
  f->head_timer = false;
  timer_stop(&f->timer);
  if (stream_waiting(f->s) || stream_at_end(f->s) || f->draining)
    soon(f);
  else if (timer_start(&f->timer, LIMIT_KEEPALIVE_MS))
    die(f, BEAM_ERR_NOMEM);
}

static void work(struct h1_front *f) {
  if (f->dead)
    return;
  if (f->failing && f->phase == BUSY) {
    enum page page = f->failing;
    f->failing = PAGE_NONE;
    fail(f, page);
  }
  if (f->kill) {
    die(f, f->kill);
    return;
  }
  bool flushed = h1_out_flush(&f->out);
  if (f->phase == HEAD)
    read_head(f);
  if (f->dead || f->phase == HEAD)
    return;
  pump_request(f);
  if (f->upgraded && f->resp_done && flushed && !f->req_closed)
    stream_finish(f->s); /* the upgraded connection's other half goes on */
  if (f->out.err)
    die(f, f->out.err);
  else if (f->req_closed && f->resp_done && !f->kill)
    finish(f);
}

/* --- events --- */

static void on_step(void *arg) {
  struct h1_front *f = arg;
  f->depth++;
  work(f);
  leave(f);
}

static void on_writable(void *user) {
  struct h1_front *f = user;
  f->depth++;
  f->moved = now(f);
  if (h1_out_flush(&f->out))
    http_send_want(&f->end);
  work(f);
  leave(f);
}

static void on_closed(void *user, int reason) {
  struct h1_front *f = user;
  f->depth++;
  die(f, reason);
  leave(f);
}

static bool body_in_time(struct h1_front *f) {
  if (f->unhurried || f->read_whole || f->req_closed || f->answered || f->expects)
    return true;
  bool owes = !stream_waiting(f->s) && f->end.peer && http_room(&f->end) > 0;
  return front_in_time(&f->pace, f->conf.body_rate, f->in.passed, owes, now(f));
}

/* For how long nothing could be written of what waits for the visitor. */
static uint64_t stalled_for(struct h1_front *f) {
  if (f->kill || f->phase != BUSY ||
      (!evbuffer_get_length(f->out.pend) && (!f->answered || f->resp_done || stream_room(f->s))))
    f->moved = now(f);
  return now(f) - f->moved;
}

/* A paused film goes on within ten minutes. */
static bool is_stalled(struct h1_front *f) {
  bool low = budget_left(&budget_pool) < budget_pool.cap / 8;
  return stalled_for(f) >= (low ? LIMIT_STALL_LOW_MS : LIMIT_STALL_MS);
}

static void watch(struct h1_front *f) {
  if (is_stalled(f)) {
    metric_add(METRIC_STALLED, 1);
    kill_soon(f, BEAM_ERR_TIMEOUT);
  } else if (!body_in_time(f)) {
    f->keep = false;
    fail(f, PAGE_SLOW_BODY);
  }
  if (!f->kill && timer_start(&f->timer, WATCH_MS))
    kill_soon(f, BEAM_ERR_NOMEM);
}

static void on_timer(void *arg) {
  struct h1_front *f = arg;
  f->depth++;
  if (f->phase == BUSY)
    watch(f);
  else if (f->head_timer && stream_waiting(f->s))
    refuse(f, PAGE_SLOW_HEAD, NULL);
  else
    die(f, 0);
  leave(f);
}

static const struct stream_events events = {on_step, on_writable, on_closed};

static struct h1_front *of_base(const struct front *b) {
  return (struct h1_front *)((char *)b - offsetof(struct h1_front, base));
}

static void last(struct front *b) {
  of_base(b)->last = true;
}

static bool is_busy(const struct front *b) {
  return of_base(b)->phase == BUSY;
}

static void drain(struct front *b) {
  struct h1_front *f = of_base(b);
  f->draining = f->last = true;
  soon(f);
}

static void abort_now(struct front *b, int reason) {
  struct h1_front *f = of_base(b);
  f->conf.closed = NULL;
  f->depth++;
  die(f, reason ? reason : BEAM_ERR_CLOSED);
  leave(f);
}

static uint64_t stalled(const struct front *b) {
  return stalled_for(of_base(b));
}

static void shed(struct front *b) {
  metric_add(METRIC_STALLED, 1);
  kill_soon(of_base(b), BEAM_ERR_TIMEOUT);
}

static const struct front_ops base_ops = {drain, last, is_busy, stalled, shed, abort_now};

int h1_front_new(struct stream *s, const struct front_conf *conf, struct front **out) {
  struct h1_front *f = calloc(1, sizeof *f);
  if (f) {
    f->end.ops = &front_ops;
    f->base.ops = &base_ops;
    f->s = s;
    f->conf = *conf;
    task_init(&f->step, on_step, f);
    timer_init(&f->timer, s->loop, on_timer, f);
  }
  if (!f || h1_out_init(&f->out, s) || timer_start(&f->timer, LIMIT_HEAD_MS)) {
    if (f)
      h1_out_fini(&f->out);
    free(f);
    stream_close(s, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  f->head_timer = true;
  stream_own(s, &events, f);
  if (out)
    *out = &f->base;
  return 0;
}
