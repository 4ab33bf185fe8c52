#include "relay/relay.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/file.h"
#include "base/err.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "obs/metrics.h"
#include "relay/admit.h"
#include "relay/drain.h"
#include "relay/handover.h"
#include "relay/listen_quic.h"
#include "relay/forget.h"
#include "relay/fresh.h"
#include "relay/peers.h"
#include "relay/server.h"
#include "relay/settings.h"
#include "relay/tickets.h"
#include "wire/host.h"

/* --- configuration --- */

static int copy_strings(struct relay *r, const struct beam_relay_config *c) {
  r->conf = *c;
  r->conf.tls_cert = r->conf.tls_key = r->conf.agent_token_file = r->conf.tcp_ports = NULL; /* settings.c */
  r->conf.udp_ports = r->conf.drain_to = NULL;
  const char **fields[] = {&r->conf.domain, &r->conf.control_host, &r->conf.listen, &r->conf.listen_plain,
                           &r->conf.data_dir};
  bool ok = true;
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    const char *given = *fields[i];
    *fields[i] = str_dup(given);
    ok = ok && (!given || *fields[i]);
  }
  return ok ? 0 : BEAM_ERR_NOMEM;
}

static void free_strings(struct relay *r) {
  const char *fields[] = {r->conf.domain, r->conf.control_host, r->conf.listen, r->conf.listen_plain,
                          r->conf.data_dir};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    free((void *)fields[i]);
}

static bool is_loopback(const char *host) {
  return !strncmp(host, "127.", 4) || !strcmp(host, "::1") || !strncmp(host, "unix:", 5);
}

/* "ADDR:PORT,ADDR:PORT" */
static int parse_listen(const char *text, uint16_t def_port, struct listen_spec *specs, unsigned *n,
                        struct beam_error *err) {
  while (text && *text) {
    size_t len = strcspn(text, ",");
    char one[300];
    struct listen_spec *s = &specs[*n];
    if (*n == LISTEN_MAX)
      return err_set(err, BEAM_ERR_LIMIT, NULL, "more than %d addresses to listen on", LISTEN_MAX);
    if (!str_fmt(one, sizeof one, "%.*s", (int)len, text) ||
        addr_split(one, def_port, s->host, sizeof s->host, &s->port))
      return err_set(err, BEAM_ERR_INVALID, "write ADDRESS:PORT, such as 127.0.0.1:8443 or [::]:443",
                     "'%.*s' is not an address to listen on", (int)len, text);
    if (!s->host[0])
      str_copy(s->host, sizeof s->host, "::");
    (*n)++;
    text += len;
    text += *text == ',';
  }
  return 0;
}

static int check_config(struct relay *r, struct beam_error *err) {
  struct beam_relay_config *c = &r->conf;
  if (!c->domain || !host_name_ok(span_of(c->domain)))
    return err_set(err, BEAM_ERR_INVALID, "give --domain, such as tunnel.example.com",
                   "the relay's domain '%s' is not a host name", c->domain ? c->domain : "");
  if (!c->data_dir || !*c->data_dir)
    return err_set(err, BEAM_ERR_INVALID, "give --data DIR", "the relay needs a data directory");
  struct span label;
  if (c->control_host && (!host_name_ok(span_of(c->control_host)) || !strcmp(c->control_host, c->domain) ||
                          host_label_under(c->control_host, c->domain, &label)))
    return err_set(err, BEAM_ERR_INVALID, "choose a host outside the tunnels' domain",
                   "the control host '%s' is no host name or lies under %s", c->control_host, c->domain);
  if (c->workers > LIMIT_WORKERS)
    return err_set(err, BEAM_ERR_INVALID, NULL, "%u workers are more than the %u there can be", c->workers,
                   LIMIT_WORKERS);
  int e = parse_listen(c->listen ? c->listen : "127.0.0.1:8443", 443, r->tls_spec, &r->tls_n, err);
  if (!e)
    e = parse_listen(c->listen_plain, 80, r->plain_spec, &r->plain_n, err);
  for (unsigned i = 0; i < r->tls_n; i++)
    r->beyond_loopback |= !is_loopback(r->tls_spec[i].host);
  return e;
}

