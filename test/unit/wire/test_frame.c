/* Exchange frames: headers and heads, both ways, hostile lengths and every truncation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <beam/beam.h>
#include <event2/buffer.h>

#include "base/limits.h"
#include "wire/frame.h"

static void reads_headers(void **state) {
  (void)state;
  static const struct {
    uint8_t p[4];
    long want;
    size_t length;
  } table[] = {
      {{1, 0, 0, 1}, 4, 1},
      {{2, 0, 0, 1}, 4, 1},
      {{3, 0, 0, 1}, 4, 1},
      {{3, 1, 0, 0}, 4, 65536},
      {{4, 0, 0, 1}, 4, 1},
      {{5, 0, 0, 0}, 4, 0},
      {{6, 0, 0, 0}, 4, 0},
      {{7, 0, 0, 2}, 4, 2},
      {{1, 1, 0x20, 0}, 4, 72 * 1024},
      {{0, 0, 0, 0}, BEAM_ERR_PROTOCOL, 0},
      {{8, 0, 0, 0}, BEAM_ERR_PROTOCOL, 0},
      {{255, 0, 0, 0}, BEAM_ERR_PROTOCOL, 0},
      {{1, 0, 0, 0}, BEAM_ERR_PROTOCOL, 0},
      {{1, 1, 0x20, 1}, BEAM_ERR_PROTOCOL, 0},
      {{2, 0xff, 0xff, 0xff}, BEAM_ERR_PROTOCOL, 0},
      {{3, 0, 0, 0}, 4, 0},
      {{3, 1, 0, 1}, BEAM_ERR_PROTOCOL, 0},
      {{4, 0, 0, 0}, BEAM_ERR_PROTOCOL, 0},
      {{5, 0, 0, 1}, BEAM_ERR_PROTOCOL, 0},
      {{6, 0, 1, 0}, BEAM_ERR_PROTOCOL, 0},
      {{7, 0, 0, 0}, BEAM_ERR_PROTOCOL, 0},
      {{7, 0, 0, 1}, BEAM_ERR_PROTOCOL, 0},
      {{7, 0, 0, 3}, BEAM_ERR_PROTOCOL, 0},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    struct frame f;
    assert_int_equal(frame_decode(table[i].p, 4, &f), table[i].want);
    bool known = table[i].p[0] >= 1 && table[i].p[0] <= 7;
    for (size_t n = 0; n < 4; n++)
      assert_int_equal(frame_decode(table[i].p, n, &f), n && !known ? BEAM_ERR_PROTOCOL : 0);
    if (table[i].want > 0) {
      uint8_t back[4];
      frame_decode(table[i].p, 4, &f);
      assert_int_equal(f.length, table[i].length);
      frame_encode(back, f.type, f.length);
      assert_memory_equal(back, table[i].p, 4);
    }
  }
}

static bool same_head(const struct http_head *a, const struct http_head *b) {
  if (a->status != b->status || a->fields_n != b->fields_n || !span_eq(a->method, b->method) ||
      !span_eq(a->scheme, b->scheme) || !span_eq(a->authority, b->authority) ||
      !span_eq(a->target, b->target) || !span_eq(a->reason, b->reason))
    return false;
  for (size_t i = 0; i < a->fields_n; i++)
    if (!span_eq(a->fields[i].name, b->fields[i].name) || !span_eq(a->fields[i].value, b->fields[i].value))
      return false;
  return true;
}

static struct http_field fields[] = {
    {{"Accept", 6}, {"*/*", 3}},
    {{"x-empty", 7}, {"", 0}},
    {{"Cookie", 6}, {"a=b; c=\xe2\x82\xac", 10}},
};

static struct http_head a_request(void) {
  return (struct http_head){.minor = 1,
                            .method = SPAN("GET"),
                            .scheme = SPAN("https"),
                            .authority = SPAN("a.test:8443"),
                            .target = SPAN("/x?y"),
                            .fields = fields,
                            .fields_n = 3};
}

/* Writes it; the whole frame, to be freed. */
static uint8_t *written(enum frame_type type, const struct http_head *h, size_t *n) {
  struct evbuffer *b = evbuffer_new();
  assert_non_null(b);
  assert_int_equal(frame_head_write(b, type, h), 0);
  *n = evbuffer_get_length(b);
  uint8_t *p = malloc(*n);
  assert_non_null(p);
  assert_int_equal(evbuffer_remove(b, p, *n), (int)*n);
  evbuffer_free(b);
  return p;
}

/* A copy of exactly n bytes, decoded: the head owns its text afterwards. */
static int decoded(const uint8_t *p, size_t n, struct http_head *out) {
  uint8_t *copy = malloc(n ? n : 1);
  assert_non_null(copy);
  memcpy(copy, p, n);
  int err = frame_head_decode(copy, n, out);
  free(copy);
  return err;
}

