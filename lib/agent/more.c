/* more.c: the links of a home beside its first one.
 *
 *   wanted (spread.h, or one was lost) ──► race ──► ASKED ──► BOUND ──► LEAVING (drained, streams go on) ──► closed
 *                     a little later ◄── refused, lost ──┘      └── lost: its number is wanted back; the first lost: it is the first now
 */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "agent/lanes.h"
#include "base/limits.h"
#include "base/log.h"
#include "link/greet.h"

enum {
  BIND_MS = 10000,    /* as the first link's */
  REFUSED_MS = 60000, /* a relay that refuses one more is not asked again before */
};

static void on_race(void *user, const struct race_result *r);

static void drop(struct lane *n, int reason) {
  DL_DELETE(n->h->more, n);
  timer_stop(&n->retire);
  link_close(n->link, reason);
  free(n);
}

static bool serves(const struct lane *n) {
  return n && n->bound && !n->leaving && !n->link->draining;
}

static unsigned most(const struct home *h) {
  return spread_most(h->links_wanted, !h->lanes || h->lanes->transport != UPLINK_QUIC);
}

/* --- one more --- */

/* The number of a lost link first: it takes that one's place at a relay which may not know yet. */
static unsigned free_number(const struct home *h) {
  unsigned taken = h->lanes ? 1u << h->lanes->number : 0;
  const struct lane *n;
  DL_FOREACH(h->more, n) {
    taken |= 1u << n->number;
  }
  for (unsigned i = 0; i < LIMIT_LINKS_PER_NAME; i++)
    if (h->missing & ~taken & 1u << i)
      return i;
  for (unsigned i = 0; i < LIMIT_LINKS_PER_NAME; i++)
    if (!(taken & 1u << i))
      return i;
  return LIMIT_LINKS_PER_NAME;
}

/* One at a time: with the answer to a BIND under way nobody knows whether it is enough. */
static bool is_binding(const struct home *h) {
  const struct lane *n;
  DL_FOREACH(h->more, n) {
    if (!n->bound && !n->leaving)
      return true;
  }
  return false;
}

static bool may_open(const struct home *h) {
  return h->takes_more && !is_binding(h) && !h->race && !h->probe && !h->more_race && serves(h->lanes) &&
         !h->lanes->going && !h->follow && free_number(h) < LIMIT_LINKS_PER_NAME;
}

static void open_one(struct home *h) {
  int err = 0;
  if (!may_open(h) || loop_now(h->loop) < h->more_after)
    return;
  home_start_race(h, on_race, &h->more_race, &err);
  if (err)
    h->more_after = loop_now(h->loop) + backoff_next(&h->more_backoff, loop_now(h->loop));
}

/* Are there fewer links at another part of the relay? Which one a connection lands at is luck. */
static bool is_crowded(const struct home *h, unsigned worker, unsigned workers) {
  unsigned at[LIMIT_WORKERS] = {0};
  const struct lane *n;
  if (workers < 2 || workers > LIMIT_WORKERS || worker >= workers)
    return false;
  if (h->lanes->workers == workers)
    at[h->lanes->worker]++;
  DL_FOREACH(h->more, n) {
    if (n->workers == workers)
      at[n->worker]++;
  }
  for (unsigned i = 0; i < workers; i++)
    if (at[i] < at[worker])
      return true;
  return false;
}

static void on_stream(void *user, struct stream *s) {
  struct lane *n = user;
  n->h->owner->stream(n->h->user, n->h, s);
  more_look(n->h);
}

static void let_go(struct lane *n) {
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_drain_tag;
  if (n->leaving)
    return;
  n->leaving = true;
  link_send(n->link, &m); /* when it cannot be sent, the link's own word says it */
  link_drain(n->link);
  more_look(n->h);
}

