#include "contract.h"

#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"
#include "link/greet.h"

/* An agent and a relay that greet over a pair of links, and what each was told. */
struct party {
  struct link *k;
  int calls, err;
  struct beam_error why;
  struct greet_peer peer;
  char token[64], agent[128], hostname[256], domain[256];
  unsigned controls, streams, closed;
  int reason;
  int decide;         /* what decide() answers */
  bool close_in_call; /* link_close() inside greet_cb */
  uint8_t give[16];
};

struct meeting {
  struct loop *l;
  struct key *device, *relay_key;
  struct greet_agent_conf ac;
  struct greet_relay_conf rc;
  struct party agent, relay;
};

static void on_control(void *user, const beam_Control *m) {
  struct party *p = user;
  assert_int_not_equal(m->which_kind, beam_Control_ping_tag);
  assert_int_not_equal(m->which_kind, beam_Control_pong_tag);
  p->controls++;
}

static void on_stream(void *user, struct stream *s) {
  ((struct party *)user)->streams++;
  stream_close(s, 0);
}

static void on_link_closed(void *user, int reason) {
  struct party *p = user;
  p->closed++;
  p->reason = reason;
}

static const struct link_events events = {NULL, on_stream, on_control, on_link_closed, NULL};

static void keep(char *dst, size_t cap, const char *src) {
  if (src)
    assert_true(str_copy(dst, cap, src));
}

static void greeted(void *user, struct link *k, int err, const struct beam_error *why,
                    const struct greet_peer *peer) {
  struct meeting *m = user;
  struct party *p = k == m->agent.k ? &m->agent : &m->relay;
  assert_ptr_equal(p->k, k);
  assert_non_null(why);
  assert_true((err == 0) == (peer != NULL));
  p->calls++;
  p->err = err;
  p->why = *why;
  if (peer) {
    p->peer = *peer;
    keep(p->agent, sizeof p->agent, peer->agent);
    keep(p->hostname, sizeof p->hostname, peer->hostname);
    keep(p->domain, sizeof p->domain, peer->domain);
    link_own(k, &events, p);
  }
  if (p->close_in_call) {
    link_close(k, err);
    p->k = NULL;
  }
}

static int decide(void *user, struct link *k, const struct greet_peer *peer, uint8_t session[16],
                  struct beam_error *why) {
  struct meeting *m = user;
  assert_ptr_equal(m->relay.k, k);
  keep(m->relay.token, sizeof m->relay.token, peer->token);
  memcpy(session, m->relay.give, 16);
  if (m->relay.decide < BEAM_AGAIN)
    err_set(why, m->relay.decide, "ask Ann for a token", "no\x1b[31m entry");
  return m->relay.decide;
}

static int (*pair)(struct loop *l, struct link **relay, struct link **agent) = link_mem_pair;

static void meet(struct meeting *m) {
  memset(m, 0, sizeof *m);
  assert_int_equal(loop_new_virtual(&m->l), 0);
  assert_int_equal(pair(m->l, &m->relay.k, &m->agent.k), 0);
  assert_int_equal(key_ephemeral(&m->device), 0);
  assert_int_equal(key_ephemeral(&m->relay_key), 0);
  memset(m->agent.k->exporter, 7, 32);
  memset(m->relay.k->exporter, 7, 32);
  m->ac = (struct greet_agent_conf){.device = m->device,
                                    .relay = "0123456789012345678901234567890",
                                    .token = "secret",
                                    .hostname = "ann's laptop"};
  m->rc = (struct greet_relay_conf){.key = m->relay_key,
                                    .relay = "0123456789012345678901234567890",
                                    .domain = "tunnel.test",
                                    .decide = decide};
}

static void start(struct meeting *m) {
  assert_int_equal(greet_relay(m->relay.k, &m->rc, greeted, m), 0);
  assert_int_equal(greet_agent(m->agent.k, &m->ac, greeted, m), 0);
  assert_int_equal(m->agent.calls + m->relay.calls, 0);
}

static void part(struct meeting *m) {
  link_close(m->agent.k, 0);
  link_close(m->relay.k, 0);
  loop_run_for(m->l, 0);
  key_free(m->device);
  key_free(m->relay_key);
  loop_free(m->l);
}

