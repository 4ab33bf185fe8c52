/* Which transport wins, on the virtual clock: every order of answers, silences and errors, in exact milliseconds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "agent/race.h"
#include "base/err.h"
#include "base/str.h"

enum { NEVER = 0, Q = 1u << UPLINK_QUIC, H = 1u << UPLINK_H2, W = 1u << UPLINK_WS };

/* What each transport is going to do, `after` ms from its start. */
struct plan {
  int after; /* NEVER: nothing */
  int err;   /* 0: it greets */
  bool said;
};

struct uplink {
  struct loop_timer timer;
  struct plan plan;
  enum uplink_transport transport;
  uplink_cb cb;
  void *user;
};

static struct loop *loop;
static uint64_t begun;
static struct plan plans[UPLINK_TRANSPORTS];
static int refuse_start[UPLINK_TRANSPORTS]; /* what start() itself returns */
static int64_t started[UPLINK_TRANSPORTS];  /* ms since the race began; -1: not */
static unsigned alive, starts[UPLINK_TRANSPORTS];

static void on_time(void *arg) {
  struct uplink *u = arg;
  struct uplink_result r = {.err = u->plan.err, .said = u->plan.said, .why = BEAM_ERROR_INIT};
  uplink_cb cb = u->cb;
  void *user = u->user;
  if (r.err)
    err_set(&r.why, r.err, NULL, "%s failed", uplink_name(u->transport));
  alive--;
  free(u);
  cb(user, &r);
}

static int fake_start(const struct uplink_conf *conf, uplink_cb cb, void *user, struct uplink **out) {
  starts[conf->transport]++;
  started[conf->transport] = (int64_t)(loop_now(loop) - begun);
  if (refuse_start[conf->transport])
    return refuse_start[conf->transport];
  struct uplink *u = calloc(1, sizeof *u);
  *u = (struct uplink){.plan = plans[conf->transport], .transport = conf->transport, .cb = cb, .user = user};
  timer_init(&u->timer, loop, on_time, u);
  if (u->plan.after)
    assert_int_equal(timer_start(&u->timer, (uint64_t)u->plan.after), 0);
  alive++;
  *out = u;
  return 0;
}

static void fake_cancel(struct uplink *u) {
  timer_stop(&u->timer);
  alive--;
  free(u);
}

static const struct race_runner fake = {fake_start, fake_cancel};

struct seen {
  int done;
  struct race_result r;
  uint64_t at;
};

static void on_race(void *user, const struct race_result *r) {
  struct seen *s = user;
  s->done++;
  s->r = *r;
  s->at = loop_now(loop) - begun;
}

static void begin(unsigned allowed, enum uplink_transport first, struct seen *s, struct race **r) {
  memset(s, 0, sizeof *s);
  memset(starts, 0, sizeof starts);
  for (int i = 0; i < UPLINK_TRANSPORTS; i++)
    started[i] = -1;
  assert_int_equal(loop_new_virtual(&loop), 0);
  begun = loop_now(loop);
  struct race_conf c = {.uplink = {.loop = loop}, .allowed = allowed, .first = first, .runner = &fake};
  assert_int_equal(race_start(&c, on_race, s, r), 0);
  assert_int_equal(s->done, 0); /* never from inside */
}

struct row {
  unsigned allowed;
  enum uplink_transport first;
  struct plan plans[3]; /* quic, h2, ws */
  int64_t started[3];   /* ms, -1: never */
  int won;              /* transport; -1: lost */
  int err;
  uint64_t at;
  const char *reason;
};

