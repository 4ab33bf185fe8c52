/* test_agent.c: a tunnel's life on the virtual clock: exact milliseconds, real TLS, link and greeting, a network that fails when told. */
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

enum { SEEN = 256 };

/* Every state the agent told, with its time. */
struct seen {
  struct rig *rig;
  unsigned n;
  struct {
    enum beam_tunnel_state state;
    int error;
    uint64_t at;
    char name[64];
  } list[SEEN];
};

static void on_state(void *user, beam_tunnel *t, const struct beam_tunnel_info *info,
                     const struct beam_error *error) {
  (void)t;
  struct seen *s = user;
  assert_true(s->n < SEEN);
  s->list[s->n].state = info->state;
  s->list[s->n].error = error ? error->code : 0;
  s->list[s->n].at = loop_now(s->rig->l);
  str_copy(s->list[s->n].name, sizeof s->list[s->n].name, info->name);
  s->n++;
}

static enum beam_tunnel_state now_state(const struct seen *s) {
  return s->n ? s->list[s->n - 1].state : BEAM_TUNNEL_CONNECTING;
}
static int last_error(const struct seen *s) {
  return s->n ? s->list[s->n - 1].error : 0;
}

struct world {
  struct rig rig;
  struct seen seen;
  struct agent *agent;
};

static void open_agent(struct world *w) {
  struct beam_tunnel_config c = BEAM_TUNNEL_CONFIG_INIT;
  c.relay = "relay:443";
  c.local_host = "localhost";
  c.local_port = 3000;
  c.data_dir = tmp;
  c.proxy = "";
  c.on_state = on_state;
  c.user = &w->seen;
  w->seen.rig = &w->rig;
  struct beam_error e = BEAM_ERROR_INIT;
  if (agent_new(w->rig.l, w->rig.net, &c, NULL, &w->agent, &e))
    fail_msg("%s", e.what);
}

static void start(struct world *w, uint64_t delay_ms) {
  memset(w, 0, sizeof *w);
  assert_int_equal(tmp_make(NULL), 0);
  random_seed(11);
  rig_start(&w->rig, delay_ms);
  open_agent(w);
}

static void stop(struct world *w) {
  agent_close(w->agent);
  rig_stop(&w->rig);
  random_seed(0);
  tmp_remove(NULL);
}

/* Virtual ms until the state is `want`; fails after `most`. */
static uint64_t until(struct world *w, enum beam_tunnel_state want, uint64_t most) {
  uint64_t begin = loop_now(w->rig.l);
  while (now_state(&w->seen) != want) {
    if (loop_now(w->rig.l) - begin > most)
      fail_msg("state %d, not %d, after %llu ms; error %d", now_state(&w->seen), want,
               (unsigned long long)most, last_error(&w->seen));
    loop_run_for(w->rig.l, 1);
  }
  return loop_now(w->rig.l) - begin;
}

static void test_connects(void **state) {
  (void)state;
  struct world w;
  start(&w, 0);
  until(&w, BEAM_TUNNEL_ACTIVE, 5);
  assert_string_equal(w.seen.list[w.seen.n - 1].name, "shop.sim.test");
  assert_string_equal(w.rig.links[0].wanted, "");
  stop(&w);
}

static void test_round_trips_to_active(void **state) {
  (void)state;
  struct world w;
  start(&w, 50); /* 100 ms there and back */
  uint64_t ms = until(&w, BEAM_TUNNEL_ACTIVE, 2000);
  print_message("active after %llu ms at 100 ms round trip\n", (unsigned long long)ms);
  assert_in_range(ms, 400, 601); /* TCP, TLS, SETTINGS and control stream, HELLO, BIND */
  stop(&w);
}

static void test_relay_restart_keeps_the_name(void **state) {
  (void)state;
  struct world w;
  start(&w, 5);
  until(&w, BEAM_TUNNEL_ACTIVE, 1000);
  memnet_cut(w.rig.net, "relay", true);
  until(&w, BEAM_TUNNEL_RECONNECTING, 10); /* a reset is seen at once */
  loop_run_for(w.rig.l, 5000);
  assert_int_equal(now_state(&w.seen), BEAM_TUNNEL_RECONNECTING);
  memnet_cut(w.rig.net, "relay", false);
  uint64_t ms = until(&w, BEAM_TUNNEL_ACTIVE, 2100);
  print_message("back %llu ms after the relay was\n", (unsigned long long)ms);
  struct rig_link *last = &w.rig.links[w.rig.links_n - 1];
  assert_string_equal(last->wanted, "shop.sim.test"); /* asks for the very name */
  stop(&w);
}

