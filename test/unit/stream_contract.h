/* stream_contract.h: what every kind of stream must keep, whatever carries it (lib/io/stream.h). A test program describes its kind and calls
 * contract_run(); include it once, after cmocka.h.
 *
 *   static int make(struct loop *l, struct stream **a, struct stream **b, void **extra) { ... }
 *   static const struct contract_kind tls = {.name = "tls over mem", .virtual_clock = true, .make = make, .unmake = unmake};
 *   int main(void) { return contract_run(&tls); }
 */
#ifndef STREAM_CONTRACT_H
#define STREAM_CONTRACT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/stream.h"

struct contract_kind {
  const char *name;
  bool virtual_clock; /* the loop to make */
  bool weak_abort;    /* the far side of an abort may see an end instead of a reset (unix sockets) */
  size_t
      holds; /* bytes that fit between the two when nobody reads; 0: 64 MiB, for kernels with large buffers */
  /* Two connected ends, not owned. May run the loop. `extra` is yours. */
  int (*make)(struct loop *l, struct stream **a, struct stream **b, void **extra);
  void (*unmake)(void *extra); /* after both ends were closed and the loop has settled; may be NULL */
};

/* --- an owner that watches the rules --- */

struct contract_end {
  struct stream *s; /* NULL once we closed it */
  struct evbuffer *got;
  bool take;       /* consume what comes */
  bool close_next; /* close inside the next callback, whichever it is */
  int readable, writable, closed, reason;
};

struct contract {
  const struct contract_kind *kind;
  struct loop *l;
  struct contract_end a, b;
  void *extra;
};

static bool contract_calling; /* an owner's call is under way: no callback may come */

/* Every call of an owner goes through here. */
#define CALL(expr)                                                                                           \
  (contract_calling = true, contract_result = (size_t)(expr), contract_calling = false, contract_result)
#define DO(stmt)                                                                                             \
  do {                                                                                                       \
    contract_calling = true;                                                                                 \
    stmt;                                                                                                    \
    contract_calling = false;                                                                                \
  } while (0)
static size_t contract_result;

static void contract_close(struct contract_end *e, int reason) {
  struct stream *s = e->s;
  e->s = NULL;
  DO(stream_close(s, reason));
}

static bool contract_callback(struct contract_end *e) {
  assert_false(contract_calling); /* callbacks come from the loop, never from inside a call */
  assert_non_null(e->s);          /* and none after stream_close */
  if (e->close_next)
    contract_close(e, BEAM_ERR_CLOSED);
  return e->s;
}

static void contract_readable(void *user) {
  struct contract_end *e = user;
  e->readable++;
  assert_int_equal(e->closed, 0);
  if (contract_callback(e) && e->take)
    while (stream_waiting(e->s))
      assert_true(CALL(stream_take(e->s, e->got, stream_waiting(e->s))) > 0);
}

static void contract_writable(void *user) {
  struct contract_end *e = user;
  e->writable++;
  assert_int_equal(e->closed, 0);
  contract_callback(e);
}

static void contract_closed(void *user, int reason) {
  struct contract_end *e = user;
  e->closed++;
  e->reason = reason;
  assert_int_equal(e->closed, 1); /* once */
  assert_true(reason < 0);
  if (contract_callback(e))
    assert_true(stream_dead(e->s));
}

static const struct stream_events contract_events = {contract_readable, contract_writable, contract_closed};

/* --- set-up, and waiting for conditions --- */

static void contract_turn(struct contract *c) {
  if (c->kind->virtual_clock)
    loop_run_for(c->l, 1);
  else
    loop_turn(c->l, 1);
}

/* Let what is under way arrive; there may be nothing. */
static void contract_pause(struct contract *c) {
  if (c->kind->virtual_clock)
    loop_run_for(c->l, 20);
  else
    loop_turn(c->l, 1);
}

