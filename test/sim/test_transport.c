/* Which transport an agent uses, on the virtual clock: real TLS, WebSocket and links through a network that lets through what it is told to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/random.h"
#include "../unit/tmpdir.h"
#include "relay_rig.h"

enum { DELAY = 5, PROBE = 600000 };

struct world {
  struct rig rig;
  struct agent *agent;
  enum beam_tunnel_state state;
  int error, told, downs;
  char what[256], transport[16], reason[400];
  uint64_t opened, active_at;
};

static void on_state(void *user, beam_tunnel *t, const struct beam_tunnel_info *info,
                     const struct beam_error *error) {
  (void)t;
  struct world *w = user;
  w->told++;
  w->downs += w->state == BEAM_TUNNEL_ACTIVE && info->state != BEAM_TUNNEL_ACTIVE;
  w->state = info->state;
  w->error = error ? error->code : 0;
  str_copy(w->what, sizeof w->what, error ? error->what : "");
  str_copy(w->transport, sizeof w->transport, info->transport);
  str_copy(w->reason, sizeof w->reason, info->transport_reason);
  if (info->state == BEAM_TUNNEL_ACTIVE)
    w->active_at = loop_now(w->rig.l) - w->opened;
}

struct how {
  const char *relay, *transport, *proxy;
};

static void open_agent(struct world *w, const struct how *how) {
  struct beam_tunnel_config c = BEAM_TUNNEL_CONFIG_INIT;
  c.relay = how && how->relay ? how->relay : "relay:443";
  c.transport = how ? how->transport : NULL;
  c.proxy = how && how->proxy ? how->proxy : "";
  c.local_host = "localhost";
  c.local_port = 3000;
  c.data_dir = tmp;
  c.on_state = on_state;
  c.user = w;
  struct beam_error e = BEAM_ERROR_INIT;
  w->state = BEAM_TUNNEL_CONNECTING;
  w->opened = loop_now(w->rig.l);
  if (agent_new(w->rig.l, w->rig.net, &c, NULL, &w->agent, &e))
    fail_msg("%s", e.what);
}

static void start(struct world *w) {
  memset(w, 0, sizeof *w);
  assert_int_equal(tmp_make(NULL), 0);
  random_seed(11);
  rig_start(&w->rig, DELAY);
}

static void close_agent(struct world *w) {
  agent_close(w->agent);
  w->agent = NULL;
  loop_run_for(w->rig.l, 1000);
}

static void stop(struct world *w) {
  if (w->agent)
    agent_close(w->agent);
  rig_stop(&w->rig);
  random_seed(0);
  tmp_remove(NULL);
}

static void until_active(struct world *w, uint64_t most) {
  for (uint64_t i = 0; i < most && w->state != BEAM_TUNNEL_ACTIVE; i++)
    loop_run_for(w->rig.l, 1);
  if (w->state != BEAM_TUNNEL_ACTIVE)
    fail_msg("state %d after %llu ms: %s", (int)w->state, (unsigned long long)most, w->what);
}

static struct beam_tunnel_info info_of(struct world *w) {
  struct beam_tunnel_info i = {.size = sizeof i};
  agent_info(w->agent, &i);
  return i;
}

/* Round trips of 10 ms: TCP, TLS, SETTINGS with the control stream, HELLO, BIND; WebSocket: outer TLS and the upgrade besides. */
enum { H2_MS = 50, WS_MS = 70 };

static void test_h2_first(void **state) {
  (void)state;
  struct world w;
  start(&w);
  open_agent(&w, NULL);
  until_active(&w, 500);
  assert_int_equal(w.active_at, H2_MS);
  assert_string_equal(w.transport, "h2");
  assert_int_equal(w.rig.ws_n, 0);
  loop_run_for(w.rig.l, 5000);
  struct beam_tunnel_info i = info_of(&w);
  assert_true(i.transport_since_ms >= 5000 && i.transport_since_ms <= 5050);
  stop(&w);
}

