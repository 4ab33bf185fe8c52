/* The chunked coding: every sample whole, in two pieces cut anywhere, and byte by byte gives the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/limits.h"
#include "wire/h1.h"

/* Feeds text[0..n) in pieces that end at `cut` and every `step` bytes thereafter, as a front does: what is not used comes again. */
struct result {
  enum h1_chunk_what what; /* END, BAD or MORE */
  size_t eaten;            /* of the input */
  char body[256], trailers[256];
  size_t body_n, trailers_n;
};

static void collect(char *to, size_t *n, const char *p, size_t k) {
  assert_true(*n + k <= 256);
  memcpy(to + *n, p, k);
  *n += k;
}

static void feed(const char *text, size_t n, size_t cut, size_t step, bool tell_trailers, struct result *r) {
  struct h1_chunked c;
  h1_chunked_init(&c);
  memset(r, 0, sizeof *r);
  size_t have = cut;
  for (;;) {
    char *p = malloc(have - r->eaten + 1);
    assert_non_null(p);
    memcpy(p, text + r->eaten, have - r->eaten);
    size_t used, data;
    r->what = h1_chunked_next(&c, p, have - r->eaten, &used, &data);
    assert_true(used + data <= have - r->eaten);
    if (r->what == H1_CHUNK_DATA) {
      assert_true(data > 0);
      collect(r->body, &r->body_n, p + used, data);
      h1_chunked_ate(&c, data);
    } else if (r->what == H1_CHUNK_TRAILERS) {
      collect(r->trailers, &r->trailers_n, p + used, data);
      if (tell_trailers)
        h1_chunked_ate(&c, data);
    } else {
      assert_int_equal(data, 0);
    }
    r->eaten += used + data;
    free(p);
    if (r->what == H1_CHUNK_END || r->what == H1_CHUNK_BAD)
      return;
    if (r->what == H1_CHUNK_MORE) {
      if (have == n)
        return;
      have = have + step < n ? have + step : n;
    }
  }
}

#define LIT(s) (s), sizeof(s) - 1