#define UNTIL(c, condition)                                                                                  \
  do {                                                                                                       \
    for (int turns_ = 0; !(condition); turns_++) {                                                           \
      if (turns_ > 10000)                                                                                    \
        fail_msg("%s: waited in vain for %s", (c)->kind->name, #condition);                                  \
      contract_turn(c);                                                                                      \
    }                                                                                                        \
  } while (0)

/* Until nothing happens any more: long enough for whatever must not come to come. */
static void contract_settle(struct contract *c) {
  for (int i = 0; i < 8; i++)
    contract_pause(c);
}

static void contract_open(struct contract *c, void **state) {
  memset(c, 0, sizeof *c);
  c->kind = *state;
  assert_int_equal(c->kind->virtual_clock ? loop_new_virtual(&c->l) : loop_new(&c->l), 0);
  assert_int_equal(c->kind->make(c->l, &c->a.s, &c->b.s, &c->extra), 0);
  assert_non_null(c->a.got = evbuffer_new());
  assert_non_null(c->b.got = evbuffer_new());
  c->a.take = c->b.take = true;
  stream_own(c->a.s, &contract_events, &c->a);
  stream_own(c->b.s, &contract_events, &c->b);
}

static void contract_end(struct contract *c) {
  if (c->a.s)
    contract_close(&c->a, BEAM_ERR_CLOSED);
  if (c->b.s)
    contract_close(&c->b, BEAM_ERR_CLOSED);
  contract_settle(c);
  if (c->kind->unmake)
    c->kind->unmake(c->extra);
  evbuffer_free(c->a.got);
  evbuffer_free(c->b.got);
  loop_free(c->l);
}

/* --- bytes that know their place --- */

static unsigned char contract_byte(size_t at, int salt) {
  size_t x = (at + 1) * 2654435761u + (size_t)salt * 40503u;
  return (unsigned char)(x >> 16 ^ x >> 7);
}

/* Write up to n bytes of the sequence from *at on; by copying and by moving in turns. */
static size_t contract_put(struct contract_end *e, size_t *at, size_t n, int salt) {
  static unsigned char block[96 * 1024];
  n = n < sizeof block ? n : sizeof block;
  for (size_t i = 0; i < n; i++)
    block[i] = contract_byte(*at + i, salt);
  size_t took;
  if ((*at ^ n) & 1) {
    struct evbuffer *b = evbuffer_new();
    assert_int_equal(evbuffer_add(b, block, n), 0);
    took = CALL(stream_move(e->s, b, n));
    assert_int_equal(evbuffer_get_length(b), n - took);
    evbuffer_free(b);
  } else {
    took = CALL(stream_write(e->s, block, n));
  }
  assert_true(took <= n);
  *at += took;
  return took;
}

/* What is in e->got continues the sequence at *at; it is dropped. */
static void contract_check(struct contract_end *e, size_t *at, int salt) {
  unsigned char block[4096];
  int n;
  while ((n = evbuffer_remove(e->got, block, sizeof block)) > 0)
    for (int i = 0; i < n; i++, ++*at)
      if (block[i] != contract_byte(*at, salt))
        fail_msg("byte %zu is wrong", *at);
}

/* Write until it takes nothing more, however long the transport goes on taking; the count. */
static size_t contract_fill(struct contract *c, struct contract_end *e, size_t *at, int salt) {
  size_t limit = c->kind->holds ? c->kind->holds : 64u << 20, start = *at;
  for (int idle = 0; idle < 8;) {
    if (contract_put(e, at, 64 * 1024, salt))
      idle = 0;
    else if (++idle < 8)
      contract_pause(c);
    if (*at - start > limit)
      fail_msg("%s: took %zu bytes nobody reads", c->kind->name, *at - start);
  }
  return *at - start;
}

/* --- the contract --- */

static void bytes_keep_their_order_both_ways(void **state) {
  struct contract c;
  contract_open(&c, state);
  size_t sent_a = 0, sent_b = 0, got_a = 0, got_b = 0, total = 2u << 20;
  unsigned seed = 1;
  for (int round = 0; got_a < total || got_b < total; round++) {
    assert_true(round < 100000);
    seed = seed * 1103515245u + 12345u;
    size_t n = (seed >> 8) % 70000, m = (seed >> 4) % 300;
    if (sent_a < total)
      contract_put(&c.a, &sent_a, n < total - sent_a ? n : total - sent_a, 1);
    if (sent_b < total)
      contract_put(&c.b, &sent_b, m * m < total - sent_b ? m * m : total - sent_b, 2);
    contract_turn(&c);
    contract_check(&c.b, &got_b, 1);
    contract_check(&c.a, &got_a, 2);
  }
  assert_int_equal(got_b, total);
  assert_int_equal(got_a, total);
  contract_end(&c);
}

static void a_reader_that_stops_stops_the_writer(void **state) {
  struct contract c;
  contract_open(&c, state);
  size_t sent = 0, got = 0;
  c.b.take = false;
  size_t held = contract_fill(&c, &c.a, &sent, 3);
  assert_true(held > 0);
  assert_int_equal(CALL(stream_room(c.a.s)), 0);
  c.a.writable = 0;
  contract_settle(&c);
  if (c.kind->holds) /* a kernel may find room by itself */
    assert_int_equal(c.a.writable, 0);
  assert_true(stream_waiting(c.b.s) <= held);
  /* the other direction does not care */
  size_t sent_back = 0, got_back = 0;
  assert_int_equal(contract_put(&c.b, &sent_back, 1000, 4), 1000);
  UNTIL(&c, evbuffer_get_length(c.a.got) == 1000);
  contract_check(&c.a, &got_back, 4);
  /* reading on brings all of it, and word of the room */
  c.b.take = true;
  contract_readable(&c.b);
  UNTIL(&c, got + evbuffer_get_length(c.b.got) == sent);
  contract_check(&c.b, &got, 3);
  UNTIL(&c, c.a.writable > 0);
  assert_true(CALL(stream_room(c.a.s)) > 0);
  assert_true(contract_put(&c.a, &sent, 1000, 3) > 0);
  UNTIL(&c, got + evbuffer_get_length(c.b.got) == sent);
  contract_check(&c.b, &got, 3);
  contract_end(&c);
}

/* One short count, whatever room there was left, and the word of the room comes: a writer need not ask again. */
static void a_short_count_is_enough_to_be_told(void **state) {
  struct contract c;
  contract_open(&c, state);
  size_t sent = 0, got = 0, total = 4u << 20;
  while (sent < total) {
    static unsigned char block[700 * 1024];
    size_t n = sizeof block < total - sent ? sizeof block : total - sent;
    for (size_t i = 0; i < n; i++)
      block[i] = contract_byte(sent + i, 19);
    c.a.writable = 0;
    size_t took = CALL(stream_write(c.a.s, block, n));
    sent += took;
    if (took < n)
      UNTIL(&c, c.a.writable);
    contract_check(&c.b, &got, 19);
  }
  UNTIL(&c, (contract_check(&c.b, &got, 19), got == total));
  contract_end(&c);
}

/* Taking a little at a time: what is taken equals what was sent, and the writer goes on all the while. */
static void a_slow_reader_gets_everything(void **state) {
  struct contract c;
  contract_open(&c, state);
  size_t sent = 0, got = 0, total = 1u << 20;
  c.b.take = false;
  for (int round = 0; got < total; round++) {
    assert_true(round < 200000);
    if (sent < total)
      contract_put(&c.a, &sent, total - sent, 5);
    contract_turn(&c);
    if (stream_waiting(c.b.s)) {
      size_t some = stream_waiting(c.b.s) < 5000 ? stream_waiting(c.b.s) : 5000;
      assert_int_equal(CALL(stream_take(c.b.s, c.b.got, some)), some);
    }
    contract_check(&c.b, &got, 5);
  }
  contract_end(&c);
}

static void a_reply_comes_after_the_half_close(void **state) {
  for (int swap = 0; swap < 2; swap++) {
    struct contract c;
    contract_open(&c, state);
    struct contract_end *first = swap ? &c.b : &c.a, *second = swap ? &c.a : &c.b;
    size_t sent = 0, got = 0, reply = 0, got_reply = 0;
    contract_put(first, &sent, 3000, 6);
    DO(stream_finish(first->s));
    DO(stream_finish(first->s)); /* idempotent */
    assert_int_equal(CALL(stream_room(first->s)), 0);
    assert_int_equal(CALL(stream_write(first->s, "late", 4)), 0);
    UNTIL(&c, stream_at_end(second->s));
    contract_check(second, &got, 6);
    assert_int_equal(got, 3000);
    while (reply < 500000) {
      contract_put(second, &reply, 500000 - reply, 7);
      contract_turn(&c);
    }
    UNTIL(&c, evbuffer_get_length(first->got) == reply);
    contract_check(first, &got_reply, 7);
    assert_false(stream_at_end(first->s));
    DO(stream_finish(second->s));
    UNTIL(&c, stream_at_end(first->s));
    contract_settle(&c);
    assert_int_equal(c.a.closed + c.b.closed, 0); /* two ends make no abort */
    contract_close(&c.a, 0);
    contract_close(&c.b, 0);
    contract_end(&c);
  }
}

/* The end is after the bytes, also when they fill everything on the way. */
static void an_end_waits_for_the_bytes_before_it(void **state) {
  struct contract c;
  contract_open(&c, state);
  size_t sent = 0, got = 0;
  c.b.take = false;
  contract_fill(&c, &c.a, &sent, 8);
  DO(stream_finish(c.a.s));
  contract_settle(&c);
  assert_false(stream_at_end(c.b.s));
  c.b.take = true;
  contract_readable(&c.b);
  UNTIL(&c, stream_at_end(c.b.s));
  contract_check(&c.b, &got, 8);
  assert_int_equal(got, sent);
  contract_end(&c);
}

static void closing_in_order_delivers_what_was_written(void **state) {
  struct contract c;
  contract_open(&c, state);
  size_t sent = 0, got = 0;
  c.b.take = false;
  contract_fill(&c, &c.a, &sent, 9);
  contract_close(&c.a, 0);
  contract_settle(&c);
  c.b.take = true;
  contract_readable(&c.b);
  UNTIL(&c, stream_at_end(c.b.s) || c.b.closed);
  assert_int_equal(c.b.closed, 0);
  contract_check(&c.b, &got, 9);
  assert_int_equal(got, sent);
  contract_close(&c.b, 0);
  contract_end(&c);
}

static void an_abort_reaches_the_far_side_once(void **state) {
  struct contract c;
  contract_open(&c, state);
  size_t sent = 0;
  contract_put(&c.a, &sent, 100, 10);
  UNTIL(&c, evbuffer_get_length(c.b.got) == 100);
  contract_close(&c.a, BEAM_ERR_PROTOCOL);
  if (c.kind->weak_abort) {
    UNTIL(&c, c.b.closed || stream_at_end(c.b.s));
  } else {
    UNTIL(&c, c.b.closed);
    assert_false(stream_at_end(c.b.s)); /* an abort is no end */
    assert_int_equal(CALL(stream_room(c.b.s)), 0);
    assert_int_equal(CALL(stream_write(c.b.s, "x", 1)), 0);
  }
  contract_settle(&c);
  contract_end(&c);
}

/* A reset must come through although nobody reads and nothing fits. */
static void an_abort_reaches_a_reader_that_stopped(void **state) {
  struct contract c;
  contract_open(&c, state);
  size_t sent = 0;
  c.b.take = false;
  contract_fill(&c, &c.a, &sent, 11);
  contract_close(&c.a, BEAM_ERR_TIMEOUT);
  if (!c.kind->weak_abort)
    UNTIL(&c, c.b.closed);
  contract_settle(&c);
  contract_end(&c);
}

static void an_abort_reaches_a_writer_that_is_stopped(void **state) {
  struct contract c;
  contract_open(&c, state);
  size_t sent = 0;
  c.b.take = false;
  contract_fill(&c, &c.a, &sent, 12);
  contract_close(&c.b, BEAM_ERR_TIMEOUT);
  UNTIL(&c, c.a.closed);
  contract_end(&c);
}

static void no_callback_comes_after_close(void **state) {
  /* closed while a notification is queued: the far side wrote, finished, made room, or aborted */
  for (int what = 0; what < 4; what++) {
    struct contract c;
    contract_open(&c, state);
    size_t sent = 0;
    contract_put(&c.a, &sent, 500, 13);
    if (what == 1)
      DO(stream_finish(c.a.s));
    if (what == 2) {
      c.a.take = c.b.take = false;
      contract_fill(&c, &c.b, &sent, 14);
      DO(stream_consume(c.a.s, stream_waiting(c.a.s)));
    }
    if (what == 3)
      contract_close(&c.a, BEAM_ERR_RESET);
    contract_close(&c.b, what & 1 ? BEAM_ERR_RESET : 0);
    contract_settle(&c);
    contract_end(&c);
  }
}

static void a_callback_may_close(void **state) {
  for (int what = 0; what < 4; what++) {
    struct contract c;
    contract_open(&c, state);
    size_t sent = 0;
    if (what == 2) { /* in writable */
      c.a.take = false;
      contract_fill(&c, &c.b, &sent, 15);
      c.b.close_next = true;
      c.a.take = true;
      contract_readable(&c.a);
    } else {
      c.b.close_next = true;
      contract_put(&c.a, &sent, 500, 16); /* in readable, with an end or an abort behind it */
      if (what == 1)
        DO(stream_finish(c.a.s));
      if (what == 3)
        contract_close(&c.a, BEAM_ERR_RESET);
    }
    UNTIL(&c, !c.b.s);
    contract_settle(&c);
    contract_end(&c);
  }
}

static void a_new_owner_hears_of_what_waits(void **state) {
  struct contract c;
  contract_open(&c, state);
  size_t sent = 0, got = 0;
  c.b.take = false;
  contract_put(&c.a, &sent, 500, 17);
  DO(stream_finish(c.a.s));
  UNTIL(&c, stream_waiting(c.b.s) == 500 && c.b.s->in_ended);
  contract_settle(&c);
  struct contract_end next = c.b, old = c.b;
  next.take = true;
  next.readable = 0;
  c.b.s = NULL; /* a call of the old owner's would be noticed */
  DO(stream_own(next.s, &contract_events, &next));
  UNTIL(&c, next.readable && stream_at_end(next.s));
  contract_check(&next, &got, 17);
  assert_int_equal(got, 500);
  /* nobody owns it while it dies; who comes after is told */
  struct contract_end last = {.s = next.s, .got = next.got};
  next.s = NULL;
  DO(stream_own(last.s, NULL, NULL));
  if (!c.kind->weak_abort) {
    contract_close(&c.a, BEAM_ERR_RESET);
    UNTIL(&c, stream_dead(last.s));
    DO(stream_own(last.s, &contract_events, &last));
    UNTIL(&c, last.closed == 1);
  }
  contract_close(&last, BEAM_ERR_CLOSED);
  (void)old;
  contract_end(&c);
}

static void writable_comes_only_when_waited_for(void **state) {
  struct contract c;
  contract_open(&c, state);
  size_t sent = 0;
  assert_int_equal(CALL(stream_write(c.a.s, "", 0)), 0); /* nothing to write is no short count */
  contract_put(&c.a, &sent, 1000, 18);
  UNTIL(&c, evbuffer_get_length(c.b.got) == 1000);
  contract_settle(&c);
  assert_int_equal(c.a.writable, 0);
  contract_end(&c);
}

/* Room is a promise: that much is taken at once. None is a short count too. */
static void room_is_taken_whole(void **state) {
  struct contract c;
  contract_open(&c, state);
  c.b.take = false;
  for (size_t room; (room = CALL(stream_room(c.a.s))) > 0;) {
    struct evbuffer *b = evbuffer_new();
    void *bytes = calloc(1, room + 1);
    assert_int_equal(evbuffer_add(b, bytes, room + 1), 0);
    assert_true(CALL(stream_move(c.a.s, b, room)) == room);
    assert_int_equal(evbuffer_get_length(b), 1);
    evbuffer_free(b);
    free(bytes);
    if (room & 1)
      contract_turn(&c);
  }
  c.b.take = true;
  contract_readable(&c.b);
  UNTIL(&c, c.a.writable > 0);
  contract_end(&c);
}

static int contract_run(const struct contract_kind *kind) {
  void *k = (void *)(size_t)kind;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_prestate(bytes_keep_their_order_both_ways, k),
      cmocka_unit_test_prestate(a_reader_that_stops_stops_the_writer, k),
      cmocka_unit_test_prestate(a_short_count_is_enough_to_be_told, k),
      cmocka_unit_test_prestate(a_slow_reader_gets_everything, k),
      cmocka_unit_test_prestate(a_reply_comes_after_the_half_close, k),
      cmocka_unit_test_prestate(an_end_waits_for_the_bytes_before_it, k),
      cmocka_unit_test_prestate(closing_in_order_delivers_what_was_written, k),
      cmocka_unit_test_prestate(an_abort_reaches_the_far_side_once, k),
      cmocka_unit_test_prestate(an_abort_reaches_a_reader_that_stopped, k),
      cmocka_unit_test_prestate(an_abort_reaches_a_writer_that_is_stopped, k),
      cmocka_unit_test_prestate(no_callback_comes_after_close, k),
      cmocka_unit_test_prestate(a_callback_may_close, k),
      cmocka_unit_test_prestate(a_new_owner_hears_of_what_waits, k),
      cmocka_unit_test_prestate(writable_comes_only_when_waited_for, k),
      cmocka_unit_test_prestate(room_is_taken_whole, k),
  };
  return cmocka_run_group_tests_name(kind->name, tests, NULL, NULL);
}

#endif
