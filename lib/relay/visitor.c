#include "relay/visitor.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "base/log.h"
#include "base/str.h"
#include "http/h1_front.h"
#include "http/h2_front.h"
#include "http/h3_front.h"
#include "io/budget.h"
#include "obs/metrics.h"
#include "quic/quic.h"
#include "relay/admit.h"
#include "relay/dispatch.h"
#include "relay/drain.h"
#include "relay/raw.h"
#include "relay/session.h"
#include "relay/settings.h"
#include "relay/wslink.h"
#include "wire/hello.h"
#include "wire/host.h"

struct visitor {
  struct worker *w;
  struct visitor *prev, *next;
  enum { SNIFF, TLS_AGENT, TLS_VISITOR, FRONT } stage;
  struct stream *s;    /* SNIFF only: later it belongs to the next stage */
  struct hello turn;   /* SNIFF: its handshake waits */
  struct tls *tls;     /* TLS_* */
  struct front *front; /* FRONT */
  struct loop_timer timer;
  struct http_handler handler;
  bool tls_port, secure, given;
  bool carries; /* an agent's link */
  bool inner;   /* it came through a WebSocket: an agent, or nobody */
  uint16_t local_port;
  struct sockaddr_storage peer;
  struct admit_guest *guest;
  char addr[64], addr_port[80], local[80];
  struct sniff hello;
  struct cert *cert;
  char covered[256]; /* for dispatch */
};

/* The one way out. Whatever the stage holds is closed with the reason. */
static void visitor_end(struct visitor *v, int reason) {
  struct worker *w = v->w;
  DL_DELETE(w->visitors, v);
  timer_stop(&v->timer);
  hellos_leave(&w->hellos, &v->turn);
  if (v->tls)
    tls_cancel(v->tls);
  if (v->front)
    front_abort(v->front, reason);
  stream_close(v->s, reason);
  cert_unref(v->cert);
  admit_guest_unref(v->guest);
  atomic_fetch_sub(&w->relay->visitors_now, 1);
  free(v);
}

static void refuse(struct visitor *v, int reason, const char *what) {
  log_limited(BEAM_LOG_WARN, "visitor", "closed from=%s reason=%s", v->addr, what);
  atomic_fetch_add(&v->w->relay->refused, 1);
  visitor_end(v, reason);
}

/* --- HTTP --- */

/* A newcomer, counted by its address. NULL: there are too many. */
static struct visitor *admitted(struct worker *w, const struct sockaddr_storage *peer, uint16_t local_port) {
  struct relay *r = w->relay;
  bool full = atomic_load(&r->visitors_now) >= (int64_t)LIMIT_VISITORS;
  unsigned most = settings_now(r)->conf.visitor_connections;
  struct admit_guest *guest = full ? NULL : admit_guest_new(r->admit, peer, most);
  struct visitor *v = guest ? calloc(1, sizeof *v) : NULL;
  if (!v) {
    admit_guest_unref(guest);
    admit_refused(r, full || guest ? ADMIT_RELAY : ADMIT_ADDRESS);
    log_limited(BEAM_LOG_WARN, "visitor", "too many connections%s", full ? "" : " from one address");
    atomic_fetch_add(&r->refused, 1);
    return NULL;
  }
  v->w = w;
  v->guest = guest;
  v->local_port = local_port;
  v->peer = *peer;
  addr_text(peer, false, v->addr, sizeof v->addr);
  addr_text(peer, true, v->addr_port, sizeof v->addr_port);
  DL_APPEND(w->visitors, v);
  atomic_fetch_add(&r->visitors_now, 1);
  return v;
}

static void on_request(void *user, struct http_end *front, struct http_head *h, bool more) {
  struct visitor *v = user;
  struct visit visit = {v->w,    v->secure,  v->addr,  v->addr_port,  v->local, v->hello.sni,
                        v->cert, v->covered, &v->peer, v->local_port, v->guest};
  v->carries = wslink_asked(h);
  dispatch_request(&visit, front, h, more);
}

static void on_finished(void *user, const struct http_record *r) {
  struct visitor *v = user;
  dispatch_finished(v->w, r);
}

static void on_front_closed(void *user, struct front *f) {
  (void)f;
  struct visitor *v = user;
  v->front = NULL;
  visitor_end(v, 0);
}

static unsigned body_rate(struct visitor *v) {
  return settings_now(v->w->relay)->conf.min_body_rate;
}

static void start_front(struct visitor *v, struct stream *s, bool h2) {
  v->stage = FRONT;
  v->handler = (struct http_handler){.request = on_request, .finished = on_finished, .user = v};
  struct front_conf conf = {v->secure, &v->handler, on_front_closed, v, body_rate(v)};
  int err = h2 ? h2_front_new(s, &conf, &v->front) : h1_front_new(s, &conf, &v->front);
  if (err)
    visitor_end(v, err);
  else if (drain_begun(v->w->relay))
    front_last(v->front);
}

