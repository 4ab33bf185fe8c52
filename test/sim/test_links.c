/* test_links.c: several links for one name at one relay, on the virtual clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/spread.h"
#include "base/random.h"
#include "../unit/tmpdir.h"
#include "relay_rig.h"

struct world {
  struct rig rig;
  struct agent *agent;
  enum beam_tunnel_state state;
  unsigned downs;
  int error;
};

static void on_state(void *user, beam_tunnel *t, const struct beam_tunnel_info *info,
                     const struct beam_error *error) {
  (void)t;
  struct world *w = user;
  w->downs += w->state == BEAM_TUNNEL_ACTIVE && info->state != BEAM_TUNNEL_ACTIVE;
  w->state = info->state;
  w->error = error ? error->code : 0;
}

static void start(struct world *w, unsigned links) {
  struct beam_tunnel_config c = BEAM_TUNNEL_CONFIG_INIT;
  struct beam_error e = BEAM_ERROR_INIT;
  memset(w, 0, sizeof *w);
  assert_int_equal(tmp_make(NULL), 0);
  random_seed(11);
  rig_start(&w->rig, 5);
  c.relay = "relay:443";
  c.local_host = "localhost";
  c.local_port = 3000;
  c.data_dir = tmp;
  c.proxy = "";
  c.links = links;
  c.on_state = on_state;
  c.user = w;
  if (agent_new(w->rig.l, w->rig.net, &c, NULL, &w->agent, &e))
    fail_msg("%s", e.what);
  loop_run_for(w->rig.l, 200);
  assert_int_equal(w->state, BEAM_TUNNEL_ACTIVE);
}

static void stop(struct world *w) {
  agent_close(w->agent);
  rig_stop(&w->rig);
  random_seed(0);
  tmp_remove(NULL);
}

static void on_gone(void *user, int reason) {
  struct stream **s = user;
  stream_close(*s, reason);
  free(s);
}
static void on_readable(void *user) {
  (void)user;
}
static const struct stream_events events = {on_readable, NULL, on_gone};

/* Streams that say nothing: the agent waits LIMIT_HELLO_MS for their StreamOpen, and resets them. */
static void crowd(struct world *w, unsigned k, unsigned n) {
  for (unsigned i = 0; i < n; i++) {
    struct stream **s = calloc(1, sizeof *s);
    assert_int_equal(link_open(w->rig.links[k].link, s), 0);
    stream_own(*s, &events, s);
  }
}

static bool bound(const struct world *w, unsigned k) {
  return w->rig.links_n > k && w->rig.links[k].link && w->rig.links[k].bound_at;
}

static uint64_t until_bound(struct world *w, unsigned k, uint64_t most) {
  uint64_t begin = loop_now(w->rig.l);
  while (!bound(w, k)) {
    if (loop_now(w->rig.l) - begin > most)
      fail_msg("link %u not bound after %llu ms", k, (unsigned long long)most);
    loop_run_for(w->rig.l, 1);
  }
  uint64_t ms = loop_now(w->rig.l) - begin;
  loop_run_for(w->rig.l, 20);
  return ms;
}

static unsigned shown(struct world *w, unsigned *draining) {
  struct beam_link_info k = {.size = sizeof k};
  unsigned n = 0;
  *draining = 0;
  for (; !agent_link_info(w->agent, n, &k); n++)
    *draining += (unsigned)k.draining;
  return n;
}

/* With a second link, bound. */
static void start_two(struct world *w) {
  start(w, 2);
  crowd(w, 0, 33);
  until_bound(w, 1, 300);
}

static void same_group(struct world *w, unsigned a, unsigned b, bool same) {
  static const uint8_t none[16];
  assert_memory_not_equal(w->rig.links[a].group, none, 16);
  assert_int_equal(!memcmp(w->rig.links[a].group, w->rig.links[b].group, 16), same);
}

static void test_one_while_idle(void **state) {
  (void)state;
  struct world w;
  start(&w, 8);
  crowd(&w, 0, 32);
  loop_run_for(w.rig.l, 200000);
  assert_int_equal(w.rig.links_n, 1);
  stop(&w);
}

static void test_another_under_load_and_let_go(void **state) {
  (void)state;
  struct world w;
  unsigned draining;
  start(&w, 2);
  crowd(&w, 0, 33);
  uint64_t ms = until_bound(&w, 1, 300);
  print_message("the second link %llu ms after the crowd, of which the greeting\n", (unsigned long long)ms);
  assert_in_range(ms, SPREAD_LOOK_MS,
                  SPREAD_LOOK_MS +
                      80); /* and seven ways of 5 ms, and QUIC's place in the race is not there */
  same_group(&w, 0, 1, true);
  assert_int_equal(w.rig.links[1].lane, 1);
  assert_int_equal(shown(&w, &draining), 2);
  crowd(&w, 0, 40);
  crowd(&w, 1, 40);
  loop_run_for(w.rig.l, 3000);
  assert_int_equal(w.rig.links_n, 2); /* two were asked for */
  loop_run_for(w.rig.l, 2500);        /* now all of them are over */
  uint64_t begin = loop_now(w.rig.l);
  while (!w.rig.links[1].link->draining && loop_now(w.rig.l) - begin < 70000)
    loop_run_for(w.rig.l, 1);
  ms = loop_now(w.rig.l) - begin;
  print_message("let go %llu ms after the load\n", (unsigned long long)ms);
  assert_in_range(ms, 59000, 61100);
  assert_int_equal(shown(&w, &draining), 2);
  assert_int_equal(draining, 1);
  begin = loop_now(w.rig.l);
  while (w.rig.links[1].link && loop_now(w.rig.l) - begin < 10000)
    loop_run_for(w.rig.l, 1);
  assert_in_range(loop_now(w.rig.l) - begin, SPREAD_LEAVE_MS, SPREAD_LEAVE_MS + SPREAD_IDLE_MS + 1100);
  assert_int_equal(shown(&w, &draining), 1);
  assert_int_equal(w.downs, 0);
  loop_run_for(w.rig.l, 100000);
  assert_int_equal(w.rig.links_n, 2);
  stop(&w);
}

