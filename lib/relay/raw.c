#include "relay/raw.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "io/pipe.h"
#include "io/pass.h"
#include "relay/admit.h"
#include "relay/settings.h"
#include "relay/dispatch.h"
#include "relay/handover.h"
#include "relay/proxied.h"
#include "wire/control.h"

struct raw {
  struct worker *w;
  struct raw *prev, *next;
  struct stream *s; /* while it waits */
  struct loop_timer timer;
  struct pipe *pipe;
  struct route_stats *stats;
  struct sockaddr_storage peer;
  beam_StreamOpen open;
};

static void raw_free(struct raw *v) {
  struct worker *w = v->w;
  DL_DELETE(w->raws, v);
  timer_stop(&v->timer);
  if (v->stats)
    atomic_fetch_sub(&v->stats->now, 1);
  route_stats_unref(v->stats);
  admit_leave(w->relay->admit, &v->peer);
  atomic_fetch_sub(&w->relay->visitors_now, 1);
  free(v);
}

static void raw_end(struct raw *v, int reason) {
  if (v->pipe)
    pipe_abort(v->pipe, reason);
  stream_close(v->s, reason);
  raw_free(v);
}

static void on_done(void *user, const struct pipe_result *r) {
  struct raw *v = user;
  if (v->stats) {
    atomic_fetch_add(&v->stats->requests, 1);
    atomic_fetch_add(&v->stats->bytes_in, r->a_to_b);
    atomic_fetch_add(&v->stats->bytes_out, r->b_to_a);
    if (r->reason)
      atomic_fetch_add(&v->stats->errors, 1);
  }
  v->pipe = NULL;
  raw_free(v);
}

/* False: no link just now. */
static bool join(struct raw *v) {
  struct route_view route;
  struct stream *to;
  bool private = v->open.kind == beam_StreamKind_STREAM_PEER;
  if (!route_find(&v->w->routes, v->open.name, &route) || route.state == ROUTE_GONE ||
      private != (route.kind == ROUTE_PRIVATE)) {
    raw_end(v, BEAM_ERR_NOT_FOUND);
    return true;
  }
  if (route.stats && atomic_load(&route.stats->now) >= settings_now(v->w->relay)->conf.tunnel_connections) {
    admit_refused(v->w->relay, ADMIT_TUNNEL_CONNECTIONS);
    raw_end(v, BEAM_ERR_LIMIT);
    return true;
  }
  int err = dispatch_stream(v->w, &route, &v->open, &to);
  if (err == BEAM_AGAIN)
    return false;
  if (err) {
    raw_end(v, err);
    return true;
  }
  v->stats = route_stats_ref(route.stats);
  if (v->stats)
    atomic_fetch_add(&v->stats->now, 1);
  timer_stop(&v->timer);
  struct stream *from = v->s;
  v->s = NULL;
  if (pipe_start(from, to, on_done, v, &v->pipe))
    raw_free(v);
  return true;
}

static void on_readable(void *user) {
  (void)user; /* waits in the stream until there is a link */
}
static void on_closed(void *user, int reason) {
  raw_end(user, reason);
}
static void on_late(void *arg) {
  raw_end(arg, BEAM_ERR_TIMEOUT);
}
static const struct stream_events events = {on_readable, NULL, on_closed};

static void take(struct worker *w, struct stream *s, beam_StreamKind kind, const char *name, const char *sni,
                 const struct sockaddr_storage *peer, const char *local) {
  bool full = atomic_load(&w->relay->visitors_now) >= (int64_t)LIMIT_VISITORS;
  unsigned most = settings_now(w->relay)->conf.visitor_connections;
  bool in = !full && admit_enter(w->relay->admit, peer, most);
  struct raw *v = in ? calloc(1, sizeof *v) : NULL;
  if (!v) {
    if (in)
      admit_leave(w->relay->admit, peer);
    atomic_fetch_add(&w->relay->refused, 1);
    admit_refused(w->relay, full || in ? ADMIT_RELAY : ADMIT_ADDRESS);
    stream_close(s, BEAM_ERR_LIMIT);
    return;
  }
  v->w = w;
  v->s = s;
  v->peer = *peer;
  v->open = (beam_StreamOpen)beam_StreamOpen_init_zero;
  v->open.kind = kind;
  v->open.tls = *sni != 0;
  str_copy(v->open.name, sizeof v->open.name, name);
  str_copy(v->open.sni, sizeof v->open.sni, sni);
  str_copy(v->open.local, sizeof v->open.local, local);
  addr_text(peer, true, v->open.visitor, sizeof v->open.visitor);
  v->open.trace_id.size = 16;
  random_id(v->open.trace_id.bytes);
  atomic_fetch_add(&w->relay->visitors_now, 1);
  DL_APPEND(w->raws, v);
  timer_init(&v->timer, w->loop, on_late, v);
  stream_own(s, &events, v);
  if (timer_start(&v->timer, handover_wait_ms(w)))
    raw_end(v, BEAM_ERR_NOMEM);
  else
    join(v);
}

