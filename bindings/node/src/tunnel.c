/* tunnel.c: tunnels. Everything that takes a beam_tunnel runs on the net lane. */
#include "addon.h"

#include <stdlib.h>
#include <string.h>

static const char *const kinds[] = {"http", "tcp", "tls", "udp", "private", "entry", NULL};
static const char *const states[] = {"connecting", "active", "reconnecting", "closed", NULL};
static const char *const congestions[] = {"bbr", "cubic", NULL};

static const struct field config_fields[] = {
    FIELD(beam_tunnel_config, "relay", relay, F_TEXT),
    FIELD(beam_tunnel_config, "relayCa", relay_ca, F_TEXT),
    FIELD(beam_tunnel_config, "token", token, F_TEXT),
    FIELD(beam_tunnel_config, "name", name, F_TEXT),
    FIELD(beam_tunnel_config, "host", local_host, F_TEXT),
    FIELD(beam_tunnel_config, "port", local_port, F_U16),
    FIELD(beam_tunnel_config, "dataDir", data_dir, F_TEXT),
    FIELD(beam_tunnel_config, "hostHeader", host_header, F_TEXT),
    FIELD(beam_tunnel_config, "takeover", takeover, F_FLAG),
    FIELD(beam_tunnel_config, "framework", framework, F_TEXT),
    {"kind", offsetof(struct beam_tunnel_config, kind), F_NAME, kinds},
    FIELD(beam_tunnel_config, "remotePort", remote_port, F_U16),
    FIELD(beam_tunnel_config, "proxyProtocol", proxy_protocol, F_INT),
    FIELD(beam_tunnel_config, "transport", transport, F_TEXT),
    FIELD(beam_tunnel_config, "proxy", proxy, F_TEXT),
    {"congestion", offsetof(struct beam_tunnel_config, congestion), F_NAME, congestions},
    FIELD(beam_tunnel_config, "links", links, F_U32),
    FIELD(beam_tunnel_config, "upstream", upstream, F_TEXT),
    FIELD(beam_tunnel_config, "upstreamCa", upstream_ca, F_TEXT),
    FIELD(beam_tunnel_config, "upstreamInsecure", upstream_insecure, F_FLAG),
    FIELD(beam_tunnel_config, "upstreamProtocol", upstream_protocol, F_TEXT),
    FIELD(beam_tunnel_config, "folder", folder, F_TEXT),
    FIELD(beam_tunnel_config, "fallback", fallback, F_TEXT),
    FIELD_END,
};

static const struct field policy_fields[] = {
    FIELD(beam_http_policy, "auth", auth, F_TEXT),
    FIELD(beam_http_policy, "allow", allow, F_TEXT),
    FIELD(beam_http_policy, "deny", deny, F_TEXT),
    FIELD(beam_http_policy, "rateLimit", rate_limit, F_TEXT),
    FIELD(beam_http_policy, "rateLimitTotal", rate_limit_total, F_TEXT),
    FIELD(beam_http_policy, "maxBody", max_body, F_U64),
    FIELD(beam_http_policy, "requestHeaders", request_headers, F_TEXT),
    FIELD(beam_http_policy, "responseHeaders", response_headers, F_TEXT),
    FIELD(beam_http_policy, "cors", cors, F_TEXT),
    FIELD(beam_http_policy, "noCompression", no_compression, F_FLAG),
    FIELD(beam_http_policy, "cache", cache, F_U64),
    FIELD_END,
};

static const struct field cache_fields[] = {
    FIELD(beam_cache_info, "hits", hits, F_U64),
    FIELD(beam_cache_info, "stale", stale, F_U64),
    FIELD(beam_cache_info, "misses", misses, F_U64),
    FIELD(beam_cache_info, "bypassed", bypassed, F_U64),
    FIELD(beam_cache_info, "revalidated", revalidated, F_U64),
    FIELD(beam_cache_info, "evicted", evicted, F_U64),
    FIELD(beam_cache_info, "bytes", bytes, F_U64),
    FIELD(beam_cache_info, "responses", responses, F_U64),
    FIELD_END,
};

