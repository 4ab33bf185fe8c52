#include "agent/home.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "agent/lanes.h"
#include "agent/way.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "link/greet.h"

enum {
  DRAIN_MS_MAX = 60000, /* no relay makes us wait for longer than it is likely to be there */
  BIND_MS = 10000,      /* the relay asks its store: a busy disk may take seconds */
  RETIRE_MS = 30000,    /* a drained link may finish its streams for this long */
  PROBE_MS =
      600000,      /* a network that lets the better transport through again is noticed within ten minutes */
  BUSY_MS = 60000, /* ... and a minute, while there are requests to disturb */
  DOUBT_MS = 2000, /* after a change: a relay that has not answered within this is not there any more */
};

static void connect_now(void *arg);
static void probe_in(struct home *h, uint64_t ms);
static void on_retire(void *arg);
static const struct link_events link_events;
static void on_drain(struct lane *n, const beam_Drain *m);

/* One timer for all that a home waits for: it waits for one thing at a time. */
static int arm(struct home *h, loop_fn fn, uint64_t ms) {
  timer_stop(&h->timer);
  timer_init(&h->timer, h->loop, fn, h);
  return timer_start(&h->timer, ms);
}

static void set_state(struct home *h, enum beam_tunnel_state st, const struct beam_error *why) {
  if (h->state != st)
    h->state_since = loop_now(h->loop);
  h->state = st;
  h->owner->changed(h->user, h, why);
}

/* --- trying again, or not --- */

/* What no waiting mends. A relay that was trusted and now shows another CA may be a hotel's login page: once it worked, that is tried again. */
static bool is_final(struct home *h, int err) {
  switch (err) {
  case BEAM_ERR_DENIED:
  case BEAM_ERR_TAKEN:
  case BEAM_ERR_NAME:
  case BEAM_ERR_SUPERSEDED:
  case BEAM_ERR_UNSUPPORTED:
  case BEAM_ERR_INVALID:
    return true;
  case BEAM_ERR_UNTRUSTED:
    return !h->once_active;
  default:
    return false;
  }
}

/* The relay that a lane is at, or, NULL, the next one shall be at. */
static struct reach *reach_of(struct home *h, const struct lane *n) {
  return (n ? n->away : h->follow) && h->to ? h->to : h->reach;
}

static void drop_lane(struct lane *n, int reason) {
  DL_DELETE(n->h->lanes, n);
  timer_stop(&n->retire);
  link_close(n->link, reason);
  free(n);
}

/* The first link is gone, but others serve: one of them is the first now. */
static bool promote(struct home *h, int why) {
  struct lane *n = h->lanes;
  if (n && !n->bound)
    drop_lane(n, why);
  n = more_promote(h);
  if (!n)
    return false;
  timer_stop(&h->timer);
  race_cancel(h->race);
  h->race = NULL;
  timer_init(&n->retire, h->loop, on_retire, n);
  link_own(n->link, &link_events, n);
  DL_PREPEND(h->lanes, n);
  str_copy(h->reason, sizeof h->reason, n->reason);
  h->transport = n->link->ops->transport;
  h->transport_since = n->since;
  probe_in(h, PROBE_MS);
  if (n->going && arm(h, connect_now, backoff_next(&h->backoff, loop_now(h->loop))))
    log_error("agent", "out of memory: not looking for the next relay");
  home_changed(h);
  return true;
}

static void shut(struct home *h, int reason) {
  timer_stop(&h->timer);
  timer_stop(&h->probe_timer);
  timer_stop(&h->doubt);
  race_cancel(h->race);
  race_cancel(h->probe);
  h->race = h->probe = NULL;
  more_close(h, reason);
  while (h->lanes)
    drop_lane(h->lanes, reason);
  h->follow = false;
  reach_free(h->to);
  h->to = NULL;
}

