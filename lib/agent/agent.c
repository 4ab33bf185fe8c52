#include "agent/agent.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "agent/backoff.h"
#include "agent/entry.h"
#include "agent/local.h"
#include "agent/reach.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "identity/cert.h"
#include "identity/key.h"

enum {
  DRAIN_MS_MAX = 60000, /* no relay makes us wait for longer than it is likely to be there */
  BIND_MS = 10000,      /* the relay asks its store: a busy disk may take seconds */
  RETIRE_MS = 30000,    /* a drained link may finish its streams for this long */
  BIND_ID = 1,          /* one tunnel a session */
  PROBE_MS =
      600000,      /* a network that lets the better transport through again is noticed within ten minutes */
  BUSY_MS = 60000, /* ... and a minute, while there are requests to disturb */
};

/* A link of ours: the current one, or one that drains. */
struct lane {
  struct lane *prev, *next;
  struct agent *a;
  struct link *link;
  struct loop_timer retire;
  bool bound;
  bool going; /* the relay said DRAIN */
  enum uplink_transport transport;
  char reason[RACE_REASON]; /* why not a better one */
};

struct agent {
  struct loop *loop;
  struct net *net;
  beam_tunnel *self;
  struct beam_tunnel_config conf; /* strings are our own copies */
  struct key *device;
  struct reach *reach;
  struct local *local;
  struct entry *entry; /* BEAM_TUNNEL_ENTRY */
  struct race *race;   /* for the next link */
  struct race *probe;  /* for a better one than we have */
  struct loop_timer probe_timer;
  struct lane *lanes;      /* the first is the newest */
  struct loop_timer timer; /* backoff, or the answer to BIND */
  struct backoff backoff;
  uint8_t session[16];
  bool resumable, once_active;
  /* what info shows */
  enum beam_tunnel_state state;
  uint64_t state_since;
  char name[256], url[512], plain_url[512], dashboard[512], relay_id[FINGERPRINT_TEXT];
  const char *transport;
  uint64_t transport_since;
  char reason[RACE_REASON];
  uint64_t requests, bytes_in, bytes_out;
  unsigned reconnects;
  uint16_t public_port;
  /* the callback that is due */
  struct loop_task tell;
  struct beam_error tell_error;
};

static void connect_now(void *arg);
static void on_drain(struct lane *n, const beam_Drain *m);

/* One timer for all that an agent waits for: it waits for one thing at a time. */
static int arm(struct agent *a, loop_fn fn, uint64_t ms) {
  timer_stop(&a->timer);
  timer_init(&a->timer, a->loop, fn, a);
  return timer_start(&a->timer, ms);
}

/* --- telling --- */

static void tell(void *arg) {
  struct agent *a = arg;
  struct beam_tunnel_info info = {.size = sizeof info};
  agent_info(a, &info);
  struct beam_error e = a->tell_error;
  a->tell_error.code = 0;
  if (a->conf.on_state)
    a->conf.on_state(a->conf.user, a->self, &info, e.code ? &e : NULL);
}

static void set_state(struct agent *a, enum beam_tunnel_state st, const struct beam_error *why) {
  if (a->state != st)
    a->state_since = loop_now(a->loop);
  a->state = st;
  if (why)
    a->tell_error = *why;
  else
    a->tell_error.code = 0;
  loop_soon(a->loop, &a->tell);
}

void agent_info(struct agent *a, struct beam_tunnel_info *out) {
  struct beam_tunnel_info i = {.size = out->size,
                               .state = a->state,
                               .name = a->name[0] ? a->name : NULL,
                               .url = a->url[0] ? a->url : NULL,
                               .plain_url = a->plain_url[0] ? a->plain_url : NULL,
                               .dashboard = a->dashboard[0] ? a->dashboard : NULL,
                               .relay = reach_relay(a->reach),
                               .relay_id = a->relay_id[0] ? a->relay_id : NULL,
                               .transport = a->transport,
                               .since_ms = loop_now(a->loop) - a->state_since,
                               .requests = a->requests,
                               .bytes_in = a->bytes_in,
                               .bytes_out = a->bytes_out,
                               .reconnects = a->reconnects,
                               .kind = a->conf.kind,
                               .public_port = a->public_port,
                               .transport_reason = a->reason[0] ? a->reason : NULL,
                               .transport_since_ms =
                                   a->transport ? loop_now(a->loop) - a->transport_since : 0};
  memcpy(out, &i, out->size < sizeof i ? out->size : sizeof i);
}

