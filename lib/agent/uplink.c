#include "agent/uplink.h"

#include <stdlib.h>
#include <string.h>

#include "agent/ticket.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "identity/cert.h"
#include "identity/pins.h"
#include "io/proxy.h"
#include "link/greet.h"
#include "link/ws.h"
#ifndef BEAM_NO_QUIC
#include "quic/dial.h"
#endif
#include "tls/tls.h"

enum { DIAL_MS = 10000 };

struct uplink {
  struct uplink_conf conf;
  uplink_cb cb;
  void *user;
  struct proxy_dial *dial;
  struct tls *tls; /* the outer one, then the inner one */
  struct tls_context *outer, *ctx;
  struct ws_upgrade *upgrade;
  struct quic_dial *quic;
  uint8_t *session; /* to resume by; a secret */
  size_t session_n;
  uint8_t offer[LIMIT_QUIC_EARLY];
  struct link *link;
  bool first_use;           /* remember the CA once the relay has proved itself */
  struct uplink_result out; /* why: filled where the cause is known best */
};

const char *uplink_name(enum uplink_transport t) {
  static const char *const names[] = {"quic", "h2", "ws"};
  return names[t];
}

bool uplink_can(enum uplink_transport t) {
#ifdef BEAM_NO_QUIC
  return t != UPLINK_QUIC;
#else
  (void)t;
  return true;
#endif
}

static void drop_session(struct uplink *u) {
  if (u->session)
    explicit_bzero(u->session, u->session_n);
  free(u->session);
  u->session = NULL;
}

static void release(struct uplink *u) {
  proxy_dial_cancel(u->dial);
  if (u->tls)
    tls_cancel(u->tls);
  ws_cancel(u->upgrade);
#ifndef BEAM_NO_QUIC
  quic_dial_cancel(u->quic);
#endif
  drop_session(u);
  link_close(u->link, BEAM_ERR_CLOSED);
  tls_context_unref(u->outer);
  tls_context_unref(u->ctx);
  free(u);
}

void uplink_cancel(struct uplink *u) {
  if (u)
    release(u);
}

static void outcome(struct uplink *u, int err) {
  u->out.err = err;
  if (err && !u->out.why.code)
    err_set(&u->out.why, err, NULL, "cannot reach the relay %s: %s", u->conf.pin_name, beam_strerror(err));
  uplink_cb cb = u->cb;
  void *user = u->user;
  struct uplink_result r = u->out;
  r.link = u->link;
  u->link = NULL;
  if (err) {
    link_close(r.link, err);
    r.link = NULL;
  }
  release(u);
  cb(user, &r);
}

/* --- greeting --- */

/* Not what a network does to a connection, but the relay's own decision. */
static bool is_word(int err) {
  return err == BEAM_ERR_DENIED || err == BEAM_ERR_UNSUPPORTED || err == BEAM_ERR_LIMIT ||
         err == BEAM_ERR_DRAINING || err == BEAM_ERR_STORE;
}

/* The relay has proved itself: the next connection may resume this one. Not kept, it is a full handshake. */
static void keep_session(struct uplink *u) {
#ifndef BEAM_NO_QUIC
  const uint8_t *p;
  size_t n;
  int err = link_quic_session(u->link, &p, &n);
  if (!err && (err = ticket_keep(u->conf.data_dir, u->conf.pin_name, u->out.relay_id, p, n)))
    log_limited(BEAM_LOG_DEBUG, "agent", "session not kept: %s", beam_strerror(err));
#else
  (void)u;
#endif
}

static void on_greeted(void *user, struct link *k, int err, const struct beam_error *why,
                       const struct greet_peer *peer) {
  (void)k;
  struct uplink *u = user;
  if (err) {
    u->out.why = *why;
    u->out.said = is_word(err);
    outcome(u, err);
    return;
  }
  memcpy(u->out.session, peer->session, sizeof u->out.session);
  u->out.links = peer->links;
  u->out.worker = peer->worker;
  u->out.workers = peer->workers;
  struct beam_error e = BEAM_ERROR_INIT;
  if (u->first_use && pins_remember(u->conf.data_dir, u->conf.pin_name, u->out.relay_id, &e))
    log_warn("agent", "relay not remembered: %s", e.what);
  keep_session(u);
  outcome(u, 0);
}

