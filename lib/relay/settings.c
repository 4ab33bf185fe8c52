#include "relay/settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "domain/certs.h"
#include "identity/trust.h"
#include "relay/listen_quic.h"
#include "wire/host.h"

/* --- one snapshot --- */

static unsigned of(unsigned given, unsigned normal) {
  return given ? given : normal;
}

static int copy(struct settings *s, const struct beam_relay_config *c) {
  s->conf = (struct beam_relay_config){
      .size = sizeof s->conf,
      .plain = c->plain,
      .open = c->open,
      .give_descriptors = c->give_descriptors,
      .udp_idle_ms = c->udp_idle_ms,
      .congestion = c->congestion,
      .interstitial = c->interstitial,
      .visitor_connections = of(c->visitor_connections, LIMIT_VISITORS_PER_ADDR),
      .visitor_requests = of(c->visitor_requests, LIMIT_REQUESTS_PER_ADDR),
      .tunnel_connections = of(c->tunnel_connections, LIMIT_CONNECTIONS_PER_TUNNEL),
      .tunnel_requests = of(c->tunnel_requests, LIMIT_REQUESTS_PER_TUNNEL),
      .min_body_rate = of(c->min_body_rate, LIMIT_BODY_RATE),
      .tls_cert = str_dup(c->tls_cert),
      .tls_key = str_dup(c->tls_key),
      .agent_token_file = str_dup(c->agent_token_file),
      .tcp_ports = str_dup(c->tcp_ports),
      .udp_ports = str_dup(c->udp_ports),
      .drain_to = str_dup(c->drain_to),
      .proxy_from = str_dup(c->proxy_from)};
  bool whole = !c->tls_cert == !s->conf.tls_cert && !c->tls_key == !s->conf.tls_key &&
               !c->agent_token_file == !s->conf.agent_token_file && !c->tcp_ports == !s->conf.tcp_ports &&
               !c->udp_ports == !s->conf.udp_ports && !c->drain_to == !s->conf.drain_to &&
               !c->proxy_from == !s->conf.proxy_from;
  return whole ? 0 : BEAM_ERR_NOMEM;
}

/* "20000-20999" or one port. */
static int parse_ports(const char *text, uint16_t *first, uint16_t *last, struct beam_error *err) {
  if (!text || !strcmp(text, "none"))
    return 0;
  size_t n = strcspn(text, "-");
  uint64_t lo = 0, hi = 0;
  bool ok = str_u64((struct span){text, n}, 65535, &lo);
  hi = lo;
  if (ok && text[n])
    ok = str_u64(span_of(text + n + 1), 65535, &hi);
  if (!ok || !lo || hi < lo)
    return err_set(err, BEAM_ERR_INVALID, "write FIRST-LAST, such as 20000-20999",
                   "'%s' is not a range of ports", text);
  *first = (uint16_t)lo;
  *last = (uint16_t)hi;
  return 0;
}

static int check(const struct relay *r, struct settings *s, struct beam_error *err) {
  const struct beam_relay_config *c = &s->conf;
  char host[256];
  uint16_t port;
  if (!c->tls_cert != !c->tls_key)
    return err_set(err, BEAM_ERR_INVALID, "give both --tls-cert and --tls-key, or none",
                   "a certificate and its key belong together");
  if (c->congestion != BEAM_CONGESTION_BBR && c->congestion != BEAM_CONGESTION_CUBIC)
    return err_set(err, BEAM_ERR_INVALID, "choose BEAM_CONGESTION_BBR or BEAM_CONGESTION_CUBIC",
                   "there is no congestion control %d", (int)c->congestion);
  if (c->drain_to && (strlen(c->drain_to) > 250 || strpbrk(c->drain_to, "/, ") ||
                      addr_split(c->drain_to, 443, host, sizeof host, &port) || !host[0]))
    return err_set(err, BEAM_ERR_INVALID, "write HOST or HOST:PORT of the other relay",
                   "'%.100s' is not where agents can go", c->drain_to);
  int e = parse_ports(c->tcp_ports, &s->port_lo, &s->port_hi, err);
  if (!e)
    e = parse_ports(c->udp_ports ? c->udp_ports : c->tcp_ports, &s->udp_lo, &s->udp_hi, err);
  if (!e)
    e = cidr_list_parse(c->proxy_from, "proxy-from", &s->proxy_from, err);
  if (e)
    return e;
  struct trust_facts f = {.action = TRUST_LISTEN,
                          .relay_public = r->beyond_loopback,
                          .open = c->open,
                          .tokens_set = c->agent_token_file != NULL};
  struct trust v = trust_allows(&f);
  return v.err ? err_set(err, v.err, v.hint, "%s", v.reason) : 0;
}

