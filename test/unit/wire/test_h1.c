/* HTTP/1.x heads: what is taken, what is refused and why, over every truncation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <beam/beam.h>

#include "base/limits.h"
#include "wire/h1.h"

static void is(struct span s, const char *want) {
  assert_int_equal(s.n, strlen(want));
  assert_memory_equal(s.p, want, s.n);
}

/* A copy of exactly n bytes, so that AddressSanitizer sees one byte too far. */
static char *exact(const char *p, size_t n) {
  char *d = malloc(n ? n : 1);
  assert_non_null(d);
  memcpy(d, p, n);
  return d;
}

static enum h1_fault request(const char *text, size_t n, struct h1_message *m) {
  char *p = exact(text, n);
  enum h1_fault f = h1_parse_request(p, n, m);
  free(p); /* the head must have copied all it keeps */
  return f;
}

static enum h1_fault response(const char *text, size_t n, const char *method, struct h1_message *m) {
  char *p = exact(text, n);
  enum h1_fault f = h1_parse_response(p, n, span_of(method), m);
  free(p);
  return f;
}

/* --- requests that are refused --- */

#define H "Host: a.test\r\n"
#define LIT(s) (s), sizeof(s) - 1

static const struct bad_request {
  const char *text;
  size_t n;
  enum h1_fault fault;
} bad_requests[] = {
    /* request line */
    {LIT("\r\n"), H1_FAULT_LINE},
    {LIT("GET\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET /\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / \r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET  / HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET /  HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT(" GET / HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/1.1 \r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET\t/\tHTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET /a b HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("G(T / HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GE\0T / HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET /\0 HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET /\x7f HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET /x#frag HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET x HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET ?x HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET * HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET a.test:80 HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET ftp://a.test/ HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("CONNECT a.test HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("CONNECT / HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/11\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / http/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/1,1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/1.11\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/a.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP//.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/:.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/1.a\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/1./\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/1.:\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / XTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/1.1x\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/3.0\r\n" H "\r\n"), H1_FAULT_VERSION},
    {LIT("GET / HTTP/9.1\r\n" H "\r\n"), H1_FAULT_VERSION},
    {LIT("GET / HTTP/1.9\r\n" H "\r\n"), H1_FAULT_VERSION},
    {LIT("GET https:// HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/+1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("\r\n\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"), H1_FAULT_LINE},
    {LIT("GET / HTTP/1.2\r\n" H "\r\n"), H1_FAULT_VERSION},
    {LIT("GET / HTTP/0.9\r\n" H "\r\n"), H1_FAULT_VERSION},
    {LIT("GET / HTTP/2.0\r\n" H "\r\n"), H1_FAULT_VERSION},
    {LIT("PRI * HTTP/2.0\r\n\r\n"), H1_FAULT_VERSION},
    /* newlines */
    {LIT("GET / HTTP/1.1\n" H "\r\n"), H1_FAULT_NEWLINE},
    {LIT("GET / HTTP/1.1\r\nHost: a.test\n\r\n"), H1_FAULT_NEWLINE},
    {LIT("GET / HTTP/1.1\r\n" H "\n"), H1_FAULT_NEWLINE},
    {LIT("GET / HTTP/1.1\nHost: a.test\n\n"), H1_FAULT_NEWLINE},
    {LIT("GET / HTTP/1.1\r\r\n" H "\r\n"), H1_FAULT_NEWLINE},
    {LIT("GET /\r HTTP/1.1\r\n" H "\r\n"), H1_FAULT_NEWLINE},
    {LIT("GET / HTTP/1.1\r\n" H "A: b\rc\r\n\r\n"), H1_FAULT_NEWLINE},
    {LIT("GET / HTTP/1.1\r\n" H "A: 12345678\r12345678\r\n\r\n"), H1_FAULT_NEWLINE},
    {LIT("GET / HTTP/1.1\r\n" H "A\rB: c\r\n\r\n"), H1_FAULT_NEWLINE},
    {LIT("GET / HTTP/1.1\r\n" H "A: b\r\r\n\r\n"), H1_FAULT_NEWLINE},
    {LIT("GET / HTTP/1.1\r\n" H "A: b\nC: d\r\n\r\n"), H1_FAULT_NEWLINE},
    {LIT("\nGET / HTTP/1.1\r\n" H "\r\n"), H1_FAULT_NEWLINE},
    /* fields */
    {LIT("GET / HTTP/1.1\r\n" H "A\r\n\r\n"), H1_FAULT_FIELD},
    {LIT("GET / HTTP/1.1\r\n" H ": b\r\n\r\n"), H1_FAULT_FIELD},
    {LIT("GET / HTTP/1.1\r\n" H "A : b\r\n\r\n"), H1_FAULT_FIELD},
    {LIT("GET / HTTP/1.1\r\n" H "A\t: b\r\n\r\n"), H1_FAULT_FIELD},
    {LIT("GET / HTTP/1.1\r\n" H "A B: c\r\n\r\n"), H1_FAULT_FIELD},
    {LIT("GET / HTTP/1.1\r\n" H " folded\r\n\r\n"), H1_FAULT_FOLD},
    {LIT("GET / HTTP/1.1\r\n" H "A: b\r\n\tfolded\r\n\r\n"), H1_FAULT_FOLD},
    {LIT("GET / HTTP/1.1\r\n Host: a.test\r\n\r\n"), H1_FAULT_FOLD},
    {LIT("GET / HTTP/1.1\r\n" H "A(: b\r\n\r\n"), H1_FAULT_FIELD},
    {LIT("GET / HTTP/1.1\r\n" H "\xc3\xa4: b\r\n\r\n"), H1_FAULT_FIELD},
    {LIT("GET / HTTP/1.1\r\n" H "A\0: b\r\n\r\n"), H1_FAULT_FIELD},
    {LIT("GET / HTTP/1.1\r\n" H "A: \0\r\n\r\n"), H1_FAULT_CONTROL},
    {LIT("GET / HTTP/1.1\r\n" H "A: 1234567\0x\r\n\r\n"), H1_FAULT_CONTROL},
    {LIT("GET / HTTP/1.1\r\n" H "A: b\x01\r\n\r\n"), H1_FAULT_CONTROL},
    {LIT("GET / HTTP/1.1\r\n" H "A: b\x0b\r\n\r\n"), H1_FAULT_CONTROL},
    {LIT("GET / HTTP/1.1\r\n" H "A: 12345678\x7f 12345678\r\n\r\n"), H1_FAULT_CONTROL},
    {LIT("GET / HTTP/1.1\r\n" H "A: \x1b[31m\r\n\r\n"), H1_FAULT_CONTROL},
    {LIT("GET / HTTP/1.1\r\n" H "\r\nX: y\r\n\r\n"), H1_FAULT_FIELD}, /* two heads given as one */
    /* Host */
    {LIT("GET / HTTP/1.1\r\n\r\n"), H1_FAULT_HOST},
    {LIT("GET / HTTP/1.1\r\n" H H "\r\n"), H1_FAULT_HOST},
    {LIT("GET / HTTP/1.1\r\n" H "hOST: b.test\r\n\r\n"), H1_FAULT_HOST},
    {LIT("GET / HTTP/1.0\r\n" H H "\r\n"), H1_FAULT_HOST},
    {LIT("GET / HTTP/1.1\r\nHost:\r\n\r\n"), H1_FAULT_HOST},
    {LIT("GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n"), H1_FAULT_HOST},
    {LIT("GET / HTTP/1.1\r\nHost: user@a.test\r\n\r\n"), H1_FAULT_HOST},
    {LIT("GET / HTTP/1.1\r\nHost: a.test:0\r\n\r\n"), H1_FAULT_HOST},
    {LIT("GET / HTTP/1.1\r\nHost: a.test:65536\r\n\r\n"), H1_FAULT_HOST},
    {LIT("GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n"), H1_FAULT_HOST},
    {LIT("GET / HTTP/1.1\r\nHost: a..test\r\n\r\n"), H1_FAULT_HOST},
    {LIT("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), H1_FAULT_HOST},
    {LIT("GET http://b.test/ HTTP/1.1\r\n" H "\r\n"), H1_FAULT_HOST},
    {LIT("GET http://a.test:81/ HTTP/1.1\r\n" H "\r\n"), H1_FAULT_HOST},
    {LIT("GET https://a.test:80/ HTTP/1.1\r\n" H "\r\n"), H1_FAULT_HOST},
    {LIT("GET http://a.test/ HTTP/1.1\r\n\r\n"), H1_FAULT_HOST},
    {LIT("GET http:///x HTTP/1.1\r\n" H "\r\n"), H1_FAULT_HOST},
    {LIT("GET http://?x HTTP/1.1\r\n" H "\r\n"), H1_FAULT_HOST},
    {LIT("GET http://u:p@a.test/ HTTP/1.1\r\n" H "\r\n"), H1_FAULT_HOST},
    {LIT("CONNECT b.test:443 HTTP/1.1\r\n" H "\r\n"), H1_FAULT_HOST},
    /* length */
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\n"), H1_FAULT_LENGTH},
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: 1\r\ncontent-length: 2\r\n\r\n"), H1_FAULT_LENGTH},
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: 1, 1\r\n\r\n"), H1_FAULT_LENGTH},
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: +1\r\n\r\n"), H1_FAULT_LENGTH},
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n"), H1_FAULT_LENGTH},
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: 0x1\r\n\r\n"), H1_FAULT_LENGTH},
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: 1 1\r\n\r\n"), H1_FAULT_LENGTH},
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: 1.0\r\n\r\n"), H1_FAULT_LENGTH},
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: \r\n\r\n"), H1_FAULT_LENGTH},
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: \"1\"\r\n\r\n"), H1_FAULT_LENGTH},
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n"), H1_FAULT_LENGTH},
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551617\r\n\r\n"), H1_FAULT_LENGTH},
    {LIT("POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), H1_FAULT_BOTH},
    {LIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"), H1_FAULT_BOTH},
    /* coding */
    {LIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"), H1_FAULT_CODING},
    {LIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n"), H1_FAULT_CODING},
    {LIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
     H1_FAULT_CODING},
    {LIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n"), H1_FAULT_CODING},
    {LIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n"), H1_FAULT_CODING},
    {LIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked;q=1\r\n\r\n"), H1_FAULT_CODING},
    {LIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n"), H1_FAULT_CODING},
    {LIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n"), H1_FAULT_CODING},
    {LIT("POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n"), H1_FAULT_CODING},
    /* upgrade */
    {LIT("GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n"),
     H1_FAULT_UPGRADE},
    {LIT("GET / HTTP/1.1\r\n" H
         "Connection: x, upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n"),
     H1_FAULT_UPGRADE},
};

static void refuses_requests(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof bad_requests / sizeof *bad_requests; i++) {
    const struct bad_request *b = &bad_requests[i];
    struct h1_message m, zero = {0};
    enum h1_fault f = request(b->text, b->n, &m);
    if (f != b->fault)
      fail_msg("%.60s: %s, not %s", b->text, h1_fault_text(f), h1_fault_text(b->fault));
    assert_memory_equal(&m, &zero, sizeof m);
    /* Strangers' input may end anywhere. */
    for (size_t n = 0; n < b->n; n++)
      if (request(b->text, n, &m) == H1_OK)
        http_head_free(&m.head);
  }
}

/* --- requests that are taken --- */

static const struct good_request {
  const char *text, *method, *authority, *target;
  unsigned minor;
  enum http_body body;
  uint64_t length;
  bool keep_alive, expect_100, upgrade;
  size_t fields;
} good_requests[] = {
    {"GET / HTTP/1.1\r\n" H "\r\n", "GET", "a.test", "/", 1, HTTP_BODY_NONE, 0, true, false, false, 1},
    {"\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", "GET", "a.test", "/", 1, HTTP_BODY_NONE, 0, true, false, false,
     1},
    {"GET / HTTP/1.0\r\n\r\n", "GET", "", "/", 0, HTTP_BODY_NONE, 0, false, false, false, 0},
    {"GET / HTTP/1.0\r\n" H "Connection: Keep-Alive\r\n\r\n", "GET", "a.test", "/", 0, HTTP_BODY_NONE, 0,
     true, false, false, 2},
    {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "GET", "", "/", 0, HTTP_BODY_NONE, 0, false,
     false, false, 1},
    {"GET / HTTP/1.1\r\n" H "Connection: foo , CLOSE\t , x\r\n\r\n", "GET", "a.test", "/", 1, HTTP_BODY_NONE,
     0, false, false, false, 2},
    {"GET / HTTP/1.1\r\n" H "Connection: foo\r\nConnection: close\r\n\r\n", "GET", "a.test", "/", 1,
     HTTP_BODY_NONE, 0, false, false, false, 3},
    {"GET / HTTP/1.1\r\n" H "Connection: closed\r\n\r\n", "GET", "a.test", "/", 1, HTTP_BODY_NONE, 0, true,
     false, false, 2},
    {"POST /x HTTP/1.1\r\n" H "Content-Length: 12\r\nExpect: 100-Continue\r\n\r\n", "POST", "a.test", "/x", 1,
     HTTP_BODY_LENGTH, 12, true, true, false, 3},
    {"POST /x HTTP/1.0\r\n" H "Content-Length: 12\r\nExpect: 100-continue\r\n\r\n", "POST", "a.test", "/x", 0,
     HTTP_BODY_LENGTH, 12, false, false, false, 3},
    {"POST /x HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", "POST", "a.test", "/x", 1, HTTP_BODY_NONE, 0, true,
     false, false, 2},
    {"POST /x HTTP/1.1\r\n" H "Content-Length: 9223372036854775807\r\n\r\n", "POST", "a.test", "/x", 1,
     HTTP_BODY_LENGTH, INT64_MAX, true, false, false, 2},
    {"POST /x HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n", "POST", "a.test", "/x", 1,
     HTTP_BODY_CHUNKED, 0, true, false, false, 2},
    {"GET /ws HTTP/1.1\r\n" H "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET",
     "a.test", "/ws", 1, HTTP_BODY_NONE, 0, true, false, true, 3},
    {"GET /ws HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", "GET",
     "a.test", "/ws", 1, HTTP_BODY_NONE, 0, true, false, true, 4},
    {"GET /ws HTTP/1.0\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET", "a.test", "/ws", 0,
     HTTP_BODY_NONE, 0, false, false, false, 3},
    {"GET /ws HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n", "GET", "a.test", "/ws", 1, HTTP_BODY_NONE, 0,
     true, false, false, 2},
    {"GET /ws HTTP/1.1\r\n" H "Connection: upgrade\r\n\r\n", "GET", "a.test", "/ws", 1, HTTP_BODY_NONE, 0,
     true, false, false, 2},
    {"OPTIONS * HTTP/1.1\r\n" H "\r\n", "OPTIONS", "a.test", "*", 1, HTTP_BODY_NONE, 0, true, false, false,
     1},
    {"OPTIONS http://a.test HTTP/1.1\r\n" H "\r\n", "OPTIONS", "a.test", "*", 1, HTTP_BODY_NONE, 0, true,
     false, false, 1},
    {"GET http://A.test:80/p?q HTTP/1.1\r\nHost: a.TEST.\r\n\r\n", "GET", "a.TEST.", "/p?q", 1,
     HTTP_BODY_NONE, 0, true, false, false, 1},
    {"GET HTTPS://a.test/p HTTP/1.1\r\nHost: a.test:443\r\n\r\n", "GET", "a.test:443", "/p", 1,
     HTTP_BODY_NONE, 0, true, false, false, 1},
    {"GET http://a.test HTTP/1.1\r\n" H "\r\n", "GET", "a.test", "/", 1, HTTP_BODY_NONE, 0, true, false,
     false, 1},
    {"GET http://a.test?q=/x HTTP/1.1\r\n" H "\r\n", "GET", "a.test", "/?q=/x", 1, HTTP_BODY_NONE, 0, true,
     false, false, 1},
    {"GET http://a.test/x HTTP/1.0\r\n\r\n", "GET", "a.test", "/x", 0, HTTP_BODY_NONE, 0, false, false, false,
     0},
    {"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", "CONNECT", "a.test:443", "a.test:443", 1,
     HTTP_BODY_NONE, 0, true, false, false, 1},
    {"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", "CONNECT", "a.test", "a.test:443", 1,
     HTTP_BODY_NONE, 0, true, false, false, 1},
    {"GET / HTTP/1.1\r\nHost: [::1]:3000\r\n\r\n", "GET", "[::1]:3000", "/", 1, HTTP_BODY_NONE, 0, true,
     false, false, 1},
    {"get /|^{}\"\\?a=%zz&\xc3\xa4 HTTP/1.1\r\n" H "\r\n", "get", "a.test", "/|^{}\"\\?a=%zz&\xc3\xa4", 1,
     HTTP_BODY_NONE, 0, true, false, false, 1},
    {"M-SEARCH!#$%&'*+.^_`|~9 //x HTTP/1.1\r\n" H "\r\n", "M-SEARCH!#$%&'*+.^_`|~9", "a.test", "//x", 1,
     HTTP_BODY_NONE, 0, true, false, false, 1},
};

static void takes_requests(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof good_requests / sizeof *good_requests; i++) {
    const struct good_request *g = &good_requests[i];
    struct h1_message m;
    size_t n = strlen(g->text);
    enum h1_fault f = request(g->text, n, &m);
    if (f)
      fail_msg("%.60s: %s", g->text, h1_fault_text(f));
    is(m.head.method, g->method);
    is(m.head.authority, g->authority);
    is(m.head.target, g->target);
    is(m.head.scheme, "");
    assert_int_equal(m.head.minor, g->minor);
    assert_int_equal(m.head.status, 0);
    assert_int_equal(m.head.fields_n, g->fields);
    assert_int_equal(m.body, g->body);
    assert_true(m.length == g->length);
    assert_int_equal(m.keep_alive, g->keep_alive);
    assert_int_equal(m.expect_100, g->expect_100);
    assert_int_equal(m.upgrade, g->upgrade);
    http_head_free(&m.head);
    size_t scanned = 0;
    assert_int_equal(h1_head_length(g->text, n, &scanned), n);
    for (size_t cut = 0; cut < n; cut++) { /* a head cut short is never whole, and never taken */
      scanned = 0;
      assert_int_equal(h1_head_length(g->text, cut, &scanned), 0);
      f = request(g->text, cut, &m);
      if (f ==
          H1_OK) { /* but where the cut leaves a line's end at the end, the caller's lie cannot be seen */
        assert_memory_equal(g->text + cut - 2, "\r\n", 2);
        http_head_free(&m.head);
      }
    }
  }
}

static void keeps_fields_as_they_came(void **state) {
  (void)state;
  static const char text[] = "GET / HTTP/1.1\r\nHost:a.test\r\nX-Tab:\t a\tb \t\r\nEmpty:\r\nBlank: \t "
                             "\r\nCOOKIE: a=b; \xe2\x82\xac\r\n\r\n";
  static const char *const want[][2] = {
      {"Host", "a.test"}, {"X-Tab", "a\tb"}, {"Empty", ""}, {"Blank", ""}, {"COOKIE", "a=b; \xe2\x82\xac"}};
  struct h1_message m;
  assert_int_equal(request(text, sizeof text - 1, &m), H1_OK);
  assert_int_equal(m.head.fields_n, 5);
  for (size_t i = 0; i < 5; i++) {
    is(m.head.fields[i].name, want[i][0]);
    is(m.head.fields[i].value, want[i][1]);
  }
  http_head_free(&m.head);
}

/* Each byte in each place where it may not be, against the grammar said another way. */
static void knows_every_byte(void **state) {
  (void)state;
  for (int c = 0; c < 256; c++) {
    bool token = c > 0x20 && c < 0x7f && !strchr("\"(),/:;<=>?@[\\]{}", c);
    bool value = c == '\t' || (c >= 0x20 && c != 0x7f);
    bool target = c > 0x20 && c != 0x7f && c != '#';
    for (size_t pad = 0; pad < 12; pad++) { /* values are looked at eight bytes at a time */
      char text[128];
      struct h1_message m;
      int n = snprintf(text, sizeof text, "GET /a%c HTTP/1.1\r\nHost: a.test\r\nN%c: %.*sv%cv\r\n\r\n", 'b',
                       'n', (int)pad, "xxxxxxxxxxxx", 'z');
      char *t = memchr(text, 'b', (size_t)n), *nn = strstr(text, "Nn:") + 1, *v = strstr(text, "vzv") + 1;
      struct {
        char *at;
        bool ok;
      } places[] = {{t, target}, {nn, token}, {v, value}};
      for (size_t k = 0; k < 3; k++) {
        char old = *places[k].at;
        *places[k].at = (char)c;
        enum h1_fault f = request(text, (size_t)n, &m);
        /* a colon inside a name only ends it sooner */
        if ((f == H1_OK) != (places[k].ok || (k == 1 && c == ':')))
          fail_msg("byte 0x%02x in place %zu: %s", (unsigned)c, k, h1_fault_text(f));
        if (f == H1_OK)
          http_head_free(&m.head);
        *places[k].at = old;
      }
    }
  }
}

/* --- limits --- */

static void ends_heads(void **state) {
  (void)state;
  static const struct {
    const char *text;
    long want;
  } table[] = {
      {"", 0},
      {"\r\n", 0},
      {"\r\n\r\n", 0},
      {"\r\n\r\n\r\n", 6}, /* a third empty line: handed out to be refused */
      {"GET / HTTP/1.1\r\n\r\n", 18},
      {"GET / HTTP/1.1\r\n\r\nGET", 18},
      {"\r\nGET / HTTP/1.1\r\n\r\n", 20},
      {"GET / HTTP/1.1\n\n", 16}, /* not waited for */
      {"GET / HTTP/1.1\n\r\n", 17},
      {"GET / HTTP/1.1\r\n\n", 17},
      {"GET / HTTP/1.1\r\n\r", 0},
      {"GET / HTTP/1.1\r\r\n", 0},
      {"\n", 1},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    size_t n = strlen(table[i].text), scanned = 0;
    assert_int_equal(h1_head_length(table[i].text, n, &scanned), table[i].want);
    assert_int_equal(h1_head_length(table[i].text, n, &scanned), table[i].want); /* and again */
    scanned = 0; /* byte by byte the answer comes at the same place */
    for (size_t k = 0; k <= n; k++) {
      long got = h1_head_length(table[i].text, k, &scanned);
      assert_int_equal(got, table[i].want && (size_t)table[i].want <= k ? table[i].want : 0);
      if (got)
        break;
    }
  }
}

static char *big_head(size_t total) { /* exactly that many bytes */
  char *p = malloc(total + 1);
  assert_non_null(p);
  int n = snprintf(p, total, "GET / HTTP/1.1\r\nHost: a.test\r\nA: ");
  memset(p + n, 'x', total - (size_t)n);
  memcpy(p + total - 4, "\r\n\r\n", 4);
  return p;
}

static void limits_heads(void **state) {
  (void)state;
  struct h1_message m;
  size_t scanned = 0;
  char *p = big_head(LIMIT_HEAD_BYTES);
  assert_int_equal(h1_head_length(p, LIMIT_HEAD_BYTES, &scanned), LIMIT_HEAD_BYTES);
  assert_int_equal(request(p, LIMIT_HEAD_BYTES, &m), H1_OK);
  http_head_free(&m.head);
  scanned = 0;
  assert_int_equal(h1_head_length(p, LIMIT_HEAD_BYTES - 1, &scanned), 0);
  free(p);
  p = big_head(LIMIT_HEAD_BYTES + 1);
  scanned = 0;
  assert_int_equal(h1_head_length(p, LIMIT_HEAD_BYTES + 1, &scanned), BEAM_ERR_TOO_LARGE);
  scanned = 0;
  assert_int_equal(h1_head_length(p, LIMIT_HEAD_BYTES, &scanned), BEAM_ERR_TOO_LARGE);
  assert_int_equal(request(p, LIMIT_HEAD_BYTES + 1, &m), H1_FAULT_TOO_LARGE);
  free(p);
  for (unsigned fields = LIMIT_HEAD_FIELDS - 1; fields <= LIMIT_HEAD_FIELDS + 1; fields++) {
    char text[4096];
    int n = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a.test\r\n");
    for (unsigned i = 1; i < fields; i++)
      n += snprintf(text + n, sizeof text - (size_t)n, "X: %u\r\n", i);
    n += snprintf(text + n, sizeof text - (size_t)n, "\r\n");
    assert_int_equal(request(text, (size_t)n, &m), fields > LIMIT_HEAD_FIELDS ? H1_FAULT_TOO_MANY : H1_OK);
    http_head_free(&m.head);
  }
}

/* --- responses --- */

static const struct good_response {
  const char *text, *method, *reason;
  unsigned status, minor;
  enum http_body body;
  uint64_t length;
  bool keep_alive, upgrade;
} good_responses[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", "OK", 200, 1, HTTP_BODY_LENGTH, 5, true, false},
    {"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "GET", "", 200, 1, HTTP_BODY_NONE, 0, true, false},
    {"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "GET", "", 200, 1, HTTP_BODY_NONE, 0, true, false},
    {"HTTP/1.1 404 Not \xe2\x82\xac here\r\nTransfer-Encoding: chunked\r\n\r\n", "GET",
     "Not \xe2\x82\xac here", 404, 1, HTTP_BODY_CHUNKED, 0, true, false},
    {"HTTP/1.1 200 OK\r\n\r\n", "GET", "OK", 200, 1, HTTP_BODY_CLOSE, 0, false, false},
    {"HTTP/1.0 200 OK\r\n\r\n", "GET", "OK", 200, 0, HTTP_BODY_CLOSE, 0, false, false},
    {"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", "GET", "OK", 200, 0, HTTP_BODY_LENGTH, 3, false, false},
    {"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n", "GET", "OK", 200, 0,
     HTTP_BODY_LENGTH, 3, true, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n", "GET", "OK", 200, 1,
     HTTP_BODY_LENGTH, 3, false, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "HEAD", "OK", 200, 1, HTTP_BODY_NONE, 0, true, false},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", "OK", 200, 1, HTTP_BODY_NONE, 0, true,
     false},
    {"HTTP/1.1 200 OK\r\n\r\n", "HEAD", "OK", 200, 1, HTTP_BODY_NONE, 0, true, false},
    {"HTTP/1.1 204 No Content\r\n\r\n", "GET", "No Content", 204, 1, HTTP_BODY_NONE, 0, true, false},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n", "GET", "Not Modified", 304, 1,
     HTTP_BODY_NONE, 0, true, false},
    {"HTTP/1.1 100 Continue\r\n\r\n", "POST", "Continue", 100, 1, HTTP_BODY_NONE, 0, true, false},
    {"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "GET", "Early Hints", 103, 1, HTTP_BODY_NONE, 0, true,
     false},
    {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "GET",
     "Switching Protocols", 101, 1, HTTP_BODY_UPGRADE, 0, false, true},
    {"HTTP/1.1 200 Connected\r\n\r\n", "CONNECT", "Connected", 200, 1, HTTP_BODY_UPGRADE, 0, false, false},
    {"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\n", "CONNECT", "No", 407, 1, HTTP_BODY_LENGTH, 2, true,
     false},
    {"HTTP/1.1 300 No\r\nContent-Length: 2\r\n\r\n", "CONNECT", "No", 300, 1, HTTP_BODY_LENGTH, 2, true,
     false},
    {"HTTP/1.1 200 \t OK here \t\r\nContent-Length: 2\r\n\r\n", "GET", "OK here", 200, 1, HTTP_BODY_LENGTH, 2,
     true, false},
    {"HTTP/1.1 999 Denied\r\nContent-Length: 2\r\n\r\n", "GET", "Denied", 999, 1, HTTP_BODY_LENGTH, 2, true,
     false},
};

static void takes_responses(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof good_responses / sizeof *good_responses; i++) {
    const struct good_response *g = &good_responses[i];
    struct h1_message m;
    size_t n = strlen(g->text);
    enum h1_fault f = response(g->text, n, g->method, &m);
    if (f)
      fail_msg("%.60s: %s", g->text, h1_fault_text(f));
    is(m.head.reason, g->reason);
    assert_int_equal(m.head.status, g->status);
    assert_int_equal(m.head.minor, g->minor);
    assert_int_equal(m.body, g->body);
    assert_true(m.length == g->length);
    assert_int_equal(m.keep_alive, g->keep_alive);
    assert_int_equal(m.upgrade, g->upgrade);
    http_head_free(&m.head);
    for (size_t cut = 0; cut < n; cut++) {
      size_t scanned = 0;
      assert_int_equal(h1_head_length(g->text, cut, &scanned), 0);
      if (response(g->text, cut, g->method, &m) == H1_OK)
        http_head_free(&m.head);
    }
  }
}

static void refuses_responses(void **state) {
  (void)state;
  static const struct bad_request table[] = {
      {LIT("\r\n"), H1_FAULT_LINE},
      {LIT("\r\nHTTP/1.1 200 OK\r\n\r\n"), H1_FAULT_LINE},
      {LIT("HTTP/1.1 20 OK\r\n\r\n"), H1_FAULT_LINE},
      {LIT("HTTP/1.1 2000 OK\r\n\r\n"), H1_FAULT_LINE},
      {LIT("HTTP/1.1 099 OK\r\n\r\n"), H1_FAULT_LINE},
      {LIT("HTTP/1.1 +20 OK\r\n\r\n"), H1_FAULT_LINE},
      {LIT("HTTP/1.1  200 OK\r\n\r\n"), H1_FAULT_LINE},
      {LIT("HTTP/1.1\t200 OK\r\n\r\n"), H1_FAULT_LINE},
      {LIT("HTTP/1.1 200\tOK\r\n\r\n"), H1_FAULT_LINE},
      {LIT("HTTP/1.1 200 O\0K\r\n\r\n"), H1_FAULT_LINE},
      {LIT("HTTP/1.1 200 O\rK\r\n\r\n"), H1_FAULT_NEWLINE},
      {LIT("HTTP/1.1 200 OK\n\n"), H1_FAULT_NEWLINE},
      {LIT("HTTP/1.1\r\n\r\n"), H1_FAULT_LINE},
      {LIT("ICY 200 OK\r\n\r\n"), H1_FAULT_LINE},
      {LIT("hello\r\n\r\n"), H1_FAULT_LINE},
      {LIT("HTTP/2.0 200 OK\r\n\r\n"), H1_FAULT_VERSION},
      {LIT("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"), H1_FAULT_LENGTH},
      {LIT("HTTP/1.1 304 OK\r\nContent-Length: 1, 2\r\n\r\n"), H1_FAULT_LENGTH},
      {LIT("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), H1_FAULT_BOTH},
      {LIT("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), H1_FAULT_CODING},
      {LIT("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), H1_FAULT_CODING},
      {LIT("HTTP/1.1 200 OK\r\nA : b\r\n\r\n"), H1_FAULT_FIELD},
      {LIT("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"), H1_FAULT_FOLD},
      {LIT("HTTP/1.1 200 OK\r\nSet-Cookie: a\0b\r\n\r\n"), H1_FAULT_CONTROL},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    struct h1_message m, zero = {0};
    enum h1_fault f = response(table[i].text, table[i].n, "GET", &m);
    if (f != table[i].fault)
      fail_msg("%.60s: %s, not %s", table[i].text, h1_fault_text(f), h1_fault_text(table[i].fault));
    assert_memory_equal(&m, &zero, sizeof m);
  }
}

static void parses_trailers(void **state) {
  (void)state;
  struct http_head h;
  assert_int_equal(h1_parse_trailers("", 0, &h), H1_OK);
  assert_int_equal(h.fields_n, 0);
  http_head_free(&h);
  static const char good[] = "Grpc-Status: 0\r\nDigest:  x \r\n";
  assert_int_equal(h1_parse_trailers(good, sizeof good - 1, &h), H1_OK);
  assert_int_equal(h.fields_n, 2);
  is(h.fields[1].value, "x");
  http_head_free(&h);
  static const struct bad_request table[] = {
      {LIT("A: b"), H1_FAULT_NEWLINE},
      {LIT("A: b\n"), H1_FAULT_NEWLINE},
      {LIT("A: b\r\n\r\n"), H1_FAULT_FIELD},
      {LIT("A : b\r\n"), H1_FAULT_FIELD},
      {LIT("Content-Length: 0\r\n"), H1_FAULT_FIELD},
      {LIT("Transfer-Encoding: chunked\r\n"), H1_FAULT_FIELD},
      {LIT("host: a.test\r\n"), H1_FAULT_FIELD},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    assert_int_equal(h1_parse_trailers(table[i].text, table[i].n, &h), table[i].fault);
    assert_null(h.block);
  }
  for (size_t n = 0; n < sizeof good - 1; n++) {
    char *p = exact(good, n);
    if (h1_parse_trailers(p, n, &h) == H1_OK)
      http_head_free(&h);
    free(p);
  }
}

static void has_a_sentence_for_each_fault(void **state) {
  (void)state;
  for (int f = H1_OK; f <= H1_FAULT_NOMEM; f++) {
    assert_true(strlen(h1_fault_text((enum h1_fault)f)) > 5);
    for (int g = H1_OK; g < f; g++)
      assert_string_not_equal(h1_fault_text((enum h1_fault)f), h1_fault_text((enum h1_fault)g));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(refuses_requests),
      cmocka_unit_test(takes_requests),
      cmocka_unit_test(keeps_fields_as_they_came),
      cmocka_unit_test(knows_every_byte),
      cmocka_unit_test(ends_heads),
      cmocka_unit_test(limits_heads),
      cmocka_unit_test(takes_responses),
      cmocka_unit_test(refuses_responses),
      cmocka_unit_test(parses_trailers),
      cmocka_unit_test(has_a_sentence_for_each_fault),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
