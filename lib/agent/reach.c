#include "agent/reach.h"

#include <stdlib.h>
#include <string.h>

#include "agent/way.h"
#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "identity/cert.h"

enum { ALL = (1u << UPLINK_TRANSPORTS) - 1 };

struct reach {
  struct reach_conf conf;
  char host[256], name[300];
  uint16_t port;
  bool plain;
  uint8_t ca[32];
  struct proxy proxy;
  unsigned allowed;
  const char *barred[UPLINK_TRANSPORTS]; /* why it is not allowed; NULL: it is, or nobody asks */
  const char *only;                      /* why there is no choice at all; NULL: there is */
};

/* --- the address --- */

static bool cut(const char **text, const char *prefix) {
  size_t n = strlen(prefix);
  if (strncmp(*text, prefix, n))
    return false;
  *text += n;
  return true;
}

static int read_address(struct reach *r, const char *text, struct beam_error *err) {
  char host_port[300];
  const char *at = text;
  r->plain = cut(&at, "ws://");
  if (r->plain || cut(&at, "wss://")) {
    r->only = "the relay's address says so";
    r->allowed = 1u << UPLINK_WS;
  }
  str_copy(host_port, sizeof host_port, at);
  if (r->only)
    host_port[strcspn(host_port, "/")] = 0;
  if (strstr(at, "://") || addr_split(host_port, r->plain ? 80 : 443, r->host, sizeof r->host, &r->port) ||
      !r->host[0])
    return err_set(err, BEAM_ERR_INVALID, "write HOST or HOST:PORT", "the relay '%s' is not an address",
                   text);
  str_fmt(r->name, sizeof r->name, strchr(r->host, ':') ? "[%s]:%u" : "%s:%u", r->host, r->port);
  return 0;
}

/* --- which transports --- */

static int named(const char *text) {
  for (int t = 0; t < UPLINK_TRANSPORTS; t++)
    if (!strcmp(text, uplink_name((enum uplink_transport)t)))
      return t;
  return -1;
}

static void bar(struct reach *r, enum uplink_transport t, const char *why) {
  r->allowed &= ~(1u << t);
  r->barred[t] = why;
}

static int choose_transports(struct reach *r, const char *text, struct beam_error *err) {
  bool free_choice = !text || !*text || !strcmp(text, "auto");
  int t = free_choice ? -1 : named(text);
  if (!free_choice && t < 0)
    return err_set(err, BEAM_ERR_INVALID, "choose auto, quic, h2 or ws", "there is no transport '%.40s'",
                   text);
  if (!free_choice && r->only && t != UPLINK_WS)
    return err_set(err, BEAM_ERR_INVALID, "leave ws:// and wss:// away, or the transport",
                   "the relay's address is WebSocket's, the transport is %s", text);
  if (!free_choice && !uplink_can((enum uplink_transport)t))
    return err_set(err, BEAM_ERR_UNSUPPORTED, NULL, "the transport %s is not in this build", text);
  if (t == UPLINK_QUIC && r->proxy.kind != PROXY_NONE)
    return err_set(err, BEAM_ERR_INVALID, "choose h2 or ws, or no proxy (--proxy none)",
                   "QUIC does not go through a proxy, and one is in use");
  if (!free_choice) {
    r->only = "it was chosen";
    r->allowed = 1u << t;
    return 0;
  }
  for (int i = 0; i < UPLINK_TRANSPORTS; i++)
    if (!uplink_can((enum uplink_transport)i))
      bar(r, (enum uplink_transport)i, "not in this build");
  if (r->proxy.kind != PROXY_NONE && uplink_can(UPLINK_QUIC))
    bar(r, UPLINK_QUIC, "not through a proxy");
  if (r->conf.net != &net_sockets)
    bar(r, UPLINK_QUIC, "this network has streams only"); /* a simulated one */
  return 0;
}

/* --- life --- */