/* What the visitor got: the service's status, or that of the page the relay shows for the way it failed. */
static unsigned status_of(const struct http_record *r) {
  const struct page_entry *p = r->failed ? page_find(r->failed) : NULL;
  if (r->status || !p || r->failed == PAGE_VISITOR_GONE || r->failed == PAGE_TRUNCATED)
    return r->status;
  return p->status;
}

static void on_finished(void *user, const struct http_record *r) {
  struct agent *a = user;
  a->requests++;
  a->bytes_in += r->body_in;
  a->bytes_out += r->body_out;
  if (!a->conf.on_request)
    return;
  char method[32], path[1024], host[300], code[16] = "";
  size_t n = 0;
  while (n < r->target.n && r->target.p[n] != '?')
    n++;
  str_fmt(method, sizeof method, "%.*s", SPAN_FMT(r->method));
  str_fmt(path, sizeof path, "%.*s", (int)n, r->target.p);
  str_fmt(host, sizeof host, "%.*s", SPAN_FMT(r->authority));
  if (r->failed)
    str_fmt(code, sizeof code, "BEAM-%u", (unsigned)r->failed);
  struct beam_request q = {.size = sizeof q,
                           .method = method,
                           .path = path,
                           .host = host,
                           .status = status_of(r),
                           .ms = (double)r->total_ms,
                           .ttfb_ms = (double)r->ttfb_ms,
                           .bytes_in = r->body_in,
                           .bytes_out = r->body_out,
                           .error = r->failed ? code : NULL};
  a->conf.on_request(a->conf.user, a->self, &q);
}

/* --- trying again, or not --- */

/* What no waiting mends. A relay that was trusted and now shows another CA may be a hotel's login page: once it worked, that is tried again. */
static bool is_final(struct agent *a, int err) {
  switch (err) {
  case BEAM_ERR_DENIED:
  case BEAM_ERR_TAKEN:
  case BEAM_ERR_NAME:
  case BEAM_ERR_SUPERSEDED:
  case BEAM_ERR_UNSUPPORTED:
  case BEAM_ERR_INVALID:
    return true;
  case BEAM_ERR_UNTRUSTED:
    return !a->once_active;
  default:
    return false;
  }
}

static void drop_lane(struct lane *n, int reason) {
  DL_DELETE(n->a->lanes, n);
  timer_stop(&n->retire);
  link_close(n->link, reason);
  free(n);
}

static void shut(struct agent *a, int reason) {
  timer_stop(&a->timer);
  timer_stop(&a->probe_timer);
  race_cancel(a->race);
  race_cancel(a->probe);
  a->race = a->probe = NULL;
  while (a->lanes)
    drop_lane(a->lanes, reason);
}

/* There is no usable link: wait a little and try again, or give up for good. */
static void lost(struct agent *a, const struct beam_error *why) {
  shut(a, why->code);
  if (is_final(a, why->code)) {
    log_warn("agent", "tunnel closed: %s", why->what);
    set_state(a, BEAM_TUNNEL_CLOSED, why);
    return;
  }
  if (a->state == BEAM_TUNNEL_ACTIVE)
    a->reconnects++;
  uint64_t wait = backoff_next(&a->backoff, loop_now(a->loop));
  log_info("agent", "no link to relay=%s: %s; next attempt in %llu ms", reach_relay(a->reach), why->what,
           (unsigned long long)wait);
  set_state(a, a->once_active ? BEAM_TUNNEL_RECONNECTING : BEAM_TUNNEL_CONNECTING, why);
  if (arm(a, connect_now, wait))
    log_error("agent", "out of memory: not trying again");
}

static void lost_because(struct agent *a, int err, const char *what) {
  struct beam_error e = BEAM_ERROR_INIT;
  err_set(&e, err, NULL, "%s: %s", what, beam_strerror(err));
  lost(a, &e);
}

/* --- a better transport than the one in use --- */

static void take_link(struct agent *a, const struct race_result *r);

static void probe_in(struct agent *a, uint64_t ms) {
  if (a->lanes && reach_has_better(a->reach, a->lanes->transport) && timer_start(&a->probe_timer, ms))
    log_warn("agent", "out of memory: not looking for a better transport");
}

/* Make before break: the link we have goes on until the better one has the name. */
static void on_probe(void *user, const struct race_result *r) {
  struct agent *a = user;
  a->probe = NULL;
  if (!r->uplink.err) {
    take_link(a, r);
    return;
  }
  reach_reason(a->reach, a->lanes->transport, r->reason, a->reason);
  probe_in(a, PROBE_MS);
  if (a->state == BEAM_TUNNEL_ACTIVE)
    set_state(a, BEAM_TUNNEL_ACTIVE, NULL);
}

