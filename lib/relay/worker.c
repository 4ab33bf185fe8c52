/* worker.c: one loop of a relay: its listeners, and what is torn down when it ends. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "io/pass.h"
#include "relay/dispatch.h"
#include "relay/drain.h"
#include "relay/forget.h"
#include "relay/handover.h"
#include "relay/listen_quic.h"
#include "relay/peers.h"
#include "relay/raw.h"
#include "relay/relay.h"
#include "relay/session.h"
#include "relay/tickets.h"
#include "relay/udp_port.h"
#include "relay/proxied.h"
#include "relay/visitor.h"

enum {
  SWEEP_MS = 60000,
  ROUTE_AWAY_MS = 3600000, /* a laptop that sleeps for an hour finds its visitors told "not running" */
};

/* The worker that last had the name holds its certificate's count. */
static void on_forgotten(void *user, const char *name, unsigned worker) {
  struct worker *w = user;
  if (worker == w->index)
    certs_drop(w->relay->certs, name);
}

static void on_sweep(void *arg) {
  struct worker *w = arg;
  route_sweep(&w->routes, loop_now(w->loop), ROUTE_AWAY_MS, LIMIT_ROUTES_IDLE, on_forgotten, w);
  if (w->index == 0) {
    tickets_save(w->relay);
    forget_sweep(w);
    handover_sweep(w->relay);
  }
  timer_start(&w->sweep, SWEEP_MS);
}

int worker_init(struct worker *w, struct relay *r, unsigned index, struct loop *loop) {
  w->relay = r;
  w->index = index;
  w->loop = loop;
  timer_init(&w->sweep, loop, on_sweep, w);
  hellos_init(&w->hellos, loop);
  return timer_start(&w->sweep, SWEEP_MS);
}

static void on_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  struct accept_ctx *a = user;
  proxied_accept(a->w, s, peer, NULL, a->port, a->tls);
}

int worker_adopt(struct worker *w, int fd, unsigned i, bool tls, struct listener **out) {
  return listener_adopt(w->loop, fd, w->relay, on_accept, tls ? &w->tls_ctx[i] : &w->plain_ctx[i], out);
}

enum { PORT_TRIES = 20 };

/* The first worker finds the port (the next free one if that is allowed); the others join it by SO_REUSEPORT. */
static int listen_one(struct worker *w, struct listen_spec *spec, struct accept_ctx *ctx,
                      struct listener **out, struct beam_error *err) {
  struct relay *r = w->relay;
  int tries = w->index == 0 && r->conf.port_fallback && spec->port ? PORT_TRIES : 1;
  int e = 0, fd = handover_socket(r, ctx->tls ? 't' : 'p', spec->host, spec->port);
  if (fd >= 0) {
    tries = 0;
    e = listener_adopt(w->loop, fd, r, on_accept, ctx, out);
  }
  for (int i = 0; i < tries; i++) {
    uint16_t port = (uint16_t)(spec->port + i);
    e = net_listen(r->net, w->loop, spec->host, port, r->workers_n > 1 ? r : NULL, on_accept, ctx, out);
    if (e != BEAM_ERR_IN_USE)
      break;
  }
  if (e)
    return err_set(err, e,
                   e == BEAM_ERR_IN_USE
                       ? "stop the program that has it, or choose another port (0 picks a free one)"
                       : NULL,
                   "cannot listen on %s port %u: %s", spec->host, spec->port, beam_strerror(e));
  spec->port = net_listener_port(r->net, *out);
  ctx->port = spec->port;
  return 0;
}

int worker_listen(struct worker *w, struct beam_error *err) {
  struct relay *r = w->relay;
  for (unsigned i = 0; i < r->tls_n; i++) {
    w->tls_ctx[i] = (struct accept_ctx){w, true, 0};
    int e = listen_one(w, &r->tls_spec[i], &w->tls_ctx[i], &w->tls_listeners[i], err);
    if (e)
      return e;
  }
  for (unsigned i = 0; i < r->plain_n; i++) {
    w->plain_ctx[i] = (struct accept_ctx){w, false, 0};
    int e = listen_one(w, &r->plain_spec[i], &w->plain_ctx[i], &w->plain_listeners[i], err);
    if (e)
      return e;
  }
#ifndef BEAM_NO_QUIC
  return quic_listen(w, err);
#else
  return 0;
#endif
}

void worker_unlisten(struct worker *w) {
  struct relay *r = w->relay;
  for (unsigned i = 0; i < LISTEN_MAX; i++) {
    if (w->tls_listeners[i])
      net_listener_close(r->net, w->tls_listeners[i]);
    if (w->plain_listeners[i])
      net_listener_close(r->net, w->plain_listeners[i]);
    w->tls_listeners[i] = w->plain_listeners[i] = NULL;
  }
  while (w->spares_n)
    net_listener_close(r->net, w->spares[--w->spares_n]);
}

void worker_close(struct worker *w) {
  w->closing = true;
  worker_unlisten(w);
  drain_worker_close(w);
  if (w->index == 0)
    handover_close(w->relay);
  timer_stop(&w->sweep);
  proxied_close_all(w);
  visitor_end_all(w);
  hellos_close(&w->hellos);
  raw_close(w);
  udp_ports_close(w);
  dispatch_close(w);
  session_end_all(w, BEAM_ERR_DRAINING);
#ifndef BEAM_NO_QUIC
  quic_unlisten(w);
#endif
  peers_close(w);
}

void worker_fini(struct worker *w) {
  route_clear(&w->routes);
  loop_free(w->loop);
}
