/* The greeting and what follows it, in either role, against a peer that says anything at any time. Byte 0: bit 0 the victim's role, bits 1 and 2 how a
 * relay decides. Then steps of two bytes: what the peer does (low nibble; high nibble: how it is spoilt), and an argument. */
#include "fuzz.h"
#include "identity/key.h"
#include "io/loop.h"
#include "link/greet.h"

enum { SPOIL_NOTHING, SPOIL_PROOF, SPOIL_VERSION, SPOIL_SESSION, SPOIL_KEY, SPOIL_LENGTH, SPOIL_EXPORTER };
enum { DECIDE_YES, DECIDE_NO, DECIDE_LATER, DECIDE_LATER_NO };
enum { TAPS = 16 };

struct run {
  struct loop *l;
  struct link *victim, *peer;
  struct key *key; /* the peer's */
  enum link_role role;
  unsigned bits;
  bool proven; /* the peer has said one good HELLO or WELCOME */
  bool deciding, over;
  unsigned greeted, closed;
  int err;
  struct stream *taps[TAPS];
  unsigned n;
  uint8_t device[KEY_PUBLIC]; /* the victim's, when it is an agent */
};

/* --- the victim's owner --- */

static void tap_readable(void *user) {
  (void)user;
}
static void tap_closed(void *user, int reason) {
  (void)user;
  MUST(reason < BEAM_AGAIN);
}
static const struct stream_events tap_events = {tap_readable, NULL, tap_closed};

static void keep(struct run *r, struct stream *s) {
  if (r->n == TAPS) {
    stream_close(s, BEAM_ERR_REFUSED);
    return;
  }
  stream_own(s, &tap_events, r);
  r->taps[r->n++] = s;
}

static void on_stream(void *user, struct stream *s) {
  struct run *r = user;
  MUST(r->greeted && !r->err && !r->over);
  keep(r, s);
}

static void on_control(void *user, const beam_Control *m) {
  struct run *r = user;
  MUST(r->greeted && !r->err && !r->over);
  MUST(m->which_kind && m->which_kind != beam_Control_hello_tag && m->which_kind != beam_Control_welcome_tag);
  MUST(m->which_kind != beam_Control_ping_tag && m->which_kind != beam_Control_pong_tag);
}

static void let_go(struct run *r, int reason) {
  MUST(reason < BEAM_AGAIN && !r->over);
  r->over = true;
  link_close(r->victim, reason);
  r->victim = NULL;
}

static void on_closed(void *user, int reason) {
  struct run *r = user;
  MUST(r->greeted && !r->err && !r->closed++);
  let_go(r, reason);
}
static const struct link_events events = {.stream = on_stream, .control = on_control, .closed = on_closed};

static void greeted(void *user, struct link *k, int err, const struct beam_error *why,
                    const struct greet_peer *peer) {
  struct run *r = user;
  MUST(!r->greeted++ && why && (err ? !peer : !!peer));
  MUST(err || r->proven);
  r->err = err;
  r->deciding = false;
  if (err)
    let_go(r, err);
  else
    link_own(k, &events, r);
}

static int decide(void *user, struct link *k, const struct greet_peer *peer, uint8_t session[16],
                  struct beam_error *why) {
  (void)k, (void)session, (void)why;
  struct run *r = user;
  MUST(r->proven && !r->greeted && !memcmp(peer->device_key, key_public(r->key), KEY_PUBLIC));
  unsigned how = r->bits >> 1 & 3;
  r->deciding = how >= DECIDE_LATER;
  return how == DECIDE_YES ? 0 : how == DECIDE_NO ? BEAM_ERR_DENIED : BEAM_AGAIN;
}

/* --- the peer --- */

static void say(struct run *r, const beam_Control *m) {
  link_send(r->peer, m); /* full: the victim is flooded as it is */
}