static const struct field info_fields[] = {
    {"state", offsetof(struct beam_tunnel_info, state), F_NAME, states},
    FIELD(beam_tunnel_info, "name", name, F_TEXT),
    FIELD(beam_tunnel_info, "url", url, F_TEXT),
    FIELD(beam_tunnel_info, "plainUrl", plain_url, F_TEXT),
    FIELD(beam_tunnel_info, "dashboard", dashboard, F_TEXT),
    FIELD(beam_tunnel_info, "relay", relay, F_TEXT),
    FIELD(beam_tunnel_info, "relayId", relay_id, F_TEXT),
    FIELD(beam_tunnel_info, "transport", transport, F_TEXT),
    FIELD(beam_tunnel_info, "transportReason", transport_reason, F_TEXT),
    FIELD(beam_tunnel_info, "transportMs", transport_since_ms, F_U64),
    FIELD(beam_tunnel_info, "sinceMs", since_ms, F_U64),
    FIELD(beam_tunnel_info, "requests", requests, F_U64),
    FIELD(beam_tunnel_info, "bytesIn", bytes_in, F_U64),
    FIELD(beam_tunnel_info, "bytesOut", bytes_out, F_U64),
    FIELD(beam_tunnel_info, "reconnects", reconnects, F_U32),
    {"kind", offsetof(struct beam_tunnel_info, kind), F_NAME, kinds},
    FIELD(beam_tunnel_info, "publicPort", public_port, F_U16),
    FIELD_END,
};

static const struct field link_fields[] = {
    FIELD(beam_link_info, "relay", relay, F_TEXT),
    FIELD(beam_link_info, "relayId", relay_id, F_TEXT),
    FIELD(beam_link_info, "url", url, F_TEXT),
    {"state", offsetof(struct beam_link_info, state), F_NAME, states},
    FIELD(beam_link_info, "transport", transport, F_TEXT),
    FIELD(beam_link_info, "transportReason", transport_reason, F_TEXT),
    FIELD(beam_link_info, "sinceMs", since_ms, F_U64),
    FIELD(beam_link_info, "streams", streams, F_U32),
    FIELD(beam_link_info, "draining", draining, F_FLAG),
    FIELD(beam_link_info, "why", why, F_TEXT),
    FIELD_END,
};

static const struct field request_fields[] = {
    FIELD(beam_request, "method", method, F_TEXT),   FIELD(beam_request, "path", path, F_TEXT),
    FIELD(beam_request, "host", host, F_TEXT),       FIELD(beam_request, "status", status, F_U32),
    FIELD(beam_request, "ms", ms, F_DOUBLE),         FIELD(beam_request, "ttfbMs", ttfb_ms, F_DOUBLE),
    FIELD(beam_request, "bytesIn", bytes_in, F_U64), FIELD(beam_request, "bytesOut", bytes_out, F_U64),
    FIELD(beam_request, "error", error, F_TEXT),     FIELD_END,
};

struct tunnel {
  struct thing thing;
  beam_tunnel *tunnel;  /* the net lane's */
  atomic_bool listened; /* somebody wants to hear of requests */
};

/* ---- events ------------------------------------------------------------------------------------------------------- */

struct event {
  struct message message; /* first */
  struct instance *in;
  uint32_t id;
  bool is_request, failed;
  struct beam_tunnel_info info;
  struct beam_request request;
  struct beam_error error;
};

static void event_free(struct message *m) {
  struct event *ev = (struct event *)m;
  fields_free(info_fields, &ev->info);
  fields_free(request_fields, &ev->request);
  free(ev);
}

static void event_deliver(napi_env env, struct message *m) {
  struct event *ev = (struct event *)m;
  struct thing *t = thing_find(ev->in, ev->id, THING_TUNNEL);
  if (t && ev->is_request) {
    napi_value lost = NULL;
    napi_create_uint32(env, thing_delivered(t), &lost);
    emit(env, ev->id, "request", fields_write(env, request_fields, &ev->request), lost);
  } else if (t) {
    emit(env, ev->id, "state", fields_write(env, info_fields, &ev->info),
         ev->failed ? error_write(env, &ev->error) : NULL);
  }
  event_free(m);
}

static struct event *event_new(struct tunnel *t) {
  struct event *ev = calloc(1, sizeof *ev);
  if (!ev)
    return NULL;
  ev->message.deliver = event_deliver;
  ev->message.drop = event_free;
  ev->in = t->thing.in;
  ev->id = t->thing.id;
  return ev;
}

static void on_state(void *user, beam_tunnel *tunnel, const struct beam_tunnel_info *info,
                     const struct beam_error *error) {
  struct tunnel *t = user;
  struct event *ev = event_new(t);
  (void)tunnel;
  if (!ev)
    return;
  ev->info = *info;
  fields_own(info_fields, &ev->info);
  ev->failed = error != NULL;
  if (error)
    ev->error = *error;
  send_message(ev->in, &ev->message);
}