static void test_welcome(void **state) {
  (void)state;
  static const uint8_t none[16];
  struct meeting m;
  meet(&m);
  start(&m);
  loop_run_for(m.l, 0);
  assert_int_equal(m.agent.calls, 1);
  assert_int_equal(m.relay.calls, 1);
  assert_int_equal(m.agent.err, 0);
  assert_int_equal(m.relay.err, 0);
  assert_memory_equal(m.relay.peer.device_key, key_public(m.device), KEY_PUBLIC);
  assert_memory_equal(m.agent.peer.relay_key, key_public(m.relay_key), KEY_PUBLIC);
  assert_int_equal(m.agent.peer.version, 1);
  assert_int_equal(m.relay.peer.version, 1);
  assert_string_equal(m.relay.token, "secret");
  assert_string_equal(m.relay.hostname, "ann's laptop");
  assert_true(!strncmp(m.relay.agent, "beam/" BEAM_VERSION " linux-", 12));
  assert_string_equal(m.agent.domain, "tunnel.test");
  assert_memory_not_equal(m.agent.peer.session, none, 16);
  assert_memory_equal(m.agent.peer.session, m.relay.peer.session, 16);
  part(&m);
}

static void test_session_is_resumed(void **state) {
  (void)state;
  static const uint8_t old[16] = "old session 123";
  struct meeting m;
  meet(&m);
  m.ac.resume = old;
  memcpy(m.relay.give, old, 16);
  start(&m);
  loop_run_for(m.l, 0);
  assert_memory_equal(m.agent.peer.session, old, 16);
  part(&m);
}

/* The link of a relay is often ready before the greeting begins. */
static void test_greeting_on_a_ready_link(void **state) {
  (void)state;
  struct meeting m;
  meet(&m);
  loop_run_for(m.l, 0);
  start(&m);
  loop_run_for(m.l, 0);
  assert_int_equal(m.agent.err + m.relay.err, 0);
  assert_int_equal(m.agent.calls + m.relay.calls, 2);
  part(&m);
}

static void test_refusals(void **state) {
  (void)state;
  static const int codes[] = {BEAM_ERR_DENIED, BEAM_ERR_LIMIT, BEAM_ERR_STORE, BEAM_ERR_UNSUPPORTED};
  for (unsigned i = 0; i < 2 * sizeof codes / sizeof *codes; i++) {
    struct meeting m;
    meet(&m);
    m.relay.decide = codes[i / 2];
    m.relay.close_in_call = i & 1; /* the words arrive all the same */
    start(&m);
    loop_run_for(m.l, 0);
    assert_int_equal(m.relay.err, codes[i / 2]);
    assert_int_equal(m.agent.calls, 1);
    assert_int_equal(m.agent.err, codes[i / 2]);
    assert_string_equal(m.agent.why.what, "no?[31m entry"); /* no escape sequence reaches a terminal */
    assert_string_equal(m.agent.why.hint, "ask Ann for a token");
    part(&m);
  }
}

static void test_decision_comes_later(void **state) {
  (void)state;
  for (int refused = 0; refused < 2; refused++) {
    struct meeting m;
    meet(&m);
    m.relay.decide = BEAM_AGAIN;
    start(&m);
    loop_run_for(m.l, 1000);
    assert_int_equal(m.agent.calls + m.relay.calls, 0);
    greet_answer(m.relay.k, refused ? BEAM_ERR_DENIED : 0, NULL, NULL);
    loop_run_for(m.l, 0);
    assert_int_equal(m.agent.calls, 1);
    assert_int_equal(m.relay.calls, 1);
    assert_int_equal(m.agent.err, refused ? BEAM_ERR_DENIED : 0);
    greet_answer(m.relay.k, BEAM_ERR_DENIED, NULL, NULL); /* too late: nothing */
    loop_run_for(m.l, 0);
    assert_int_equal(m.relay.calls, 1);
    part(&m);
  }
}

static void test_decision_never_comes(void **state) {
  (void)state;
  struct meeting m;
  meet(&m);
  m.relay.decide = BEAM_AGAIN;
  start(&m);
  loop_run_for(m.l, LIMIT_HELLO_MS - 1);
  assert_int_equal(m.agent.calls + m.relay.calls, 0);
  loop_run_for(m.l, 1);
  assert_int_equal(m.relay.err, BEAM_ERR_TIMEOUT);
  assert_int_equal(m.agent.err, BEAM_ERR_TIMEOUT);
  assert_string_equal(m.agent.why.what, "the relay could not decide in time");
  part(&m);
}

