#include "relay/session.h"
#include "relay/admit.h"
#include "relay/settings.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "base/err.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "identity/trust.h"
#include "link/greet.h"
#include "obs/metrics.h"
#include "relay/audit.h"
#include "relay/fresh.h"
#include "relay/drain.h"
#include "relay/raw.h"
#include "relay/udp_port.h"
#include "wire/host.h"

struct tunnel {
  struct tunnel *prev, *next;
  struct session *session;
  uint32_t id; /* the agent's */
  char name[STORE_NAME];
  uint16_t local_port;
  char framework[64];
  bool live;
  bool grouped;
  uint8_t group[ROUTE_GROUP];
  unsigned lane;
  enum route_kind kind;
  uint16_t port;             /* TCP, UDP: the public one */
  struct raw_port *listener; /* TCP */
  struct udp_port *udp;      /* UDP */
  unsigned ports_tried;      /* TCP, UDP: those that were drawn and are another program's */
  bool port_drawn;           /* TCP, UDP: the agent takes any */
  struct store_op *claim;
  bool counted; /* the claim may give a new name, and is counted for its address */
};

struct session {
  struct worker *w;
  uint64_t id;
  uint8_t resume[16]; /* its id on the wire */
  struct link *link;
  bool up;
  bool moved; /* it has its next link: this one carries what is left */
  struct route_load *load;
  uint64_t counted; /* of link->moved */
  struct loop_timer gauge;
  char device[KEY_ID], agent[96], addr[80];
  struct sockaddr_storage peer; /* counted by address while we live */
  struct tunnel *tunnels;
  unsigned tunnels_n;
  struct session *prev, *next; /* greeting ones */
  UT_hash_handle hh;
};

static void session_end(struct session *s, int reason);

/* --- small helpers --- */

static void note(struct session *s, const char *action, const char *subject, const char *detail) {
  audit(s->w, s->device[0] ? s->device : s->addr, action, subject, detail);
}

static void say(struct session *s, const beam_Control *m) {
  if (link_send(s->link, m))
    log_limited(BEAM_LOG_WARN, "session", "control message not sent device=%s", s->device);
}

static void send_error(struct session *s, uint32_t bind, const struct beam_error *e) {
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_error_tag;
  m.kind.error.id = bind;
  m.kind.error.code = e->code;
  str_copy(m.kind.error.what, sizeof m.kind.error.what, e->what);
  str_copy(m.kind.error.hint, sizeof m.kind.error.hint, e->hint);
  say(s, &m);
}

static struct session *find(struct worker *w, uint64_t id) {
  struct session *s;
  HASH_FIND(hh, w->sessions, &id, sizeof id, s);
  return s;
}

static struct tunnel *tunnel_find(struct session *s, uint32_t id) {
  struct tunnel *t;
  DL_SEARCH_SCALAR(s->tunnels, t, id, id);
  return t;
}

/* --- tunnels --- */

static void tunnel_free(struct tunnel *t) {
  struct session *s = t->session;
  DL_DELETE(s->tunnels, t);
  s->tunnels_n--;
  if (t->claim)
    store_cancel(t->claim);
  raw_port_close(t->listener);
  udp_port_close(t->udp);
  free(t);
}

static int claim_port(struct tunnel *t, uint16_t wanted, struct beam_error *e);

static bool has_port(const struct tunnel *t) {
  return t->kind == ROUTE_TCP || t->kind == ROUTE_UDP;
}

/* GONE: the agent gave the name up. AWAY: its link is lost. LIVE: somebody else has it now: nothing to tell anybody. */
static void tunnel_end(struct tunnel *t, enum route_state becomes, const char *why) {
  struct session *s = t->session;
  if (t->live && becomes != ROUTE_LIVE) {
    struct route_change c = {.state = becomes, .kind = t->kind, .worker = s->w->index, .session = s->id};
    str_copy(c.name, sizeof c.name, t->name);
    str_copy(c.why, sizeof c.why, why);
    route_publish(s->w, &c, NULL, 0);
  }
  if (becomes != ROUTE_GONE) {
    raw_port_linger(t->listener);
    t->listener = NULL;
    udp_port_linger(t->udp);
    t->udp = NULL;
  }
  tunnel_free(t);
}

