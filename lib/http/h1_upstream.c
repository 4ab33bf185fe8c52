/* h1_upstream.c: one exchange with the local service.
 *
 *       head(), gate            dialled                 response head              both complete
 *   NEW ─────────────► DIALLING ─────────► SENT ─────────────────────► ANSWERED ──────────────────► freed; its connection is kept or closed
 *    └─ idle connection ────────────────────►│ closed before a byte came, reused, safe: once more, over a fresh connection
 */
#include "http/h1_upstream.h"

#include <beam/beam.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "http/forward.h"
#include "http/h1_pool.h"

struct request {
  struct http_end end;
  struct h1_pool *pool; /* NULL: it is gone */
  struct request *next, **link;
  struct gate_pass pass;
  struct conn *c;
  struct dial *dial;
  struct loop_task step;
  struct loop_timer timer; /* for the head of the response */
  uint64_t active;         /* the exchange last moved: the timer counts from here */
  char *bytes;             /* the head as it goes out, while it may have to be sent (again) */
  size_t bytes_n;
  char *preface; /* before it, on a connection that is nobody else's */
  size_t preface_n;
  enum http_body kind; /* of our body */
  uint64_t length;
  struct h1_in in;
  size_t scanned;
  uint64_t idle_ms; /* how long the service keeps the connection; 0: not at all */
  unsigned depth, infos;
  enum page failing; /* the front broke the rules: fail once off its stack */
  bool begun;        /* through the gate */
  bool dead;
  bool is_head; /* HEAD */
  bool safe;    /* idempotent and without a body: may be sent again */
  bool asks;    /* for an upgrade */
  bool upgraded;
  bool req_closed; /* the front's end came, or we said stop */
  bool req_whole;  /* the request was written to its end */
  bool answered;   /* the final head went to the front */
  bool resp_done;
};

static void begin(struct request *r);
static void dial(struct request *r);

/* --- life --- */

static void unlink_request(struct request *r) {
  if (r->link) {
    *r->link = r->next;
    if (r->next)
      r->next->link = r->link;
  }
  r->link = NULL;
  if (r->pool)
    gate_leave(&r->pool->gate, &r->pass);
  r->pool = NULL;
}

static void cancel_dial(struct request *r) {
  if (r->dial)
    r->pool->conf.dialer->cancel(r->pool->conf.dialer, r->dial);
  r->dial = NULL;
}

/* The connection goes with a reason; without one it is kept where that is possible. */
static void die(struct request *r, int reason) {
  if (r->dead)
    return;
  r->dead = true;
  cancel_dial(r);
  timer_stop(&r->timer);
  task_cancel(&r->step);
  if (r->c && !reason && !r->upgraded && r->req_whole && h1_out_flush(&r->c->out))
    pool_keep(r->c, r->idle_ms);
  else
    conn_close(r->c, reason ? reason : r->upgraded || r->req_whole ? 0 : BEAM_ERR_CLOSED);
  r->c = NULL;
  unlink_request(r);
}

static void leave(struct request *r) {
  if (--r->depth || !r->dead)
    return;
  free(r->bytes);
  free(r->preface);
  free(r);
}

void request_fail(struct request *r, enum page page) {
  r->depth++;
  http_send_abort(&r->end, r->answered ? PAGE_TRUNCATED : page);
  die(r, BEAM_ERR_LOCAL);
  leave(r);
}

static void soon(struct request *r) {
  loop_soon(r->timer.loop, &r->step);
}

/* --- the response --- */

/* Node says "Keep-Alive: timeout=5". Stay a second below what the service announces, and below our own limit. */
static uint64_t idle_time(const struct h1_message *m) {
  const struct http_field *f = http_field_find(&m->head, "keep-alive");
  uint64_t seconds = LIMIT_UPSTREAM_IDLE_MS / 1000 + 1;
  if (!m->keep_alive)
    return 0;
  for (size_t i = 0; f && i + 8 < f->value.n; i++) {
    struct span v = {f->value.p + i, f->value.n - i};
    if (!span_ieq((struct span){v.p, 8}, SPAN("timeout=")))
      continue;
    size_t n = 8;
    while (n < v.n && v.p[n] >= '0' && v.p[n] <= '9')
      n++;
    if (!str_u64((struct span){v.p + 8, n - 8}, 3600, &seconds))
      return 0;
  }
  uint64_t ms = seconds > 1 ? (seconds - 1) * 1000 : seconds * 500;
  return ms < LIMIT_UPSTREAM_IDLE_MS ? ms : LIMIT_UPSTREAM_IDLE_MS;
}

