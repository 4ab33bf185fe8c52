/* test_relays.c: one tunnel at two relays, on the virtual clock. */
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

struct world {
  struct rig a, b;
  struct agent *agent;
  enum beam_tunnel_state state;
  unsigned told, downs; /* callbacks; those that did not say ACTIVE once it was */
  int error;
  char name[64], relay[64];
};

static void on_state(void *user, beam_tunnel *t, const struct beam_tunnel_info *info,
                     const struct beam_error *error) {
  (void)t;
  struct world *w = user;
  w->downs += w->state == BEAM_TUNNEL_ACTIVE && info->state != BEAM_TUNNEL_ACTIVE;
  w->told++;
  w->state = info->state;
  w->error = error ? error->code : 0;
  str_copy(w->name, sizeof w->name, info->name);
  str_copy(w->relay, sizeof w->relay, info->relay);
}

static int try_agent(struct world *w, const char *relay, const char *ca, const char *name,
                     struct beam_error *e) {
  struct beam_tunnel_config c = BEAM_TUNNEL_CONFIG_INIT;
  c.relay = relay;
  c.relay_ca = ca;
  c.name = name;
  c.local_host = "localhost";
  c.local_port = 3000;
  c.data_dir = tmp;
  c.proxy = "";
  c.on_state = on_state;
  c.user = w;
  return agent_new(w->a.l, w->a.net, &c, NULL, &w->agent, e);
}

static void start_world(struct world *w, const char *domain, bool same_ca) {
  memset(w, 0, sizeof *w);
  assert_int_equal(tmp_make(NULL), 0);
  random_seed(11);
  rig_start(&w->a, 5);
  rig_join(&w->b, &w->a, "other", domain, same_ca);
}

static void start(struct world *w, const char *name) {
  struct beam_error e = BEAM_ERROR_INIT;
  start_world(w, "other.test", false);
  if (try_agent(w, "relay:443, other", NULL, name, &e))
    fail_msg("%s", e.what);
}

static void stop(struct world *w) {
  agent_close(w->agent);
  rig_stop(&w->b);
  rig_stop(&w->a);
  random_seed(0);
  tmp_remove(NULL);
}

static bool bound(const struct rig *r) {
  return rig_up(r) && r->links[r->links_n - 1].bound_at;
}

/* Virtual ms until it is bound at r; fails after `most`. */
static uint64_t until_bound(struct world *w, struct rig *r, uint64_t most) {
  uint64_t begin = loop_now(w->a.l);
  while (!bound(r)) {
    if (loop_now(w->a.l) - begin > most)
      fail_msg("not bound after %llu ms", (unsigned long long)most);
    loop_run_for(w->a.l, 1);
  }
  loop_run_for(w->a.l, 20); /* BOUND is on its way */
  return loop_now(w->a.l) - begin;
}

static void link_is(struct world *w, unsigned i, const char *relay, enum beam_tunnel_state state) {
  struct beam_link_info k = {.size = sizeof k};
  assert_int_equal(agent_link_info(w->agent, i, &k), 0);
  assert_string_equal(k.relay, relay);
  assert_int_equal(k.state, state);
  assert_true(!k.transport == (state != BEAM_TUNNEL_ACTIVE));
}

/* Nobody chose a name: the second relay is asked for the very one that the first gave, under its own domain. */
static void test_one_name(void **state) {
  (void)state;
  struct world w;
  start(&w, NULL);
  until_bound(&w, &w.a, 500);
  until_bound(&w, &w.b, 500);
  bool a_first = w.a.links[0].bound_at < w.b.links[0].bound_at;
  assert_string_equal(a_first ? w.a.links[0].wanted : w.b.links[0].wanted, "");
  assert_string_equal(a_first ? w.b.links[0].wanted : w.a.links[0].wanted, "shop");
  assert_int_equal(w.state, BEAM_TUNNEL_ACTIVE);
  assert_string_equal(w.name, "shop.sim.test");
  assert_string_equal(w.relay, "relay:443");
  link_is(&w, 0, "relay:443", BEAM_TUNNEL_ACTIVE);
  link_is(&w, 1, "other:443", BEAM_TUNNEL_ACTIVE);
  struct beam_link_info k = {.size = sizeof k};
  assert_int_equal(agent_link_info(w.agent, 2, &k), BEAM_ERR_NOT_FOUND);
  stop(&w);
}

/* The one that was asked does not answer: the other waits for no longer than BIND may take. */
static void test_the_first_is_mute(void **state) {
  (void)state;
  struct world w;
  start(&w, NULL);
  w.a.mute = w.b.mute = true;
  loop_run_for(w.a.l, 1000);
  assert_int_equal(rig_up(&w.a) + rig_up(&w.b), 2);
  w.a.mute = w.b.mute = false; /* whoever was not asked yet */
  uint64_t begin = loop_now(w.a.l);
  while (w.state != BEAM_TUNNEL_ACTIVE && loop_now(w.a.l) - begin < 12000)
    loop_run_for(w.a.l, 1);
  assert_int_equal(w.state, BEAM_TUNNEL_ACTIVE);
  assert_in_range(loop_now(w.a.l) - begin, 8900, 9200); /* ten seconds from the first BIND on */
  stop(&w);
}