/* --- TLS --- */

/* A name that is not ours gets the base domain's certificate: the handshake completes and the page can say what is wrong. */
struct tls_cert *relay_cert(struct relay *r, const char *sni) {
  struct tls_cert *c = certs_get(r->certs, sni);
  return c ? c : certs_get(r->certs, r->conf.domain);
}

static struct tls_cert *choose_visitor(void *user, const char *sni) {
  return relay_cert(user, sni);
}

static struct tls_cert *choose_link(void *user, const char *sni) {
  (void)sni;
  struct relay *r = user;
  return certs_get_link(r->certs);
}

static const char *const alpn_visitor[] = {"h2", "http/1.1", NULL};
static const char *const alpn_beam[] = {"beam/1", NULL};

static int make_tls(struct relay *r, struct beam_error *err) {
  const struct beam_relay_config *c = &settings_now(r)->conf;
  int e = certs_new(r->ca, r->conf.domain, c->tls_cert, c->tls_key, &r->certs, err);
  if (!e)
    e = certs_add(r->certs, r->conf.domain, err);
  if (!e && r->conf.control_host)
    e = certs_add(r->certs, r->conf.control_host, err);
  if (!e)
    e = tickets_load(r, err);
#ifndef BEAM_NO_QUIC
  if (!e)
    e = quic_key_load(r, err);
#endif
  if (e)
    return e;
  struct tls_server_config v = {
      .alpn = alpn_visitor, .choose = choose_visitor, .tickets = r->tickets, .user = r};
  struct tls_server_config a = {.alpn = alpn_beam, .choose = choose_link, .link = true, .user = r};
  e = tls_server_context(&v, &r->tls_visitors);
  if (!e)
    e = tls_server_context(&a, &r->tls_agents);
  return e ? err_set(err, e, NULL, "cannot set up TLS: %s", beam_strerror(e)) : 0;
}

/* --- start and stop --- */

static void *run_worker(void *arg) {
  struct worker *w = arg;
  loop_run(w->loop);
  return NULL;
}

static void stop_worker(void *arg) {
  struct worker *w = arg;
  worker_close(w);
  loop_stop(w->loop);
}

static void text_of(char *out, size_t cap, const struct listen_spec *s) {
  str_fmt(out, cap, strchr(s->host, ':') ? "[%s]:%u" : "%s:%u", s->host, s->port);
}

static int make_workers(struct relay *r, struct beam_error *err) {
  r->workers = calloc(r->workers_n, sizeof *r->workers);
  if (!r->workers)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  for (unsigned i = 0; i < r->workers_n; i++) {
    struct loop *loop;
    int e = loop_new(&loop);
    if (!e)
      e = worker_init(&r->workers[i], r, i, loop);
    if (e)
      return err_set(err, e, NULL, "cannot make a worker: %s", beam_strerror(e));
  }
  for (unsigned i = 0; i < r->workers_n; i++) {
    int e = worker_listen(&r->workers[i], err);
    if (e)
      return e;
  }
  for (unsigned i = 0; i < r->workers_n; i++) {
    int e = peers_connect(&r->workers[i]);
    if (e)
      return err_set(err, e, NULL, "cannot link the workers: %s", beam_strerror(e));
  }
  return 0;
}

static int start_threads(struct relay *r, struct beam_error *err) {
  for (unsigned i = 0; i < r->workers_n; i++) {
    if (pthread_create(&r->workers[i].thread, NULL, run_worker, &r->workers[i]))
      return err_set(err, BEAM_ERR_SYSTEM, "raise the limit of threads", "cannot start a worker thread");
    r->workers[i].running = true;
  }
  return 0;
}

