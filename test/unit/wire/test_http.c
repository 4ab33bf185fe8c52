/* Heads as values: owning, copying, asking, building. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <beam/beam.h>

#include "base/limits.h"
#include "wire/http.h"

static void is(struct span s, const char *want) {
  assert_int_equal(s.n, strlen(want));
  assert_memory_equal(s.p, want, s.n);
}

static void copies_deeply(void **state) {
  (void)state;
  char text[] = "GET https a.test /x A b C ";
  struct http_field fields[] = {{{text + 20, 1}, {text + 22, 1}}, {{text + 24, 1}, {NULL, 0}}};
  struct http_head src = {.minor = 0,
                          .method = {text, 3},
                          .scheme = {text + 4, 5},
                          .authority = {text + 10, 6},
                          .target = {text + 17, 2},
                          .fields_n = 2,
                          .fields = fields};
  struct http_head a, b;
  assert_int_equal(http_head_copy(&a, &src), 0);
  memset(text, '?', sizeof text);
  memset(fields, 0, sizeof fields);
  assert_int_equal(http_head_copy(&b, &a), 0);
  http_head_free(&a);
  assert_null(a.block);
  http_head_free(&a); /* twice does no harm */
  is(b.method, "GET");
  is(b.scheme, "https");
  is(b.authority, "a.test");
  is(b.target, "/x");
  is(b.reason, "");
  assert_int_equal(b.minor, 0);
  is(b.fields[0].name, "A");
  is(b.fields[0].value, "b");
  is(b.fields[1].name, "C");
  is(b.fields[1].value, "");
  http_head_free(&b);
}

static void copies_an_empty_head(void **state) {
  (void)state;
  struct http_head none = {0}, got;
  assert_int_equal(http_head_copy(&got, &none), 0);
  assert_int_equal(got.fields_n, 0);
  http_head_free(&got);
}

static void finds_fields_and_tokens(void **state) {
  (void)state;
  struct http_field fields[] = {
      {SPAN("Connection"), SPAN("keep-alive,\tUpgrade ,, x")},
      {SPAN("connection"), SPAN("close")},
      {SPAN("Accept"), SPAN("")},
  };
  struct http_head h = {.fields = fields, .fields_n = 3};
  assert_ptr_equal(http_field_find(&h, "CONNECTION"), &fields[0]);
  assert_ptr_equal(http_field_find(&h, "accept"), &fields[2]);
  assert_null(http_field_find(&h, "Accep"));
  assert_null(http_field_find(&h, "Accept-"));
  static const char *const yes[] = {"keep-alive", "upgrade", "X", "Close"}, *const no[] = {"keep", "alive",
                                                                                           "keep-alive,",
                                                                                           "upgrades", "up"};
  for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
    assert_true(http_field_has_token(&h, "connection", yes[i]));
  for (size_t i = 0; i < sizeof no / sizeof *no; i++)
    assert_false(http_field_has_token(&h, "connection", no[i]));
  assert_false(http_field_has_token(&h, "accept", "x"));
  assert_false(http_field_has_token(&h, "none", "x"));
}