/* TLS of beam/1 is swallowed, as some firewalls do: a second, and WebSocket gets through. */
static void test_silence_to_h2(void **state) {
  (void)state;
  struct world w;
  start(&w);
  w.rig.box_h2 = RIG_DROP;
  open_agent(&w, NULL);
  until_active(&w, 3000);
  assert_int_equal(w.active_at, 1000 + WS_MS);
  assert_string_equal(w.transport, "ws");
  assert_non_null(strstr(w.reason, "h2: no answer in 10"));
  stop(&w);
}

/* A reset needs no second to be understood. */
static void test_reset_of_h2(void **state) {
  (void)state;
  struct world w;
  start(&w);
  w.rig.box_h2 = RIG_RESET;
  open_agent(&w, NULL);
  until_active(&w, 3000);
  assert_int_equal(w.active_at, 2 * 10 + WS_MS);
  assert_string_equal(w.transport, "ws");
  assert_non_null(strstr(w.reason, "h2: cannot reach the relay relay:443: the other side aborted"));
  stop(&w);
}

/* The office again: what worked last is tried first. Better things are tried later, and when they work they take over without a gap. */
static void test_remembers_and_probes(void **state) {
  (void)state;
  struct world w;
  start(&w);
  w.rig.box_h2 = RIG_DROP;
  open_agent(&w, NULL);
  until_active(&w, 3000);
  close_agent(&w);
  unsigned h2 = w.rig.h2_n;
  open_agent(&w, NULL);
  until_active(&w, 3000);
  assert_int_equal(w.active_at, WS_MS);
  assert_int_equal(w.rig.h2_n, h2);
  assert_non_null(strstr(w.reason, "h2: another one was faster"));
  uint64_t active = loop_now(w.rig.l);
  /* the first probe finds it still blocked */
  loop_run_for(w.rig.l, PROBE + 30000);
  assert_int_equal(w.rig.h2_n, h2 + 1);
  assert_string_equal(w.transport, "ws");
  assert_non_null(strstr(info_of(&w).transport_reason, "h2: cannot reach the relay"));
  /* the next one not: a probe is silent for ten seconds before it fails */
  w.rig.box_h2 = RIG_PASS;
  unsigned links = w.rig.links_n;
  w.told = 0;
  while (!w.told && loop_now(w.rig.l) - active < 3 * PROBE)
    loop_run_for(w.rig.l, 1);
  uint64_t took = loop_now(w.rig.l) - active;
  print_message("moved to h2 %llu ms after it was up\n", (unsigned long long)took);
  assert_in_range(took, 2 * PROBE + 10000, 2 * PROBE + 11000);
  assert_string_equal(w.transport, "h2");
  assert_int_equal(w.downs, 0);
  assert_int_equal(w.rig.links_n, links + 1);
  assert_int_equal(rig_up(&w.rig), 2); /* the old one still serves what it has */
  loop_run_for(w.rig.l, 31000);
  assert_int_equal(rig_up(&w.rig), 1);
  assert_int_equal(w.downs, 0);
  /* and that is what is remembered now */
  close_agent(&w);
  unsigned ws = w.rig.ws_n;
  open_agent(&w, NULL);
  until_active(&w, 500);
  assert_int_equal(w.active_at, H2_MS);
  assert_int_equal(w.rig.ws_n, ws);
  loop_run_for(w.rig.l, 2 * PROBE); /* the best there is looks for nothing better */
  assert_int_equal(w.rig.h2_n, h2 + 3);
  stop(&w);
}

/* A probe that gets a link but not the name changes nothing. */
static void test_a_probe_that_fails_late(void **state) {
  (void)state;
  for (int mute = 0; mute < 2; mute++) {
    struct world w;
    start(&w);
    w.rig.box_h2 = RIG_DROP;
    open_agent(&w, NULL);
    until_active(&w, 3000);
    w.rig.box_h2 = RIG_PASS;
    w.rig.refuse_bind = mute ? 0 : BEAM_ERR_STORE;
    w.rig.mute = mute;
    loop_run_for(w.rig.l, PROBE + 20000);
    assert_int_equal(w.rig.links_n, 2);
    assert_int_equal(rig_up(&w.rig), 1);
    assert_string_equal(w.transport, "ws");
    assert_int_equal(w.downs, 0);
    loop_run_for(w.rig.l, 60000); /* the old link is not retired */
    assert_int_equal(rig_up(&w.rig), 1);
    w.rig.refuse_bind = 0;
    w.rig.mute = false;
    loop_run_for(w.rig.l, PROBE);
    assert_string_equal(w.transport, "h2");
    assert_int_equal(w.downs, 0);
    stop(&w);
  }
}

