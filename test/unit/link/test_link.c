/* The streams of every link, through the contract that all streams keep. */
#include "contract.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "../stream_contract.h"
#include "base/limits.h"
#include "io/mem.h"

struct pair {
  struct link *relay, *agent;
  struct stream *accepted;
};

static void accepted(void *user, struct stream *s) {
  ((struct pair *)user)->accepted = s;
}

static const struct link_events events = {.stream = accepted};

static void given(void *user, struct link *k) {
  *(struct link **)user = k;
}

static int pair_local(struct loop *l, struct link **relay, struct link **agent) {
  int err = link_local_pair(l, l, relay, given, agent);
  loop_run_for(l, 0);
  return err;
}

static int make(struct loop *l, int (*pair)(struct loop *, struct link **, struct link **), bool swap,
                struct stream **a, struct stream **b, void **extra) {
  struct pair *p = calloc(1, sizeof *p);
  assert_non_null(p);
  *extra = p;
  int err = pair(l, &p->relay, &p->agent);
  if (err)
    return err;
  link_own(p->agent, &events, p);
  loop_run_for(l, 0);
  struct stream *s;
  err = link_open(p->relay, &s);
  loop_run_for(l, 0);
  assert_true(err || p->accepted);
  *a = swap ? p->accepted : s;
  *b = swap ? s : p->accepted;
  return err;
}

static void unmake(void *extra) {
  struct pair *p = extra;
  struct loop *l = p->relay->loop;
  assert_int_equal(p->relay->streams + p->agent->streams, 0);
  link_close(p->relay, 0);
  link_close(p->agent, 0);
  loop_run_for(l, 10000);
  free(p);
}

static int make_h2(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  return make(l, pair_h2, false, a, b, extra);
}
static int make_h2_swapped(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  return make(l, pair_h2, true, a, b, extra);
}
static int make_mem(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  return make(l, link_mem_pair, false, a, b, extra);
}
static int make_local(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  return make(l, pair_local, false, a, b, extra);
}

/* --- the way to the peer after the network changed --- */

static void way_is(const char *local, const char *peer, enum link_way want) {
  struct sockaddr_storage a = {.ss_family = AF_INET}, b = {.ss_family = AF_INET};
  assert_int_equal(inet_pton(AF_INET, local, &((struct sockaddr_in *)&a)->sin_addr), 1);
  assert_int_equal(inet_pton(AF_INET, peer, &((struct sockaddr_in *)&b)->sin_addr), 1);
  ((struct sockaddr_in *)&b)->sin_port = htons(443);
  assert_int_equal(link_way_of(&a, &b), want);
}

static void ways(void **state) {
  (void)state;
  way_is("127.0.0.1", "127.0.0.1", LINK_WAY_SAME);
  way_is("127.0.0.1", "127.9.9.9", LINK_WAY_SAME);
  way_is("192.0.2.77", "127.0.0.1", LINK_WAY_LEFT);
  way_is("127.0.0.1", "255.255.255.255", LINK_WAY_DOUBT); /* no way to there */
  struct sockaddr_storage none = {.ss_family = AF_UNIX};
  assert_int_equal(link_way_of(&none, &none), LINK_WAY_DOUBT);
}

/* What crosses no network is not touched; h2 over what is no socket cannot tell. */
static void ways_of_links(void **state) {
  (void)state;
  struct loop *l;
  struct link *relay, *agent;
  static const struct {
    int (*make)(struct loop *, struct link **, struct link **);
    enum link_way want;
  } t[] = {{link_mem_pair, LINK_WAY_SAME}, {pair_local, LINK_WAY_SAME}, {pair_h2, LINK_WAY_DOUBT}};
  for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
    assert_int_equal(loop_new_virtual(&l), 0);
    assert_int_equal(t[i].make(l, &relay, &agent), 0);
    loop_run_for(l, 0);
    assert_int_equal(link_network_changed(agent), t[i].want);
    link_close(relay, 0);
    link_close(agent, 0);
    loop_run_for(l, 60000);
    loop_free(l);
  }
}

/* --- the loop ends before the last words have left --- */

static struct stream *far_end;
static bool far_end_was_told;

static void look_at_far_end(void *arg) {
  (void)arg;
  far_end_was_told = stream_dead(far_end);
  stream_close(far_end, BEAM_ERR_RESET);
}

static void an_h2_link_ends_with_its_loop(void **state) {
  (void)state;
  static const uint8_t exporter[32];
  struct loop *l;
  struct stream *near_end;
  struct link *k;
  struct loop_task look;
  assert_int_equal(loop_new_virtual(&l), 0);
  assert_int_equal(mem_pair(l, &near_end, &far_end), 0);
  assert_int_equal(link_h2_new(near_end, LINK_AGENT, exporter, &k), 0);
  loop_run_for(l, 0);
  link_close(k, 0);
  assert_false(stream_dead(far_end)); /* it would say goodbye at the turn's end */
  task_init(&look, look_at_far_end, NULL);
  loop_at_free(l, &look);
  loop_free(l);
  assert_true(far_end_was_told);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(ways), cmocka_unit_test(ways_of_links),
                                     cmocka_unit_test(an_h2_link_ends_with_its_loop)};
  static const struct contract_kind kinds[] = {
      {"stream of an h2 link", true, false, 2 * LIMIT_SOCK_OUT, make_h2, unmake},
      {"stream of an h2 link, from the agent", true, false, 2 * LIMIT_SOCK_OUT, make_h2_swapped, unmake},
      {"stream of a link in memory", true, false, LIMIT_MEM_PIPE, make_mem, unmake},
      {"stream of a local link", true, false, LIMIT_STREAM_WINDOW_MIN, make_local, unmake},
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
    failed += contract_run(&kinds[i]);
  return failed;
}