/* Nothing arrives any more, and nobody says so: the worst a network does. */
static void test_black_hole_is_noticed(int directions, uint64_t most) {
  struct world w;
  start(&w, 1);
  until(&w, BEAM_TUNNEL_ACTIVE, 1000);
  loop_run_for(w.rig.l, 3000);
  memnet_blackhole(w.rig.net, "relay", directions);
  uint64_t ms = until(&w, BEAM_TUNNEL_RECONNECTING, most);
  print_message("black hole %d noticed after %llu ms\n", directions, (unsigned long long)ms);
  memnet_blackhole(w.rig.net, "relay", 0);
  uint64_t back = until(&w, BEAM_TUNNEL_ACTIVE, 15000);
  print_message("back after %llu ms\n", (unsigned long long)back);
  stop(&w);
}

static void test_black_hole_both(void **state) {
  (void)state;
  test_black_hole_is_noticed(MEMNET_TO | MEMNET_FROM, 18000);
}
static void test_black_hole_from_relay(void **state) {
  (void)state;
  test_black_hole_is_noticed(MEMNET_FROM, 18000);
}
static void test_black_hole_to_relay(void **state) {
  (void)state;
  test_black_hole_is_noticed(MEMNET_TO, 20000);
}

/* The relay says on its k-th link that it goes away. */
static void rig_drain(struct rig *r, unsigned k, uint32_t after_ms) {
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_drain_tag;
  m.kind.drain.after_ms = after_ms;
  assert_int_equal(link_send(r->links[k].link, &m), 0);
}

/* The relay drains: the next link is bound while the old one still serves, and nobody is told of anything. */
static void test_drain_with_a_time(void **state) {
  (void)state;
  for (uint32_t after = 0; after <= 3000; after += 3000) {
    struct world w;
    start(&w, 1);
    until(&w, BEAM_TUNNEL_ACTIVE, 1000);
    rig_drain(&w.rig, 0, after);
    for (unsigned ms = 0; rig_up(&w.rig) < 2 || !w.rig.links[1].bound_at; ms++) {
      assert_true(ms <= after + 20);
      loop_run_for(w.rig.l, 1);
    }
    assert_string_equal(w.rig.links[1].wanted, "shop.sim.test");
    loop_run_for(w.rig.l, 25000);
    assert_int_equal(rig_up(&w.rig), 2);
    loop_run_for(w.rig.l, 10000);
    assert_null(w.rig.links[0].link); /* thirty seconds for what it had under way */
    assert_int_equal(w.seen.n, 1);
    stop(&w);
  }
}

/* It refuses everybody until it is back: the old link serves on, and when that ends too the first attempt is soon. */
static void test_drain_at_the_only_relay(void **state) {
  (void)state;
  struct world w;
  start(&w, 1);
  until(&w, BEAM_TUNNEL_ACTIVE, 1000);
  w.rig.refuse_hello = BEAM_ERR_DRAINING;
  rig_drain(&w.rig, 0, 0);
  loop_run_for(w.rig.l, 20000);
  assert_int_equal(now_state(&w.seen), BEAM_TUNNEL_ACTIVE);
  assert_int_equal(rig_up(&w.rig), 1);
  assert_true(w.rig.links_n > 5);
  w.rig.refuse_hello = 0;
  rig_closed(&w.rig.links[0], BEAM_ERR_CLOSED);
  uint64_t ms = 0;
  for (; !rig_up(&w.rig) || !w.rig.links[w.rig.links_n - 1].bound_at; ms++) {
    assert_true(ms < 300);
    loop_run_for(w.rig.l, 1);
  }
  until(&w, BEAM_TUNNEL_ACTIVE, 10);
  print_message("back %llu ms after the drained relay was\n", (unsigned long long)ms);
  stop(&w);
}

static void test_final_errors_close(void **state) {
  (void)state;
  static const struct {
    int hello, bind, want;
  } cases[] = {{BEAM_ERR_DENIED, 0, BEAM_ERR_DENIED},
               {0, BEAM_ERR_TAKEN, BEAM_ERR_TAKEN},
               {0, BEAM_ERR_NAME, BEAM_ERR_NAME},
               {BEAM_ERR_UNSUPPORTED, 0, BEAM_ERR_UNSUPPORTED}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct world w;
    start(&w, 1);
    w.rig.refuse_hello = cases[i].hello;
    w.rig.refuse_bind = cases[i].bind;
    until(&w, BEAM_TUNNEL_CLOSED, 1000);
    assert_int_equal(last_error(&w.seen), cases[i].want);
    unsigned links = w.rig.links_n;
    loop_run_for(w.rig.l, 120000); /* and it does not try again */
    assert_int_equal(w.rig.links_n, links);
    stop(&w);
  }
}

