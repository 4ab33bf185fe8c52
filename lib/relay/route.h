/* route.h: name -> links, the relay's one lookup. Each worker has a copy of the whole table, and all of them see the same changes in the same order.
 *
 *            publish LIVE                    link lost: publish AWAY                   swept after an hour
 *   (none) ──────────────► LIVE(1..8 links) ──────last one─────► AWAY ───────────────────► (none)
 *                              ▲          └── UNBIND: publish GONE ──► GONE ── swept ───────┘
 *                              └──────────── publish LIVE ────────────┘
 */
#ifndef RELAY_ROUTE_H
#define RELAY_ROUTE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

enum route_state {
  ROUTE_LIVE,
  ROUTE_AWAY, /* the link is lost: requests wait a little for the next one */
  ROUTE_GONE, /* unbound: refused at once */
};

/* What visitors of the name speak; the numbers of TunnelKind in beam.proto. */
enum route_kind { ROUTE_HTTP = 0, ROUTE_TCP = 1, ROUTE_TLS = 2, ROUTE_UDP = 3, ROUTE_PRIVATE = 4 };

enum { ROUTE_NAME = 256, ROUTE_OWNER = 32, ROUTE_GROUP = 16 };

/* Counters of one name, shared by every worker's copy of the route. */
struct route_stats {
  _Atomic unsigned refs;
  _Atomic uint64_t requests, bytes_in, bytes_out, errors;
  _Atomic unsigned now; /* requests, or connections of a TCP or TLS tunnel, under way */
  uint64_t created_at;  /* seconds since 1970 */
};
struct route_stats *route_stats_new(void);
struct route_stats *route_stats_ref(struct route_stats *s);
void route_stats_unref(struct route_stats *s);

/* How busy one link is, kept by the worker that has it, read by all. */
struct route_load {
  _Atomic unsigned refs;
  _Atomic uint64_t bytes; /* waiting to leave, and moved lately */
  _Atomic unsigned streams;
  _Atomic bool draining; /* opens nothing new */
};
struct route_load *route_load_new(void);
struct route_load *route_load_ref(struct route_load *l);
void route_load_unref(struct route_load *l);

/* A link that serves the name. */
struct route_member {
  unsigned worker, lane;
  uint64_t session;
  struct route_load *load;
};

struct route;
struct route_table {
  struct route *by_name; /* uthash */
};

/* What is kept about a tunnel as long as it is LIVE. */
struct route_record {
  char row[40]; /* the store's id */
  char agent[96], framework[64];
  uint16_t local_port;
};

struct route_change {
  char name[ROUTE_NAME];
  enum route_state state;
  enum route_kind kind;
  unsigned worker;
  uint64_t session, generation;
  struct route_stats *stats; /* LIVE: a reference that apply consumes */
  char owner[ROUTE_OWNER];   /* LIVE: the principal that has the name */
  bool grouped;              /* LIVE: others of the same group and owner may share it */
  uint8_t group[ROUTE_GROUP];
  unsigned lane;
  struct route_load *load; /* LIVE: a reference that apply consumes; NULL: never busy */
  struct route_record record;
  char why[96]; /* AWAY, GONE: for people */
};

struct route_view {
  enum route_state state;
  enum route_kind kind;
  unsigned worker; /* of the last change */
  uint64_t session;
  uint64_t since_ms;                  /* loop time since when it is in this state, LIVE by this group */
  struct route_stats *stats;          /* borrowed */
  const char *owner;                  /* borrowed */
  const struct route_record *record;  /* borrowed */
  unsigned members_n;                 /* LIVE: at least one */
  const struct route_member *members; /* borrowed */
};

bool route_find(struct route_table *t, const char *name, struct route_view *out);

/* What a change did. */
struct route_effect {
  bool was, was_live; /* before it */
  bool joined;        /* LIVE: beside others, or in the place of one of them */
  unsigned lost_n;    /* links that have the name no more, without their own asking */
  struct {
    unsigned worker;
    uint64_t session;
    enum { ROUTE_SUPERSEDED, ROUTE_REPLACED, ROUTE_ENDED } how;
  } lost[LIMIT_LINKS_PER_NAME];
};
/* Apply; AWAY and GONE only when they speak of a session that the route has. AWAY takes that link away, and the last one makes the route AWAY; GONE takes all.
 * Every worker gets the same changes in the same order (publish.c). Returns true when something changed; `did` may be NULL. */
bool route_apply(struct route_table *t, struct route_change *c, uint64_t now_ms, struct route_effect *did);

/* The link for the next stream: the least busy, then the one with the fewest streams, then one of worker `here`, then in turn. `only_here`: of that worker alone.
 * `tried` has a bit for each member that was tried. -1: none is left, else its index. */
int route_choose(struct route_table *t, const char *name, unsigned here, bool only_here, unsigned tried);
bool route_has_worker(const struct route_view *v, unsigned worker);

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
/* Apply on every worker, worker 0 being the one that puts changes in order; done(user_worker, session, token, joined) comes on this worker's loop once all have.
 * The token is the caller's way to find what it was about; nothing is kept by pointer. done may be NULL. Takes c->stats's and c->load's references. */
typedef void (*route_done)(struct worker *w, uint64_t session, uint32_t token, bool joined);
void route_publish(struct worker *w, struct route_change *c, route_done done, uint32_t token);

#endif