static void probe_now(void *arg) {
  struct agent *a = arg;
  if (a->race || a->probe || !a->lanes || !a->lanes->bound)
    return; /* whoever is at it starts the clock again */
  if (a->lanes->link->streams)
    probe_in(a, BUSY_MS);
  else if (reach_better(a->reach, a->lanes->transport, a->session, on_probe, a, &a->probe))
    probe_in(a, PROBE_MS);
}

/* The newest link did not get the name, but the one before it still serves. */
static bool fall_back(struct agent *a, int why) {
  struct lane *n = a->lanes, *old = n ? n->next : NULL;
  if (!old || n->bound || !old->bound || old->link->draining || is_final(a, why))
    return false;
  drop_lane(n, why);
  timer_stop(&a->timer);
  timer_stop(&old->retire);
  if (old->going)
    return !arm(a, connect_now, backoff_next(&a->backoff, loop_now(a->loop)));
  probe_in(a, PROBE_MS);
  return true;
}

/* --- a link's events --- */

static void show_transport(struct agent *a, struct lane *n) {
  const char *name = n->link->ops->transport;
  bool other = !a->transport || strcmp(a->transport, name);
  if (other)
    a->transport_since = loop_now(a->loop);
  a->transport = name;
  str_copy(a->reason, sizeof a->reason, n->reason);
  log_info("agent", "active name=%s relay=%s transport=%s%s%s", a->name, reach_relay(a->reach), name,
           n->reason[0] ? " because=" : "", n->reason);
  if (a->state != BEAM_TUNNEL_ACTIVE || other)
    set_state(a, BEAM_TUNNEL_ACTIVE, NULL);
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
  struct agent *a = n->a;
  if (b->id != BIND_ID)
    return;
  timer_stop(&a->timer);
  backoff_reset(&a->backoff);
  n->bound = true;
  a->once_active = true;
  str_copy(a->name, sizeof a->name, b->name);
  a->public_port = (uint16_t)b->port;
  str_copy(a->url, sizeof a->url, b->url);
  str_copy(a->plain_url, sizeof a->plain_url, b->plain_url);
  str_copy(a->dashboard, sizeof a->dashboard, b->dashboard);
  local_bind(a->local, a->name);
  if (a->entry) {
    str_fmt(a->url, sizeof a->url, "tcp://%s:%u", a->conf.local_host, a->conf.local_port);
    entry_link(a->entry);
  }
  show_transport(a, n);
  reach_won(a->reach, n->transport);
  tell_moved(n);
  probe_in(a, PROBE_MS);
}

static void on_error(struct lane *n, const beam_Error *m) {
  struct agent *a = n->a;
  struct beam_error e = BEAM_ERROR_INIT;
  int code = m->code < 0 && m->code >= BEAM_ERR_INTERNAL ? m->code : BEAM_ERR_PROTOCOL;
  err_set(&e, code, m->hint[0] ? m->hint : NULL, "%s", m->what[0] ? m->what : beam_strerror(code));
  if (a->entry && m->id > BIND_ID)
    entry_refused(a->entry, m->id, code);
  else if ((m->id == BIND_ID || m->fatal) && !(n == a->lanes && fall_back(a, code)))
    lost(a, &e);
}

static void on_unbind(struct lane *n, const beam_Unbind *m) {
  struct agent *a = n->a;
  if (n != a->lanes || m->id != BIND_ID)
    return; /* of a link that drains: our own newer one has the name */
  struct beam_error e = BEAM_ERROR_INIT;
  int code = strcmp(m->reason, "superseded") ? BEAM_ERR_CLOSED : BEAM_ERR_SUPERSEDED;
  err_set(&e, code, NULL, "the relay ended the tunnel: %s",
          code == BEAM_ERR_SUPERSEDED ? beam_strerror(code) : m->reason);
  lost(a, &e);
}

static void on_stream(void *user, struct stream *s) {
  struct lane *n = user;
  local_serve(n->a->local, s);
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
  struct agent *a = n->a;
  bool current = n == a->lanes;
  if (current && fall_back(a, reason))
    return;
  if (n->going && current)
    backoff_reset(&a->backoff); /* it went as it said: the attempts while it still refused were not in vain */
  drop_lane(n, reason);
  if (current && !a->race)
    lost_because(a, reason, "the link to the relay is lost");
}

/* The relay goes away: get the next link before this one is let go. */
static void on_draining(void *user) {
  struct lane *n = user;
  if (n == n->a->lanes && !n->a->race)
    connect_now(n->a);
}

