#include "agent/uplink.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "identity/cert.h"
#include "identity/pins.h"
#include "link/greet.h"
#include "tls/tls.h"

enum { DIAL_MS = 10000 };

struct uplink {
  struct uplink_conf conf;
  uplink_cb cb;
  void *user;
  struct dial *dial;
  struct tls *tls;
  struct tls_context *ctx;
  struct link *link;
  bool first_use;           /* remember the CA once the relay has proved itself */
  struct uplink_result out; /* why: filled where the cause is known best */
};

static void release(struct uplink *u) {
  if (u->dial)
    net_dial_cancel(u->conf.net, u->dial);
  if (u->tls)
    tls_cancel(u->tls);
  link_close(u->link, BEAM_ERR_CLOSED);
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

static void on_greeted(void *user, struct link *k, int err, const struct beam_error *why,
                       const struct greet_peer *peer) {
  (void)k;
  struct uplink *u = user;
  if (err) {
    u->out.why = *why;
    outcome(u, err);
    return;
  }
  memcpy(u->out.session, peer->session, sizeof u->out.session);
  struct beam_error e = BEAM_ERROR_INIT;
  if (u->first_use && pins_remember(u->conf.data_dir, u->conf.pin_name, u->out.relay_id, &e))
    log_warn("agent", "relay not remembered: %s", e.what);
  outcome(u, 0);
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
  struct greet_agent_conf conf = {.device = u->conf.device, .token = u->conf.token, .resume = u->conf.resume};
  memcpy(conf.relay, u->out.relay_id, sizeof conf.relay);
  if (!err)
    err = greet_agent(u->link, &conf, on_greeted, u);
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

static void on_dialled(void *user, struct stream *s, int err) {
  struct uplink *u = user;
  u->dial = NULL;
  struct tls_client_config c = {.alpn = alpn,
                                .alpn_required = true,
                                .server_name = u->conf.host,
                                .name_any = true,
                                .trust = TLS_TRUST_CHAIN,
                                .verify = verify,
                                .min_version = TLS_1_3,
                                .link = true,
                                .user = u};
  if (!err && (err = tls_client_context(&c, &u->ctx)))
    stream_close(s, err);
  else if (!err)
    err = tls_connect(s, u->ctx, on_tls, u, &u->tls);
  if (err)
    outcome(u, err);
}

int uplink_start(const struct uplink_conf *conf, uplink_cb cb, void *user, struct uplink **out) {
  struct uplink *u = calloc(1, sizeof *u);
  if (!u)
    return BEAM_ERR_NOMEM;
  u->conf = *conf;
  u->cb = cb;
  u->user = user;
  u->out.why = (struct beam_error)BEAM_ERROR_INIT;
  int err = net_dial(conf->net, conf->loop, conf->host, conf->port, DIAL_MS, on_dialled, u, &u->dial);
  if (err) {
    free(u);
    return err;
  }
  *out = u;
  return 0;
}
