#include "rig.h"

int rig_calm;

/* --- peers --- */

void peer_read(struct peer *p) {
  if (!p->s)
    return;
  rig_calm++;
  while (stream_waiting(p->s))
    stream_take(p->s, p->got, stream_waiting(p->s));
  if (stream_at_end(p->s))
    p->ended = true;
  rig_calm--;
}

static void on_readable(void *user) {
  struct peer *p = user;
  if (!p->slow)
    peer_read(p);
}

static void on_closed(void *user, int reason) {
  struct peer *p = user;
  assert_true(reason < 0);
  p->dead = true;
  peer_read(p);
}

static const struct stream_events events = {on_readable, NULL, on_closed};

void peer_own(struct peer *p, struct stream *s) {
  memset(p, 0, sizeof *p);
  p->s = s;
  p->got = evbuffer_new();
  assert_non_null(p->got);
  stream_own(s, &events, p);
}

int peer_pair(struct loop *l, struct peer *p, struct stream **other) {
  struct stream *s;
  int err = mem_pair(l, &s, other);
  if (!err)
    peer_own(p, s);
  return err;
}

void peer_put(struct peer *p, const void *data, size_t n) {
  assert_int_equal(stream_write(p->s, data, n), n);
}

void peer_say(struct peer *p, const char *text) {
  peer_put(p, text, strlen(text));
}
void peer_finish(struct peer *p) {
  stream_finish(p->s);
}

void peer_reset(struct peer *p) {
  stream_close(p->s, BEAM_ERR_RESET);
  p->s = NULL;
}

const char *peer_text(struct peer *p) {
  static char copy[1 << 16];
  size_t n = peer_length(p);
  assert_true(n < sizeof copy);
  if (n)
    evbuffer_copyout(p->got, copy, n);
  copy[n] = 0;
  return copy;
}

const char *peer_since(struct peer *p) {
  const char *text = peer_text(p);
  if (p->got)
    evbuffer_drain(p->got, evbuffer_get_length(p->got));
  return text;
}

size_t peer_length(struct peer *p) {
  return p->got ? evbuffer_get_length(p->got) : 0;
}

void peer_free(struct peer *p) {
  stream_close(p->s, BEAM_ERR_RESET);
  if (p->got)
    evbuffer_free(p->got);
  memset(p, 0, sizeof *p);
}

/* --- the fake network: every dial reaches the next scripted service --- */

struct dial {
  struct rig *r;
  struct loop_task task;
  struct loop_timer timer;
  dial_cb cb;
  void *user;
};

static void dial_done(void *arg) {
  struct dial *d = arg;
  struct rig *r = d->r;
  struct stream *s = NULL;
  dial_cb cb = d->cb;
  void *user = d->user;
  int err = r->dial_err == BEAM_AGAIN ? BEAM_ERR_TIMEOUT : r->dial_err;
  timer_stop(&d->timer);
  free(d);
  if (!err) {
    assert_true(r->dials < RIG_SERVICES);
    rig_calm++;
    err = peer_pair(r->loop, &r->service[r->dials++], &s);
    rig_calm--;
  }
  cb(user, s, err);
}

static int fake_dial(struct net *n, struct loop *l, const char *host, uint16_t port, uint64_t timeout_ms,
                     dial_cb cb, void *user, struct dial **out) {
  struct rig *r = (struct rig *)n;
  struct dial *d = calloc(1, sizeof *d);
  if (!d)
    return BEAM_ERR_NOMEM;
  assert_string_equal(host, "localhost");
  assert_int_equal(port, 3000);
  d->r = r;
  d->cb = cb;
  d->user = user;
  task_init(&d->task, dial_done, d);
  timer_init(&d->timer, l, dial_done, d);
  if (r->dial_err == BEAM_AGAIN)
    timer_start(&d->timer, timeout_ms);
  else
    loop_soon(l, &d->task);
  *out = d;
  return 0;
}

static void fake_cancel(struct dial *d) {
  task_cancel(&d->task);
  timer_stop(&d->timer);
  free(d);
}

static const struct net_ops fake_ops = {.dial = fake_dial, .dial_cancel = fake_cancel};

/* --- handlers --- */

static void finished(void *user, const struct http_record *rec) {
  struct rig *r = user;
  r->records++;
  r->last = *rec;
  str_fmt(r->last_method, sizeof r->last_method, "%.*s", SPAN_FMT(rec->method));
}

static void to_service(void *user, struct http_end *front, struct http_head *h, bool more) {
  struct rig *r = user;
  struct http_head head;
  struct http_end *up;
  r->heads++;
  if (r->ignore)
    return;
  if (r->answer_with) {
    page_answer(r->loop, front, h, r->answer_with, NULL);
    return;
  }
  if (r->address && policy_answer(r->policy, r->loop, r->address, front, h, &r->refused))
    return;
  if (forward_to_local(h, NULL, &head))
    return; /* the front says so itself */
  if (!(r->pool2 ? h2_pool_request(r->pool2, &up) : h1_pool_request(r->pool, &up))) {
    if (r->way == DIRECT)
      http_join(front, up);
    else if (rewrite_edge_join(r->loop, &(struct rewrite_edge){.base = "t.test"}, front, up))
      up->ops->abort(up, PAGE_INTERNAL);
    if (front->peer && r->policy && policy_join(r->policy, r->loop, front, h))
      http_send_abort(front, PAGE_INTERNAL);
    if (front->peer)
      http_send_head(front, &head, more);
  }
  http_head_free(&head);
}