#ifndef BEAM_NO_QUIC
/* A visitor over HTTP/3: its handshake was QUIC's. */
void visitor_quic(struct worker *w, struct quic_conn *q, uint16_t local_port) {
  const struct sockaddr_storage peer = *quic_conn_peer(q);
  struct visitor *v = admitted(w, &peer, local_port);
  if (!v) {
    quic_conn_close(q, BEAM_ERR_LIMIT);
    return;
  }
  v->secure = true;
  v->stage = FRONT;
  str_copy(v->hello.sni, sizeof v->hello.sni, quic_conn_sni(q));
  v->cert = certs_get_cert(w->relay->certs, v->hello.sni);
  v->handler = (struct http_handler){.request = on_request, .finished = on_finished, .user = v};
  struct front_conf conf = {true, &v->handler, on_front_closed, v, body_rate(v)};
  int err = h3_front_new(q, &conf, &v->front);
  if (err)
    visitor_end(v, err);
  else if (drain_begun(w->relay))
    front_last(v->front);
}
#endif

/* --- TLS --- */

static void on_tls(void *user, int err, struct stream *s, const struct tls_info *info) {
  struct visitor *v = user;
  v->tls = NULL;
  metric_end(v->stage == TLS_AGENT ? METRIC_ENDS_TLS_AGENT : METRIC_ENDS_TLS_VISITOR, err);
  if (err) {
    refuse(v, err, beam_strerror(err));
    return;
  }
  if (v->stage == TLS_AGENT) {
    session_accept(v->w, s, v->addr_port, &v->peer);
    visitor_end(v, 0);
    return;
  }
  v->secure = true;
  v->cert = certs_get_cert(v->w->relay->certs, v->hello.sni);
  start_front(v, s, !strcmp(info->alpn, "h2"));
}

/* A name whose tunnel ends TLS itself: the bytes go there as they are. */
static bool pass_through(struct visitor *v) {
  struct route_view route;
  if (v->hello.alpn & SNIFF_ALPN_BEAM || !route_find(&v->w->routes, v->hello.sni, &route) ||
      route.kind != ROUTE_TLS)
    return false;
  struct stream *s = v->s;
  v->s = NULL;
  raw_forward(v->w, s, v->hello.sni, v->hello.sni, &v->peer, v->local);
  visitor_end(v, 0);
  return true;
}

static void start_tls(void *arg) {
  struct visitor *v = arg;
  struct relay *r = v->w->relay;
  bool agent = v->hello.alpn & SNIFF_ALPN_BEAM;
  struct stream *s = v->s;
  timer_stop(&v->timer);
  v->s = NULL;
  v->stage = agent ? TLS_AGENT : TLS_VISITOR;
  int err = tls_accept(s, agent ? r->tls_agents : r->tls_visitors, on_tls, v, &v->tls);
  if (err)
    visitor_end(v, err);
}

/* --- giving the descriptor to the worker whose session has the name --- */

struct gift {
  struct worker *to;
  int fd;
  struct evbuffer *received;
  struct sockaddr_storage peer;
  uint16_t local_port;
  char local[80];
};

static void gift_free(struct gift *g) {
  if (g->fd >= 0)
    close(g->fd);
  if (g->received)
    evbuffer_free(g->received);
  free(g);
}

static void on_gift(void *arg) {
  struct gift *g = arg;
  struct stream *s;
  int fd = g->fd;
  if (!g->to->closing) {
    g->fd = -1; /* sock_adopt takes it, also when it fails */
    if (!sock_adopt(g->to->loop, fd, g->received, &s))
      visitor_new(g->to, s, &g->peer, g->local, g->local_port, true, true);
  }
  gift_free(g);
}

/* True: it is gone, one way or the other. */
static bool give_away(struct visitor *v) {
  struct worker *w = v->w;
  struct route_view route;
  if (v->given || !settings_now(w->relay)->conf.give_descriptors || v->hello.alpn & SNIFF_ALPN_BEAM ||
      !route_find(&w->routes, v->hello.sni, &route) || route.state != ROUTE_LIVE ||
      route_has_worker(&route, w->index))
    return false;
  struct gift *g = calloc(1, sizeof *g);
  if (!g)
    return false;
  *g = (struct gift){
      &w->relay->workers[route.members[0].worker], -1, evbuffer_new(), v->peer, v->local_port, ""};
  str_copy(g->local, sizeof g->local, v->local);
  if (!g->received || (g->fd = sock_release(v->s, g->received)) < 0) {
    gift_free(g);
    return false;
  }
  v->s = NULL;
  if (loop_post(g->to->loop, on_gift, g))
    gift_free(g); /* the other worker is flooded or going away: the connection is closed */
  else
    atomic_fetch_add(&w->relay->given, 1);
  visitor_end(v, 0);
  return true;
}

