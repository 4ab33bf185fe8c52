#include "quic/dial.h"

#include <stdlib.h>

#include "io/resolve.h"

enum { TRIES = 2 };

struct quic_dial {
  struct loop *loop;
  struct quic_client_conf conf;
  quic_dial_cb cb;
  void *user;
  struct resolve *resolve;
  struct loop_timer timer;
  struct loop_task begin; /* addresses that needed no asking */
  struct sockaddr_storage now[RESOLVE_NOW];
  size_t now_n;
  struct try {
    struct quic_dial *d;
    struct quic_conn *c;
  }
  tries[TRIES];
  unsigned n;
  int err; /* of the last try that failed */
};

static void release(struct quic_dial *d, int reason) {
  if (d->resolve)
    resolve_cancel(d->resolve);
  timer_stop(&d->timer);
  task_cancel(&d->begin);
  for (unsigned i = 0; i < d->n; i++)
    if (d->tries[i].c)
      quic_conn_close(d->tries[i].c, reason);
  free(d);
}

void quic_dial_cancel(struct quic_dial *d) {
  if (d)
    release(d, BEAM_ERR_CLOSED);
}

static void outcome(struct quic_dial *d, struct quic_conn *c, int err) {
  quic_dial_cb cb = d->cb;
  void *user = d->user;
  release(d, BEAM_ERR_CLOSED);
  cb(user, c, err);
}

static void on_ready(void *user) {
  struct try *t = user;
  struct quic_conn *c = t->c;
  t->c = NULL;
  outcome(t->d, c, 0);
}

static void on_closed(void *user, int reason) {
  struct try *t = user;
  struct quic_dial *d = t->d;
  quic_conn_close(t->c, reason);
  t->c = NULL;
  /* What the peer's certificate was worth says more than that the other family does not answer. */
  if (!d->err || reason == BEAM_ERR_UNTRUSTED)
    d->err = reason;
  for (unsigned i = 0; i < d->n; i++)
    if (d->tries[i].c)
      return;
  outcome(d, NULL, d->err);
}

static void on_stream(void *user, struct stream *s, bool bidi) {
  (void)user, (void)bidi;
  stream_close(s, BEAM_ERR_REFUSED); /* before ready() nothing is opened by an honest server */
}

static const struct quic_conn_events events = {.ready = on_ready, .stream = on_stream, .closed = on_closed};

static void on_resolved(void *user, const struct sockaddr_storage *addrs, size_t n, int err) {
  struct quic_dial *d = user;
  d->resolve = NULL;
  unsigned char seen[2] = {0, 0};
  for (size_t i = 0; i < n && d->n < TRIES; i++) {
    unsigned char *family = &seen[addrs[i].ss_family == AF_INET6];
    struct try *t = &d->tries[d->n];
    int e = *family ? BEAM_AGAIN : quic_connect(d->loop, &addrs[i], &d->conf, &t->c);
    if (e && e != BEAM_AGAIN)
      err = e;
    if (e)
      continue;
    *family = 1;
    t->d = d;
    d->n++;
    quic_conn_own(t->c, &events, t);
  }
  if (!d->n)
    outcome(d, NULL, err ? err : BEAM_ERR_UNREACHABLE);
}

static void on_begin(void *arg) {
  struct quic_dial *d = arg;
  on_resolved(d, d->now, d->now_n, 0);
}

static void on_late(void *arg) {
  outcome(arg, NULL, BEAM_ERR_TIMEOUT);
}

int quic_dial(struct loop *l, const char *host, uint16_t port, const struct quic_client_conf *conf,
              uint64_t timeout_ms, quic_dial_cb cb, void *user, struct quic_dial **out) {
  struct quic_dial *d = calloc(1, sizeof *d);
  if (!d)
    return BEAM_ERR_NOMEM;
  d->loop = l;
  d->conf = *conf;
  d->cb = cb;
  d->user = user;
  task_init(&d->begin, on_begin, d);
  timer_init(&d->timer, l, on_late, d);
  d->now_n = resolve_now(host, port, d->now);
  int err = timer_start(&d->timer, timeout_ms);
  if (!err && !d->now_n)
    err = resolve_start(l, host, port, on_resolved, d, &d->resolve);
  if (err) {
    release(d, err);
    return err;
  }
  if (d->now_n)
    loop_soon(l, &d->begin);
  *out = d;
  return 0;
}
