#include "link/greet.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"

enum state { WAIT_READY, WAIT_HELLO, DECIDING, WAIT_WELCOME, UP, DEAD };

enum { PING_MS_MIN = 1000, PING_MS_MAX = 60000 }; /* what an agent lets a relay ask for */

struct greet {
  struct link_guard guard;
  struct link *k;
  enum link_role role;
  enum state state;
  struct loop_timer patience; /* greeting: the whole of it; UP: the PONG */
  struct loop_timer ping;
  struct loop_task failed; /* reports an error that happened inside the owner's call */
  int failed_err;
  greet_cb cb;
  int (*decide)(void *user, struct link *k, const struct greet_peer *peer, uint8_t session[16],
                struct beam_error *why);
  void *user;

  const struct key *key;
  struct proof proof;
  uint32_t ping_ms;
  char domain[256];
  unsigned worker, workers;
  char token[1025];
  char agent[128], hostname[256]; /* agent: own; relay: the peer's */

  uint64_t asked_at; /* the PING in flight, 0: none */
  uint64_t nonce;
  uint32_t rtt;
  uint64_t second; /* control messages of this second */
  unsigned rate;
  bool offered; /* relay: OFFER came */
};

/* Text of the other side, made safe for a terminal and a log line. */
static void text_copy(char *dst, size_t cap, const char *src) {
  str_copy(dst, cap, src);
  uint8_t last = 0;
  for (uint8_t *p = (uint8_t *)dst; *p; p++) {
    bool c1 = last == 0xc2 && *p >= 0x80 && *p < 0xa0; /* C1 controls as UTF-8 */
    last = *p;
    if (*p < 0x20 || *p == 0x7f || c1)
      *p = '?';
  }
}

static void describe_self(char *dst, size_t cap) {
  struct utsname u;
  if (uname(&u)) {
    str_copy(dst, cap, "beam/" BEAM_VERSION);
    return;
  }
  for (char *p = u.sysname; *p; p++)
    *p = (char)tolower((unsigned char)*p);
  str_fmt(dst, cap, "beam/%s %s-%s", BEAM_VERSION, u.sysname, u.machine);
}

/* --- the end of a greeting, or of the link --- */

/* g may be gone after this. */
static void fail(struct greet *g, int err, const struct beam_error *why) {
  struct beam_error e = BEAM_ERROR_INIT;
  if (!why) {
    err_set(&e, err, NULL, "%s", err_find(err)->what);
    why = &e;
  }
  enum state was = g->state;
  g->state = DEAD;
  timer_stop(&g->patience);
  timer_stop(&g->ping);
  if (was == DEAD)
    return;
  log_limited(BEAM_LOG_INFO, "link", "link failed transport=%s at=%s reason=%s what=\"%s\"",
              g->k->ops->transport, was == UP ? "up" : "greeting", err_find(err)->code, why->what);
  if (was != UP)
    g->cb(g->user, g->k, err, why, NULL);
  else if (g->k->ev && g->k->ev->closed)
    g->k->ev->closed(g->k->user, err);
}

static void fail_later(struct greet *g, int err) {
  g->failed_err = err;
  loop_soon(g->k->loop, &g->failed);
}

static void on_failed(void *arg) {
  struct greet *g = arg;
  fail(g, g->failed_err, NULL);
}

/* Relay: say why, in words for the agent's user. */
static void refuse(struct greet *g, int err, const struct beam_error *why) {
  struct beam_error e = BEAM_ERROR_INIT;
  if (!why || !why->code) {
    err_set(&e, err, NULL, "%s", err_find(err)->what);
    why = &e;
  }
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_error_tag;
  m.kind.error.code = err;
  m.kind.error.fatal = true;
  str_copy(m.kind.error.what, sizeof m.kind.error.what, why->what);
  str_copy(m.kind.error.hint, sizeof m.kind.error.hint, why->hint);
  link_send(g->k, &m); /* when it cannot be said, the close says it */
  fail(g, err, why);
}