static const struct row rows[] = {
    /* all three, QUIC first: at once, 300 ms, 1 s */
    {Q | H | W, UPLINK_QUIC, {{40, 0, 0}, {50, 0, 0}, {60, 0, 0}}, {0, -1, -1}, UPLINK_QUIC, 0, 40, ""},
    {Q | H | W, UPLINK_QUIC, {{299, 0, 0}, {50, 0, 0}, {60, 0, 0}}, {0, -1, -1}, UPLINK_QUIC, 0, 299, ""},
    {Q | H | W,
     UPLINK_QUIC,
     {{NEVER, 0, 0}, {50, 0, 0}, {60, 0, 0}},
     {0, 300, -1},
     UPLINK_H2,
     0,
     350,
     "quic: no answer in 350 ms"},
    {Q | H | W, UPLINK_QUIC, {{340, 0, 0}, {50, 0, 0}, {60, 0, 0}}, {0, 300, -1}, UPLINK_QUIC, 0, 340, ""},
    {Q | H | W,
     UPLINK_QUIC,
     {{NEVER, 0, 0}, {699, 0, 0}, {60, 0, 0}},
     {0, 300, -1},
     UPLINK_H2,
     0,
     999,
     "quic: no answer in 999 ms"},
    {Q | H | W,
     UPLINK_QUIC,
     {{NEVER, 0, 0}, {NEVER, 0, 0}, {60, 0, 0}},
     {0, 300, 1000},
     UPLINK_WS,
     0,
     1060,
     "quic: no answer in 1060 ms; h2: no answer in 760 ms"},
    {Q | H | W,
     UPLINK_QUIC,
     {{NEVER, 0, 0}, {750, 0, 0}, {60, 0, 0}},
     {0, 300, 1000},
     UPLINK_H2,
     0,
     1050,
     "quic: no answer in 1050 ms"},
    /* an error makes room for the next at once, but only when nothing else is under way */
    {Q | H | W,
     UPLINK_QUIC,
     {{5, BEAM_ERR_REFUSED, 0}, {50, 0, 0}, {60, 0, 0}},
     {0, 5, -1},
     UPLINK_H2,
     0,
     55,
     "quic: quic failed"},
    {Q | H | W,
     UPLINK_QUIC,
     {{5, BEAM_ERR_REFUSED, 0}, {7, BEAM_ERR_RESET, 0}, {60, 0, 0}},
     {0, 5, 12},
     UPLINK_WS,
     0,
     72,
     "quic: quic failed; h2: h2 failed"},
    {Q | H | W,
     UPLINK_QUIC,
     {{320, BEAM_ERR_TLS, 0}, {NEVER, 0, 0}, {60, 0, 0}},
     {0, 300, 1000},
     UPLINK_WS,
     0,
     1060,
     "quic: quic failed; h2: no answer in 760 ms"},
    {Q | H | W,
     UPLINK_QUIC,
     {{NEVER, 0, 0}, {10, BEAM_ERR_RESET, 0}, {60, 0, 0}},
     {0, 300, 1000},
     UPLINK_WS,
     0,
     1060,
     "quic: no answer in 1060 ms; h2: h2 failed"},
    /* nobody gets through */
    {Q | H | W,
     UPLINK_QUIC,
     {{5, BEAM_ERR_TIMEOUT, 0}, {7, BEAM_ERR_REFUSED, 0}, {9, BEAM_ERR_PROTOCOL, 0}},
     {0, 5, 12},
     -1,
     BEAM_ERR_REFUSED,
     21,
     "quic: quic failed; h2: h2 failed; ws: ws failed"},
    {Q | H | W,
     UPLINK_QUIC,
     {{2000, BEAM_ERR_RESET, 0}, {100, BEAM_ERR_REFUSED, 0}, {9, BEAM_ERR_PROTOCOL, 0}},
     {0, 300, 1000},
     -1,
     BEAM_ERR_RESET,
     2000,
     "quic: quic failed; h2: h2 failed; ws: ws failed"},
    {H | W,
     UPLINK_H2,
     {{0}, {7, BEAM_ERR_REFUSED, 0}, {9, BEAM_ERR_UNTRUSTED, 0}},
     {-1, 0, 7},
     -1,
     BEAM_ERR_UNTRUSTED,
     16,
     "h2: h2 failed; ws: ws failed"},
    {H | W,
     UPLINK_H2,
     {{0}, {7, BEAM_ERR_UNTRUSTED, 0}, {9, 0, 0}},
     {-1, 0, 7},
     UPLINK_WS,
     0,
     16,
     "h2: h2 failed"}, /* TLS was opened on the way */
    /* the relay's own word ends it */
    {Q | H | W,
     UPLINK_QUIC,
     {{5, BEAM_ERR_DENIED, true}, {50, 0, 0}, {60, 0, 0}},
     {0, -1, -1},
     -1,
     BEAM_ERR_DENIED,
     5,
     "quic: quic failed; h2: another one was faster; ws: another one was faster"},
    {Q | H | W,
     UPLINK_QUIC,
     {{NEVER, 0, 0}, {5, BEAM_ERR_LIMIT, true}, {60, 0, 0}},
     {0, 300, -1},
     -1,
     BEAM_ERR_LIMIT,
     305,
     "quic: no answer in 305 ms; h2: h2 failed; ws: another one was faster"},
    /* without QUIC */
    {H | W, UPLINK_QUIC, {{1, 0, 0}, {50, 0, 0}, {60, 0, 0}}, {-1, 0, -1}, UPLINK_H2, 0, 50, ""},
    {H | W,
     UPLINK_H2,
     {{1, 0, 0}, {NEVER, 0, 0}, {60, 0, 0}},
     {-1, 0, 1000},
     UPLINK_WS,
     0,
     1060,
     "h2: no answer in 1060 ms"},
    /* what won last begins; the others follow */
    {Q | H | W,
     UPLINK_H2,
     {{40, 0, 0}, {50, 0, 0}, {60, 0, 0}},
     {-1, 0, -1},
     UPLINK_H2,
     0,
     50,
     "quic: another one was faster"},
    {Q | H | W, UPLINK_H2, {{40, 0, 0}, {400, 0, 0}, {60, 0, 0}}, {300, 0, -1}, UPLINK_QUIC, 0, 340, ""},
    {Q | H | W,
     UPLINK_H2,
     {{NEVER, 0, 0}, {NEVER, 0, 0}, {60, 0, 0}},
     {300, 0, 1000},
     UPLINK_WS,
     0,
     1060,
     "quic: no answer in 760 ms; h2: no answer in 1060 ms"},
    {Q | H | W,
     UPLINK_WS,
     {{40, 0, 0}, {50, 0, 0}, {60, 0, 0}},
     {-1, -1, 0},
     UPLINK_WS,
     0,
     60,
     "quic: another one was faster; h2: another one was faster"},
    {Q | H | W,
     UPLINK_WS,
     {{NEVER, 0, 0}, {50, 0, 0}, {NEVER, 0, 0}},
     {300, 600, 0},
     UPLINK_H2,
     0,
     650,
     "quic: no answer in 350 ms"},
    {H | W, UPLINK_WS, {{0}, {50, 0, 0}, {30, BEAM_ERR_REFUSED, 0}}, {-1, 30, 0}, UPLINK_H2, 0, 80, ""},
    {H | W,
     UPLINK_WS,
     {{0}, {5, BEAM_ERR_RESET, 0}, {30, BEAM_ERR_REFUSED, 0}},
     {-1, 30, 0},
     -1,
     BEAM_ERR_RESET,
     35,
     "h2: h2 failed; ws: ws failed"},
    /* only one */
    {Q, UPLINK_WS, {{40, 0, 0}, {1, 0, 0}, {1, 0, 0}}, {0, -1, -1}, UPLINK_QUIC, 0, 40, ""},
    {W, UPLINK_H2, {{1, 0, 0}, {1, 0, 0}, {60, 0, 0}}, {-1, -1, 0}, UPLINK_WS, 0, 60, ""},
    {W,
     UPLINK_WS,
     {{1, 0, 0}, {1, 0, 0}, {60, BEAM_ERR_REFUSED, 0}},
     {-1, -1, 0},
     -1,
     BEAM_ERR_REFUSED,
     60,
     "ws: ws failed"},
};