static void set_lost(struct home *h, int reason) {
  struct beam_error e = BEAM_ERROR_INIT;
  err_set(&e, reason, NULL, "the link to the relay is lost: %s", beam_strerror(reason));
  h->reconnects++;
  set_state(h, BEAM_TUNNEL_RECONNECTING, &e);
}

/* There is no usable link: wait a little and try again, or give up for good. */
static void lost(struct home *h, const struct beam_error *why) {
  if (!is_final(h, why->code) && promote(h, why->code))
    return;
  shut(h, why->code);
  if (is_final(h, why->code)) {
    log_warn("agent", "relay=%s: closed: %s", reach_relay(h->reach), why->what);
    set_state(h, BEAM_TUNNEL_CLOSED, why);
    return;
  }
  if (h->state == BEAM_TUNNEL_ACTIVE)
    h->reconnects++;
  uint64_t wait = backoff_next(&h->backoff, loop_now(h->loop));
  log_info("agent", "no link to relay=%s: %s; next attempt in %llu ms", reach_relay(h->reach), why->what,
           (unsigned long long)wait);
  set_state(h, h->once_active ? BEAM_TUNNEL_RECONNECTING : BEAM_TUNNEL_CONNECTING, why);
  if (arm(h, connect_now, wait))
    log_error("agent", "out of memory: not trying again");
}

static void lost_because(struct home *h, int err, const char *what) {
  struct beam_error e = BEAM_ERROR_INIT;
  err_set(&e, err, NULL, "%s: %s", what, beam_strerror(err));
  lost(h, &e);
}

/* --- a better transport than the one in use --- */

static void take_link(struct home *h, const struct race_result *r, bool away);

static void probe_in(struct home *h, uint64_t ms) {
  if (h->lanes && reach_has_better(reach_of(h, h->lanes), h->lanes->transport) &&
      timer_start(&h->probe_timer, ms))
    log_warn("agent", "out of memory: not looking for a better transport");
}

/* Make before break: the link we have goes on until the better one has the name. */
static void on_probe(void *user, const struct race_result *r) {
  struct home *h = user;
  h->probe = NULL;
  if (!r->uplink.err) {
    take_link(h, r, h->lanes->away);
    return;
  }
  reach_reason(reach_of(h, h->lanes), h->lanes->transport, r->reason, h->reason);
  probe_in(h, PROBE_MS);
  if (h->state == BEAM_TUNNEL_ACTIVE)
    set_state(h, BEAM_TUNNEL_ACTIVE, NULL);
}

static void probe_now(void *arg) {
  struct home *h = arg;
  if (h->race || h->probe || !h->lanes || !h->lanes->bound)
    return; /* whoever is at it starts the clock again */
  if (h->lanes->link->streams)
    probe_in(h, BUSY_MS);
  else if (reach_better(reach_of(h, h->lanes), h->lanes->transport, h->session, on_probe, h, &h->probe))
    probe_in(h, PROBE_MS);
}

/* Where the relay sent us is no good: back to the address that was given. */
static void come_back(struct home *h, int why) {
  log_info("agent", "not at relay=%s, where ours sent us: %s", reach_relay(h->to), beam_strerror(why));
  h->follow = false;
  timer_stop(&h->timer);
  connect_now(h);
}

/* The newest link did not get the name, but the one before it still serves. */
static bool fall_back(struct home *h, int why) {
  struct lane *n = h->lanes, *old = n ? n->next : NULL;
  if (n && n->away && h->follow && !n->bound) {
    drop_lane(n, why);
    if (old)
      timer_stop(&old->retire);
    come_back(h, why);
    return true;
  }
  if (!old || n->bound || !old->bound || old->link->draining || is_final(h, why))
    return false;
  drop_lane(n, why);
  timer_stop(&h->timer);
  timer_stop(&old->retire);
  if (old->going)
    return !arm(h, connect_now, backoff_next(&h->backoff, loop_now(h->loop)));
  probe_in(h, PROBE_MS);
  return true;
}

/* --- a link's events --- */

