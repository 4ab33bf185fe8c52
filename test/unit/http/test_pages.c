#include "rig.h"

#include "http/pages.h"

static const enum page all[] = {PAGE_BAD_REQUEST,     PAGE_BAD_HOST,    PAGE_BAD_BODY,      PAGE_NO_TUNNEL,
                                PAGE_GONE_TUNNEL,     PAGE_SLOW_HEAD,   PAGE_MISDIRECTED,   PAGE_INTERNAL,
                                PAGE_HEAD_TOO_LARGE,  PAGE_UNSUPPORTED, PAGE_LOCAL_REFUSED, PAGE_LOCAL_CLOSED,
                                PAGE_LOCAL_BAD,       PAGE_LINK_LOST,   PAGE_NO_LINK,       PAGE_OVERLOADED,
                                PAGE_LOCAL_UNTRUSTED, PAGE_LOCAL_TLS,   PAGE_LOCAL_TIMEOUT, PAGE_VERSION,
                                PAGE_TRUNCATED,       PAGE_VISITOR_GONE};

static void catalogue(void **state) {
  (void)state;
  for (size_t i = 0; i < ROWS(all); i++) {
    const struct page_entry *e = page_find((unsigned)all[i]);
    assert_non_null(e);
    assert_int_equal(e->page, all[i]);
    assert_int_equal(e->status, (unsigned)all[i] / 10); /* the code tells the status */
    assert_true(strlen(e->title) > 3 && strlen(e->cause) > 9 && strlen(e->remedy) > 9);
    assert_null(strpbrk(e->title, "<>&\"\\")); /* written as they are */
    assert_null(strpbrk(e->cause, "<>&\"\\"));
    assert_null(strpbrk(e->remedy, "<>&\"\\"));
  }
  assert_null(page_find(0));
  assert_null(page_find(1234));
}

static void rendered(void **state) {
  (void)state;
  char out[PAGE_BYTES], code[16], longest[1000];
  memset(longest, '<', sizeof longest - 1);
  longest[sizeof longest - 1] = 0;
  for (size_t i = 0; i < ROWS(all); i++)
    for (int json = 0; json < 2; json++) {
      size_t n = page_render(all[i], json, longest, out, sizeof out);
      assert_true(n < sizeof out - 1); /* whole, whatever the detail is */
      assert_int_equal(out[n], 0);
      assert_int_equal(strlen(out), n);
      str_fmt(code, sizeof code, "BEAM-%d", all[i]);
      assert_non_null(strstr(out, code));
      assert_non_null(strstr(out, page_find(all[i])->cause));
      assert_non_null(strstr(out, json ? "}}\n" : "</html>\n"));
      assert_null(strstr(out, "http://")); /* nothing is fetched from elsewhere */
      assert_null(strstr(out, "src="));
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
      cmocka_unit_test(catalogue),
      cmocka_unit_test(rendered),
      cmocka_unit_test(choice),
      cmocka_unit_test(answered),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
