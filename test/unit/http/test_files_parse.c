#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "http/files_parse.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))

static void paths(void **state) {
  (void)state;
  static const struct {
    const char *target, *path; /* NULL: refused */
    bool dir;
  } table[] = {
      {"/", "", true},
      {"/?a=b", "", true},
      {"/a", "a", false},
      {"/a/", "a", true},
      {"/a/b.html?x=/../", "a/b.html", false},
      {"/a#b", "a", false},
      {"/a%20b/%c3%a4", "a b/\xc3\xa4", false},
      {"/%61", "a", false},
      {"/a%3fb", "a?b", false},
      {"/a..b/c.", "a..b/c.", false},
      {"/.well-known/acme", ".well-known/acme", false},
      {"/.well-known/", ".well-known", true},
      {"", NULL, false},
      {"*", NULL, false},
      {"a", NULL, false},
      {"http://h/a", NULL, false},
      {"//", NULL, false},
      {"//evil.test/", NULL, false},
      {"/a//b", NULL, false},
      {"/.", NULL, false},
      {"/..", NULL, false},
      {"/../", NULL, false},
      {"/a/../b", NULL, false},
      {"/a/./b", NULL, false},
      {"/%2e%2e/x", NULL, false},
      {"/%2E/x", NULL, false},
      {"/..%2fx", NULL, false},
      {"/a%2fb", NULL, false},
      {"/a%2Fb", NULL, false},
      {"/a%00b", NULL, false},
      {"/a%0ab", NULL, false},
      {"/a%7f", NULL, false},
      {"/%", NULL, false},
      {"/%4", NULL, false},
      {"/%zz", NULL, false},
      {"/.git/config", NULL, false},
      {"/.env", NULL, false},
      {"/a/.env", NULL, false},
      {"/%2eenv", NULL, false},
      {"/a/.well-known/x", NULL, false},
      {"/.well-known/.x", NULL, false},
      {"/.well-knownx", NULL, false},
  };
  char out[FILES_PATH_MAX];
  bool dir;
  for (size_t i = 0; i < ROWS(table); i++) {
    bool ok = files_path(span_of(table[i].target), out, &dir);
    if (ok != (table[i].path != NULL))
      fail_msg("%s: %d", table[i].target, ok);
    if (!ok)
      continue;
    assert_string_equal(out, table[i].path);
    assert_int_equal(dir, table[i].dir);
  }
  for (size_t n = 1; n < 3; n++) { /* the longest that fits, and one more */
    char *target = malloc(FILES_PATH_MAX + 8);
    memset(target, 'x', FILES_PATH_MAX + 8);
    target[0] = '/';
    assert_int_equal(files_path((struct span){target, FILES_PATH_MAX - 1 + n}, out, &dir), n == 1);
    free(target);
  }
  const char *whole = "/a%20b/c%C3%A4/d?e"; /* every truncation, with the sanitizers' eye on the end */
  for (size_t n = 0; n <= strlen(whole); n++) {
    char *copy = malloc(n + 1);
    memcpy(copy, whole, n);
    files_path((struct span){copy, n}, out, &dir);
    free(copy);
  }
}