static void refuse_bind(struct tunnel *t, const struct beam_error *e) {
  struct session *s = t->session;
  log_limited(BEAM_LOG_WARN, "session", "bind refused device=%s code=%s", s->device, beam_err_code(e->code));
  note(s, "bind.refused", t->name, e->what);
  atomic_fetch_add(&s->w->relay->refused, 1);
  send_error(s, t->id, e);
  tunnel_free(t);
}

/* Every worker knows the route: the agent may tell its user. */
static void on_published(struct worker *w, uint64_t session, uint32_t bind, bool joined) {
  struct session *s = find(w, session);
  struct tunnel *t = s ? tunnel_find(s, bind) : NULL;
  if (!t)
    return;
  struct relay *r = w->relay;
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_bound_tag;
  beam_Bound *b = &m.kind.bound;
  b->id = bind;
  str_copy(b->name, sizeof b->name, t->name);
  b->port = t->port;
  if (has_port(t))
    str_fmt(b->url, sizeof b->url, "%s://%s:%u", t->kind == ROUTE_UDP ? "udp" : "tcp", r->conf.domain,
            t->port);
  else if (t->kind == ROUTE_TLS)
    str_fmt(b->url, sizeof b->url, "tls://%s:%u", t->name, r->https_port);
  else if (t->kind == ROUTE_PRIVATE)
    str_fmt(b->url, sizeof b->url, "private://%s", t->name);
  else
    relay_url(r, true, t->name, b->url, sizeof b->url);
  if (t->kind == ROUTE_HTTP && r->plain_n && settings_now(r)->conf.plain == BEAM_PLAIN_SERVE)
    relay_url(r, false, t->name, b->plain_url, sizeof b->plain_url);
  if (t->kind == ROUTE_HTTP)
    str_fmt(b->dashboard, sizeof b->dashboard, "%s/_beam", b->url);
  say(s, &m);
  log_info("session", "%s name=%s device=%s lane=%u worker=%u", joined ? "link added" : "tunnel up", t->name,
           s->device, t->lane, w->index);
  if (joined)
    return;
  note(s, "bind", t->name, s->agent);
  relay_event(r, "tunnel_up", t->name, s->agent, NULL);
}

/* One certificate count stands for each route there is (dropped when the route is swept), however often it was bound. */
static int add_cert(struct worker *w, const char *name, struct beam_error *e) {
  struct route_view v;
  if (route_find(&w->routes, name, &v))
    return 0;
  return certs_add(w->relay->certs, name, e);
}

static void publish_live(struct tunnel *t) {
  struct session *s = t->session;
  struct beam_error e = BEAM_ERROR_INIT;
  struct route_view old;
  struct route_change c = {.state = ROUTE_LIVE, .kind = t->kind, .worker = s->w->index, .session = s->id};
  bool known = route_find(&s->w->routes, t->name, &old) && old.stats;
  c.stats = known ? route_stats_ref(old.stats) : route_stats_new();
  if (!c.stats || (t->kind == ROUTE_HTTP && add_cert(s->w, t->name, &e))) {
    route_stats_unref(c.stats);
    err_set(&e, BEAM_ERR_NOMEM, NULL, "the relay could not make a certificate for %s", t->name);
    refuse_bind(t, &e);
    return;
  }
  store_new_id(c.record.row);
  c.record.local_port = t->local_port;
  str_copy(c.record.agent, sizeof c.record.agent, s->agent);
  str_copy(c.record.framework, sizeof c.record.framework, t->framework);
  t->live = true;
  c.load = route_load_ref(s->load);
  c.lane = t->lane;
  c.grouped = t->grouped;
  memcpy(c.group, t->group, sizeof c.group);
  str_copy(c.name, sizeof c.name, t->name);
  str_copy(c.owner, sizeof c.owner, s->device);
  route_publish(s->w, &c, on_published, t->id);
}

