#include "contract.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "io/budget.h"
#include "io/mem.h"
#include "link/h2.h"

static const struct pair_kind h2 = {.name = "h2", .make = pair_h2};
static char block[256 * 1024];

static struct h2 *of(struct link *k) {
  return (struct h2 *)k;
}

/* Opened and closed within one turn: nothing of it stays, whatever the engine had sent by then. */
static void test_open_and_close_at_once(void **state) {
  (void)state;
  for (int how = 0; how < 4; how++) {
    struct world w;
    struct stream *s;
    world_make(&w, &h2);
    for (int i = 0; i < 50; i++) {
      assert_int_equal(link_open(w.relay.k, &s), 0);
      if (how & 1)
        stream_write(s, "x", 1);
      stream_close(s, how & 2 ? BEAM_ERR_RESET : 0);
    }
    world_run(&w);
    assert_int_equal(of(w.relay.k)->live + of(w.agent.k)->live, how & 2 ? 0 : of(w.agent.k)->live);
    for (unsigned i = 0; i < w.agent.streams; i++) {
      assert_true(w.agent.accepted[i]->ended || w.agent.accepted[i]->closed);
      tap_free(w.agent.accepted[i], 0);
      w.agent.accepted[i] = NULL;
    }
    world_run(&w);
    assert_int_equal(of(w.relay.k)->live, 0);
    assert_int_equal(of(w.agent.k)->live, 0);
    assert_null(of(w.relay.k)->streams);
    assert_null(of(w.agent.k)->streams);
    world_free(&w);
  }
}

/* After an orderly close the peer is told that nobody reads any more; what it writes then goes nowhere, without an error. */
static void test_closed_reader_swallows(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, &h2);
  world_open(&w, &r, &a);
  tap_free(r, 0);
  world_run(&w);
  assert_int_equal(a->closed, 0);
  assert_true(a->ended);
  for (int i = 0; i < 100; i++)
    assert_true(stream_write(a->s, block, 1000) == 1000);
  stream_finish(a->s);
  world_run(&w);
  assert_int_equal(a->closed, 0);
  assert_int_equal(of(w.relay.k)->live, 0);
  world_free(&w);
  assert_int_equal(atomic_load(&budget_pool.used), 0);
}

/* A writer that waits for room is woken when its reader goes away in order. */
static void test_waiting_writer_is_woken(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, &h2);
  world_open(&w, &r, &a);
  r->auto_read = false;
  while (stream_write(a->s, block, sizeof block) > 0)
    world_run(&w);
  unsigned writable = a->writable;
  stream_finish(r->s);
  world_run(&w);
  tap_free(r, 0);
  world_run(&w);
  assert_true(a->writable > writable || a->closed);
  world_free(&w);
}

/* Closed in order with much to send, to a peer that reads slowly: everything arrives. */
static void test_orphan_drains(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  size_t sent = 0, n;
  world_make(&w, &h2);
  world_open(&w, &r, &a);
  a->auto_read = false;
  while ((n = stream_write(r->s, block, sizeof block)) > 0) {
    sent += n;
    world_run(&w);
  }
  assert_true(sent > LIMIT_STREAM_WINDOW_MIN);
  tap_free(r, 0);
  assert_int_equal(w.relay.k->streams, 0);
  assert_int_equal(of(w.relay.k)->orphans, 1);
  size_t got = 0;
  for (int i = 0; i < 1000 && !stream_at_end(a->s); i++) {
    n = stream_waiting(a->s) < 5000 ? stream_waiting(a->s) : 5000;
    stream_consume(a->s, n);
    got += n;
    world_run(&w);
  }
  assert_int_equal(got, sent);
  assert_int_equal(a->closed, 0);
  assert_int_equal(of(w.relay.k)->orphans, 0);
  world_free(&w);
}

/* The link itself is closed in order while such a stream drains: it still arrives; a link that is aborted takes it along. */
static void test_orphan_outlives_link(void **state) {
  (void)state;
  for (int aborted = 0; aborted < 2; aborted++) {
    struct world w;
    struct tap *r, *a;
    world_make(&w, &h2);
    world_open(&w, &r, &a);
    a->auto_read = false;
    size_t sent = stream_write(r->s, block, sizeof block), got = 0;
    tap_free(r, 0);
    link_close(w.relay.k, aborted ? BEAM_ERR_INTERNAL : 0);
    w.relay.k = NULL;
    for (int i = 0; i < 100 && !a->closed && !stream_at_end(a->s); i++) {
      loop_run_for(w.l, 10);
      got += stream_waiting(a->s);
      stream_consume(a->s, stream_waiting(a->s));
    }
    loop_run_for(w.l, 10);
    if (aborted) {
      assert_int_equal(a->closed, 1);
    } else {
      assert_int_equal(got, sent);
      assert_true(stream_at_end(a->s));
    }
    assert_int_equal(w.agent.closed, 1);
    assert_int_equal(w.agent.reason, aborted ? BEAM_ERR_INTERNAL : BEAM_ERR_CLOSED);
    world_free(&w);
  }
}