static int greet(struct uplink *u) {
  struct greet_agent_conf conf = {.device = u->conf.device, .token = u->conf.token, .resume = u->conf.resume};
  memcpy(conf.relay, u->out.relay_id, sizeof conf.relay);
  return greet_agent(u->link, &conf, on_greeted, u);
}

static void on_tls(void *user, int err, struct stream *s, const struct tls_info *info) {
  (void)info;
  struct uplink *u = user;
  uint8_t exporter[TLS_EXPORT_BYTES];
  u->tls = NULL;
  if (!err && (err = tls_exporter(s, exporter)))
    stream_close(s, err);
  else if (!err)
    err = link_h2_new(s, LINK_AGENT, exporter, &u->link);
  if (!err)
    err = greet(u);
  if (err)
    outcome(u, err);
}

/* --- trust: the CA that the relay's chain ends with is the pin --- */

static int verify(void *user, const struct tls_peer *peer) {
  struct uplink *u = user;
  struct beam_error *why = &u->out.why;
  memcpy(u->out.relay_id, peer->ca_sha256, sizeof u->out.relay_id);
  char text[FINGERPRINT_TEXT];
  fingerprint_text(text, peer->ca_sha256);
  if (u->conf.ca) {
    if (!memcmp(u->conf.ca, peer->ca_sha256, 32)) /* public values: no secret to time */
      return 0;
    return err_set(why, BEAM_ERR_UNTRUSTED, "check --relay and --relay-ca; somebody may be in the middle",
                   "the relay %s shows the CA %s, which is not the one of --relay-ca", u->conf.pin_name,
                   text);
  }
  int pin = pins_check(u->conf.data_dir, u->conf.pin_name, peer->ca_sha256, why);
  if (pin < 0)
    return pin;
  u->first_use = pin == PIN_NEW;
  if (u->first_use)
    log_info("agent", "first time at relay=%s ca=%s", u->conf.pin_name, text);
  why->code = 0;
  return 0;
}

static const char *const alpn[] = {"beam/1", NULL};

/* TLS of beam/1 over whatever it is by now. Takes s. */
static int start_inner(struct uplink *u, struct stream *s) {
  struct tls_client_config c = {.alpn = alpn,
                                .alpn_required = true,
                                .server_name = u->conf.host,
                                .name_any = true,
                                .trust = TLS_TRUST_CHAIN,
                                .verify = verify,
                                .min_version = TLS_1_3,
                                .link = true,
                                .user = u};
  int err = tls_client_context(&c, &u->ctx);
  if (err)
    stream_close(s, err);
  return err ? err : tls_connect(s, u->ctx, on_tls, u, &u->tls);
}

/* --- QUIC --- */

#ifndef BEAM_NO_QUIC
static void on_quic(void *user, struct quic_conn *c, int err) {
  struct uplink *u = user;
  u->quic = NULL;
  if (!err) {
    struct quic_conn_info info;
    quic_conn_info(c, &info);
    log_debug("agent", "quic relay=%s resumed=%d early=%d", u->conf.pin_name, info.resumed, info.early);
  }
  if (!err)
    err = link_quic_new(c, LINK_AGENT, &u->link);
  if (!err)
    err = greet(u);
  if (err)
    outcome(u, err);
}

/* A resumed session shows no certificate: who the relay was then must be who it may be now. */
static void recall_session(struct uplink *u) {
  struct beam_error why = BEAM_ERROR_INIT;
  uint8_t ca[32];
  if (ticket_take(u->conf.data_dir, u->conf.pin_name, ca, &u->session, &u->session_n))
    return;
  bool ours = u->conf.ca ? !memcmp(u->conf.ca, ca, sizeof ca)
                         : pins_check(u->conf.data_dir, u->conf.pin_name, ca, &why) == PIN_KNOWN;
  if (ours)
    memcpy(u->out.relay_id, ca, sizeof ca);
  else
    drop_session(u);
}

