#include "contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "io/mem.h"

static const struct pair_kind *kind;

int pair_h2(struct loop *l, struct link **relay, struct link **agent) {
  static const uint8_t exporter[32];
  struct stream *a, *b;
  int err = mem_pair(l, &a, &b);
  if (err)
    return err;
  if ((err = link_h2_new(a, LINK_RELAY, exporter, relay))) {
    stream_close(b, err);
    return err;
  }
  return link_h2_new(b, LINK_AGENT, exporter, agent);
}

/* --- taps --- */

static void tap_read(struct tap *t) {
  if (t->echo) {
    size_t room = stream_room(t->s);
    if (room)
      stream_move(t->s, t->got, room);
  }
  stream_take(t->s, t->got, SIZE_MAX / 2);
  if (t->echo) {
    stream_move(t->s, t->got, SIZE_MAX / 2);
    if (stream_at_end(t->s) && !evbuffer_get_length(t->got))
      stream_finish(t->s);
  }
  if (stream_at_end(t->s))
    t->ended = true;
}

static void on_readable(void *user) {
  struct tap *t = user;
  t->readable++;
  if (t->auto_read)
    tap_read(t);
}

static void on_writable(void *user) {
  struct tap *t = user;
  t->writable++;
  if (t->echo)
    tap_read(t);
}

static void on_closed(void *user, int reason) {
  struct tap *t = user;
  t->closed++;
  t->reason = reason;
  assert_true(reason < BEAM_AGAIN);
}

static const struct stream_events tap_events = {on_readable, on_writable, on_closed};

struct tap *tap_new(struct stream *s, bool auto_read) {
  struct tap *t = calloc(1, sizeof *t);
  assert_non_null(t);
  t->s = s;
  t->auto_read = auto_read;
  t->got = evbuffer_new();
  assert_non_null(t->got);
  stream_own(s, &tap_events, t);
  return t;
}

void tap_free(struct tap *t, int reason) {
  if (!t)
    return;
  stream_close(t->s, reason);
  evbuffer_free(t->got);
  free(t);
}

/* --- sides --- */

static void on_ready(void *user) {
  ((struct side *)user)->ready++;
}

static void on_stream(void *user, struct stream *s) {
  struct side *side = user;
  if (side->refuse) {
    stream_close(s, side->refuse);
    side->streams++;
    return;
  }
  assert_true(side->streams < 2048);
  side->accepted[side->streams++] = tap_new(s, true);
}

static void on_control(void *user, const beam_Control *m) {
  struct side *side = user;
  assert_int_equal(m->which_kind, beam_Control_ping_tag);
  if (side->controls < 64)
    side->nonces[side->controls] = m->kind.ping.nonce;
  side->controls++;
}

static void on_link_closed(void *user, int reason) {
  struct side *side = user;
  side->closed++;
  side->reason = reason;
}

static void on_draining(void *user) {
  ((struct side *)user)->draining++;
}

static const struct link_events side_events = {on_ready, on_stream, on_control, on_link_closed, on_draining};

void world_run(struct world *w) {
  loop_run_for(w->l, w->kind->settle_ms);
}

void world_make(struct world *w, const struct pair_kind *with) {
  memset(w, 0, sizeof *w);
  w->kind = with;
  assert_int_equal(loop_new_virtual(&w->l), 0);
  assert_int_equal(with->make(w->l, &w->relay.k, &w->agent.k), 0);
  link_own(w->relay.k, &side_events, &w->relay);
  link_own(w->agent.k, &side_events, &w->agent);
  assert_int_equal(w->relay.ready, 0); /* never from inside the call */
  w->relay.ready = w->relay.k->ready;  /* local links are: the pair is made in two steps */
  w->agent.ready = w->agent.k->ready;
  world_run(w);
  assert_int_equal(w->relay.ready, 1);
  assert_int_equal(w->agent.ready, 1);
}

void world_free(struct world *w) {
  link_close(w->relay.k, 0);
  link_close(w->agent.k, 0);
  world_run(w);
  for (unsigned i = 0; i < 2048; i++) {
    tap_free(w->relay.accepted[i], 0);
    tap_free(w->agent.accepted[i], 0);
  }
  world_run(w);
  if (w->kind->unmake)
    w->kind->unmake();
  loop_free(w->l);
}

