/* relay_rig.h: a scripted relay in the simulated network: real TLS, WebSocket, link and greeting, answers to BIND as the test wants, and a box on the way
 * that lets through what the test permits; a scripted proxy beside it. Included once by a test. */
#ifndef SIM_RELAY_RIG_H
#define SIM_RELAY_RIG_H

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "identity/ca.h"
#include "io/net.h"
#include "io/pipe.h"
#include "link/greet.h"
#include "link/ws.h"
#include "tls/tls.h"
#include "wire/h1.h"
#include "wire/hello.h"
#include "wire/ws.h"

#ifndef RIG_LINKS
#define RIG_LINKS 64 /* since the start */
#define RIG_CONNS 256
#endif

/* What the box on the way does to a connection, once it has seen what it is. */
enum rig_box { RIG_PASS, RIG_DROP, RIG_RESET };

struct rig_link {
  struct rig *rig;
  struct link *link;
  bool up;
  uint64_t bound_at; /* virtual ms, 0: not */
  char wanted[256];  /* of BIND */
  uint8_t group[16];
  unsigned lane;
};

struct rig {
  struct loop *l;
  struct net *net;
  bool joined; /* the loop and the network are another rig's */
  const char *domain;
  struct ca *ca;
  bool ca_shared; /* it is another rig's */
  struct tls_cert *cert;
  struct tls_context *ctx;
  struct listener *listener;
  struct rig_link links[RIG_LINKS];
  unsigned links_n; /* since the start */
  int refuse_hello; /* beam_err for every HELLO, 0: welcome */
  int refuse_bind;
  bool mute;  /* BIND is not answered */
  bool moved; /* an agent said that it has its next link */
  enum rig_box box_h2, box_ws;
  int refuse_upgrade; /* a status: what the web server in front answers; 0: 101 */
  struct tls_context *outer;
  struct rig_conn {
    struct rig *rig;
    struct stream *s; /* being looked at, or held by the box */
    bool outer;       /* over TLS or not, it is a web server's: HTTP comes */
    bool dropped;     /* by the box: nothing is ever answered */
  } conns[RIG_CONNS];
  unsigned conns_n, h2_n, ws_n; /* since the start */
  struct listener *proxy;
  const char *proxy_answer; /* to CONNECT */
  unsigned proxied;
};

static struct tls_cert *rig_choose(void *user, const char *sni) {
  (void)sni;
  return tls_cert_ref(((struct rig *)user)->cert);
}