/* --- liveness --- */

/* One that is not answered yet is asked again: its time goes on from the first. */
static int send_ping(struct greet *g) {
  beam_Control m = beam_Control_init_zero;
  bool again = timer_set(&g->patience);
  m.which_kind = beam_Control_ping_tag;
  m.kind.ping.nonce = again ? g->nonce : ++g->nonce;
  if (timer_start(&g->ping, g->ping_ms) || link_send(g->k, &m))
    return BEAM_ERR_TIMEOUT;
  if (again)
    return 0;
  g->asked_at = loop_now(g->k->loop);
  return timer_start(&g->patience, LIMIT_PONG_MS);
}

static void on_ping(void *arg) {
  struct greet *g = arg;
  int err = send_ping(g);
  if (err)
    fail(g, err, NULL);
}

static void on_patience(void *arg) {
  struct greet *g = arg;
  struct beam_error e = BEAM_ERROR_INIT;
  if (g->state == UP) {
    if (g->k->heard > g->asked_at) /* busy, not dead: the PONG waits behind other bytes */
      return;
    err_set(&e, BEAM_ERR_TIMEOUT, NULL, "the peer has been silent for %llu ms",
            (unsigned long long)greet_silent_ms(g->k));
  } else if (g->role == LINK_AGENT) {
    err_set(&e, BEAM_ERR_TIMEOUT, NULL, "the relay did not answer HELLO in time");
  } else if (g->state == DECIDING) {
    err_set(&e, BEAM_ERR_TIMEOUT, "try again", "the relay could not decide in time");
    refuse(g, BEAM_ERR_TIMEOUT, &e);
    return;
  } else {
    err_set(&e, BEAM_ERR_TIMEOUT, NULL, "no HELLO in time");
  }
  fail(g, BEAM_ERR_TIMEOUT, &e);
}

static void on_pong(struct greet *g, uint64_t nonce) {
  if (nonce != g->nonce)
    return;
  timer_stop(&g->patience);
  g->rtt = (uint32_t)(loop_now(g->k->loop) - g->asked_at);
}

static int send_pong(struct greet *g, uint64_t nonce) {
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_pong_tag;
  m.kind.pong.nonce = nonce;
  return link_send(g->k, &m);
}

/* Up: tell the owner; it may close the link. */
static void up(struct greet *g, const struct greet_peer *peer) {
  struct beam_error none = BEAM_ERROR_INIT;
  g->state = UP;
  g->k->heard = loop_now(g->k->loop);
  timer_stop(&g->patience);
  explicit_bzero(g->token, sizeof g->token);
  if (timer_start(&g->ping, g->ping_ms)) {
    g->state = WAIT_WELCOME;
    fail(g, BEAM_ERR_NOMEM, NULL);
    return;
  }
  g->cb(g->user, g->k, 0, &none, peer);
}

/* --- agent --- */

long greet_offer(uint8_t *out, size_t cap) {
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_offer_tag;
  m.kind.offer.version_min = GREET_VERSION_MIN;
  m.kind.offer.version_max = GREET_VERSION_MAX;
  return control_encode(&m, out, cap);
}

static int send_hello(struct greet *g) {
  beam_Control m = beam_Control_init_zero;
  beam_Hello *h = &m.kind.hello;
  m.which_kind = beam_Control_hello_tag;
  m.critical = true;
  memcpy(g->proof.exporter, g->k->exporter, sizeof g->proof.exporter);
  h->version_min = g->proof.version_min;
  h->version_max = g->proof.version_max;
  h->device_key.size = KEY_PUBLIC;
  memcpy(h->device_key.bytes, g->proof.device, KEY_PUBLIC);
  h->proof.size = KEY_SIGNATURE;
  proof_agent_sign(&g->proof, g->key, h->proof.bytes);
  static const uint8_t none[16];
  if (memcmp(g->proof.session, none, sizeof none)) {
    h->session.size = sizeof none;
    memcpy(h->session.bytes, g->proof.session, sizeof none);
  }
  str_copy(h->token, sizeof h->token, g->token);
  str_copy(h->agent, sizeof h->agent, g->agent);
  str_copy(h->hostname, sizeof h->hostname, g->hostname);
  g->state = WAIT_WELCOME;
  int err = link_send(g->k, &m);
  explicit_bzero(h->token, sizeof h->token);
  return err;
}

