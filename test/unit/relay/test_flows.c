/* The visitors of a UDP tunnel on a virtual clock: when they are forgotten, to the millisecond; who makes room for whom; what waits for a link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "io/budget.h"
#include "io/mem.h"
#include "link/flow.h"
#include "relay/flows.h"

enum { PORT = 5353, AGENTS = 4096 };

/* The agent's end of a flow. */
struct agent {
  struct flow f;
  bool ended;
  int reason;
  unsigned got, beside;
  size_t last_n;
  uint8_t last[65536];
};

static struct loop *l;
static struct udp_net *net;
static struct udp *port;
static struct flows *fs;
static struct flow_counts counts;
static struct agent *agents[AGENTS];
static unsigned opened;
static int refuse;      /* what open() answers instead */
static unsigned guests; /* from the one address that is counted */
static unsigned guests_max;
static unsigned over; /* ended() calls */

static void agent_got(void *user, const uint8_t *p, size_t n) {
  struct agent *a = user;
  a->got++;
  a->last_n = n;
  memcpy(a->last, p, n);
}
static void agent_ended(void *user, int reason) {
  struct agent *a = user;
  a->ended = true;
  a->reason = reason;
}
static const struct flow_events agent_events = {agent_got, agent_ended};

/* Datagrams beside a mem stream: straight to the agent. */
static struct agent *of_stream(struct stream *s);
static size_t fake_max(struct stream *s) {
  (void)s;
  return 1200;
}
static int fake_send(struct stream *s, const uint8_t *p, size_t n) {
  struct agent *a = of_stream(s);
  a->beside++;
  agent_got(a, p, n);
  return 0;
}
static void fake_listen(struct stream *s, bool on) {
  (void)s, (void)on;
}
static const struct stream_datagrams fake = {fake_max, fake_send, fake_listen};
static struct stream *relay_end[AGENTS];

static struct agent *of_stream(struct stream *s) {
  for (unsigned i = 0; i < opened; i++)
    if (relay_end[i] == s)
      return agents[i];
  return NULL;
}

static bool with_datagrams;

static int open_flow(void *user, const struct sockaddr_storage *peer, const struct sockaddr_storage *local,
                     bool *beside, struct stream **out) {
  (void)user, (void)peer, (void)local;
  struct stream *far;
  if (refuse)
    return refuse;
  assert_true(opened < AGENTS);
  assert_int_equal(mem_pair(l, out, &far), 0);
  struct agent *a = calloc(1, sizeof *a);
  flow_own(&a->f, far, &agent_events, a);
  if (with_datagrams)
    (*out)->datagrams = &fake;
  *beside = with_datagrams;
  relay_end[opened] = *out;
  agents[opened++] = a;
  return 0;
}

static bool enter(void *user, const struct sockaddr_storage *peer) {
  (void)user, (void)peer;
  if (guests >= guests_max)
    return false;
  guests++;
  return true;
}
static void leave(void *user, const struct sockaddr_storage *peer) {
  (void)user, (void)peer;
  guests--;
}
static void ended(void *user, uint64_t in, uint64_t out, int reason) {
  (void)user, (void)in, (void)out, (void)reason;
  over++;
}

static void on_packet(void *user, const struct udp_packet *p) {
  (void)user;
  flows_packet(fs, port, p);
}
static void nothing(void *user) {
  (void)user;
}
static const struct udp_events port_events = {.packet = on_packet, .writable = nothing};

/* A visitor. */
struct guest {
  struct udp *u;
  unsigned got;
  size_t last_n;
};
static void guest_got(void *user, const struct udp_packet *p) {
  struct guest *g = user;
  g->got++;
  g->last_n = p->n;
}
static const struct udp_events guest_events = {.packet = guest_got, .writable = nothing};

static struct guest guest_new(void) {
  return (struct guest){0};
}
static void join(struct guest *g) {
  struct udp_conf c = {.net = net};
  assert_int_equal(udp_open(l, &c, &guest_events, g, &g->u), 0);
}
static void say(struct guest *g, const void *p, size_t n) {
  assert_int_equal(udp_send(g->u, udp_address(port), NULL, 0, p, n, n), n);
  loop_run_for(l, 1); /* one way takes one millisecond */
}

static void begin(struct flows_conf conf) {
  struct udp_memnet_conf nc = {.seed = 1};
  struct udp_conf pc = {.port = PORT};
  memset(&counts, 0, sizeof counts);
  opened = guests = over = 0;
  refuse = 0;
  guests_max = 1000000;
  with_datagrams = false;
  assert_int_equal(loop_new_virtual(&l), 0);
  assert_int_equal(udp_memnet_new(l, &nc, &net), 0);
  pc.net = net;
  assert_int_equal(udp_open(l, &pc, &port_events, NULL, &port), 0);
  conf.loop = l;
  conf.open = open_flow;
  conf.enter = enter;
  conf.leave = leave;
  conf.ended = ended;
  conf.counts = &counts;
  assert_int_equal(flows_new(&conf, &fs), 0);
}