/* The listener is on this worker alone: its visitors need no other. */
static int open_port(struct tunnel *t, struct beam_error *e) {
  t->port = domain_port(t->name);
  struct worker *w = t->session->w;
  int err = t->kind == ROUTE_UDP ? udp_port_open(w, t->port, t->name, &t->udp)
                                 : raw_port_open(w, t->port, t->name, &t->listener);
  return err ? err_set(e, err, "ask for another port with --remote-port",
                       "the relay cannot listen on its port %u: %s", t->port, beam_strerror(err))
             : 0;
}

/* A drawn port may be another program's: give it back and draw again. False: that is no way out. */
static bool draw_again(struct tunnel *t, int err) {
  struct session *s = t->session;
  struct relay *r = s->w->relay;
  struct beam_error e = BEAM_ERROR_INIT;
  if (!t->port_drawn || (err != BEAM_ERR_IN_USE && err != BEAM_ERR_PERMISSION) ||
      ++t->ports_tried == LIMIT_PORTS_TRIED)
    return false;
  return !store_release(r->store, s->w->loop, s->device, t->name, NULL, NULL, NULL) && !claim_port(t, 0, &e);
}

static void on_claimed(void *user, int err, const struct store_reply *reply) {
  struct tunnel *t = user;
  t->claim = NULL;
  struct beam_error e = BEAM_ERROR_INIT;
  if (t->counted && !reply->fresh)
    fresh_give_back(t->session->w->relay->fresh, &t->session->peer);
  if (!err) {
    str_copy(t->name, sizeof t->name, reply->name);
    if (!has_port(t) || !(err = open_port(t, &e)))
      publish_live(t);
    else if (!draw_again(t, err))
      refuse_bind(t, &e);
    return;
  }
  if (err == BEAM_ERR_TAKEN)
    err_set(&e, err, NULL, "the name %s belongs to device %.8s", t->name, reply->holder ? reply->holder : "");
  else if (reply->error && reply->error->code)
    e = *reply->error;
  else
    err_set(&e, err, NULL, "%s", beam_strerror(err));
  refuse_bind(t, &e);
}

/* Where strangers may come in, an address gets so many new names an hour; what its devices have already they get all the same. */
static struct domain_claim claim_of(struct tunnel *t, const char *wanted) {
  struct session *s = t->session;
  struct relay *r = s->w->relay;
  const struct settings *now = settings_now(r);
  t->counted = !now->tokens && fresh_take(r->fresh, &s->peer, loop_now(s->w->loop));
  return (struct domain_claim){.principal = s->device,
                               .wanted = wanted,
                               .local_port = t->local_port,
                               .udp = t->kind == ROUTE_UDP,
                               .lo = t->kind == ROUTE_UDP ? now->udp_lo : now->port_lo,
                               .hi = t->kind == ROUTE_UDP ? now->udp_hi : now->port_hi,
                               .no_fresh = !now->tokens && !t->counted};
}

/* An error of the call: there will be no answer. */
static int claim_failed(struct tunnel *t, int err) {
  if (err && t->counted)
    fresh_give_back(t->session->w->relay->fresh, &t->session->peer);
  return err;
}

static int claim_port(struct tunnel *t, uint16_t wanted, struct beam_error *e) {
  struct session *s = t->session;
  struct domain_claim c = claim_of(t, NULL);
  c.port = wanted;
  t->port_drawn = !wanted;
  return claim_failed(t,
                      domain_allocate_port(s->w->relay->domain, s->w->loop, &c, on_claimed, t, &t->claim, e));
}

static int claim_name(struct tunnel *t, const char *wanted, struct beam_error *e) {
  struct session *s = t->session;
  struct domain_claim c = claim_of(t, wanted);
  return claim_failed(t, domain_allocate(s->w->relay->domain, s->w->loop, &c, on_claimed, t, &t->claim, e));
}