/* ... but not for ever. */
static void test_closing_link_ends(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, &h2);
  world_open(&w, &r, &a);
  a->auto_read = false;
  while (stream_write(r->s, block, sizeof block) > 0)
    world_run(&w);
  tap_free(r, 0);
  link_close(w.relay.k, 0);
  w.relay.k = NULL;
  loop_run_for(w.l, H2_CLOSE_MS - 1);
  assert_int_equal(w.agent.closed, 0);
  loop_run_for(w.l, 1);
  assert_int_equal(w.agent.closed, 1);
  world_free(&w);
}

/* --- a lower stream that takes little: a mem pair whose far end is pumped by hand into the other link --- */

struct strait {
  struct loop *l;
  struct side relay, agent;
  struct stream *rs, *as; /* far ends of what relay and agent write to */
};

static void s_stream(void *user, struct stream *s) {
  struct side *side = user;
  side->accepted[side->streams++] = tap_new(s, true);
}
static void s_control(void *user, const beam_Control *m) {
  (void)m;
  ((struct side *)user)->controls++;
}
static void s_closed(void *user, int reason) {
  struct side *side = user;
  side->closed++;
  side->reason = reason;
}
static const struct link_events s_events = {.stream = s_stream, .control = s_control, .closed = s_closed};

static void pump(struct strait *g, size_t relay_to_agent, size_t agent_to_relay) {
  size_t n = stream_waiting(g->rs) < relay_to_agent ? stream_waiting(g->rs) : relay_to_agent;
  struct evbuffer *b = evbuffer_new();
  assert_non_null(b);
  stream_take(g->rs, b, n);
  stream_move(g->as, b, n);
  n = stream_waiting(g->as) < agent_to_relay ? stream_waiting(g->as) : agent_to_relay;
  evbuffer_drain(b, evbuffer_get_length(b));
  stream_take(g->as, b, n);
  stream_move(g->rs, b, n);
  evbuffer_free(b);
  loop_run_for(g->l, 0);
}

static void strait_make(struct strait *g) {
  static const uint8_t exporter[32];
  struct stream *r, *a;
  memset(g, 0, sizeof *g);
  assert_int_equal(loop_new_virtual(&g->l), 0);
  assert_int_equal(mem_pair(g->l, &r, &g->rs), 0);
  assert_int_equal(mem_pair(g->l, &a, &g->as), 0);
  assert_int_equal(link_h2_new(r, LINK_RELAY, exporter, &g->relay.k), 0);
  assert_int_equal(link_h2_new(a, LINK_AGENT, exporter, &g->agent.k), 0);
  link_own(g->relay.k, &s_events, &g->relay);
  link_own(g->agent.k, &s_events, &g->agent);
  loop_run_for(g->l, 0);
  for (int i = 0; i < 10; i++)
    pump(g, SIZE_MAX / 2, SIZE_MAX / 2);
  assert_true(g->relay.k->ready && g->agent.k->ready);
}

static void strait_free(struct strait *g) {
  link_close(g->relay.k, BEAM_ERR_RESET);
  link_close(g->agent.k, BEAM_ERR_RESET);
  loop_run_for(g->l, 0);
  for (unsigned i = 0; i < g->agent.streams; i++)
    tap_free(g->agent.accepted[i], 0);
  stream_close(g->rs, 0);
  stream_close(g->as, 0);
  loop_free(g->l);
}

/* On a slow line with a bulk stream under way, a small one waits for what is already below and one frame, and control too. */
static void test_small_stream_passes_bulk(void **state) {
  (void)state;
  struct strait g;
  struct stream *s;
  strait_make(&g);
  assert_int_equal(link_open(g.relay.k, &s), 0);
  struct tap *bulk = tap_new(s, true);
  for (int i = 0; i < 3000; i++) { /* until the window is no limit, and everything is full */
    stream_write(bulk->s, block, sizeof block);
    pump(&g, 1000, SIZE_MAX / 2);
  }
  size_t below = stream_waiting(g.rs);
  assert_true(below <= LIMIT_MEM_PIPE && below > LIMIT_MEM_PIPE / 2);
  assert_true(evbuffer_get_length(of(g.relay.k)->out) <= H2_FRAME_DATA + 1024);
  assert_int_equal(link_open(g.relay.k, &s), 0);
  struct tap *small = tap_new(s, true);
  stream_write(small->s, "hello", 5);
  assert_int_equal(say_ping(g.relay.k, 1), 0);
  size_t passed = 0;
  while (!g.agent.controls || g.agent.streams < 2 || !evbuffer_get_length(g.agent.accepted[1]->got)) {
    stream_write(bulk->s, block, sizeof block);
    pump(&g, 1000, SIZE_MAX / 2);
    passed += 1000;
    assert_true(passed <= below + 3 * H2_FRAME_DATA);
  }
  tap_free(bulk, BEAM_ERR_RESET);
  tap_free(small, 0);
  strait_free(&g);
}