static void finish(void) {
  flows_free(fs);
  loop_run_for(l, 10);
  for (unsigned i = 0; i < opened; i++) {
    flow_close(&agents[i]->f, 0);
    free(agents[i]);
  }
  udp_close(port);
  udp_memnet_free(net);
  assert_int_equal(guests, 0);
  assert_int_equal(atomic_load(&counts.now), 0);
  assert_int_equal(over, atomic_load(&counts.flows));
  assert_int_equal(atomic_load(&budget_pool.used), 0);
  loop_free(l);
}

static void answer(struct agent *a, const void *p, size_t n) {
  assert_int_equal(flow_send(&a->f, p, n), 0);
  loop_run_for(l, 0);
}

static void silent_visitors_are_forgotten(void **state) {
  (void)state;
  begin((struct flows_conf){0});
  struct guest g = guest_new();
  join(&g);
  say(&g, "who is beam.test?", 17);
  assert_int_equal(opened, 1);
  assert_int_equal(agents[0]->last_n, 17);
  assert_memory_equal(agents[0]->last, "who is beam.test?", 17);
  /* An answer does not keep a visitor who may be somebody else's address. */
  loop_run_for(l, LIMIT_UDP_NEW_MS - 2);
  answer(agents[0], "127.0.0.1", 9);
  loop_run_for(l, 1);
  assert_int_equal(flows_count(fs), 1);
  assert_int_equal(g.got, 1);
  loop_run_for(l, 1);
  assert_int_equal(flows_count(fs), 0);
  loop_run_for(l, 0);
  assert_true(agents[0]->ended);
  assert_int_equal(agents[0]->reason, 0);

  /* A visitor who speaks after an answer is there: two minutes from the last word, of either side. */
  say(&g, "a", 1);
  answer(agents[1], "b", 1);
  loop_run_for(l, 1000);
  say(&g, "c", 1);
  loop_run_for(l, LIMIT_UDP_IDLE_MS - 1);
  assert_int_equal(flows_count(fs), 1);
  answer(agents[1], "d", 1);
  loop_run_for(l, LIMIT_UDP_IDLE_MS - 1);
  assert_int_equal(flows_count(fs), 1);
  loop_run_for(l, 1);
  assert_int_equal(flows_count(fs), 0);
  assert_int_equal(opened, 2);
  assert_int_equal(g.got, 3);
  udp_close(g.u);
  finish();
}

static void the_limit_can_be_set(void **state) {
  (void)state;
  begin((struct flows_conf){.idle_ms = 500});
  struct guest g = guest_new();
  join(&g);
  say(&g, "a", 1);
  loop_run_for(l, 499);
  assert_int_equal(flows_count(fs), 1);
  loop_run_for(l, 1);
  assert_int_equal(flows_count(fs), 0);
  udp_close(g.u);
  finish();
}

/* Those that only ever asked make room, the one silent longest first; conversations never do. */
static void room_is_made(void **state) {
  (void)state;
  enum { MAX = 4 };
  begin((struct flows_conf){.max = MAX, .rate = 1000000});
  struct guest g[MAX + 3];
  for (int i = 0; i < MAX + 3; i++) {
    g[i] = guest_new();
    join(&g[i]);
  }
  for (int i = 0; i < MAX; i++)
    say(&g[i], "q", 1);
  for (int i = 0; i < MAX - 1; i++) { /* all but the last converse */
    answer(agents[i], "a", 1);
    say(&g[i], "q", 1);
  }
  say(&g[MAX], "q", 1);
  assert_int_equal(opened, MAX + 1);
  loop_run_for(l, 0);
  for (int i = 0; i < MAX; i++)
    assert_int_equal(agents[i]->ended, i == MAX - 1);
  answer(agents[MAX], "a", 1);
  say(&g[MAX], "q", 1); /* now all do */
  say(&g[MAX + 1], "q", 1);
  assert_int_equal(opened, MAX + 1);
  assert_int_equal(flows_count(fs), MAX);
  assert_int_equal(atomic_load(&counts.dropped[FLOW_DROP_FULL]), 1);
  for (int i = 0; i < MAX + 3; i++)
    udp_close(g[i].u);
  finish();
}

/* An address that has all it may have replaces its own. */
static void a_site_makes_room_for_itself(void **state) {
  (void)state;
  begin((struct flows_conf){0});
  guests_max = 2;
  struct guest g[3];
  for (int i = 0; i < 3; i++) {
    g[i] = guest_new();
    join(&g[i]);
    say(&g[i], "q", 1);
  }
  loop_run_for(l, 0);
  assert_int_equal(flows_count(fs), 2);
  assert_true(agents[0]->ended && !agents[1]->ended && !agents[2]->ended);
  for (int i = 1; i < 3; i++) {
    answer(agents[i], "a", 1);
    say(&g[i], "q", 1);
  }
  say(&g[0], "q", 1);
  assert_int_equal(flows_count(fs), 2);
  assert_int_equal(atomic_load(&counts.dropped[FLOW_DROP_FULL]), 1);
  for (int i = 0; i < 3; i++)
    udp_close(g[i].u);
  finish();
}

