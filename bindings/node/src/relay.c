/* relay.c: relays inside the process. Their calls may wait for a disk or for threads, so they run on the slow lane. */
#include "addon.h"

#include <stdlib.h>
#include <string.h>

static const char *const plains[] = {"redirect", "serve", NULL};
static const char *const congestions[] = {"bbr", "cubic", NULL};

static const struct field config_fields[] = {
    FIELD(beam_relay_config, "domain", domain, F_TEXT),
    FIELD(beam_relay_config, "controlHost", control_host, F_TEXT),
    FIELD(beam_relay_config, "listen", listen, F_TEXT),
    FIELD(beam_relay_config, "listenPlain", listen_plain, F_TEXT),
    {"plain", offsetof(struct beam_relay_config, plain), F_NAME, plains},
    FIELD(beam_relay_config, "dataDir", data_dir, F_TEXT),
    FIELD(beam_relay_config, "workers", workers, F_U32),
    FIELD(beam_relay_config, "tlsCert", tls_cert, F_TEXT),
    FIELD(beam_relay_config, "tlsKey", tls_key, F_TEXT),
    FIELD(beam_relay_config, "agentTokenFile", agent_token_file, F_TEXT),
    FIELD(beam_relay_config, "open", open, F_FLAG),
    FIELD(beam_relay_config, "portFallback", port_fallback, F_FLAG),
    FIELD(beam_relay_config, "giveDescriptors", give_descriptors, F_FLAG),
    FIELD(beam_relay_config, "tcpPorts", tcp_ports, F_TEXT),
    FIELD(beam_relay_config, "udpPorts", udp_ports, F_TEXT),
    FIELD(beam_relay_config, "udpIdleMs", udp_idle_ms, F_U32),
    FIELD(beam_relay_config, "handover", handover, F_INT),
    {"congestion", offsetof(struct beam_relay_config, congestion), F_NAME, congestions},
    FIELD(beam_relay_config, "drainTo", drain_to, F_TEXT),
    FIELD(beam_relay_config, "visitorConnections", visitor_connections, F_U32),
    FIELD(beam_relay_config, "visitorRequests", visitor_requests, F_U32),
    FIELD(beam_relay_config, "tunnelConnections", tunnel_connections, F_U32),
    FIELD(beam_relay_config, "tunnelRequests", tunnel_requests, F_U32),
    FIELD(beam_relay_config, "minBodyRate", min_body_rate, F_U32),
    FIELD(beam_relay_config, "interstitial", interstitial, F_FLAG),
    FIELD(beam_relay_config, "proxyFrom", proxy_from, F_TEXT),
    FIELD_END,
};

static const struct field info_fields[] = {
    FIELD(beam_relay_info, "domain", domain, F_TEXT),
    FIELD(beam_relay_info, "https", https, F_TEXT),
    FIELD(beam_relay_info, "http", http, F_TEXT),
    FIELD(beam_relay_info, "httpsPort", https_port, F_U16),
    FIELD(beam_relay_info, "httpPort", http_port, F_U16),
    FIELD(beam_relay_info, "caFile", ca_file, F_TEXT),
    FIELD(beam_relay_info, "caFingerprint", ca_fingerprint, F_TEXT),
    FIELD(beam_relay_info, "workers", workers, F_U32),
    FIELD(beam_relay_info, "sessions", sessions, F_U64),
    FIELD(beam_relay_info, "tunnels", tunnels, F_U64),
    FIELD(beam_relay_info, "visitors", visitors, F_U64),
    FIELD(beam_relay_info, "requests", requests, F_U64),
    FIELD_END,
};

static const struct field event_fields[] = {
    FIELD(beam_relay_event, "kind", kind, F_TEXT),
    FIELD(beam_relay_event, "name", name, F_TEXT),
    FIELD(beam_relay_event, "agent", agent, F_TEXT),
    FIELD(beam_relay_event, "reason", reason, F_TEXT),
    FIELD_END,
};

struct relay {
  struct thing thing;
  beam_relay *relay; /* the slow lane's */
};

/* ---- events: from the relay's own threads ------------------------------------------------------------------------- */