/* Ask trust, then the store. An error is in e->code. */
static void claim(struct tunnel *t, const beam_Bind *b, struct beam_error *e) {
  struct session *s = t->session;
  struct relay *r = s->w->relay;
  const struct settings *now = settings_now(r);
  struct trust_facts f = {.action = TRUST_BIND,
                          .name_given = b->name[0] != 0,
                          .label_ok = true,
                          .takeover = b->takeover,
                          .port_wanted = has_port(t),
                          .ports_offered = (t->kind == ROUTE_UDP ? now->udp_hi : now->port_hi) != 0,
                          .draining = drain_begun(r),
                          .tunnels = s->tunnels_n - 1};
  struct trust verdict = trust_allows(&f);
  int err = 0;
  if (t->kind != ROUTE_HTTP && t->kind != ROUTE_TLS && !has_port(t) && t->kind != ROUTE_PRIVATE)
    err_set(e, BEAM_ERR_UNSUPPORTED, "use an HTTP, TLS, TCP, UDP or private tunnel",
            "this relay does not have tunnels of that kind");
  else if (verdict.err)
    err_set(e, verdict.err, verdict.hint, "%s", verdict.reason);
  else if (has_port(t))
    err = claim_port(t, b->port ? (uint16_t)b->port : domain_port(b->name), e);
  else
    err = claim_name(t, b->name, e);
  if (err && !e->code)
    err_set(e, err, NULL, "%s", beam_strerror(err));
}

static void on_bind(struct session *s, const beam_Bind *b) {
  struct beam_error e = BEAM_ERROR_INIT;
  struct tunnel *t = calloc(1, sizeof *t);
  if (!t) {
    err_set(&e, BEAM_ERR_NOMEM, NULL, "the relay is out of memory");
    e.code = BEAM_ERR_NOMEM;
    send_error(s, b->id, &e);
    return;
  }
  bool repeated = tunnel_find(s, b->id) != NULL;
  t->session = s;
  t->id = b->id;
  t->kind = (enum route_kind)b->kind;
  t->local_port = (uint16_t)b->local_port;
  str_copy(t->name, sizeof t->name, b->name);
  str_copy(t->framework, sizeof t->framework, b->framework);
  DL_APPEND(s->tunnels, t);
  s->tunnels_n++;
  t->grouped = b->group.size == ROUTE_GROUP;
  t->lane = b->lane;
  memcpy(t->group, b->group.bytes, t->grouped ? ROUTE_GROUP : 0);
  if (repeated)
    err_set(&e, BEAM_ERR_PROTOCOL, NULL, "two tunnels with one number");
  else if (t->lane >= LIMIT_LINKS_PER_NAME || (b->group.size && !t->grouped))
    err_set(&e, BEAM_ERR_INVALID, NULL, "no such link: a name has %u of them", LIMIT_LINKS_PER_NAME);
  else
    claim(t, b, &e);
  if (e.code)
    refuse_bind(t, &e);
}

static void on_unbind(struct session *s, const beam_Unbind *u) {
  struct tunnel *t = tunnel_find(s, u->id);
  if (t)
    tunnel_end(t, ROUTE_GONE, "unbound");
}

void session_lost_name(struct worker *w, uint64_t id, const char *name, int how) {
  static const char *const words[] = {"superseded", "replaced", "ended"};
  struct session *s = find(w, id);
  struct tunnel *t = NULL;
  if (s)
    DL_FOREACH(s->tunnels, t) {
      if (t->live && !strcmp(t->name, name))
        break;
    }
  if (!t)
    return;
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_unbind_tag;
  m.kind.unbind.id = t->id;
  str_copy(m.kind.unbind.reason, sizeof m.kind.unbind.reason, words[how]);
  say(s, &m);
  if (how == ROUTE_ENDED) { /* the public port as well: nobody comes back for it */
    raw_port_close(t->listener);
    t->listener = NULL;
  }
  tunnel_end(t, ROUTE_LIVE, words[how]);
}

/* --- private tunnels: this agent wants to reach one --- */