static void newcomers_come_at_a_rate(void **state) {
  (void)state;
  begin((struct flows_conf){.max = 10, .rate = 100});
  struct guest g[40];
  for (int i = 0; i < 40; i++) {
    g[i] = guest_new();
    join(&g[i]);
    assert_int_equal(udp_send(g[i].u, udp_address(port), NULL, 0, (const uint8_t *)"q", 1, 1), 1);
  }
  loop_run_for(l, 1); /* all at once: ten, and a tenth of one for the millisecond */
  assert_int_equal(opened, 10);
  assert_int_equal(atomic_load(&counts.dropped[FLOW_DROP_RATE]), 30);
  loop_run_for(l, 48);
  say(&g[30], "q", 1); /* 50 ms: five */
  for (int i = 31; i < 40; i++)
    assert_int_equal(udp_send(g[i].u, udp_address(port), NULL, 0, (const uint8_t *)"q", 1, 1), 1);
  loop_run_for(l, 1);
  assert_int_equal(opened, 15);
  for (int i = 0; i < 40; i++)
    udp_close(g[i].u);
  finish();
}

static void a_few_wait_for_a_link(void **state) {
  (void)state;
  begin((struct flows_conf){0});
  struct guest g = guest_new();
  uint8_t big[5000] = {7};
  join(&g);
  refuse = BEAM_AGAIN;
  for (int i = 0; i < 5; i++)
    say(&g, big, sizeof big);
  say(&g, "", 0);
  assert_int_equal(opened, 0);
  assert_int_equal(atomic_load(&counts.dropped[FLOW_DROP_AWAY]),
                   2); /* three times 5,002 fit into 16 KiB, and an empty one */
  refuse = 0;
  flows_wake(fs);
  loop_run_for(l, 0);
  assert_int_equal(opened, 1);
  assert_int_equal(agents[0]->got, 4);
  assert_int_equal(agents[0]->last_n, 0);

  /* The link is lost: the visitor keeps its place, and its next datagram finds the next link. */
  flow_close(&agents[0]->f, BEAM_ERR_RESET);
  loop_run_for(l, 1);
  assert_int_equal(flows_count(fs), 1);
  say(&g, "again", 5);
  assert_int_equal(opened, 2);
  assert_int_equal(agents[1]->last_n, 5);
  answer(agents[1], "yes", 3);
  loop_run_for(l, 1);
  assert_int_equal(g.got, 1);

  /* The agent ends it, or will not have it: over. */
  flow_close(&agents[1]->f, 0);
  loop_run_for(l, 1);
  assert_int_equal(flows_count(fs), 0);
  say(&g, "x", 1);
  stream_tell_closed(relay_end[2], BEAM_ERR_REFUSED);
  loop_run_for(l, 1);
  assert_int_equal(flows_count(fs), 0);

  /* No such tunnel any more. */
  refuse = BEAM_ERR_NOT_FOUND;
  say(&g, "x", 1);
  assert_int_equal(flows_count(fs), 0);
  assert_int_equal(atomic_load(&counts.dropped[FLOW_DROP_AWAY]), 3);
  udp_close(g.u);
  finish();
}

/* The first datagrams keep to the stream: one that overtakes its StreamOpen would find nobody. */
static void datagrams_wait_until_the_flow_is_known(void **state) {
  (void)state;
  for (int answered = 0; answered < 2; answered++) {
    begin((struct flows_conf){0});
    struct guest g = guest_new();
    uint8_t big[1201] = {1};
    join(&g);
    with_datagrams = true;
    say(&g, "1", 1);
    say(&g, "2", 1);
    assert_int_equal(agents[0]->beside, 0);
    if (answered) {
      answer(agents[0], "a", 1);
    } else {
      loop_run_for(l, LIMIT_UDP_FIRST_MS - 3);
      say(&g, "3", 1);
      assert_int_equal(agents[0]->beside, 0);
    }
    say(&g, "4", 1);
    assert_int_equal(agents[0]->beside, 1);
    say(&g, big, sizeof big); /* more than a packet carries: on the stream */
    assert_int_equal(agents[0]->beside, 1);
    assert_int_equal(agents[0]->last_n, sizeof big);
    udp_close(g.u);
    finish();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(silent_visitors_are_forgotten),
      cmocka_unit_test(the_limit_can_be_set),
      cmocka_unit_test(room_is_made),
      cmocka_unit_test(a_site_makes_room_for_itself),
      cmocka_unit_test(newcomers_come_at_a_rate),
      cmocka_unit_test(a_few_wait_for_a_link),
      cmocka_unit_test(datagrams_wait_until_the_flow_is_known),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