static void rig_control(void *user, const beam_Control *m) {
  struct rig_link *k = user;
  struct rig *r = k->rig;
  r->moved = r->moved || m->which_kind == beam_Control_drain_tag;
  if (m->which_kind != beam_Control_bind_tag)
    return;
  str_copy(k->wanted, sizeof k->wanted, m->kind.bind.name);
  memcpy(k->group, m->kind.bind.group.bytes, sizeof k->group);
  k->lane = m->kind.bind.lane;
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
    const char *label = k->wanted[0] ? k->wanted : "shop";
    str_fmt(a.kind.bound.name, sizeof a.kind.bound.name, "%.*s.%s", (int)strcspn(label, "."), label,
            r->domain);
    str_fmt(a.kind.bound.url, sizeof a.kind.bound.url, "https://%s", a.kind.bound.name);
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

/* --- what comes in --- */

static void rig_grant(struct rig_conn *c, const struct h1_message *m, struct span key) {
  char text[512], accept[WS_ACCEPT_SIZE];
  struct stream *s = c->s, *ws;
  c->s = NULL;
  assert_memory_equal(m->head.target.p, WS_PATH, m->head.target.n);
  ws_accept_make(accept, key.p);
  str_fmt(text, sizeof text,
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
          "Sec-WebSocket-Protocol: beam.1\r\nSec-WebSocket-Accept: %s\r\n\r\n",
          accept);
  stream_write(s, text, strlen(text));
  if (!ws_stream(s, WS_SERVER, &ws))
    tls_accept(ws, c->rig->ctx, rig_tls, c->rig, NULL);
}

static void rig_http(struct rig_conn *c) {
  struct rig *r = c->rig;
  struct h1_message m;
  struct span key;
  size_t n = stream_waiting(c->s), scanned = 0;
  const char *p = (const char *)evbuffer_pullup(stream_input(c->s), -1);
  long len = n ? h1_head_length(p, n, &scanned) : 0;
  if (len <= 0)
    return;
  assert_int_equal(h1_parse_request(p, (size_t)len, &m), H1_OK);
  stream_consume(c->s, (size_t)len);
  if (r->refuse_upgrade) {
    char text[64];
    str_fmt(text, sizeof text, "HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n", r->refuse_upgrade);
    stream_write(c->s, text, strlen(text));
    stream_close(c->s, 0);
    c->s = NULL;
  } else {
    assert_int_equal(ws_request_check(&m.head, WS_PROTOCOL, &key), 0);
    rig_grant(c, &m, key);
  }
  http_head_free(&m.head);
}

static void rig_conn_own(struct rig_conn *c, struct stream *s);

static void rig_outer(void *user, int err, struct stream *s, const struct tls_info *info) {
  (void)info;
  struct rig_conn *c = user;
  c->outer = true;
  if (!err)
    rig_conn_own(c, s);
}

static void rig_readable(void *user) {
  struct rig_conn *c = user;
  struct rig *r = c->rig;
  struct sniff hello;
  if (c->dropped)
    return;
  if (c->outer) {
    rig_http(c);
    return;
  }
  enum sniff_what what = sniff(evbuffer_pullup(stream_input(c->s), -1), stream_waiting(c->s), &hello);
  if (what != SNIFF_TLS && what != SNIFF_HTTP1)
    return;
  bool h2 = what == SNIFF_TLS && hello.alpn & SNIFF_ALPN_BEAM;
  enum rig_box box = h2 ? r->box_h2 : r->box_ws;
  h2 ? r->h2_n++ : r->ws_n++;
  if (box == RIG_DROP) {
    c->dropped = true;
    return;
  }
  struct stream *s = c->s;
  c->s = NULL;
  if (box == RIG_RESET)
    stream_close(s, BEAM_ERR_RESET);
  else if (h2)
    tls_accept(s, r->ctx, rig_tls, r, NULL);
  else if (what == SNIFF_TLS)
    tls_accept(s, r->outer, rig_outer, c, NULL);
  else {
    c->outer = true;
    rig_conn_own(c, s);
  }
}

static void rig_gone(void *user, int reason) {
  struct rig_conn *c = user;
  stream_close(c->s, reason);
  c->s = NULL;
}

static const struct stream_events rig_conn_events = {rig_readable, NULL, rig_gone};

static void rig_conn_own(struct rig_conn *c, struct stream *s) {
  c->s = s;
  stream_own(s, &rig_conn_events, c);
}

static void rig_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  (void)peer;
  struct rig *r = user;
  assert_true(r->conns_n < RIG_CONNS);
  struct rig_conn *c = &r->conns[r->conns_n++];
  *c = (struct rig_conn){.rig = r};
  rig_conn_own(c, s);
}

/* --- a proxy at proxy:3128: answers any CONNECT, and joins it with the relay --- */

static void rig_proxy_dialled(void *user, struct stream *s, int err) {
  struct rig_conn *c = user;
  struct pipe *pipe;
  struct stream *client = c->s;
  c->s = NULL;
  if (err || !client) {
    stream_close(client, err);
    stream_close(s, BEAM_ERR_RESET);
  } else
    assert_int_equal(pipe_start(client, s, NULL, NULL, &pipe), 0);
}

