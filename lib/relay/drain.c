#include "relay/drain.h"

#include <stdlib.h>

#include "base/log.h"
#include "obs/metrics.h"
#include "relay/raw.h"
#include "relay/session.h"
#include "relay/settings.h"
#include "relay/visitor.h"

enum {
  TICK_MS = 20,
  SHUT_MS = 2000, /* of the time that is given: for what came in last */
  GRACE_MS =
      2000, /* a keep-alive visitor's next request in this time is still answered, and told that it was the last */
  MOVE_MS = 5000,     /* what an agent takes to its next link and back to tell, on a bad network */
  FLUSH_MS = 5000,    /* a socket that lingers takes two seconds */
  AGENTS_PER_S = 100, /* handshakes a successor's core can take: more agents are told to come later */
  AFTER_MS_MAX = 10000
};

/* A successor has our address: nobody needs to go elsewhere. */
static bool sends_on(const struct relay *r) {
  return settings_now(r)->conf.drain_to && !r->drain.successor;
}

/* --- each worker's part --- */

static void shut(struct worker *w, bool at_once) {
  worker_unlisten(w);
  raw_ports_close(w);
  if (at_once)
    visitors_drain(w);
  else
    timer_start(&w->drain.grace, GRACE_MS);
}

static void on_grace(void *arg) {
  visitors_drain(arg);
}

/* Counting comes after doing: a count that says SHUT was made without listeners. */
static void on_tick(void *arg) {
  struct worker *w = arg;
  struct relay *r = w->relay;
  int state = atomic_load(&r->drain.state);
  if (state != w->drain.did) {
    w->drain.did = state;
    if (state == DRAIN_SHUT)
      shut(w, !r->drain.successor);
    else if (state == DRAIN_FLUSH)
      session_end_all(w, BEAM_ERR_DRAINING);
  }
  unsigned idle = 0, busy = raw_count(w);
  visitors_count(w, &busy, &idle);
  atomic_store(&w->drain.busy, busy);
  atomic_store(&w->drain.idle, idle);
  atomic_store(&w->drain.agents, session_staying(w));
  atomic_store(&w->drain.counted, state);
  if (timer_start(&w->drain.tick, TICK_MS))
    log_error("drain", "out of memory: worker %u counts no more", w->index);
}

static void on_begin(void *arg) {
  struct worker *w = arg;
  struct relay *r = w->relay;
  if (w->closing)
    return;
  timer_init(&w->drain.tick, w->loop, on_tick, w);
  timer_init(&w->drain.grace, w->loop, on_grace, w);
  w->drain.did = DRAIN_OPEN;
  session_drain_all(w, r->drain.after_ms, sends_on(r) ? settings_now(r)->conf.drain_to : "");
  visitors_last(w);
  on_tick(w);
}

void drain_worker_close(struct worker *w) {
  timer_stop(&w->drain.tick);
  timer_stop(&w->drain.grace);
  if (w->index == 0)
    timer_stop(&w->relay->drain.timer);
}

/* --- worker 0's --- */

static void go(struct relay *r, int state) {
  static const char *const names[] = {"up", "open", "shut", "flush", "done"};
  atomic_store(&r->drain.state, state);
  log_info("drain", "state=%s busy=%u", names[state], r->drain.busy);
}

/* What all workers have under way, if all have counted in this state. */
static bool counted(struct relay *r, int state, unsigned *idle, unsigned *agents) {
  bool all = true;
  r->drain.busy = *idle = *agents = 0;
  for (unsigned i = 0; i < r->workers_n; i++) {
    struct worker *w = &r->workers[i];
    all = all && atomic_load(&w->drain.counted) >= state;
    r->drain.busy += atomic_load(&w->drain.busy);
    *idle += atomic_load(&w->drain.idle);
    *agents += atomic_load(&w->drain.agents);
  }
  return all;
}

static void on_decide(void *arg) {
  struct relay *r = arg;
  uint64_t now = loop_now(r->workers[0].loop);
  int state = atomic_load(&r->drain.state);
  unsigned idle, agents;
  bool all = counted(r, state, &idle, &agents), late = now >= r->drain.until;
  bool wait = agents && (r->drain.successor || sends_on(r)) && now < r->drain.agents_until;
  /* Where we send the agents they answer only once they are there. */
  bool quiet = all && !r->drain.busy && !(wait && sends_on(r));
  if (state == DRAIN_OPEN && (r->drain.successor || quiet || now + SHUT_MS >= r->drain.until)) {
    go(r, DRAIN_SHUT);
  } else if (state == DRAIN_SHUT && ((all && !r->drain.busy && !idle && !wait) || late)) {
    if (r->drain.busy)
      log_warn("drain", "time is up: %u visitors are cut", r->drain.busy);
    go(r, DRAIN_FLUSH);
    r->drain.until = now + FLUSH_MS;
  } else if (state == DRAIN_FLUSH &&
             ((all && metric_read(METRIC_SOCKETS) <= (r->handover.guest ? 1 : 0)) || late)) {
    go(r, DRAIN_DONE);
    relay_event(r, "drained", NULL, NULL, NULL);
    return;
  }
  if (timer_start(&r->drain.timer, TICK_MS))
    log_error("drain", "out of memory: end the relay");
}

struct order {
  struct relay *r;
  uint32_t ms;
  bool successor;
};

static void on_order(void *arg) {
  struct order o = *(struct order *)arg;
  struct relay *r = o.r;
  free(arg);
  if (drain_begun(r) || r->workers[0].closing)
    return;
  uint64_t spread = (uint64_t)atomic_load(&r->sessions_now) * 1000 / AGENTS_PER_S;
  r->drain.successor = o.successor;
  r->drain.after_ms = spread < AFTER_MS_MAX ? (uint32_t)spread : AFTER_MS_MAX;
  r->drain.until = loop_now(r->workers[0].loop) + o.ms;
  r->drain.agents_until = loop_now(r->workers[0].loop) + r->drain.after_ms + MOVE_MS;
  go(r, DRAIN_OPEN);
  relay_event(r, "draining", NULL, NULL, o.successor ? "a successor takes over" : NULL);
  for (unsigned i = 0; i < r->workers_n; i++)
    if (loop_post(r->workers[i].loop, on_begin, &r->workers[i]))
      log_error("drain", "worker %u is flooded and does not take part", i);
  timer_init(&r->drain.timer, r->workers[0].loop, on_decide, r);
  if (timer_start(&r->drain.timer, TICK_MS))
    log_error("drain", "out of memory: end the relay");
}

int drain_start(struct relay *r, uint32_t ms, bool successor) {
  struct order *o = malloc(sizeof *o);
  if (!o)
    return BEAM_ERR_NOMEM;
  *o = (struct order){r, ms, successor};
  int err = loop_post(r->workers[0].loop, on_order, o);
  if (err)
    free(o);
  return err;
}
