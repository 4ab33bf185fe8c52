/* Names by chance and names wanted: their look, their spread, what is refused. */
#include "../tmpdir.h"

#include "domain/name.h"
#include "wire/host.h"

static void drawn_names_are_labels(void **state) {
  (void)state;
  char label[LABEL_MAX];
  for (int i = 0; i < 20000; i++) {
    name_draw(label);
    assert_true(host_label_ok(span_of(label)));
    assert_int_equal(name_check(span_of(label), NULL), 0);
    char *one = strchr(label, '-'), *two = one ? strchr(one + 1, '-') : NULL;
    assert_non_null(two);
    assert_int_equal(strspn(two + 1, "0123456789"), strlen(two + 1));
    name_draw_hex(label);
    assert_int_equal(strlen(label), 8);
    assert_int_equal(strspn(label, "0123456789abcdef"), 8);
    assert_true(host_label_ok(span_of(label)));
  }
}

static int by_text(const void *a, const void *b) {
  return strcmp(a, b);
}

/* 4.2 million friendly names: among 2,000 draws about 0.5 pairs are expected; ten would be a broken generator. */
static void drawn_names_differ(void **state) {
  (void)state;
  enum { N = 2000 };
  static char labels[N][LABEL_MAX];
  for (int i = 0; i < N; i++)
    name_draw(labels[i]);
  qsort(labels, N, LABEL_MAX, by_text);
  int same = 0;
  for (int i = 1; i < N; i++)
    same += !strcmp(labels[i - 1], labels[i]);
  assert_in_range(same, 0, 10);
  for (int i = 0; i < N; i++)
    name_draw_hex(labels[i]);
  qsort(labels, N, LABEL_MAX, by_text);
  for (same = 0; same < N - 1 && strcmp(labels[same], labels[same + 1]); same++)
    ;
  assert_int_equal(same, N - 1);
}

static void seeded_draws_repeat(void **state) {
  (void)state;
  char a[LABEL_MAX], b[LABEL_MAX];
  random_seed(42);
  name_draw(a);
  random_seed(42);
  name_draw(b);
  random_seed(0);
  assert_string_equal(a, b);
}

static void wanted_names(void **state) {
  (void)state;
  static const struct {
    const char *label;
    int err;
  } rows[] = {{"shop", 0},
              {"a", 0},
              {"my-shop-2", 0},
              {"0123456789", 0},
              {"wwww", 0},
              {"relay2", 0},
              {"www", BEAM_ERR_NAME},
              {"WWW", BEAM_ERR_NAME},
              {"api", BEAM_ERR_NAME},
              {"relay", BEAM_ERR_NAME},
              {"control", BEAM_ERR_NAME},
              {"admin", BEAM_ERR_NAME},
              {"mail", BEAM_ERR_NAME},
              {"localhost", BEAM_ERR_NAME},
              {"beam", BEAM_ERR_NAME},
              {"_dmarc", BEAM_ERR_NAME},
              {"_beam", BEAM_ERR_NAME},
              {"", BEAM_ERR_NAME},
              {"-a", BEAM_ERR_NAME},
              {"a-", BEAM_ERR_NAME},
              {"a.b", BEAM_ERR_NAME},
              {"a b", BEAM_ERR_NAME},
              {"a\n", BEAM_ERR_NAME},
              {"xn--caf-dma", BEAM_ERR_NAME},
              {"*", BEAM_ERR_NAME},
              {"\xc3\xa9", BEAM_ERR_NAME},
              {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0},
              {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", BEAM_ERR_NAME}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct beam_error e = BEAM_ERROR_INIT;
    if (name_check(span_of(rows[i].label), &e) != rows[i].err)
      print_error("%s\n", rows[i].label);
    assert_int_equal(name_check(span_of(rows[i].label), &e), rows[i].err);
    assert_int_equal(e.code, rows[i].err);
    assert_int_equal(*e.what != 0, rows[i].err != 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {tmp_test(drawn_names_are_labels), tmp_test(drawn_names_differ),
                                     tmp_test(seeded_draws_repeat), tmp_test(wanted_names)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
