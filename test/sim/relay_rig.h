/* relay_rig.h: a scripted relay in the simulated network: real TLS, link and greeting, answers to BIND as the test wants. Included once by a test. */
#ifndef SIM_RELAY_RIG_H
#define SIM_RELAY_RIG_H

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "identity/ca.h"
#include "io/net.h"
#include "link/greet.h"
#include "tls/tls.h"

enum { RIG_LINKS = 64 };

struct rig_link {
  struct rig *rig;
  struct link *link;
  bool up;
  uint64_t bound_at; /* virtual ms, 0: not */
  char wanted[256];  /* of BIND */
};

struct rig {
  struct loop *l;
  struct net *net;
  struct ca *ca;
  struct tls_cert *cert;
  struct tls_context *ctx;
  struct listener *listener;
  struct rig_link links[RIG_LINKS];
  unsigned links_n; /* since the start */
  int refuse_hello; /* beam_err for every HELLO, 0: welcome */
  int refuse_bind;
  bool mute; /* BIND is not answered */
};

static struct tls_cert *rig_choose(void *user, const char *sni) {
  (void)sni;
  return tls_cert_ref(((struct rig *)user)->cert);
}

static void rig_control(void *user, const beam_Control *m) {
  struct rig_link *k = user;
  struct rig *r = k->rig;
  if (m->which_kind != beam_Control_bind_tag)
    return;
  str_copy(k->wanted, sizeof k->wanted, m->kind.bind.name);
  beam_Control a = beam_Control_init_zero;
  if (r->mute)
    return;
  if (r->refuse_bind) {
    a.which_kind = beam_Control_error_tag;
    a.kind.error.id = m->kind.bind.id;
    a.kind.error.code = r->refuse_bind;
    str_copy(a.kind.error.what, sizeof a.kind.error.what, "the script says no");
  } else {
    a.which_kind = beam_Control_bound_tag;
    a.kind.bound.id = m->kind.bind.id;
    str_copy(a.kind.bound.name, sizeof a.kind.bound.name, "shop.sim.test");
    str_copy(a.kind.bound.url, sizeof a.kind.bound.url, "https://shop.sim.test");
    k->bound_at = loop_now(r->l);
  }
  link_send(k->link, &a);
}

static void rig_stream(void *user, struct stream *s) {
  (void)user;
  stream_close(s, BEAM_ERR_REFUSED);
}

static void rig_closed(void *user, int reason) {
  struct rig_link *k = user;
  link_close(k->link, reason);
  k->link = NULL;
}

static const struct link_events rig_events = {
    .stream = rig_stream, .control = rig_control, .closed = rig_closed};

static int rig_decide(void *user, struct link *link, const struct greet_peer *peer, uint8_t session[16],
                      struct beam_error *why) {
  (void)link, (void)peer, (void)session, (void)why;
  return ((struct rig_link *)user)->rig->refuse_hello;
}

static void rig_greeted(void *user, struct link *link, int err, const struct beam_error *why,
                        const struct greet_peer *peer) {
  (void)link, (void)why, (void)peer;
  struct rig_link *k = user;
  if (err) {
    rig_closed(k, err);
    return;
  }
  k->up = true;
  link_own(k->link, &rig_events, k);
}

static void rig_tls(void *user, int err, struct stream *s, const struct tls_info *info) {
  (void)info;
  struct rig *r = user;
  uint8_t exporter[TLS_EXPORT_BYTES];
  if (err)
    return;
  if (r->links_n == RIG_LINKS || tls_exporter(s, exporter)) {
    stream_close(s, BEAM_ERR_LIMIT);
    return;
  }
  struct rig_link *k = &r->links[r->links_n++];
  k->rig = r;
  if (link_h2_new(s, LINK_RELAY, exporter, &k->link))
    return;
  struct greet_relay_conf conf = {.key = ca_relay_key(r->ca), .domain = "sim.test", .decide = rig_decide};
  memcpy(conf.relay, ca_fingerprint(r->ca), sizeof conf.relay);
  if (greet_relay(k->link, &conf, rig_greeted, k))
    rig_closed(k, BEAM_ERR_NOMEM);
}

static void rig_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  (void)peer;
  struct rig *r = user;
  tls_accept(s, r->ctx, rig_tls, r, NULL);
}

static void rig_new_ca(struct rig *r) {
  static const char *const alpn[] = {"beam/1", NULL};
  const char *name = "beam-relay";
  struct cert *c;
  tls_cert_unref(r->cert);
  tls_context_unref(r->ctx);
  ca_free(r->ca);
  assert_int_equal(ca_ephemeral(&r->ca, NULL), 0);
  assert_int_equal(ca_issue(r->ca, &name, 1, CA_LINK, 24, &c, NULL), 0);
  assert_int_equal(tls_cert_new(c->chain, strlen(c->chain), c->key.p, c->key.n, &r->cert), 0);
  cert_unref(c);
  struct tls_server_config conf = {.alpn = alpn, .choose = rig_choose, .link = true, .user = r};
  assert_int_equal(tls_server_context(&conf, &r->ctx), 0);
}

static void rig_start(struct rig *r, uint64_t delay_ms) {
  struct memnet_conf conf = {.seed = 7, .delay_ms = delay_ms};
  memset(r, 0, sizeof *r);
  assert_int_equal(loop_new_virtual(&r->l), 0);
  assert_int_equal(memnet_new(r->l, &conf, &r->net), 0);
  rig_new_ca(r);
  assert_int_equal(net_listen(r->net, r->l, "relay", 443, false, rig_accept, r, &r->listener), 0);
}

/* Links up now. */
static unsigned rig_up(const struct rig *r) {
  unsigned n = 0;
  for (unsigned i = 0; i < r->links_n; i++)
    n += r->links[i].link && r->links[i].up;
  return n;
}

static void rig_stop(struct rig *r) {
  for (unsigned i = 0; i < r->links_n; i++)
    if (r->links[i].link)
      rig_closed(&r->links[i], BEAM_ERR_CLOSED);
  net_listener_close(r->net, r->listener);
  loop_run_for(r->l, 60000);
  memnet_free(r->net);
  tls_context_unref(r->ctx);
  tls_cert_unref(r->cert);
  ca_free(r->ca);
  loop_free(r->l);
}

#endif