static const struct good {
  const char *text;
  size_t n;
  const char *body, *trailers;
} goods[] = {
    {LIT("0\r\n\r\n"), "", ""},
    {LIT("000\r\n\r\n"), "", ""},
    {LIT("5\r\nhello\r\n0\r\n\r\n"), "hello", ""},
    {LIT("0005\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"), "hello!", ""},
    {LIT("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), "01234567890123456789", ""},
    {LIT("2\r\n\r\n\r\n0\r\n\r\n"), "\r\n", ""},
    {LIT("1;a\r\nx\r\n0;b;c\r\n\r\n"), "x", ""},
    {LIT("1;a=b;c=\"d;\\\" \r\\x\"\r\nx\r\n"), NULL, ""}, /* CR in quotes */
    {LIT("1;a=b;c=\"d;\\\" \\\\ \t\xc3\xa4\";e\r\nx\r\n0\r\n\r\n"), "x", ""},
    {LIT("1;a=\"\"\r\nx\r\n0\r\n\r\n"), "x", ""},
    {LIT("1\r\nx\r\n0\r\nA: b\r\n\r\n"), "x", "A: b\r\n"},
    {LIT("0\r\nA: b\r\nGrpc-Status: 0\r\n\r\n"), "", "A: b\r\nGrpc-Status: 0\r\n"},
    {LIT("0\r\n\rA\r\n\r\n"), NULL, ""},
};

static void decodes_in_any_pieces(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof goods / sizeof *goods; i++) {
    const struct good *g = &goods[i];
    for (size_t cut = 0; cut <= g->n; cut++)
      for (size_t step = 1; step <= g->n; step += g->n - 1) {
        struct result r;
        feed(g->text, g->n, cut, step, cut & 1, &r);
        if (r.what != (g->body ? H1_CHUNK_END : H1_CHUNK_BAD))
          fail_msg("row %zu cut %zu: %d", i, cut, r.what);
        if (!g->body)
          continue;
        assert_int_equal(r.eaten, g->n);
        assert_int_equal(r.body_n, strlen(g->body));
        assert_memory_equal(r.body, g->body, r.body_n);
        assert_int_equal(r.trailers_n, strlen(g->trailers));
        assert_memory_equal(r.trailers, g->trailers, r.trailers_n);
      }
    if (g->body)
      for (size_t n = 0; n < g->n; n++) { /* cut short it is never whole */
        struct result r;
        feed(g->text, n, n, 1, false, &r);
        assert_int_equal(r.what, H1_CHUNK_MORE);
      }
  }
}

static void leaves_the_next_message_alone(void **state) {
  (void)state;
  static const char text[] = "1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
  struct result r;
  feed(text, sizeof text - 1, sizeof text - 1, 1, false, &r);
  assert_int_equal(r.what, H1_CHUNK_END);
  assert_int_equal(r.eaten, 11);
}

static void refuses(void **state) {
  (void)state;
  static const struct {
    const char *p;
    size_t n;
  } table[] = {
      {LIT("\r\n")},
      {LIT("\n")},
      {LIT(";a\r\n")},
      {LIT("g\r\n")},
      {LIT("0x1\r\n")},
      {LIT("-1\r\n")},
      {LIT("+1\r\n")},
      {LIT(" 1\r\n")},
      {LIT("1 \r\n")},
      {LIT("1 ;a\r\n")},
      {LIT("1; a\r\n")},
      {LIT("1;\r\n")},
      {LIT("1;=a\r\n")},
      {LIT("1;a=\r\n")},
      {LIT("1;a==b\r\n")},
      {LIT("1;a=b=c\r\n")},
      {LIT("1;a=\"b\"c\r\n")},
      {LIT("1;a=\"b\r\n")},
      {LIT("1;a\"b\"\r\n")},
      {LIT("1;a=\"\x01\"\r\n")},
      {LIT("1;a=\"\\\x01\"")},
      {LIT("1;a\nb\r\n")},
      {LIT("1\n")},
      {LIT("1\r\r\n")},
      {LIT("1\rx")},
      {LIT("1,1\r\n")},
      {LIT("1\0\r\n")},
      {LIT("1\r\nxx")},
      {LIT("1\r\nx\n")},
      {LIT("1\r\nx\r\r")},
      {LIT("1\r\nx0\r\n\r\n")},
      {LIT("8000000000000000\r\n")},
      {LIT("10000000000000000\r\n")},
      {LIT("ffffffffffffffff\r\n")},
      {LIT("0\r\n\n")},
      {LIT("0\r\n\rx")},
      {LIT("0\r\nA: b\n\n")},
      {LIT("0\r\nA: b\r\n\n")},
      {LIT("0\r\n\nA: b\r\n\r\n")},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    for (size_t cut = 0; cut <= table[i].n; cut++) {
      struct result r;
      feed(table[i].p, table[i].n, cut, 1, false, &r);
      if (r.what != H1_CHUNK_BAD)
        fail_msg("row %zu cut %zu: %d", i, cut, r.what);
    }
}

static void stays_where_it_ended(void **state) {
  (void)state;
  struct h1_chunked c;
  size_t used, data;
  h1_chunked_init(&c);
  assert_int_equal(h1_chunked_next(&c, "0\r\n\r\n", 5, &used, &data), H1_CHUNK_END);
  assert_int_equal(used, 5);
  assert_int_equal(h1_chunked_next(&c, "1\r\n", 3, &used, &data), H1_CHUNK_END);
  assert_int_equal(used, 0);
  h1_chunked_init(&c);
  static const char text[] = "0\r\nA: b\r\n\r\n";
  assert_int_equal(h1_chunked_next(&c, text, sizeof text - 1, &used, &data), H1_CHUNK_TRAILERS);
  assert_int_equal(used, 3);
  assert_int_equal(data, 6);
  assert_int_equal(h1_chunked_next(&c, text + 9, 2, &used, &data), H1_CHUNK_END);
  assert_int_equal(h1_chunked_next(&c, "\r\n", 2, &used, &data), H1_CHUNK_END);
  assert_int_equal(used, 0);
  h1_chunked_init(&c);
  assert_int_equal(h1_chunked_next(&c, "x", 1, &used, &data), H1_CHUNK_BAD);
  assert_int_equal(h1_chunked_next(&c, "1\r\nx", 4, &used, &data), H1_CHUNK_BAD);
  assert_int_equal(data, 0);
}

static void limits_sizes_lines_and_trailers(void **state) {
  (void)state;
  struct h1_chunked c;
  size_t used, data;
  h1_chunked_init(&c);
  assert_int_equal(h1_chunked_next(&c, "7fffffffffffffff\r\nx", 19, &used, &data), H1_CHUNK_DATA);
  assert_int_equal(used, 18);
  assert_int_equal(data, 1);
  assert_true(c.left == INT64_MAX);

  char line[LIMIT_CHUNK_LINE + 8];
  memset(line, '0', sizeof line);
  for (size_t n = LIMIT_CHUNK_LINE - 2; n <= LIMIT_CHUNK_LINE - 1;
       n++) { /* with CR LF: the limit, and one more */
    memcpy(line + n, "\r\n\r\n", 4);
    h1_chunked_init(&c);
    assert_int_equal(h1_chunked_next(&c, line, n + 4, &used, &data),
                     n == LIMIT_CHUNK_LINE - 2 ? H1_CHUNK_END : H1_CHUNK_BAD);
    memset(line, '0', sizeof line);
  }
  /* A long chunk's data does not count as its line. */
  static char big[5000] = "1000\r\n";
  memset(big + 6, 'x', 4096);
  memcpy(big + 6 + 4096, "\r\n0\r\n\r\n", 7);
  h1_chunked_init(&c);
  assert_int_equal(h1_chunked_next(&c, big, 6 + 4096 + 7, &used, &data), H1_CHUNK_DATA);
  assert_int_equal(data, 4096);
  h1_chunked_ate(&c, 4096);
  assert_int_equal(h1_chunked_next(&c, big + 6 + 4096, 7, &used, &data), H1_CHUNK_END);

  char *p = malloc(LIMIT_HEAD_BYTES + 8);
  assert_non_null(p);
  memset(p, 'x', LIMIT_HEAD_BYTES + 8);
  for (size_t n = LIMIT_HEAD_BYTES; n <= LIMIT_HEAD_BYTES + 1; n++) {
    memcpy(p + n - 4, "\r\n\r\n", 4);
    h1_chunked_init(&c);
    assert_int_equal(h1_chunked_next(&c, "0\r\n", 3, &used, &data), H1_CHUNK_MORE);
    assert_int_equal(h1_chunked_next(&c, p, n - 1, &used, &data),
                     n == LIMIT_HEAD_BYTES ? H1_CHUNK_MORE : H1_CHUNK_BAD);
    assert_int_equal(h1_chunked_next(&c, p, n, &used, &data),
                     n == LIMIT_HEAD_BYTES ? H1_CHUNK_TRAILERS : H1_CHUNK_BAD);
    memset(p, 'x', LIMIT_HEAD_BYTES + 8);
  }
  free(p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(decodes_in_any_pieces),
      cmocka_unit_test(leaves_the_next_message_alone),
      cmocka_unit_test(refuses),
      cmocka_unit_test(stays_where_it_ended),
      cmocka_unit_test(limits_sizes_lines_and_trailers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
