#include "agent/local.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "agent/dialer.h"
#include "agent/local_flows.h"
#include "agent/raw.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "http/files.h"
#include "http/forward.h"
#include "http/frames.h"
#include "http/h1_upstream.h"
#include "http/h2_upstream.h"
#include "http/rewrite.h"
#include "wire/control.h"
#include "wire/proxyline.h"

/* A stream whose StreamOpen is being read. */
struct opening {
  struct opening *prev, *next;
  struct local *l;
  struct stream *s;
  unsigned relay; /* whose stream it is */
  struct loop_timer timer;
};

/* One HTTP exchange: who asks, and what became of it. */
struct visit {
  struct http_handler handler; /* user: this */
  struct local *l;
  char visitor[64], local[64]; /* its address, and the relay's that it came to */
  enum page refused;           /* by the owner's rules */
};

struct local {
  struct local_conf conf; /* host is our copy */
  char host_header[300];  /* "" keeps the visitor's */
  char origin[320];       /* ... as an origin */
  bool rewrites;          /* ... and is the service's own: so are Origin, Location and the like */
  char names[LIMIT_AGENT_RELAYS][256]; /* what is bound at each relay */
  struct files *files;                 /* NULL: there is a service */
  struct dialer *dialer;
  struct h1_pool *pool;
  struct h2_pool *pool2; /* NULL: HTTP/1.1 alone */
  bool grpc_only;        /* ... for requests of gRPC; else for all */
  struct opening *openings;
  struct raw *raws;          /* TCP and TLS visitors */
  struct local_flows *flows; /* UDP visitors */
  unsigned fronts;           /* exchanges that use us */
  bool closed;
};

static void maybe_free(struct local *l) {
  if (!l->closed || l->fronts)
    return;
  h2_pool_free(l->pool2);
  h1_pool_free(l->pool);
  files_free(l->files);
  dialer_free(l->dialer);
  policy_unref(l->conf.policy);
  free((void *)l->conf.host);
  free(l);
}

/* --- exchanges --- */

/* With a Host of our own the service must see itself in Origin and Referer too, and the visitor itself in what comes back. */
static int join(struct local *l, const struct rewrite_origins *o, struct http_end *front,
                struct http_end *up) {
  if (l->rewrites)
    return rewrite_join(l->conf.loop, o, front, up);
  http_join(front, up);
  return 0;
}

static int request(struct local *l, const struct http_head *h, const struct visit *v, struct http_end **up) {
  char line[PROXYLINE_MAX];
  if (l->files)
    return files_request(l->files, up);
  if (l->pool2 && (!l->grpc_only || page_is_grpc(h)))
    return h2_pool_request(l->pool2, up);
  int err = h1_pool_request(l->pool, up);
  if (err || !l->conf.proxy_protocol)
    return err;
  size_t n = proxyline_write(l->conf.proxy_protocol, v->visitor, v->local, line);
  if (n && (err = h1_request_preface(*up, line, n)))
    (*up)->ops->abort(*up, PAGE_INTERNAL);
  return err;
}

static void on_request(void *user, struct http_end *front, struct http_head *h, bool more) {
  struct visit *v = user;
  struct local *l = v->l;
  struct http_head head;
  struct http_end *up = NULL;
  struct rewrite_origins o = {0};
  char *text = NULL;
  if (policy_answer(l->conf.policy, l->conf.loop, v->visitor, front, h, &v->refused))
    return;
  if (!l->files && !l->pool2 && page_is_grpc(h)) {
    page_answer(l->conf.loop, front, h, PAGE_LOCAL_H2, NULL);
    return;
  }
  int err = forward_to_local(h, l->host_header[0] ? l->host_header : NULL, &head);
  if (!err && l->rewrites) {
    rewrite_origins(&o, h->scheme, h->authority, l->origin);
    err = rewrite_request(&o, &head, &text);
  }
  if (!err)
    err = l->closed ? BEAM_ERR_CLOSED : request(l, h, v, &up);
  if (!err && (err = join(l, &o, front, up)))
    up->ops->abort(up, PAGE_INTERNAL);
  if (!err && (err = policy_join(l->conf.policy, l->conf.loop, front, h)))
    http_send_abort(front, PAGE_INTERNAL);
  if (err)
    page_answer(l->conf.loop, front, h, l->closed ? PAGE_LINK_LOST : PAGE_INTERNAL, NULL);
  else
    http_send_head(front, &head, more);
  http_head_free(&head);
  free(text);
}