/* The link dies while a probe is under way: both are given up, and a new race begins. */
static void test_lost_while_probing(void **state) {
  (void)state;
  struct world w;
  start(&w);
  w.rig.box_h2 = RIG_DROP;
  open_agent(&w, NULL);
  until_active(&w, 3000);
  loop_run_for(w.rig.l, PROBE + 100);
  assert_int_equal(w.rig.h2_n, 2);
  memnet_cut(w.rig.net, "relay", true);
  loop_run_for(w.rig.l, 10);
  memnet_cut(w.rig.net, "relay", false);
  assert_int_equal(w.state, BEAM_TUNNEL_RECONNECTING);
  until_active(&w, 3000);
  assert_string_equal(w.transport, "ws");
  stop(&w);
}

static void test_one_transport_alone(void **state) {
  (void)state;
  static const struct {
    const char *relay, *transport, *want, *reason;
    uint64_t at;
  } cases[] = {
      {"relay:443", "ws", "ws", "it was chosen", WS_MS},
      {"relay:443", "h2", "h2", "it was chosen", H2_MS},
      {"relay:443", "auto", "h2", NULL, H2_MS},
      {"wss://relay", NULL, "ws", "the relay's address says so", WS_MS},
      {"wss://relay:443/", "ws", "ws", "it was chosen", WS_MS},
      {"ws://relay:443", NULL, "ws", "the relay's address says so", WS_MS - 10},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct world w;
    struct how how = {cases[i].relay, cases[i].transport, NULL};
    start(&w);
    open_agent(&w, &how);
    until_active(&w, 3000);
    assert_string_equal(w.transport, cases[i].want);
    assert_int_equal(w.active_at, cases[i].at);
    if (cases[i].reason)
      assert_string_equal(w.reason, cases[i].reason);
    stop(&w);
  }
  struct world w;
  struct how h2 = {.transport = "h2"};
  start(&w); /* h2 and nothing else: it stays away */
  w.rig.box_h2 = RIG_RESET;
  open_agent(&w, &h2);
  loop_run_for(w.rig.l, 20000);
  assert_int_equal(w.state, BEAM_TUNNEL_CONNECTING);
  assert_int_equal(w.rig.ws_n, 0);
  assert_true(w.rig.h2_n > 5);
  stop(&w);
}

static void test_wrong_words(void **state) {
  (void)state;
  static const struct {
    struct how how;
    int err;
  } cases[] = {
      {{NULL, "tcp", ""}, BEAM_ERR_INVALID},           {{"ws://relay", "h2", ""}, BEAM_ERR_INVALID},
      {{"https://relay", NULL, ""}, BEAM_ERR_INVALID}, {{"wss://", NULL, ""}, BEAM_ERR_INVALID},
      {{"relay:x", NULL, ""}, BEAM_ERR_INVALID},       {{NULL, NULL, "ftp://p"}, BEAM_ERR_UNSUPPORTED},
      {{NULL, NULL, "http://"}, BEAM_ERR_INVALID},
  };
  struct world w;
  start(&w);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct beam_tunnel_config c = BEAM_TUNNEL_CONFIG_INIT;
    struct beam_error e = BEAM_ERROR_INIT;
    c.relay = cases[i].how.relay ? cases[i].how.relay : "relay:443";
    c.transport = cases[i].how.transport;
    c.proxy = cases[i].how.proxy;
    c.local_host = "localhost";
    c.local_port = 3000;
    c.data_dir = tmp;
    assert_int_equal(agent_new(w.rig.l, w.rig.net, &c, NULL, &w.agent, &e), cases[i].err);
    assert_int_equal(e.code, cases[i].err);
    w.agent = NULL;
  }
  stop(&w);
}