/* Bulk streams share a slow line evenly. */
static void test_bulk_streams_share(void **state) {
  (void)state;
  enum { MANY = 5 };
  struct strait g;
  struct tap *t[MANY];
  strait_make(&g);
  for (int i = 0; i < MANY; i++) {
    struct stream *s;
    assert_int_equal(link_open(g.relay.k, &s), 0);
    t[i] = tap_new(s, true);
  }
  for (int turn = 0; turn < 4000; turn++) {
    for (int i = 0; i < MANY; i++)
      stream_write(t[i]->s, block, sizeof block);
    pump(&g, 2000, SIZE_MAX / 2);
  }
  assert_int_equal(g.agent.streams, MANY);
  size_t least = SIZE_MAX, most = 0;
  for (int i = 0; i < MANY; i++) {
    size_t n = evbuffer_get_length(g.agent.accepted[i]->got);
    least = n < least ? n : least;
    most = n > most ? n : most;
  }
  assert_true(least > 1000000);
  assert_true(most - least <= 128 * 1024);
  for (int i = 0; i < MANY; i++)
    tap_free(t[i], BEAM_ERR_RESET);
  strait_free(&g);
}

/* A peer that takes nothing: control messages are refused at a bound, streams stop at theirs, and nothing grows. */
static void test_peer_that_takes_nothing(void **state) {
  (void)state;
  struct strait g;
  struct stream *s;
  strait_make(&g);
  assert_int_equal(link_open(g.relay.k, &s), 0);
  struct tap *t = tap_new(s, true);
  size_t sent = 0;
  for (int i = 0; i < 1000; i++) {
    sent += stream_write(t->s, block, sizeof block);
    loop_run_for(g.l, 0);
  }
  assert_true(sent <= LIMIT_MEM_PIPE + LIMIT_SOCK_OUT);
  int err = 0;
  unsigned n = 0;
  for (; n < 1000000 && !(err = say_ping(g.relay.k, UINT64_MAX)); n++)
    loop_run_for(g.l, 0);
  assert_int_equal(err, BEAM_ERR_LIMIT);
  assert_true(evbuffer_get_length(of(g.relay.k)->control_out) <= H2_CONTROL_OUT);
  assert_true(evbuffer_get_length(of(g.relay.k)->out) <= LIMIT_MEM_PIPE);
  tap_free(t, BEAM_ERR_RESET);
  strait_free(&g);
}

static void test_lower_stream_dies(void **state) {
  (void)state;
  static const int reasons[] = {BEAM_ERR_RESET, BEAM_ERR_TLS, BEAM_ERR_TIMEOUT};
  for (unsigned i = 0; i < 3; i++) {
    struct world w;
    struct tap *r, *a;
    world_make(&w, &h2);
    world_open(&w, &r, &a);
    stream_tell_closed(of(w.relay.k)->low, reasons[i]);
    world_run(&w);
    assert_int_equal(w.relay.closed, 1);
    assert_int_equal(w.relay.reason, reasons[i]);
    assert_int_equal(r->closed, 1);
    assert_int_equal(r->reason, reasons[i]);
    link_close(w.relay.k, reasons[i]);
    w.relay.k = NULL;
    world_run(&w);
    assert_int_equal(w.agent.closed, 1);
    assert_int_equal(a->closed, 1);
    tap_free(r, 0);
    world_free(&w);
  }
}

static void test_ids_run_out(void **state) {
  (void)state;
  struct world w;
  struct stream *s;
  struct tap *r, *a;
  world_make(&w, &h2);
  world_open(&w, &r, &a);
  assert_int_equal(nghttp2_session_set_next_stream_id(of(w.relay.k)->ng, H2_ID_LAST | 1), 0);
  assert_int_equal(link_open(w.relay.k, &s), 0);
  stream_close(s, 0);
  world_run(&w);
  assert_int_equal(w.relay.draining, 1);
  assert_int_equal(link_open(w.relay.k, &s), BEAM_ERR_DRAINING);
  assert_int_equal(stream_write(r->s, "on", 2), 2);
  world_run(&w);
  assert_int_equal(evbuffer_get_length(a->got), 2);
  assert_int_equal(w.relay.closed + w.agent.closed, 0);
  tap_free(r, 0);
  world_free(&w);
}