static void show_transport(struct home *h, struct lane *n, const char *bound) {
  const char *name = n->link->ops->transport;
  bool other = !h->transport || strcmp(h->transport, name);
  if (other)
    h->transport_since = loop_now(h->loop);
  h->transport = name;
  str_copy(h->reason, sizeof h->reason, n->reason);
  log_info("agent", "active name=%s relay=%s transport=%s%s%s", bound, n->relay, name,
           n->reason[0] ? " because=" : "", n->reason);
  if (h->state != BEAM_TUNNEL_ACTIVE || other)
    set_state(h, BEAM_TUNNEL_ACTIVE, NULL);
}

/* The relay that goes need not wait for us any more. */
static void tell_moved(struct lane *n) {
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_drain_tag;
  for (struct lane *old = n->next; old; old = old->next)
    if (old->going)
      link_send(old->link, &m); /* when it cannot be sent, the relay waits a little for nothing */
}

static void on_bound(struct lane *n, const beam_Bound *b) {
  struct home *h = n->h;
  if (b->id != HOME_BIND)
    return;
  timer_stop(&h->timer);
  timer_stop(&h->doubt);
  backoff_reset(&h->backoff);
  n->bound = true;
  n->since = loop_now(h->loop);
  h->once_active = true;
  h->owner->bound(h->user, h, b);
  show_transport(h, n, b->name);
  reach_won(reach_of(h, n), n->transport);
  h->follow = false;
  if (n->next && n->next->going)
    more_move(h);
  tell_moved(n);
  probe_in(h, PROBE_MS);
}

static void on_error(struct lane *n, const beam_Error *m) {
  struct home *h = n->h;
  struct beam_error e = BEAM_ERROR_INIT;
  int code = m->code < 0 && m->code >= BEAM_ERR_INTERNAL ? m->code : BEAM_ERR_PROTOCOL;
  err_set(&e, code, m->hint[0] ? m->hint : NULL, "%s", m->what[0] ? m->what : beam_strerror(code));
  if (m->id > HOME_BIND && !m->fatal)
    h->owner->refused(h->user, h, m->id, code);
  else if ((m->id == HOME_BIND || m->fatal) && !(n == h->lanes && fall_back(h, code)))
    lost(h, &e);
}

static void on_unbind(struct lane *n, const beam_Unbind *m) {
  struct home *h = n->h;
  if (n != h->lanes || m->id != HOME_BIND)
    return; /* of a link that drains: our own newer one has the name */
  struct beam_error e = BEAM_ERROR_INIT;
  int code = strcmp(m->reason, "superseded") ? BEAM_ERR_CLOSED : BEAM_ERR_SUPERSEDED;
  err_set(&e, code, NULL, "the relay ended the tunnel: %s",
          code == BEAM_ERR_SUPERSEDED ? beam_strerror(code) : m->reason);
  lost(h, &e);
}

static void on_stream(void *user, struct stream *s) {
  struct lane *n = user;
  n->h->owner->stream(n->h->user, n->h, s);
  more_look(n->h);
}

static void on_control(void *user, const beam_Control *m) {
  struct lane *n = user;
  switch (m->which_kind) {
  case beam_Control_bound_tag:
    on_bound(n, &m->kind.bound);
    break;
  case beam_Control_error_tag:
    on_error(n, &m->kind.error);
    break;
  case beam_Control_unbind_tag:
    on_unbind(n, &m->kind.unbind);
    break;
  case beam_Control_drain_tag:
    on_drain(n, &m->kind.drain);
    break;
  default:
    break; /* what newer relays say */
  }
}

static void on_closed(void *user, int reason) {
  struct lane *n = user;
  struct home *h = n->h;
  bool current = n == h->lanes;
  if (current && fall_back(h, reason))
    return;
  if (n->going && current)
    backoff_reset(&h->backoff); /* it went as it said: the attempts while it still refused were not in vain */
  bool doubted = n->doubted != 0;
  if (current && n->bound)
    more_lost(h, n);
  drop_lane(n, reason);
  if (current && !h->race)
    lost_because(h, reason, "the link to the relay is lost");
  else if (current && doubted && h->state == BEAM_TUNNEL_ACTIVE) /* the next one is under way */
    set_lost(h, reason);
}

