#include "rig.h"

#include "base/err.h"
#include "http/pages.h"

/* Every code that a page could have; page_find says which of them exist. */
enum { FIRST = 4000, LAST = 5999 };

static void catalogue(void **state) {
  (void)state;
  unsigned n = 0;
  for (unsigned code = FIRST; code <= LAST; code++) {
    const struct page_entry *e = page_find(code);
    if (!e)
      continue;
    n++;
    assert_int_equal(e->page, code);
    assert_int_equal(e->status, code / 10); /* the code tells the status */
    assert_true(strlen(e->title) > 3 && strlen(e->cause) > 9 && strlen(e->remedy) > 9);
    assert_null(strpbrk(e->title, "<>&\"\\")); /* written as they are */
    assert_null(strpbrk(e->cause, "<>&\"\\"));
    assert_null(strpbrk(e->remedy, "<>&\"\\"));
  }
  assert_true(n > 20);
  assert_null(page_find(0));
  assert_null(page_find(1234));
}

static void rendered(void **state) {
  (void)state;
  char out[PAGE_BYTES], code[16], longest[1000];
  memset(longest, '<', sizeof longest - 1);
  longest[sizeof longest - 1] = 0;
  for (unsigned i = FIRST; i <= LAST; i++)
    for (int json = 0; page_find(i) && json < 2; json++) {
      size_t n = page_render((enum page)i, json, longest, out, sizeof out);
      assert_true(n < sizeof out - 1); /* whole, whatever the detail is */
      assert_int_equal(out[n], 0);
      assert_int_equal(strlen(out), n);
      str_fmt(code, sizeof code, "BEAM-%u", i);
      assert_non_null(strstr(out, code));
      assert_non_null(strstr(out, page_find(i)->cause));
      assert_non_null(strstr(out, json ? "}}\n" : "</html>\n"));
      static const char *const never[] = {
          "http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link"};
      for (size_t k = 0; k < ROWS(never); k++)
        assert_null(strstr(out, never[k])); /* nothing is fetched from elsewhere */
      if (!json)
        assert_non_null(strstr(out, "prefers-color-scheme:dark"));
    }
  page_render(PAGE_LOCAL_REFUSED, false, "<b>\"&'", out, sizeof out);
  assert_non_null(strstr(out, "<p>&#60;b&#62;&#34;&#38;&#39;</p>"));
  page_render(PAGE_LOCAL_REFUSED, true, "a\"\\\n\x1b", out, sizeof out);
  assert_non_null(strstr(out, "\"detail\":\"a\\u0022\\u005c\\u000a\\u001b\""));
  assert_int_equal(page_render(PAGE_LOCAL_REFUSED, true, NULL, out, 1), 0);
  page_render((enum page)7777, true, NULL, out, sizeof out);
  assert_non_null(strstr(out, "BEAM-5001"));
}

static void choice(void **state) {
  (void)state;
  static const struct {
    const char *accept;
    bool json;
  } table[] = {
      {NULL, false},
      {"*/*", false},
      {"application/json", true},
      {"Application/JSON; q=0.9, */*", true},
      {"application/problem+json", true},
      {"text/html,application/xhtml+xml,application/json;q=0.9", false},
      {"text/plain", false},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_field f = {SPAN("accept"), span_of(table[i].accept)};
    struct http_head h = {.fields = &f, .fields_n = table[i].accept != NULL};
    assert_int_equal(page_wants_json(&h), table[i].json);
  }
}

/* --- lib/http/ERRORS.md: every code, with its cause and remedy. BEAM_WRITE=1 writes it. --- */

#define DOC "lib/http/ERRORS.md"

static char *put(char *at, const char *format, ...) __attribute__((format(printf, 2, 3)));
static char *put(char *at, const char *format, ...) {
  va_list args;
  va_start(args, format);
  at += vsprintf(at, format, args);
  va_end(args);
  return at;
}

static void make_doc(char *at) {
  at = put(
      at,
      "# Codes\n\nEvery code that Beam shows. They never change their meaning. This page is written from "
      "`pages.c` and `base/err.c` "
      "(`BEAM_WRITE=1 build/test/unit/http/test_pages`), and a test fails when it is not what they say.\n\n"
      "## What a visitor is shown\n\nThe first three digits are the HTTP status. The code is in the page, in "
      "its JSON (`error.code`) and in the "
      "response's `Beam-Error` field; `beam_relay_metrics()` counts pages by code.\n\n"
      "| code | title | cause | what to do |\n|---|---|---|---|\n");
  for (unsigned code = FIRST; code <= LAST; code++) {
    const struct page_entry *e = page_find(code);
    if (e)
      at = put(at, "| BEAM-%u | %s | %s | %s |\n", code, e->title, e->cause, e->remedy);
  }
  at = put(at, "\n## What the programs and the library say\n\n| code | what | what to do |\n|---|---|---|\n");
  for (int err = -1; err > -1000; err--) {
    const struct err_entry *e = err_find(err);
    if (e->err == err)
      at = put(at, "| %s | %s | %s |\n", e->code, e->what, e->hint);
  }
}

static void documented(void **state) {
  (void)state;
  static char want[1 << 16], have[1 << 16];
  make_doc(want);
  FILE *f = fopen(DOC, getenv("BEAM_WRITE") ? "w+" : "r");
  if (!f)
    fail_msg("%s: not found; run this from the root of the sources", DOC);
  if (getenv("BEAM_WRITE")) {
    fputs(want, f);
    rewind(f);
  }
  have[fread(have, 1, sizeof have - 1, f)] = 0;
  fclose(f);
  if (strcmp(want, have) != 0)
    fail_msg("%s is old: BEAM_WRITE=1 build/test/unit/http/test_pages", DOC);
}

/* As a visitor gets it: nothing of the request comes back. */
static void answered(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct rig *r = rig_new(way);
    r->answer_with = PAGE_NO_LINK;
    peer_say(&r->visitor,
             "GET /<script>evil HTTP/1.1\r\nHost: evil.test\r\nX: evil\r\nAccept: application/json\r\n\r\n");
    rig_run(r);
    const char *got = peer_text(&r->visitor);
    assert_memory_equal(got, "HTTP/1.1 503 Service Unavailable\r\n", 34);
    assert_non_null(strstr(got, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(got, "\r\nCache-Control: no-store\r\n"));
    assert_non_null(strstr(got, "\r\nRetry-After: 2\r\n"));
    assert_null(strstr(got, "evil"));
    size_t length = strtoul(strstr(got, "Content-Length: ") + 16, NULL, 10);
    assert_int_equal(strlen(strstr(got, "\r\n\r\n") + 4), length);
    evbuffer_drain(r->visitor.got, peer_length(&r->visitor));
    peer_say(&r->visitor, "HEAD / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    rig_run(r);
    got = peer_text(&r->visitor);
    assert_non_null(strstr(got, "\r\nContent-Type: text/html; charset=utf-8\r\n"));
    assert_string_equal(strstr(got, "\r\n\r\n"), "\r\n\r\n");
    assert_non_null(r->front);
    rig_free(r);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(catalogue),  cmocka_unit_test(rendered), cmocka_unit_test(choice),
      cmocka_unit_test(documented), cmocka_unit_test(answered),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
