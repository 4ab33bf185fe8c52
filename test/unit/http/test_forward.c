#include "rig.h"

static struct http_head head_of(struct http_field *fields, const char *const *text, size_t n) {
  for (size_t i = 0; i < n; i++)
    fields[i] = (struct http_field){span_of(text[2 * i]), span_of(text[2 * i + 1])};
  return (struct http_head){.minor = 1,
                            .method = SPAN("GET"),
                            .authority = SPAN("t.test"),
                            .target = SPAN("/"),
                            .fields = fields,
                            .fields_n = n};
}

static const char *names(const struct http_head *h) {
  static char out[1024];
  size_t n = 0;
  out[0] = 0;
  for (size_t i = 0; i < h->fields_n; i++)
    n += (size_t)snprintf(out + n, sizeof out - n, "%s%.*s=%.*s", i ? " " : "", SPAN_FMT(h->fields[i].name),
                          SPAN_FMT(h->fields[i].value));
  return out;
}

static void filtered(void **state) {
  (void)state;
  static const struct {
    const char *in[12];
    bool upgrade;
    const char *out;
  } table[] = {
      {{"A", "1", "B", "2"}, false, "A=1 B=2"},
      {{"Connection", "close", "A", "1"}, false, "A=1"},
      {{"A", "1", "connection", "a"}, false, ""},
      {{"Connection", " x ,, A\t", "a", "1", "B", "2"}, false, "B=2"},
      {{"Connection", "a", "Connection", "b", "A", "1", "B", "2"}, false, ""},
      {{"TE", "trailers", "Keep-Alive", "1", "Proxy-Connection", "x", "Transfer-Encoding", "chunked"},
       false,
       ""},
      {{"Upgrade", "ws", "A", "1"}, false, "A=1"},
      {{"Upgrade", "ws", "A", "1", "Connection", "upgrade"}, true, "Upgrade=ws A=1"},
      /* what routes, frames or proves is not to be stripped */
      {{"Connection", "Host, Content-Length, Authorization, Cookie, Origin, Content-Type", "Authorization",
        "b", "Cookie", "c", "Host", "h", "Content-Length", "1"},
       false,
       "Authorization=b Cookie=c Host=h Content-Length=1"},
      {{"Trailer", "T", "Via", "x"}, false, "Trailer=T Via=x"},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_field fields[6], out[6];
    size_t n = 0;
    while (n < 6 && table[i].in[2 * n])
      n++;
    struct http_head h = head_of(fields, table[i].in, n), got = h;
    got.fields = out;
    got.fields_n = forward_filter(&h, out, table[i].upgrade);
    assert_string_equal(names(&got), table[i].out);
    h.fields_n = forward_filter(&h, h.fields, table[i].upgrade); /* in place */
    assert_string_equal(names(&h), table[i].out);
  }
}

#define OURS                                                                                                 \
  "X-Forwarded-For=192.0.2.7 X-Forwarded-Proto=https X-Forwarded-Host=t.test X-Real-IP=192.0.2.7 "           \
  "Forwarded=for=192.0.2.7;proto=https;host=\"t.test\""

static void requests(void **state) {
  (void)state;
  static const struct {
    const char *in[12];
    const char *out;
  } table[] = {
      {{"A", "1"}, "A=1 " OURS},
      {{"Host", "t.test", "A", "1"}, "A=1 " OURS},
      {{"x-forwarded-for", "6.6.6.6", "X-Forwarded-Port", "1", "forwarded", "for=6", "x-real-ip", "6",
        "Beam-Token", "1", "A", "1"},
       "A=1 " OURS},
      {{"Connection", "X-Forwarded-For, Forwarded"}, OURS},
      {{"Connection", "Upgrade", "Upgrade", "websocket"}, "Upgrade=websocket " OURS},
      {{"Upgrade", "websocket"}, OURS},
      {{"X-Forward", "1", "Bea", "2"}, "X-Forward=1 Bea=2 " OURS},
      {{"Expect", "100-continue"}, "Expect=100-continue " OURS},
  };
  static const struct forward_facts facts = {"192.0.2.7", "https", "t.test"};
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_field fields[6];
    size_t n = 0;
    while (n < 6 && table[i].in[2 * n])
      n++;
    struct http_head h = head_of(fields, table[i].in, n), out;
    assert_int_equal(forward_request(&h, &facts, &out), 0);
    assert_string_equal(names(&out), table[i].out);
    assert_memory_equal(out.target.p, "/", 1);
    http_head_free(&out);
  }
}

static void old_visitors(void **state) {
  (void)state;
  static const char *const in[] = {"Expect", "100-continue", "Connection", "upgrade", "Upgrade", "ws"};
  static const struct forward_facts facts = {"192.0.2.7", "https", "t.test"};
  struct http_field fields[3];
  struct http_head h = head_of(fields, in, 3), out;
  h.minor = 0;
  assert_int_equal(forward_request(&h, &facts, &out), 0);
  assert_string_equal(names(&out), OURS);
  http_head_free(&out);
}

static void ipv6_visitor(void **state) {
  (void)state;
  static const struct forward_facts facts = {"2001:db8::1", "http", "t.test:8080"};
  struct http_head h = head_of(NULL, NULL, 0), out;
  assert_int_equal(forward_request(&h, &facts, &out), 0);
  assert_string_equal(
      names(&out), "X-Forwarded-For=2001:db8::1 X-Forwarded-Proto=http X-Forwarded-Host=t.test:8080 "
                   "X-Real-IP=2001:db8::1 Forwarded=for=\"[2001:db8::1]\";proto=http;host=\"t.test:8080\"");
  http_head_free(&out);
}

static void to_local(void **state) {
  (void)state;
  static const char *const in[] = {"Host",      "t.test", "Upgrade",    "ws",
                                   "Forwarded", "for=1",  "Connection", "x"};
  struct http_field fields[4];
  struct http_head h = head_of(fields, in, 4), out;
  assert_int_equal(forward_to_local(&h, "localhost:3000", &out), 0);
  assert_string_equal(names(&out), "Upgrade=ws Forwarded=for=1");
  assert_true(span_eq(out.authority, SPAN("localhost:3000")));
  http_head_free(&out);
  assert_int_equal(forward_to_local(&h, NULL, &out), 0);
  assert_true(span_eq(out.authority, SPAN("t.test")));
  http_head_free(&out);
}

static void responses(void **state) {
  (void)state;
  static const char *const in[] = {"Connection", "upgrade, A", "Upgrade", "ws", "A", "1", "B", "2"};
  struct http_field fields[4];
  struct http_head h = head_of(fields, in, 4), out;
  h.status = 200;
  assert_int_equal(forward_response(&h, &out), 0);
  assert_string_equal(names(&out), "B=2");
  http_head_free(&out);
  h.status = 101;
  assert_int_equal(forward_response(&h, &out), 0);
  assert_string_equal(names(&out), "Upgrade=ws B=2");
  http_head_free(&out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(filtered),     cmocka_unit_test(requests), cmocka_unit_test(old_visitors),
      cmocka_unit_test(ipv6_visitor), cmocka_unit_test(to_local), cmocka_unit_test(responses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
