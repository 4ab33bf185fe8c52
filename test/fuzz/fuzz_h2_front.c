/* An HTTP/2 visitor says anything. Byte 0: bit 0 preface and SETTINGS come first, bit 1 the local service answers, bit 2 it takes nothing, bit 3 every request is
 * answered with a page, bit 4 the visitor does not read; the rest is what it says, cut at the bytes that say so. Heads that reach the handler are clean, what the service
 * gets parses, and nothing is left once the visitor has gone. */
#include <event2/buffer.h>

#include "base/limits.h"
#include "fuzz.h"
#include "http/forward.h"
#include "http/h1_upstream.h"
#include "http/h2_front.h"
#include "io/budget.h"
#include "io/mem.h"
#include "io/net.h"
#include "wire/h1.h"

enum { SERVICES = 32, FIRST = 1, ANSWERS = 2, TAKES_NOTHING = 4, PAGES = 8, DEAF = 16 };

static struct loop *loop;
static unsigned bits, dials, begun, finished;
static struct stream *visitor, *service[SERVICES];
static bool asked[SERVICES];
static struct front *front;
static struct h1_pool *pool;

/* --- the local service --- */

/* What came must be a request; the answer is always the same. */
static void on_service(void *user) {
  struct stream *s = service[(size_t)user];
  bool *again = &asked[(size_t)user];
  if (bits & TAKES_NOTHING)
    return;
  struct evbuffer *in = stream_input(s);
  if (*again) { /* a body, of no interest: no connection is used twice */
    stream_consume(s, stream_waiting(s));
    return;
  }
  size_t n = evbuffer_get_length(in), scanned = 0;
  const char *p = n ? (const char *)evbuffer_pullup(in, -1) : NULL;
  long len = p ? h1_head_length(p, n, &scanned) : 0;
  struct h1_message m;
  MUST(len >= 0);
  if (len) {
    MUST(h1_parse_request(p, (size_t)len, &m) == H1_OK);
    http_head_free(&m.head);
    stream_consume(s, n);
    *again = true;
    if (bits & ANSWERS)
      stream_write(s, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", 58);
  }
}

static void on_service_closed(void *user, int reason) {
  (void)user, (void)reason;
}
static const struct stream_events service_events = {on_service, NULL, on_service_closed};

struct dial {
  struct loop_task task;
  dial_cb cb;
  void *user;
};

static void dialled(void *arg) {
  struct dial d = *(struct dial *)arg;
  struct stream *s = NULL, *far;
  free(arg);
  if (dials < SERVICES && !mem_pair(loop, &s, &far)) {
    service[dials] = far;
    asked[dials] = false;
    stream_own(far, &service_events, (void *)(size_t)dials++);
  }
  d.cb(d.user, s, s ? 0 : BEAM_ERR_REFUSED);
}

static int dial(struct net *n, struct loop *l, const char *host, uint16_t port, uint64_t timeout_ms,
                dial_cb cb, void *user, struct dial **out) {
  (void)n, (void)host, (void)port, (void)timeout_ms;
  struct dial *d = calloc(1, sizeof *d);
  MUST(d);
  d->cb = cb;
  d->user = user;
  task_init(&d->task, dialled, d);
  loop_soon(l, &d->task);
  *out = d;
  return 0;
}

static void dial_cancel(struct dial *d) {
  task_cancel(&d->task);
  free(d);
}

static const struct net_ops net_ops = {.dial = dial, .dial_cancel = dial_cancel};
static struct net net = {&net_ops};

/* --- the relay --- */

static void on_request(void *user, struct http_end *from, struct http_head *h, bool more) {
  (void)user;
  struct http_head head;
  struct http_end *up;
  begun++;
  must_be_clean(h);
  MUST(h->authority.n && h->target.n && h->method.n);
  if (bits & PAGES) {
    page_answer(loop, from, h, PAGE_NO_TUNNEL, NULL);
    return;
  }
  MUST(!forward_to_local(h, NULL, &head) && !h1_pool_request(pool, &up));
  http_join(from, up);
  http_send_head(from, &head, more);
  http_head_free(&head);
}

static void on_finished(void *user, const struct http_record *r) {
  (void)user, (void)r;
  finished++;
}

static void on_front_closed(void *user, struct front *f) {
  (void)user;
  MUST(f == front);
  front = NULL;
}

static void on_visitor(void *user) {
  (void)user;
  if (!(bits & DEAF))
    stream_consume(visitor, stream_waiting(visitor));
}
static const struct stream_events visitor_events = {on_visitor, NULL, on_service_closed};

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
  struct http_handler handler = {.request = on_request, .finished = on_finished};
  struct front_conf conf = {
      .tls = true, .handler = &handler, .closed = on_front_closed, .body_rate = LIMIT_BODY_RATE};
  struct stream *s;
  if (!n || loop_new_virtual(&loop))
    return 0;
  bits = *p++;
  n--;
  dials = begun = finished = 0;
  struct h1_pool_conf pool_conf = {.net = &net, .loop = loop, .host = "localhost", .port = 3000};
  MUST(!h1_pool_new(&pool_conf, &pool) && !mem_pair(loop, &s, &visitor));
  stream_own(visitor, &visitor_events, NULL);
  MUST(!h2_front_new(s, &conf, &front));
  if (bits & FIRST)
    stream_write(visitor, preface, sizeof preface - 1);
  while (n && front) {
    size_t part = p[0] & 0x40 ? n : p[0] < n ? p[0] + 1u : n;
    stream_write(visitor, p, part);
    loop_run_for(loop, p[0] & 1 ? 5000 : 0);
    p += part;
    n -= part;
  }
  loop_run_for(loop, 1);
  stream_close(visitor, bits & 32 ? 0 : BEAM_ERR_RESET);
  loop_run_for(loop, 1);
  MUST(!front && finished >= begun);
  h1_pool_free(pool);
  loop_run_for(loop, 0);
  for (unsigned i = 0; i < dials; i++)
    stream_close(service[i], BEAM_ERR_RESET);
  loop_run_for(loop, LIMIT_SOCK_DRAIN_MS);
  MUST(!atomic_load(&budget_pool.used));
  loop_free(loop);
  return 0;
}
