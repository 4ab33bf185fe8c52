#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <time.h>

#include "wire/date.h"

static void known(void **state) {
  (void)state;
  static const struct {
    int64_t s;
    const char *text;
  } table[] = {{0, "Thu, 01 Jan 1970 00:00:00 GMT"},
               {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"}, /* RFC 9110 */
               {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
               {951868799, "Tue, 29 Feb 2000 23:59:59 GMT"},
               {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"}, /* no 29th */
               {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"}};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    char out[HTTP_DATE_SIZE];
    int64_t s;
    http_date_write(out, table[i].s);
    assert_string_equal(out, table[i].text);
    assert_true(http_date_read(span_of(out), &s));
    assert_int_equal(s, table[i].s);
  }
  char out[HTTP_DATE_SIZE];
  http_date_write(out, -1);
  assert_string_equal(out, table[0].text);
  http_date_write(out, INT64_MAX);
  assert_string_equal(out, table[5].text);
}

/* Against the C library, over four hundred years. */
static void every_day(void **state) {
  (void)state;
  for (time_t s = 43210; s < (time_t)86400 * 366 * 430; s += 86400) {
    char ours[HTTP_DATE_SIZE], theirs[64];
    struct tm tm;
    int64_t back;
    gmtime_r(&s, &tm);
    strftime(theirs, sizeof theirs, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    http_date_write(ours, s);
    if (strcmp(ours, theirs) || !http_date_read(span_of(ours), &back) || back != s)
      fail_msg("%s, not %s", ours, theirs);
  }
}

static void wrong(void **state) {
  (void)state;
  static const char *const table[] = {"",
                                      "Sun, 06 Nov 1994 08:49:37",
                                      "Sun, 06 Nov 1994 08:49:37 UTC",
                                      "Mon, 06 Nov 1994 08:49:37 GMT",
                                      "Sun, 06 nov 1994 08:49:37 GMT",
                                      "Sun, 31 Nov 1994 08:49:37 GMT",
                                      "Sun, 00 Nov 1994 08:49:37 GMT",
                                      "Sun, 06 Nov 1994 24:49:37 GMT",
                                      "Sun, 06 Nov 1994 08:60:37 GMT",
                                      "Sun, 06 Nov 1994 08:49:61 GMT",
                                      "Sun, 06 Nov 1994 08-49-37 GMT",
                                      "Sun, +6 Nov 1994 08:49:37 GMT",
                                      "Sun, 06 Nov 1969 08:49:37 GMT",
                                      "Sunday, 06-Nov-94 08:49:37 GMT",
                                      "Sun Nov  6 08:49:37 1994"};
  const char *good = "Sun, 06 Nov 1994 08:49:37 GMT";
  int64_t s;
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (http_date_read(span_of(table[i]), &s))
      fail_msg("taken: %s", table[i]);
  for (size_t n = 0; n < strlen(good); n++)
    assert_false(http_date_read((struct span){good, n}, &s));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(known), cmocka_unit_test(every_day),
                                     cmocka_unit_test(wrong)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