static void features_of(const beam_Welcome *w, struct greet_peer *peer) {
  for (pb_size_t i = 0; i < w->features_count; i++) {
    const char *f = w->features[i];
    unsigned worker, workers;
    int end = 0;
    if (!strcmp(f, "links"))
      peer->links = true;
    else if (sscanf(f, "worker=%3u/%3u%n", &worker, &workers, &end) == 2 && !f[end] && worker < workers &&
             workers <= LIMIT_WORKERS) {
      peer->worker = worker;
      peer->workers = workers;
    }
  }
}

static void on_welcome(struct greet *g, const beam_Welcome *w) {
  struct beam_error e = BEAM_ERROR_INIT;
  struct proof p = g->proof;
  if (w->session.size != sizeof p.session || w->relay_key.size != KEY_PUBLIC ||
      w->proof.size != KEY_SIGNATURE || w->version < GREET_VERSION_MIN || w->version > GREET_VERSION_MAX) {
    err_set(&e, BEAM_ERR_PROTOCOL, NULL, "the relay's WELCOME is malformed");
    fail(g, BEAM_ERR_PROTOCOL, &e);
    return;
  }
  p.version = w->version;
  memcpy(p.session, w->session.bytes, sizeof p.session);
  memcpy(p.relay_key, w->relay_key.bytes, KEY_PUBLIC);
  if (proof_relay_verify(&p, w->proof.bytes)) {
    err_set(&e, BEAM_ERR_UNTRUSTED, "somebody may be in the middle of this connection",
            "the relay's WELCOME was not made for this connection");
    fail(g, BEAM_ERR_UNTRUSTED, &e);
    return;
  }
  g->ping_ms = w->ping_ms < PING_MS_MIN ? LIMIT_PING_MS : w->ping_ms > PING_MS_MAX ? PING_MS_MAX : w->ping_ms;
  text_copy(g->domain, sizeof g->domain, w->domain);
  struct greet_peer peer = {
      .version = w->version, .token = "", .agent = "", .hostname = "", .domain = g->domain};
  features_of(w, &peer);
  memcpy(peer.session, p.session, sizeof peer.session);
  memcpy(peer.relay_key, p.relay_key, sizeof peer.relay_key);
  up(g, &peer);
}

static void on_refusal(struct greet *g, const beam_Error *m) {
  struct beam_error e = BEAM_ERROR_INIT;
  int err = m->code <= BEAM_ERR_NOMEM && m->code >= BEAM_ERR_INTERNAL ? m->code : BEAM_ERR_DENIED;
  err_set(&e, err, NULL, "%s", err_find(err)->what);
  if (m->what[0])
    text_copy(e.what, sizeof e.what, m->what);
  if (m->hint[0])
    text_copy(e.hint, sizeof e.hint, m->hint);
  fail(g, err, &e);
}

/* --- relay --- */

static void peer_of(const struct greet *g, struct greet_peer *peer, const char *token) {
  *peer = (struct greet_peer){.version = g->proof.version,
                              .token = token,
                              .agent = g->agent,
                              .hostname = g->hostname,
                              .domain = g->domain};
  memcpy(peer->device_key, g->proof.device, KEY_PUBLIC);
  memcpy(peer->session, g->proof.session, sizeof peer->session);
}

