/* Control messages and StreamOpen: both ways, hostile lengths, unknown kinds, every truncation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <beam/beam.h>

#include "base/limits.h"
#include "wire/control.h"

static long decoded(const uint8_t *p, size_t n, beam_Control *m) {
  uint8_t *copy = malloc(n ? n : 1);
  assert_non_null(copy);
  memcpy(copy, p, n);
  long used = control_decode(copy, n, m);
  free(copy);
  return used;
}

static beam_Control a_hello(void) {
  beam_Control m = beam_Control_init_zero;
  m.which_kind = beam_Control_hello_tag;
  beam_Hello *h = &m.kind.hello;
  h->version_min = 1;
  h->version_max = 3;
  h->device_key.size = 32;
  memset(h->device_key.bytes, 0xab, 32);
  h->proof.size = 64;
  memset(h->proof.bytes, 0xcd, 64);
  memset(h->token, 't', 1024);
  memcpy(h->agent, "beam/0.1.0", 11);
  h->features_count = 2;
  memcpy(h->features[0], "h2", 3);
  memcpy(h->features[1], "ws", 3);
  return m;
}

static void carries_a_hello(void **state) {
  (void)state;
  static uint8_t wire[LIMIT_CONTROL_BYTES + 3];
  beam_Control m = a_hello(), got;
  m.critical = true;
  long n = control_encode(&m, wire, sizeof wire);
  assert_true(n > 1100);
  assert_int_equal(decoded(wire, (size_t)n, &got), n);
  assert_true(got.critical);
  assert_int_equal(got.which_kind, beam_Control_hello_tag);
  assert_int_equal(got.kind.hello.version_max, 3);
  assert_int_equal(got.kind.hello.device_key.size, 32);
  assert_memory_equal(got.kind.hello.device_key.bytes, m.kind.hello.device_key.bytes, 32);
  assert_memory_equal(got.kind.hello.proof.bytes, m.kind.hello.proof.bytes, 64);
  assert_string_equal(got.kind.hello.token, m.kind.hello.token);
  assert_int_equal(got.kind.hello.features_count, 2);
  assert_string_equal(got.kind.hello.features[1], "ws");
  assert_int_equal(got.kind.hello.session.size, 0);
  for (long k = 0; k < n; k++)
    assert_int_equal(decoded(wire, (size_t)k, &got), 0);
  wire[n] = 0xff; /* what follows belongs to the next message */
  assert_int_equal(decoded(wire, (size_t)n + 1, &got), n);
  for (size_t cap = 0; cap < (size_t)n; cap++)
    assert_int_equal(control_encode(&m, wire, cap), BEAM_ERR_TOO_LARGE);
  assert_int_equal(control_encode(&m, wire, (size_t)n), n);
}

/* The same bytes with a shorter length prefix: never read past, never a crash. */
static void survives_short_messages(void **state) {
  (void)state;
  static uint8_t wire[LIMIT_CONTROL_BYTES + 3];
  beam_Control m = a_hello(), got;
  m.kind.hello.token[90] = 0;
  long n = control_encode(&m, wire, sizeof wire);
  assert_true(n > 130);
  for (unsigned k = 128; k < (unsigned)n - 2; k++) {
    wire[0] = (uint8_t)((k & 0x7f) | 0x80);
    wire[1] = (uint8_t)(k >> 7);
    long used = decoded(wire, k + 2, &got);
    assert_true(used == BEAM_ERR_PROTOCOL || used == (long)k + 2);
  }
}

static void carries_every_kind(void **state) {
  (void)state;
  for (pb_size_t tag = beam_Control_hello_tag; tag <= beam_Control_error_tag; tag++) {
    uint8_t wire[64];
    beam_Control m = beam_Control_init_zero, got;
    m.which_kind = tag;
    long n = control_encode(&m, wire, sizeof wire);
    assert_int_equal(n, 3); /* length, tag, empty message */
    assert_int_equal(decoded(wire, (size_t)n, &got), n);
    assert_int_equal(got.which_kind, tag);
  }
}

/* Around the lengths where the prefix grows by a byte. */
static void grows_its_length(void **state) {
  (void)state;
  static uint8_t wire[1100];
  for (size_t n = 1; n < 1024; n++) {
    beam_Control m = beam_Control_init_zero, got;
    m.which_kind = beam_Control_hello_tag;
    memset(m.kind.hello.token, 't', n);
    long used = control_encode(&m, wire, sizeof wire);
    size_t inner = n < 128 ? n + 2 : n + 3, whole = inner < 128 ? inner + 2 : inner + 3;
    assert_int_equal(used, whole < 128 ? whole + 1 : whole + 2);
    assert_int_equal(decoded(wire, (size_t)used, &got), used);
    assert_int_equal(strlen(got.kind.hello.token), n);
  }
}

#define LIT(s) (const uint8_t *)(s), sizeof(s) - 1

