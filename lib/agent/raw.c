#include "agent/raw.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "http/pages.h"
#include "io/pipe.h"
#include "wire/proxyline.h"

struct raw {
  struct raw *prev, *next, **list;
  const struct local_conf *conf;
  struct dial *dial;
  struct stream *visitor; /* until it is piped */
  struct pipe *pipe;
  uint64_t started;
  char head[PROXYLINE_MAX]; /* PROXY protocol, written before the visitor's bytes */
  size_t head_n;
};

static void raw_free(struct raw *v) {
  DL_DELETE(*v->list, v);
  free(v);
}

static void raw_end(struct raw *v, int reason) {
  if (v->dial)
    net_dial_cancel(v->conf->net, v->dial);
  if (v->pipe)
    pipe_abort(v->pipe, reason);
  stream_close(v->visitor, reason);
  raw_free(v);
}

/* For the request lines: a connection counts as one. */
static void tell(struct raw *v, int reason, uint64_t in, uint64_t out) {
  struct http_record r = {.method = SPAN("TCP"),
                          .started_ms = v->started,
                          .total_ms = loop_now(v->conf->loop) - v->started,
                          .body_in = in,
                          .body_out = out,
                          .failed = !reason                      ? PAGE_NONE
                                    : reason == BEAM_ERR_REFUSED ? PAGE_LOCAL_REFUSED
                                    : reason == BEAM_ERR_TIMEOUT ? PAGE_LOCAL_TIMEOUT
                                                                 : PAGE_TRUNCATED};
  if (v->conf->finished)
    v->conf->finished(v->conf->user, &r);
}

static void on_done(void *user, const struct pipe_result *r) {
  struct raw *v = user;
  v->pipe = NULL;
  tell(v, r->reason, r->a_to_b, r->b_to_a);
  raw_free(v);
}

static void on_dialled(void *user, struct stream *s, int err) {
  struct raw *v = user;
  v->dial = NULL;
  if (err) {
    log_limited(BEAM_LOG_WARN, "agent", "local service %s:%u: %s", v->conf->host, v->conf->port,
                beam_strerror(err));
    tell(v, err, 0, 0);
    raw_end(v, err);
    return;
  }
  if (v->head_n && stream_write(s, v->head, v->head_n) != v->head_n) {
    stream_close(s, BEAM_ERR_LIMIT);
    raw_end(v, BEAM_ERR_LIMIT);
    return;
  }
  struct stream *visitor = v->visitor;
  v->visitor = NULL;
  if (pipe_start(visitor, s, on_done, v, &v->pipe))
    raw_free(v);
}

static void on_readable(void *user) {
  (void)user; /* waits in the stream for the local service */
}
static void on_closed(void *user, int reason) {
  raw_end(user, reason);
}
static const struct stream_events events = {on_readable, NULL, on_closed};

void raw_serve(struct raw **list, const struct local_conf *conf, struct stream *s,
               const beam_StreamOpen *open) {
  struct raw *v = calloc(1, sizeof *v);
  if (!v) {
    stream_close(s, BEAM_ERR_NOMEM);
    return;
  }
  v->list = list;
  v->conf = conf;
  v->visitor = s;
  v->started = loop_now(conf->loop);
  if (conf->proxy_protocol)
    v->head_n = proxyline_write(conf->proxy_protocol, open->visitor, open->local, v->head);
  DL_APPEND(*list, v);
  stream_own(s, &events, v);
  int err = net_dial(conf->net, conf->loop, conf->host, conf->port, LIMIT_UPSTREAM_DIAL_MS, on_dialled, v,
                     &v->dial);
  if (err)
    raw_end(v, err);
}

void raw_close_all(struct raw **list) {
  while (*list)
    raw_end(*list, BEAM_ERR_CLOSED);
}
