/* Which proxy, which exceptions, and what is said to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "wire/proxy.h"

static void test_addresses(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int err;
    enum proxy_kind kind;
    const char *host;
    uint16_t port;
    const char *user, *password;
  } cases[] = {
      {"proxy.corp:3128", 0, PROXY_HTTP, "proxy.corp", 3128, NULL, NULL},
      {"proxy", 0, PROXY_HTTP, "proxy", 8080, NULL, NULL},
      {"http://Proxy.Corp/", 0, PROXY_HTTP, "proxy.corp", 8080, NULL, NULL},
      {"HTTP://10.0.0.1:80", 0, PROXY_HTTP, "10.0.0.1", 80, NULL, NULL},
      {"http://[::1]:8888", 0, PROXY_HTTP, "::1", 8888, NULL, NULL},
      {"socks5://s", 0, PROXY_SOCKS5, "s", 1080, NULL, NULL},
      {"socks5h://s:9050", 0, PROXY_SOCKS5, "s", 9050, NULL, NULL},
      {"socks://s", 0, PROXY_SOCKS5, "s", 1080, NULL, NULL},
      {"http://joe:secret@p:1", 0, PROXY_HTTP, "p", 1, "joe", "secret"},
      {"socks5://joe@p:1", 0, PROXY_SOCKS5, "p", 1, "joe", ""},
      {"joe:a%3ab%40c%25@p:1", 0, PROXY_HTTP, "p", 1, "joe", "a:b@c%"},
      {"http://joe:a@b:c@p:1", 0, PROXY_HTTP, "p", 1, "joe", "a@b:c"},
      {"http://j%C3%BC:x@p", 0, PROXY_HTTP, "p", 8080, "j\xc3\xbc", "x"},
      {"https://p:1", BEAM_ERR_UNSUPPORTED, 0, NULL, 0, NULL, NULL},
      {"socks4://p:1", BEAM_ERR_UNSUPPORTED, 0, NULL, 0, NULL, NULL},
      {"http://", BEAM_ERR_INVALID, 0, NULL, 0, NULL, NULL},
      {"", BEAM_ERR_INVALID, 0, NULL, 0, NULL, NULL},
      {"http://p:x", BEAM_ERR_INVALID, 0, NULL, 0, NULL, NULL},
      {"http://p:70000", BEAM_ERR_INVALID, 0, NULL, 0, NULL, NULL},
      {"http://a b", BEAM_ERR_INVALID, 0, NULL, 0, NULL, NULL},
      {"http://:secret@p", BEAM_ERR_INVALID, 0, NULL, 0, NULL, NULL},
      {"http://a%3ab:secret@p", BEAM_ERR_INVALID, 0, NULL, 0, NULL, NULL}, /* Basic cannot say such a user */
      {"http://joe:a%@p", BEAM_ERR_INVALID, 0, NULL, 0, NULL, NULL},
      {"http://joe:a%2@p", BEAM_ERR_INVALID, 0, NULL, 0, NULL, NULL},
      {"http://joe:a%zz@p", BEAM_ERR_INVALID, 0, NULL, 0, NULL, NULL},
      {"http://joe:a%00b@p", BEAM_ERR_INVALID, 0, NULL, 0, NULL, NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct proxy p;
    struct beam_error e = BEAM_ERROR_INIT;
    assert_int_equal(proxy_parse(cases[i].text, &p, &e), cases[i].err);
    assert_int_equal(e.code, cases[i].err);
    assert_null(strstr(e.what, "secret"));
    assert_null(strstr(e.hint, "secret"));
    if (cases[i].err)
      continue;
    assert_int_equal(p.kind, cases[i].kind);
    assert_string_equal(p.host, cases[i].host);
    assert_int_equal(p.port, cases[i].port);
    assert_int_equal(p.secret, cases[i].user != NULL);
    assert_string_equal(p.user, cases[i].user ? cases[i].user : "");
    assert_string_equal(p.password, cases[i].password ? cases[i].password : "");
  }
  char longest[300] = "http://joe:", over[300];
  memset(longest + 11, 'a', 255);
  memcpy(longest + 266, "@p", 3);
  struct proxy p;
  assert_int_equal(proxy_parse(longest, &p, NULL), 0);
  assert_int_equal(strlen(p.password), 255);
  memcpy(over, longest, sizeof over);
  memcpy(over + 266, "a@p", 4);
  assert_int_equal(proxy_parse(over, &p, NULL), BEAM_ERR_INVALID);
  assert_int_equal(p.secret, false); /* nothing stays of what was refused */
  assert_int_equal(p.user[0], 0);
}