static void welcome(struct greet *g, const uint8_t session[16]) {
  beam_Control m = beam_Control_init_zero;
  beam_Welcome *w = &m.kind.welcome;
  static const uint8_t none[16];
  m.which_kind = beam_Control_welcome_tag;
  m.critical = true;
  memcpy(g->proof.session, session, 16);
  if (!memcmp(session, none, sizeof none))
    random_bytes(g->proof.session, 16);
  memcpy(g->proof.relay_key, key_public(g->key), KEY_PUBLIC);
  w->version = g->proof.version;
  w->session.size = 16;
  memcpy(w->session.bytes, g->proof.session, 16);
  w->relay_key.size = KEY_PUBLIC;
  memcpy(w->relay_key.bytes, g->proof.relay_key, KEY_PUBLIC);
  w->proof.size = KEY_SIGNATURE;
  proof_relay_sign(&g->proof, g->key, w->proof.bytes);
  hex_encode(w->relay, g->proof.relay, sizeof g->proof.relay);
  str_copy(w->domain, sizeof w->domain, g->domain);
  w->ping_ms = g->ping_ms;
  str_copy(w->features[w->features_count++], sizeof w->features[0], "links");
  if (g->workers)
    str_fmt(w->features[w->features_count++], sizeof w->features[0], "worker=%u/%u", g->worker, g->workers);
  int err = link_send(g->k, &m);
  if (err) {
    fail(g, err, NULL);
    return;
  }
  struct greet_peer peer;
  peer_of(g, &peer, "");
  up(g, &peer);
}

/* Whether there is a version both speak; else the agent is told. */
static bool shares_version(struct greet *g, uint32_t min, uint32_t max) {
  struct beam_error e = BEAM_ERROR_INIT;
  if (max >= GREET_VERSION_MIN && min <= GREET_VERSION_MAX)
    return true;
  err_set(&e, BEAM_ERR_UNSUPPORTED,
          max < GREET_VERSION_MIN ? "update beam" : "ask the relay's owner to update it",
          "the agent speaks beam/%u to beam/%u, this relay beam/%d to beam/%d", min, max, GREET_VERSION_MIN,
          GREET_VERSION_MAX);
  refuse(g, BEAM_ERR_UNSUPPORTED, &e);
  return false;
}

/* Early, and perhaps a replay: a refusal may come of it, which HELLO would get as well, and nothing else. What counts is said and signed in HELLO. */
static void on_offer(struct greet *g, const beam_Offer *o) {
  struct beam_error e = BEAM_ERROR_INIT;
  if (g->offered || o->version_min > o->version_max) {
    err_set(&e, BEAM_ERR_PROTOCOL, NULL, "the agent's OFFER is malformed");
    refuse(g, BEAM_ERR_PROTOCOL, &e);
    return;
  }
  g->offered = true;
  shares_version(g, o->version_min, o->version_max);
}

static void on_hello(struct greet *g, const beam_Hello *h) {
  struct beam_error e = BEAM_ERROR_INIT;
  struct proof *p = &g->proof;
  if (h->device_key.size != KEY_PUBLIC || h->proof.size != KEY_SIGNATURE ||
      (h->session.size && h->session.size != sizeof p->session) || h->version_min > h->version_max) {
    err_set(&e, BEAM_ERR_PROTOCOL, NULL, "the agent's HELLO is malformed");
    refuse(g, BEAM_ERR_PROTOCOL, &e);
    return;
  }
  memcpy(p->exporter, g->k->exporter, sizeof p->exporter);
  memcpy(p->device, h->device_key.bytes, KEY_PUBLIC);
  memcpy(p->session, h->session.bytes, h->session.size);
  p->version_min = h->version_min;
  p->version_max = h->version_max;
  if (proof_agent_verify(p, h->proof.bytes)) {
    err_set(&e, BEAM_ERR_UNTRUSTED, "somebody may be in the middle of this connection",
            "this HELLO was not made for this connection");
    refuse(g, BEAM_ERR_UNTRUSTED, &e);
    return;
  }
  if (!shares_version(g, h->version_min, h->version_max))
    return;
  p->version = h->version_max < GREET_VERSION_MAX ? h->version_max : GREET_VERSION_MAX;
  text_copy(g->agent, sizeof g->agent, h->agent);
  text_copy(g->hostname, sizeof g->hostname, h->hostname);

  struct greet_peer peer;
  uint8_t session[16] = {0};
  peer_of(g, &peer, h->token);
  g->state = DECIDING;
  int err = g->decide ? g->decide(g->user, g->k, &peer, session, &e) : 0;
  if (err != BEAM_AGAIN)
    greet_answer(g->k, err, session, &e);
}