static void on_bound(struct lane *n, const beam_Bound *b) {
  struct home *h = n->h;
  if (b->id != HOME_BIND || n->bound)
    return;
  timer_stop(&n->retire);
  n->bound = true;
  n->since = loop_now(h->loop);
  h->missing &= ~(1u << n->number);
  backoff_reset(&h->more_backoff);
  log_info("agent", "link %u added relay=%s transport=%s worker=%u/%u", n->number, n->relay,
           n->link->ops->transport, n->worker, n->workers);
  more_look(h);
  home_changed(h);
}

static void on_control(void *user, const beam_Control *m) {
  struct lane *n = user;
  struct home *h = n->h;
  switch (m->which_kind) {
  case beam_Control_bound_tag:
    on_bound(n, &m->kind.bound);
    break;
  case beam_Control_error_tag:
    log_info("agent", "link %u refused by relay=%s: %s", n->number, n->relay, m->kind.error.what);
    h->more_after = loop_now(h->loop) + REFUSED_MS;
    h->missing &= ~(1u << n->number);
    drop(n, BEAM_ERR_CLOSED);
    home_changed(h);
    break;
  case beam_Control_unbind_tag: /* replaced, or the first one hears the same and knows what to do */
    let_go(n);
    break;
  case beam_Control_drain_tag:
    n->going = true;
    break;
  default:
    break; /* what newer relays say */
  }
}

static void on_draining(void *user) {
  let_go(user);
}

static void on_closed(void *user, int reason) {
  struct lane *n = user;
  struct home *h = n->h;
  bool lost = n->bound && !n->leaving && !n->going;
  if (lost) {
    log_info("agent", "link %u lost relay=%s: %s", n->number, n->relay, beam_strerror(reason));
    more_lost(h, n);
  }
  drop(n, reason);
  home_changed(h);
}

static const struct link_events events = {
    .stream = on_stream, .control = on_control, .closed = on_closed, .draining = on_draining};

static void on_bind_late(void *arg) {
  struct lane *n = arg;
  n->h->more_after = loop_now(n->h->loop) + REFUSED_MS;
  drop(n, BEAM_ERR_TIMEOUT);
}

static void take(struct home *h, const struct race_result *r) {
  struct lane *n = home_lane_new(h, r, h->lanes->away);
  if (!n)
    return;
  n->number = free_number(h);
  timer_init(&n->retire, h->loop, on_bind_late, n);
  link_own(n->link, &events, n);
  DL_APPEND(h->more, n);
  int err = timer_start(&n->retire, BIND_MS);
  if (!err)
    err = home_ask(h, n);
  if (err || !n->asked)
    drop(n, err);
}

static void on_race(void *user, const struct race_result *r) {
  struct home *h = user;
  int err = r->uplink.err;
  h->more_race = NULL;
  if (err) {
    h->more_after = loop_now(h->loop) + backoff_next(&h->more_backoff, loop_now(h->loop));
    more_look(h);
  } else if (!may_open(h)) { /* the first is going, or gone, by now */
    link_close(r->uplink.link, BEAM_ERR_CLOSED);
  } else if (is_crowded(h, r->uplink.worker, r->uplink.workers) && ++h->more_tries < SPREAD_TRIES) {
    link_close(r->uplink.link, BEAM_ERR_CLOSED);
    open_one(h);
  } else {
    h->more_tries = 0;
    take(h, r);
  }
}

/* --- looking --- */

static void count(struct lane *n, struct spread_facts *f) {
  uint64_t moved = n->link->moved - n->counted;
  n->counted = n->link->moved;
  if (!serves(n))
    return;
  f->links++;
  f->streams += n->link->streams;
  f->busy += spread_busy(link_queued(n->link), moved);
}

static struct lane *last(const struct home *h) {
  struct lane *n, *best = NULL;
  DL_FOREACH(h->more, n) {
    if (serves(n) && (!best || n->number > best->number))
      best = n;
  }
  return best;
}