/* Losing one of two is no outage: it comes back by itself, under the same name. */
static void test_one_is_lost(void **state) {
  (void)state;
  struct world w;
  start(&w, "desk");
  until_bound(&w, &w.a, 500);
  until_bound(&w, &w.b, 500);
  memnet_cut(w.a.net, "relay", true);
  loop_run_for(w.a.l, 10);
  assert_int_equal(w.state, BEAM_TUNNEL_ACTIVE);
  assert_string_equal(w.name, "desk.other.test"); /* the first that is up is shown */
  link_is(&w, 0, "relay:443", BEAM_TUNNEL_RECONNECTING);
  link_is(&w, 1, "other:443", BEAM_TUNNEL_ACTIVE);
  unsigned told = w.told;
  loop_run_for(w.a.l, 30000);
  assert_int_equal(w.told, told); /* that it tries again is no news */
  memnet_cut(w.a.net, "relay", false);
  uint64_t ms = until_bound(&w, &w.a, 2100);
  print_message("back at the first %llu ms after it was\n", (unsigned long long)ms);
  assert_string_equal(w.a.links[w.a.links_n - 1].wanted, "desk.sim.test");
  assert_string_equal(w.name, "desk.sim.test");
  assert_int_equal(w.downs, 0);
  stop(&w);
}

static void test_both_are_lost(void **state) {
  (void)state;
  struct world w;
  start(&w, "desk");
  until_bound(&w, &w.a, 500);
  until_bound(&w, &w.b, 500);
  memnet_cut(w.a.net, "relay", true);
  memnet_cut(w.a.net, "other", true);
  loop_run_for(w.a.l, 10);
  assert_int_equal(w.state, BEAM_TUNNEL_RECONNECTING);
  assert_true(w.error);
  memnet_cut(w.a.net, "other", false);
  until_bound(&w, &w.b, 2100);
  assert_int_equal(w.state, BEAM_TUNNEL_ACTIVE);
  assert_int_equal(w.downs, 1);
  stop(&w);
}

/* What one relay refuses for good ends nothing as long as the other serves; refused by both it is over. */
static void test_one_refuses(void **state) {
  (void)state;
  struct world w;
  start(&w, "desk");
  w.b.refuse_bind = BEAM_ERR_TAKEN;
  until_bound(&w, &w.a, 500);
  loop_run_for(w.a.l, 500);
  assert_int_equal(w.state, BEAM_TUNNEL_ACTIVE);
  link_is(&w, 1, "other:443", BEAM_TUNNEL_CLOSED);
  struct beam_link_info k = {.size = sizeof k};
  assert_int_equal(agent_link_info(w.agent, 1, &k), 0);
  assert_string_equal(k.why, "the script says no");
  unsigned links = w.b.links_n;
  w.a.refuse_hello = BEAM_ERR_DENIED;
  memnet_cut(w.a.net, "relay", true);
  loop_run_for(w.a.l, 10);
  memnet_cut(w.a.net, "relay", false);
  loop_run_for(w.a.l, 3000);
  assert_int_equal(w.state, BEAM_TUNNEL_CLOSED);
  assert_int_equal(w.error, BEAM_ERR_DENIED);
  assert_int_equal(w.b.links_n, links);
  stop(&w);
}

static void test_lists(void **state) {
  (void)state;
  static const struct {
    const char *relay, *ca;
    int err;
  } cases[] = {
      {"relay:443,relay", NULL, BEAM_ERR_INVALID},
      {"relay,", NULL, BEAM_ERR_INVALID},
      {"a,b,c,d,e", NULL, BEAM_ERR_LIMIT},
      {"a,b,c", "sha256:00,sha256:01", BEAM_ERR_INVALID},
      {"a,b", "sha256:00,sha256:01", BEAM_ERR_INVALID}, /* no fingerprints */
  };
  struct world w;
  start(&w, NULL);
  agent_close(w.agent);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct beam_error e = BEAM_ERROR_INIT;
    assert_int_equal(try_agent(&w, cases[i].relay, cases[i].ca, NULL, &e), cases[i].err);
    assert_true(e.what[0]);
  }
  char one[FINGERPRINT_TEXT], both[2 * FINGERPRINT_TEXT];
  str_copy(one, sizeof one, ca_fingerprint_text(w.b.ca));
  str_fmt(both, sizeof both, "%s,%s", ca_fingerprint_text(w.a.ca), one);
  struct beam_error e = BEAM_ERROR_INIT;
  w.state = BEAM_TUNNEL_CONNECTING;
  assert_int_equal(try_agent(&w, "relay,other", both, NULL, &e), 0);
  until_bound(&w, &w.a, 500);
  until_bound(&w, &w.b, 500);
  agent_close(w.agent);
  assert_int_equal(try_agent(&w, "relay,other", one, NULL, &e),
                   0); /* one for both, and only the second has it */
  loop_run_for(w.a.l, 1000);
  link_is(&w, 0, "relay:443", BEAM_TUNNEL_CLOSED);
  link_is(&w, 1, "other:443", BEAM_TUNNEL_ACTIVE);
  stop(&w);
}