static struct proof proof_of(const struct run *r, unsigned spoilt, unsigned arg) {
  struct proof p = {.version_min = 1, .version_max = 1, .version = 1};
  if (spoilt == SPOIL_VERSION)
    p.version_min = arg & 15, p.version_max = arg >> 4, p.version = arg;
  if (spoilt == SPOIL_EXPORTER)
    p.exporter[arg % sizeof p.exporter] ^= 1;
  memcpy(p.device, r->role == LINK_RELAY ? key_public(r->key) : r->device, KEY_PUBLIC);
  memcpy(p.relay_key, key_public(r->key), KEY_PUBLIC);
  return p;
}

static void hello(struct run *r, unsigned spoilt, unsigned arg) {
  beam_Control m = beam_Control_init_zero;
  beam_Hello *h = &m.kind.hello;
  struct proof p = proof_of(r, spoilt, arg);
  m.which_kind = beam_Control_hello_tag;
  h->version_min = p.version_min;
  h->version_max = p.version_max;
  h->device_key.size = KEY_PUBLIC;
  memcpy(h->device_key.bytes, p.device, KEY_PUBLIC);
  h->proof.size = KEY_SIGNATURE;
  proof_agent_sign(&p, r->key, h->proof.bytes);
  if (spoilt == SPOIL_PROOF)
    h->proof.bytes[arg % KEY_SIGNATURE] ^= 1;
  if (spoilt == SPOIL_SESSION)
    h->session.size = (pb_size_t)(arg % 17);
  if (spoilt == SPOIL_KEY)
    h->device_key.bytes[arg % KEY_PUBLIC] ^= 1;
  if (spoilt == SPOIL_LENGTH)
    h->device_key.size = (pb_size_t)(arg % KEY_PUBLIC);
  /* A session of zeros is what the proof says of none. */
  bool sound = spoilt == SPOIL_NOTHING || spoilt > SPOIL_EXPORTER || spoilt == SPOIL_SESSION ||
               (spoilt == SPOIL_VERSION && p.version_min <= 1 && p.version_max >= 1);
  r->proven = r->proven || (sound && r->role == LINK_RELAY);
  say(r, &m);
}

static void welcome(struct run *r, unsigned spoilt, unsigned arg) {
  beam_Control m = beam_Control_init_zero;
  beam_Welcome *w = &m.kind.welcome;
  struct proof p = proof_of(r, spoilt, arg);
  if (spoilt == SPOIL_VERSION)
    p.version_min = p.version_max = 1;
  memset(p.session, 7, sizeof p.session);
  m.which_kind = beam_Control_welcome_tag;
  w->version = p.version;
  w->session.size = spoilt == SPOIL_SESSION ? (pb_size_t)(arg % 17) : 16;
  memcpy(w->session.bytes, p.session, 16);
  w->relay_key.size = spoilt == SPOIL_LENGTH ? (pb_size_t)(arg % KEY_PUBLIC) : KEY_PUBLIC;
  memcpy(w->relay_key.bytes, p.relay_key, KEY_PUBLIC);
  w->proof.size = KEY_SIGNATURE;
  proof_relay_sign(&p, r->key, w->proof.bytes);
  if (spoilt == SPOIL_PROOF)
    w->proof.bytes[arg % KEY_SIGNATURE] ^= 1;
  if (spoilt == SPOIL_KEY)
    w->relay_key.bytes[arg % KEY_PUBLIC] ^= 1;
  w->ping_ms = arg * 500;
  bool sound = spoilt == SPOIL_NOTHING || spoilt > SPOIL_EXPORTER ||
               (spoilt == SPOIL_SESSION && arg % 17 == 16) || (spoilt == SPOIL_VERSION && arg == 1);
  r->proven = r->proven || (sound && r->role == LINK_AGENT);
  say(r, &m);
}

