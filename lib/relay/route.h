/* route.h: name -> session, the relay's one lookup. Each worker has a copy of the whole table; changes are ordered by a generation, the later one wins.
 *
 *            publish LIVE                    link lost: publish AWAY                   swept after an hour
 *   (none) ──────────────► LIVE(worker, session) ──────────────► AWAY ───────────────────► (none)
 *                              ▲          └── UNBIND: publish GONE ──► GONE ── swept ───────┘
 *                              └──────────── publish LIVE ────────────┘
 */
#ifndef RELAY_ROUTE_H
#define RELAY_ROUTE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum route_state {
  ROUTE_LIVE,
  ROUTE_AWAY, /* the link is lost: requests wait a little for the next one */
  ROUTE_GONE, /* unbound: refused at once */
};

/* What visitors of the name speak; the numbers of TunnelKind in beam.proto. */
enum route_kind { ROUTE_HTTP = 0, ROUTE_TCP = 1, ROUTE_TLS = 2, ROUTE_UDP = 3, ROUTE_PRIVATE = 4 };

enum { ROUTE_NAME = 256, ROUTE_OWNER = 32 };

/* Counters of one name, shared by every worker's copy of the route. */
struct route_stats {
  _Atomic unsigned refs;
  _Atomic uint64_t requests, bytes_in, bytes_out, errors;
  uint64_t created_at; /* seconds since 1970 */
};
struct route_stats *route_stats_new(void);
struct route_stats *route_stats_ref(struct route_stats *s);
void route_stats_unref(struct route_stats *s);

struct route;
struct route_table {
  struct route *by_name; /* uthash */
};

struct route_change {
  char name[ROUTE_NAME];
  enum route_state state;
  enum route_kind kind;
  unsigned worker;
  uint64_t session, generation;
  struct route_stats *stats; /* LIVE: a reference that apply consumes */
  char owner[ROUTE_OWNER];   /* LIVE: the principal that has the name */
};

struct route_view {
  enum route_state state;
  enum route_kind kind;
  unsigned worker;
  uint64_t session;
  uint64_t since_ms;         /* loop time of the last change */
  struct route_stats *stats; /* borrowed */
  const char *owner;         /* borrowed */
};

bool route_find(struct route_table *t, const char *name, struct route_view *out);
/* Apply if newer; AWAY and GONE only when they speak of the session the route has. Fills `before` (may be NULL) with what was there; its stats is NULL. Returns true when something changed. */
bool route_apply(struct route_table *t, struct route_change *c, uint64_t now_ms, bool *was,
                 struct route_view *before);
/* Forget AWAY and GONE routes older than max_age_ms; if there are more than `most` of them, sooner: of twice as many those older than half of it. Each is
 * told with the worker that had it last. */
typedef void (*route_forgotten)(void *user, const char *name, unsigned worker);
void route_sweep(struct route_table *t, uint64_t now_ms, uint64_t max_age_ms, unsigned most,
                 route_forgotten cb, void *user);
/* Each route there is; cb changes nothing. */
void route_each(struct route_table *t, void (*cb)(void *user, const char *name, const struct route_view *v),
                void *user);
void route_clear(struct route_table *t);

struct worker;
/* Apply on this worker now and on every other by post; done(user_worker, token) comes on this worker's loop once all have. The token is the caller's way to find
 * what it was about; nothing is kept by pointer. done may be NULL. Takes c->stats's reference. */
void route_publish(struct worker *w, struct route_change *c,
                   void (*done)(struct worker *w, uint64_t session, uint32_t token), uint32_t token);

#endif