/* The same with a time, over which a relay's agents spread: each at a moment of its own. Until then, and until the next link is bound, this one serves. */
static void on_drain(struct lane *n, const beam_Drain *m) {
  struct agent *a = n->a;
  if (n != a->lanes || !n->bound || n->going)
    return;
  n->going = true;
  uint32_t within = m->after_ms < DRAIN_MS_MAX ? m->after_ms : DRAIN_MS_MAX;
  log_info("agent", "relay=%s goes away: next link within %u ms", reach_relay(a->reach), within);
  if (!a->race && arm(a, connect_now, within ? random_below(within) : 0))
    connect_now(a);
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

/* No streams yet: may we, and is it there? */
static int send_connect(struct agent *a, struct lane *n, uint32_t id, uint32_t count) {
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_connect_tag;
  m.kind.connect.id = id;
  m.kind.connect.count = count;
  if (!str_copy(m.kind.connect.name, sizeof m.kind.connect.name, a->conf.name))
    return BEAM_ERR_NAME;
  return link_send(n->link, &m);
}

static int on_ask(void *user, uint32_t id, uint32_t count) {
  struct agent *a = user;
  struct lane *n = a->lanes;
  while (n && !n->bound)
    n = n->next;
  return n ? send_connect(a, n, id, count) : BEAM_AGAIN;
}

static void on_peer(void *user, struct stream *s, const beam_StreamOpen *open) {
  entry_serve(((struct agent *)user)->entry, s, open);
}

static int send_bind(struct agent *a, struct lane *n) {
  if (a->entry) {
    int err = arm(a, on_bind_late, BIND_MS);
    return err ? err : send_connect(a, n, BIND_ID, 0);
  }
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_bind_tag;
  beam_Bind *b = &m.kind.bind;
  b->id = BIND_ID;
  b->kind = (beam_TunnelKind)a->conf.kind;
  b->port = a->conf.remote_port;
  /* After the first time ask for the very name that was given, so that a reconnect never changes it. */
  const char *name = a->name[0] ? a->name : a->conf.name ? a->conf.name : "";
  if (!str_copy(b->name, sizeof b->name, name))
    return BEAM_ERR_NAME;
  b->takeover = a->conf.takeover != 0;
  b->local_port = a->conf.local_port;
  str_copy(b->framework, sizeof b->framework, a->conf.framework);
  int err = arm(a, on_bind_late, BIND_MS);
  return err ? err : link_send(n->link, &m);
}

static void take_link(struct agent *a, const struct race_result *r) {
  struct lane *n = calloc(1, sizeof *n);
  if (!n) {
    link_close(r->uplink.link, BEAM_ERR_NOMEM);
    lost_because(a, BEAM_ERR_NOMEM, "no memory for a link");
    return;
  }
  n->a = a;
  n->link = r->uplink.link;
  n->transport = r->transport;
  reach_reason(a->reach, r->transport, r->reason, n->reason);
  timer_stop(&a->probe_timer);
  timer_init(&n->retire, a->loop, on_retire, n);
  link_own(n->link, &link_events, n);
  if (a->lanes && timer_start(&a->lanes->retire, RETIRE_MS))
    drop_lane(a->lanes, BEAM_ERR_DRAINING);
  DL_PREPEND(a->lanes, n);
  memcpy(a->session, r->uplink.session, sizeof a->session);
  a->resumable = true;
  fingerprint_text(a->relay_id, r->uplink.relay_id);
  int err = send_bind(a, n);
  if (err)
    lost_because(a, err, "cannot bind");
}

static void on_race(void *user, const struct race_result *r) {
  struct agent *a = user;
  int err = r->uplink.err;
  a->race = NULL;
  if (err && a->lanes && !is_final(a, err)) { /* the old link drains and still serves: keep it, try again */
    if (!arm(a, connect_now, backoff_next(&a->backoff, loop_now(a->loop))))
      return;
  }
  if (err)
    lost(a, &r->uplink.why);
  else
    take_link(a, r);
}

static void connect_now(void *arg) {
  struct agent *a = arg;
  if (a->race)
    return;
  timer_stop(&a->timer);
  race_cancel(a->probe);
  a->probe = NULL;
  int err = reach_start(a->reach, a->resumable ? a->session : NULL, on_race, a, &a->race);
  if (err)
    lost_because(a, err, "cannot dial the relay");
}

/* --- life --- */

static int copy_strings(struct agent *a, const struct beam_tunnel_config *c) {
  a->conf = *c;
  const char **fields[] = {&a->conf.relay,      &a->conf.relay_ca, &a->conf.token,       &a->conf.name,
                           &a->conf.local_host, &a->conf.data_dir, &a->conf.host_header, &a->conf.framework,
                           &a->conf.transport,  &a->conf.proxy};
  bool ok = true;
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    const char *given = *fields[i];
    *fields[i] = str_dup(given);
    ok = ok && (!given || *fields[i]);
  }
  return ok ? 0 : BEAM_ERR_NOMEM;
}

