#include "agent/agent.h"

#include <stdlib.h>
#include <string.h>

#include "agent/entry.h"
#include "agent/home.h"
#include "agent/local.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "identity/key.h"

struct agent {
  struct loop *loop;
  struct net *net;
  beam_tunnel *self;
  struct beam_tunnel_config conf; /* strings are our own copies */
  struct key *device;
  struct home *home;
  struct local *local;
  struct entry *entry; /* BEAM_TUNNEL_ENTRY */
  struct net_watch *watch;
  /* what info shows */
  char name[256], url[512], plain_url[512], dashboard[512];
  uint64_t requests, bytes_in, bytes_out;
  uint16_t public_port;
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

void agent_info(struct agent *a, struct beam_tunnel_info *out) {
  struct home_view v;
  home_view(a->home, &v);
  uint64_t now = loop_now(a->loop);
  struct beam_tunnel_info i = {.size = out->size,
                               .state = v.state,
                               .name = a->name[0] ? a->name : NULL,
                               .url = a->url[0] ? a->url : NULL,
                               .plain_url = a->plain_url[0] ? a->plain_url : NULL,
                               .dashboard = a->dashboard[0] ? a->dashboard : NULL,
                               .relay = v.relay,
                               .relay_id = v.relay_id,
                               .transport = v.transport,
                               .since_ms = now - v.state_since,
                               .requests = a->requests,
                               .bytes_in = a->bytes_in,
                               .bytes_out = a->bytes_out,
                               .reconnects = v.reconnects,
                               .kind = a->conf.kind,
                               .public_port = a->public_port,
                               .transport_reason = v.reason,
                               .transport_since_ms = v.transport ? now - v.transport_since : 0};
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

/* --- what the home asks and tells --- */

static int fill_connect(struct agent *a, beam_Control *m, uint32_t id, uint32_t count) {
  m->which_kind = beam_Control_connect_tag;
  m->kind.connect.id = id;
  m->kind.connect.count = count;
  return str_copy(m->kind.connect.name, sizeof m->kind.connect.name, a->conf.name) ? 0 : BEAM_ERR_NAME;
}

static int on_ask(void *user, struct home *h, beam_Control *m) {
  (void)h;
  struct agent *a = user;
  if (a->entry) /* no streams yet: may we, and is it there? */
    return fill_connect(a, m, HOME_BIND, 0);
  m->which_kind = beam_Control_bind_tag;
  beam_Bind *b = &m->kind.bind;
  b->id = HOME_BIND;
  b->kind = (beam_TunnelKind)a->conf.kind;
  b->port = a->conf.remote_port;
  /* After the first time ask for the very name that was given, so that a reconnect never changes it. */
  const char *name = a->name[0] ? a->name : a->conf.name ? a->conf.name : "";
  if (!str_copy(b->name, sizeof b->name, name))
    return BEAM_ERR_NAME;
  b->takeover = a->conf.takeover != 0;
  b->local_port = a->conf.local_port;
  str_copy(b->framework, sizeof b->framework, a->conf.framework);
  return 0;
}

static void on_bound(void *user, struct home *h, const beam_Bound *b) {
  (void)h;
  struct agent *a = user;
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
}

static void on_changed(void *user, struct home *h, const struct beam_error *why) {
  (void)h;
  struct agent *a = user;
  if (why)
    a->tell_error = *why;
  else
    a->tell_error.code = 0;
  loop_soon(a->loop, &a->tell);
}

static void on_stream(void *user, struct home *h, struct stream *s) {
  (void)h;
  local_serve(((struct agent *)user)->local, s);
}

static void on_refused(void *user, struct home *h, uint32_t id, int code) {
  (void)h;
  struct agent *a = user;
  if (a->entry)
    entry_refused(a->entry, id, code);
}

static void on_network(void *user, int what) {
  home_network_changed(((struct agent *)user)->home, what);
}

static const struct home_owner owner = {on_ask, on_bound, on_changed, on_stream, on_refused};

/* --- the near end of a private tunnel --- */

static int on_want(void *user, uint32_t id, uint32_t count) {
  struct agent *a = user;
  beam_Control m = beam_Control_init_zero;
  int err = fill_connect(a, &m, id, count);
  return err ? err : home_send(a->home, &m);
}

static void on_peer(void *user, struct stream *s, const beam_StreamOpen *open) {
  entry_serve(((struct agent *)user)->entry, s, open);
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
  key_free(a->device);
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

static int prepare(struct agent *a, struct beam_error *err) {
  int e = device_load(a->conf.data_dir, &a->device, err);
  struct home_conf hc = {.reach = {.loop = a->loop,
                                   .net = a->net,
                                   .relay = a->conf.relay,
                                   .transport = a->conf.transport,
                                   .cubic = a->conf.congestion == BEAM_CONGESTION_CUBIC,
                                   .proxy = a->conf.proxy,
                                   .data_dir = a->conf.data_dir,
                                   .relay_ca = a->conf.relay_ca,
                                   .token = a->conf.token},
                         .owner = &owner,
                         .user = a};
  hc.reach.device = a->device;
  if (!e)
    e = home_new(&hc, &a->home, err);
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
  int e = copy_strings(a, config);
  if (!e)
    e = prepare(a, err);
  if (!e)
    e = home_start(a->home);
  if (!e)
    e = net_watch(net, loop, on_network, a, &a->watch);
  if (e) {
    home_close(a->home, false);
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
  a->conf.on_state = NULL;
  a->conf.on_request = NULL;
  net_unwatch(a->net, a->watch);
  home_close(a->home, !a->entry);
  task_cancel(&a->tell);
  entry_close(a->entry);
  local_close(a->local);
  agent_free(a);
}