static int join_private(struct session *s, const char *name, uint32_t id) {
  beam_StreamOpen open = beam_StreamOpen_init_zero;
  uint8_t buf[LIMIT_STREAM_OPEN + 8];
  struct stream *st;
  open.kind = beam_StreamKind_STREAM_PEER;
  open.connect = id;
  str_copy(open.name, sizeof open.name, name);
  long n = stream_open_encode(&open, buf, sizeof buf);
  int err = n < 0 ? (int)n : link_open(s->link, &st);
  if (err)
    return err;
  if (stream_write(st, buf, (size_t)n) != (size_t)n) {
    stream_close(st, BEAM_ERR_LIMIT);
    return BEAM_ERR_LIMIT;
  }
  raw_private(s->w, st, name, &s->peer);
  return 0;
}

/* "db" or "db.tunnel.test". False: it cannot be a name of ours. */
static bool full_name(struct relay *r, const char *wanted, char out[ROUTE_NAME]) {
  char folded[HOST_MAX];
  if (!host_fold(span_of(wanted), folded))
    return false;
  return strchr(folded, '.') ? str_copy(out, ROUTE_NAME, folded)
                             : str_fmt(out, ROUTE_NAME, "%s.%s", folded, r->conf.domain);
}

static void on_connect(struct session *s, const beam_Connect *c) {
  struct beam_error e = BEAM_ERROR_INIT;
  struct route_view route = {0};
  char name[ROUTE_NAME];
  bool known = full_name(s->w->relay, c->name, name) && route_find(&s->w->routes, name, &route);
  /* A name that is AWAY after a handover has no owner yet: it is not running for anybody. */
  struct trust_facts f = {.action = TRUST_CONNECT,
                          .draining = drain_begun(s->w->relay) && !c->count,
                          .running = known && route.state != ROUTE_GONE && route.owner[0],
                          .owned_by_other = known && strcmp(route.owner, s->device) != 0,
                          .is_private = route.kind == ROUTE_PRIVATE};
  struct trust v = trust_allows(&f);
  int err = v.err;
  if (err)
    err_set(&e, err, v.hint, "%s", v.reason);
  for (uint32_t i = 0; !err && i < c->count && i < LIMIT_CONNECTS; i++)
    if ((err = join_private(s, name, c->id + i)))
      err_set(&e, err, NULL, "the relay cannot open a stream: %s", beam_strerror(err));
  if (err) {
    if (err == BEAM_ERR_DENIED)
      note(s, "connect.refused", name, v.reason);
    send_error(s, c->id, &e);
  } else if (!c->count) {
    beam_Control m = beam_Control_init_zero;
    m.which_kind = beam_Control_bound_tag;
    m.kind.bound.id = c->id;
    str_copy(m.kind.bound.name, sizeof m.kind.bound.name, name);
    str_fmt(m.kind.bound.url, sizeof m.kind.bound.url, "private://%s", name);
    note(s, "connect", name, s->agent);
    say(s, &m);
  }
}

/* --- the link's events --- */

static void on_stream(void *user, struct stream *st) {
  (void)user;
  stream_close(st, BEAM_ERR_REFUSED); /* an agent may not open streams */
}

static void close_udp(struct session *s) {
  struct tunnel *t;
  DL_FOREACH(s->tunnels, t) {
    udp_port_close(t->udp);
  }
}

static void on_control(void *user, const beam_Control *m) {
  struct session *s = user;
  switch (m->which_kind) {
  case beam_Control_bind_tag:
    on_bind(s, &m->kind.bind);
    break;
  case beam_Control_unbind_tag:
    on_unbind(s, &m->kind.unbind);
    break;
  case beam_Control_connect_tag:
    on_connect(s, &m->kind.connect);
    break;
  case beam_Control_drain_tag:
    s->moved = true;
    if (drain_begun(s->w->relay)) { /* visitors that are still on us have no other way */
      close_udp(s);                 /* the relay that it moved to has the port by now */
    } else {
      atomic_store(&s->load->draining, true);
      link_drain(s->link);
    }
    break;
  default:
    break; /* quotas, statistics and what newer agents say */
  }
}