static void complete(struct request *r) {
  r->resp_done = true;
  if (r->answered && !r->req_closed && !r->upgraded) {
    r->req_closed = true;
    http_send_stop(&r->end);
  }
}

/* The final head. Whatever is hop-by-hop stays here. */
static void answer(struct request *r, struct h1_message *m) {
  struct http_head *h = &m->head;
  bool more = m->body != HTTP_BODY_NONE;
  if (h->status == 101 && !r->asks) {
    request_fail(r, PAGE_LOCAL_BAD);
    return;
  }
  r->idle_ms = r->preface ? 0 : idle_time(m);
  r->upgraded = h->status == 101;
  if (r->asks && !r->upgraded)
    r->req_whole = true; /* refused: there was no body to write */
  r->asks = false;
  r->answered = true;
  h->fields_n = forward_filter(h, h->fields, r->upgraded);
  timer_stop(&r->timer);
  h1_in_start(&r->in, m->body, m->length);
  if (r->upgraded)
    h1_out_start(&r->c->out, HTTP_BODY_UPGRADE, 0);
  if (!more)
    complete(r); /* stop first, so that the front's head can say close */
  http_send_head(&r->end, h, more);
  if (r->upgraded)
    http_send_want(&r->end);
}

static void no_answer(struct request *r, bool empty) {
  struct conn *c = r->c;
  if (empty && c->reused && r->safe && r->pool) {
    r->c = NULL;
    conn_close(c, BEAM_ERR_CLOSED);
    r->safe = false;
    dial(r);
    return;
  }
  request_fail(r, PAGE_LOCAL_CLOSED);
}

/* One head off the stream; false: nothing more to do now. */
static bool read_head(struct request *r) {
  struct stream *s = r->c->s;
  const char *p;
  struct h1_message m;
  long len = h1_head_waiting(s, &r->scanned, &p);
  if (!len) {
    if (s->in_ended || stream_dead(s))
      no_answer(r, !stream_waiting(s) && !r->infos);
    return false;
  }
  enum h1_fault fault = len < 0
                            ? H1_FAULT_TOO_LARGE
                            : h1_parse_response(p, (size_t)len, r->is_head ? SPAN("HEAD") : SPAN("GET"), &m);
  if (fault) {
    log_limited(BEAM_LOG_WARN, "http", "local service: response refused why=\"%s\"", h1_fault_text(fault));
    request_fail(r, PAGE_LOCAL_BAD);
    return false;
  }
  stream_consume(s, (size_t)len);
  r->scanned = 0;
  r->active = loop_now(s->loop);
  if (m.head.status >= 200 || m.head.status == 101) {
    answer(r, &m);
  } else if (++r->infos > LIMIT_UPSTREAM_INFOS) {
    request_fail(r, PAGE_LOCAL_BAD);
  } else {
    m.head.fields_n = forward_filter(&m.head, m.head.fields, false);
    http_send_info(&r->end, &m.head);
  }
  http_head_free(&m.head);
  return !r->dead && r->end.peer;
}

static void read_body(struct request *r) {
  switch (h1_in_pump(&r->in, r->c->s, &r->end)) {
  case H1_PUMP_END:
    complete(r);
    http_send_end(&r->end);
    break;
  case H1_PUMP_BAD:
  case H1_PUMP_CUT:
    request_fail(r, PAGE_LOCAL_BAD);
    break;
  default:
    break;
  }
}

static void work(struct request *r) {
  if (r->failing && !r->dead) {
    request_fail(r, r->failing);
    return;
  }
  if (!r->dead && !r->begun && r->pass.place == GATE_INSIDE)
    begin(r);
  if (r->dead || !r->c)
    return;
  bool flushed = h1_out_flush(&r->c->out);
  if (r->c->out.err) {
    request_fail(r, PAGE_OVERLOADED);
    return;
  }
  while (!r->answered && !r->dead && r->c && r->end.peer && read_head(r))
    ;
  if (r->dead || !r->c || !r->answered)
    return;
  if (!r->resp_done)
    read_body(r);
  if (r->dead || !r->c)
    return;
  if (r->upgraded && r->req_closed && flushed)
    stream_finish(r->c->s);
  if (r->resp_done && r->req_closed && (flushed || !r->upgraded)) {
    http_done(&r->end);
    die(r, 0);
  } else if (r->resp_done && stream_dead(r->c->s)) {
    request_fail(
        r,
        PAGE_TRUNCATED); /* half-closed by the service, then reset: what the visitor still says goes nowhere */
  }
}

