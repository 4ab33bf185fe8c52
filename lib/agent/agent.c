#include "agent/agent.h"

#include <stdlib.h>
#include <string.h>

#include "agent/entry.h"
#include "agent/home.h"
#include "agent/local.h"
#include "agent/target.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "http/cache.h"
#include "identity/key.h"

/* One of its relays, and what BOUND said there. */
struct spot {
  struct agent *a;
  unsigned index;
  struct home *home;
  char *relay_ca;
  bool asked; /* BIND is sent, its answer is not there */
  enum beam_tunnel_state was;
  char name[256], url[512], plain_url[512], dashboard[512];
  uint16_t port;
  struct beam_error why; /* code 0: nothing is wrong there */
};

struct agent {
  struct loop *loop;
  struct net *net;
  beam_tunnel *self;
  struct policy *policy;          /* the owner's rules */
  struct beam_tunnel_config conf; /* strings are our own copies */
  struct key *device;
  struct target target; /* the local service */
  struct spot spots[LIMIT_AGENT_RELAYS];
  unsigned spots_n;
  struct local *local;
  struct net_watch *watch;
  struct entry *entry;  /* BEAM_TUNNEL_ENTRY */
  struct spot *through; /* ENTRY: where its connections are asked for */
  enum beam_tunnel_state state;
  uint64_t state_since;
  bool once_active;
  const struct spot *named; /* the last one that was bound: others are asked for the same name */
  uint64_t requests, bytes_in, bytes_out;
  /* the callback that is due */
  struct loop_task tell;
  struct beam_error tell_error;
};

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

/* The one that info speaks of: the first that is up, else the first that still tries. */
static struct spot *foremost(struct agent *a) {
  struct home_view v;
  struct spot *best = NULL;
  for (unsigned i = 0; i < a->spots_n; i++) {
    home_view(a->spots[i].home, &v);
    if (v.state == BEAM_TUNNEL_ACTIVE)
      return &a->spots[i];
    if (!best && v.state != BEAM_TUNNEL_CLOSED)
      best = &a->spots[i];
  }
  return best ? best : &a->spots[0];
}

static const char *or_null(const char *text) {
  return text[0] ? text : NULL;
}

void agent_info(struct agent *a, struct beam_tunnel_info *out) {
  struct home_view v;
  const struct spot *p = foremost(a), *bound = p->name[0] || !a->named ? p : a->named;
  uint64_t now = loop_now(a->loop);
  unsigned reconnects = 0;
  for (unsigned i = 0; i < a->spots_n; i++) {
    home_view(a->spots[i].home, &v);
    reconnects += v.reconnects;
  }
  home_view(p->home, &v);
  struct beam_tunnel_info i = {.size = out->size,
                               .state = a->state,
                               .name = or_null(bound->name),
                               .url = or_null(bound->url),
                               .plain_url = or_null(bound->plain_url),
                               .dashboard = or_null(bound->dashboard),
                               .relay = v.relay,
                               .relay_id = v.relay_id,
                               .transport = v.transport,
                               .since_ms = now - a->state_since,
                               .requests = a->requests,
                               .bytes_in = a->bytes_in,
                               .bytes_out = a->bytes_out,
                               .reconnects = reconnects,
                               .kind = a->conf.kind,
                               .public_port = bound->port,
                               .transport_reason = v.reason,
                               .transport_since_ms = v.transport ? now - v.transport_since : 0};
  memcpy(out, &i, out->size < sizeof i ? out->size : sizeof i);
}

int agent_cache_info(struct agent *a, struct beam_cache_info *out) {
  struct cache *cache = policy_cache(a->policy);
  struct cache_counts n;
  if (!cache)
    return BEAM_ERR_NOT_FOUND;
  cache_count(cache, &n);
  struct beam_cache_info i = {.size = out->size,
                              .hits = n.hits,
                              .stale = n.stale,
                              .misses = n.misses,
                              .bypassed = n.bypassed,
                              .revalidated = n.revalidated,
                              .evicted = n.evicted,
                              .bytes = n.bytes,
                              .responses = n.responses};
  memcpy(out, &i, out->size < sizeof i ? out->size : sizeof i);
  return 0;
}

int agent_purge(struct agent *a, const char *path) {
  struct cache *cache = policy_cache(a->policy);
  if (!cache)
    return BEAM_ERR_NOT_FOUND;
  cache_purge(cache, path);
  return 0;
}