static void on_request(void *user, beam_tunnel *tunnel, const struct beam_request *r) {
  struct tunnel *t = user;
  (void)tunnel;
  if (!atomic_load(&t->listened) || !thing_may_send(&t->thing))
    return;
  struct event *ev = event_new(t);
  if (!ev) {
    atomic_fetch_sub(&t->thing.waiting, 1);
    return;
  }
  ev->is_request = true;
  ev->request = *r;
  fields_own(request_fields, &ev->request);
  send_message(ev->in, &ev->message);
}

/* ---- open and close ----------------------------------------------------------------------------------------------- */

struct open_job {
  struct job job;
  struct beam_tunnel_config config;
  struct beam_http_policy policy;
};

static int open_work(struct job *job) {
  struct open_job *o = (struct open_job *)job;
  struct tunnel *t = (struct tunnel *)job->thing;
  return beam_tunnel_open(job->in->net.loop, &o->config, &t->tunnel, &job->error);
}

static void open_end(struct job *job) {
  struct open_job *o = (struct open_job *)job;
  fields_free(config_fields, &o->config);
  fields_free(policy_fields, &o->policy);
}

static int read_open(napi_env env, const struct call *c, struct open_job *o) {
  napi_valuetype type = napi_undefined;
  int err = fields_read(env, c->arg[1], config_fields, &o->config, &o->job.error);
  napi_typeof(env, c->arg[2], &type);
  if (err || type == napi_undefined)
    return err;
  o->config.policy = &o->policy;
  return fields_read(env, c->arg[2], policy_fields, &o->policy, &o->job.error);
}

/* tunnelOpen(id, config, policy): a promise, kept once the tunnel tries to connect. */
static napi_value tunnel_open(napi_env env, napi_callback_info info) {
  struct call c;
  struct beam_tunnel_config config = BEAM_TUNNEL_CONFIG_INIT;
  if (!call_open(env, info, &c))
    return NULL;
  struct open_job *o = job_new(env, sizeof *o, c.in, NULL);
  if (!o)
    return NULL;
  struct tunnel *t = calloc(1, sizeof *t);
  o->config = config;
  o->policy = (struct beam_http_policy)BEAM_HTTP_POLICY_INIT;
  o->job.work = open_work;
  o->job.settle = thing_gone_if_failed;
  o->job.end = open_end;
  int err = t ? read_open(env, &c, o) : error_set(&o->job.error, BEAM_ERR_NOMEM, NULL, "out of memory");
  if (err) {
    free(t);
    return job_refuse(env, &o->job);
  }
  o->config.on_state = on_state;
  o->config.on_request = on_request;
  o->config.user = t;
  o->job.thing = &t->thing;
  thing_add(c.in, &t->thing, call_id(env, &c), THING_TUNNEL);
  return job_start(env, &c.in->net, &o->job);
}

static int close_work(struct job *job) {
  struct tunnel *t = (struct tunnel *)job->thing;
  beam_tunnel_close(t->tunnel);
  t->tunnel = NULL;
  return 0;
}

void tunnels_end(struct instance *in) {
  for (struct thing *t = in->things; t; t = t->next) {
    if (t->kind != THING_TUNNEL)
      continue;
    beam_tunnel_close(((struct tunnel *)t)->tunnel);
    ((struct tunnel *)t)->tunnel = NULL;
  }
}

/* ---- asking ------------------------------------------------------------------------------------------------------- */

struct info_job {
  struct job job;
  struct beam_tunnel_info info;
};

static int info_work(struct job *job) {
  struct info_job *i = (struct info_job *)job;
  struct tunnel *t = (struct tunnel *)job->thing;
  if (!t->tunnel)
    return BEAM_ERR_CLOSED;
  i->info.size = sizeof i->info;
  beam_tunnel_info(t->tunnel, &i->info);
  return fields_own(info_fields, &i->info) ? 0 : BEAM_ERR_NOMEM;
}

static napi_value info_settle(napi_env env, struct job *job) {
  return job->err ? NULL : fields_write(env, info_fields, &((struct info_job *)job)->info);
}

static void info_end(struct job *job) {
  fields_free(info_fields, &((struct info_job *)job)->info);
}

enum { LINKS_SHOWN = 64 }; /* four relays with eight links, and those that drain */

struct links_job {
  struct job job;
  struct beam_link_info links[LINKS_SHOWN];
  unsigned n;
};

static int links_work(struct job *job) {
  struct links_job *l = (struct links_job *)job;
  struct tunnel *t = (struct tunnel *)job->thing;
  if (!t->tunnel)
    return BEAM_ERR_CLOSED;
  while (l->n < LINKS_SHOWN) {
    struct beam_link_info *k = &l->links[l->n];
    k->size = sizeof *k;
    if (beam_tunnel_link_info(t->tunnel, l->n, k))
      break;
    l->n++;
    if (!fields_own(link_fields, k))
      return BEAM_ERR_NOMEM;
  }
  return 0;
}