/* A relay in the middle ends the agent's TLS and opens its own to the real relay: the messages are the same, the channel is not. */
struct middle {
  struct link *to_agent, *to_relay;
};

static void forward_up(void *user, const beam_Control *c) {
  assert_int_equal(link_send(((struct middle *)user)->to_relay, c), 0);
}

static void forward_down(void *user, const beam_Control *c) {
  assert_int_equal(link_send(((struct middle *)user)->to_agent, c), 0);
}

static const struct link_events ears_up = {.control = forward_up}, ears_down = {.control = forward_down};

static void test_forwarded_hello_is_refused(void **state) {
  (void)state;
  for (int same = 0; same < 2;
       same++) { /* with the same exporter it would work: the binding alone stops it */
    struct meeting m;
    struct middle mid;
    meet(&m);
    link_close(m.relay.k, 0);
    link_close(m.agent.k, 0);
    assert_int_equal(pair(m.l, &mid.to_agent, &m.agent.k), 0);
    assert_int_equal(pair(m.l, &m.relay.k, &mid.to_relay), 0);
    memset(m.agent.k->exporter, 7, 32);
    memset(m.relay.k->exporter, same ? 7 : 8, 32);
    link_own(mid.to_agent, &ears_up, &mid);
    link_own(mid.to_relay, &ears_down, &mid);
    start(&m);
    loop_run_for(m.l, 0);
    assert_int_equal(m.relay.err, same ? 0 : BEAM_ERR_UNTRUSTED);
    assert_int_equal(m.agent.err, same ? 0 : BEAM_ERR_UNTRUSTED);
    assert_int_equal(m.relay.calls, 1);
    assert_int_equal(m.agent.calls, 1);
    assert_string_equal(m.relay.token, same ? "secret" : ""); /* decide() never saw it */
    link_close(mid.to_agent, 0);
    link_close(mid.to_relay, 0);
    part(&m);
  }
}

static void test_other_relay_is_refused(void **state) {
  (void)state;
  struct meeting m;
  meet(&m);
  m.rc.relay[0] ^= 1;
  start(&m);
  loop_run_for(m.l, 0);
  assert_int_equal(m.relay.err, BEAM_ERR_UNTRUSTED);
  assert_int_equal(m.agent.err, BEAM_ERR_UNTRUSTED);
  part(&m);
}

/* --- a scripted peer --- */

static void hello_of(const struct meeting *m, beam_Control *c, uint32_t min, uint32_t max) {
  *c = (beam_Control)beam_Control_init_zero;
  c->which_kind = beam_Control_hello_tag;
  beam_Hello *h = &c->kind.hello;
  struct proof p = {.version_min = min, .version_max = max};
  memcpy(p.exporter, m->relay.k->exporter, 32);
  memcpy(p.relay, m->rc.relay, 32);
  memcpy(p.device, key_public(m->device), KEY_PUBLIC);
  h->version_min = min;
  h->version_max = max;
  h->device_key.size = KEY_PUBLIC;
  memcpy(h->device_key.bytes, p.device, KEY_PUBLIC);
  h->proof.size = KEY_SIGNATURE;
  proof_agent_sign(&p, m->device, h->proof.bytes);
}

static void answer_kept(void *user, const beam_Control *c) {
  *(beam_Control *)user = *c;
}
static const struct link_events ears = {.control = answer_kept};

/* Sends c to a relay that waits for HELLO; what it answered, and its result. */
static int try_hello(struct meeting *m, const beam_Control *c, beam_Control *answer) {
  memset(answer, 0, sizeof *answer);
  link_own(m->agent.k, &ears, answer);
  assert_int_equal(greet_relay(m->relay.k, &m->rc, greeted, m), 0);
  loop_run_for(m->l, 0);
  assert_int_equal(link_send(m->agent.k, c), 0);
  loop_run_for(m->l, 0);
  assert_int_equal(m->relay.calls, 1);
  return m->relay.err;
}

