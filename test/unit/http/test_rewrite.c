#include "rig.h"

#include "http/rewrite.h"

static struct rewrite_origins origins(const char *authority, const char *local) {
  struct rewrite_origins o;
  char origin[600];
  str_fmt(origin, sizeof origin, strstr(local, "://") ? "%s" : "http://%s", local);
  rewrite_origins(&o, SPAN("https"), span_of(authority), origin);
  return o;
}

static void names(void **state) {
  (void)state;
  struct rewrite_origins o = origins("shop.t.test:8443", "localhost:3000");
  assert_string_equal(o.public_origin, "https://shop.t.test:8443");
  assert_string_equal(o.local_origin, "http://localhost:3000");
  o = origins("shop.t.test:443", "localhost:80"); /* as browsers write it */
  assert_string_equal(o.public_origin, "https://shop.t.test");
  assert_string_equal(o.local_origin, "http://localhost");
  char much[600];
  memset(much, 'a', sizeof much - 1);
  much[sizeof much - 1] = 0;
  o = origins(much, "localhost");
  assert_string_equal(o.public_origin, "");
}

static void requests(void **state) {
  (void)state;
  static const struct {
    const char *name, *value, *want; /* want NULL: stays */
  } table[] = {
      {"Origin", "https://shop.t.test:8443", "http://localhost:3000"},
      {"origin", "HTTPS://SHOP.t.test:8443", "http://localhost:3000"},
      {"Origin", "https://shop.t.test", NULL},
      {"Origin", "https://shop.t.test:84430", NULL},
      {"Origin", "https://evil.test", NULL},
      {"Origin", "null", NULL},
      {"Referer", "https://shop.t.test:8443/a?b", "http://localhost:3000/a?b"},
      {"Referer", "https://shop.t.test:8443", "http://localhost:3000"},
      {"Referer", "https://shop.t.test:84431/a", NULL},
      {"Referer", "https://shop.t.test:8443.evil.test/", NULL},
      {"X", "https://shop.t.test:8443", NULL},
  };
  struct rewrite_origins o = origins("shop.t.test:8443", "localhost:3000");
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_field f = {span_of(table[i].name), span_of(table[i].value)};
    struct http_head h = {.method = SPAN("GET"), .fields = &f, .fields_n = 1};
    char *text;
    assert_int_equal(rewrite_request(&o, &h, &text), 0);
    struct span want = span_of(table[i].want ? table[i].want : table[i].value);
    if (!span_eq(f.value, want))
      fail_msg("%s: %s became %.*s", table[i].name, table[i].value, SPAN_FMT(f.value));
    assert_true(table[i].want ? text != NULL : text == NULL);
    free(text);
  }
}

/* Who compares Origin with X-Forwarded-Host must find them equal; who asks where the visitor is gets the truth when there is no such check. */
static void forwarded_host(void **state) {
  (void)state;
  static const struct {
    const char *origin, *want;
  } table[] = {
      {"https://shop.t.test:8443", "localhost:3000"},
      {"https://evil.test", "shop.t.test:8443"},
      {"null", "shop.t.test:8443"},
      {"", "shop.t.test:8443"},
  };
  struct rewrite_origins o = origins("shop.t.test:8443", "localhost:3000");
  for (size_t i = 0; i < ROWS(table); i++)
    for (int turn = 0; turn < 2; turn++) { /* whichever comes first */
      struct http_field f[3] = {{SPAN("Referer"), SPAN("https://shop.t.test:8443/a")}};
      struct http_field *origin = &f[1 + turn], *host = &f[2 - turn];
      *origin = (struct http_field){SPAN("Origin"), span_of(table[i].origin)};
      *host = (struct http_field){SPAN("X-Forwarded-Host"), SPAN("shop.t.test:8443")};
      struct http_head h = {.method = SPAN("POST"), .fields = f, .fields_n = 3};
      char *text;
      assert_int_equal(rewrite_request(&o, &h, &text), 0);
      assert_true(span_eq(host->value, span_of(table[i].want)));
      assert_true(span_eq(f[0].value, SPAN("http://localhost:3000/a")));
      free(text);
    }
  char much[600];
  memset(much, 'a', sizeof much - 1);
  much[sizeof much - 1] = 0;
  o = origins(much, "localhost"); /* nothing is its origin, an empty Origin least of all */
  struct http_field f[2] = {{SPAN("Origin"), SPAN("")}, {SPAN("X-Forwarded-Host"), SPAN("x")}};
  struct http_head h = {.method = SPAN("POST"), .fields = f, .fields_n = 2};
  char *text;
  assert_int_equal(rewrite_request(&o, &h, &text), 0);
  assert_null(text);
}