int relay_start(const struct beam_relay_config *config, struct relay **out, struct beam_error *err) {
  struct relay *r = base_init() ? NULL : calloc(1, sizeof *r);
  if (!r)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  r->net = &net_sockets;
  r->handover.fd = -1;
  pthread_mutex_init(&r->handover.lock, NULL);
  struct settings *settings = NULL;
  int e = copy_strings(r, config);
  if (!e)
    e = check_config(r, err);
  if (!e)
    e = settings_new(r, config, &settings, err);
  r->settings = settings;
  if (!e)
    e = dir_make_private(r->conf.data_dir, err);
  if (!e)
    e = ca_load(r->conf.data_dir, &r->ca, err);
  if (!e)
    e = handover_take(r, err);
  if (!e)
    e = fresh_new(&r->fresh);
  if (!e)
    e = admit_new(&r->admit);
  if (!e)
    e = store_open(r->conf.data_dir, &r->store, err);
  if (!e)
    e = domain_new(r->store, r->conf.domain, &r->domain, err);
  if (!e)
    e = make_tls(r, err);
  long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  r->workers_n = r->conf.workers                          ? r->conf.workers
                 : cpus > 0 && cpus < (long)LIMIT_WORKERS ? (unsigned)cpus
                                                          : 1;
  if (!e)
    e = make_workers(r, err);
  if (!e)
    e = handover_apply(r, err);
  if (e) {
    relay_stop(r);
    return e;
  }
  r->https_port = r->tls_spec[0].port;
  r->http_port = r->plain_n ? r->plain_spec[0].port : 0;
  text_of(r->https_text, sizeof r->https_text, &r->tls_spec[0]);
  if (r->plain_n)
    text_of(r->http_text, sizeof r->http_text, &r->plain_spec[0]);
  forget_start(&r->workers[0]);
  if (!r->handover.taken) /* else they are another process's, and still live */
    store_tunnels_reset(r->store, r->workers[0].loop, r->conf.domain, NULL, NULL, NULL);
  e = start_threads(r, err);
  if (e) {
    relay_stop(r);
    return e;
  }
  log_info("relay", "listening domain=%s https=%s http=%s workers=%u", r->conf.domain, r->https_text,
           r->plain_n ? r->http_text : "-", r->workers_n);
  handover_go(r);
  *out = r;
  return 0;
}

/* Close every worker on its own thread (or here, when it never ran), then let what they posted to each other run out. */
static void stop_workers(struct relay *r) {
  for (unsigned i = 0; i < r->workers_n; i++)
    if (r->workers[i].running && loop_post(r->workers[i].loop, stop_worker, &r->workers[i]))
      loop_stop(r->workers[i].loop);
  for (unsigned i = 0; i < r->workers_n; i++)
    if (r->workers[i].running)
      pthread_join(r->workers[i].thread, NULL);
  for (unsigned i = 0; i < r->workers_n; i++)
    if (r->workers[i].loop && !r->workers[i].closing)
      worker_close(&r->workers[i]);
}

static void drain_posts(struct relay *r) {
  for (int round = 0; round < 4; round++)
    for (unsigned i = 0; i < r->workers_n; i++)
      if (r->workers[i].loop)
        loop_turn(r->workers[i].loop, 0);
}

void relay_stop(struct relay *r) {
  if (!r)
    return;
  if (r->workers) {
    stop_workers(r);
    drain_posts(r);
  }
  if (r->tickets)
    tickets_save(r);
  store_close(r->store);
  for (unsigned i = 0; r->workers && i < r->workers_n; i++)
    if (r->workers[i].loop)
      worker_fini(&r->workers[i]);
  free(r->workers);
  tls_context_unref(r->tls_visitors);
  tls_context_unref(r->tls_agents);
  tls_tickets_unref(r->tickets);
  certs_free(r->certs);
  domain_free(r->domain);
  settings_free(r->settings);
  while (r->old_settings) {
    struct settings *old = r->old_settings;
    r->old_settings = old->next;
    settings_free(old);
  }
  fresh_free(r->fresh);
  admit_free(r->admit);
  ca_free(r->ca);
  free_strings(r);
  handover_fini(r);
  free(r);
}

int relay_drain(struct relay *r, uint32_t ms) {
  return drain_start(r, ms, false);
}

int relay_reload(struct relay *r, const struct beam_relay_config *config, struct beam_error *err) {
  return settings_change(r, config, err);
}

