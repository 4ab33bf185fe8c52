/* A hostile service over HTTP/2: the input says what it says, when it ends or resets, when visitors come, send, stop reading and leave, and how much time goes by.
 * Whatever happens, what visitors are given is clean and in order, and in the end nothing is held. */
#include <event2/buffer.h>
#include <stdlib.h>

#include "base/limits.h"
#include "fuzz.h"
#include "http/h2_upstream.h"
#include "io/budget.h"
#include "io/mem.h"

enum { SERVICES = 4, VISITORS = 8 };

/* The front end of an exchange. */
struct visitor {
  struct http_end end;
  struct evbuffer *body;
  bool begun, more, said_end; /* the request */
  bool head, ended, stopped, over, slow;
};

struct service {
  struct stream *s;
  bool slow;
};

static struct loop *loop;
static struct visitor visitors[VISITORS];
static struct service services[SERVICES];
static unsigned visitors_n, dials;
static struct h2_pool *pool;

/* --- the service's side --- */

static void service_readable(void *user) {
  struct service *v = user;
  while (!v->slow && stream_waiting(v->s))
    stream_consume(v->s, stream_waiting(v->s));
}
static void service_closed(void *user, int reason) {
  (void)user;
  MUST(reason < 0);
}
static const struct stream_events service_events = {service_readable, NULL, service_closed};

struct dial {
  struct loop_task task;
  dial_cb cb;
  void *user;
};
static struct http_dialer dialer;

static void dialled(void *arg) {
  struct dial d = *(struct dial *)arg;
  struct stream *s = NULL;
  free(arg);
  if (dials < SERVICES && !mem_pair(loop, &s, &services[dials].s)) {
    stream_own(services[dials].s, &service_events, &services[dials]);
    dials++;
  }
  dialer.h2 = true;
  d.cb(d.user, s, s ? 0 : BEAM_ERR_REFUSED);
}

static int dial(struct http_dialer *h, unsigned speaks, dial_cb cb, void *user, struct dial **out) {
  (void)h, (void)speaks;
  struct dial *d = calloc(1, sizeof *d);
  MUST(d);
  d->cb = cb;
  d->user = user;
  task_init(&d->task, dialled, d);
  loop_soon(loop, &d->task);
  *out = d;
  return 0;
}

static void dial_cancel(struct http_dialer *h, struct dial *d) {
  (void)h;
  task_cancel(&d->task);
  free(d);
}

/* --- the visitor's side --- */

static struct visitor *of(struct http_end *e) {
  return (struct visitor *)e;
}
static void on_head(struct http_end *e, const struct http_head *h, bool more) {
  MUST(!of(e)->head && h->status >= 200);
  must_be_clean(h);
  of(e)->head = true;
  of(e)->ended = !more;
}
static void on_info(struct http_end *e, const struct http_head *h) {
  MUST(!of(e)->head && h->status >= 100 && h->status < 200 && h->status != 101);
  must_be_clean(h);
}
static size_t on_room(struct http_end *e) {
  return of(e)->slow ? 0 : 10000;
}
static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  MUST(of(e)->head && !of(e)->ended && n <= 10000);
  evbuffer_drain(from, n);
  return n;
}
static void on_trailers(struct http_end *e, const struct http_head *h) {
  MUST(of(e)->head && !of(e)->ended);
  must_be_clean(h);
}
static void on_end(struct http_end *e) {
  MUST(of(e)->head && !of(e)->ended);
  of(e)->ended = true;
}
static void on_stop(struct http_end *e) {
  of(e)->stopped = true;
}
static void on_abort(struct http_end *e, enum page page) {
  MUST(page_find((unsigned)page) && !of(e)->over);
  of(e)->over = true;
}
static void on_want(struct http_end *e) {
  (void)e;
}
static const struct http_end_ops ops = {"fuzz",      on_head, on_info, on_room,  on_body,
                                        on_trailers, on_end,  on_stop, on_abort, on_want};

static void ask(unsigned kind) {
  static struct http_field grpc = {SPAN("content-type"), SPAN("application/grpc")};
  struct http_end *up;
  if (visitors_n == VISITORS)
    return;
  struct visitor *v = &visitors[visitors_n++];
  v->end.ops = &ops;
  v->body = evbuffer_new();
  v->more = kind & 1;
  struct http_head h = {.minor = 1,
                        .method = v->more ? SPAN("POST") : SPAN("GET"),
                        .scheme = SPAN("https"),
                        .authority = SPAN("localhost"),
                        .target = SPAN("/"),
                        .fields = &grpc,
                        .fields_n = kind >> 1 & 1};
  MUST(v->body && !h2_pool_request(pool, &up));
  http_join(&v->end, up);
  http_send_head(&v->end, &h, v->more);
}

static void send_body(struct visitor *v, unsigned n, bool end) {
  if (!v->more || v->said_end || v->stopped || !v->end.peer)
    return;
  for (unsigned i = 0; i < n * 100; i++)
    evbuffer_add(v->body, "0123456789", 10);
  size_t room = http_room(&v->end), held = evbuffer_get_length(v->body);
  http_send_body(&v->end, v->body, held < room ? held : room);
  if (!end || !v->end.peer)
    return;
  v->said_end = true;
  http_send_end(&v->end);
}

/* --- */

static size_t op(const uint8_t *p, size_t n) {
  struct service *s = &services[dials ? p[1] % dials : 0];
  struct visitor *v = &visitors[visitors_n ? p[1] % visitors_n : 0];
  size_t len = p[1] < n - 2 ? p[1] : n - 2;
  switch (p[0] & 7) {
  case 1:
    if (s->s)
      p[0] & 8 ? stream_close(s->s, BEAM_ERR_RESET) : stream_finish(s->s);
    s->s = p[0] & 8 ? NULL : s->s;
    return 2;
  case 2:
    loop_run_for(loop, p[1] * 1000u);
    return 2;
  case 3:
    ask(p[1]);
    return 2;
  case 4:
    send_body(v, p[0] >> 4, p[0] & 8);
    return 2;
  case 5:
    if (v->end.peer)
      http_send_abort(&v->end, PAGE_VISITOR_GONE);
    return 2;
  case 6:
    v->slow = !v->slow;
    http_send_want(&v->end);
    return 2;
  default:
    s = &services[dials ? (p[0] >> 3) % dials : 0];
    if (s->s && !s->s->dead && !s->s->out_ended)
      stream_write(s->s, p + 2, len);
    return 2 + len;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  if (!loop && loop_new_virtual(&loop))
    return 0;
  size_t before = budget_left(&budget_pool);
  dialer = (struct http_dialer){dial, dial_cancel, true};
  struct h2_pool_conf conf = {.loop = loop, .dialer = &dialer, .prior = true};
  memset(visitors, 0, sizeof visitors);
  memset(services, 0, sizeof services);
  visitors_n = dials = 0;
  MUST(!h2_pool_new(&conf, &pool));
  for (size_t at = 0; at + 2 <= n;) {
    at += op(p + at, n - at);
    loop_run_for(loop, 0);
  }
  h2_pool_free(pool);
  loop_run_for(loop, 0);
  for (unsigned i = 0; i < visitors_n; i++) {
    MUST(!visitors[i].end.peer);
    evbuffer_free(visitors[i].body);
  }
  for (unsigned i = 0; i < SERVICES; i++)
    stream_close(services[i].s, BEAM_ERR_RESET);
  loop_run_for(loop, 0);
  MUST(budget_left(&budget_pool) == before);
  return 0;
}