void raw_forward(struct worker *w, struct stream *s, const char *name, const char *sni,
                 const struct sockaddr_storage *peer, const char *local) {
  take(w, s, *sni ? beam_StreamKind_STREAM_TLS : beam_StreamKind_STREAM_TCP, name, sni, peer, local);
}

void raw_private(struct worker *w, struct stream *s, const char *name, const struct sockaddr_storage *peer) {
  take(w, s, beam_StreamKind_STREAM_PEER, name, "", peer, "");
}

unsigned raw_count(struct worker *w) {
  struct raw *v;
  unsigned n;
  DL_COUNT(w->raws, v, n);
  return n;
}

void raw_wake(struct worker *w, const char *name) {
  struct raw *v, *next;
  DL_FOREACH_SAFE(w->raws, v, next) {
    if (v->s && !strcmp(v->open.name, name))
      join(v);
  }
}

void raw_close(struct worker *w) {
  raw_ports_close(w);
  while (w->raws)
    raw_end(w->raws, BEAM_ERR_CLOSED);
}

/* --- public ports --- */

struct raw_port {
  struct worker *w;
  struct raw_port *prev, *next;
  struct raw_port **owner; /* set to NULL when the port is closed before its owner lets go */
  struct loop_timer timer; /* while it lingers */
  struct listener *listener[LISTEN_MAX];
  char name[ROUTE_NAME];
};

static void on_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  struct raw_port *p = user;
  proxied_accept(p->w, s, peer, p->name, 0, false);
}

static void on_lingered(void *arg) {
  raw_port_close(arg);
}

/* On every address the relay has TLS listeners on. Shared within the process: an agent's next session, often on another worker, has the port
 * before the last one lets go. */
int raw_port_open(struct worker *w, uint16_t port, const char *name, struct raw_port **out) {
  struct relay *r = w->relay;
  struct raw_port *p = calloc(1, sizeof *p);
  if (!p)
    return BEAM_ERR_NOMEM;
  p->w = w;
  timer_init(&p->timer, w->loop, on_lingered, p);
  DL_APPEND(w->raw_ports, p);
  str_copy(p->name, sizeof p->name, name);
  for (unsigned i = 0; i < r->tls_n; i++) {
    const char *host = r->tls_spec[i].host;
    int fd = handover_socket(r, 'r', host, port);
    int err = fd >= 0 ? listener_adopt(w->loop, fd, r, on_accept, p, &p->listener[i])
                      : net_listen(r->net, w->loop, host, port, r, on_accept, p, &p->listener[i]);
    if (err) {
      raw_port_close(p);
      return err;
    }
  }
  p->owner = out;
  *out = p;
  return 0;
}

void raw_ports_each(struct worker *w, void (*cb)(void *user, const char *host, struct listener *ls),
                    void *user) {
  struct raw_port *p;
  DL_FOREACH(w->raw_ports, p) {
    for (unsigned i = 0; i < LISTEN_MAX; i++)
      cb(user, w->relay->tls_spec[i].host, p->listener[i]);
  }
}

void raw_ports_close(struct worker *w) {
  while (w->raw_ports)
    raw_port_close(w->raw_ports);
}

void raw_port_linger(struct raw_port *p) {
  if (!p)
    return;
  p->owner = NULL;
  if (p->w->closing || timer_start(&p->timer, RAW_LINGER_MS))
    raw_port_close(p);
}

void raw_port_close(struct raw_port *p) {
  if (!p)
    return;
  DL_DELETE(p->w->raw_ports, p);
  timer_stop(&p->timer);
  if (p->owner)
    *p->owner = NULL;
  for (unsigned i = 0; i < LISTEN_MAX; i++)
    if (p->listener[i])
      net_listener_close(p->w->relay->net, p->listener[i]);
  free(p);
}