/* Cut anywhere but between two fields, a head is malformed; between them it is another head. */
static void cut_everywhere(const uint8_t *p, size_t n, size_t whole_cuts) {
  size_t taken = 0;
  for (size_t k = 0; k < n; k++) {
    struct http_head h;
    int err = decoded(p, k, &h);
    assert_true(err == 0 || err == BEAM_ERR_PROTOCOL);
    taken += err == 0;
    assert_true(err == 0 || (!h.block && !h.fields));
    http_head_free(&h);
  }
  assert_int_equal(taken, whole_cuts);
}

static void carries_heads(void **state) {
  (void)state;
  struct http_head request = a_request();
  struct http_head connect = {
      .minor = 1, .method = SPAN("CONNECT"), .authority = SPAN("a.test"), .target = SPAN("a.test:22")};
  struct http_head response = {
      .minor = 1, .status = 200, .reason = SPAN("OK"), .fields = fields, .fields_n = 3};
  struct http_head hint = {.minor = 1, .status = 103, .fields = fields, .fields_n = 1};
  struct http_head trailers = {.minor = 1, .fields = fields, .fields_n = 2};
  const struct {
    enum frame_type type;
    const struct http_head *h;
    size_t whole_cuts;
  } table[] = {{FRAME_HEAD, &request, 3},
               {FRAME_HEAD, &connect, 0},
               {FRAME_HEAD, &response, 3},
               {FRAME_INFO, &hint, 1},
               {FRAME_TRAILERS, &trailers, 2}};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    size_t n;
    uint8_t *p = written(table[i].type, table[i].h, &n);
    struct frame f;
    assert_int_equal(frame_decode(p, n, &f), FRAME_HEADER);
    assert_int_equal(f.type, table[i].type);
    assert_int_equal(f.length, n - FRAME_HEADER);
    struct http_head h;
    assert_int_equal(decoded(p + FRAME_HEADER, f.length, &h), 0);
    assert_int_equal(h.minor, 1);
    assert_true(same_head(&h, table[i].h));
    http_head_free(&h);
    cut_everywhere(p + FRAME_HEADER, f.length, table[i].whole_cuts);
    free(p);
  }
}

static void trailers_carry_fields_alone(void **state) {
  (void)state;
  struct http_head h = a_request(), got;
  size_t n;
  uint8_t *p = written(FRAME_TRAILERS, &h, &n);
  assert_int_equal(decoded(p + FRAME_HEADER, n - FRAME_HEADER, &got), 0);
  assert_int_equal(got.method.n, 0);
  assert_int_equal(got.status, 0);
  assert_int_equal(got.fields_n, 3);
  http_head_free(&got);
  free(p);
}

#define LIT(s) (s), sizeof(s) - 1
#define REQUEST "\0\0\3GET\0\5https\0\6a.test\0\1/"
#define RESPONSE "\1\0\310\0\2OK"