static void test_exceptions(void **state) {
  (void)state;
  static const struct {
    const char *list, *host;
    uint16_t port;
    bool want;
  } cases[] = {
      {NULL, "a.test", 443, false},
      {"", "a.test", 443, false},
      {"*", "a.test", 443, true},
      {"a.test", "a.test", 443, true},
      {"A.Test", "a.tesT", 443, true},
      {"a.test", "b.a.test", 443, true},
      {".a.test", "b.a.test", 443, true},
      {".a.test", "a.test", 443, true},
      {"a.test", "ba.test", 443, false},
      {"b.a.test", "a.test", 443, false},
      {"x, y\ta.test", "a.test", 443, true},
      {"x,,  ,y", "a.test", 443, false},
      {"a.test:443", "a.test", 443, true},
      {"a.test:8443", "a.test", 443, false},
      {"a.test:x", "a.test", 443, false},
      {".", "a.test", 443, false},
      {"10.0.0.0/8", "10.9.8.7", 443, true},
      {"10.0.0.0/8", "11.9.8.7", 443, false},
      {"10.128.0.0/9", "10.127.0.1", 443, false},
      {"10.128.0.0/9", "10.200.0.1", 443, true},
      {"0.0.0.0/0", "10.200.0.1", 443, true},
      {"0.0.0.0/0", "fd00::1", 443, false},
      {"10.0.0.1", "10.0.0.1", 443, true},
      {"10.0.0.1/32", "10.0.0.2", 443, false},
      {"10.0.0.1/33", "10.0.0.1", 443, false},
      {"10.0.0.0/8", "10.corp", 443, false},
      {"0.1", "10.0.0.1", 443, false},
      {"fd00::/8", "fd12::1", 443, true},
      {"fd00::/8", "fe80::1", 443, false},
      {"fd12:0::1", "fd12::1", 443, true},
      {"[fd12::1]", "fd12::1", 443, true},
      {"[fd12::1]:443", "fd12::1", 443, true},
      {"[fd12::1]:80", "fd12::1", 443, false},
      {"[fd12::1", "fd12::1", 443, false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    if (proxy_exempt(cases[i].list, cases[i].host, cases[i].port) != cases[i].want)
      fail_msg("'%s' for %s:%u", cases[i].list, cases[i].host, cases[i].port);
}

static const char *const *env_rows;
static char *env(const char *name) {
  static char value[256];
  for (const char *const *p = env_rows; p && *p; p += 2)
    if (!strcmp(*p, name))
      return snprintf(value, sizeof value, "%s", p[1]) >= 0 ? value : NULL;
  return NULL;
}

static void test_choice(void **state) {
  (void)state;
  static const struct {
    const char *config, *env[9], *host, *want; /* want: the proxy's host, "" for none */
    int err;
  } cases[] = {
      {NULL, {NULL}, "r.test", "", 0},
      {"given:1", {"HTTPS_PROXY", "env"}, "r.test", "given", 0},
      {"", {"HTTPS_PROXY", "env"}, "r.test", "", 0},
      {NULL, {"HTTPS_PROXY", "env"}, "r.test", "env", 0},
      {NULL, {"https_proxy", "low", "HTTPS_PROXY", "env"}, "r.test", "low", 0},
      {NULL, {"https_proxy", "", "HTTPS_PROXY", "env"}, "r.test", "env", 0},
      {NULL, {"ALL_PROXY", "all", "HTTPS_PROXY", "env"}, "r.test", "env", 0},
      {NULL, {"all_proxy", "socks5://low", "ALL_PROXY", "all"}, "r.test", "low", 0},
      {NULL, {"ALL_PROXY", "all"}, "r.test", "all", 0},
      {NULL, {"HTTP_PROXY", "plain", "http_proxy", "plain"}, "r.test", "", 0}, /* for plain http only */
      {NULL, {"ALL_PROXY", "all", "NO_PROXY", ".test"}, "r.test", "", 0},
      {NULL, {"ALL_PROXY", "all", "no_proxy", ".test"}, "r.test", "", 0},
      {NULL, {"ALL_PROXY", "all", "no_proxy", "other", "NO_PROXY", ".test"}, "r.test", "all", 0},
      {"given", {"NO_PROXY", "*"}, "r.test", "given", 0}, /* said for this very tunnel */
      {NULL, {"ALL_PROXY", "all"}, "127.0.0.1", "", 0},   /* no proxy leads to this machine */
      {NULL, {"ALL_PROXY", "all"}, "::1", "", 0},
      {NULL, {"ALL_PROXY", "all"}, "localhost", "", 0},
      {NULL, {"ALL_PROXY", "all"}, "relay.localhost", "", 0},
      {NULL, {"ALL_PROXY", "all"}, "notlocalhost", "all", 0},
      {"given", {NULL}, "127.0.0.1", "given", 0},
      {NULL, {"ALL_PROXY", "https://x"}, "r.test", "", BEAM_ERR_UNSUPPORTED},
      {"http://", {NULL}, "r.test", "", BEAM_ERR_INVALID},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct proxy p;
    env_rows = cases[i].env;
    assert_int_equal(proxy_choose(cases[i].config, env, cases[i].host, 443, &p, NULL), cases[i].err);
    assert_string_equal(p.host, cases[i].want);
    assert_int_equal(p.kind != PROXY_NONE, cases[i].want[0] != 0);
  }
}

/* --- talks --- */

struct talk {
  const char *proxy, *host;
  const char *script
      [7]; /* what we say (hex or text), what it answers, and so on; the last answer may go on after the talk */
  bool hex;
  int err;
  size_t left; /* bytes after the talk */
};

static size_t bytes_of(const struct talk *c, const char *text, char *out) {
  if (!c->hex)
    return (size_t)(stpcpy(out, text) - out);
  size_t n = strlen(text) / 2;
  assert_true(hex_decode(out, n, span_of(text)));
  return n;
}

static void talk(const struct talk *c, size_t step) {
  struct proxy p;
  struct proxy_talk t;
  char want[2048], said[PROXY_SAY_MAX], answer[2048];
  assert_int_equal(proxy_parse(c->proxy, &p, NULL), 0);
  assert_int_equal(proxy_talk_init(&t, &p, c->host, 443), 0);
  enum proxy_what what = PROXY_SAY;
  size_t at = 0, n = 0, given = 0;
  for (size_t i = 0; i < 6 && c->script[i]; i += 2) {
    assert_int_equal(what, PROXY_SAY);
    size_t len = proxy_talk_say(&t, said);
    assert_int_equal(len, bytes_of(c, c->script[i], want));
    assert_memory_equal(said, want, len);
    at = given = 0;
    n = bytes_of(c, c->script[i + 1], answer);
    for (what = PROXY_MORE; what == PROXY_MORE && given < n;) {
      given = given + step < n ? given + step : n;
      char *exact = malloc(given - at + 1);
      size_t used;
      memcpy(exact, answer + at, given - at);
      what = proxy_talk_hear(&t, exact, given - at, &used);
      free(exact);
      assert_true(used <= given - at);
      at += used;
    }
  }
  if (c->err) {
    assert_int_equal(what, PROXY_BAD);
    assert_int_equal(t.err, c->err);
    assert_true(strlen(t.why) > 10);
    assert_null(strstr(t.why, "secret"));
    size_t used;
    assert_int_equal(proxy_talk_hear(&t, "", 0, &used), PROXY_BAD);
    assert_int_equal(proxy_talk_say(&t, said), 0);
  } else {
    assert_int_equal(what, PROXY_OPEN);
    assert_int_equal(n - at, c->left);
  }
}

#define CONNECT "CONNECT r.test:443 HTTP/1.1\r\nHost: r.test:443\r\n"

static const struct talk talks[] = {
    {"http://p", "r.test", {CONNECT "\r\n", "HTTP/1.1 200 Connection established\r\n\r\n"}, false, 0, 0},
    {"http://p", "r.test", {CONNECT "\r\n", "HTTP/1.0 200 OK\r\nVia: x\r\n\r\n\x16\x03\x01"}, false, 0, 3},
    {"http://p",
     "r.test",
     {CONNECT "\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"},
     false,
     0,
     0},
    {"http://p",
     "::1",
     {"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"},
     false,
     0,
     0},
    /* RFC 7617 section 2 */
    {"http://Aladdin:open%20sesame@p",
     "r.test",
     {CONNECT "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"},
     false,
     0,
     0},
    {"http://p",
     "r.test",
     {CONNECT "\r\n", "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"},
     false,
     BEAM_ERR_DENIED,
     0},
    {"http://p",
     "r.test",
     {CONNECT "\r\n", "HTTP/1.1 403 Forbidden\r\n\r\n<html>"},
     false,
     BEAM_ERR_DENIED,
     0},
    {"http://p", "r.test", {CONNECT "\r\n", "HTTP/1.1 502 Bad Gateway\r\n\r\n"}, false, BEAM_ERR_REFUSED, 0},
    {"http://p",
     "r.test",
     {CONNECT "\r\n", "HTTP/1.1 504 Gateway Timeout\r\n\r\n"},
     false,
     BEAM_ERR_TIMEOUT,
     0},
    {"http://p",
     "r.test",
     {CONNECT "\r\n", "HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n"},
     false,
     BEAM_ERR_REFUSED,
     0},
    {"http://p", "r.test", {CONNECT "\r\n", "220 smtp ready\r\n\r\n"}, false, BEAM_ERR_PROTOCOL, 0},
    /* SOCKS5: none; a password; a name, an address of each kind */
    {"socks5://p",
     "r.test",
     {"050100", "0500",
      "050100030672"
      "2e7465737401bb",
      "05000001c0a800010438aa"},
     true,
     0,
     1},
    {"socks5://p",
     "10.0.0.9",
     {"050100", "0500", "050100010a00000901bb", "05000001000000000000"},
     true,
     0,
     0},
    {"socks5://p",
     "fd00::9",
     {"050100", "0500", "05010004fd00000000000000000000000000000901bb",
      "0500000400000000000000000000000000000000abcd16"},
     true,
     0,
     1},
    {"socks5://joe:secret@p",
     "10.0.0.9",
     {"05020002", "0502", "01036a6f6506736563726574", "0100", "050100010a00000901bb",
      "05000003026869"
      "0001"},
     true,
     0,
     0},
    {"socks5://joe:secret@p",
     "10.0.0.9",
     {"05020002", "0500", "050100010a00000901bb", "05000001000000000000"},
     true,
     0,
     0},
    {"socks5://joe:secret@p",
     "10.0.0.9",
     {"05020002", "0502", "01036a6f6506736563726574", "0101"},
     true,
     BEAM_ERR_DENIED,
     0},
    {"socks5://joe:secret@p", "10.0.0.9", {"05020002", "05ff"}, true, BEAM_ERR_DENIED, 0},
    {"socks5://p", "r.test", {"050100", "05ff"}, true, BEAM_ERR_DENIED, 0},
    {"socks5://p", "r.test", {"050100", "0502"}, true, BEAM_ERR_PROTOCOL, 0}, /* not offered */
    {"socks5://p", "r.test", {"050100", "0400"}, true, BEAM_ERR_PROTOCOL, 0},
    {"socks5://p", "r.test", {"050100", "485454"}, true, BEAM_ERR_PROTOCOL, 0}, /* an HTTP server */
    {"socks5://p", "10.0.0.9", {"050100", "0500", "050100010a00000901bb", "0501"}, true, BEAM_ERR_REFUSED, 0},
    {"socks5://p", "10.0.0.9", {"050100", "0500", "050100010a00000901bb", "0502"}, true, BEAM_ERR_DENIED, 0},
    {"socks5://p",
     "10.0.0.9",
     {"050100", "0500", "050100010a00000901bb", "0504"},
     true,
     BEAM_ERR_UNREACHABLE,
     0},
    {"socks5://p", "10.0.0.9", {"050100", "0500", "050100010a00000901bb", "0505"}, true, BEAM_ERR_REFUSED, 0},
    {"socks5://p", "10.0.0.9", {"050100", "0500", "050100010a00000901bb", "0506"}, true, BEAM_ERR_TIMEOUT, 0},
    {"socks5://p",
     "10.0.0.9",
     {"050100", "0500", "050100010a00000901bb", "0508"},
     true,
     BEAM_ERR_UNSUPPORTED,
     0},
    {"socks5://p", "10.0.0.9", {"050100", "0500", "050100010a00000901bb", "05ff"}, true, BEAM_ERR_REFUSED, 0},
    {"socks5://p",
     "10.0.0.9",
     {"050100", "0500", "050100010a00000901bb", "0500000200"},
     true,
     BEAM_ERR_PROTOCOL,
     0},
    {"socks5://p",
     "10.0.0.9",
     {"050100", "0500", "050100010a00000901bb", "0500010100"},
     true,
     BEAM_ERR_PROTOCOL,
     0},
    {"socks5://p", "10.0.0.9", {"050100", "0500", "050100010a00000901bb", "04"}, true, BEAM_ERR_PROTOCOL, 0},
};

/* In one piece, and in pieces of every size: what is not whole yet says "more". */
static void test_talks(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof talks / sizeof *talks; i++) {
    talk(&talks[i], 2048);
    for (size_t step = 1; !talks[i].left && step < 60; step++)
      talk(&talks[i], step);
  }
}

static void test_an_endless_answer(void **state) {
  (void)state;
  struct proxy p;
  struct proxy_talk t;
  size_t used, n = 70000;
  char *big = malloc(n);
  memset(big, 'a', n);
  assert_int_equal(proxy_parse("http://p", &p, NULL), 0);
  assert_int_equal(proxy_talk_init(&t, &p, "r.test", 443), 0);
  assert_int_equal(proxy_talk_hear(&t, big, n, &used), PROXY_BAD);
  assert_int_equal(t.err, BEAM_ERR_TOO_LARGE);
  free(big);
}

static void test_bad_hosts(void **state) {
  (void)state;
  struct proxy p;
  struct proxy_talk t;
  assert_int_equal(proxy_parse("http://p", &p, NULL), 0);
  static const char *const hosts[] = {"", "a b", "a\r\nX: y", "a/b", "1.2.3"};
  for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
    assert_int_equal(proxy_talk_init(&t, &p, hosts[i], 443), BEAM_ERR_INVALID);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_addresses),
      cmocka_unit_test(test_exceptions),
      cmocka_unit_test(test_choice),
      cmocka_unit_test(test_talks),
      cmocka_unit_test(test_an_endless_answer),
      cmocka_unit_test(test_bad_hosts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
