/* relay.h: the relay's own view of itself: one struct relay, N workers, and what the rooms of this folder share.
 *
 *   listen ─► visitor (sniff) ─┬─ beam/1 ─► TLS ─► link ─► greet ─► session ── Bind ─► route on every worker
 *                              └─ visitor ► TLS ─► h1 front ─► dispatch ─► route ─► link stream (or a peer worker's)
 *
 * Everything of a worker lives on its loop's thread. What workers share is immutable after the start, atomic, or locked inside (certs, store, tickets, tokens).
 */
#ifndef RELAY_RELAY_H
#define RELAY_RELAY_H

#include <beam/relay.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/limits.h"
#include "domain/certs.h"
#include "domain/domain.h"
#include "identity/tokens.h"
#include "io/net.h"
#include "link/link.h"
#include "relay/flows.h"
#include "relay/route.h"
#include "relay/hellos.h"
#include "tls/tls.h"

struct relay;
struct session;
struct visitor;
struct waiting;
struct admit;
struct fresh;

struct listen_spec {
  char host[256];
  uint16_t port;
};
enum { LISTEN_MAX = 8, SPARES_MAX = 32 };

struct audit_gate { /* audit.c */
  uint64_t since, spent;
  unsigned left_out;
};

struct worker {
  struct relay *relay;
  unsigned index;
  struct loop *loop;
  pthread_t thread;
  bool running; /* the thread was started */
  bool closing;
  struct listener *tls_listeners[LISTEN_MAX], *plain_listeners[LISTEN_MAX];
  struct listener *spares[SPARES_MAX]; /* of a relay before us that had more workers */
  unsigned spares_n;
  struct accept_ctx {
    struct worker *w;
    bool tls;
    uint16_t port;
  } tls_ctx[LISTEN_MAX], plain_ctx[LISTEN_MAX];
  struct quic_endpoint *quic[LISTEN_MAX]; /* beside the TLS listener of the same index */
  struct route_table routes;
  struct link *peers[LIMIT_WORKERS]; /* in-process links to the other workers; own slot NULL */
  struct session *sessions;          /* uthash by id */
  struct session *greeting;          /* list of those not up yet */
  struct visitor *visitors;          /* list */
  struct proxied *proxied;           /* list */
  struct hellos hellos;              /* TLS handshakes that wait for their turn */
  struct raw *raws;                  /* list of TCP and TLS visitors */
  struct raw_port *raw_ports;        /* list of public ports */
  struct udp_port *udp_ports;        /* the same of UDP tunnels */
  struct waiting *waiting;           /* list of requests that wait for a name's next link */
  struct peer_visit *peer_visits;    /* list of streams from other workers whose StreamOpen is being read */
  struct audit_gate audit;
  struct loop_timer sweep;
  struct store_op *forgetting; /* worker 0 */
  uint64_t forgot_at;          /* worker 0: when that began last */
  struct {                     /* drain.c */
    struct loop_timer tick, grace;
    int did;                     /* the state whose part is done */
    _Atomic int counted;         /* the state that the counts are of */
    _Atomic unsigned busy, idle; /* visitors */
    _Atomic unsigned agents;     /* that have not moved */
  } drain;
};

struct relay {
  struct beam_relay_config conf;       /* what cannot change while it runs; strings are our own copies */
  _Atomic(struct settings *) settings; /* what can: settings_now() */
  struct settings *old_settings;
  struct net *net;
  struct ca *ca;
  struct store *store;
  struct domain *domain;
  struct certs *certs;
  struct fresh *fresh;
  struct admit *admit;
  _Atomic uint64_t refusals[8]; /* by enum admit_refusal */
  struct cert *link_leaf;
  uint8_t quic_key[32];
  struct tls_tickets *tickets;
  uint64_t tickets_saved; /* epoch that is on disk */
  struct tls_context *tls_visitors, *tls_agents;
  bool beyond_loopback;
  struct listen_spec tls_spec[LISTEN_MAX], plain_spec[LISTEN_MAX];
  unsigned tls_n, plain_n;
  struct flow_counts flow_counts;
  unsigned workers_n;
  struct worker *workers;
  uint16_t https_port, http_port; /* what URLs show: of the first listener */
  char https_text[300], http_text[300];
  _Atomic uint64_t generation; /* of route changes: later wins */
  _Atomic uint64_t session_ids;
  _Atomic int64_t sessions_now, tunnels_now, visitors_now;
  _Atomic uint64_t requests, refused;
  struct { /* handover.c; worker 0's, but for the sockets */
    struct listener *listener;
    struct handover *guest; /* our successor */
    struct stream *host;    /* the relay before us */
    struct inherited *sockets;
    pthread_mutex_t lock; /* of the sockets */
    char *text;
    int fd;
    bool taken;
    bool alone; /* the relay before us has ended */
    uint64_t at;
  } handover;
  struct { /* drain.c; all but the state belong to worker 0 until the others are told */
    _Atomic int state;
    bool successor;
    uint32_t after_ms; /* what agents are told */
    uint64_t until, agents_until;
    unsigned busy;
    struct loop_timer timer;
  } drain;
  _Atomic uint64_t given, hops; /* visitors handed to another worker; requests that crossed to one */
};

/* worker.c */
int worker_init(struct worker *w, struct relay *r, unsigned index, struct loop *loop);
int worker_listen(struct worker *w, struct beam_error *err);
void worker_unlisten(struct worker *w);
/* A socket of the relay before us that listens on our i-th TLS or plain address. Takes fd. */
int worker_adopt(struct worker *w, int fd, unsigned i, bool tls, struct listener **out);
void worker_close(struct worker *w); /* on its loop: closes all it has; the loop may then stop */
void worker_fini(struct worker *w);  /* after the loop stopped */

/* Full public host of the relay's URL for a name, "https://shop.tunnel.test:8443". */
void relay_url(const struct relay *r, bool tls, const char *name, char *out, size_t cap);
struct tls_cert *relay_cert(struct relay *r, const char *sni); /* for visitors: a reference */
void relay_event(struct relay *r, const char *kind, const char *name, const char *agent, const char *reason);

#endif