struct event {
  struct message message; /* first */
  struct instance *in;
  uint32_t id;
  struct beam_relay_event event;
};

static void event_free(struct message *m) {
  fields_free(event_fields, &((struct event *)m)->event);
  free(m);
}

static void event_deliver(napi_env env, struct message *m) {
  struct event *ev = (struct event *)m;
  struct thing *t = thing_find(ev->in, ev->id, THING_RELAY);
  if (t) {
    napi_value lost = NULL;
    napi_create_uint32(env, thing_delivered(t), &lost);
    emit(env, ev->id, "event", fields_write(env, event_fields, &ev->event), lost);
  }
  event_free(m);
}

static void on_event(void *user, const struct beam_relay_event *e) {
  struct relay *r = user;
  if (!thing_may_send(&r->thing))
    return;
  struct event *ev = calloc(1, sizeof *ev);
  if (!ev) {
    atomic_fetch_sub(&r->thing.waiting, 1);
    return;
  }
  ev->message.deliver = event_deliver;
  ev->message.drop = event_free;
  ev->in = r->thing.in;
  ev->id = r->thing.id;
  ev->event = *e;
  fields_own(event_fields, &ev->event);
  send_message(ev->in, &ev->message);
}

/* ---- start and stop ----------------------------------------------------------------------------------------------- */

struct config_job {
  struct job job;
  struct beam_relay_config
      config; /* its texts are its own, but for those that beam_relay_config_local() gave */
  struct beam_relay_config given;
};

static int start_work(struct job *job) {
  struct config_job *s = (struct config_job *)job;
  struct relay *r = (struct relay *)job->thing;
  return beam_relay_start(&s->config, &r->relay, &job->error);
}

static int reconfigure_work(struct job *job) {
  struct config_job *s = (struct config_job *)job;
  struct relay *r = (struct relay *)job->thing;
  return beam_relay_reconfigure(r->relay, &s->config, &job->error);
}

static void config_end(struct job *job) {
  fields_free(config_fields, &((struct config_job *)job)->given);
}

/* What is given stands over what `config` has: fields_read() leaves the rest as it is, so the texts that it made are those that differ. */
static int read_config(napi_env env, napi_value object, struct config_job *s) {
  struct beam_relay_config base = s->config;
  int err = fields_read(env, object, config_fields, &s->config, &s->job.error);
  s->given = s->config;
  for (const struct field *f = config_fields; f->key; f++) {
    char **now = (char **)((char *)&s->given + f->at), **was = (char **)((char *)&base + f->at);
    if (f->type == F_TEXT && *now == *was)
      *now = NULL;
  }
  return err;
}

/* relayStart(id, config, local) */
static napi_value relay_start(napi_env env, napi_callback_info info) {
  struct call c;
  bool local = false;
  if (!call_open(env, info, &c))
    return NULL;
  struct config_job *s = job_new(env, sizeof *s, c.in, NULL);
  if (!s)
    return NULL;
  s->config = (struct beam_relay_config)BEAM_RELAY_CONFIG_INIT;
  if (napi_get_value_bool(env, c.arg[2], &local) == napi_ok && local)
    beam_relay_config_local(&s->config);
  struct relay *r = calloc(1, sizeof *r);
  s->job.work = start_work;
  s->job.settle = thing_gone_if_failed;
  s->job.end = config_end;
  int err = read_config(env, c.arg[1], s);
  if (!r && !err)
    err = error_set(&s->job.error, BEAM_ERR_NOMEM, NULL, "out of memory");
  if (err) {
    free(r);
    return job_refuse(env, &s->job);
  }
  s->config.on_event = on_event;
  s->config.user = r;
  s->job.thing = &r->thing;
  thing_add(c.in, &r->thing, call_id(env, &c), THING_RELAY);
  return job_start(env, &c.in->slow, &s->job);
}

static napi_value relay_reconfigure(napi_env env, napi_callback_info info) {
  struct call c;
  napi_value refused;
  if (!call_open(env, info, &c))
    return NULL;
  struct config_job *s = job_about(env, &c, THING_RELAY, sizeof *s, false, &refused);
  if (!s)
    return refused;
  s->config = (struct beam_relay_config)BEAM_RELAY_CONFIG_INIT;
  s->job.work = reconfigure_work;
  s->job.end = config_end;
  if (read_config(env, c.arg[1], s))
    return job_refuse(env, &s->job);
  return job_start(env, &c.in->slow, &s->job);
}