/* The relay may not know yet that a link is gone: another takes its number, in the same group, at once. */
static void test_one_of_two_is_lost(void **state) {
  (void)state;
  for (unsigned k = 0; k < 2; k++) {
    struct world w;
    unsigned draining;
    start_two(&w);
    rig_closed(&w.rig.links[k], BEAM_ERR_RESET);
    uint64_t ms = until_bound(&w, 2, 400);
    print_message("link %u replaced after %llu ms\n", k, (unsigned long long)ms);
    assert_int_equal(w.rig.links[2].lane, k);
    same_group(&w, 1 - k, 2, true);
    assert_int_equal(shown(&w, &draining), 2);
    assert_int_equal(w.downs, 0);
    assert_int_equal(w.state, BEAM_TUNNEL_ACTIVE);
    loop_run_for(w.rig.l, 30000);
    assert_int_equal(w.rig.links_n, 3);
    stop(&w);
  }
}

static void test_both_are_lost(void **state) {
  (void)state;
  struct world w;
  start_two(&w);
  memnet_cut(w.rig.net, "relay", true);
  loop_run_for(w.rig.l, 20);
  assert_int_equal(w.state, BEAM_TUNNEL_RECONNECTING);
  memnet_cut(w.rig.net, "relay", false);
  unsigned next = w.rig.links_n;
  until_bound(&w, next, 2100);
  assert_int_equal(w.state, BEAM_TUNNEL_ACTIVE);
  same_group(&w, 0, next, false); /* whatever the relay still has of the old ones */
  assert_int_equal(w.downs, 1);
  stop(&w);
}

/* A black hole swallows one link only: nobody says so, and the other goes on. */
static void test_superseded(void **state) {
  (void)state;
  struct world w;
  start_two(&w);
  for (unsigned k = 0; k < 2; k++) {
    beam_Control m = beam_Control_init_zero;
    m.which_kind = beam_Control_unbind_tag;
    m.kind.unbind.id = 1;
    str_copy(m.kind.unbind.reason, sizeof m.kind.unbind.reason, "superseded");
    assert_int_equal(link_send(w.rig.links[1 - k].link, &m), 0); /* in whatever order */
  }
  loop_run_for(w.rig.l, 100);
  assert_int_equal(w.state, BEAM_TUNNEL_CLOSED);
  assert_int_equal(w.error, BEAM_ERR_SUPERSEDED);
  loop_run_for(w.rig.l, 10000);
  assert_int_equal(rig_up(&w.rig), 0);
  stop(&w);
}

/* The relay goes: the next link is the first one's successor, and the second is let go, without a word in between. */
static void test_relay_drains(void **state) {
  (void)state;
  struct world w;
  start_two(&w);
  for (unsigned k = 0; k < 2; k++) {
    beam_Control m = beam_Control_init_zero;
    m.which_kind = beam_Control_drain_tag;
    assert_int_equal(link_send(w.rig.links[k].link, &m), 0);
  }
  until_bound(&w, 2, 300);
  assert_int_equal(w.rig.links[2].lane, 0);
  loop_run_for(w.rig.l, 40000);
  assert_int_equal(w.rig.links_n, 3);
  assert_int_equal(rig_up(&w.rig), 1);
  assert_int_equal(w.downs, 0);
  stop(&w);
}

static void test_refused(void **state) {
  (void)state;
  struct world w;
  start(&w, 2);
  w.rig.refuse_bind = BEAM_ERR_LIMIT;
  crowd(&w, 0, 40);
  loop_run_for(w.rig.l, 4000);
  assert_int_equal(w.rig.links_n, 2); /* and not asked again for a minute */
  assert_int_equal(rig_up(&w.rig), 1);
  assert_int_equal(w.state, BEAM_TUNNEL_ACTIVE);
  assert_int_equal(w.downs, 0);
  stop(&w);
}

/* The answer takes its time: meanwhile nobody asks for yet another. */
static void test_a_slow_answer(void **state) {
  (void)state;
  struct world w;
  start(&w, 8);
  w.rig.mute = true;
  crowd(&w, 0, 40);
  loop_run_for(w.rig.l, 4000);
  assert_int_equal(w.rig.links_n, 2);
  loop_run_for(w.rig.l, 60000);
  assert_int_equal(rig_up(&w.rig), 1); /* it never came */
  assert_int_equal(w.state, BEAM_TUNNEL_ACTIVE);
  stop(&w);
}

static void test_close_at_any_moment(void **state) {
  (void)state;
  for (uint64_t ms = 0; ms < 260; ms += 7) {
    struct world w;
    start(&w, 3);
    crowd(&w, 0, 70);
    loop_run_for(w.rig.l, ms);
    stop(&w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_while_idle),
      cmocka_unit_test(test_another_under_load_and_let_go),
      cmocka_unit_test(test_one_of_two_is_lost),
      cmocka_unit_test(test_both_are_lost),
      cmocka_unit_test(test_superseded),
      cmocka_unit_test(test_relay_drains),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_a_slow_answer),
      cmocka_unit_test(test_close_at_any_moment),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