static void test_rows(void **state) {
  (void)state;
  memset(refuse_start, 0, sizeof refuse_start);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const struct row *w = &rows[i];
    struct seen s;
    struct race *r;
    memcpy(plans, w->plans, sizeof plans);
    begin(w->allowed, w->first, &s, &r);
    loop_run_for(loop, 30000);
    assert_int_equal(s.done, 1);
    assert_int_equal(s.at, w->at);
    assert_int_equal(s.r.uplink.err, w->err);
    if (w->won >= 0)
      assert_int_equal(s.r.transport, w->won);
    else
      assert_int_equal(s.r.uplink.why.code, w->err);
    assert_string_equal(s.r.reason, w->reason);
    for (int t = 0; t < UPLINK_TRANSPORTS; t++) {
      assert_int_equal(started[t], w->started[t]);
      assert_true(starts[t] <= 1);
    }
    assert_int_equal(alive, 0); /* the others were called off */
    loop_free(loop);
  }
}

/* Every combination of answers: the winner is who comes first by the rules, and nothing is left behind. */
static void test_all_combinations(void **state) {
  (void)state;
  static const struct plan kinds[] = {{NEVER, 0, 0},
                                      {20, 0, 0},
                                      {450, 0, 0},
                                      {2000, 0, 0},
                                      {20, BEAM_ERR_RESET, 0},
                                      {450, BEAM_ERR_TLS, 0},
                                      {20, BEAM_ERR_DENIED, true}};
  enum { N = sizeof kinds / sizeof *kinds };
  memset(refuse_start, 0, sizeof refuse_start);
  for (unsigned allowed = 1; allowed < 8; allowed++)
    for (int first = 0; first < UPLINK_TRANSPORTS; first++)
      for (int k = 0; k < N * N * N; k++) {
        struct seen s;
        struct race *r;
        plans[0] = kinds[k % N];
        plans[1] = kinds[k / N % N];
        plans[2] = kinds[k / N / N];
        begin(allowed, (enum uplink_transport)first, &s, &r);
        loop_run_for(loop, 10000);
        bool silent = false, greets = false;
        for (int t = 0; t < UPLINK_TRANSPORTS; t++) {
          if (!(allowed & 1u << t)) {
            assert_int_equal(starts[t], 0);
            continue;
          }
          silent = silent || (starts[t] && !plans[t].after);
          greets = greets || (!plans[t].err && plans[t].after);
        }
        if (!s.done) { /* only silence keeps a race waiting */
          assert_true(silent && !greets);
          race_cancel(r);
        } else if (!s.r.uplink.err) {
          int t = s.r.transport;
          assert_int_equal(s.at, started[t] + plans[t].after);
        }
        assert_true(s.done <= 1);
        assert_int_equal(alive, 0);
        loop_free(loop);
      }
}