static void on_closed(void *user, int reason) {
  session_end(user, reason);
}

static void on_draining(void *user) {
  struct session *s = user;
  atomic_store(&s->load->draining, true);
}

static const struct link_events events = {
    .stream = on_stream, .control = on_control, .closed = on_closed, .draining = on_draining};

/* --- how busy it is --- */

enum {
  GAUGE_MS = 100
}; /* what moved in the last few of these counts: a bulk transfer is known after the first */

static void on_gauge(void *arg) {
  struct session *s = arg;
  uint64_t lately = atomic_load(&s->load->bytes) / 2, moved = s->link->moved - s->counted;
  s->counted = s->link->moved;
  lately = moved + link_queued(s->link) > lately ? moved + link_queued(s->link) : lately;
  atomic_store(&s->load->bytes, lately);
  atomic_store(&s->load->streams, s->link->streams);
  if ((s->link->streams || lately) && timer_start(&s->gauge, GAUGE_MS))
    log_limited(BEAM_LOG_WARN, "session", "out of memory: a link's load is not known any more");
}

/* A stream is opened: from now on it is looked at, until it is quiet. */
static void gauge(struct session *s) {
  atomic_store(&s->load->streams, s->link->streams);
  if (!timer_set(&s->gauge) && timer_start(&s->gauge, GAUGE_MS))
    log_limited(BEAM_LOG_WARN, "session", "out of memory: a link's load is not known");
}

/* --- greeting --- */

static int decide(void *user, struct link *k, const struct greet_peer *peer, uint8_t session[16],
                  struct beam_error *why) {
  (void)k;
  struct session *s = user;
  struct relay *r = s->w->relay;
  const struct settings *now = settings_now(r);
  key_id_of(s->device, peer->device_key);
  struct trust_facts f = {.action = TRUST_HELLO,
                          .relay_public = r->beyond_loopback,
                          .open = now->conf.open,
                          .tokens_set = now->tokens != NULL,
                          .proof_ok = true,
                          .version_ok = true,
                          .draining = drain_begun(r),
                          .token_given = peer->token[0] != 0,
                          .token_ok = now->tokens && tokens_match(now->tokens, peer->token),
                          .sessions = (unsigned)atomic_load(&r->sessions_now)};
  struct trust v = trust_allows(&f);
  if (!v.err) {
    random_bytes(session, 16);
    memcpy(s->resume, session, 16);
    return 0;
  }
  err_set(why, v.err, v.hint, "%s", v.reason);
  note(s, "hello.refused", s->addr, v.reason);
  atomic_fetch_add(&r->refused, 1);
  return v.err;
}

static void on_greeted(void *user, struct link *k, int err, const struct beam_error *why,
                       const struct greet_peer *peer) {
  struct session *s = user;
  if (err) {
    log_limited(BEAM_LOG_WARN, "session", "agent refused from=%s code=%s: %s", s->addr, beam_err_code(err),
                why->what);
    relay_event(s->w->relay, "refused", NULL, s->addr, why->what);
    session_end(s, err);
    return;
  }
  (void)k;
  str_copy(s->agent, sizeof s->agent, peer->agent);
  link_own(s->link, &events, s);
  s->up = true;
  metric_link(s->link->ops->transport, 1);
  DL_DELETE(s->w->greeting, s);
  HASH_ADD(hh, s->w->sessions, id, sizeof s->id, s);
  atomic_fetch_add(&s->w->relay->sessions_now, 1);
  log_info("session", "agent up device=%s from=%s agent=%s", s->device, s->addr, s->agent);
  note(s, "hello", s->addr, s->agent);
  relay_event(s->w->relay, "session_up", NULL, s->agent, NULL);
}