static void test_version_negotiation(void **state) {
  (void)state;
  static const struct {
    uint32_t min, max;
    int err;
  } rows[] = {{1, 1, 0},
              {1, 9, 0},
              {0, 1, 0},
              {2, 3, BEAM_ERR_UNSUPPORTED},
              {0, 0, BEAM_ERR_UNSUPPORTED},
              {2, 1, BEAM_ERR_PROTOCOL}};
  for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct meeting m;
    beam_Control c, answer;
    meet(&m);
    hello_of(&m, &c, rows[i].min, rows[i].max);
    assert_int_equal(try_hello(&m, &c, &answer), rows[i].err);
    if (rows[i].err) {
      assert_int_equal(answer.which_kind, beam_Control_error_tag);
      assert_int_equal(answer.kind.error.code, rows[i].err);
      assert_true(answer.kind.error.fatal);
    } else {
      assert_int_equal(answer.which_kind, beam_Control_welcome_tag);
      assert_int_equal(answer.kind.welcome.version, 1);
    }
    part(&m);
  }
}

/* OFFER may come first, once, and decides nothing but that there is no version for both. */
static void test_offers(void **state) {
  (void)state;
  static const struct {
    uint32_t min, max;
    unsigned times;
    int err;
  } rows[] = {{1, 1, 1, 0},
              {0, 9, 1, 0},
              {1, 1, 2, BEAM_ERR_PROTOCOL},
              {2, 1, 1, BEAM_ERR_PROTOCOL},
              {2, 9, 1, BEAM_ERR_UNSUPPORTED},
              {0, 0, 1, BEAM_ERR_UNSUPPORTED}};
  for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct meeting m;
    beam_Control c = beam_Control_init_zero, hello, answer = beam_Control_init_zero;
    meet(&m);
    c.which_kind = beam_Control_offer_tag;
    c.kind.offer.version_min = rows[i].min;
    c.kind.offer.version_max = rows[i].max;
    link_own(m.agent.k, &ears, &answer);
    assert_int_equal(greet_relay(m.relay.k, &m.rc, greeted, &m), 0);
    loop_run_for(m.l, 0);
    for (unsigned n = 0; n < rows[i].times; n++)
      assert_int_equal(link_send(m.agent.k, &c), 0);
    loop_run_for(m.l, 0);
    assert_int_equal(m.relay.calls, rows[i].err != 0);
    if (!rows[i].err) {
      hello_of(&m, &hello, 1, 1);
      assert_int_equal(link_send(m.agent.k, &hello), 0);
      loop_run_for(m.l, 0);
      assert_int_equal(m.relay.calls, 1);
      assert_int_equal(answer.which_kind, beam_Control_welcome_tag);
    } else {
      assert_int_equal(answer.kind.error.code, rows[i].err);
    }
    assert_int_equal(m.relay.err, rows[i].err);
    part(&m);
  }
}

static void test_offer_is_a_message(void **state) {
  (void)state;
  uint8_t p[64];
  beam_Control c;
  long n = greet_offer(p, sizeof p);
  assert_in_range(n, 4, LIMIT_QUIC_EARLY);
  assert_int_equal(control_decode(p, (size_t)n, &c), n);
  assert_int_equal(c.which_kind, beam_Control_offer_tag);
  assert_int_equal(c.kind.offer.version_max, GREET_VERSION_MAX);
  assert_true(greet_offer(p, 3) < 0);
}

static void spoil_key_size(beam_Control *c) {
  c->kind.hello.device_key.size = 31;
}
static void spoil_key(beam_Control *c) {
  c->kind.hello.device_key.bytes[0] ^= 1;
}
static void spoil_proof_size(beam_Control *c) {
  c->kind.hello.proof.size = 0;
}
static void spoil_proof(beam_Control *c) {
  c->kind.hello.proof.bytes[63] ^= 0x20;
}
static void spoil_session(beam_Control *c) {
  c->kind.hello.session.size = 7;
}
static void add_session(beam_Control *c) { /* not what was signed */
  c->kind.hello.session.size = 16;
  c->kind.hello.session.bytes[0] = 1;
}
static void lower_version(beam_Control *c) { /* a downgrade by somebody in between */
  c->kind.hello.version_max = 1;
}
static void make_ping(beam_Control *c) {
  c->which_kind = beam_Control_ping_tag;
}

static void test_spoilt_hellos(void **state) {
  (void)state;
  static const struct {
    void (*spoil)(beam_Control *c);
    int err;
  } rows[] = {{spoil_key_size, BEAM_ERR_PROTOCOL},   {spoil_key, BEAM_ERR_UNTRUSTED},
              {spoil_proof_size, BEAM_ERR_PROTOCOL}, {spoil_proof, BEAM_ERR_UNTRUSTED},
              {spoil_session, BEAM_ERR_PROTOCOL},    {add_session, BEAM_ERR_UNTRUSTED},
              {lower_version, BEAM_ERR_UNTRUSTED},   {make_ping, BEAM_ERR_PROTOCOL}};
  for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct meeting m;
    beam_Control c, answer;
    meet(&m);
    hello_of(&m, &c, 1, 2);
    rows[i].spoil(&c);
    assert_int_equal(try_hello(&m, &c, &answer), rows[i].err);
    assert_string_equal(m.relay.token, "");
    part(&m);
  }
}