static void rig_proxy_readable(void *user) {
  struct rig_conn *c = user;
  struct rig *r = c->rig;
  struct dial *d;
  size_t n = stream_waiting(c->s);
  const char *p = (const char *)evbuffer_pullup(stream_input(c->s), -1);
  if (n < 4 || memcmp(p + n - 4, "\r\n\r\n", 4))
    return;
  r->proxied++;
  stream_consume(c->s, n);
  stream_write(c->s, r->proxy_answer, strlen(r->proxy_answer));
  if (strstr(r->proxy_answer, " 200 "))
    assert_int_equal(net_dial(r->net, r->l, "relay", 443, 5000, rig_proxy_dialled, c, &d), 0);
}

static const struct stream_events rig_proxy_events = {rig_proxy_readable, NULL, rig_gone};

static void rig_proxy_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  (void)peer;
  struct rig *r = user;
  assert_true(r->conns_n < RIG_CONNS);
  struct rig_conn *c = &r->conns[r->conns_n++];
  *c = (struct rig_conn){.rig = r, .s = s};
  stream_own(s, &rig_proxy_events, c);
}

static void rig_new_ca(struct rig *r) {
  static const char *const alpn[] = {"beam/1", NULL};
  const char *name = "beam-relay";
  struct cert *c;
  tls_cert_unref(r->cert);
  tls_context_unref(r->ctx);
  if (!r->ca_shared) {
    ca_free(r->ca);
    assert_int_equal(ca_ephemeral(&r->ca, NULL), 0);
  }
  assert_int_equal(ca_issue(r->ca, &name, 1, CA_LINK, 24, &c, NULL), 0);
  assert_int_equal(tls_cert_new(c->chain, strlen(c->chain), c->key.p, c->key.n, &r->cert), 0);
  cert_unref(c);
  struct tls_server_config conf = {.alpn = alpn, .choose = rig_choose, .link = true, .user = r};
  assert_int_equal(tls_server_context(&conf, &r->ctx), 0);
  static const char *const http[] = {"http/1.1", NULL};
  tls_context_unref(r->outer);
  struct tls_server_config web = {.alpn = http, .choose = rig_choose, .user = r};
  assert_int_equal(tls_server_context(&web, &r->outer), 0);
}

/* Another relay in the network of the first; rig_stop() it before that. */
static __attribute__((unused)) void rig_join(struct rig *r, struct rig *first, const char *host,
                                             const char *domain, bool same_ca) {
  memset(r, 0, sizeof *r);
  r->ca_shared = same_ca;
  r->ca = same_ca ? first->ca : NULL;
  r->joined = true;
  r->l = first->l;
  r->net = first->net;
  r->domain = domain;
  rig_new_ca(r);
  assert_int_equal(net_listen(r->net, r->l, host, 443, NULL, rig_accept, r, &r->listener), 0);
}

static void rig_start(struct rig *r, uint64_t delay_ms) {
  struct memnet_conf conf = {.seed = 7, .delay_ms = delay_ms};
  memset(r, 0, sizeof *r);
  r->domain = "sim.test";
  assert_int_equal(loop_new_virtual(&r->l), 0);
  assert_int_equal(memnet_new(r->l, &conf, &r->net), 0);
  rig_new_ca(r);
  assert_int_equal(net_listen(r->net, r->l, "relay", 443, NULL, rig_accept, r, &r->listener), 0);
  assert_int_equal(net_listen(r->net, r->l, "proxy", 3128, NULL, rig_proxy_accept, r, &r->proxy), 0);
  r->proxy_answer = "HTTP/1.1 200 Connection established\r\n\r\n";
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
  for (unsigned i = 0; i < r->conns_n; i++)
    if (r->conns[i].s)
      rig_gone(&r->conns[i], BEAM_ERR_CLOSED);
  net_listener_close(r->net, r->listener);
  if (!r->joined)
    net_listener_close(r->net, r->proxy);
  loop_run_for(r->l, 60000);
  if (!r->joined)
    memnet_free(r->net);
  tls_context_unref(r->ctx);
  tls_context_unref(r->outer);
  tls_cert_unref(r->cert);
  if (!r->ca_shared)
    ca_free(r->ca);
  if (!r->joined)
    loop_free(r->l);
}

#endif
