#include "relay/udp_port.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/random.h"
#include "base/str.h"
#include "relay/admit.h"
#include "relay/dispatch.h"
#include "relay/raw.h"
#include "relay/settings.h"
#include "wire/control.h"

struct spot {
  struct udp_port *port;
  struct udp *u; /* NULL: none */
};

struct udp_port {
  struct worker *w;
  struct udp_port *prev, *next;
  struct udp_port **owner; /* set to NULL when the port is closed before its owner lets go */
  struct loop_timer timer; /* while it lingers */
  struct flows *flows;
  struct spot at[LISTEN_MAX];
  char name[ROUTE_NAME];
};

/* --- a flow's stream --- */

static bool same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
  if (a->ss_family != b->ss_family)
    return false;
  return a->ss_family == AF_INET ? ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
                                       ((const struct sockaddr_in *)b)->sin_addr.s_addr
                                 : !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                                           &((const struct sockaddr_in6 *)b)->sin6_addr, 16);
}

static bool is_ours(const struct relay *r, uint16_t port) {
  for (unsigned i = 0; i < r->tls_n; i++)
    if (r->tls_spec[i].port == port)
      return true;
  return false;
}

/* A visitor that is a port of this relay is a forged address: two services would answer each other for ever. */
static bool is_loop(struct worker *w, const struct sockaddr_storage *peer,
                    const struct sockaddr_storage *local) {
  char name[ROUTE_NAME];
  struct route_view route;
  if (!same_host(peer, local))
    return false;
  str_fmt(name, sizeof name, "%u.udp.%s", addr_port(peer), w->relay->conf.domain);
  return is_ours(w->relay, addr_port(peer)) ||
         (route_find(&w->routes, name, &route) && route.state == ROUTE_LIVE);
}

static int open_flow(void *user, const struct sockaddr_storage *peer, const struct sockaddr_storage *local,
                     bool *beside, struct stream **out) {
  struct udp_port *p = user;
  struct route_view route;
  beam_StreamOpen o = beam_StreamOpen_init_zero;
  if (!route_find(&p->w->routes, p->name, &route) || route.state == ROUTE_GONE || route.kind != ROUTE_UDP)
    return BEAM_ERR_NOT_FOUND;
  if (is_loop(p->w, peer, local))
    return BEAM_ERR_DENIED;
  o.kind = beam_StreamKind_STREAM_UDP;
  str_copy(o.name, sizeof o.name, p->name);
  addr_text(peer, true, o.visitor, sizeof o.visitor);
  addr_text(local, true, o.local, sizeof o.local);
  o.trace_id.size = 16;
  random_id(o.trace_id.bytes);
  int err = dispatch_stream(p->w, &route, &o, out);
  *beside = !err && (*out)->datagrams; /* between workers streams have none */
  return err == BEAM_ERR_LIMIT || err == BEAM_ERR_NOMEM ? BEAM_AGAIN : err; /* the link is full for now */
}

static bool enter(void *user, const struct sockaddr_storage *peer) {
  struct worker *w = ((struct udp_port *)user)->w;
  return admit_enter(w->relay->admit, peer, settings_now(w->relay)->conf.visitor_connections);
}

static void leave(void *user, const struct sockaddr_storage *peer) {
  admit_leave(((struct udp_port *)user)->w->relay->admit, peer);
}

static void ended(void *user, uint64_t in, uint64_t out, int reason) {
  struct udp_port *p = user;
  struct route_view route;
  if (!route_find(&p->w->routes, p->name, &route) || !route.stats)
    return;
  atomic_fetch_add(&route.stats->requests, 1);
  atomic_fetch_add(&route.stats->bytes_in, in);
  atomic_fetch_add(&route.stats->bytes_out, out);
  if (reason && reason != BEAM_ERR_CLOSED)
    atomic_fetch_add(&route.stats->errors, 1);
}

/* --- sockets --- */

static void on_packet(void *user, const struct udp_packet *p) {
  struct spot *s = user;
  flows_packet(s->port->flows, s->u, p);
}
static void on_writable(void *user) {
  (void)user; /* what did not fit is lost */
}
static const struct udp_events events = {.packet = on_packet, .writable = on_writable};

static int open_sockets(struct udp_port *p, uint16_t port) {
  struct relay *r = p->w->relay;
  /* Shared within the process: an agent's next session, often on another worker, has the port before the last one lets go. */
  for (unsigned i = 0; i < r->tls_n; i++) {
    struct udp_conf c = {.host = r->tls_spec[i].host, .port = port, .reuse_port = true, .fragment = true};
    if (!strncmp(c.host, "unix:", 5))
      continue;
    p->at[i].port = p;
    int err = udp_open(p->w->loop, &c, &events, &p->at[i], &p->at[i].u);
    if (err)
      return err;
  }
  return 0;
}

static void on_lingered(void *arg) {
  udp_port_close(arg);
}

int udp_port_open(struct worker *w, uint16_t port, const char *name, struct udp_port **out) {
  if (is_ours(w->relay, port)) /* QUIC of agents is there, and would share it */
    return BEAM_ERR_IN_USE;
  struct udp_port *p = calloc(1, sizeof *p);
  if (!p)
    return BEAM_ERR_NOMEM;
  p->w = w;
  timer_init(&p->timer, w->loop, on_lingered, p);
  str_copy(p->name, sizeof p->name, name);
  DL_APPEND(w->udp_ports, p);
  struct flows_conf c = {.loop = w->loop,
                         .idle_ms = settings_now(w->relay)->conf.udp_idle_ms,
                         .open = open_flow,
                         .enter = enter,
                         .leave = leave,
                         .ended = ended,
                         .counts = &w->relay->flow_counts,
                         .user = p};
  int err = flows_new(&c, &p->flows);
  if (!err)
    err = open_sockets(p, port);
  if (err) {
    udp_port_close(p);
    return err;
  }
  p->owner = out;
  *out = p;
  return 0;
}

void udp_port_linger(struct udp_port *p) {
  if (!p)
    return;
  p->owner = NULL;
  if (p->w->closing || timer_start(&p->timer, RAW_LINGER_MS))
    udp_port_close(p);
}

void udp_ports_wake(struct worker *w, const char *name) {
  struct udp_port *p;
  DL_FOREACH(w->udp_ports, p) {
    if (!strcmp(p->name, name))
      flows_wake(p->flows);
  }
}

void udp_port_close(struct udp_port *p) {
  if (!p)
    return;
  DL_DELETE(p->w->udp_ports, p);
  timer_stop(&p->timer);
  if (p->owner)
    *p->owner = NULL;
  flows_free(p->flows);
  for (unsigned i = 0; i < LISTEN_MAX; i++)
    udp_close(p->at[i].u);
  free(p);
}

void udp_ports_close(struct worker *w) {
  while (w->udp_ports)
    udp_port_close(w->udp_ports);
}