/* The relay goes away: get the next link before this one is let go. */
static void on_draining(void *user) {
  struct lane *n = user;
  if (n == n->h->lanes && !n->h->race)
    connect_now(n->h);
}

/* Whoever sends us on must be trusted for it: the next relay has to prove the same CA. */
static void choose_next(struct home *h, const struct lane *n, const char *to) {
  struct beam_error e = BEAM_ERROR_INIT;
  struct reach_conf c = h->conf;
  struct reach *r;
  h->follow = false;
  if (!to[0])
    return;
  c.relay = to;
  c.relay_ca = h->relay_id;
  if (strpbrk(to, "/, ") || reach_new(&c, &r, &e)) {
    log_warn("agent", "relay=%s sends us to an address that is none", n->relay);
    return;
  }
  if (!strcmp(reach_relay(r), reach_relay(h->reach)) || h->owner->elsewhere(h->user, h, reach_relay(r))) {
    reach_free(r);
    return;
  }
  reach_free(h->to);
  h->to = r;
  h->follow = true;
}

/* The same with a time, over which a relay's agents spread: each at a moment of its own. Until then, and until the next link is bound, this one serves. */
static void on_drain(struct lane *n, const beam_Drain *m) {
  struct home *h = n->h;
  if (n != h->lanes || !n->bound || n->going)
    return;
  n->going = true;
  uint32_t within = m->after_ms < DRAIN_MS_MAX ? m->after_ms : DRAIN_MS_MAX;
  choose_next(h, n, m->to);
  log_info("agent", "relay=%s goes away: next link within %u ms at relay=%s", n->relay, within,
           reach_relay(reach_of(h, NULL)));
  if (!h->race && arm(h, connect_now, within ? random_below(within) : 0))
    connect_now(h);
}

static const struct link_events link_events = {
    .stream = on_stream, .control = on_control, .closed = on_closed, .draining = on_draining};

static void on_retire(void *arg) {
  drop_lane(arg, BEAM_ERR_DRAINING);
}

/* --- a new link --- */

static void on_bind_late(void *arg) {
  if (!fall_back(arg, BEAM_ERR_TIMEOUT))
    lost_because(arg, BEAM_ERR_TIMEOUT, "the relay did not answer BIND");
}

/* Whoever has no link that is bound begins a new group: what the relay may still have of the one before is superseded. */
int home_ask(struct home *h, struct lane *n) {
  beam_Control m = beam_Control_init_zero;
  int err = h->owner->ask(h->user, h, &m);
  if (err)
    return err == BEAM_AGAIN ? 0 : err;
  bool any = more_bound_any(h);
  for (const struct lane *o = h->lanes; o; o = o->next)
    any = any || (o->bound && o != n);
  if (!any)
    random_bytes(h->group, sizeof h->group);
  if (m.which_kind == beam_Control_bind_tag && h->takes_more) {
    m.kind.bind.group.size = sizeof h->group;
    memcpy(m.kind.bind.group.bytes, h->group, sizeof h->group);
    m.kind.bind.lane = n->number;
  }
  n->asked = true;
  return link_send(n->link, &m);
}

/* The owner may not know yet which name to ask for: then home_bind() comes back to it. */
static int send_bind(struct home *h, struct lane *n) {
  int err = arm(h, on_bind_late, BIND_MS);
  if (!err)
    err = home_ask(h, n);
  if (!n->asked)
    timer_stop(&h->timer);
  return err;
}

void home_bind(struct home *h) {
  struct lane *n = h->lanes;
  int err = n && !n->bound && !n->asked ? send_bind(h, n) : 0;
  if (err)
    lost_because(h, err, "cannot bind");
}