static void test_a_start_that_fails(void **state) {
  (void)state;
  struct seen s;
  struct race *r;
  memset(plans, 0, sizeof plans);
  plans[UPLINK_WS] = (struct plan){60, 0, false};
  refuse_start[UPLINK_QUIC] = BEAM_ERR_UNSUPPORTED;
  refuse_start[UPLINK_H2] = BEAM_ERR_NOMEM;
  begin(Q | H | W, UPLINK_QUIC, &s, &r);
  loop_run_for(loop, 5000);
  assert_int_equal(s.done, 1);
  assert_int_equal(s.at, 60);
  assert_int_equal(s.r.transport, UPLINK_WS);
  loop_free(loop);
  refuse_start[UPLINK_WS] = BEAM_ERR_SYSTEM;
  begin(Q | H | W, UPLINK_QUIC, &s, &r);
  loop_run_for(loop, 5000);
  assert_int_equal(s.done, 1);
  assert_true(s.r.uplink.err < 0);
  loop_free(loop);
  memset(refuse_start, 0, sizeof refuse_start);
  struct race_conf c = {.allowed = 0, .runner = &fake};
  assert_int_equal(race_start(&c, on_race, &s, &r), BEAM_ERR_UNSUPPORTED);
}

static void test_cancel_at_any_moment(void **state) {
  (void)state;
  memset(plans, 0, sizeof plans);
  for (uint64_t ms = 0; ms < 1500; ms += 100) {
    struct seen s;
    struct race *r;
    begin(Q | H | W, UPLINK_QUIC, &s, &r);
    loop_run_for(loop, ms);
    race_cancel(r);
    loop_run_for(loop, 5000);
    assert_int_equal(s.done, 0);
    assert_int_equal(alive, 0);
    loop_free(loop);
  }
  race_cancel(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rows),
      cmocka_unit_test(test_all_combinations),
      cmocka_unit_test(test_a_start_that_fails),
      cmocka_unit_test(test_cancel_at_any_moment),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