static void test_no_hello(void **state) {
  (void)state;
  struct meeting m;
  meet(&m);
  assert_int_equal(greet_relay(m.relay.k, &m.rc, greeted, &m), 0);
  loop_run_for(m.l, LIMIT_HELLO_MS - 1);
  assert_int_equal(m.relay.calls, 0);
  loop_run_for(m.l, 1);
  assert_int_equal(m.relay.calls, 1);
  assert_int_equal(m.relay.err, BEAM_ERR_TIMEOUT);
  part(&m);
}

static void test_no_welcome(void **state) {
  (void)state;
  struct meeting m;
  meet(&m);
  m.agent.close_in_call = true;
  assert_int_equal(greet_agent(m.agent.k, &m.ac, greeted, &m), 0);
  loop_run_for(m.l, 2 * LIMIT_HELLO_MS - 1);
  assert_int_equal(m.agent.calls, 0);
  loop_run_for(m.l, 1);
  assert_int_equal(m.agent.err, BEAM_ERR_TIMEOUT);
  part(&m);
}

static void test_link_lost_while_greeting(void **state) {
  (void)state;
  struct meeting m;
  meet(&m);
  m.relay.decide = BEAM_AGAIN;
  start(&m);
  loop_run_for(m.l, 100);
  link_close(m.agent.k, 0); /* called off: its callback does not come */
  m.agent.k = NULL;
  loop_run_for(m.l, 0);
  assert_int_equal(m.agent.calls, 0);
  assert_int_equal(m.relay.calls, 1);
  assert_int_equal(m.relay.err, BEAM_ERR_CLOSED);
  greet_answer(m.relay.k, 0, NULL, NULL);
  loop_run_for(m.l, 0);
  assert_int_equal(m.relay.calls, 1);
  part(&m);
}

static void test_streams_wait_for_the_welcome(void **state) {
  (void)state;
  struct meeting m;
  struct stream *s;
  meet(&m);
  m.relay.decide = BEAM_AGAIN;
  start(&m);
  loop_run_for(m.l, 0);
  if (pair == pair_h2) { /* there the engine already refuses it */
    assert_int_equal(link_open(m.agent.k, &s), BEAM_ERR_UNSUPPORTED);
    part(&m);
    return;
  }
  assert_int_equal(link_open(m.agent.k, &s), 0); /* an agent without WELCOME; the relay does not play along */
  struct tap *t = tap_new(s, true);
  loop_run_for(m.l, 0);
  assert_int_equal(t->closed, 1);
  assert_int_equal(t->reason, BEAM_ERR_REFUSED);
  tap_free(t, 0);
  greet_answer(m.relay.k, 0, NULL, NULL);
  loop_run_for(m.l, 0);
  assert_int_equal(link_open(m.relay.k, &s), 0);
  loop_run_for(m.l, 0);
  assert_int_equal(m.agent.streams, 1);
  stream_close(s, 0);
  part(&m);
}

static void test_control_goes_on_to_the_owner(void **state) {
  (void)state;
  struct meeting m;
  meet(&m);
  start(&m);
  loop_run_for(m.l, 0);
  beam_Control c = beam_Control_init_zero;
  c.which_kind = beam_Control_bind_tag;
  for (int i = 0; i < 5; i++)
    assert_int_equal(link_send(m.agent.k, &c), 0);
  c.which_kind = 0; /* of a newer version, not critical: nobody is bothered */
  assert_int_equal(link_send(m.agent.k, &c), 0);
  loop_run_for(m.l, 0);
  assert_int_equal(m.relay.controls, 5);
  c.which_kind = beam_Control_hello_tag;
  assert_int_equal(link_send(m.agent.k, &c), 0);
  loop_run_for(m.l, 0);
  assert_int_equal(m.relay.closed, 1);
  assert_int_equal(m.relay.reason, BEAM_ERR_PROTOCOL);
  part(&m);
}