/* --- sniffing --- */

static void on_readable(void *user) {
  struct visitor *v = user;
  struct evbuffer *in = stream_input(v->s);
  size_t n = evbuffer_get_length(in);
  if (v->turn.waits)
    return;
  if (n > LIMIT_CLIENT_HELLO + 1024)
    n = LIMIT_CLIENT_HELLO + 1024;
  uint8_t *p = n ? evbuffer_pullup(in, (ev_ssize_t)n) : NULL;
  enum sniff_what what = p ? sniff(p, n, &v->hello) : SNIFF_MORE;
  if (what == SNIFF_MORE) {
    if (v->s->in_ended)
      refuse(v, BEAM_ERR_TRUNCATED, "ended before it said anything whole");
  } else if (v->inner && !(what == SNIFF_TLS && v->hello.alpn & SNIFF_ALPN_BEAM)) {
    refuse(v, BEAM_ERR_PROTOCOL, "a WebSocket link that is none of an agent");
  } else if (what == SNIFF_TLS && v->tls_port) {
    if (!give_away(v) && !pass_through(v))
      hellos_ask(&v->w->hellos, &v->turn, start_tls, v);
  } else if (what == SNIFF_HTTP1) {
    timer_stop(&v->timer);
    struct stream *s = v->s;
    v->s = NULL;
    start_front(v, s, false);
  } else {
    refuse(v, BEAM_ERR_PROTOCOL, what == SNIFF_TLS ? "TLS on a plain port" : "neither TLS nor HTTP");
  }
}

static void on_closed(void *user, int reason) {
  visitor_end(user, reason);
}

static void on_slow(void *arg) {
  struct visitor *v = arg;
  refuse(v, BEAM_ERR_TIMEOUT, v->turn.waits ? "too many handshakes at once" : "no first bytes in time");
}

static const struct stream_events events = {on_readable, NULL, on_closed};

static void take(struct worker *w, struct stream *s, const struct sockaddr_storage *peer, const char *local,
                 uint16_t local_port, bool tls, bool given, bool inner) {
  struct visitor *v = admitted(w, peer, local_port);
  if (!v) {
    stream_close(s, BEAM_ERR_LIMIT);
    return;
  }
  v->s = s;
  v->tls_port = tls;
  v->given = given;
  v->inner = inner;
  str_copy(v->local, sizeof v->local, local);
  timer_init(&v->timer, w->loop, on_slow, v);
  if (timer_start(&v->timer, LIMIT_HANDSHAKE_MS)) {
    visitor_end(v, BEAM_ERR_NOMEM);
    return;
  }
  stream_own(s, &events, v);
}

void visitor_new(struct worker *w, struct stream *s, const struct sockaddr_storage *peer, const char *local,
                 uint16_t local_port, bool tls, bool given) {
  take(w, s, peer, local, local_port, tls, given, false);
}

void visitor_link(struct worker *w, struct stream *s, const struct sockaddr_storage *peer,
                  uint16_t local_port) {
  char local[80];
  sock_local(s, local, sizeof local);
  take(w, s, peer, local, local_port, true, true, true);
}

void visitor_end_all(struct worker *w) {
  while (w->visitors)
    visitor_end(w->visitors, BEAM_ERR_CLOSED);
}

/* --- memory --- */

/* Many who read slowly must not use up the pool, or everybody else would get 503. The longest connected go first. */
void visitors_make_room(struct worker *w) {
  size_t left = budget_left(&budget_pool);
  if (left >= budget_pool.cap / 2)
    return;
  unsigned n = left < budget_pool.cap / 4 ? LIMIT_SHED : 1;
  uint64_t least = left < budget_pool.cap / 8   ? LIMIT_SHED_LEAST_MS
                   : left < budget_pool.cap / 4 ? LIMIT_SHED_MS
                                                : LIMIT_SHED_MORE_MS;
  struct visitor *v;
  DL_FOREACH(w->visitors, v) {
    if (!v->front || v->carries || front_stalled(v->front) < least)
      continue;
    front_shed(v->front);
    if (!--n)
      return;
  }
}

/* --- draining --- */

void visitors_count(struct worker *w, unsigned *busy, unsigned *idle) {
  struct visitor *v;
  DL_FOREACH(w->visitors, v) {
    bool is_idle = v->front && !front_busy(v->front);
    *idle += is_idle;
    *busy += !is_idle && !v->carries;
  }
}

void visitors_last(struct worker *w) {
  struct visitor *v;
  DL_FOREACH(w->visitors, v) {
    if (v->front && !v->carries)
      front_last(v->front);
  }
}

void visitors_drain(struct worker *w) {
  struct visitor *v;
  DL_FOREACH(w->visitors, v) {
    if (v->front && !v->carries)
      front_drain(v->front);
  }
}