int settings_new(const struct relay *r, const struct beam_relay_config *c, struct settings **out,
                 struct beam_error *err) {
  struct settings *s = calloc(1, sizeof *s);
  int e = s ? copy(s, c) : BEAM_ERR_NOMEM;
  if (e)
    err_set(err, e, NULL, "out of memory");
  if (!e)
    e = check(r, s, err);
  if (!e && s->conf.agent_token_file)
    e = tokens_load(s->conf.agent_token_file, &s->tokens, err);
  if (e)
    settings_free(s);
  else
    *out = s;
  return e;
}

void settings_free(struct settings *s) {
  if (!s)
    return;
  tokens_free(s->tokens);
  free((void *)s->conf.tls_cert);
  free((void *)s->conf.tls_key);
  free((void *)s->conf.agent_token_file);
  free((void *)s->conf.tcp_ports);
  free((void *)s->conf.udp_ports);
  free((void *)s->conf.drain_to);
  free((void *)s->conf.proxy_from);
  cidr_list_free(&s->proxy_from);
  free(s);
}

/* --- another one in its place --- */

static bool same(const char *a, const char *b) {
  return (!a && !b) || (a && b && !strcmp(a, b));
}

/* The first field that is another one now and cannot be; NULL: none. */
static const char *fixed(const struct beam_relay_config *is, const struct beam_relay_config *wanted) {
  return !same(is->domain, wanted->domain)               ? "domain"
         : !same(is->control_host, wanted->control_host) ? "control-host"
         : !same(is->listen, wanted->listen)             ? "listen"
         : !same(is->listen_plain, wanted->listen_plain) ? "listen-plain"
         : !same(is->data_dir, wanted->data_dir)         ? "data"
         : is->workers != wanted->workers                ? "workers"
                                                         : NULL;
}

static void let_go(struct settings *old) {
  if (atomic_fetch_sub(&old->left, 1) == 1)
    settings_free(old);
}

/* On the worker's loop, between two events: it looks at nothing of the old ones now. */
static void pass(void *arg) {
  struct settings_pass *p = arg;
#ifndef BEAM_NO_QUIC
  quic_congestion(p->w);
#endif
  let_go(p->old);
}

static void dropped(void *arg) {
  let_go(((struct settings_pass *)arg)->old);
}

static void replace(struct relay *r, struct settings *s) {
  struct settings *old = atomic_exchange(&r->settings, s);
  bool all = true;
  atomic_store(&old->left, r->workers_n + 1); /* the last one is ours, until all are told */
  for (unsigned i = 0; i < r->workers_n; i++) {
    old->passes[i] = (struct settings_pass){&r->workers[i], old};
    if (loop_post_or(r->workers[i].loop, pass, dropped, &old->passes[i]))
      all = false;
  }
  if (all) {
    let_go(old);
    return;
  }
  old->next = r->old_settings; /* no memory to tell a worker */
  r->old_settings = old;
}

int settings_change(struct relay *r, const struct beam_relay_config *c, struct beam_error *err) {
  struct settings *s;
  const char *field = c ? fixed(&r->conf, c) : NULL;
  if (field)
    return err_set(err, BEAM_ERR_UNSUPPORTED,
                   "start the new one beside it with --replace, which takes over without losing a request",
                   "'%s' cannot change while the relay runs; nothing was changed", field);
  int e = settings_new(r, c ? c : &settings_now(r)->conf, &s, err);
  if (e)
    return e;
  e = certs_change(r->certs, s->conf.tls_cert, s->conf.tls_key, err);
  if (e) {
    settings_free(s);
    return e;
  }
  replace(r, s);
  log_info("relay", "configuration, certificates and tokens read again");
  return 0;
}