static void responses(void **state) {
  (void)state;
  static const struct {
    const char *name, *value, *want;
  } table[] = {
      {"Location", "http://localhost:3000/a", "https://shop.t.test:8443/a"},
      {"Location", "http://localhost:3000", "https://shop.t.test:8443"},
      {"Location", "http://127.0.0.1:3000/", "https://shop.t.test:8443/"},
      {"Location", "http://[::1]:3000/?x", "https://shop.t.test:8443/?x"},
      {"Location", "http://0.0.0.0:3000/", "https://shop.t.test:8443/"},
      {"Location", "https://localhost:3000/a",
       "https://shop.t.test:8443/a"}, /* of Host and X-Forwarded-Proto */
      {"Location", "https://127.0.0.1:3000", "https://shop.t.test:8443"},
      {"Location", "https://localhost:30001/", NULL},
      {"Location", "https://localhost/", NULL},
      {"Location", "https://", NULL},
      {"Location", "ftp://localhost:3000/", NULL},
      {"Location", "localhost:3000/", NULL},
      {"Location", "http://localhost:30001/", NULL},
      {"Location", "http://localhost/", NULL},
      {"Location", "/a", NULL},
      {"Location", "https://example.com/?to=http://localhost:3000/", NULL},
      {"Content-Location", "http://localhost:3000/a", "https://shop.t.test:8443/a"},
      {"Access-Control-Allow-Origin", "http://localhost:3000", "https://shop.t.test:8443"},
      {"Access-Control-Allow-Origin", "*", NULL},
      {"Set-Cookie", "a=b; Domain=localhost; Path=/", "a=b; Path=/"},
      {"Set-Cookie", "a=b; Path=/; domain = .localhost", "a=b; Path=/"},
      {"Set-Cookie", "a=b; Domain=127.0.0.1", "a=b"},
      {"Set-Cookie", "a=b; Domain=shop.t.test", NULL},
      {"Set-Cookie", "domain=localhost; Path=/", NULL},
      {"X", "http://localhost:3000/", NULL},
  };
  struct rewrite_origins o = origins("shop.t.test:8443", "localhost:3000");
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_field f[2] = {{span_of(table[i].name), span_of(table[i].value)}, {SPAN("Same"), SPAN("x")}};
    struct http_head h = {.status = 302, .fields = f, .fields_n = 2}, out = {0};
    int what = rewrite_response(&o, &h, &out);
    assert_int_equal(what, table[i].want != NULL);
    if (what && !span_eq(out.fields[0].value, span_of(table[i].want)))
      fail_msg("%s: %s became %.*s", table[i].name, table[i].value, SPAN_FMT(out.fields[0].value));
    if (what)
      assert_true(span_eq(out.fields[1].value, SPAN("x")));
    http_head_free(&out);
  }
}

static void shared_cookies(void **state) {
  (void)state;
  static const struct {
    const char *value;
    bool gone;
  } table[] = {
      {"a=b", false},
      {"a=b; Path=/; Secure", false},
      {"a=b; Domain=shop.t.test", false},
      {"a=b; Domain=t.test", true},
      {"a=b; Domain=.t.test", true},
      {"a=b; DOMAIN=T.TEST; Path=/", true},
      {"a=b; Domain=test", true},
      {"a=b; Domain=xt.test", false},
      {"a=b; Domain=t.test; Domain=shop.t.test", false}, /* the last one counts */
      {"a=b; Domain=shop.t.test; Domain=t.test", true},
      {"a=b;Domain = t.test ;", true},
      {"a=b; Domain", false},
      {"a=b; Domain=", false},
      {"Domain=t.test", false}, /* the cookie's own name */
      {"", false},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_field f[3] = {
        {SPAN("A"), SPAN("1")}, {SPAN("set-cookie"), span_of(table[i].value)}, {SPAN("B"), SPAN("2")}};
    struct http_head h = {.status = 200, .fields = f, .fields_n = 3}, out = {0};
    int what = rewrite_edge(&(struct rewrite_edge){.base = "t.test"}, &h, &out);
    if (what != table[i].gone)
      fail_msg("%s: %d", table[i].value, what);
    if (what) {
      assert_int_equal(out.fields_n, 2);
      assert_true(span_eq(out.fields[1].name, SPAN("B")));
    }
    http_head_free(&out);
  }
}

static void alt_svc(void **state) {
  (void)state;
  struct rewrite_edge e = {.base = "t.test", .alt = "h3=\":8443\"; ma=86400"};
  struct http_field f[2] = {{SPAN("Alt-Svc"), SPAN("h3=\":1\"")}, {SPAN("A"), SPAN("1")}};
  struct http_head h = {.status = 200, .fields = f, .fields_n = 2}, out = {0};
  assert_int_equal(rewrite_edge(&e, &h, &out), 1);
  assert_int_equal(out.fields_n, 2);
  assert_true(span_eq(out.fields[0].name, SPAN("A")));
  assert_true(span_eq(out.fields[1].value, SPAN("h3=\":8443\"; ma=86400")));
  http_head_free(&out);
}

/* The whole way: what the service says of itself comes back as the visitor's name; the rest of the exchange is as it was. */
static void on_its_way(void **state) {
  (void)state;
  struct rig *r = rig_new(FILTERED);
  peer_say(&r->visitor, "POST / HTTP/1.1\r\nHost: a.t.test\r\nContent-Length: 3\r\n\r\nabc");
  rig_run(r);
  assert_non_null(strstr(peer_text(&r->service[0]), "\r\n\r\nabc"));
  peer_say(
      &r->service[0],
      "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Domain=t.test\r\nSet-Cookie: c=d\r\nContent-Length: 2\r\n\r\nok");
  rig_run(r);
  assert_string_equal(peer_text(&r->visitor),
                      "HTTP/1.1 200 OK\r\nSet-Cookie: c=d\r\nContent-Length: 2\r\n\r\nok");
  assert_int_equal(r->records, 1);
  rig_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names),      cmocka_unit_test(requests),       cmocka_unit_test(forwarded_host),
      cmocka_unit_test(responses),  cmocka_unit_test(shared_cookies), cmocka_unit_test(alt_svc),
      cmocka_unit_test(on_its_way),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
