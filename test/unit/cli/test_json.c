/* JSON lines of the command: what it writes any reader takes, and what it reads may be cut anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../../cli/json.c"

static void strings_are_escaped(void **state) {
  (void)state;
  static const struct {
    const char *in, *out;
  } t[] = {
      {"", "\"\""},
      {"plain", "\"plain\""},
      {"a\"b\\c/", "\"a\\\"b\\\\c/\""},
      {"line\nnext\ttab\r", "\"line\\nnext\\u0009tab\\u000d\""},
      {"\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\""},
      {"gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\""},
      {"\xe2\x98\x83\xf0\x9f\x94\x97", "\"\xe2\x98\x83\xf0\x9f\x94\x97\""},
      {"\xff", "\"\\ufffd\""},                                  /* no UTF-8 */
      {"\xc0\xaf", "\"\\ufffd\\ufffd\""},                       /* an overlong slash */
      {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},            /* a surrogate */
      {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""}, /* beyond Unicode */
      {"cut\xe2\x98", "\"cut\\ufffd\\ufffd\""},
  };
  for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
    struct json j;
    char want[128], back[128];
    json_open(&j);
    json_text(&j, "k", t[i].in);
    json_close(&j);
    assert_false(j.broken);
    snprintf(want, sizeof want, "{\"k\":%s}\n", t[i].out);
    assert_string_equal(j.text, want);
    assert_true(json_get(j.text, "k", back, sizeof back));
    if (!strstr(t[i].out, "fffd"))
      assert_string_equal(back, t[i].in);
    json_free(&j);
  }
}

static void objects_have_every_kind(void **state) {
  (void)state;
  struct json j;
  char out[64];
  const char *const list[] = {"a", "b]\"", "c"};
  json_open(&j);
  json_text(&j, "none", NULL);
  json_strings(&j, "list", list, 3);
  json_whole(&j, "whole", UINT64_MAX);
  json_decimal(&j, "decimal", 1.25);
  json_decimal(&j, "nonsense", -1.0 / 0.0);
  json_flag(&j, "yes", true);
  json_flag(&j, "no", false);
  json_text(&j, "last", "x");
  json_close(&j);
  assert_string_equal(
      j.text,
      "{\"none\":null,\"list\":[\"a\",\"b]\\\"\",\"c\"],\"whole\":18446744073709551615,\"decimal\":1.250,"
      "\"nonsense\":0.000,\"yes\":true,\"no\":false,\"last\":\"x\"}\n");
  assert_false(json_get(j.text, "none", out, sizeof out));
  assert_false(json_get(j.text, "absent", out, sizeof out));
  assert_true(json_get(j.text, "whole", out, sizeof out));
  assert_string_equal(out, "18446744073709551615");
  assert_true(json_get(j.text, "no", out, sizeof out));
  assert_string_equal(out, "false");
  assert_true(json_get(j.text, "last", out, sizeof out));
  assert_string_equal(out, "x");
  assert_false(json_get(j.text, "whole", out, 20)); /* one byte too small */
  json_free(&j);
}

static void lists_of_objects(void **state) {
  (void)state;
  char out[32];
  struct json j;
  json_open(&j);
  json_whole(&j, "n", 1);
  json_list(&j, "empty");
  json_list_end(&j);
  json_list(&j, "links");
  for (int i = 0; i < 2; i++) {
    json_item(&j);
    json_text(&j, "relay", i ? "b}]" : "a");
    json_whole(&j, "n", 10 + (unsigned)i);
    json_item_end(&j);
  }
  json_list_end(&j);
  json_text(&j, "last", "x");
  json_close(&j);
  assert_string_equal(j.text, "{\"n\":1,\"empty\":[],\"links\":[{\"relay\":\"a\",\"n\":10},"
                              "{\"relay\":\"b}]\",\"n\":11}],\"last\":\"x\"}\n");
  const char *item = json_get_item(j.text, "links", 1);
  assert_non_null(item);
  assert_true(json_get(item, "relay", out, sizeof out));
  assert_string_equal(out, "b}]");
  assert_true(json_get(item, "n", out, sizeof out));
  assert_string_equal(out, "11");
  assert_null(json_get_item(j.text, "links", 2));
  assert_null(json_get_item(j.text, "empty", 0));
  assert_null(json_get_item(j.text, "n", 0));
  assert_null(json_get_item(j.text, "absent", 0));
  assert_true(json_get(j.text, "last", out, sizeof out));
  assert_string_equal(out, "x");
  assert_false(json_get(j.text, "links", out, sizeof out));
  for (size_t n = 0; n < j.length; n++) { /* cut anywhere */
    char *cut = malloc(n + 1);
    memcpy(cut, j.text, n);
    cut[n] = 0;
    const char *at = json_get_item(cut, "links", 1);
    if (at && json_get(at, "n", out, sizeof out))
      assert_true(strcmp(out, "11") == 0 || strcmp(out, "1") == 0);
    free(cut);
  }
  json_free(&j);
}

/* Cut anywhere, nothing is read beyond the end, and a value is whole or not there. */
static void a_cut_line_is_no_answer(void **state) {
  (void)state;
  static const char whole[] = " { \"cmd\" : \"st\\u00fcop\\\\\" , \"list\":[ \"a\", 1 ], \"n\": 17 } ";
  char out[32];
  assert_true(json_get(whole, "cmd", out, sizeof out));
  assert_string_equal(out, "st\xc3\xbcop\\");
  for (size_t n = 0; n < sizeof whole - 1; n++) {
    char *cut = malloc(n + 1);
    memcpy(cut, whole, n);
    cut[n] = 0;
    if (json_get(cut, "cmd", out, sizeof out))
      assert_string_equal(out, "st\xc3\xbcop\\");
    if (json_get(cut, "n", out, sizeof out))
      assert_true(strcmp(out, "17") == 0 || strcmp(out, "1") == 0);
    free(cut);
  }
  static const char *const bad[] = {"",
                                    "x",
                                    "[]",
                                    "{cmd:1}",
                                    "{\"cmd\"}",
                                    "{\"cmd\":}",
                                    "{\"cmd\":\"\\x\"}",
                                    "{\"cmd\":\"\\u12g4\"}",
                                    "{\"a\":1 \"cmd\":2}"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_false(json_get(bad[i], "cmd", out, sizeof out));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(strings_are_escaped),
      cmocka_unit_test(objects_have_every_kind),
      cmocka_unit_test(lists_of_objects),
      cmocka_unit_test(a_cut_line_is_no_answer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