static void test_flood(void **state) {
  (void)state;
  struct meeting m;
  meet(&m);
  start(&m);
  loop_run_for(m.l, 1000);
  beam_Control c = beam_Control_init_zero;
  c.which_kind = beam_Control_bind_tag;
  for (unsigned second = 0; second < 3; second++) {
    for (unsigned i = 0; i < LIMIT_CONTROL_RATE - 1; i++)
      assert_int_equal(link_send(m.agent.k, &c), 0);
    loop_run_for(m.l, 1000);
    assert_int_equal(m.relay.closed, 0);
  }
  for (unsigned i = 0; i <= LIMIT_CONTROL_RATE; i++)
    assert_int_equal(link_send(m.agent.k, &c), 0);
  loop_run_for(m.l, 0);
  assert_int_equal(m.relay.closed, 1);
  assert_int_equal(m.relay.reason, BEAM_ERR_LIMIT);
  part(&m);
}

/* --- liveness, at exact milliseconds --- */

static void test_idle_link_stays(void **state) {
  (void)state;
  struct meeting m;
  meet(&m);
  start(&m);
  loop_run_for(m.l, 3600 * 1000);
  assert_int_equal(m.agent.closed + m.relay.closed, 0);
  assert_true(greet_silent_ms(m.agent.k) <= LIMIT_PING_MS);
  part(&m);
}

/* A peer that greets and then says nothing any more. */
static void test_dead_peer_is_noticed(void **state) {
  (void)state;
  struct meeting m;
  beam_Control c, answer;
  meet(&m);
  hello_of(&m, &c, 1, 1);
  assert_int_equal(try_hello(&m, &c, &answer), 0);
  loop_run_for(m.l, LIMIT_PING_MS - 1);
  assert_int_equal(answer.which_kind, beam_Control_welcome_tag);
  loop_run_for(m.l, 1);
  assert_int_equal(answer.which_kind, beam_Control_ping_tag); /* at 10 s */
  loop_run_for(m.l, LIMIT_PONG_MS - 1);
  assert_int_equal(m.relay.closed, 0);
  loop_run_for(m.l, 1);
  assert_int_equal(m.relay.closed, 1); /* at 18 s */
  assert_int_equal(m.relay.reason, BEAM_ERR_TIMEOUT);
  loop_run_for(m.l, 60000);
  assert_int_equal(m.relay.closed, 1);
  part(&m);
}

/* A PONG that comes late, but while other bytes arrive: busy, not dead. */
static void test_busy_peer_is_not_dead(void **state) {
  (void)state;
  struct meeting m;
  beam_Control c, answer;
  meet(&m);
  hello_of(&m, &c, 1, 1);
  assert_int_equal(try_hello(&m, &c, &answer), 0);
  for (int i = 0; i < 10; i++) {
    loop_run_for(m.l, 5000);
    c = (beam_Control)beam_Control_init_zero;
    c.which_kind = beam_Control_bind_tag;
    assert_int_equal(link_send(m.agent.k, &c), 0);
  }
  loop_run_for(m.l, 0);
  assert_int_equal(m.relay.closed, 0);
  uint64_t from = loop_now(m.l);
  while (!m.relay.closed && loop_now(m.l) < from + 60000)
    loop_run_for(m.l, 1);
  assert_int_equal(m.relay.reason, BEAM_ERR_TIMEOUT);
  assert_true(loop_now(m.l) - from <= LIMIT_PING_MS + LIMIT_PONG_MS);
  part(&m);
}

/* Out of turn: the answer is known 8 s later, and asking again moves nothing. The next in turn is ping_ms after it. */
static void test_ping_out_of_turn(void **state) {
  (void)state;
  struct meeting m;
  beam_Control c, answer;
  meet(&m);
  assert_int_equal(greet_ping(m.relay.k), BEAM_AGAIN);
  hello_of(&m, &c, 1, 1);
  assert_int_equal(try_hello(&m, &c, &answer), 0);
  loop_run_for(m.l, 3000);
  assert_int_equal(greet_ping(m.relay.k), 0);
  loop_run_for(m.l, 1);
  assert_int_equal(answer.which_kind, beam_Control_ping_tag);
  loop_run_for(m.l, 3999);
  assert_int_equal(greet_ping(m.relay.k), 0);
  loop_run_for(m.l, LIMIT_PONG_MS - 4001);
  assert_int_equal(m.relay.closed, 0);
  loop_run_for(m.l, 1);
  assert_int_equal(m.relay.closed, 1); /* at 11 s */
  assert_int_equal(m.relay.reason, BEAM_ERR_TIMEOUT);
  part(&m);
}

