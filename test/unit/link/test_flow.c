/* A flow over a stream: every size, every split of the bytes, what is malformed, what there is no room for; and over a real QUIC link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "io/budget.h"
#include "io/mem.h"
#include "link/flow.h"
#include "wire/datagram.h"

struct end {
  struct flow f;
  unsigned got, ended;
  size_t sizes[64];
  uint8_t first[64];
  int reason;
  bool close_next;
};

static struct loop *l;
static struct end a, b;
static struct stream *raw; /* the far end of b, when there is no a */

static void on_datagram(void *user, const uint8_t *p, size_t n) {
  struct end *e = user;
  if (e->got < 64) {
    e->sizes[e->got] = n;
    e->first[e->got] = n ? p[0] : 0;
  }
  for (size_t i = 1; i < n; i++)
    assert_int_equal(p[i], p[0]);
  e->got++;
  if (e->close_next)
    flow_close(&e->f, 0);
}
static void on_closed(void *user, int reason) {
  struct end *e = user;
  e->ended++;
  e->reason = reason;
}
static const struct flow_events events = {on_datagram, on_closed};

static void begin(bool flows_at_both) {
  struct stream *x, *y;
  memset(&a, 0, sizeof a);
  memset(&b, 0, sizeof b);
  raw = NULL;
  assert_int_equal(loop_new_virtual(&l), 0);
  assert_int_equal(mem_pair(l, &x, &y), 0);
  flow_own(&b.f, y, &events, &b);
  if (flows_at_both)
    flow_own(&a.f, x, &events, &a);
  else
    raw = x;
}

static void finish(void) {
  flow_close(&a.f, 0);
  flow_close(&b.f, 0);
  stream_close(raw, 0);
  loop_run_for(l, 0);
  assert_int_equal(atomic_load(&budget_pool.used), 0);
  loop_free(l);
}

static uint8_t bytes[70000];

static void sizes(void **state) {
  (void)state;
  static const size_t table[] = {0, 1, 2, 1200, 2046, 2048, 2049, 16384, 16385, 65507, DATAGRAM_MAX, 3};
  begin(true);
  enum { N = sizeof table / sizeof *table };
  for (int i = 0; i < N; i++) {
    memset(bytes, i + 1, table[i]);
    assert_int_equal(flow_send(&a.f, bytes, table[i]), 0);
    loop_run_for(l, 0);
    assert_int_equal(b.got, i + 1);
    assert_int_equal(b.sizes[i], table[i]);
    assert_int_equal(b.first[i], table[i] ? i + 1 : 0);
  }
  assert_int_equal(flow_send(&a.f, bytes, DATAGRAM_MAX + 1), BEAM_ERR_TOO_LARGE);
  flow_close(&a.f, 0);
  assert_int_equal(flow_send(&a.f, bytes, 1), BEAM_ERR_CLOSED);
  loop_run_for(l, 0);
  assert_int_equal(b.ended, 1);
  assert_int_equal(b.reason, 0);
  finish();
}

/* Two datagrams, a small and a large one, cut in two at every place of the small one and at many of the large one. */
static void splits(void **state) {
  (void)state;
  enum { SMALL = 5, BIG = 20000, ALL = 2 + SMALL + 2 + BIG };
  uint8_t *all = malloc(ALL);
  datagram_encode(all, SMALL);
  memset(all + 2, 7, SMALL);
  datagram_encode(all + 2 + SMALL, BIG);
  memset(all + 4 + SMALL, 9, BIG);
  for (size_t cut = 1; cut < ALL; cut += cut < 12 ? 1 : 1999) {
    begin(false);
    assert_int_equal(stream_write(raw, all, cut), cut);
    loop_run_for(l, 0);
    assert_int_equal(b.got, cut >= 2 + SMALL);
    assert_int_equal(stream_write(raw, all + cut, ALL - cut), ALL - cut);
    loop_run_for(l, 0);
    assert_int_equal(b.got, 2);
    assert_int_equal(b.sizes[0], SMALL);
    assert_int_equal(b.sizes[1], BIG);
    finish();
    /* And cut off there for good. */
    begin(false);
    stream_write(raw, all, cut);
    stream_finish(raw);
    loop_run_for(l, 0);
    assert_int_equal(b.ended, 1);
    assert_int_equal(b.reason, cut == 2 + SMALL ? 0 : BEAM_ERR_TRUNCATED);
    finish();
  }
  free(all);
}

static void malformed(void **state) {
  (void)state;
  begin(false);
  stream_write(raw, "\xff\xf8", 2);
  loop_run_for(l, 0);
  assert_int_equal(b.ended, 1);
  assert_int_equal(b.reason, BEAM_ERR_PROTOCOL);
  assert_null(b.f.s);
  finish();
}

static void closed_from_the_callback(void **state) {
  (void)state;
  begin(true);
  b.close_next = true;
  assert_int_equal(flow_send(&a.f, bytes, 1), 0);
  assert_int_equal(flow_send(&a.f, bytes, 1), 0);
  loop_run_for(l, 0);
  assert_int_equal(b.got, 1);
  assert_int_equal(b.ended, 0);
  assert_int_equal(a.ended, 1);
  finish();
  begin(true); /* the same in the middle of a large one */
  b.close_next = true;
  memset(bytes, 0, sizeof bytes);
  assert_int_equal(flow_send(&a.f, bytes, 60000), 0);
  loop_run_for(l, 0);
  assert_int_equal(b.got, 1);
  finish();
}

/* A reader that takes nothing: what is beyond the stream's room is lost, what was begun arrives whole. */
static void no_room(void **state) {
  (void)state;
  begin(false);
  struct stream *far = raw;
  unsigned sent = 0, lost = 0;
  memset(bytes, 5, sizeof bytes);
  for (int i = 0; i < 40; i++) {
    int err = flow_send(&b.f, bytes, i % 4 ? 100 : 60000);
    assert_true(!err || err == BEAM_AGAIN);
    sent += !err;
    lost += err != 0;
  }
  assert_true(sent && lost && b.f.rest);
  raw = NULL;
  flow_own(&a.f, far, &events, &a);
  loop_run_for(l, 0);
  assert_int_equal(a.got, sent);
  assert_null(b.f.rest);
  assert_int_equal(flow_send(&b.f, bytes, 60000), 0);
  loop_run_for(l, 0);
  assert_int_equal(a.got, sent + 1);
  finish();
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(sizes), cmocka_unit_test(splits),
                                     cmocka_unit_test(malformed), cmocka_unit_test(closed_from_the_callback),
                                     cmocka_unit_test(no_room)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
