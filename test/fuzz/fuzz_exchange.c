/* Whole exchanges: the first byte chooses who is hostile, then each op says who says what, ends, resets, stops reading, or how much time goes by.
 * Whatever happens, what comes out parses, and everything is freed once the visitor left. */
#include <event2/buffer.h>
#include <stdlib.h>

#include "base/limits.h"
#include "fuzz.h"
#include "http/forward.h"
#include "http/frames.h"
#include "http/h1_front.h"
#include "http/h1_upstream.h"
#include "io/mem.h"
#include "io/net.h"
#include "wire/h1.h"

enum { SERVICES = 4 };
enum way { DIRECT, FRAMES, HOSTILE_AGENT, HOSTILE_RELAY };

struct peer {
  struct stream *s;
  struct evbuffer *got;
  bool slow, dead;
};

static struct loop *loop;
static enum way way;
static struct peer visitor, service[SERVICES], link_end;
static unsigned dials, fronts, gone;
static struct front *front;
static struct h1_pool *pool;
static struct http_handler relay, agent;

static void peer_readable(void *user) {
  struct peer *p = user;
  while (!p->slow && stream_waiting(p->s))
    stream_take(p->s, p->got, stream_waiting(p->s));
}

static void peer_closed(void *user, int reason) {
  struct peer *p = user;
  MUST(reason < 0);
  p->dead = true;
}

static const struct stream_events peer_events = {peer_readable, NULL, peer_closed};

static void peer_own(struct peer *p, struct stream *s) {
  *p = (struct peer){.s = s, .got = evbuffer_new()};
  MUST(p->got);
  stream_own(s, &peer_events, p);
}

static void peer_free(struct peer *p) {
  stream_close(p->s, BEAM_ERR_RESET);
  if (p->got)
    evbuffer_free(p->got);
  *p = (struct peer){0};
}

/* --- the network: a dial reaches the next service at once, and from the fourth on nobody --- */

struct dial {
  struct loop_task task;
  dial_cb cb;
  void *user;
};

static void dialled(void *arg) {
  struct dial d = *(struct dial *)arg;
  struct stream *s = NULL, *far;
  free(arg);
  if (dials < SERVICES && !mem_pair(loop, &s, &far))
    peer_own(&service[dials++], far);
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

/* --- handlers --- */

static void to_service(void *user, struct http_end *from, struct http_head *h, bool more) {
  (void)user;
  struct http_head head;
  struct http_end *up;
  MUST(!forward_to_local(h, "localhost:3000", &head) && !h1_pool_request(pool, &up));
  http_join(from, up);
  http_send_head(from, &head, more);
  http_head_free(&head);
}

static void to_agent(void *user, struct http_end *from, struct http_head *h, bool more) {
  struct stream *a, *b;
  struct http_end *up;
  struct http_head head;
  struct forward_facts facts = {"192.0.2.7", "https", "t.test"};
  if (way == DIRECT) {
    to_service(user, from, h, more);
    return;
  }
  if (way == HOSTILE_AGENT && link_end.got) {
    page_answer(loop, from, h, PAGE_NO_LINK, NULL);
    return;
  }
  MUST(!mem_pair(loop, &a, &b) && !frames_upstream(a, &up));
  if (way == HOSTILE_AGENT) {
    peer_own(&link_end, b);
  } else {
    fronts++;
    MUST(!frames_front(b, &agent));
  }
  MUST(!forward_request(h, &facts, &head));
  http_join(from, up);
  http_send_head(from, &head, more);
  http_head_free(&head);
}

static void on_gone(void *user) {
  (void)user;
  gone++;
}

static void on_front_closed(void *user, struct front *f) {
  (void)user;
  MUST(f == front);
  front = NULL;
}

/* --- what came out --- */

static void first_head_parses(struct peer *p, bool request) {
  size_t n = p->got ? evbuffer_get_length(p->got) : 0, scanned = 0;
  const char *text = n ? (const char *)evbuffer_pullup(p->got, -1) : "";
  long len = n ? h1_head_length(text, n, &scanned) : 0;
  struct h1_message m;
  MUST(len >= 0);
  if (!len)
    return;
  MUST((request ? h1_parse_request(text, (size_t)len, &m)
                : h1_parse_response(text, (size_t)len, SPAN("GET"), &m)) == H1_OK);
  http_head_free(&m.head);
}

static void say(struct peer *p, const uint8_t *data, size_t n) {
  if (p->s && !p->dead && !p->s->out_ended)
    stream_write(p->s, data, n);
}

static struct peer *who(unsigned i) {
  if (i == 0)
    return way == HOSTILE_RELAY ? &link_end : &visitor;
  if (i == 1 && way == HOSTILE_AGENT)
    return &link_end;
  return &service[dials ? (i + dials - 2) % dials : 0];
}

/* One op: a byte of kind and side, a byte of length or time, then the bytes that are said. */
static size_t op(const uint8_t *p, size_t n) {
  struct peer *peer = who(p[0] & 1);
  size_t len = p[1] < n - 2 ? p[1] : n - 2;
  switch (p[0] >> 1 & 7) {
  case 4:
    if (peer->s)
      stream_finish(peer->s);
    return 2;
  case 5:
    stream_close(peer->s, BEAM_ERR_RESET);
    peer->s = NULL;
    return 2;
  case 6:
    peer->slow = !peer->slow;
    if (peer->s)
      peer_readable(peer);
    return 2;
  case 7:
    loop_run_for(loop, p[1] * 1000u);
    return 2;
  default:
    say(peer, p + 2, len);
    return 2 + len;
  }
}

static void begin(void) {
  struct stream *s, *far;
  struct h1_pool_conf pool_conf = {.net = &net, .loop = loop, .host = "localhost", .port = 3000};
  struct front_conf conf = {.tls = true, .handler = &relay, .closed = on_front_closed};
  relay = (struct http_handler){.request = to_agent};
  agent = (struct http_handler){.request = to_service, .gone = on_gone};
  dials = fronts = gone = 0;
  MUST(!h1_pool_new(&pool_conf, &pool) && !mem_pair(loop, &s, &far));
  peer_own(&visitor, far);
  MUST(!h1_front_new(s, &conf, &front));
  if (way == HOSTILE_RELAY) {
    MUST(!mem_pair(loop, &s, &far));
    peer_own(&link_end, far);
    fronts++;
    MUST(!frames_front(s, &agent));
  }
}

static void end(void) {
  stream_close(visitor.s, BEAM_ERR_RESET);
  visitor.s = NULL;
  stream_close(link_end.s, BEAM_ERR_RESET);
  link_end.s = NULL;
  loop_run_for(loop, 0);
  MUST(!front && gone == fronts);
  h1_pool_free(pool);
  loop_run_for(loop, 0);
  for (unsigned i = 0; i < dials; i++)
    MUST(!service[i].s || service[i].dead || service[i].s->in_ended);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  if (n < 1 || (!loop && loop_new_virtual(&loop)))
    return 0;
  way = (enum way)(p[0] & 3);
  begin();
  for (size_t at = 1; at + 2 <= n;) {
    at += op(p + at, n - at);
    loop_run_for(loop, 0);
  }
  first_head_parses(&visitor, false);
  for (unsigned i = 0; i < dials; i++)
    first_head_parses(&service[i], true);
  end();
  peer_free(&visitor);
  peer_free(&link_end);
  for (unsigned i = 0; i < SERVICES; i++)
    peer_free(&service[i]);
  return 0;
}