void world_open(struct world *w, struct tap **relay, struct tap **agent) {
  struct stream *s = NULL;
  unsigned n = w->agent.streams;
  assert_int_equal(link_open(w->relay.k, &s), 0);
  *relay = tap_new(s, true);
  world_run(w);
  assert_int_equal(w->agent.streams, n + 1);
  *agent = w->agent.accepted[n];
}

int say_ping(struct link *k, uint64_t nonce) {
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_ping_tag;
  m.kind.ping.nonce = nonce;
  return link_send(k, &m);
}

static void assert_got(struct tap *t, const char *text) {
  size_t n = evbuffer_get_length(t->got);
  assert_int_equal(n, strlen(text));
  assert_memory_equal(evbuffer_pullup(t->got, -1), text, n);
}

/* --- the contract --- */

static void test_control_keeps_its_order(void **state) {
  (void)state;
  struct world w;
  world_make(&w, kind);
  for (unsigned i = 0; i < 20; i++) {
    assert_int_equal(say_ping(w.relay.k, i), 0);
    assert_int_equal(say_ping(w.agent.k, 100 + i), 0);
  }
  assert_int_equal(w.agent.controls, 0);
  world_run(&w);
  assert_int_equal(w.agent.controls, 20);
  assert_int_equal(w.relay.controls, 20);
  for (unsigned i = 0; i < 20; i++) {
    assert_int_equal(w.agent.nonces[i], i);
    assert_int_equal(w.relay.nonces[i], 100 + i);
  }
  world_free(&w);
}

static void test_not_ready_yet(void **state) {
  (void)state;
  struct loop *l;
  struct link *a, *b;
  struct stream *s;
  assert_int_equal(loop_new_virtual(&l), 0);
  assert_int_equal(kind->make(l, &a, &b), 0);
  if (!a->ready) {
    assert_int_equal(link_open(a, &s), BEAM_AGAIN);
    assert_int_equal(say_ping(a, 1), BEAM_AGAIN);
  }
  link_close(a, 0); /* closed before anything happened */
  loop_run_for(l, kind->settle_ms);
  link_close(b, BEAM_ERR_TIMEOUT);
  loop_run_for(l, kind->settle_ms);
  if (kind->unmake)
    kind->unmake();
  loop_free(l);
}

static void test_bytes_and_half_close(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, kind);
  world_open(&w, &r, &a);
  assert_int_equal(w.relay.k->streams, 1);
  assert_int_equal(w.agent.k->streams, 1);
  assert_int_equal(stream_write(r->s, "ask", 3), 3);
  stream_finish(r->s);
  assert_int_equal(stream_write(r->s, "late", 4), 0);
  world_run(&w);
  assert_got(a, "ask");
  assert_true(a->ended);
  assert_int_equal(a->closed, 0);
  /* the reply comes after the half-close, in two turns */
  assert_int_equal(stream_write(a->s, "answer", 6), 6);
  world_run(&w);
  assert_got(r, "answer");
  assert_false(r->ended);
  assert_int_equal(stream_write(a->s, "!", 1), 1);
  stream_finish(a->s);
  world_run(&w);
  assert_got(r, "answer!");
  assert_true(r->ended);
  assert_int_equal(r->closed + a->closed, 0);
  tap_free(r, 0);
  world_run(&w);
  assert_int_equal(w.relay.k->streams, 0);
  world_free(&w);
}

/* An end without bytes; an end that the far side sees only after the owner is gone. */
static void test_empty_half_close(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, kind);
  world_open(&w, &r, &a);
  stream_finish(a->s);
  stream_finish(a->s);
  world_run(&w);
  assert_true(r->ended);
  assert_int_equal(stream_write(r->s, "still", 5), 5);
  tap_free(r, 0); /* in order: what was written still leaves */
  world_run(&w);
  assert_got(a, "still");
  assert_true(a->ended);
  assert_int_equal(a->closed, 0);
  world_free(&w);
}

static void test_reset(void **state) {
  (void)state;
  static const int reasons[] = {BEAM_ERR_RESET, BEAM_ERR_REFUSED,  BEAM_ERR_TIMEOUT,   BEAM_ERR_LOCAL,
                                BEAM_ERR_LIMIT, BEAM_ERR_PROTOCOL, BEAM_ERR_TRUNCATED, BEAM_ERR_DRAINING};
  struct world w;
  world_make(&w, kind);
  for (unsigned i = 0; i < 2 * sizeof reasons / sizeof *reasons; i++) {
    struct tap *r, *a;
    int reason = reasons[i / 2];
    world_open(&w, &r, &a);
    stream_write(r->s, "x", 1);
    stream_write(a->s, "y", 1);
    world_run(&w);
    if (i & 1) {
      tap_free(r, reason);
      world_run(&w);
      assert_int_equal(a->closed, 1);
      assert_int_equal(a->reason, reason);
      assert_int_equal(stream_write(a->s, "z", 1), 0);
    } else {
      w.agent.accepted[w.agent.streams - 1] = NULL;
      tap_free(a, reason);
      world_run(&w);
      assert_int_equal(r->closed, 1);
      assert_int_equal(r->reason, reason);
      tap_free(r, 0);
    }
  }
  assert_int_equal(w.relay.k->streams, 0);
  world_free(&w);
}