static int start_quic(struct uplink *u) {
  recall_session(u);
  long offer = u->session ? greet_offer(u->offer, sizeof u->offer) : 0;
  struct quic_client_conf c = {.tls = {.alpn = alpn,
                                       .alpn_required = true,
                                       .server_name = u->conf.host,
                                       .name_any = true,
                                       .trust = TLS_TRUST_CHAIN,
                                       .verify = verify,
                                       .min_version = TLS_1_3,
                                       .link = true,
                                       .user = u},
                               .peer_bidi = LIMIT_LINK_STREAMS,
                               .cubic = u->conf.cubic,
                               .session = u->session,
                               .session_n = u->session_n,
                               .early = u->offer,
                               .early_n = offer > 0 ? (size_t)offer : 0};
  return quic_dial(u->conf.loop, u->conf.host, u->conf.port, &c, DIAL_MS, on_quic, u, &u->quic);
}
#endif

/* --- through WebSocket --- */

static void on_upgraded(void *user, int err, struct stream *s, unsigned status) {
  struct uplink *u = user;
  u->upgrade = NULL;
  if (err == BEAM_ERR_REFUSED)
    err_set(&u->out.why, err, "is there a relay behind that web server, and does it pass " WS_PATH " on?",
            "%s is no relay, or does not take WebSocket: it answered %u", u->conf.pin_name, status);
  if (!err)
    err = start_inner(u, s);
  if (err)
    outcome(u, err);
}

static int start_upgrade(struct uplink *u, struct stream *s) {
  char authority[300];
  bool usual = u->conf.port == (u->conf.plain ? 80 : 443), six = strchr(u->conf.host, ':');
  str_fmt(authority, sizeof authority, six ? "[%s]:%u" : "%s:%u", u->conf.host, u->conf.port);
  if (usual)
    *strrchr(authority, ':') = 0;
  return ws_connect(s, authority, on_upgraded, u, &u->upgrade);
}

static void on_outer(void *user, int err, struct stream *s, const struct tls_info *info) {
  (void)info;
  struct uplink *u = user;
  u->tls = NULL;
  if (!err)
    err = start_upgrade(u, s);
  if (err)
    outcome(u, err);
}

/* As a browser would: a web server may stand in front, or somebody who opens all TLS. Whom we talk to is seen inside. */
static int start_outer(struct uplink *u, struct stream *s) {
  static const char *const http[] = {"http/1.1", NULL};
  struct tls_client_config c = {
      .alpn = http, .server_name = u->conf.host, .name_any = true, .trust = TLS_TRUST_ANY};
  int err = tls_client_context(&c, &u->outer);
  if (err)
    stream_close(s, err);
  return err ? err : tls_connect(s, u->outer, on_outer, u, &u->tls);
}

/* --- dialling --- */

static void on_dialled(void *user, struct stream *s, int err, const char *why) {
  struct uplink *u = user;
  u->dial = NULL;
  if (err && *why) { /* nothing a proxy says is final: laptops move */
    err = err == BEAM_ERR_DENIED || err == BEAM_ERR_UNSUPPORTED ? BEAM_ERR_REFUSED : err;
    err_set(&u->out.why, err, "check --proxy, or HTTPS_PROXY and ALL_PROXY in the environment",
            "cannot reach the relay %s: %s", u->conf.pin_name, why);
  }
  if (!err)
    err = u->conf.transport == UPLINK_H2 ? start_inner(u, s)
          : u->conf.plain                ? start_upgrade(u, s)
                                         : start_outer(u, s);
  if (err)
    outcome(u, err);
}

int uplink_start(const struct uplink_conf *conf, uplink_cb cb, void *user, struct uplink **out) {
  if (!uplink_can(conf->transport))
    return BEAM_ERR_UNSUPPORTED;
  struct uplink *u = calloc(1, sizeof *u);
  if (!u)
    return BEAM_ERR_NOMEM;
  u->conf = *conf;
  u->cb = cb;
  u->user = user;
  u->out.why = (struct beam_error)BEAM_ERROR_INIT;
  int err;
#ifndef BEAM_NO_QUIC
  if (conf->transport == UPLINK_QUIC)
    err = start_quic(u);
  else
#endif
    err = proxy_dial(conf->net, conf->loop, conf->proxy, conf->host, conf->port, DIAL_MS, on_dialled, u,
                     &u->dial);
  if (err) {
    free(u);
    return err;
  }
  *out = u;
  return 0;
}