int home_send(struct home *h, const beam_Control *m) {
  struct lane *n = h->lanes;
  while (n && !n->bound)
    n = n->next;
  return n ? link_send(n->link, m) : BEAM_AGAIN;
}

struct lane *home_lane_new(struct home *h, const struct race_result *r, bool away) {
  struct lane *n = calloc(1, sizeof *n);
  if (!n) {
    link_close(r->uplink.link, BEAM_ERR_NOMEM);
    return NULL;
  }
  n->h = h;
  n->link = r->uplink.link;
  n->transport = r->transport;
  n->away = away;
  n->worker = r->uplink.worker;
  n->workers = r->uplink.workers;
  str_copy(n->relay, sizeof n->relay, reach_relay(reach_of(h, n)));
  reach_reason(reach_of(h, n), r->transport, r->reason, n->reason);
  timer_init(&n->retire, h->loop, on_retire, n);
  return n;
}

static void take_link(struct home *h, const struct race_result *r, bool away) {
  struct lane *n = home_lane_new(h, r, away);
  if (!n) {
    lost_because(h, BEAM_ERR_NOMEM, "no memory for a link");
    return;
  }
  timer_stop(&h->probe_timer);
  link_own(n->link, &link_events, n);
  if (h->lanes) /* it goes on as that one: the same number takes its place */
    n->number = h->lanes->number;
  if (h->lanes && timer_start(&h->lanes->retire, RETIRE_MS))
    drop_lane(h->lanes, BEAM_ERR_DRAINING);
  DL_PREPEND(h->lanes, n);
  memcpy(h->session, r->uplink.session, sizeof h->session);
  h->resumable = true;
  h->takes_more = r->uplink.links;
  fingerprint_text(h->relay_id, r->uplink.relay_id);
  int err = send_bind(h, n);
  if (err)
    lost_because(h, err, "cannot bind");
}

/* It serves, and as far as anybody knows it will. */
static bool is_well(const struct lane *n) {
  return n->bound && !n->going && !n->left && !n->link->draining && n->link->heard > n->doubted;
}

static void on_race(void *user, const struct race_result *r) {
  struct home *h = user;
  int err = r->uplink.err;
  h->race = NULL;
  if (err && h->follow) {
    come_back(h, err);
    return;
  }
  if (err && h->lanes && !is_final(h, err) && is_well(h->lanes)) { /* no need of another one after all */
    probe_in(h, PROBE_MS);
    return;
  }
  if (err && h->lanes && !is_final(h, err)) { /* the old link drains and still serves: keep it, try again */
    if (!arm(h, connect_now, backoff_next(&h->backoff, loop_now(h->loop))))
      return;
  }
  if (err)
    lost(h, &r->uplink.why);
  else
    take_link(h, r, h->follow);
}

void home_start_race(struct home *h, race_cb cb, struct race **out, int *err) {
  const struct lane *n = out == &h->race ? NULL : h->lanes;
  *err = reach_start(reach_of(h, n), h->resumable ? h->session : NULL, cb, h, out);
}

void home_changed(struct home *h) {
  h->owner->changed(h->user, h, NULL);
}

static void connect_now(void *arg) {
  struct home *h = arg;
  if (h->race)
    return;
  timer_stop(&h->timer);
  race_cancel(h->probe);
  h->probe = NULL;
  way_network(h->network);
  int err = 0;
  home_start_race(h, on_race, &h->race, &err);
  if (err)
    lost_because(h, err, "cannot dial the relay");
}

/* --- the network changes, the machine wakes --- */

/* The next link, beside the one we have; what was under way began in the network that was. */
static void connect_anew(struct home *h) {
  race_cancel(h->race);
  h->race = NULL;
  backoff_reset(&h->backoff);
  connect_now(h);
}

static void on_doubt(void *arg) {
  struct home *h = arg;
  struct lane *n = h->lanes;
  if (!n || n->link->heard > n->doubted)
    return;
  log_info("agent", "relay=%s does not answer after a change of the network: next link",
           reach_relay(h->reach));
  connect_anew(h);
}