static void refuses_heads(void **state) {
  (void)state;
  static const struct {
    const char *p;
    size_t n;
    int want;
  } table[] = {
      {LIT(REQUEST), 0},
      {LIT(RESPONSE), 0},
      {LIT("\2"), 0},
      {LIT("\1\0\144\0\0"), 0}, /* 100 */
      {LIT("\1\3\347\0\0"), 0}, /* 999 */
      {LIT(REQUEST "\0\1a\0\1b"), 0},
      {LIT("\0\0\3GET\0\0\0\0\0\1/"), 0}, /* neither scheme nor authority known */
      {LIT("\0\0\7OPTIONS\0\4http\0\6a.test\0\1*"), 0},
      {LIT(""), BEAM_ERR_PROTOCOL},
      {LIT("\3"), BEAM_ERR_PROTOCOL},
      {LIT("\0\0\0\0\5https\0\6a.test\0\1/"), BEAM_ERR_PROTOCOL},
      {LIT("\0\0\3G T\0\5https\0\6a.test\0\1/"), BEAM_ERR_PROTOCOL},
      {LIT("\0\0\3GET\0\3ftp\0\6a.test\0\1/"), BEAM_ERR_PROTOCOL},
      {LIT("\0\0\3GET\0\5https\0\6a test\0\1/"), BEAM_ERR_PROTOCOL},
      {LIT("\0\0\3GET\0\5https\0\6a@test\0\1/"), BEAM_ERR_PROTOCOL},
      {LIT("\0\0\3GET\0\5https\0\6a.test\0\0"), BEAM_ERR_PROTOCOL},
      {LIT("\0\0\3GET\0\5https\0\6a.test\0\1x"), BEAM_ERR_PROTOCOL},
      {LIT("\0\0\3GET\0\5https\0\6a.test\0\1*"), BEAM_ERR_PROTOCOL},
      {LIT("\0\0\3GET\0\5https\0\6a.test\0\3/\r\n"), BEAM_ERR_PROTOCOL},
      {LIT("\0\0\3GET\0\5https\0\6a.test\0\3/ x"), BEAM_ERR_PROTOCOL},
      {LIT("\0\0\3GET\0\5https\0\6a.test\0\17http://a.test/x"), BEAM_ERR_PROTOCOL},
      {LIT("\0\377\377GET\0\5https\0\6a.test\0\1/"), BEAM_ERR_PROTOCOL},
      {LIT("\1\0\143\0\2OK"), BEAM_ERR_PROTOCOL}, /* 99 */
      {LIT("\1\3\350\0\2OK"), BEAM_ERR_PROTOCOL}, /* 1000 */
      {LIT("\1\0\310\0\2O\r"), BEAM_ERR_PROTOCOL},
      {LIT("\1\0\310\0\3OK "), BEAM_ERR_PROTOCOL},
      {LIT(REQUEST "\0\0\0\1b"), BEAM_ERR_PROTOCOL},
      {LIT(REQUEST "\0\2a:\0\1b"), BEAM_ERR_PROTOCOL},
      {LIT(REQUEST "\0\2:a\0\1b"), BEAM_ERR_PROTOCOL},
      {LIT(REQUEST "\0\2a \0\1b"), BEAM_ERR_PROTOCOL},
      {LIT(REQUEST "\0\1a\0\3b\rc"), BEAM_ERR_PROTOCOL},
      {LIT(REQUEST "\0\1a\0\3b\nc"), BEAM_ERR_PROTOCOL},
      {LIT(REQUEST "\0\1a\0\3b\0c"), BEAM_ERR_PROTOCOL},
      {LIT(REQUEST "\0\1a\0\2 b"), BEAM_ERR_PROTOCOL},
      {LIT(REQUEST "\0\1a\0\2b "), BEAM_ERR_PROTOCOL},
      {LIT(REQUEST "\0\1a\0\2b"), BEAM_ERR_PROTOCOL},
      {LIT(REQUEST "\0\1a\0\1bX"), BEAM_ERR_PROTOCOL},
      {LIT(RESPONSE "\0\1a\377\377b"), BEAM_ERR_PROTOCOL},
      {LIT("\2\0\16Content-Length\0\1"
           "1"),
       BEAM_ERR_PROTOCOL},
      {LIT("\2\0\21transfer-encoding\0\1x"), BEAM_ERR_PROTOCOL},
      {LIT("\2\0\4host\0\1x"), BEAM_ERR_PROTOCOL},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    struct http_head h;
    int err = decoded((const uint8_t *)table[i].p, table[i].n, &h);
    if (err != table[i].want)
      fail_msg("row %zu: %d", i, err);
    http_head_free(&h);
  }
}

static void limits_heads(void **state) {
  (void)state;
  enum { MOST = LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS };
  static struct http_field many[MOST + 1];
  for (size_t i = 0; i <= MOST; i++)
    many[i] = (struct http_field){SPAN("a"), SPAN("b")};
  struct evbuffer *b = evbuffer_new();
  struct http_head h = {.fields = many, .fields_n = MOST, .status = 200}, got;
  size_t n;
  uint8_t *p = written(FRAME_HEAD, &h, &n);
  assert_int_equal(decoded(p + FRAME_HEADER, n - FRAME_HEADER, &got), 0);
  assert_int_equal(got.fields_n, MOST);
  http_head_free(&got);
  uint8_t *one_more = malloc(n + 6);
  assert_non_null(one_more);
  memcpy(one_more, p, n);
  memcpy(one_more + n, "\0\1a\0\1b", 6);
  assert_int_equal(decoded(one_more + FRAME_HEADER, n + 6 - FRAME_HEADER, &got), BEAM_ERR_PROTOCOL);
  free(one_more);
  free(p);
  h.fields_n = MOST + 1;
  assert_int_equal(frame_head_write(b, FRAME_HEAD, &h), BEAM_ERR_TOO_LARGE);

  char *big = malloc(70000);
  assert_non_null(big);
  memset(big, 'x', 70000);
  struct http_field long_one[2] = {{SPAN("a"), {big, 65535}},
                                   {SPAN("b"), {big, FRAME_HEAD_MAX - 5 - 5 - 65535 - 5}}};
  h = (struct http_head){.fields = long_one, .fields_n = 2, .status = 200};
  p = written(FRAME_HEAD, &h, &n); /* exactly full */
  assert_int_equal(n, FRAME_HEADER + FRAME_HEAD_MAX);
  assert_int_equal(decoded(p + FRAME_HEADER, n - FRAME_HEADER, &got), 0);
  http_head_free(&got);
  free(p);
  long_one[1].value.n++;
  assert_int_equal(frame_head_write(b, FRAME_HEAD, &h), BEAM_ERR_TOO_LARGE);
  long_one[0].value.n = 65536;
  h.fields_n = 1;
  assert_int_equal(frame_head_write(b, FRAME_HEAD, &h), BEAM_ERR_TOO_LARGE);
  assert_int_equal(evbuffer_get_length(b), 0); /* a refused head leaves nothing behind */
  free(big);
  evbuffer_free(b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_headers),
      cmocka_unit_test(carries_heads),
      cmocka_unit_test(trailers_carry_fields_alone),
      cmocka_unit_test(refuses_heads),
      cmocka_unit_test(limits_heads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