/* The owner closes the link from inside each of its callbacks. */
static struct link *both[2];
static void close_now(void *user) {
  (void)user;
  link_close(both[1], BEAM_ERR_INTERNAL);
  both[1] = NULL;
}
static void close_on_stream(void *user, struct stream *s) {
  close_now(user);
  stream_close(s, 0);
}
static void close_on_control(void *user, const beam_Control *m) {
  (void)m;
  close_now(user);
}
static void close_on_closed(void *user, int reason) {
  (void)reason;
  close_now(user);
}

static void test_link_close_inside_callbacks(void **state) {
  (void)state;
  static const struct link_events events[] = {{.ready = close_now},
                                              {.stream = close_on_stream},
                                              {.control = close_on_control},
                                              {.closed = close_on_closed},
                                              {.draining = close_now}};
  for (unsigned i = 0; i < 5; i++) {
    struct loop *l;
    assert_int_equal(loop_new_virtual(&l), 0);
    assert_int_equal(pair_h2(l, &both[0], &both[1]), 0);
    link_own(both[1], &events[i], NULL);
    loop_run_for(l, 0);
    struct stream *s[3] = {0};
    if (i) {
      for (int j = 0; j < 3; j++)
        assert_int_equal(link_open(both[0], &s[j]), 0);
      say_ping(both[0], 1);
      say_ping(both[0], 2);
      link_drain(both[0]);
      loop_run_for(l, 0);
      for (int j = 0; j < 3; j++)
        stream_close(s[j], 0);
    }
    if (i == 3)
      link_close(both[0], 0);
    loop_run_for(l, H2_CLOSE_MS);
    assert_null(both[1]);
    if (i != 3)
      link_close(both[0], 0);
    loop_run_for(l, H2_CLOSE_MS);
    loop_free(l);
  }
}

/* Anything in any order, by seed: no crash, no leak, every byte accounted for, the pool empty at the end. */
static void test_random_life(void **state) {
  (void)state;
  enum { MANY = 40, STEPS = 4000 };
  for (uint32_t seed = 1; seed <= 30; seed++) {
    struct world w;
    struct tap *r[MANY] = {0};
    uint32_t x = seed * 2654435761u;
    world_make(&w, &h2);
    for (int step = 0; step < STEPS; step++) {
      x = x * 1664525 + 1013904223;
      unsigned what = (x >> 16) % 12, i = (x >> 8) % MANY, size = x % 90000;
      struct tap *t = r[i];
      struct tap *far = w.agent.streams ? w.agent.accepted[(x >> 9) % w.agent.streams] : NULL;
      if (!t && w.agent.streams < 2000) {
        struct stream *s;
        if (!link_open(w.relay.k, &s))
          r[i] = tap_new(s, x & 1);
      } else if (t && what < 3) {
        stream_write(t->s, block, size);
      } else if (far && what < 6) {
        stream_write(far->s, block, size);
      } else if (t && what == 6) {
        stream_consume(t->s, stream_waiting(t->s) / 2);
      } else if (far && what == 7) {
        far->auto_read = x & 2;
        stream_consume(far->s, stream_waiting(far->s));
      } else if (t && what == 8) {
        stream_finish(t->s);
      } else if (far && what == 9) {
        stream_finish(far->s);
      } else if (t && what == 10) {
        tap_free(t, x & 0x1000000 ? BEAM_ERR_RESET : 0);
        r[i] = NULL;
      } else {
        loop_run_for(w.l, x >> 30);
      }
      if (t && r[i])
        evbuffer_drain(t->got, evbuffer_get_length(t->got));
      if (far)
        evbuffer_drain(far->got, evbuffer_get_length(far->got));
    }
    world_run(&w);
    assert_int_equal(w.relay.closed + w.agent.closed, 0);
    for (int i = 0; i < MANY; i++)
      tap_free(r[i], BEAM_ERR_RESET);
    world_run(&w);
    assert_int_equal(of(w.relay.k)->live, of(w.relay.k)->orphans);
    world_free(&w);
    assert_int_equal(atomic_load(&budget_pool.used), 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open_and_close_at_once),
      cmocka_unit_test(test_closed_reader_swallows),
      cmocka_unit_test(test_waiting_writer_is_woken),
      cmocka_unit_test(test_orphan_drains),
      cmocka_unit_test(test_orphan_outlives_link),
      cmocka_unit_test(test_closing_link_ends),
      cmocka_unit_test(test_small_stream_passes_bulk),
      cmocka_unit_test(test_bulk_streams_share),
      cmocka_unit_test(test_peer_that_takes_nothing),
      cmocka_unit_test(test_lower_stream_dies),
      cmocka_unit_test(test_ids_run_out),
      cmocka_unit_test(test_link_close_inside_callbacks),
      cmocka_unit_test(test_random_life),
  };
  return cmocka_run_group_tests_name("h2 streams", tests, NULL, NULL);
}