static void test_refused_stream(void **state) {
  (void)state;
  struct world w;
  struct stream *s;
  world_make(&w, kind);
  w.agent.refuse = BEAM_ERR_REFUSED;
  assert_int_equal(link_open(w.relay.k, &s), 0);
  struct tap *r = tap_new(s, true);
  assert_int_equal(stream_write(s, "hello", 5), 5); /* at once */
  world_run(&w);
  assert_int_equal(r->closed, 1);
  assert_int_equal(r->reason, BEAM_ERR_REFUSED);
  tap_free(r, 0);
  assert_int_equal(w.agent.k->streams, 0);
  assert_int_equal(w.relay.k->streams, 0);
  world_free(&w);
}

/* A reader that stops stalls its own stream, within bounds, and no other. */
static void test_stalled_reader_stalls_alone(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a, *r2, *a2;
  static char block[64 * 1024];
  world_make(&w, kind);
  world_open(&w, &r, &a);
  world_open(&w, &r2, &a2);
  a->auto_read = false;
  size_t sent = 0;
  for (int i = 0; i < 400; i++) {
    sent += stream_write(r->s, block, sizeof block);
    world_run(&w);
  }
  assert_true(sent >= LIMIT_STREAM_WINDOW_MIN);
  assert_true(sent <= 2 * LIMIT_SOCK_OUT + LIMIT_STREAM_WINDOW_MIN);
  assert_int_equal(stream_room(r->s), 0);
  unsigned writable = r->writable;
  size_t other = 0;
  for (int i = 0; i < 400; i++) {
    size_t n = stream_write(r2->s, block, sizeof block);
    assert_true(n > 0);
    other += n;
    world_run(&w);
  }
  assert_int_equal(evbuffer_get_length(a2->got), other);
  assert_int_equal(r->writable, writable);
  /* it reads again: everything arrives */
  a->auto_read = true;
  for (int i = 0; i < 400 && sent < 8 * 1024 * 1024; i++) {
    tap_read(a);
    world_run(&w);
    sent += stream_write(r->s, block, sizeof block);
    world_run(&w);
  }
  assert_true(r->writable > writable);
  tap_read(a);
  world_run(&w);
  assert_int_equal(evbuffer_get_length(a->got), sent);
  tap_free(r, 0);
  tap_free(r2, 0);
  world_free(&w);
}