int agent_link_info(struct agent *a, unsigned index, struct beam_link_info *out) {
  struct home_view v;
  struct home_link_view k;
  uint64_t now = loop_now(a->loop);
  for (unsigned i = 0; i < a->spots_n; i++) {
    const struct spot *p = &a->spots[i];
    home_view(p->home, &v);
    if (index >= (v.links ? v.links : 1)) {
      index -= v.links ? v.links : 1;
      continue;
    }
    struct beam_link_info l = {.size = out->size,
                               .relay = v.relay,
                               .relay_id = v.relay_id,
                               .url = or_null(p->url),
                               .state = v.state,
                               .since_ms = now - v.state_since,
                               .why = p->why.code ? p->why.what : NULL};
    if (home_link_view(p->home, index, &k)) {
      l.relay = k.relay;
      l.transport = k.transport;
      l.transport_reason = k.reason;
      l.since_ms = now - k.since;
      l.streams = k.streams;
      l.draining = k.draining;
    }
    memcpy(out, &l, out->size < sizeof l ? out->size : sizeof l);
    return 0;
  }
  return BEAM_ERR_NOT_FOUND;
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
  span_copy(method, sizeof method, r->method);
  span_copy(path, sizeof path, (struct span){r->target.p, n});
  span_copy(host, sizeof host, r->authority);
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

/* --- what the home asks and tells --- */

static int fill_connect(struct agent *a, beam_Control *m, uint32_t id, uint32_t count) {
  m->which_kind = beam_Control_connect_tag;
  m->kind.connect.id = id;
  m->kind.connect.count = count;
  return str_copy(m->kind.connect.name, sizeof m->kind.connect.name, a->conf.name) ? 0 : BEAM_ERR_NAME;
}

/* Its public port is its name. */
static bool has_port(const struct agent *a) {
  return a->conf.kind == BEAM_TUNNEL_TCP || a->conf.kind == BEAM_TUNNEL_UDP;
}

/* Whoever asks without a name gets one drawn: another must not do the same before it is known which. */
static bool must_wait(const struct spot *p) {
  const struct agent *a = p->a;
  bool by_port = has_port(a);
  if (a->named || (by_port ? a->conf.remote_port != 0 : a->conf.name && *a->conf.name))
    return false;
  for (unsigned i = 0; i < a->spots_n; i++)
    if (&a->spots[i] != p && a->spots[i].asked)
      return true;
  return false;
}

/* After the first time ask for the very name that was given, so that a reconnect never changes it; at another relay, whose domain may be another, for
 * its first label, or the same port. */
static int wanted(const struct spot *p, beam_Bind *b) {
  const struct agent *a = p->a;
  bool by_port = has_port(a);
  b->port = a->conf.remote_port;
  const char *name = p->name[0] ? p->name : a->named && !by_port ? a->named->name : a->conf.name;
  if (!p->name[0] && a->named && by_port)
    b->port = a->named->port;
  if (name && !str_copy(b->name, sizeof b->name, name))
    return BEAM_ERR_NAME;
  if (!p->name[0] && a->named)
    b->name[strcspn(b->name, ".")] = 0;
  return 0;
}

static int on_ask(void *user, struct home *h, beam_Control *m) {
  (void)h;
  struct spot *p = user;
  struct agent *a = p->a;
  if (a->entry) /* no streams yet: may we, and is it there? */
    return fill_connect(a, m, HOME_BIND, 0);
  if (must_wait(p))
    return BEAM_AGAIN;
  m->which_kind = beam_Control_bind_tag;
  beam_Bind *b = &m->kind.bind;
  b->id = HOME_BIND;
  b->kind = (beam_TunnelKind)a->conf.kind;
  int err = wanted(p, b);
  if (err)
    return err;
  b->takeover = a->conf.takeover != 0;
  b->local_port = a->target.port;
  str_copy(b->framework, sizeof b->framework, a->conf.framework);
  p->asked = true;
  return 0;
}

/* The name is known, or whoever asked for one failed: those that waited for it ask now. */
static void answered(struct spot *p) {
  struct agent *a = p->a;
  if (!p->asked)
    return;
  p->asked = false;
  for (unsigned i = 0; i < a->spots_n; i++)
    if (&a->spots[i] != p)
      home_bind(a->spots[i].home);
}

static void on_bound(void *user, struct home *h, const beam_Bound *b) {
  (void)h;
  struct spot *p = user;
  struct agent *a = p->a;
  str_copy(p->name, sizeof p->name, b->name);
  str_copy(p->url, sizeof p->url, b->url);
  str_copy(p->plain_url, sizeof p->plain_url, b->plain_url);
  str_copy(p->dashboard, sizeof p->dashboard, b->dashboard);
  p->port = (uint16_t)b->port;
  p->why.code = 0;
  a->named = p;
  local_bind(a->local, p->index, p->name);
  if (a->entry)
    str_fmt(p->url, sizeof p->url, "tcp://%s:%u", a->conf.local_host, a->conf.local_port);
  if (a->entry && a->through == p)
    entry_link(a->entry);
  answered(p);
}

/* ENTRY: one relay is as good as another, so it stays with the one it has until that is lost. */
static void choose_through(struct agent *a) {
  struct home_view v;
  if (a->through)
    home_view(a->through->home, &v);
  if (a->through && v.state == BEAM_TUNNEL_ACTIVE)
    return;
  struct spot *p = foremost(a);
  home_view(p->home, &v);
  a->through = v.state == BEAM_TUNNEL_ACTIVE ? p : NULL;
  if (a->through)
    entry_link(a->entry);
}

/* One relay that is up is enough; it is over when none is left that could be. */
static enum beam_tunnel_state sum(const struct agent *a) {
  unsigned closed = 0;
  struct home_view v;
  for (unsigned i = 0; i < a->spots_n; i++) {
    home_view(a->spots[i].home, &v);
    if (v.state == BEAM_TUNNEL_ACTIVE)
      return BEAM_TUNNEL_ACTIVE;
    closed += v.state == BEAM_TUNNEL_CLOSED;
  }
  return closed == a->spots_n ? BEAM_TUNNEL_CLOSED
         : a->once_active     ? BEAM_TUNNEL_RECONNECTING
                              : BEAM_TUNNEL_CONNECTING;
}

static void on_changed(void *user, struct home *h, const struct beam_error *why) {
  struct spot *p = user;
  struct agent *a = p->a;
  struct home_view v;
  home_view(h, &v);
  if (why)
    p->why = *why;
  if (v.state != BEAM_TUNNEL_ACTIVE)
    answered(p);
  enum beam_tunnel_state state = sum(a);
  a->once_active = a->once_active || state == BEAM_TUNNEL_ACTIVE;
  if (state != a->state)
    a->state_since = loop_now(a->loop);
  else if (state == BEAM_TUNNEL_ACTIVE && v.state == p->was && v.state != BEAM_TUNNEL_ACTIVE)
    return; /* one that is down tries again and again: no news while another serves */
  a->state = state;
  p->was = v.state;
  if (v.state == BEAM_TUNNEL_CLOSED && state != BEAM_TUNNEL_CLOSED)
    log_warn("agent", "goes on without relay=%s: %s", v.relay, p->why.what);
  if (a->entry)
    choose_through(a);
  if (why && state != BEAM_TUNNEL_ACTIVE)
    a->tell_error = *why;
  else
    a->tell_error.code = 0;
  loop_soon(a->loop, &a->tell);
}

static void on_stream(void *user, struct home *h, struct stream *s) {
  (void)h;
  struct spot *p = user;
  local_serve(p->a->local, p->index, s);
}

static void on_refused(void *user, struct home *h, uint32_t id, int code) {
  (void)h;
  struct spot *p = user;
  if (p->a->entry && p == p->a->through)
    entry_refused(p->a->entry, id, code);
}

static void on_network(void *user, int what) {
  struct agent *a = user;
  for (unsigned i = 0; i < a->spots_n; i++)
    home_network_changed(a->spots[i].home, what);
}

static bool on_elsewhere(void *user, struct home *h, const char *relay) {
  (void)h;
  const struct spot *p = user;
  struct home_view v;
  for (const struct spot *q = p->a->spots; q < p->a->spots + p->a->spots_n; q++) {
    home_view(q->home, &v);
    if (q != p && !strcmp(v.relay, relay))
      return true;
  }
  return false;
}

static const struct home_owner owner = {on_ask, on_bound, on_changed, on_stream, on_refused, on_elsewhere};

/* --- the near end of a private tunnel --- */

static int on_want(void *user, uint32_t id, uint32_t count) {
  struct agent *a = user;
  beam_Control m = beam_Control_init_zero;
  int err = fill_connect(a, &m, id, count);
  return err ? err : a->through ? home_send(a->through->home, &m) : BEAM_AGAIN;
}

static void on_peer(void *user, struct stream *s, const beam_StreamOpen *open) {
  entry_serve(((struct agent *)user)->entry, s, open);
}

/* --- life --- */

static int copy_strings(struct agent *a, const struct beam_tunnel_config *c) {
  a->conf = *c;
  const char **fields[] = {&a->conf.relay,
                           &a->conf.relay_ca,
                           &a->conf.token,
                           &a->conf.name,
                           &a->conf.local_host,
                           &a->conf.data_dir,
                           &a->conf.host_header,
                           &a->conf.framework,
                           &a->conf.transport,
                           &a->conf.proxy,
                           &a->conf.upstream,
                           &a->conf.upstream_ca,
                           &a->conf.upstream_protocol,
                           &a->conf.folder,
                           &a->conf.fallback};
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
  const char *fields[] = {a->conf.relay,
                          a->conf.relay_ca,
                          a->conf.token,
                          a->conf.name,
                          a->conf.local_host,
                          a->conf.data_dir,
                          a->conf.host_header,
                          a->conf.framework,
                          a->conf.transport,
                          a->conf.proxy,
                          a->conf.upstream,
                          a->conf.upstream_ca,
                          a->conf.upstream_protocol,
                          a->conf.folder,
                          a->conf.fallback};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    free((void *)fields[i]);
  for (unsigned i = 0; i < LIMIT_AGENT_RELAYS; i++)
    free(a->spots[i].relay_ca);
  key_free(a->device);
  policy_unref(a->policy);
  free(a);
}

static int open_entry(struct agent *a, struct beam_error *err) {
  struct entry_conf c = {.loop = a->loop,
                         .net = a->net,
                         .host = a->conf.local_host,
                         .port = a->conf.local_port,
                         .ask = on_want,
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

/* --- several relays: "a.example,b.example:8443" --- */

static unsigned parts_of(const char *list) {
  unsigned n = list && *list ? 1 : 0;
  for (const char *p = list; n && (p = strchr(p, ',')); p++)
    n++;
  return n;
}

/* The i-th of them, to be freed; spaces around it do not count. NULL: out of memory. */
static char *part(const char *list, unsigned i) {
  for (; i; i--)
    list = strchr(list, ',') + 1;
  size_t n = strcspn(list, ",");
  for (; n && *list == ' '; n--)
    list++;
  while (n && list[n - 1] == ' ')
    n--;
  char *one = malloc(n + 1);
  if (one)
    str_fmt(one, n + 1, "%.*s", (int)n, list);
  return one;
}

static int add_spot(struct agent *a, const char *relay, struct beam_error *err) {
  struct spot *p = &a->spots[a->spots_n];
  *p = (struct spot){.a = a, .index = a->spots_n, .relay_ca = p->relay_ca};
  struct home_conf hc = {.reach = {.loop = a->loop,
                                   .net = a->net,
                                   .relay = relay,
                                   .transport = a->conf.transport,
                                   .cubic = a->conf.congestion == BEAM_CONGESTION_CUBIC,
                                   .proxy = a->conf.proxy,
                                   .data_dir = a->conf.data_dir,
                                   .relay_ca = p->relay_ca,
                                   .device = a->device,
                                   .token = a->conf.token},
                         .owner = &owner,
                         .user = p,
                         .links = a->conf.kind == BEAM_TUNNEL_ENTRY ? 1 : a->conf.links};
  int e = home_new(&hc, &p->home, err);
  if (e)
    return e;
  a->spots_n++;
  struct home_view mine, other;
  home_view(p->home, &mine);
  for (struct spot *q = a->spots; q < p; q++) {
    home_view(q->home, &other);
    if (!strcmp(mine.relay, other.relay))
      return err_set(err, BEAM_ERR_INVALID, "name each relay once", "the relay %s is given twice",
                     mine.relay);
  }
  return 0;
}

static int add_spots(struct agent *a, struct beam_error *err) {
  unsigned n = parts_of(a->conf.relay), cas = n > 1 ? parts_of(a->conf.relay_ca) : !!a->conf.relay_ca;
  if (n > LIMIT_AGENT_RELAYS)
    return err_set(err, BEAM_ERR_LIMIT, NULL, "more than %u relays", LIMIT_AGENT_RELAYS);
  if (cas > 1 && cas != n)
    return err_set(err, BEAM_ERR_INVALID, "give one CA for all relays, or one for each",
                   "%u relays and %u CAs", n, cas);
  int e = 0;
  for (unsigned i = 0; !e && i < n; i++) {
    char *relay = part(a->conf.relay, i);
    a->spots[i].relay_ca = !cas    ? NULL
                           : n > 1 ? part(a->conf.relay_ca, cas > 1 ? i : 0)
                                   : str_dup(a->conf.relay_ca);
    e = relay && (!cas || a->spots[i].relay_ca) ? add_spot(a, relay, err) : BEAM_ERR_NOMEM;
    free(relay);
  }
  return e;
}

static int find_target(struct agent *a, struct beam_error *err) {
  if (a->conf.folder)
    return target_folder(a->conf.folder, &a->target, err);
  if (a->conf.upstream)
    return target_parse(a->conf.upstream, &a->target, err);
  const char *protocol = a->conf.upstream_protocol;
  return target_of(a->conf.local_host, a->conf.local_port, protocol && !strcmp(protocol, "https"), &a->target)
             ? err_set(err, BEAM_ERR_INVALID, NULL, "the local host's name is too long")
             : 0;
}

static int prepare(struct agent *a, struct beam_error *err) {
  int e = find_target(a, err);
  if (!e)
    e = device_load(a->conf.data_dir, &a->device, err);
  if (!e)
    e = add_spots(a, err);
  struct local_conf lc = {.loop = a->loop,
                          .net = a->net,
                          .host = a->target.host,
                          .port = a->target.port,
                          .authority = a->target.authority,
                          .tls = a->target.tls,
                          .insecure = a->conf.upstream_insecure != 0,
                          .ca = a->conf.upstream_ca,
                          .protocol = a->conf.upstream_protocol,
                          .folder = a->conf.folder,
                          .fallback = a->conf.fallback,
                          .host_header = a->conf.host_header,
                          .kind = (int)a->conf.kind,
                          .proxy_protocol = a->conf.proxy_protocol,
                          .finished = on_finished,
                          .peer = a->conf.kind == BEAM_TUNNEL_ENTRY ? on_peer : NULL,
                          .user = a};
  if (!e && lc.peer)
    e = open_entry(a, err);
  if (!e)
    e = policy_new(a->conf.policy, &a->policy, err);
  lc.policy = a->policy;
  a->conf.policy = NULL; /* the caller's, who may let it go now */
  if (!e)
    e = local_new(&lc, &a->local, err);
  return e;
}

static void close_all(struct agent *a, bool unbind) {
  if (a->watch)
    net_unwatch(a->net, a->watch);
  for (unsigned i = 0; i < a->spots_n; i++)
    home_close(a->spots[i].home, unbind);
  task_cancel(&a->tell);
  entry_close(a->entry);
  local_close(a->local);
  agent_free(a);
}

int agent_new(struct loop *loop, struct net *net, const struct beam_tunnel_config *config, beam_tunnel *self,
              struct agent **out, struct beam_error *err) {
  struct agent *a = calloc(1, sizeof *a);
  if (!a)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  a->loop = loop;
  a->net = net;
  a->self = self;
  a->state_since = loop_now(loop);
  a->tell_error = (struct beam_error)BEAM_ERROR_INIT;
  task_init(&a->tell, tell, a);
  int e = copy_strings(a, config);
  if (!e)
    e = prepare(a, err);
  for (unsigned i = 0; !e && i < a->spots_n; i++)
    e = home_start(a->spots[i].home);
  if (!e)
    e = net_watch(net, loop, on_network, a, &a->watch);
  if (e) {
    close_all(a, false);
    return e;
  }
  *out = a;
  return 0;
}

void agent_close(struct agent *a) {
  if (!a)
    return;
  a->conf.on_state = NULL;
  a->conf.on_request = NULL;
  close_all(a, !a->entry);
}