/* --- DRAIN says where to go --- */

/* At the first relay only, which then goes away and sends its agents to `to`. */
static void start_sent(struct world *w, bool same_ca, const char *to) {
  struct beam_error e = BEAM_ERROR_INIT;
  start_world(w, "sim.test", same_ca);
  assert_int_equal(try_agent(w, "relay", NULL, "desk", &e), 0);
  until_bound(w, &w->a, 500);
  w->a.refuse_hello = BEAM_ERR_DRAINING;
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_drain_tag;
  str_copy(m.kind.drain.to, sizeof m.kind.drain.to, to);
  assert_int_equal(link_send(w->a.links[0].link, &m), 0);
}

static void test_sent_to_another(void **state) {
  (void)state;
  struct world w;
  start_sent(&w, true, "other:443");
  uint64_t ms = until_bound(&w, &w.b, 500);
  print_message("at the other %llu ms after DRAIN\n", (unsigned long long)ms);
  assert_string_equal(w.b.links[0].wanted, "desk.sim.test");
  assert_true(w.a.moved);
  link_is(&w, 0, "other:443", BEAM_TUNNEL_ACTIVE);
  link_is(&w, 1, "relay:443", BEAM_TUNNEL_ACTIVE); /* what it has under way */
  rig_closed(&w.a.links[0], BEAM_ERR_DRAINING);
  loop_run_for(w.a.l, 5000);
  assert_int_equal(w.a.links_n, 1); /* nobody asked there again */
  assert_int_equal(w.downs, 0);
  w.a.refuse_hello = 0;
  rig_closed(&w.b.links[0], BEAM_ERR_CLOSED); /* what was lost there is made anew at its own address */
  loop_run_for(w.a.l, 600);
  assert_int_equal(w.b.links_n, 1);
  assert_true(bound(&w.a));
  assert_int_equal(w.state, BEAM_TUNNEL_ACTIVE);
  stop(&w);
}

/* A stranger, one that is not there, one that refuses, and no address at all: the old link serves until its own relay is back. */
static void test_sent_for_nothing(void **state) {
  (void)state;
  static const struct {
    const char *to;
    bool same_ca;
    int hello, bind;
    unsigned there; /* links that were made */
  } cases[] = {{"other", false, 0, 0, 0},
               {"nowhere:443", true, 0, 0, 0},
               {"other", true, BEAM_ERR_DENIED, 0, 1},
               {"other", true, 0, BEAM_ERR_TAKEN, 1},
               {"other", true, 0, BEAM_ERR_STORE, 1},
               {"wss://other", true, 0, 0, 0},
               {"other,relay", true, 0, 0, 0},
               {"relay:443", true, 0, 0, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct world w;
    start_sent(&w, cases[i].same_ca, cases[i].to);
    w.b.refuse_hello = cases[i].hello;
    w.b.refuse_bind = cases[i].bind;
    loop_run_for(w.a.l, 12000);
    assert_int_equal(w.b.links_n, cases[i].there);
    assert_int_equal(rig_up(&w.b), 0);
    assert_int_equal(rig_up(&w.a), 1);
    assert_true(w.a.links_n > 2); /* and it asked again where it came from */
    w.a.refuse_hello = 0;
    unsigned links = w.a.links_n;
    for (unsigned ms = 0; w.a.links_n == links || !bound(&w.a); ms++) {
      assert_true(ms < 2200);
      loop_run_for(w.a.l, 1);
    }
    assert_int_equal(w.state, BEAM_TUNNEL_ACTIVE);
    assert_int_equal(w.downs, 0);
    stop(&w);
  }
}

static void test_close_at_any_moment(void **state) {
  (void)state;
  for (uint64_t ms = 0; ms < 120; ms += 5) {
    struct world w;
    start(&w, ms % 2 ? "desk" : NULL);
    loop_run_for(w.a.l, ms);
    stop(&w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_name),
      cmocka_unit_test(test_the_first_is_mute),
      cmocka_unit_test(test_one_is_lost),
      cmocka_unit_test(test_both_are_lost),
      cmocka_unit_test(test_one_refuses),
      cmocka_unit_test(test_lists),
      cmocka_unit_test(test_sent_to_another),
      cmocka_unit_test(test_sent_for_nothing),
      cmocka_unit_test(test_close_at_any_moment),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