/* --- the guard --- */

static bool guard_ready(struct link_guard *guard) {
  struct greet *g = (struct greet *)guard;
  if (g->state == WAIT_READY) {
    int err = send_hello(g);
    if (err)
      fail(g, err, NULL);
  }
  return true; /* the owner hears of it by greet_cb */
}

static bool guard_stream(struct link_guard *guard, struct stream *s) {
  struct greet *g = (struct greet *)guard;
  if (g->state == UP)
    return false;
  stream_close(s, BEAM_ERR_REFUSED);
  return true;
}

static bool flooded(struct greet *g) {
  uint64_t second = loop_now(g->k->loop) / 1000;
  if (second != g->second) {
    g->second = second;
    g->rate = 0;
  }
  return ++g->rate > LIMIT_CONTROL_RATE;
}

static bool up_control(struct greet *g, const beam_Control *m) {
  switch (m->which_kind) {
  case beam_Control_ping_tag: {
    int err = send_pong(g, m->kind.ping.nonce);
    if (err)
      fail(g, err, NULL);
    return true;
  }
  case beam_Control_pong_tag:
    on_pong(g, m->kind.pong.nonce);
    return true;
  case beam_Control_hello_tag:
  case beam_Control_welcome_tag:
  case beam_Control_offer_tag:
    fail(g, BEAM_ERR_PROTOCOL, NULL);
    return true;
  default:
    return m->which_kind == 0; /* of a newer version, and not critical */
  }
}

static bool guard_control(struct link_guard *guard, const beam_Control *m) {
  struct greet *g = (struct greet *)guard;
  if (g->state == DEAD)
    return true;
  if (flooded(g)) {
    fail(g, BEAM_ERR_LIMIT, NULL);
    return true;
  }
  if (g->state == UP)
    return up_control(g, m);
  if (m->which_kind == 0)
    return true;
  if (g->state == WAIT_HELLO && m->which_kind == beam_Control_hello_tag)
    on_hello(g, &m->kind.hello);
  else if (g->state == WAIT_HELLO && m->which_kind == beam_Control_offer_tag)
    on_offer(g, &m->kind.offer);
  else if (g->state == WAIT_WELCOME && m->which_kind == beam_Control_welcome_tag)
    on_welcome(g, &m->kind.welcome);
  else if (g->state == WAIT_WELCOME && m->which_kind == beam_Control_error_tag)
    on_refusal(g, &m->kind.error);
  else
    fail(g, BEAM_ERR_PROTOCOL, NULL);
  return true;
}

static bool guard_closed(struct link_guard *guard, int reason) {
  struct greet *g = (struct greet *)guard;
  fail(g, reason, NULL);
  return true;
}

static void guard_free(struct link_guard *guard) {
  struct greet *g = (struct greet *)guard;
  timer_stop(&g->patience);
  timer_stop(&g->ping);
  task_cancel(&g->failed);
  explicit_bzero(g->token, sizeof g->token);
  free(g);
}

/* --- beginnings --- */

static struct greet *greet_of(const struct link *k) {
  return k->guard && k->guard->free == guard_free ? (struct greet *)k->guard : NULL;
}