static void test_a_full_store_is_tried_again(void **state) {
  (void)state;
  struct world w;
  start(&w, 1);
  w.rig.refuse_bind = BEAM_ERR_STORE;
  loop_run_for(w.rig.l, 3000);
  assert_int_equal(now_state(&w.seen), BEAM_TUNNEL_CONNECTING);
  assert_int_equal(last_error(&w.seen), BEAM_ERR_STORE);
  w.rig.refuse_bind = 0;
  until(&w, BEAM_TUNNEL_ACTIVE, 2100);
  stop(&w);
}

static void test_a_mute_relay(void **state) {
  (void)state;
  struct world w;
  start(&w, 1);
  w.rig.mute = true;
  loop_run_for(w.rig.l, 9000);
  assert_int_equal(last_error(&w.seen), 0);
  for (int i = 0; i < 1100 && !last_error(&w.seen); i++)
    loop_run_for(w.rig.l, 1);
  assert_int_equal(last_error(&w.seen), BEAM_ERR_TIMEOUT);
  w.rig.mute = false;
  until(&w, BEAM_TUNNEL_ACTIVE, 2100);
  stop(&w);
}

/* Another CA at a relay we know: at a fresh start it is final; while running it may be a login page, so it is tried again. */
static void test_another_ca(void **state) {
  (void)state;
  struct world w;
  start(&w, 1);
  until(&w, BEAM_TUNNEL_ACTIVE, 1000);
  rig_new_ca(&w.rig);
  memnet_cut(w.rig.net, "relay", true);
  loop_run_for(w.rig.l, 10);
  memnet_cut(w.rig.net, "relay", false);
  loop_run_for(w.rig.l, 5000);
  assert_int_equal(now_state(&w.seen), BEAM_TUNNEL_RECONNECTING);
  assert_int_equal(last_error(&w.seen), BEAM_ERR_UNTRUSTED);
  agent_close(w.agent);
  loop_run_for(w.rig.l, 1000);
  w.seen.n = 0;
  open_agent(&w);
  until(&w, BEAM_TUNNEL_CLOSED, 1000);
  assert_int_equal(last_error(&w.seen), BEAM_ERR_UNTRUSTED);
  stop(&w);
}

static void test_superseded(void **state) {
  (void)state;
  struct world w;
  start(&w, 1);
  until(&w, BEAM_TUNNEL_ACTIVE, 1000);
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_unbind_tag;
  m.kind.unbind.id = 1;
  str_copy(m.kind.unbind.reason, sizeof m.kind.unbind.reason, "superseded");
  assert_int_equal(link_send(w.rig.links[0].link, &m), 0);
  until(&w, BEAM_TUNNEL_CLOSED, 100);
  assert_int_equal(last_error(&w.seen), BEAM_ERR_SUPERSEDED);
  stop(&w);
}

/* The relay goes away in order: a second link is up and bound before the first is let go, and the tunnel was never down. */
static void test_drain_makes_before_it_breaks(void **state) {
  (void)state;
  struct world w;
  start(&w, 5);
  until(&w, BEAM_TUNNEL_ACTIVE, 1000);
  link_drain(w.rig.links[0].link);
  loop_run_for(w.rig.l, 200);
  assert_int_equal(w.rig.links_n, 2);
  assert_int_equal(rig_up(&w.rig), 2);
  assert_true(w.rig.links[1].bound_at > 0);
  assert_int_equal(now_state(&w.seen), BEAM_TUNNEL_ACTIVE);
  loop_run_for(w.rig.l, 31000);
  assert_int_equal(rig_up(&w.rig), 1);
  assert_int_equal(now_state(&w.seen), BEAM_TUNNEL_ACTIVE);
  for (unsigned i = 0; i < w.seen.n; i++)
    assert_int_not_equal(w.seen.list[i].state, BEAM_TUNNEL_RECONNECTING);
  stop(&w);
}

/* --- the network changes, the machine sleeps --- */

/* Every link still works: it was asked, and that was all. */
static void test_a_change_that_does_no_harm(void **state) {
  (void)state;
  for (int what = NET_CHANGED; what <= NET_SLEPT; what++) {
    struct world w;
    start(&w, 50);
    until(&w, BEAM_TUNNEL_ACTIVE, 2000);
    loop_run_for(w.rig.l, 3000);
    unsigned told = w.seen.n;
    memnet_change(w.rig.net, what);
    loop_run_for(w.rig.l, 60000);
    assert_int_equal(w.rig.links_n, 1);
    assert_int_equal(w.seen.n, told);
    stop(&w);
  }
}