static void close_those_that_left(struct home *h) {
  struct lane *n, *next;
  uint64_t now = loop_now(h->loop);
  DL_FOREACH_SAFE(h->more, n, next) {
    if (!n->leaving || n->link->streams)
      n->quiet = 0;
    else if (!n->quiet)
      n->quiet = now;
    else if (now - n->quiet >= SPREAD_LEAVE_MS) {
      drop(n, BEAM_ERR_CLOSED);
      home_changed(h);
    }
  }
}

static void on_look(void *arg) {
  struct home *h = arg;
  struct lane *n;
  struct spread_facts f = {.most = most(h)};
  uint64_t now = loop_now(h->loop);
  if (h->lanes)
    count(h->lanes, &f);
  DL_FOREACH(h->more, n) {
    count(n, &f);
  }
  close_those_that_left(h);
  if (now >= h->missing_until)
    h->missing = 0;
  int advice = spread_advice(&h->spread, &f, now);
  if (advice > 0 || h->missing)
    open_one(h);
  n = advice < 0 ? last(h) : NULL;
  if (n) {
    log_info("agent", "link %u is not needed any more relay=%s", n->number, n->relay);
    let_go(n);
  }
  if (!h->more && !f.streams && !h->missing) {
    h->spread = (struct spread){0};
    return; /* more_look() begins again */
  }
  h->look_slow = !f.streams && !h->missing;
  if (timer_start(&h->look, h->look_slow ? SPREAD_IDLE_MS : SPREAD_LOOK_MS))
    log_warn("agent", "out of memory: not looking for more links");
}

void more_look(struct home *h) {
  if ((most(h) < 2 && !h->more) || !h->takes_more || (timer_set(&h->look) && !h->look_slow))
    return;
  h->look_slow = false;
  if (timer_start(&h->look, SPREAD_LOOK_MS))
    log_warn("agent", "out of memory: not looking for more links");
}

/* --- with the first link --- */

void more_init(struct home *h, unsigned links) {
  h->links_wanted = links < LIMIT_LINKS_PER_NAME ? links : LIMIT_LINKS_PER_NAME;
  timer_init(&h->look, h->loop, on_look, h);
}

bool more_bound_any(const struct home *h) {
  const struct lane *n;
  DL_FOREACH(h->more, n) {
    if (n->bound)
      return true;
  }
  return false;
}

struct lane *more_promote(struct home *h) {
  struct lane *n;
  DL_FOREACH(h->more, n) {
    if (serves(n))
      break;
  }
  if (!n)
    return NULL;
  DL_DELETE(h->more, n);
  n->prev = n->next = NULL;
  log_info("agent", "link %u goes on as the first relay=%s", n->number, n->relay);
  return n;
}

void more_lost(struct home *h, const struct lane *n) {
  if (most(h) < 2 || !h->takes_more)
    return;
  h->missing |= 1u << n->number;
  h->missing_until = loop_now(h->loop) + SPREAD_MISSING_MS;
  more_look(h);
}

void more_move(struct home *h) {
  struct lane *n;
  DL_FOREACH(h->more, n) {
    let_go(n);
  }
}

/* Those that cannot come along are lost; the others have to answer, and their own PING ends them if they do not. */
void more_network_changed(struct home *h, int what) {
  struct lane *n, *next;
  DL_FOREACH_SAFE(h->more, n, next) {
    enum link_way way = link_network_changed(n->link);
    if (way == LINK_WAY_LEFT) {
      more_lost(h, n);
      drop(n, BEAM_ERR_TIMEOUT);
    } else if (way != LINK_WAY_SAME || what & NET_SLEPT) {
      greet_ping(n->link);
    }
  }
}

void more_close(struct home *h, int reason) {
  timer_stop(&h->look);
  race_cancel(h->more_race);
  h->more_race = NULL;
  h->missing = h->more_tries = 0;
  h->spread = (struct spread){0};
  while (h->more)
    drop(h->more, reason);
}