static void ranges(void **state) {
  (void)state;
  static const struct {
    const char *value;
    uint64_t size;
    enum files_range what;
    uint64_t first, n;
  } table[] = {
      {"bytes=0-0", 10, FILES_PART, 0, 1},
      {"bytes=0-9", 10, FILES_PART, 0, 10},
      {"bytes=2-5", 10, FILES_PART, 2, 4},
      {"bytes=5-", 10, FILES_PART, 5, 5},
      {"bytes=5-100", 10, FILES_PART, 5, 5},
      {"bytes=9-18446744073709551615", 10, FILES_PART, 9, 1},
      {"bytes=0-99999999999999999999999", 10, FILES_PART, 0, 10},
      {"bytes=-3", 10, FILES_PART, 7, 3},
      {"bytes=-10", 10, FILES_PART, 0, 10},
      {"bytes=-99999999999999999999999", 10, FILES_PART, 0, 10},
      {"Bytes= 2-5 ", 10, FILES_PART, 2, 4},
      {"bytes=10-", 10, FILES_NO_PART, 0, 0},
      {"bytes=10-20", 10, FILES_NO_PART, 0, 0},
      {"bytes=99999999999999999999999-", 10, FILES_NO_PART, 0, 0},
      {"bytes=-0", 10, FILES_NO_PART, 0, 0},
      {"bytes=0-", 0, FILES_NO_PART, 0, 0},
      {"bytes=-5", 0, FILES_NO_PART, 0, 0},
      {"bytes=5-2", 10, FILES_WHOLE, 0, 0},
      {"bytes=0-1,3-4", 10, FILES_WHOLE, 0, 0},
      {"bytes=", 10, FILES_WHOLE, 0, 0},
      {"bytes=-", 10, FILES_WHOLE, 0, 0},
      {"bytes=a-b", 10, FILES_WHOLE, 0, 0},
      {"bytes=0-1-2", 10, FILES_WHOLE, 0, 0},
      {"bytes=+1-2", 10, FILES_WHOLE, 0, 0},
      {"bytes=1 -2", 10, FILES_WHOLE, 0, 0},
      {"bytes 0-1", 10, FILES_WHOLE, 0, 0},
      {"rows=0-1", 10, FILES_WHOLE, 0, 0},
      {"", 10, FILES_WHOLE, 0, 0},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    uint64_t first = 0, n = 0;
    enum files_range what = files_range(span_of(table[i].value), table[i].size, &first, &n);
    if (what != table[i].what)
      fail_msg("%s: %d", table[i].value, (int)what);
    if (what != FILES_PART)
      continue;
    assert_int_equal(first, table[i].first);
    assert_int_equal(n, table[i].n);
  }
}

static void tags(void **state) {
  (void)state;
  static const struct {
    const char *list, *tag;
    bool weakly, strongly;
  } table[] = {
      {"\"a\"", "\"a\"", true, true},
      {"W/\"a\"", "\"a\"", true, false},
      {"\"a\"", "W/\"a\"", true, false},
      {"W/\"a\"", "W/\"a\"", true, false},
      {"*", "\"a\"", true, true},
      {" * ", "\"a\"", true, true},
      {"\"b\", \"a\"", "\"a\"", true, true},
      {"\"b\",W/\"c\" , W/\"a\"", "\"a\"", true, false},
      {", ,\"a\"", "\"a\"", true, true},
      {"\"a,b\"", "\"a\"", false, false},
      {"\"b, \"a\"", "\"a\"", false, false},
      {"a", "\"a\"", false, false},
      {"\"a", "\"a\"", false, false},
      {"W/", "\"a\"", false, false},
      {"W", "\"a\"", false, false},
      {"", "\"a\"", false, false},
      {"\"\"", "\"a\"", false, false},
      {"*, \"b\"", "\"a\"", false, false},
  };
  for (size_t i = 0; i < ROWS(table); i++)
    for (int strong = 0; strong < 2; strong++)
      if (files_tag_in(span_of(table[i].list), span_of(table[i].tag), strong) !=
          (strong ? table[i].strongly : table[i].weakly))
        fail_msg("%s in %s strong=%d", table[i].tag, table[i].list, strong);
}

static void types(void **state) {
  (void)state;
  static const char *const table[][2] = {{"index.html", "text/html; charset=utf-8"},
                                         {"a/b.JS", "text/javascript; charset=utf-8"},
                                         {"a.tar.gz", "application/gzip"},
                                         {"a.b/c", "application/octet-stream"},
                                         {"html", "application/octet-stream"},
                                         {"a.", "application/octet-stream"},
                                         {"a.wasm", "application/wasm"}};
  for (size_t i = 0; i < ROWS(table); i++)
    assert_string_equal(files_type(table[i][0]), table[i][1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(paths), cmocka_unit_test(ranges),
                                     cmocka_unit_test(tags), cmocka_unit_test(types)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
