/* Counts of several threads add up; the text is what a scraper reads, and is cut without harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <beam/beam.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "obs/metrics.h"

enum { THREADS = 20, EACH = 10000 }; /* more threads than shards */

static void *count(void *arg) {
  (void)arg;
  for (int i = 0; i < EACH; i++) {
    metric_add(METRIC_ACCEPTED, 1);
    metric_add(METRIC_SOCKETS, i & 1 ? -2 : 2);
    metric_end(METRIC_ENDS_DIAL, BEAM_ERR_REFUSED);
  }
  return NULL;
}

static void counts_of_threads_add_up(void **state) {
  (void)state;
  pthread_t t[THREADS];
  int64_t accepted = metric_read(METRIC_ACCEPTED), sockets = metric_read(METRIC_SOCKETS);
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&t[i], NULL, count, NULL), 0);
  for (int i = 0; i < THREADS; i++)
    pthread_join(t[i], NULL);
  assert_int_equal(metric_read(METRIC_ACCEPTED) - accepted, THREADS * EACH);
  assert_int_equal(metric_read(METRIC_SOCKETS), sockets);
  assert_int_equal(metric_ends_read(METRIC_ENDS_DIAL, BEAM_ERR_REFUSED), THREADS * EACH);
  assert_int_equal(metric_ends_read(METRIC_ENDS_SOCKET, BEAM_ERR_REFUSED), 0);
}

static void unknown_reasons_have_a_place(void **state) {
  (void)state;
  metric_end(METRIC_ENDS_SOCKET, 12345);
  metric_end(METRIC_ENDS_SOCKET, -12345);
  metric_end(METRIC_ENDS_SOCKET, BEAM_ERR_INTERNAL);
  metric_end(METRIC_ENDS_SOCKET, 0);
  assert_int_equal(metric_ends_read(METRIC_ENDS_SOCKET, BEAM_ERR_INTERNAL), 3);
  assert_int_equal(metric_ends_read(METRIC_ENDS_SOCKET, 0), 1);
}

static void links_and_pages(void **state) {
  (void)state;
  metric_link("h2", 1);
  metric_link("h2", 1);
  metric_link("h2", -1);
  metric_link("quic", 1);
  metric_link("carrier pigeon", 1);
  assert_int_equal(metric_links_read("h2"), 1);
  assert_int_equal(metric_links_read("quic"), 1);
  assert_int_equal(metric_links_read("ws"), 0);
  assert_int_equal(metric_links_read("other"), 1);
  metric_page(5021);
  metric_page(4041);
  metric_page(5021);
  assert_int_equal(metric_pages_read(5021), 2);
  assert_int_equal(metric_pages_read(4041), 1);
  assert_int_equal(metric_pages_read(4042), 0);
  for (unsigned code = 1; code <= 100; code++) /* more than there is place for */
    metric_page(code);
  assert_int_equal(metric_pages_read(5021), 2);
  assert_int_equal(metric_pages_read(1), 1);
  assert_int_equal(metric_pages_read(100), 38);
  static char text[32768];
  struct metrics_text t = {text, sizeof text, 0};
  metrics_write(&t);
  assert_non_null(strstr(text, "# TYPE beam_links gauge\n"));
  assert_non_null(strstr(text, "\nbeam_links{transport=\"h2\"} 1\n"));
  assert_non_null(strstr(text, "\nbeam_pages_total{code=\"BEAM-5021\"} 2\n"));
  assert_non_null(strstr(text, "\nbeam_pages_total{code=\"other\"} 38\n"));
}

static void the_text_is_whole_lines(void **state) {
  (void)state;
  static char text[32768];
  struct metrics_text t = {text, sizeof text, 0};
  metric_add(METRIC_ACCEPT_PAUSES, 7);
  metrics_row(&t, "beam_example", "gauge", "an example", -3);
  metrics_labelled(&t, "beam_lost_total", "lost", "reason", "full", true, 1);
  metrics_labelled(&t, "beam_lost_total", "lost", "reason", "rate", false, 2);
  metrics_write(&t);
  assert_int_equal(t.len, strlen(text));
  assert_non_null(strstr(text, "# HELP beam_lost_total lost\n# TYPE beam_lost_total counter\n"
                               "beam_lost_total{reason=\"full\"} 1\nbeam_lost_total{reason=\"rate\"} 2\n"));
  assert_non_null(
      strstr(text, "# HELP beam_example an example\n# TYPE beam_example gauge\nbeam_example -3\n"));
  assert_non_null(strstr(text, "\nbeam_accept_pauses_total 7\n"));
  assert_non_null(strstr(text, "# TYPE beam_sockets gauge\n"));
  assert_non_null(strstr(text, "\nbeam_ends_total{kind=\"socket\",reason=\"ok\"} 1\n"));
  /* every line is a comment or "name value" or "name{labels} value" */
  for (char *line = text, *end; *line; line = end + 1) {
    assert_non_null(end = strchr(line, '\n'));
    *end = 0;
    char *space = strrchr(line, ' '), *rest;
    assert_non_null(space);
    if (line[0] == '#')
      continue;
    assert_int_equal(strncmp(line, "beam_", 5), 0);
    strtoll(space + 1, &rest, 10);
    assert_int_equal(*rest, 0);
  }
}

/* Every capacity: never past the end, always terminated, and the length needed is told. */
static void the_text_is_cut_without_harm(void **state) {
  (void)state;
  struct metrics_text whole = {NULL, 0, 0};
  metrics_write(&whole);
  for (size_t cap = 1; cap < whole.len + 2; cap += 7) {
    char *text = malloc(cap); /* exactly: a sanitizer sees one byte more */
    text[0] = 0;
    struct metrics_text t = {text, cap, 0};
    metrics_write(&t);
    assert_int_equal(t.len, whole.len);
    assert_true(strlen(text) < cap);
    free(text);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(counts_of_threads_add_up),
      cmocka_unit_test(unknown_reasons_have_a_place),
      cmocka_unit_test(links_and_pages),
      cmocka_unit_test(the_text_is_whole_lines),
      cmocka_unit_test(the_text_is_cut_without_harm),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