void session_start(struct worker *w, struct link *k, const char *addr, const struct sockaddr_storage *peer) {
  struct relay *r = w->relay;
  bool admitted = admit_enter(w->relay->admit, peer, settings_now(w->relay)->conf.visitor_connections);
  struct session *s = admitted ? calloc(1, sizeof *s) : NULL;
  if (!s) {
    if (admitted)
      admit_leave(w->relay->admit, peer);
    link_close(k, admitted ? BEAM_ERR_NOMEM : BEAM_ERR_LIMIT);
    return;
  }
  s->load = route_load_new();
  if (!s->load) {
    free(s);
    admit_leave(w->relay->admit, peer);
    link_close(k, BEAM_ERR_NOMEM);
    return;
  }
  timer_init(&s->gauge, w->loop, on_gauge, s);
  s->peer = *peer;
  s->w = w;
  s->id = atomic_fetch_add(&r->session_ids, 1) + 1;
  s->link = k;
  str_copy(s->addr, sizeof s->addr, addr);
  struct greet_relay_conf conf = {.key = ca_relay_key(r->ca),
                                  .domain = r->conf.domain,
                                  .worker = w->index,
                                  .workers = r->workers_n,
                                  .decide = decide};
  memcpy(conf.relay, ca_fingerprint(r->ca), sizeof conf.relay);
  DL_APPEND(w->greeting, s);
  int err = greet_relay(k, &conf, on_greeted, s);
  if (err)
    session_end(s, err);
}

void session_accept(struct worker *w, struct stream *st, const char *addr,
                    const struct sockaddr_storage *peer) {
  uint8_t exporter[TLS_EXPORT_BYTES];
  struct link *k;
  int err = tls_exporter(st, exporter);
  if (err)
    stream_close(st, err);
  else if (!link_h2_new(st, LINK_RELAY, exporter, &k))
    session_start(w, k, addr, peer);
}

static void session_end(struct session *s, int reason) {
  struct relay *r = s->w->relay;
  metric_end(METRIC_ENDS_LINK, reason);
  while (s->tunnels)
    tunnel_end(s->tunnels, ROUTE_AWAY, beam_strerror(reason));
  if (s->up) {
    metric_link(s->link->ops->transport, -1);
    HASH_DEL(s->w->sessions, s);
    atomic_fetch_sub(&r->sessions_now, 1);
    log_info("session", "agent down device=%s reason=%s", s->device, beam_strerror(reason));
    relay_event(r, "session_down", NULL, s->agent, beam_strerror(reason));
  } else {
    DL_DELETE(s->w->greeting, s);
  }
  timer_stop(&s->gauge);
  route_load_unref(s->load);
  link_close(s->link, reason);
  admit_leave(r->admit, &s->peer);
  free(s);
}

/* --- for the other rooms --- */

int session_open(struct worker *w, uint64_t id, struct stream **out) {
  struct session *s = find(w, id);
  int err = s ? link_open(s->link, out) : BEAM_ERR_NOT_FOUND;
  if (!err)
    gauge(s);
  return err;
}

bool session_view(struct worker *w, uint64_t id, struct session_view *out) {
  struct session *s = find(w, id);
  if (s)
    *out = (struct session_view){
        s->device, s->agent, s->addr, s->link->ops->transport, s->link->streams, greet_rtt_ms(s->link)};
  return s != NULL;
}

void session_drain_all(struct worker *w, uint32_t after_ms, const char *to) {
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_drain_tag;
  m.kind.drain.after_ms = after_ms;
  str_copy(m.kind.drain.to, sizeof m.kind.drain.to, to);
  struct session *s, *next;
  HASH_ITER(hh, w->sessions, s, next) {
    say(s, &m);
  }
}

unsigned session_staying(struct worker *w) {
  unsigned n = 0;
  struct session *s, *next;
  HASH_ITER(hh, w->sessions, s, next) {
    n += !s->moved;
  }
  return n;
}

void session_end_all(struct worker *w, int reason) {
  while (w->greeting)
    session_end(w->greeting, reason);
  struct session *s, *next;
  HASH_ITER(hh, w->sessions, s, next) {
    session_end(s, reason);
  }
}