/* Containers change interfaces all day long: what does not touch the way to the relay is nothing. */
static bool is_elsewhere(const struct home *h) {
  char network[WAY_NETWORK];
  way_network(network);
  return strcmp(network, h->network) != 0;
}

void home_network_changed(struct home *h, int what) {
  struct lane *n = h->lanes;
  if (h->state == BEAM_TUNNEL_CLOSED)
    return;
  more_network_changed(h, what);
  if (!n) {
    if (what & NET_SLEPT || is_elsewhere(h))
      connect_anew(h);
    return;
  }
  enum link_way way = link_network_changed(n->link);
  if (way == LINK_WAY_SAME && !(what & NET_SLEPT))
    return;
  n->doubted = loop_now(h->loop);
  n->left = way == LINK_WAY_LEFT;
  greet_ping(n->link);
  if (n->left || timer_start(&h->doubt, DOUBT_MS))
    connect_anew(h);
  else if (reach_has_better(reach_of(h, n), n->transport)) /* what the old network kept back */
    probe_in(h, DOUBT_MS);
}

/* --- life --- */

int home_new(const struct home_conf *conf, struct home **out, struct beam_error *err) {
  struct home *h = calloc(1, sizeof *h);
  if (!h)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  h->loop = conf->reach.loop;
  h->conf = conf->reach;
  h->owner = conf->owner;
  h->user = conf->user;
  timer_init(&h->timer, h->loop, connect_now, h);
  timer_init(&h->probe_timer, h->loop, probe_now, h);
  timer_init(&h->doubt, h->loop, on_doubt, h);
  more_init(h, conf->links);
  h->state_since = loop_now(h->loop);
  int e = reach_new(&conf->reach, &h->reach, err);
  if (e) {
    free(h);
    return e;
  }
  *out = h;
  return 0;
}

int home_start(struct home *h) {
  return timer_start(&h->timer, 0);
}

void home_close(struct home *h, bool unbind) {
  if (!h)
    return;
  if (unbind && h->lanes && h->lanes->bound) {
    beam_Control m = beam_Control_init_zero;
    m.which_kind = beam_Control_unbind_tag;
    m.kind.unbind.id = HOME_BIND;
    link_send(h->lanes->link, &m);
  }
  shut(h, BEAM_ERR_CLOSED);
  reach_free(h->reach);
  free(h);
}

void home_view(const struct home *h, struct home_view *out) {
  const struct lane *n;
  unsigned links = 0;
  DL_FOREACH(h->lanes, n) {
    links += n->bound;
  }
  DL_FOREACH(h->more, n) {
    links += n->bound;
  }
  *out = (struct home_view){.state = h->state,
                            .relay = h->lanes ? h->lanes->relay : reach_relay(h->reach),
                            .relay_id = h->relay_id[0] ? h->relay_id : NULL,
                            .transport = h->transport,
                            .reason = h->reason[0] ? h->reason : NULL,
                            .state_since = h->state_since,
                            .transport_since = h->transport_since,
                            .reconnects = h->reconnects,
                            .links = links};
}

static const struct lane *bound_at(const struct home *h, unsigned index) {
  const struct lane *n;
  DL_FOREACH(h->lanes, n) {
    if (n->bound && !index--)
      return n;
  }
  DL_FOREACH(h->more, n) {
    if (n->bound && !index--)
      return n;
  }
  return NULL;
}

bool home_link_view(const struct home *h, unsigned index, struct home_link_view *out) {
  const struct lane *n = bound_at(h, index);
  if (!n)
    return false;
  const char *reason = n == h->lanes ? h->reason : n->reason; /* probes since then tell more */
  bool old = n != h->lanes && timer_set(&n->retire);
  *out = (struct home_link_view){n->relay, n->link->ops->transport, reason[0] ? reason : NULL,
                                 n->since, n->link->streams,        n->going || n->leaving || old};
  return true;
}