static int stop_work(struct job *job) {
  struct relay *r = (struct relay *)job->thing;
  beam_relay_stop(r->relay);
  r->relay = NULL;
  return 0;
}

void relays_end(struct instance *in) {
  for (struct thing *t = in->things; t; t = t->next) {
    if (t->kind != THING_RELAY)
      continue;
    beam_relay_stop(((struct relay *)t)->relay);
    ((struct relay *)t)->relay = NULL;
  }
}

/* ---- asking ------------------------------------------------------------------------------------------------------- */

struct ask_job {
  struct job job;
  struct beam_relay_info info;
  char *text;
  uint32_t ms;
};

static int info_work(struct job *job) {
  struct ask_job *a = (struct ask_job *)job;
  a->info.size = sizeof a->info;
  beam_relay_info(((struct relay *)job->thing)->relay, &a->info);
  return fields_own(info_fields, &a->info) ? 0 : BEAM_ERR_NOMEM;
}

static napi_value info_settle(napi_env env, struct job *job) {
  return job->err ? NULL : fields_write(env, info_fields, &((struct ask_job *)job)->info);
}

static int metrics_work(struct job *job) {
  struct ask_job *a = (struct ask_job *)job;
  beam_relay *relay = ((struct relay *)job->thing)->relay;
  /* Counters grow by a digit between the two calls: some room for that. */
  size_t cap = beam_relay_metrics(relay, NULL, 0) + 1024;
  a->text = malloc(cap);
  if (!a->text)
    return BEAM_ERR_NOMEM;
  beam_relay_metrics(relay, a->text, cap);
  return 0;
}

static napi_value metrics_settle(napi_env env, struct job *job) {
  return job->err ? NULL : text_write(env, ((struct ask_job *)job)->text);
}

static int drain_work(struct job *job) {
  return beam_relay_drain(((struct relay *)job->thing)->relay, ((struct ask_job *)job)->ms);
}

static int reload_work(struct job *job) {
  return beam_relay_reload(((struct relay *)job->thing)->relay, &job->error);
}

static void ask_end(struct job *job) {
  struct ask_job *a = (struct ask_job *)job;
  fields_free(info_fields, &a->info);
  free(a->text);
}

static napi_value ask(napi_env env, napi_callback_info info, int (*work)(struct job *),
                      napi_value (*settle)(napi_env, struct job *), bool last) {
  struct call c;
  napi_value refused;
  if (!call_open(env, info, &c))
    return NULL;
  struct ask_job *a = job_about(env, &c, THING_RELAY, sizeof *a, last, &refused);
  if (!a)
    return refused;
  napi_get_value_uint32(env, c.arg[1], &a->ms);
  a->job.work = work;
  a->job.settle = settle;
  a->job.end = ask_end;
  return job_start(env, &c.in->slow, &a->job);
}

static napi_value relay_info(napi_env env, napi_callback_info info) {
  return ask(env, info, info_work, info_settle, false);
}
static napi_value relay_metrics(napi_env env, napi_callback_info info) {
  return ask(env, info, metrics_work, metrics_settle, false);
}
static napi_value relay_drain(napi_env env, napi_callback_info info) {
  return ask(env, info, drain_work, NULL, false);
}
static napi_value relay_reload(napi_env env, napi_callback_info info) {
  return ask(env, info, reload_work, NULL, false);
}
static napi_value relay_stop(napi_env env, napi_callback_info info) {
  return ask(env, info, stop_work, thing_gone, true);
}

void relay_methods(napi_env env, napi_value exports) {
  method(env, exports, "relayStart", relay_start);
  method(env, exports, "relayReconfigure", relay_reconfigure);
  method(env, exports, "relayInfo", relay_info);
  method(env, exports, "relayMetrics", relay_metrics);
  method(env, exports, "relayDrain", relay_drain);
  method(env, exports, "relayReload", relay_reload);
  method(env, exports, "relayStop", relay_stop);
}