/* Both ends live: asked as often as one likes. */
static void test_ping_out_of_turn_is_answered(void **state) {
  (void)state;
  struct meeting m;
  meet(&m);
  start(&m);
  loop_run_for(m.l, 100);
  for (int i = 0; i < 40; i++) {
    uint64_t asked = loop_now(m.l);
    assert_int_equal(greet_ping(m.agent.k), 0);
    loop_run_for(m.l, 1);
    assert_true(m.agent.k->heard >= asked);
    loop_run_for(m.l, 499);
  }
  loop_run_for(m.l, 60000);
  assert_int_equal(m.agent.closed + m.relay.closed, 0);
  part(&m);
}

/* A WELCOME as a relay would make it, for the HELLO in `said`. */
static void welcome_of(const struct meeting *m, const beam_Hello *h, beam_Control *c) {
  struct proof p = {.version_min = h->version_min, .version_max = h->version_max, .version = 1};
  *c = (beam_Control)beam_Control_init_zero;
  c->which_kind = beam_Control_welcome_tag;
  beam_Welcome *w = &c->kind.welcome;
  memcpy(p.exporter, m->relay.k->exporter, 32);
  memcpy(p.relay, m->rc.relay, 32);
  memcpy(p.device, key_public(m->device), KEY_PUBLIC);
  memcpy(p.relay_key, key_public(m->relay_key), KEY_PUBLIC);
  memset(p.session, 5, 16);
  w->version = 1;
  w->session.size = 16;
  memcpy(w->session.bytes, p.session, 16);
  w->relay_key.size = KEY_PUBLIC;
  memcpy(w->relay_key.bytes, p.relay_key, KEY_PUBLIC);
  w->proof.size = KEY_SIGNATURE;
  proof_relay_sign(&p, m->relay_key, w->proof.bytes);
}

/* Runs the agent's greeting against a relay that answers with what `c` became. */
static void answer_hello(struct meeting *m, beam_Control *said, void (*spoil)(beam_Control *c),
                         uint32_t ping_ms) {
  beam_Control c;
  memset(said, 0, sizeof *said);
  link_own(m->relay.k, &ears, said);
  assert_int_equal(greet_agent(m->agent.k, &m->ac, greeted, m), 0);
  loop_run_for(m->l, 0);
  assert_int_equal(said->which_kind, beam_Control_hello_tag);
  welcome_of(m, &said->kind.hello, &c);
  c.kind.welcome.ping_ms = ping_ms;
  if (spoil)
    spoil(&c);
  assert_int_equal(link_send(m->relay.k, &c), 0);
  loop_run_for(m->l, 0);
  assert_int_equal(m->agent.calls, 1);
}

static void test_ping_interval_is_the_relays(void **state) {
  (void)state;
  static const struct {
    uint32_t asked, used;
  } rows[] = {{2000, 2000}, {0, LIMIT_PING_MS}, {1, LIMIT_PING_MS}, {86400000, 60000}};
  for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct meeting m;
    beam_Control said;
    meet(&m);
    answer_hello(&m, &said, NULL, rows[i].asked);
    assert_int_equal(m.agent.err, 0);
    loop_run_for(m.l, rows[i].used - 1);
    assert_int_not_equal(said.which_kind, beam_Control_ping_tag);
    loop_run_for(m.l, 1);
    assert_int_equal(said.which_kind, beam_Control_ping_tag);
    loop_run_for(m.l, LIMIT_PONG_MS - 1);
    assert_int_equal(m.agent.closed, 0);
    loop_run_for(m.l, 1);
    assert_int_equal(m.agent.closed, 1);
    assert_int_equal(m.agent.reason, BEAM_ERR_TIMEOUT);
    part(&m);
  }
}

static void welcome_key(beam_Control *c) {
  c->kind.welcome.relay_key.bytes[3] ^= 1;
}
static void welcome_proof(beam_Control *c) {
  c->kind.welcome.proof.bytes[3] ^= 1;
}
static void welcome_session(beam_Control *c) {
  c->kind.welcome.session.bytes[3] ^= 1;
}
static void welcome_session_size(beam_Control *c) {
  c->kind.welcome.session.size = 0;
}
static void welcome_version(beam_Control *c) {
  c->kind.welcome.version = 2;
}