/* The relay does not answer after it: the next link is dialled two seconds later, beside the old one, and nobody is told of anything. */
static void test_a_change_is_asked_about(void **state) {
  (void)state;
  struct world w;
  start(&w, 1);
  until(&w, BEAM_TUNNEL_ACTIVE, 1000);
  loop_run_for(w.rig.l, 3000);
  memnet_blackhole(w.rig.net, "relay", MEMNET_TO | MEMNET_FROM);
  memnet_change(w.rig.net, NET_SLEPT);
  uint64_t begin = loop_now(w.rig.l);
  loop_run_for(w.rig.l, 2500);
  assert_int_equal(w.rig.conns_n, 1);
  memnet_blackhole(w.rig.net, "relay", 0);
  while (w.rig.links_n < 2 || !w.rig.links[1].bound_at)
    loop_run_for(w.rig.l, 1);
  uint64_t ms = loop_now(w.rig.l) - begin;
  print_message("next link bound %llu ms after the change\n", (unsigned long long)ms);
  assert_in_range(ms, 2501, 2520);
  assert_string_equal(w.rig.links[1].wanted, "shop.sim.test");
  loop_run_for(w.rig.l, 60000);
  assert_int_equal(rig_up(&w.rig), 1);
  assert_int_equal(w.seen.n, 1);
  stop(&w);
}

/* Nobody is there any more: known eight seconds after the change, not eighteen; back as soon as the way is. */
static void test_a_change_into_nothing(void **state) {
  (void)state;
  struct world w;
  start(&w, 1);
  until(&w, BEAM_TUNNEL_ACTIVE, 1000);
  loop_run_for(w.rig.l, 12000); /* the PING of 10 s was answered: the next is far */
  memnet_blackhole(w.rig.net, "relay", MEMNET_TO | MEMNET_FROM);
  memnet_change(w.rig.net, NET_CHANGED);
  assert_int_equal(until(&w, BEAM_TUNNEL_RECONNECTING, 20000), 8000);
  assert_int_equal(last_error(&w.seen), BEAM_ERR_TIMEOUT);
  memnet_blackhole(w.rig.net, "relay", 0);
  uint64_t ms = until(&w, BEAM_TUNNEL_ACTIVE, 2100);
  print_message("back after %llu ms\n", (unsigned long long)ms);
  assert_in_range(ms, 1, 50); /* the next link was under way */
  stop(&w);
}

/* A relay that was away for long is tried at once when the machine wakes; a change elsewhere on this machine is no reason. */
static void test_waking_ends_the_waiting(void **state) {
  (void)state;
  struct world w;
  start(&w, 1);
  until(&w, BEAM_TUNNEL_ACTIVE, 1000);
  memnet_cut(w.rig.net, "relay", true);
  loop_run_for(w.rig.l, 120000);
  unsigned said;
  do { /* an attempt has just failed: the next one is up to 30 s away */
    said = w.seen.n;
    loop_run_for(w.rig.l, 1);
  } while (said == w.seen.n);
  assert_int_equal(now_state(&w.seen), BEAM_TUNNEL_RECONNECTING);
  memnet_cut(w.rig.net, "relay", false);
  said = w.seen.n;
  memnet_change(w.rig.net, NET_CHANGED);
  loop_run_for(w.rig.l, 20);
  assert_int_equal(w.seen.n, said);
  memnet_change(w.rig.net, NET_SLEPT);
  uint64_t ms = until(&w, BEAM_TUNNEL_ACTIVE, 100);
  print_message("back %llu ms after waking\n", (unsigned long long)ms);
  assert_in_range(ms, 1, 30);
  stop(&w);
}

static void test_close_at_any_moment(void **state) {
  (void)state;
  for (uint64_t ms = 0; ms < 120; ms += 3) {
    struct world w;
    start(&w, 10);
    loop_run_for(w.rig.l, ms);
    stop(&w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_connects),
      cmocka_unit_test(test_round_trips_to_active),
      cmocka_unit_test(test_relay_restart_keeps_the_name),
      cmocka_unit_test(test_black_hole_both),
      cmocka_unit_test(test_black_hole_from_relay),
      cmocka_unit_test(test_black_hole_to_relay),
      cmocka_unit_test(test_drain_with_a_time),
      cmocka_unit_test(test_drain_at_the_only_relay),
      cmocka_unit_test(test_final_errors_close),
      cmocka_unit_test(test_a_full_store_is_tried_again),
      cmocka_unit_test(test_a_mute_relay),
      cmocka_unit_test(test_another_ca),
      cmocka_unit_test(test_superseded),
      cmocka_unit_test(test_drain_makes_before_it_breaks),
      cmocka_unit_test(test_a_change_that_does_no_harm),
      cmocka_unit_test(test_a_change_is_asked_about),
      cmocka_unit_test(test_a_change_into_nothing),
      cmocka_unit_test(test_waking_ends_the_waiting),
      cmocka_unit_test(test_close_at_any_moment),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