static struct greet *greet_new(struct link *k, enum link_role role, greet_cb cb, void *user) {
  struct greet *g = calloc(1, sizeof *g);
  if (!g)
    return NULL;
  g->guard = (struct link_guard){guard_ready, guard_stream, guard_control, guard_closed, guard_free};
  g->k = k;
  g->role = role;
  g->cb = cb;
  g->user = user;
  g->ping_ms = LIMIT_PING_MS;
  timer_init(&g->patience, k->loop, on_patience, g);
  timer_init(&g->ping, k->loop, on_ping, g);
  task_init(&g->failed, on_failed, g);
  return g;
}

int greet_agent(struct link *k, const struct greet_agent_conf *conf, greet_cb cb, void *user) {
  if (!conf->device || !cb || k->guard || (conf->token && strlen(conf->token) > 1024))
    return BEAM_ERR_INVALID;
  struct greet *g = greet_new(k, LINK_AGENT, cb, user);
  if (!g)
    return BEAM_ERR_NOMEM;
  g->key = conf->device;
  g->proof.version_min = GREET_VERSION_MIN;
  g->proof.version_max = GREET_VERSION_MAX;
  memcpy(g->proof.device, key_public(conf->device), KEY_PUBLIC);
  memcpy(g->proof.relay, conf->relay, sizeof g->proof.relay);
  if (conf->resume)
    memcpy(g->proof.session, conf->resume, sizeof g->proof.session);
  str_copy(g->token, sizeof g->token, conf->token ? conf->token : "");
  if (conf->agent)
    str_copy(g->agent, sizeof g->agent, conf->agent);
  else
    describe_self(g->agent, sizeof g->agent);
  if (conf->hostname)
    str_copy(g->hostname, sizeof g->hostname, conf->hostname);
  else if (gethostname(g->hostname, sizeof g->hostname - 1))
    g->hostname[0] = 0;
  /* the relay's own patience is shorter: its answer names the cause */
  if (timer_start(&g->patience, 2ull * LIMIT_HELLO_MS)) {
    guard_free(&g->guard);
    return BEAM_ERR_NOMEM;
  }
  k->guard = &g->guard;
  g->state = WAIT_READY;
  int err = k->ready ? send_hello(g) : 0;
  if (err)
    fail_later(g, err);
  return 0;
}

int greet_relay(struct link *k, const struct greet_relay_conf *conf, greet_cb cb, void *user) {
  if (!conf->key || !cb || k->guard)
    return BEAM_ERR_INVALID;
  struct greet *g = greet_new(k, LINK_RELAY, cb, user);
  if (!g)
    return BEAM_ERR_NOMEM;
  g->key = conf->key;
  g->decide = conf->decide;
  memcpy(g->proof.relay, conf->relay, sizeof g->proof.relay);
  str_copy(g->domain, sizeof g->domain, conf->domain ? conf->domain : "");
  if (conf->ping_ms)
    g->ping_ms = conf->ping_ms;
  g->worker = conf->worker;
  g->workers = conf->workers;
  if (timer_start(&g->patience, LIMIT_HELLO_MS)) {
    guard_free(&g->guard);
    return BEAM_ERR_NOMEM;
  }
  k->guard = &g->guard;
  g->state = WAIT_HELLO;
  return 0;
}

void greet_answer(struct link *k, int err, const uint8_t session[16], const struct beam_error *why) {
  static const uint8_t none[16];
  struct greet *g = greet_of(k);
  if (!g || g->state != DECIDING)
    return;
  if (err)
    refuse(g, err, why);
  else
    welcome(g, session ? session : none);
}

int greet_ping(struct link *k) {
  struct greet *g = greet_of(k);
  if (!g || g->state != UP)
    return BEAM_AGAIN;
  int err = send_ping(g);
  if (err)
    fail_later(g, err);
  return 0;
}

uint64_t greet_silent_ms(const struct link *k) {
  return greet_of(k) ? loop_now(k->loop) - k->heard : 0;
}

uint32_t greet_rtt_ms(const struct link *k) {
  const struct greet *g = greet_of(k);
  return g ? g->rtt : 0;
}