static void on_finished(void *user, const struct http_record *r) {
  struct visit *v = user;
  struct local *l = v->l;
  struct http_record record = *r;
  if (!record.failed)
    record.failed = v->refused;
  if (!l->closed && l->conf.finished)
    l->conf.finished(l->conf.user, &record);
}

static void on_gone(void *user) {
  struct visit *v = user;
  struct local *l = v->l;
  free(v);
  l->fronts--;
  maybe_free(l);
}

static void serve_http(struct local *l, struct stream *s, const beam_StreamOpen *open) {
  struct visit *v = calloc(1, sizeof *v);
  if (!v) {
    stream_close(s, BEAM_ERR_NOMEM);
    return;
  }
  v->l = l;
  v->handler =
      (struct http_handler){.request = on_request, .finished = on_finished, .user = v, .gone = on_gone};
  str_copy(v->visitor, sizeof v->visitor, open->visitor);
  str_copy(v->local, sizeof v->local, open->local);
  l->fronts++;
  if (frames_front(s, &v->handler))
    on_gone(v);
}

/* --- StreamOpen --- */

static void opening_free(struct opening *o) {
  DL_DELETE(o->l->openings, o);
  timer_stop(&o->timer);
  free(o);
}

static void opening_close(struct opening *o, int reason) {
  struct stream *s = o->s;
  opening_free(o);
  stream_close(s, reason);
}

/* TunnelKind and StreamKind have the same numbers, TUNNEL_PRIVATE being STREAM_PEER. */
static int stream_kind(const struct local *l) {
  return l->conf.peer ? (int)beam_StreamKind_STREAM_PEER : l->conf.kind;
}

static void on_readable(void *user) {
  struct opening *o = user;
  struct local *l = o->l;
  if (!l->names[o->relay][0])
    return; /* a request that waited for us came before BOUND did: local_bind() looks again */
  struct evbuffer *in = stream_input(o->s);
  size_t n = evbuffer_get_length(in);
  if (n > LIMIT_STREAM_OPEN + 8)
    n = LIMIT_STREAM_OPEN + 8;
  uint8_t *p = n ? evbuffer_pullup(in, (ev_ssize_t)n) : NULL;
  beam_StreamOpen open;
  long used = p ? stream_open_decode(p, n, &open) : 0;
  if (used == 0) {
    if (o->s->in_ended)
      opening_close(o, BEAM_ERR_TRUNCATED);
    return;
  }
  bool ours = used > 0 && (int)open.kind == stream_kind(l) && !strcmp(open.name, l->names[o->relay]);
  if (!ours) {
    log_limited(BEAM_LOG_WARN, "agent", "the relay opened a stream that was not bound: refused");
    opening_close(o, used < 0 ? (int)used : BEAM_ERR_REFUSED);
    return;
  }
  struct stream *s = o->s;
  stream_consume(s, (size_t)used);
  opening_free(o);
  if (l->conf.peer) {
    l->conf.peer(l->conf.user, s, &open);
    return;
  }
  if (open.kind == beam_StreamKind_STREAM_HTTP) {
    serve_http(l, s, &open);
    return;
  }
  if (!policy_lets_in(l->conf.policy, open.visitor)) {
    log_limited(BEAM_LOG_INFO, "agent", "visitor %s: not let in", open.visitor);
    stream_close(s, BEAM_ERR_DENIED);
    return;
  }
  if (open.kind == beam_StreamKind_STREAM_UDP) {
    local_flows_serve(l->flows, s, &open);
    return;
  }
  raw_serve(&l->raws, &l->conf, s, &open);
}