static napi_value links_settle(napi_env env, struct job *job) {
  struct links_job *l = (struct links_job *)job;
  napi_value list = NULL;
  napi_create_array_with_length(env, l->n, &list);
  for (unsigned i = 0; i < l->n; i++)
    napi_set_element(env, list, i, fields_write(env, link_fields, &l->links[i]));
  return list;
}

static void links_end(struct job *job) {
  struct links_job *l = (struct links_job *)job;
  for (unsigned i = 0; i < l->n; i++)
    fields_free(link_fields, &l->links[i]);
}

static napi_value ask(napi_env env, napi_callback_info info, size_t size, const struct job *how, bool last) {
  struct call c;
  napi_value refused;
  if (!call_open(env, info, &c))
    return NULL;
  struct job *job = job_about(env, &c, THING_TUNNEL, size, last, &refused);
  if (!job)
    return refused;
  job->work = how->work;
  job->settle = how->settle;
  job->end = how->end;
  return job_start(env, &c.in->net, job);
}

static napi_value tunnel_close(napi_env env, napi_callback_info info) {
  static const struct job how = {.work = close_work, .settle = thing_gone};
  return ask(env, info, sizeof(struct job), &how, true);
}

static napi_value tunnel_info(napi_env env, napi_callback_info info) {
  static const struct job how = {.work = info_work, .settle = info_settle, .end = info_end};
  return ask(env, info, sizeof(struct info_job), &how, false);
}

static napi_value tunnel_links(napi_env env, napi_callback_info info) {
  static const struct job how = {.work = links_work, .settle = links_settle, .end = links_end};
  return ask(env, info, sizeof(struct links_job), &how, false);
}

struct cache_job {
  struct job job;
  struct beam_cache_info info;
  char *path;
};

static int cache_work(struct job *job) {
  struct cache_job *k = (struct cache_job *)job;
  k->info.size = sizeof k->info;
  return beam_tunnel_cache_info(((struct tunnel *)job->thing)->tunnel, &k->info);
}

static napi_value cache_settle(napi_env env, struct job *job) {
  return job->err ? NULL : fields_write(env, cache_fields, &((struct cache_job *)job)->info);
}

static int purge_work(struct job *job) {
  return beam_tunnel_purge(((struct tunnel *)job->thing)->tunnel, ((struct cache_job *)job)->path);
}

static void cache_end(struct job *job) {
  free(((struct cache_job *)job)->path);
}

static napi_value tunnel_cache(napi_env env, napi_callback_info info) {
  static const struct job how = {.work = cache_work, .settle = cache_settle, .end = cache_end};
  return ask(env, info, sizeof(struct cache_job), &how, false);
}

/* tunnelPurge(id, path or undefined) */
static napi_value tunnel_purge(napi_env env, napi_callback_info info) {
  struct call c;
  napi_value refused;
  napi_valuetype type = napi_undefined;
  if (!call_open(env, info, &c))
    return NULL;
  struct cache_job *k = job_about(env, &c, THING_TUNNEL, sizeof *k, false, &refused);
  if (!k)
    return refused;
  k->job.work = purge_work;
  k->job.end = cache_end;
  napi_typeof(env, c.arg[1], &type);
  if (type != napi_undefined && text_read(env, c.arg[1], "the path", &k->path, &k->job.error))
    return job_refuse(env, &k->job);
  return job_start(env, &c.in->net, &k->job);
}

/* tunnelListen(id, on): are there listeners for requests? */
static napi_value tunnel_listen(napi_env env, napi_callback_info info) {
  struct call c;
  bool on = false;
  if (!call_open(env, info, &c) || napi_get_value_bool(env, c.arg[1], &on) != napi_ok)
    return NULL;
  struct tunnel *t = (struct tunnel *)thing_find(c.in, call_id(env, &c), THING_TUNNEL);
  if (t)
    atomic_store(&t->listened, on);
  return NULL;
}

void tunnel_methods(napi_env env, napi_value exports) {
  method(env, exports, "tunnelOpen", tunnel_open);
  method(env, exports, "tunnelClose", tunnel_close);
  method(env, exports, "tunnelInfo", tunnel_info);
  method(env, exports, "tunnelLinks", tunnel_links);
  method(env, exports, "tunnelListen", tunnel_listen);
  method(env, exports, "tunnelCache", tunnel_cache);
  method(env, exports, "tunnelPurge", tunnel_purge);
}