/* Both directions at once, odd sizes, compared byte for byte. */
static void test_echo_keeps_bytes(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  enum { TOTAL = 6 * 1024 * 1024 };
  world_make(&w, kind);
  world_open(&w, &r, &a);
  a->echo = true;
  uint8_t *all = malloc(TOTAL);
  assert_non_null(all);
  uint32_t x = 1;
  for (size_t i = 0; i < TOTAL; i++)
    all[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
  size_t at = 0;
  for (unsigned turn = 0; at < TOTAL && turn < 100000; turn++) {
    size_t n = 1 + (x = x * 1664525 + 1013904223) % 50000;
    if (n > TOTAL - at)
      n = TOTAL - at;
    at += stream_write(r->s, all + at, n);
    if (turn % 3 == 0)
      world_run(&w);
  }
  assert_int_equal(at, TOTAL);
  stream_finish(r->s);
  world_run(&w);
  assert_true(r->ended);
  assert_int_equal(evbuffer_get_length(r->got), TOTAL);
  assert_memory_equal(evbuffer_pullup(r->got, -1), all, TOTAL);
  free(all);
  tap_free(r, 0);
  world_free(&w);
}

static void test_thousand_streams(void **state) {
  (void)state;
  enum { MANY = 1000 };
  struct world w;
  static struct tap *r[MANY];
  world_make(&w, kind);
  for (unsigned i = 0; i < MANY; i++) {
    struct stream *s;
    assert_int_equal(link_open(w.relay.k, &s), 0);
    r[i] = tap_new(s, true);
    uint32_t id = i;
    assert_int_equal(stream_write(s, &id, sizeof id), sizeof id);
  }
  world_run(&w);
  assert_int_equal(w.agent.streams, MANY);
  assert_int_equal(w.agent.k->streams, MANY);
  for (unsigned i = 0; i < MANY; i++) { /* each answers what it was asked */
    struct tap *a = w.agent.accepted[i];
    assert_int_equal(evbuffer_get_length(a->got), 4);
    assert_int_equal(stream_move(a->s, a->got, 4), 4);
    stream_finish(a->s);
  }
  world_run(&w);
  for (unsigned i = 0; i < MANY; i++) {
    uint32_t id;
    assert_true(r[i]->ended);
    assert_int_equal(evbuffer_remove(r[i]->got, &id, sizeof id), sizeof id);
    assert_int_equal(id, i);
    tap_free(r[i], 0);
  }
  world_run(&w);
  for (unsigned i = 0; i < MANY; i++)
    assert_true(w.agent.accepted[i]->ended);
  assert_int_equal(w.relay.k->streams, 0);
  world_free(&w);
}

static void test_stream_limit(void **state) {
  (void)state;
  struct world w;
  static struct stream *s[LIMIT_LINK_STREAMS + 1];
  world_make(&w, kind);
  w.agent.refuse = 0;
  unsigned n = 0;
  int err = 0;
  /* half of them at most fit into the accepted table: refuse the far ends, keep ours open until then */
  while (n <= LIMIT_LINK_STREAMS && !(err = link_open(w.relay.k, &s[n])))
    n++;
  assert_int_equal(n, LIMIT_LINK_STREAMS);
  assert_int_equal(err, BEAM_ERR_LIMIT);
  w.agent.refuse = BEAM_ERR_REFUSED;
  world_run(&w);
  for (unsigned i = 0; i < n; i++)
    stream_close(s[i], 0);
  world_run(&w);
  assert_int_equal(link_open(w.relay.k, &s[0]), 0); /* and there is room again */
  stream_close(s[0], BEAM_ERR_RESET);
  world_free(&w);
}

static void test_link_close_with_open_streams(void **state) {
  (void)state;
  static const int reasons[] = {0, BEAM_ERR_RESET, BEAM_ERR_TIMEOUT, BEAM_ERR_LIMIT};
  for (unsigned i = 0; i < 2 * sizeof reasons / sizeof *reasons; i++) {
    struct world w;
    struct tap *r[3], *a[3];
    world_make(&w, kind);
    for (int j = 0; j < 3; j++)
      world_open(&w, &r[j], &a[j]);
    stream_finish(r[1]->s);
    world_run(&w);
    struct side *closer = i & 1 ? &w.relay : &w.agent, *other = i & 1 ? &w.agent : &w.relay;
    link_close(closer->k, reasons[i / 2]);
    closer->k = NULL;
    assert_int_equal(r[0]->closed + a[0]->closed, 0); /* never from inside the call */
    world_run(&w);
    assert_int_equal(closer->closed, 0);
    assert_int_equal(other->closed, 1);
    assert_true(other->reason < BEAM_AGAIN);
    for (int j = 0; j < 3; j++) {
      assert_int_equal(r[j]->closed, 1);
      assert_int_equal(a[j]->closed, 1);
    }
    struct stream *s;
    assert_int_equal(link_open(other->k, &s), BEAM_ERR_CLOSED);
    assert_int_equal(say_ping(other->k, 1), BEAM_ERR_CLOSED);
    link_close(other->k, 0);
    other->k = NULL;
    for (int j = 0; j < 3; j++) /* streams outlive their link until their owner lets go */
      tap_free(r[j], j ? 0 : BEAM_ERR_RESET);
    world_free(&w);
  }
}

/* A stream that was closed in order before its link was: whole, not aborted, even when all of it comes at once. */
static void test_closed_stream_before_closed_link(void **state) {
  (void)state;
  struct world w;
  struct stream *s;
  world_make(&w, kind);
  assert_int_equal(link_open(w.relay.k, &s), 0);
  assert_int_equal(stream_write(s, "all of it", 9), 9);
  stream_close(s, 0);
  link_close(w.relay.k, 0);
  w.relay.k = NULL;
  world_run(&w);
  assert_int_equal(w.agent.streams, 1);
  assert_got(w.agent.accepted[0], "all of it");
  assert_true(w.agent.accepted[0]->ended);
  assert_int_equal(w.agent.accepted[0]->closed, 0);
  assert_int_equal(w.agent.closed, 1);
  assert_int_equal(w.agent.reason, BEAM_ERR_CLOSED);
  world_free(&w);
}

/* Whoever still answers when the link has ended in order, with the whole question taken, is told: it may be an answer without end. */
static void test_answer_to_a_closed_link(void **state) {
  (void)state;
  for (int by_agent = 0; by_agent < 2; by_agent++) {
    struct world w;
    struct tap *r, *a;
    world_make(&w, kind);
    world_open(&w, &r, &a);
    stream_write(r->s, "what?", 5);
    stream_finish(r->s);
    world_run(&w);
    assert_got(a, "what?");
    assert_true(a->ended);
    struct side *closer = by_agent ? &w.agent : &w.relay;
    link_close(closer->k, BEAM_ERR_CLOSED);
    closer->k = NULL;
    world_run(&w);
    for (int i = 0; i < 3 && !a->closed; i++) {
      stream_write(a->s, "for ever", 8);
      world_run(&w);
    }
    assert_int_equal(a->closed, 1);
    tap_free(r, BEAM_ERR_RESET);
    world_free(&w);
  }
}

static void test_last_words_arrive(void **state) {
  (void)state;
  struct world w;
  world_make(&w, kind);
  assert_int_equal(say_ping(w.relay.k, 7), 0);
  link_close(w.relay.k, BEAM_ERR_DENIED);
  w.relay.k = NULL;
  world_run(&w);
  assert_int_equal(w.agent.controls, 1);
  assert_int_equal(w.agent.nonces[0], 7);
  assert_int_equal(w.agent.closed, 1);
  world_free(&w);
}

static void test_drain(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  struct stream *s;
  for (int by_agent = 0; by_agent < 2; by_agent++) {
    world_make(&w, kind);
    world_open(&w, &r, &a);
    link_drain(by_agent ? w.agent.k : w.relay.k);
    link_drain(by_agent ? w.agent.k : w.relay.k);
    world_run(&w);
    assert_int_equal(by_agent ? w.relay.draining : w.agent.draining, 1);
    assert_int_equal(link_open(w.relay.k, &s), BEAM_ERR_DRAINING);
    assert_int_equal(stream_write(r->s, "on", 2), 2); /* what is open goes on */
    assert_int_equal(say_ping(w.relay.k, 1), 0);
    world_run(&w);
    assert_got(a, "on");
    assert_int_equal(w.agent.controls, 1);
    assert_int_equal(stream_write(a->s, "and on", 6), 6);
    stream_finish(a->s);
    world_run(&w);
    assert_got(r, "and on");
    assert_int_equal(w.relay.closed + w.agent.closed, 0);
    tap_free(r, 0);
    world_free(&w);
  }
}

/* A stream that changes hands while bytes wait: the new owner is told of them. */
static void test_giving_a_stream_away(void **state) {
  (void)state;
  struct world w;
  struct tap *r, *a;
  world_make(&w, kind);
  world_open(&w, &r, &a);
  r->auto_read = false;
  stream_write(a->s, "early", 5);
  stream_finish(a->s);
  world_run(&w);
  struct tap *second = tap_new(r->s, true);
  world_run(&w);
  assert_got(second, "early");
  assert_true(second->ended);
  evbuffer_free(r->got);
  free(r);
  tap_free(second, 0);
  world_free(&w);
}

int link_contract_run(const struct pair_kind *with) {
  kind = with;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_control_keeps_its_order),
      cmocka_unit_test(test_not_ready_yet),
      cmocka_unit_test(test_bytes_and_half_close),
      cmocka_unit_test(test_empty_half_close),
      cmocka_unit_test(test_reset),
      cmocka_unit_test(test_refused_stream),
      cmocka_unit_test(test_stalled_reader_stalls_alone),
      cmocka_unit_test(test_echo_keeps_bytes),
      cmocka_unit_test(test_thousand_streams),
      cmocka_unit_test(test_stream_limit),
      cmocka_unit_test(test_link_close_with_open_streams),
      cmocka_unit_test(test_closed_stream_before_closed_link),
      cmocka_unit_test(test_answer_to_a_closed_link),
      cmocka_unit_test(test_last_words_arrive),
      cmocka_unit_test(test_drain),
      cmocka_unit_test(test_giving_a_stream_away),
  };
  return cmocka_run_group_tests_name(with->name, tests, NULL, NULL);
}