static void on_closed(void *user, int reason) {
  opening_close(user, reason);
}
static void on_slow(void *arg) {
  opening_close(arg, BEAM_ERR_TIMEOUT);
}

static const struct stream_events events = {on_readable, NULL, on_closed};

void local_serve(struct local *l, unsigned relay, struct stream *s) {
  struct opening *o = calloc(1, sizeof *o);
  if (!o) {
    stream_close(s, BEAM_ERR_NOMEM);
    return;
  }
  o->l = l;
  o->relay = relay;
  o->s = s;
  DL_APPEND(l->openings, o);
  timer_init(&o->timer, l->conf.loop, on_slow, o);
  stream_own(s, &events, o);
  if (timer_start(&o->timer, LIMIT_HELLO_MS))
    opening_close(o, BEAM_ERR_NOMEM);
}

/* --- life --- */

static void set_host_header(struct local *l, const char *how) {
  l->rewrites = !how || strcmp(how, "keep") != 0;
  if (how && !strcmp(how, "keep"))
    l->host_header[0] = 0;
  else if (how && strcmp(how, "rewrite"))
    str_copy(l->host_header, sizeof l->host_header, how);
  else
    str_copy(l->host_header, sizeof l->host_header, l->conf.authority);
  str_fmt(l->origin, sizeof l->origin, "%s://%s", l->conf.tls ? "https" : "http", l->host_header);
}

static int make(struct local *l, struct beam_error *err) {
  const struct local_conf *c = &l->conf;
  struct files_conf fc = {c->loop, c->folder, c->fallback};
  if (c->folder)
    return files_new(&fc, &l->files, err);
  struct dialer_conf dc = {.net = c->net,
                           .loop = c->loop,
                           .host = c->host,
                           .port = c->port,
                           .tls = c->tls,
                           .insecure = c->insecure,
                           .ca = c->ca};
  int e = dialer_new(&dc, &l->dialer, err);
  struct h1_pool_conf pool = {c->net, c->loop, c->host, c->port, e ? NULL : dialer_http(l->dialer)};
  if (!e)
    e = h1_pool_new(&pool, &l->pool);
  struct h2_pool_conf pool2 = {
      .loop = c->loop, .dialer = pool.dialer, .tls = c->tls, .prior = !c->tls, .h1 = l->pool};
  bool h1 = c->proxy_protocol || (c->protocol && !strcmp(c->protocol, "http1"));
  l->grpc_only = !c->tls && !(c->protocol && !strcmp(c->protocol, "h2c"));
  if (!e && !h1)
    e = h2_pool_new(&pool2, &l->pool2);
  if (!e && c->kind == beam_TunnelKind_TUNNEL_UDP)
    e = local_flows_new(c, &l->flows);
  return e;
}

int local_new(const struct local_conf *conf, struct local **out, struct beam_error *err) {
  struct local *l = calloc(1, sizeof *l);
  if (!l)
    return BEAM_ERR_NOMEM;
  l->conf = *conf;
  set_host_header(l, conf->host_header);
  policy_ref(l->conf.policy);
  /* The last exchange may end after the agent's own strings are freed. */
  int e = (l->conf.host = str_dup(conf->host)) ? make(l, err) : BEAM_ERR_NOMEM;
  l->conf.host_header = l->conf.authority = l->conf.ca = l->conf.protocol = l->conf.folder =
      l->conf.fallback = NULL;
  if (e) {
    local_close(l);
    return e;
  }
  *out = l;
  return 0;
}

int local_bind(struct local *l, unsigned relay, const char *name) {
  if (!str_copy(l->names[relay], sizeof l->names[relay], name))
    return BEAM_ERR_NAME;
  struct opening *o, *next;
  DL_FOREACH_SAFE(l->openings, o, next) {
    on_readable(o);
  }
  return 0;
}

void local_close(struct local *l) {
  if (!l)
    return;
  while (l->openings)
    opening_close(l->openings, BEAM_ERR_CLOSED);
  raw_close_all(&l->raws);
  local_flows_free(l->flows);
  l->flows = NULL;
  l->closed = true;
  maybe_free(l);
}