/* --- events --- */

static void on_step(void *arg) {
  struct request *r = arg;
  r->depth++;
  work(r);
  leave(r);
}

static void on_writable(void *user) {
  struct request *r = user;
  r->depth++;
  if (h1_out_flush(&r->c->out))
    http_send_want(&r->end);
  work(r);
  leave(r);
}

/* What came before it died is still worth delivering: a service that refuses an upload answers, and resets. */
static void on_closed(void *user, int reason) {
  (void)reason;
  on_step(user);
}

static const struct stream_events events = {on_step, on_writable, on_closed};

static void on_timer(void *arg) {
  struct request *r = arg;
  uint64_t idle = loop_now(r->timer.loop) - r->active;
  if (idle >= LIMIT_UPSTREAM_HEAD_MS || timer_start(&r->timer, LIMIT_UPSTREAM_HEAD_MS - idle))
    request_fail(r, PAGE_LOCAL_TIMEOUT);
}

/* --- the request --- */

static void use(struct request *r, struct conn *c) {
  r->c = c;
  r->active = loop_now(c->s->loop);
  h1_out_start(&c->out, r->kind, r->length);
  if ((r->preface && evbuffer_add(c->out.pend, r->preface, r->preface_n)) ||
      evbuffer_add(c->out.pend, r->bytes, r->bytes_n) || timer_start(&r->timer, LIMIT_UPSTREAM_HEAD_MS)) {
    r->failing = PAGE_INTERNAL;
    soon(r);
  }
  if (!r->safe || !c->reused) {
    free(r->bytes);
    r->bytes = NULL;
  }
  stream_own(c->s, &events, r);
  if (r->req_closed && h1_out_end(&c->out)) {
    r->failing = PAGE_BAD_BODY;
    soon(r);
  }
  r->req_whole |= r->req_closed;
  if (!h1_out_flush(&c->out))
    return;
  if (!r->req_closed && !r->asks)
    http_send_want(&r->end);
}

static void on_dial(void *user, struct stream *s, int err) {
  struct request *r = user;
  struct conn *c;
  r->depth++;
  r->dial = NULL;
  if (!err)
    err = conn_new(r->pool, s, &c);
  if (err)
    request_fail(r, http_dial_page(err));
  else
    use(r, c);
  leave(r);
}

static void dial(struct request *r) {
  struct http_dialer *d = r->pool->conf.dialer;
  int err = d->dial(d, HTTP_DIAL_1, on_dial, r, &r->dial);
  if (!err)
    return;
  r->dial = NULL;
  r->failing = http_dial_page(err);
  soon(r);
}

static void begin(struct request *r) {
  struct conn *c = r->preface ? NULL : pool_take(r->pool);
  r->begun = true;
  if (c)
    use(r, c);
  else
    dial(r);
}

/* The head in HTTP/1.1, into r->bytes. */
static int write_head(struct request *r, const struct http_head *h) {
  enum { ADDED = 3 };
  struct http_field fields[LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS + ADDED];
  struct http_head out = *h;
  struct evbuffer *b = r->pool->scratch;
  if (h->fields_n > LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS)
    return BEAM_ERR_TOO_LARGE;
  fields[0] = (struct http_field){SPAN("Host"), h->authority};
  out.fields = fields;
  out.fields_n = 1;
  size_t n = forward_filter(h, fields + 1, r->asks);
  for (size_t i = 1; i <= n; i++)
    if (!span_ieq(fields[i].name, SPAN("host")))
      fields[out.fields_n++] = fields[i];
  if (r->asks)
    fields[out.fields_n++] = (struct http_field){SPAN("Connection"), SPAN("upgrade")};
  if (r->kind == HTTP_BODY_CHUNKED)
    fields[out.fields_n++] = (struct http_field){SPAN("Transfer-Encoding"), SPAN("chunked")};
  int err = h1_write_head(b, &out);
  r->bytes_n = evbuffer_get_length(b);
  if (!err && !(r->bytes = malloc(r->bytes_n)))
    err = BEAM_ERR_NOMEM;
  if (err)
    evbuffer_drain(b, r->bytes_n);
  else
    evbuffer_remove(b, r->bytes, r->bytes_n);
  return err;
}

