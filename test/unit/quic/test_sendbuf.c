#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "quic/sendbuf.h"

static uint8_t byte_at(size_t at) {
  return (uint8_t)(at * 7 + (at >> 9));
}

static void write_some(struct sendbuf *b, size_t *written, size_t n) {
  struct evbuffer *e = evbuffer_new();
  uint8_t *p = malloc(n + 1);
  assert_non_null(e);
  assert_non_null(p);
  for (size_t i = 0; i < n; i++)
    p[i] = byte_at(*written + i);
  assert_int_equal(evbuffer_add(e, p, n), 0);
  assert_int_equal(sendbuf_add(b, e, n), n);
  assert_int_equal(evbuffer_get_length(e), 0);
  *written += n;
  evbuffer_free(e);
  free(p);
}

/* Random writes, sends and acknowledgements: unsent bytes continue where sending stopped, and bytes in flight stay where they are. */
static void bytes_stay_until_acknowledged(void **state) {
  (void)state;
  static const uint8_t *where[1 << 20];
  struct sendbuf b = {0};
  size_t written = 0, sent = 0, acked = 0;
  unsigned x = 1;
  while (acked < 900000) {
    x = x * 1664525 + 1013904223;
    size_t n = 1 + (x >> 8) % ((x & 1) ? 300 : 60000);
    if ((x >> 28) < 6 && written + n < 1 << 20)
      write_some(&b, &written, n);
    struct sendbuf_piece v[3];
    unsigned pieces = sendbuf_peek(&b, v, 3);
    size_t take = (x >> 4) % 4000, at = sent;
    for (unsigned i = 0; i < pieces; i++)
      for (size_t k = 0; k < v[i].n && at < sent + take; k++, at++) {
        assert_int_equal(v[i].p[k], byte_at(at));
        where[at] = &v[i].p[k];
      }
    assert_true(pieces > 0 || sent == written);
    sendbuf_sent(&b, at - sent);
    sent = at;
    size_t ack = (x >> 6) % 5000;
    if (ack > sent - acked)
      ack = sent - acked;
    for (size_t k = acked; k < acked + ack; k += 97)
      assert_int_equal(*where[k], byte_at(k));
    sendbuf_acked(&b, ack);
    acked += ack;
    assert_int_equal(b.flight, sent - acked);
    assert_int_equal(b.unsent, written - sent);
  }
  sendbuf_clear(&b);
  assert_null(b.first);
}

static void what_is_acknowledged_is_let_go(void **state) {
  (void)state;
  struct sendbuf b = {0};
  size_t written = 0;
  for (int i = 0; i < 100; i++) {
    write_some(&b, &written, 10);
    sendbuf_sent(&b, 10);
    sendbuf_acked(&b, 10);
    assert_null(b.first); /* a quiet stream holds nothing */
    assert_null(b.last);
  }
  write_some(&b, &written, 200000);
  sendbuf_sent(&b, 150000);
  sendbuf_acked(&b, 1000000); /* never more than was sent */
  assert_int_equal(b.flight, 0);
  assert_int_equal(b.unsent, 50000);
  sendbuf_clear(&b);
  assert_int_equal(b.unsent, 0);
  sendbuf_clear(&b);
  struct sendbuf_piece v[1];
  assert_int_equal(sendbuf_peek(&b, v, 1), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(bytes_stay_until_acknowledged),
                                     cmocka_unit_test(what_is_acknowledged_is_let_go)};
  return cmocka_run_group_tests_name("quic/sendbuf", tests, NULL, NULL);
}