static void agent_free(struct agent *a) {
  if (a->conf.token)
    explicit_bzero((char *)a->conf.token, strlen(a->conf.token));
  if (a->conf.proxy)
    explicit_bzero((char *)a->conf.proxy, strlen(a->conf.proxy));
  const char *fields[] = {a->conf.relay,      a->conf.relay_ca, a->conf.token,       a->conf.name,
                          a->conf.local_host, a->conf.data_dir, a->conf.host_header, a->conf.framework,
                          a->conf.transport,  a->conf.proxy};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    free((void *)fields[i]);
  reach_free(a->reach);
  key_free(a->device);
  free(a);
}

static int open_entry(struct agent *a, struct beam_error *err) {
  struct entry_conf c = {.loop = a->loop,
                         .net = a->net,
                         .host = a->conf.local_host,
                         .port = a->conf.local_port,
                         .ask = on_ask,
                         .finished = on_finished,
                         .user = a};
  if (!a->conf.name || !*a->conf.name)
    return err_set(err, BEAM_ERR_INVALID, "give its name", "which private tunnel?");
  int e = entry_open(&c, &a->entry);
  return e ? err_set(err, e, e == BEAM_ERR_IN_USE ? "choose another local port" : NULL,
                     "cannot listen on %s port %u: %s", a->conf.local_host, a->conf.local_port,
                     beam_strerror(e))
           : 0;
}

static int prepare(struct agent *a, struct beam_error *err) {
  int e = device_load(a->conf.data_dir, &a->device, err);
  struct reach_conf rc = {.loop = a->loop,
                          .net = a->net,
                          .relay = a->conf.relay,
                          .transport = a->conf.transport,
                          .proxy = a->conf.proxy,
                          .data_dir = a->conf.data_dir,
                          .relay_ca = a->conf.relay_ca,
                          .device = a->device,
                          .token = a->conf.token};
  if (!e)
    e = reach_new(&rc, &a->reach, err);
  struct local_conf lc = {.loop = a->loop,
                          .net = a->net,
                          .host = a->conf.local_host,
                          .port = a->conf.local_port,
                          .host_header = a->conf.host_header,
                          .kind = (int)a->conf.kind,
                          .proxy_protocol = a->conf.proxy_protocol,
                          .finished = on_finished,
                          .peer = a->conf.kind == BEAM_TUNNEL_ENTRY ? on_peer : NULL,
                          .user = a};
  if (!e && lc.peer)
    e = open_entry(a, err);
  return e ? e : local_new(&lc, &a->local);
}

int agent_new(struct loop *loop, struct net *net, const struct beam_tunnel_config *config, beam_tunnel *self,
              struct agent **out, struct beam_error *err) {
  struct agent *a = calloc(1, sizeof *a);
  if (!a)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  a->loop = loop;
  a->net = net;
  a->self = self;
  a->tell_error = (struct beam_error)BEAM_ERROR_INIT;
  task_init(&a->tell, tell, a);
  timer_init(&a->timer, loop, connect_now, a);
  timer_init(&a->probe_timer, loop, probe_now, a);
  a->state_since = loop_now(loop);
  int e = copy_strings(a, config);
  if (!e)
    e = prepare(a, err);
  if (!e)
    e = timer_start(&a->timer, 0);
  if (e) {
    entry_close(a->entry);
    local_close(a->local);
    agent_free(a);
    return e;
  }
  *out = a;
  return 0;
}

void agent_close(struct agent *a) {
  if (!a)
    return;
  if (a->lanes && a->lanes->bound && !a->entry) {
    beam_Control m = beam_Control_init_zero;
    m.which_kind = beam_Control_unbind_tag;
    m.kind.unbind.id = BIND_ID;
    link_send(a->lanes->link, &m);
  }
  a->conf.on_state = NULL;
  a->conf.on_request = NULL;
  shut(a, BEAM_ERR_CLOSED);
  task_cancel(&a->tell);
  entry_close(a->entry);
  local_close(a->local);
  agent_free(a);
}