static void judges_bytes(void **state) {
  (void)state;
  static const struct {
    const uint8_t *p;
    size_t n;
    long want;
    pb_size_t kind;
  } table[] = {
      {LIT(""), 0, 0},
      {LIT("\0"), 1, 0},                                  /* an empty message: of no kind, not critical */
      {LIT("\2\x78\1"), BEAM_ERR_UNSUPPORTED, 0},         /* critical, of no kind */
      {LIT("\5\x78\1\xa2\1\0"), BEAM_ERR_UNSUPPORTED, 0}, /* critical, kind 20 */
      {LIT("\3\xa2\1\0"), 4, 0},                          /* kind 20, not critical: to be ignored */
      {LIT("\4\x4a\2\x08\7"), 5, beam_Control_ping_tag},  /* PING{7} */
      {LIT("\6\x4a\4\x08\7\x10\1"), 7, beam_Control_ping_tag}, /* PING with a field unknown to us */
      {LIT("\4\x4a\2\x08"), 0, 0},
      {LIT("\3\x4a\2\x08"), BEAM_ERR_PROTOCOL, 0}, /* the inner length goes past the outer */
      {LIT("\1\x4a"), BEAM_ERR_PROTOCOL, 0},
      {LIT("\1\0"), BEAM_ERR_PROTOCOL, 0},     /* field number 0 */
      {LIT("\2\x4f\0"), BEAM_ERR_PROTOCOL, 0}, /* wire type 7 */
      {LIT("\2\x48\0"), BEAM_ERR_PROTOCOL, 0}, /* a message sent as a number */
      {LIT("\x80"), 0, 0},
      {LIT("\x80\0"), BEAM_ERR_PROTOCOL, 0}, /* a length longer than it need be */
      {LIT("\x81\0\0"), BEAM_ERR_PROTOCOL, 0},
      {LIT("\x80\x80"), 0, 0},
      {LIT("\x80\x80\0"), BEAM_ERR_PROTOCOL, 0},
      {LIT("\x80\x80\1"), 0, 0},                  /* 16384 to come */
      {LIT("\x81\x80\1"), BEAM_ERR_TOO_LARGE, 0}, /* 16385 */
      {LIT("\x80\x80\x80"), BEAM_ERR_TOO_LARGE, 0},
      {LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"), BEAM_ERR_TOO_LARGE, 0},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    beam_Control m;
    long used = decoded(table[i].p, table[i].n, &m);
    if (used != table[i].want)
      fail_msg("row %zu: %ld", i, used);
    if (used > 0)
      assert_int_equal(m.which_kind, table[i].kind);
  }
}

static void refuses_texts_that_do_not_fit(void **state) {
  (void)state;
  /* BIND{name}: 255 bytes fit, 256 do not */
  for (size_t n = 255; n <= 256; n++) {
    uint8_t wire[300] = {0};
    size_t inner = n + 3;
    uint8_t head[] = {(uint8_t)(((inner + 3) & 0x7f) | 0x80),
                      (uint8_t)((inner + 3) >> 7),
                      0x1a,
                      (uint8_t)((inner & 0x7f) | 0x80),
                      (uint8_t)(inner >> 7),
                      0x1a,
                      (uint8_t)((n & 0x7f) | 0x80),
                      (uint8_t)(n >> 7)};
    memcpy(wire, head, sizeof head);
    memset(wire + sizeof head, 'n', n);
    beam_Control m;
    assert_int_equal(decoded(wire, sizeof head + n, &m),
                     n == 255 ? (long)(sizeof head + n) : BEAM_ERR_PROTOCOL);
    if (n == 255)
      assert_int_equal(strlen(m.kind.bind.name), 255);
  }
  beam_Control m = beam_Control_init_zero; /* a text without its end is not sent */
  m.which_kind = beam_Control_bind_tag;
  memset(m.kind.bind.name, 'n', sizeof m.kind.bind.name);
  uint8_t wire[600];
  assert_int_equal(control_encode(&m, wire, sizeof wire), BEAM_ERR_INVALID);
}

static void carries_a_stream_open(void **state) {
  (void)state;
  uint8_t wire[1024];
  beam_StreamOpen m = beam_StreamOpen_init_zero, got;
  m.kind = beam_StreamKind_STREAM_TCP;
  memcpy(m.name, "shop.tunnel.test", 17);
  memcpy(m.visitor, "203.0.113.9:51234", 18);
  m.trace_id.size = 16;
  memset(m.trace_id.bytes, 7, 16);
  m.tls = true;
  long n = stream_open_encode(&m, wire, sizeof wire);
  assert_true(n > 50);
  for (long k = 0; k < n; k++)
    assert_int_equal(stream_open_decode(wire, (size_t)k, &got), 0);
  assert_int_equal(stream_open_decode(wire, (size_t)n, &got), n);
  assert_int_equal(got.kind, beam_StreamKind_STREAM_TCP);
  assert_string_equal(got.name, m.name);
  assert_string_equal(got.visitor, m.visitor);
  assert_memory_equal(got.trace_id.bytes, m.trace_id.bytes, 16);
  assert_true(got.tls);
  assert_int_equal(stream_open_decode((const uint8_t *)"\x81\x20", 2, &got), BEAM_ERR_TOO_LARGE); /* 4097 */
  assert_int_equal(stream_open_decode((const uint8_t *)"\x80\x20", 2, &got), 0);
  assert_int_equal(stream_open_decode((const uint8_t *)"\0", 1, &got), 1); /* all defaults */
  assert_int_equal(got.kind, beam_StreamKind_STREAM_HTTP);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(carries_a_hello),       cmocka_unit_test(survives_short_messages),
      cmocka_unit_test(carries_every_kind),    cmocka_unit_test(grows_its_length),
      cmocka_unit_test(judges_bytes),          cmocka_unit_test(refuses_texts_that_do_not_fit),
      cmocka_unit_test(carries_a_stream_open),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
