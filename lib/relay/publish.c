/* publish.c: a route change on every worker, and the word back when all have it.
 *
 *   any worker ──► worker 0: in what order ──► every worker, itself first: apply ──► back to the publisher: done
 *
 * Links of one name are on several workers and come and go at once. What a change does depends on those before it (does it join, or supersede?), so all workers have
 * to see them in one order: posts from worker 0 arrive in the order it made them. Worker 0's copy is also where a name counts as up or down, once for all its links.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "relay/dispatch.h"
#include "relay/raw.h"
#include "relay/relay.h"
#include "relay/session.h"
#include "relay/udp_port.h"

struct publish {
  struct worker *from;
  struct route_change change; /* its references are given to worker 0's copy */
  route_done done;
  uint32_t token;
  bool joined;
  _Atomic unsigned waiting; /* workers that have not applied it yet, and one for worker 0 itself */
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

/* What a change means on this worker: sessions may have lost the name to others, waiting requests may go on. */
static bool apply(struct worker *w, struct route_change *c, struct route_effect *did) {
  if (!route_apply(&w->routes, c, loop_now(w->loop), did))
    return false;
  for (unsigned i = 0; i < did->lost_n; i++)
    if (did->lost[i].worker == w->index)
      session_lost_name(w, did->lost[i].session, c->name, did->lost[i].how);
  if (c->state != ROUTE_AWAY)
    wake(w, c->name);
  return true;
}

/* --- worker 0: a name is up or down --- */

static void is_down(struct worker *w, const char *name, const struct route_record *was, const char *why) {
  struct relay *r = w->relay;
  store_tunnel_status(r->store, w->loop, was->row, STORE_CLOSED, NULL, NULL, NULL);
  log_info("route", "tunnel down name=%s reason=%s", name, why);
  relay_event(r, "tunnel_down", name, was->agent, why);
}

static void is_up(struct worker *w, const struct route_change *c, const struct route_view *v) {
  struct store_tunnel row = {.port = c->record.local_port,
                             .created_at = v->stats ? (int64_t)v->stats->created_at : 0,
                             .status = STORE_ACTIVE};
  str_copy(row.id, sizeof row.id, c->record.row);
  str_copy(row.owner, sizeof row.owner, c->owner);
  str_copy(row.name, sizeof row.name, c->name);
  str_copy(row.framework, sizeof row.framework, c->record.framework);
  store_tunnel_put(w->relay->store, w->loop, &row, NULL, NULL, NULL);
}

/* Applies, and keeps the books of names. */
static void apply_first(struct worker *w, struct publish *p) {
  struct relay *r = w->relay;
  struct route_effect did;
  struct route_view v = {0};
  struct route_record was = {0};
  if (route_find(&w->routes, p->change.name, &v))
    was = *v.record;
  if (!apply(w, &p->change, &did))
    return;
  p->joined = did.joined;
  bool live = route_find(&w->routes, p->change.name, &v) && v.state == ROUTE_LIVE;
  atomic_fetch_add(&r->tunnels_now, (int)live - (int)did.was_live);
  if (did.was_live && (!live || (p->change.state == ROUTE_LIVE && !did.joined)))
    is_down(w, p->change.name, &was, live ? "superseded" : p->change.why);
  if (live && p->change.state == ROUTE_LIVE && !did.joined)
    is_up(w, &p->change, &v);
}

/* --- to all, and back --- */

static void all_done(void *arg) {
  struct publish *p = arg;
  if (p->done && !p->from->closing)
    p->done(p->from, p->change.session, p->token, p->joined);
  free(p);
}

static void one_done(struct publish *p) {
  if (atomic_fetch_sub(&p->waiting, 1) != 1)
    return;
  if (loop_post(p->from->loop, all_done, p))
    free(p); /* the publisher's loop is going away: nobody waits */
}

static void drop_refs(struct route_change *c) {
  route_stats_unref(c->stats);
  route_load_unref(c->load);
  c->stats = NULL;
  c->load = NULL;
}

static void on_worker(void *arg) {
  struct copy *c = arg;
  struct route_effect did;
  if (c->to->closing)
    drop_refs(&c->change);
  else
    apply(c->to, &c->change, &did);
  one_done(c->p);
  free(c);
}

static void send_copy(struct publish *p, struct worker *to) {
  struct copy *c = malloc(sizeof *c);
  if (c) {
    *c = (struct copy){p, to, p->change};
    route_stats_ref(c->change.stats);
    route_load_ref(c->change.load);
    atomic_fetch_add(&p->waiting, 1);
    if (!loop_post(to->loop, on_worker, c))
      return;
    drop_refs(&c->change);
    atomic_fetch_sub(&p->waiting, 1);
    free(c);
  }
  log_limited(BEAM_LOG_ERROR, "route", "worker %u did not take the change of name=%s", to->index,
              p->change.name);
}

static void in_order(void *arg) {
  struct publish *p = arg;
  struct relay *r = p->from->relay;
  struct worker *first = &r->workers[0];
  if (first->closing) {
    drop_refs(&p->change);
    one_done(p);
    return;
  }
  p->change.generation = atomic_fetch_add(&r->generation, 1) + 1;
  for (unsigned i = 1; i < r->workers_n; i++)
    send_copy(p, &r->workers[i]);
  apply_first(first, p);
  one_done(p);
}

/* Its loop ends before it came to this: nobody keeps routes any more. */
static void dropped(void *arg) {
  struct publish *p = arg;
  drop_refs(&p->change);
  free(p);
}

void route_publish(struct worker *w, struct route_change *c, route_done done, uint32_t token) {
  struct publish *p = calloc(1, sizeof *p);
  if (p) {
    *p = (struct publish){.from = w, .change = *c, .done = done, .token = token};
    atomic_store(&p->waiting, 1);
    if (w->index == 0) {
      in_order(p);
      return;
    }
    if (!loop_post_or(w->relay->workers[0].loop, in_order, dropped, p))
      return;
    free(p);
  }
  drop_refs(c);
  log_limited(BEAM_LOG_ERROR, "route", "out of memory, or worker 0 is flooded: not told of name=%s", c->name);
}
