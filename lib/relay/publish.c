/* publish.c: a route change on every worker, and the word back when all have it. */
#include <stdlib.h>

#include "base/log.h"
#include "relay/dispatch.h"
#include "relay/raw.h"
#include "relay/relay.h"
#include "relay/session.h"
#include "relay/udp_port.h"

struct publish {
  struct worker *from;
  struct route_change change; /* without stats: each copy carries its own reference */
  void (*done)(struct worker *w, uint64_t session, uint32_t token);
  uint32_t token;
  _Atomic unsigned waiting; /* workers that have not applied it yet, and one for the publisher itself */
};

struct copy {
  struct publish *p;
  struct worker *to;
  struct route_change change;
};

static void wake(struct worker *w, const char *name) {
  dispatch_wake(w, name);
  raw_wake(w, name);
  udp_ports_wake(w, name);
}

/* What a change means on this worker: a session may have lost the name to a newer one, waiting requests may go on. */
static void apply(struct worker *w, struct route_change *c) {
  struct route_view before = {0};
  bool was = false;
  if (!route_apply(&w->routes, c, loop_now(w->loop), &was, &before))
    return;
  if (c->state != ROUTE_LIVE) {
    if (c->state == ROUTE_GONE)
      wake(w, c->name);
    return;
  }
  if (was && before.state == ROUTE_LIVE && before.worker == w->index && before.session != c->session)
    session_superseded(w, before.session, c->name);
  wake(w, c->name);
}

static void all_done(void *arg) {
  struct publish *p = arg;
  if (p->done && !p->from->closing)
    p->done(p->from, p->change.session, p->token);
  free(p);
}

static void one_done(struct publish *p) {
  if (atomic_fetch_sub(&p->waiting, 1) != 1)
    return;
  if (loop_post(p->from->loop, all_done, p))
    free(p); /* the publisher's loop is going away: nobody waits */
}

static void on_worker(void *arg) {
  struct copy *c = arg;
  if (c->to->closing)
    route_stats_unref(c->change.stats);
  else
    apply(c->to, &c->change);
  one_done(c->p);
  free(c);
}

static void send_copy(struct publish *p, struct worker *to, struct route_stats *stats) {
  struct copy *c = malloc(sizeof *c);
  if (c) {
    *c = (struct copy){p, to, p->change};
    c->change.stats = route_stats_ref(stats);
    atomic_fetch_add(&p->waiting, 1);
    if (!loop_post(to->loop, on_worker, c))
      return;
    route_stats_unref(c->change.stats);
    atomic_fetch_sub(&p->waiting, 1);
    free(c);
  }
  log_limited(BEAM_LOG_ERROR, "route", "worker %u did not take the change of name=%s", to->index,
              p->change.name);
}

void route_publish(struct worker *w, struct route_change *c,
                   void (*done)(struct worker *w, uint64_t session, uint32_t token), uint32_t token) {
  struct relay *r = w->relay;
  struct route_stats *stats = c->stats;
  c->generation = atomic_fetch_add(&r->generation, 1) + 1;
  struct publish *p = calloc(1, sizeof *p);
  if (p) {
    p->from = w;
    p->change = *c;
    p->change.stats = NULL;
    p->done = done;
    p->token = token;
    atomic_store(&p->waiting, 1);
    for (unsigned i = 0; i < r->workers_n; i++)
      if (i != w->index)
        send_copy(p, &r->workers[i], stats);
  }
  apply(w, c);
  if (p)
    one_done(p);
  else
    log_limited(BEAM_LOG_ERROR, "route", "out of memory publishing name=%s", c->name);
}