static bool is_idempotent(struct span method) {
  static const struct span names[] = {{"GET", 3},   {"HEAD", 4},   {"OPTIONS", 7}, {"PUT", 3},
                                      {"TRACE", 5}, {"DELETE", 6}, {"QUERY", 5}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (span_eq(method, names[i]))
      return true;
  return false;
}

static void on_head(struct http_end *e, const struct http_head *h, bool more) {
  struct request *r = (struct request *)e;
  int err = http_length(h, &r->length);
  if (r->bytes || r->c || r->dial || r->failing)
    return;
  r->is_head = span_eq(h->method, SPAN("HEAD"));
  r->safe = !more && is_idempotent(h->method);
  r->asks = more && err == BEAM_ERR_NOT_FOUND && http_field_find(h, "upgrade");
  r->req_closed = r->req_whole = !more;
  if (!more || r->asks)
    r->kind = HTTP_BODY_NONE;
  else
    r->kind = err ? HTTP_BODY_CHUNKED : HTTP_BODY_LENGTH;
  if (err == BEAM_ERR_INVALID || (!err && !more && r->length))
    r->failing = PAGE_BAD_BODY;
  else if (write_head(r, h))
    r->failing = PAGE_INTERNAL;
  if (r->failing) {
    soon(r);
    return;
  }
  if (gate_enter(&r->pool->gate, &r->pass, &r->step))
    begin(r);
}

static size_t on_room(struct http_end *e) {
  struct request *r = (struct request *)e;
  return r->c && !r->asks && !r->req_closed && !r->failing ? h1_out_room(&r->c->out) : 0;
}

static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  struct request *r = (struct request *)e;
  if (!r->c || r->asks || r->req_closed || r->failing)
    return 0;
  size_t took = h1_out_body(&r->c->out, from, n);
  r->active = loop_now(r->timer.loop);
  if (r->c->out.err) {
    r->failing = PAGE_BAD_BODY;
    soon(r);
  }
  return took;
}

static void on_trailers(struct http_end *e, const struct http_head *h) {
  struct request *r = (struct request *)e;
  if (r->c && !r->req_closed)
    h1_out_trailers(&r->c->out, h);
}

static void on_end(struct http_end *e) {
  struct request *r = (struct request *)e;
  r->req_closed = true;
  soon(r);
  if (!r->c) /* use() writes the end */
    return;
  if (h1_out_end(&r->c->out))
    r->failing = PAGE_BAD_BODY;
  else
    r->req_whole = true;
}

static void on_abort(struct http_end *e, enum page page) {
  struct request *r = (struct request *)e;
  if (r->depth) { /* in the middle of passing something on: the step ends it */
    r->failing = page;
    soon(r);
    return;
  }
  r->depth++;
  die(r, BEAM_ERR_RESET);
  leave(r);
}

static void on_want(struct http_end *e) {
  soon((struct request *)e);
}

static const struct http_end_ops ops = {"h1-upstream", on_head, NULL, on_room,  on_body,
                                        on_trailers,   on_end,  NULL, on_abort, on_want};

int h1_pool_request(struct h1_pool *p, struct http_end **out) {
  struct request *r = calloc(1, sizeof *r);
  if (!r)
    return BEAM_ERR_NOMEM;
  r->end.ops = &ops;
  r->pool = p;
  r->link = &p->requests;
  r->next = p->requests;
  if (r->next)
    r->next->link = &r->next;
  p->requests = r;
  task_init(&r->step, on_step, r);
  timer_init(&r->timer, p->conf.loop, on_timer, r);
  *out = &r->end;
  return 0;
}

int h1_request_preface(struct http_end *upstream, const void *p, size_t n) {
  struct request *r = (struct request *)upstream;
  r->preface = malloc(n);
  if (!r->preface)
    return BEAM_ERR_NOMEM;
  memcpy(r->preface, p, n);
  r->preface_n = n;
  return 0;
}
