/* test_herd.c: many agents lose one relay in the same millisecond. All of them come back, and not all at once.
 * Real TLS and greeting, so a handshake costs what it costs: BEAM_TEST_LONG=1 makes it a thousand agents. */
#define RIG_LINKS 4096
#define RIG_CONNS 8192
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

enum { HERD = 1000, FEW = 100, SLOT_MS = 100, SLOTS = 1200 };

struct cow {
  struct agent *agent;
  enum beam_tunnel_state state;
  uint64_t active_at;
};

static struct rig rig;
static struct cow herd[HERD];
static unsigned herd_n, active_n;

static void on_state(void *user, beam_tunnel *t, const struct beam_tunnel_info *info,
                     const struct beam_error *error) {
  (void)t, (void)error;
  struct cow *c = user;
  active_n += (info->state == BEAM_TUNNEL_ACTIVE) - (c->state == BEAM_TUNNEL_ACTIVE);
  c->state = info->state;
  if (info->state == BEAM_TUNNEL_ACTIVE)
    c->active_at = loop_now(rig.l);
}

static void start(unsigned n, uint64_t seed) {
  assert_int_equal(tmp_make(NULL), 0);
  random_seed(seed);
  rig_start(&rig, 10);
  memset(herd, 0, sizeof herd);
  herd_n = n;
  active_n = 0;
  for (unsigned i = 0; i < n; i++) {
    struct beam_tunnel_config c = BEAM_TUNNEL_CONFIG_INIT;
    struct beam_error e = BEAM_ERROR_INIT;
    c.relay = "relay:443";
    c.transport = "h2";
    c.local_host = "localhost";
    c.local_port = 3000;
    c.data_dir = tmp;
    c.proxy = "";
    c.on_state = on_state;
    c.user = &herd[i];
    if (agent_new(rig.l, rig.net, &c, NULL, &herd[i].agent, &e))
      fail_msg("%s", e.what);
  }
  loop_run_for(rig.l, 1000);
  assert_int_equal(active_n, n);
}

static void stop(void) {
  for (unsigned i = 0; i < herd_n; i++)
    agent_close(herd[i].agent);
  rig_stop(&rig);
  random_seed(0);
  tmp_remove(NULL);
}

struct course {
  unsigned slots[SLOTS]; /* attempts that reached the relay, by SLOT_MS after it was back */
  unsigned peak, peak_second;
  uint64_t last; /* ms until all were back */
};

/* The relay is away for `away` ms, then back. */
static void restart(struct course *c, uint64_t away) {
  memset(c, 0, sizeof *c);
  memnet_cut(rig.net, "relay", true);
  loop_run_for(rig.l, away);
  if (away)
    assert_int_equal(active_n, 0);
  memnet_cut(rig.net, "relay", false);
  uint64_t back = loop_now(rig.l);
  assert_int_equal(rig_up(&rig), 0);
  unsigned seen = rig.conns_n;
  for (unsigned i = 0; active_n < herd_n || i * SLOT_MS < 200; i++) {
    assert_true(i < SLOTS);
    loop_run_for(rig.l, SLOT_MS);
    c->slots[i] = rig.conns_n - seen;
    seen = rig.conns_n;
    if (c->slots[i] > c->peak)
      c->peak = c->slots[i];
  }
  assert_int_equal(rig_up(&rig), herd_n);
  for (unsigned i = 0; i < SLOTS; i += 1000 / SLOT_MS) {
    unsigned second = 0;
    for (unsigned k = i; k < i + 1000 / SLOT_MS; k++)
      second += c->slots[k];
    if (second)
      print_message("  second %2u: %4u attempts\n", i * SLOT_MS / 1000, second);
    if (second > c->peak_second)
      c->peak_second = second;
  }
  for (unsigned i = 0; i < herd_n; i++)
    if (herd[i].active_at - back > c->last)
      c->last = herd[i].active_at - back;
  print_message(
      "  %u agents, away for %llu ms: all back after %llu ms; at most %u in %u ms, %u in a second\n", herd_n,
      (unsigned long long)away, (unsigned long long)c->last, c->peak, SLOT_MS, c->peak_second);
}

/* Away for seconds: back within the two of the jitter and some round trips, each by one attempt. What is left of a wait drawn evenly from two seconds is short
 * more often than long: a tenth of the herd in the first tenth of a second, three quarters in the first second. */
static void test_a_restart(void **state) {
  (void)state;
  struct course c;
  start(getenv("BEAM_TEST_LONG") && *getenv("BEAM_TEST_LONG") ? HERD : 200, 3);
  unsigned before = rig.conns_n;
  restart(&c, 10000);
  assert_in_range(c.last, 1000, 2000 + 200);
  assert_int_equal(rig.conns_n - before, herd_n); /* whoever got through needed no second one */
  assert_true(c.peak <= herd_n * 15 / 100);
  assert_true(c.peak_second <= herd_n * 85 / 100);
  stop();
}

/* Away for minutes: the waits have grown to 30 s, and the herd comes back spread over these. */
static void test_a_long_outage(void **state) {
  (void)state;
  struct course c;
  start(FEW, 4);
  restart(&c, 300000);
  assert_in_range(c.last, 10000, 30000 + 200);
  assert_true(c.peak_second <= herd_n / 8);
  stop();
}

/* Gone and back in the same moment: everybody within a quarter of a second and a handshake. */
static void test_a_blink(void **state) {
  (void)state;
  struct course c;
  start(FEW, 5);
  restart(&c, 0);
  assert_in_range(c.last, 100, 250 + 200);
  assert_true(c.peak <= herd_n * 6 / 10);
  stop();
}

/* The same seed, the same milliseconds. */
static void test_the_same_seed(void **state) {
  (void)state;
  struct course c;
  uint64_t at[2][20];
  for (int run = 0; run < 2; run++) {
    start(20, 6);
    uint64_t from = loop_now(rig.l);
    restart(&c, 5000);
    for (unsigned i = 0; i < herd_n; i++)
      at[run][i] = herd[i].active_at - from;
    stop();
  }
  assert_memory_equal(at[0], at[1], sizeof at[0]);
  assert_int_not_equal(at[0][0], at[0][1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_restart),
      cmocka_unit_test(test_a_long_outage),
      cmocka_unit_test(test_a_blink),
      cmocka_unit_test(test_the_same_seed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