/* --- a web server that is none of ours --- */

static void test_refused_upgrade(void **state) {
  (void)state;
  struct world w;
  start(&w);
  w.rig.box_h2 = RIG_RESET;
  w.rig.refuse_upgrade = 404;
  open_agent(&w, NULL);
  loop_run_for(w.rig.l, 2000);
  assert_int_equal(w.state, BEAM_TUNNEL_CONNECTING);
  assert_int_equal(w.error, BEAM_ERR_RESET); /* of h2, the better one */
  w.rig.refuse_upgrade = 0;
  until_active(&w, 2500);
  stop(&w);
  struct how ws = {.transport = "ws"};
  start(&w);
  w.rig.refuse_upgrade = 404;
  open_agent(&w, &ws);
  loop_run_for(w.rig.l, 200);
  assert_int_equal(w.error, BEAM_ERR_REFUSED);
  assert_string_equal(w.what, "relay:443 is no relay, or does not take WebSocket: it answered 404");
  stop(&w);
}

/* --- proxies --- */

static void test_through_a_proxy(void **state) {
  (void)state;
  static const struct how hows[] = {{NULL, NULL, "http://proxy:3128"},
                                    {NULL, "ws", "proxy:3128"},
                                    {NULL, "h2", "http://joe:secret@proxy:3128"}};
  /* TCP, CONNECT, and then twice the way */
  static const uint64_t at[] = {20 + 2 * (H2_MS - 10), 20 + 2 * (WS_MS - 10), 20 + 2 * (H2_MS - 10)};
  for (size_t i = 0; i < sizeof hows / sizeof *hows; i++) {
    struct world w;
    start(&w);
    open_agent(&w, &hows[i]);
    until_active(&w, 3000);
    assert_int_equal(w.rig.proxied, 1);
    assert_int_equal(w.active_at, at[i]);
    assert_string_equal(w.transport, i == 1 ? "ws" : "h2");
    stop(&w);
  }
}

static void test_a_proxy_that_refuses(void **state) {
  (void)state;
  struct world w;
  struct how how = {NULL, NULL, "http://joe:secret@proxy:3128"};
  start(&w);
  w.rig.proxy_answer = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
  open_agent(&w, &how);
  loop_run_for(w.rig.l, 500);
  assert_int_equal(w.state, BEAM_TUNNEL_CONNECTING); /* laptops move: never final */
  assert_int_equal(w.error, BEAM_ERR_REFUSED);
  assert_string_equal(w.what,
                      "cannot reach the relay relay:443: the proxy refuses these credentials (proxy:3128)");
  w.rig.proxy_answer = "HTTP/1.1 200 OK\r\n\r\n";
  until_active(&w, 2500);
  stop(&w);
}

static void test_close_at_any_moment(void **state) {
  (void)state;
  static const struct how hows[] = {{NULL, "ws", NULL}, {NULL, "ws", "proxy:3128"}, {NULL, NULL, NULL}};
  for (size_t i = 0; i < sizeof hows / sizeof *hows; i++)
    for (uint64_t ms = 0; ms < 120; ms += 4) {
      struct world w;
      start(&w);
      open_agent(&w, &hows[i]);
      loop_run_for(w.rig.l, ms);
      stop(&w);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_h2_first),
      cmocka_unit_test(test_silence_to_h2),
      cmocka_unit_test(test_reset_of_h2),
      cmocka_unit_test(test_remembers_and_probes),
      cmocka_unit_test(test_a_probe_that_fails_late),
      cmocka_unit_test(test_lost_while_probing),
      cmocka_unit_test(test_one_transport_alone),
      cmocka_unit_test(test_wrong_words),
      cmocka_unit_test(test_refused_upgrade),
      cmocka_unit_test(test_through_a_proxy),
      cmocka_unit_test(test_a_proxy_that_refuses),
      cmocka_unit_test(test_close_at_any_moment),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