int reach_new(const struct reach_conf *conf, struct reach **out, struct beam_error *err) {
  struct reach *r = calloc(1, sizeof *r);
  if (!r)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  r->conf = *conf;
  r->allowed = ALL;
  const char *proxy = conf->proxy && !strcmp(conf->proxy, "none") ? "" : conf->proxy;
  int e = read_address(r, conf->relay, err);
  if (!e)
    e = proxy_choose(proxy, getenv, r->host, r->port, &r->proxy, err);
  if (!e)
    e = choose_transports(r, conf->transport, err);
  if (!e && conf->relay_ca)
    e = fingerprint_of(conf->relay_ca, r->ca, err);
  if (e) {
    reach_free(r);
    return e;
  }
  if (r->proxy.kind != PROXY_NONE)
    log_info("agent", "relay=%s through proxy=%s:%u", r->name, r->proxy.host, r->proxy.port);
  *out = r;
  return 0;
}

void reach_free(struct reach *r) {
  if (!r)
    return;
  proxy_wipe(&r->proxy);
  free(r);
}

const char *reach_relay(const struct reach *r) {
  return r->name;
}

/* --- races --- */

static enum uplink_transport best(unsigned of) {
  unsigned t = 0;
  while (t + 1 < UPLINK_TRANSPORTS && !(of & 1u << t))
    t++;
  return (enum uplink_transport)t;
}

static int start(struct reach *r, unsigned allowed, enum uplink_transport first, const uint8_t *resume,
                 race_cb cb, void *user, struct race **out) {
  struct race_conf c = {.uplink = {.loop = r->conf.loop,
                                   .net = r->conf.net,
                                   .host = r->host,
                                   .port = r->port,
                                   .pin_name = r->name,
                                   .proxy = &r->proxy,
                                   .plain = r->plain,
                                   .cubic = r->conf.cubic,
                                   .data_dir = r->conf.data_dir,
                                   .ca = r->conf.relay_ca ? r->ca : NULL,
                                   .device = r->conf.device,
                                   .token = r->conf.token,
                                   .resume = resume},
                        .allowed = allowed,
                        .first = first,
                        .runner = &race_uplinks};
  return race_start(&c, cb, user, out);
}

int reach_start(struct reach *r, const uint8_t *resume, race_cb cb, void *user, struct race **out) {
  char network[WAY_NETWORK], word[16];
  int first = -1;
  if (!r->only) {
    way_network(network);
    if (!way_recall(r->conf.data_dir, r->name, network, word, sizeof word))
      first = named(word);
  }
  if (first < 0 || !(r->allowed & 1u << first))
    first = best(r->allowed);
  return start(r, r->allowed, (enum uplink_transport)first, resume, cb, user, out);
}

static unsigned better(const struct reach *r, enum uplink_transport than) {
  return r->allowed & ((1u << than) - 1);
}

bool reach_has_better(const struct reach *r, enum uplink_transport than) {
  return better(r, than) != 0;
}

int reach_better(struct reach *r, enum uplink_transport than, const uint8_t *resume, race_cb cb, void *user,
                 struct race **out) {
  return start(r, better(r, than), best(better(r, than)), resume, cb, user, out);
}

void reach_won(struct reach *r, enum uplink_transport t) {
  char network[WAY_NETWORK];
  if (r->only)
    return;
  way_network(network);
  int err = way_remember(r->conf.data_dir, r->name, network, uplink_name(t));
  if (err)
    log_debug("agent", "transport not remembered: %s", beam_strerror(err));
}

void reach_reason(const struct reach *r, enum uplink_transport t, const char *race, char out[RACE_REASON]) {
  size_t n = 0;
  out[0] = 0;
  if (r->only && t != UPLINK_QUIC) {
    str_copy(out, RACE_REASON, r->only);
    return;
  }
  for (unsigned i = 0; i < t; i++) {
    if (!r->barred[i])
      continue;
    str_fmt(out + n, RACE_REASON - n, "%s%s: %s", n ? "; " : "", uplink_name((enum uplink_transport)i),
            r->barred[i]);
    n = strlen(out);
  }
  if (*race)
    str_fmt(out + n, RACE_REASON - n, "%s%s", n ? "; " : "", race);
}