/* --- what others ask --- */

void relay_url(const struct relay *r, bool tls, const char *name, char *out, size_t cap) {
  uint16_t port = tls ? r->https_port : r->http_port;
  const char *scheme = tls ? "https" : "http";
  if (port == (tls ? 443 : 80))
    str_fmt(out, cap, "%s://%s", scheme, name);
  else
    str_fmt(out, cap, "%s://%s:%u", scheme, name, port);
}

void relay_event(struct relay *r, const char *kind, const char *name, const char *agent, const char *reason) {
  struct beam_relay_event e = {sizeof e, kind, name, agent, reason};
  if (r->conf.on_event)
    r->conf.on_event(r->conf.user, &e);
}

void relay_info(struct relay *r, struct beam_relay_info *out) {
  struct beam_relay_info i = {.size = out->size,
                              .domain = r->conf.domain,
                              .https = r->https_text,
                              .http = r->plain_n ? r->http_text : NULL,
                              .https_port = r->https_port,
                              .http_port = r->http_port,
                              .ca_file = ca_file(r->ca),
                              .ca_fingerprint = ca_fingerprint_text(r->ca),
                              .workers = r->workers_n,
                              .sessions = (uint64_t)atomic_load(&r->sessions_now),
                              .tunnels = (uint64_t)atomic_load(&r->tunnels_now),
                              .visitors = (uint64_t)atomic_load(&r->visitors_now),
                              .requests = atomic_load(&r->requests)};
  memcpy(out, &i, out->size < sizeof i ? out->size : sizeof i);
}

size_t relay_metrics(struct relay *r, char *out, size_t cap) {
  struct metrics_text t = {out, cap, 0};
  struct {
    const char *name, *type, *help;
    int64_t value;
  } rows[] = {
      {"beam_sessions", "gauge", "agents connected", atomic_load(&r->sessions_now)},
      {"beam_tunnels", "gauge", "names that answer", atomic_load(&r->tunnels_now)},
      {"beam_visitors", "gauge", "visitor connections", atomic_load(&r->visitors_now)},
      {"beam_requests_total", "counter", "requests since the start", (int64_t)atomic_load(&r->requests)},
      {"beam_refused_total", "counter", "connections, greetings and binds refused",
       (int64_t)atomic_load(&r->refused)},
      {"beam_descriptors_given_total", "counter", "visitors handed to the worker that has their agent",
       (int64_t)atomic_load(&r->given)},
      {"beam_worker_hops_total", "counter", "requests that crossed to another worker",
       (int64_t)atomic_load(&r->hops)},
      {"beam_udp_flows", "gauge", "visitors of UDP tunnels", atomic_load(&r->flow_counts.now)},
      {"beam_udp_flows_total", "counter", "visitors of UDP tunnels since the start",
       (int64_t)atomic_load(&r->flow_counts.flows)},
      {"beam_udp_in_total", "counter", "datagrams from visitors", (int64_t)atomic_load(&r->flow_counts.in)},
      {"beam_udp_out_total", "counter", "datagrams to visitors", (int64_t)atomic_load(&r->flow_counts.out)},
  };
  if (cap)
    out[0] = 0;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    metrics_row(&t, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
  for (size_t i = 0; i < FLOW_DROPS; i++)
    metrics_labelled(&t, "beam_udp_dropped_total", "datagrams of UDP tunnels lost at the relay", "reason",
                     flow_drop_names[i], i == 0, (int64_t)atomic_load(&r->flow_counts.dropped[i]));
  for (size_t i = 0; i < ADMIT_REFUSALS; i++)
    metrics_labelled(&t, "beam_visitors_refused_total", "visitors refused, by the limit that was reached",
                     "limit", admit_refusal_names[i], i == 0, (int64_t)atomic_load(&r->refusals[i]));
  metrics_row(&t, "beam_visitor_addresses", "gauge", "addresses that have a connection",
              (int64_t)admit_addresses(r->admit));
  metrics_write(&t); /* the process's: sockets, bytes, dials */
  return t.len;
}