static void judges_targets(void **state) {
  (void)state;
  static const struct {
    const char *method, *target;
    bool ok;
  } table[] = {
      {"GET", "/", true},       {"GET", "/a?b=c/../%00", true},
      {"GET", "//a", true},     {"OPTIONS", "*", true},
      {"CONNECT", "a:1", true}, {"CONNECT", "[::1]:1", true},
      {"GET", "", false},       {"GET", "*", false},
      {"OPTIONS", "**", false}, {"OPTIONS", "/", true},
      {"GET", "a", false},      {"GET", "http://a/", false},
      {"GET", "/a b", false},   {"GET", "/a\r", false},
      {"GET", "/#", false},     {"CONNECT", "/", false},
      {"CONNECT", "a", false},  {"CONNECT", "*", false},
      {"CONNECT", "", false},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (http_target_ok(span_of(table[i].method), span_of(table[i].target)) != table[i].ok)
      fail_msg("%s %s", table[i].method, table[i].target);
}

static struct http_build *builder(void) {
  struct http_build *b;
  assert_int_equal(http_build_new(&b), 0);
  return b;
}

static void builds_heads(void **state) {
  (void)state;
  struct http_head h;
  struct http_build *b = builder();
  http_build_request(b, SPAN("POST"), SPAN("http"), SPAN("a.test"), SPAN("/x"));
  char name[] = "X-A";
  http_build_field(b, span_of(name), SPAN("1"));
  memset(name, '?', 3);
  http_build_field(b, SPAN("X-B"), (struct span){0});
  assert_int_equal(http_build_done(b, &h), 0);
  is(h.method, "POST");
  is(h.scheme, "http");
  is(h.authority, "a.test");
  is(h.target, "/x");
  assert_int_equal(h.minor, 1);
  assert_int_equal(h.status, 0);
  assert_int_equal(h.fields_n, 2);
  is(h.fields[0].name, "X-A");
  is(h.fields[0].value, "1");
  is(h.fields[1].name, "X-B");
  is(h.fields[1].value, "");
  http_head_free(&h);

  b = builder();
  http_build_status(b, 404, SPAN("Not Found"));
  assert_int_equal(http_build_done(b, &h), 0);
  assert_int_equal(h.status, 404);
  is(h.reason, "Not Found");
  http_head_free(&h);

  for (uint16_t status = 100; status <= 999; status += 899) {
    b = builder();
    http_build_status(b, status, SPAN(""));
    assert_int_equal(http_build_done(b, &h), 0);
    assert_int_equal(h.status, status);
    http_head_free(&h);
  }
  http_build_free(builder());
  http_build_free(NULL);
}

static void refuses_what_may_not_stand(void **state) {
  (void)state;
  static const struct {
    const char *name, *value;
  } bad[] = {{"", "x"},     {"a b", "x"}, {"a:", "x"},  {"a", "x\r\nB: c"}, {"a", "x\n"},
             {"a", "\x01"}, {"a", " x"},  {"a", "x\t"}, {"\xc3\xa4", "x"}};
  struct http_head h;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct http_build *b = builder();
    http_build_status(b, 200, SPAN("OK"));
    http_build_field(b, span_of(bad[i].name), span_of(bad[i].value));
    http_build_field(b, SPAN("good"), SPAN("after")); /* the first error stays */
    assert_int_equal(http_build_done(b, &h), BEAM_ERR_INVALID);
    assert_null(h.block);
  }
  struct http_build *b = builder();
  http_build_field(b, SPAN("a"), (struct span){"x\0y", 3});
  assert_int_equal(http_build_done(b, &h), BEAM_ERR_INVALID);
  b = builder();
  http_build_status(b, 99, SPAN("x"));
  assert_int_equal(http_build_done(b, &h), BEAM_ERR_INVALID);
  b = builder();
  http_build_status(b, 1000, SPAN("x"));
  assert_int_equal(http_build_done(b, &h), BEAM_ERR_INVALID);
  b = builder();
  http_build_request(b, SPAN("GET"), SPAN("http"), SPAN("a.test"), SPAN("/x\r\n"));
  assert_int_equal(http_build_done(b, &h), BEAM_ERR_INVALID);
}

static void limits_what_is_built(void **state) {
  (void)state;
  struct http_head h;
  for (unsigned n = LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS;
       n < LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS + 2; n++) {
    struct http_build *b = builder();
    for (unsigned i = 0; i < n; i++)
      http_build_field(b, SPAN("name"), SPAN("value"));
    assert_int_equal(http_build_done(b, &h),
                     n > LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS ? BEAM_ERR_TOO_LARGE : 0);
    http_head_free(&h);
  }
  size_t most = LIMIT_HEAD_BYTES + LIMIT_HEAD_ADDED_BYTES;
  char *big = malloc(most + 1);
  assert_non_null(big);
  memset(big, 'x', most + 1);
  for (size_t n = most - 1; n <= most; n++) {
    struct http_build *b = builder();
    http_build_field(b, SPAN("a"), (struct span){big, n});
    assert_int_equal(http_build_done(b, &h), n < most ? 0 : BEAM_ERR_TOO_LARGE);
    http_head_free(&h);
  }
  free(big);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(copies_deeply),
      cmocka_unit_test(copies_an_empty_head),
      cmocka_unit_test(finds_fields_and_tokens),
      cmocka_unit_test(judges_targets),
      cmocka_unit_test(builds_heads),
      cmocka_unit_test(refuses_what_may_not_stand),
      cmocka_unit_test(limits_what_is_built),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