static void to_agent(void *user, struct http_end *front, struct http_head *h, bool more) {
  struct rig *r = user;
  struct stream *a, *b;
  struct http_end *up;
  struct forward_facts facts = {"192.0.2.7", "https", "t.test"};
  struct http_head head;
  if (forward_request(h, &facts, &head))
    return;           /* the front says so itself */
  head.fields_n -= 5; /* what forward_request adds is tested on its own */
  rig_calm++;
  assert_int_equal(mem_pair(r->loop, &a, &b), 0);
  if (r->link_tap)
    peer_own(r->link_tap, b);
  rig_calm--;
  if (!r->link_tap && frames_front(b, &r->agent))
    r->gone++; /* it takes the stream, also when it fails */
  if (!frames_upstream(a, &up)) {
    http_join(front, up);
    http_send_head(front, &head, more);
  }
  http_head_free(&head);
}

static void gone(void *user) {
  ((struct rig *)user)->gone++;
}

static void front_closed(void *user, struct front *f) {
  struct rig *r = user;
  assert_ptr_equal(r->front, f);
  r->front = NULL;
}

/* --- the rig --- */

struct rig *rig_new(enum rig_way way) {
  return rig_new_with(way, h1_front_new);
}

struct rig *rig_new_with(enum rig_way way, rig_front front) {
  struct rig *r = calloc(1, sizeof *r);
  struct stream *s;
  assert_non_null(r);
  r->net.ops = &fake_ops;
  r->way = way;
  assert_int_equal(loop_new_virtual(&r->loop), 0);
  struct h1_pool_conf pool = {&r->net, r->loop, "localhost", 3000, NULL};
  assert_int_equal(h1_pool_new(&pool, &r->pool), 0);
  r->relay = (struct http_handler){
      .request = way == FRAMES ? to_agent : to_service, .finished = finished, .user = r};
  r->agent = (struct http_handler){.request = to_service, .gone = gone, .user = r};
  struct front_conf conf = {
      .tls = true, .handler = &r->relay, .closed = front_closed, .user = r, .body_rate = LIMIT_BODY_RATE};
  assert_int_equal(peer_pair(r->loop, &r->visitor, &s), 0);
  assert_int_equal(front(s, &conf, &r->front), 0);
  rig_run(r);
  return r;
}

/* --- towards a service over HTTP/2 --- */

struct choice {
  struct rig *r;
  dial_cb cb;
  void *user;
  struct dial *dial;
};

static void choice_made(void *user, struct stream *s, int err) {
  struct choice *c = user;
  struct rig *r = c->r;
  dial_cb cb = c->cb;
  void *arg = c->user;
  free(c);
  r->plain.d.h2 = !r->chose_h1;
  cb(arg, s, err);
}

static int choice_dial(struct http_dialer *d, unsigned speaks, dial_cb cb, void *user, struct dial **out) {
  struct rig *r = (struct rig *)((char *)d - offsetof(struct rig, plain));
  struct choice *c = calloc(1, sizeof *c);
  if (!c)
    return BEAM_ERR_NOMEM;
  assert_int_equal(speaks, HTTP_DIAL_1 | HTTP_DIAL_2);
  *c = (struct choice){r, cb, user, NULL};
  int err = net_dial(&r->net, r->loop, "localhost", 3000, 1000, choice_made, c, &c->dial);
  if (err)
    free(c);
  else
    *out = (struct dial *)c;
  return err;
}

static void choice_cancel(struct http_dialer *d, struct dial *dial) {
  struct rig *r = (struct rig *)((char *)d - offsetof(struct rig, plain));
  struct choice *c = (struct choice *)dial;
  net_dial_cancel(&r->net, c->dial);
  free(c);
}

void rig_over2(struct rig *r, bool prior) {
  http_dialer_net_init(&r->plain, &r->net, r->loop, "localhost", 3000);
  if (!prior) {
    r->plain.d.dial = choice_dial;
    r->plain.d.cancel = choice_cancel;
  }
  struct h2_pool_conf conf = {
      .loop = r->loop, .dialer = &r->plain.d, .tls = !prior, .prior = prior, .h1 = r->pool};
  assert_int_equal(h2_pool_new(&conf, &r->pool2), 0);
}

void rig_free(struct rig *r) {
  if (r->front)
    front_abort(r->front, BEAM_ERR_CLOSED);
  h2_pool_free(r->pool2);
  h1_pool_free(r->pool);
  rig_run(r);
  peer_free(&r->visitor);
  for (unsigned i = 0; i < RIG_SERVICES; i++)
    peer_free(&r->service[i]);
  rig_run(r);
  loop_free(r->loop);
  free(r);
}

void rig_run(struct rig *r) {
  loop_run_for(r->loop, 0);
}
void rig_wait(struct rig *r, uint64_t ms) {
  loop_run_for(r->loop, ms);
}