static void test_spoilt_welcomes(void **state) {
  (void)state;
  static const struct {
    void (*spoil)(beam_Control *c);
    int err;
  } rows[] = {{welcome_key, BEAM_ERR_UNTRUSTED},     {welcome_proof, BEAM_ERR_UNTRUSTED},
              {welcome_session, BEAM_ERR_UNTRUSTED}, {welcome_session_size, BEAM_ERR_PROTOCOL},
              {welcome_version, BEAM_ERR_PROTOCOL},  {make_ping, BEAM_ERR_PROTOCOL}};
  for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct meeting m;
    beam_Control said;
    meet(&m);
    answer_hello(&m, &said, rows[i].spoil, 0);
    assert_int_equal(m.agent.err, rows[i].err);
    part(&m);
  }
}

/* A code that is none of ours must not become success or nonsense. */
static void test_strange_error_codes(void **state) {
  (void)state;
  static const int codes[] = {0, 1, -1, -28, INT32_MIN, INT32_MAX};
  for (unsigned i = 0; i < sizeof codes / sizeof *codes; i++) {
    struct meeting m;
    beam_Control said, c = beam_Control_init_zero;
    meet(&m);
    link_own(m.relay.k, &ears, &said);
    assert_int_equal(greet_agent(m.agent.k, &m.ac, greeted, &m), 0);
    loop_run_for(m.l, 0);
    c.which_kind = beam_Control_error_tag;
    c.kind.error.code = codes[i];
    assert_int_equal(link_send(m.relay.k, &c), 0);
    loop_run_for(m.l, 0);
    assert_int_equal(m.agent.err, BEAM_ERR_DENIED);
    assert_true(m.agent.why.what[0] && m.agent.why.hint[0]);
    part(&m);
  }
}

static void test_bad_conf(void **state) {
  (void)state;
  struct meeting m;
  char token[1026];
  meet(&m);
  memset(token, 'x', sizeof token - 1);
  token[1025] = 0;
  m.ac.token = token;
  assert_int_equal(greet_agent(m.agent.k, &m.ac, greeted, &m), BEAM_ERR_INVALID);
  m.ac.token = NULL;
  m.ac.device = NULL;
  assert_int_equal(greet_agent(m.agent.k, &m.ac, greeted, &m), BEAM_ERR_INVALID);
  m.rc.key = NULL;
  assert_int_equal(greet_relay(m.relay.k, &m.rc, greeted, &m), BEAM_ERR_INVALID);
  m.rc.key = m.relay_key;
  assert_int_equal(greet_relay(m.relay.k, &m.rc, greeted, &m), 0);
  assert_int_equal(greet_relay(m.relay.k, &m.rc, greeted, &m), BEAM_ERR_INVALID); /* once */
  part(&m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_welcome),
      cmocka_unit_test(test_session_is_resumed),
      cmocka_unit_test(test_greeting_on_a_ready_link),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_decision_comes_later),
      cmocka_unit_test(test_decision_never_comes),
      cmocka_unit_test(test_forwarded_hello_is_refused),
      cmocka_unit_test(test_other_relay_is_refused),
      cmocka_unit_test(test_version_negotiation),
      cmocka_unit_test(test_offers),
      cmocka_unit_test(test_offer_is_a_message),
      cmocka_unit_test(test_spoilt_hellos),
      cmocka_unit_test(test_no_hello),
      cmocka_unit_test(test_no_welcome),
      cmocka_unit_test(test_link_lost_while_greeting),
      cmocka_unit_test(test_streams_wait_for_the_welcome),
      cmocka_unit_test(test_control_goes_on_to_the_owner),
      cmocka_unit_test(test_flood),
      cmocka_unit_test(test_idle_link_stays),
      cmocka_unit_test(test_dead_peer_is_noticed),
      cmocka_unit_test(test_busy_peer_is_not_dead),
      cmocka_unit_test(test_ping_out_of_turn),
      cmocka_unit_test(test_ping_out_of_turn_is_answered),
      cmocka_unit_test(test_ping_interval_is_the_relays),
      cmocka_unit_test(test_spoilt_welcomes),
      cmocka_unit_test(test_strange_error_codes),
      cmocka_unit_test(test_bad_conf),
  };
  int failed = cmocka_run_group_tests_name("greet over memory", tests, NULL, NULL);
  pair = pair_h2;
  return failed + cmocka_run_group_tests_name("greet over h2", tests, NULL, NULL);
}