static void anything(struct run *r, pb_size_t kind, unsigned spoilt, unsigned arg) {
  beam_Control m = beam_Control_init_zero;
  m.which_kind = kind;
  m.critical = spoilt & 1;
  if (kind == beam_Control_ping_tag || kind == beam_Control_pong_tag)
    m.kind.pong.nonce = arg;
  else if (kind == beam_Control_error_tag)
    m.kind.error.code = (int)arg - 128, m.kind.error.fatal = spoilt & 2,
    memset(m.kind.error.what, (int)arg, 100);
  else if (kind)
    memset(&m.kind, (int)arg, 8);
  say(r, &m);
}

static void step(struct run *r, unsigned what, unsigned spoilt, unsigned arg) {
  struct stream *s;
  static const uint8_t none[16];
  struct beam_error why = BEAM_ERROR_INIT;
  switch (what) {
  case 0: /* a kind from later, which is not critical, or the decoder would have refused it */
    anything(r, 0, 0, arg);
    break;
  case 1:
    hello(r, spoilt, arg);
    break;
  case 2:
    welcome(r, spoilt, arg);
    break;
  case 14:
    if (!link_open(r->peer, &s))
      keep(r, s);
    break;
  case 15:
    if (spoilt == 1 && r->deciding && r->victim)
      greet_answer(r->victim, (r->bits >> 1 & 3) == DECIDE_LATER ? 0 : BEAM_ERR_DENIED, arg & 1 ? none : NULL,
                   &why);
    else if (spoilt == 2)
      link_drain(r->peer);
    else
      loop_run_for(r->l, arg * 100);
    break;
  default:
    anything(r, (pb_size_t)what, spoilt, arg);
  }
  if (arg & 1)
    loop_run_for(r->l, 0);
}

static void peer_stream(void *user, struct stream *s) {
  (void)user;
  stream_close(s, BEAM_ERR_REFUSED);
}
static void peer_control(void *user, const beam_Control *m) {
  struct run *r = user;
  if (m->which_kind == beam_Control_hello_tag)
    memcpy(r->device, m->kind.hello.device_key.bytes, KEY_PUBLIC);
}
static void peer_closed(void *user, int reason) {
  (void)user;
  MUST(reason < BEAM_AGAIN);
}
static const struct link_events peer_events = {NULL, peer_stream, peer_control, peer_closed, NULL};

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  static struct key *keys[2];
  struct run r = {0};
  struct link *relay, *agent;
  if (!n || n > 1024)
    return 0;
  if (!keys[0])
    MUST(!key_ephemeral(&keys[0]) && !key_ephemeral(&keys[1]));
  r.bits = p[0];
  r.role = r.bits & 1 ? LINK_RELAY : LINK_AGENT;
  r.key = keys[0];
  MUST(!loop_new_virtual(&r.l) && !link_mem_pair(r.l, &relay, &agent));
  r.victim = r.role == LINK_RELAY ? relay : agent;
  r.peer = r.role == LINK_RELAY ? agent : relay;
  link_own(r.peer, &peer_events, &r);
  struct greet_relay_conf as_relay = {.key = keys[1], .domain = "fuzz.test", .decide = decide};
  struct greet_agent_conf as_agent = {.device = keys[1], .agent = "fuzz", .hostname = "fuzz"};
  MUST(!(r.role == LINK_RELAY ? greet_relay(r.victim, &as_relay, greeted, &r)
                              : greet_agent(r.victim, &as_agent, greeted, &r)));
  loop_run_for(r.l, 0);
  for (size_t i = 1; i + 1 < n && !r.over; i += 2)
    step(&r, p[i] & 15, p[i] >> 4, p[i + 1]);
  /* Then silence: whoever is at the other end, this ends in time. */
  loop_run_for(r.l, 80000);
  MUST(r.over && r.greeted == 1);
  link_close(r.peer, 0);
  for (unsigned i = 0; i < r.n; i++)
    stream_close(r.taps[i], 0);
  loop_run_for(r.l, 1);
  loop_free(r.l);
  return 0;
}
