#include "rig.h"

#include "http/auth.h"
#include "http/cors.h"
#include "http/edits.h"
#include "http/policy.h"
#include "http/rate.h"
#include "wire/base64.h"

static struct policy *made(const struct beam_http_policy *c) {
  struct policy *p;
  struct beam_error e = BEAM_ERROR_INIT;
  if (policy_new(c, &p, &e))
    fail_msg("%s", e.what);
  return p;
}

static void addresses(void **state) {
  (void)state;
  static const struct {
    const char *allow, *deny, *visitor;
    bool in;
  } table[] = {
      {NULL, NULL, "198.51.100.1:1", true},
      {NULL, NULL, "", true},
      {"10.0.0.0/8", NULL, "10.1.2.3:1", true},
      {"10.0.0.0/8", NULL, "11.1.2.3:1", false},
      {"10.0.0.0/8, 2001:db8::/32", NULL, "[2001:db8::5]:1", true},
      {"10.0.0.0/8", NULL, "[::ffff:10.1.2.3]:1", true},
      {"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3:1", false},
      {"10.0.0.0/8", "10.1.0.0/16", "10.2.2.3:1", true},
      {NULL, "10.1.0.0/16", "10.1.2.3:1", false},
      {NULL, "10.1.0.0/16", "[::ffff:10.1.2.3]:1", false},
      {NULL, "10.1.0.0/16", "192.0.2.1:1", true},
      {NULL, "10.1.0.0/16", "unix:", false}, /* unknown: neither list can speak for it */
      {"0.0.0.0/0,::/0", NULL, "", false},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct beam_http_policy c = BEAM_HTTP_POLICY_INIT;
    c.allow = table[i].allow;
    c.deny = table[i].deny;
    struct policy *p = made(&c);
    if (policy_lets_in(p, table[i].visitor) != table[i].in)
      fail_msg("%s, not %s: %s", table[i].allow, table[i].deny, table[i].visitor);
    policy_unref(p);
  }
}

static void mistakes(void **state) {
  (void)state;
  char many[LIMIT_ADDRESS_RANGES * 4 + 16] = "::1", users[LIMIT_POLICY_USERS * 5 + 16] = "";
  for (unsigned i = 0; i < LIMIT_ADDRESS_RANGES; i++)
    strcat(many, ",::1");
  for (unsigned i = 0; i <= LIMIT_POLICY_USERS; i++)
    strcat(users, "a:b\n");
  char longest[LIMIT_POLICY_PASSWORD + 2];
  memset(longest, 'a', sizeof longest - 1);
  longest[1] = ':';
  longest[sizeof longest - 1] = 0;
  const struct {
    struct beam_http_policy c;
    int want;
    const char *says;
  } table[] = {
      {{.allow = "10.0.0.0/33"}, BEAM_ERR_INVALID, "10.0.0.0/33"},
      {{.allow = ""}, BEAM_ERR_INVALID, "allow"},
      {{.deny = "10.0.0.0/8,,::1"}, BEAM_ERR_INVALID, "deny"},
      {{.deny = "example.com"}, BEAM_ERR_INVALID, "example.com"},
      {{.allow = many}, BEAM_ERR_LIMIT, "256"},
      {{.auth = ""}, BEAM_ERR_INVALID, "no user"},
      {{.auth = "\n\n"}, BEAM_ERR_INVALID, "no user"},
      {{.auth = "ada"}, BEAM_ERR_INVALID, "user 1"},
      {{.auth = "ada:x\n:y"}, BEAM_ERR_INVALID, "user 2"},
      {{.auth = "ada:"}, BEAM_ERR_INVALID, "user 1"},
      {{.auth = "ada:a\tb"}, BEAM_ERR_INVALID, "user 1"},
      {{.auth = longest}, BEAM_ERR_INVALID, "user 1"},
      {{.auth = users}, BEAM_ERR_LIMIT, "64"},
      {{.rate_limit = ""}, BEAM_ERR_INVALID, "rate"},
      {{.rate_limit = "10"}, BEAM_ERR_INVALID, "10"},
      {{.rate_limit = "0/s"}, BEAM_ERR_INVALID, "0/s"},
      {{.rate_limit = "10/d"}, BEAM_ERR_INVALID, "10/d"},
      {{.rate_limit = "10/ss"}, BEAM_ERR_INVALID, "10/ss"},
      {{.rate_limit = "-1/s"}, BEAM_ERR_INVALID, "-1/s"},
      {{.rate_limit = "1000001/s"}, BEAM_ERR_INVALID, "1000001/s"},
      {{.rate_limit_total = "1000"}, BEAM_ERR_INVALID, "1000"},
      {{.cors = ""}, BEAM_ERR_INVALID, "cors"},
      {{.cors = "*,https://a.test"}, BEAM_ERR_INVALID, "\"*\""},
      {{.cors = "https://a.test/"}, BEAM_ERR_INVALID, "a.test/"},
      {{.cors = "https://a.test,"}, BEAM_ERR_INVALID, "cors"},
      {{.cors = "a.test"}, BEAM_ERR_INVALID, "a.test"},
      {{.cors = "null"}, BEAM_ERR_INVALID, "null"},
      {{.request_headers = ""}, BEAM_ERR_INVALID, "no field"},
      {{.request_headers = "X"}, BEAM_ERR_INVALID, "request header: \"X\""},
      {{.request_headers = "X y: z"}, BEAM_ERR_INVALID, "X y"},
      {{.request_headers = "X : z"}, BEAM_ERR_INVALID, "X :"},
      {{.request_headers = ":path: /"}, BEAM_ERR_INVALID, ":path"},
      {{.request_headers = "X: a\rb"}, BEAM_ERR_INVALID, "control"},
      {{.request_headers = "host: a"}, BEAM_ERR_INVALID, "host"},
      {{.request_headers = "TE: trailers"}, BEAM_ERR_INVALID, "TE"},
      {{.request_headers = "Expect:"}, BEAM_ERR_INVALID, "Expect"},
      {{.response_headers = "X: 1\nContent-Length: 3"}, BEAM_ERR_INVALID, "response header: Content-Length"},
      {{.response_headers = "transfer-encoding:"}, BEAM_ERR_INVALID, "transfer-encoding"},
      {{.response_headers = "Connection: close"}, BEAM_ERR_INVALID, "Connection"},
      {{.response_headers =
            "a:1\na:1\na:1\na:1\na:1\na:1\na:1\na:1\na:1\na:1\na:1\na:1\na:1\na:1\na:1\na:1\na:1"},
       BEAM_ERR_LIMIT,
       "16"},
      {{.request_headers = many}, BEAM_ERR_INVALID, "::1"},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct beam_http_policy c = table[i].c;
    struct beam_error e = BEAM_ERROR_INIT;
    struct policy *p;
    c.size = sizeof c;
    assert_int_equal(policy_new(&c, &p, &e), table[i].want);
    if (!strstr(e.what, table[i].says))
      fail_msg("row %zu: %s", i, e.what);
  }
}

/* A caller built with an older header: what it did not know is not there. */
static void older(void **state) {
  (void)state;
  struct beam_http_policy c = {.size = offsetof(struct beam_http_policy, deny), .deny = "::/0,0.0.0.0/0"};
  struct policy *p = made(&c);
  assert_true(policy_lets_in(p, "192.0.2.1:1"));
  policy_unref(p);
  p = made(NULL);
  assert_true(policy_lets_in(p, "192.0.2.1:1"));
  policy_unref(p);
}

static void passwords(void **state) {
  (void)state;
  static const struct {
    const char *prefix, *pair;
    bool ok;
  } table[] = {
      {"Basic ", "ada:correct, horse", true},
      {"basic ", "ada:correct, horse", true},
      {"Basic   ", "bob:b:c", true},
      {"Basic ", "bob:b", false},
      {"Basic ", "ada:correct, hors", false},
      {"Basic ", "ada:correct, horse ", false},
      {"Basic ", "Ada:correct, horse", false},
      {"Basic ", "", false},
      {"Bearer ", "ada:correct, horse", false},
      {"Basic", "ada:correct, horse", false},
      {"", "ada:correct, horse", false},
  };
  struct http_auth *a;
  struct beam_error e = BEAM_ERROR_INIT;
  assert_int_equal(http_auth_new("ada:correct, horse\r\n\nbob:b:c", &a, &e), 0);
  for (size_t i = 0; i < ROWS(table); i++) {
    char value[200];
    size_t n = strlen(table[i].prefix);
    memcpy(value, table[i].prefix, n);
    base64_encode(value + n, table[i].pair, strlen(table[i].pair));
    struct http_field f[] = {{SPAN("authorization"), span_of(value)},
                             {SPAN("Authorization"), span_of(value)}};
    struct http_head h = {.fields = f, .fields_n = 1};
    if (http_auth_ok(a, &h) != table[i].ok)
      fail_msg("%s%s", table[i].prefix, table[i].pair);
    h.fields_n = 2;
    assert_false(http_auth_ok(a, &h));
    h.fields_n = 0;
    assert_false(http_auth_ok(a, &h));
  }
  http_auth_free(a);
}

static void rates(void **state) {
  (void)state;
  static const struct {
    unsigned ms; /* later than the row before */
    const char *visitor;
    unsigned wait;
  } table[] = {
      {0, "192.0.2.1:1", 0},
      {0, "192.0.2.1:2", 0},
      {0, "192.0.2.1:3", 0},
      {0, "192.0.2.1:4", 20},
      {0, "192.0.2.2:1", 0},
      {0, "[2001:db8::1]:1", 0},
      {0, "[2001:db8::2]:1", 0},
      {0, "[2001:db8:0:0:ffff::3]:1", 0},
      {0, "[2001:db8::4]:1", 20}, /* one subscriber */
      {0, "[2001:db8:0:1::4]:1", 0},
      {0, "?", 0},
      {0, "", 0},
      {0, "unix:", 0},
      {0, "", 20},
      {19999, "192.0.2.1:5", 1},
      {1, "192.0.2.1:5", 0},
      {0, "192.0.2.1:5", 20},
      {0, "192.0.2.2:5", 0},
      {30000, "192.0.2.1:5", 0},
      {0, "192.0.2.1:5", 10},
      {60000, "192.0.2.1:5", 0},
      {0, "192.0.2.1:5", 0},
      {0, "192.0.2.1:5", 0},
      {0, "192.0.2.1:5", 20},
  };
  struct rate *r;
  struct beam_error e = BEAM_ERROR_INIT;
  uint64_t now = 1000000;
  assert_int_equal(rate_new("3/m", &r, &e), 0);
  for (size_t i = 0; i < ROWS(table); i++) {
    now += table[i].ms;
    unsigned wait = rate_take(r, table[i].visitor, now);
    if (wait != table[i].wait)
      fail_msg("row %zu: %u", i, wait);
  }
  assert_int_equal(rate_rows(r), 1); /* the others' buckets are full again */
  rate_free(r);
}

/* However many come, so many are known, and whoever asks most often is not the one who is forgotten. */
static void rate_flood(void **state) {
  (void)state;
  struct rate *r;
  struct beam_error e = BEAM_ERROR_INIT;
  char v[32];
  unsigned refused = 0;
  assert_int_equal(rate_new("2/h", &r, &e), 0);
  for (unsigned i = 0; i < 3 * LIMIT_RATE_VISITORS; i++) {
    str_fmt(v, sizeof v, "10.%u.%u.%u:1", i >> 16, i >> 8 & 255, i & 255);
    assert_int_equal(rate_take(r, v, 1000), 0);
    if (i % 1000 == 0)
      refused += rate_take(r, "192.0.2.1:1", 1000) != 0;
  }
  assert_int_equal(rate_rows(r), LIMIT_RATE_VISITORS);
  assert_int_equal(refused, (3 * LIMIT_RATE_VISITORS + 999) / 1000 - 2);
  rate_free(r);
}

#define ASK "Host: t.test\r\nConnection: close\r\n"

/* One request of this visitor on a connection of its own, `ms` after the one before. */
struct ask {
  unsigned ms;
  const char *visitor, *fields;
  enum page page;          /* that refuses it; else it is with the service */
  const char *retry_after; /* NULL: says nothing */
};

static uint64_t later;

/* The clock of each rig begins anew: the visitor comes when it is as late as for the one before. */
static int front_later(struct stream *s, const struct front_conf *conf, struct front **out) {
  rig_wait(conf->user, later);
  return h1_front_new(s, conf, out);
}

static void asked(struct policy *p, uint64_t *now, size_t row, const struct ask *a) {
  char text[300], want[80];
  later = *now += a->ms;
  struct rig *r = rig_new_with(DIRECT, front_later);
  r->policy = p;
  r->address = a->visitor;
  str_fmt(text, sizeof text, "GET / HTTP/1.1\r\n" ASK "%s\r\n", a->fields);
  peer_say(&r->visitor, text);
  rig_run(r);
  const char *answer = peer_text(&r->visitor);
  if (r->refused != a->page || r->dials != (a->page == PAGE_NONE))
    fail_msg("row %zu: %u, %u dials", row, (unsigned)r->refused, r->dials);
  str_fmt(want, sizeof want, "Retry-After: %s\r\n", a->retry_after ? a->retry_after : "");
  if (a->page && !strstr(answer, "Beam-Error: BEAM-"))
    fail_msg("row %zu: %s", row, answer);
  if (!strstr(answer, a->retry_after ? want : "Retry-After") != !a->retry_after)
    fail_msg("row %zu: %s: %s", row, want, answer);
  rig_free(r);
}

/* One address may ask twice in a minute, all together three times. Only what reaches the service takes from the total. */
static void total(void **state) {
  (void)state;
  static const struct ask table[] = {
      {0, "198.51.100.9:1", "", PAGE_ADDRESS, NULL},
      {0, "192.0.2.1:1", "Content-Length: 9\r\n", PAGE_BODY_TOO_LARGE, NULL},
      {0, "192.0.2.1:1", "", PAGE_NONE, NULL},
      {0, "192.0.2.1:1", "", PAGE_RATE, "30"},
      {0, "192.0.2.1:1", "", PAGE_RATE, "30"},
      {0, "192.0.2.1:1", "", PAGE_RATE, "30"},
      {0, "192.0.2.2:1", "", PAGE_NONE, NULL},
      {0, "192.0.2.3:1", "", PAGE_NONE, NULL},
      {0, "192.0.2.4:1", "", PAGE_RATE_TOTAL, "20"},
      {0, "192.0.2.1:1", "", PAGE_RATE, "30"},
      {5000, "[2001:db8::1]:1", "", PAGE_RATE_TOTAL, "15"},
      {14000, "192.0.2.5:1", "", PAGE_RATE_TOTAL, "1"},
      {1000, "192.0.2.5:1", "", PAGE_NONE, NULL},
      {0, "192.0.2.6:1", "", PAGE_RATE_TOTAL, "20"},
  };
  struct beam_http_policy c = BEAM_HTTP_POLICY_INIT;
  uint64_t now = 0;
  c.deny = "198.51.100.0/24";
  c.rate_limit = "2/m";
  c.rate_limit_total = "3/m";
  c.max_body = 8;
  struct policy *p = made(&c);
  for (size_t i = 0; i < ROWS(table); i++)
    asked(p, &now, i, &table[i]);
  policy_unref(p);
}

#define RIGHT "Authorization: Basic YWRhOnJpZ2h0\r\n" /* ada:right */
#define WRONG "Authorization: Basic YWRhOndyb25n\r\n" /* ada:wrong */
#define BEARER "Authorization: Bearer YWRhOnJpZ2h0\r\n"

static void tries(void **state) {
  (void)state;
  static const struct ask table[] = {
      {0, "192.0.2.1:1", RIGHT, PAGE_PASSWORD_TRIES, "6"}, /* or it would tell which one is right */
      {0, "192.0.2.1:2", WRONG, PAGE_PASSWORD_TRIES, "6"},
      {0, "192.0.2.1:2", RIGHT RIGHT, PAGE_PASSWORD_TRIES, "6"},
      {0, "192.0.2.1:1", "", PAGE_AUTH, NULL},
      {0, "192.0.2.1:1", BEARER, PAGE_AUTH, NULL},
      {0, "192.0.2.2:1", RIGHT, PAGE_NONE, NULL}, /* nobody else is meant */
      {5999, "192.0.2.1:1", RIGHT, PAGE_PASSWORD_TRIES, "1"},
      {1, "192.0.2.1:1", RIGHT, PAGE_NONE, NULL},
      {0, "192.0.2.1:1", RIGHT, PAGE_NONE, NULL}, /* the right one costs nothing */
      {0, "192.0.2.1:1", WRONG, PAGE_AUTH, NULL},
      {0, "192.0.2.1:1", RIGHT, PAGE_PASSWORD_TRIES, "6"},
      {6000, "192.0.2.1:1", BEARER WRONG, PAGE_AUTH, NULL}, /* behind another scheme it counts too */
      {0, "192.0.2.1:1", RIGHT, PAGE_PASSWORD_TRIES, "6"},
      {60000, "192.0.2.1:1", RIGHT, PAGE_NONE, NULL},
  };
  struct beam_http_policy c = BEAM_HTTP_POLICY_INIT;
  uint64_t now = 0;
  c.auth = "ada:right";
  struct policy *p = made(&c);
  for (size_t i = 0; i < 2 * LIMIT_PASSWORD_TRIES; i++) /* every second one brings no password: not counted */
    asked(p, &now, i, &(struct ask){0, "192.0.2.1:9", i % 2 ? WRONG : BEARER, PAGE_AUTH, NULL});
  for (size_t i = 0; i < ROWS(table); i++)
    asked(p, &now, i, &table[i]);
  policy_unref(p);
}

/* A subscriber's IPv6 addresses are one; others next to it are not. */
static void tries_v6(void **state) {
  (void)state;
  struct beam_http_policy c = BEAM_HTTP_POLICY_INIT;
  uint64_t now = 0;
  c.auth = "ada:right";
  struct policy *p = made(&c);
  for (size_t i = 0; i < LIMIT_PASSWORD_TRIES; i++) {
    char v[40];
    str_fmt(v, sizeof v, "[2001:db8::%zx]:1", i + 1);
    asked(p, &now, i, &(struct ask){0, v, WRONG, PAGE_AUTH, NULL});
  }
  asked(p, &now, 0, &(struct ask){0, "[2001:db8::ffff:1]:1", RIGHT, PAGE_PASSWORD_TRIES, "6"});
  asked(p, &now, 1, &(struct ask){0, "[2001:db8:0:1::1]:1", RIGHT, PAGE_NONE, NULL});
  policy_unref(p);
}

/* Asking how long to wait neither takes nor remembers. */
static void rate_asked(void **state) {
  (void)state;
  struct rate *r = rate_of(2, 60);
  assert_non_null(r);
  for (int i = 0; i < 5; i++)
    assert_int_equal(rate_wait(r, "192.0.2.1:1", 1000000), 0);
  assert_int_equal(rate_rows(r), 0);
  assert_int_equal(rate_take(r, "192.0.2.1:1", 1000000), 0);
  assert_int_equal(rate_wait(r, "192.0.2.1:1", 1000000), 0);
  assert_int_equal(rate_take(r, "192.0.2.1:1", 1000000), 0);
  assert_int_equal(rate_wait(r, "192.0.2.1:1", 1000000), 30);
  assert_int_equal(rate_wait(r, "192.0.2.1:1", 1029999), 1);
  assert_int_equal(rate_wait(r, "192.0.2.1:1", 1030000), 0);
  assert_int_equal(rate_wait(r, "192.0.2.2:1", 1000000), 0);
  assert_int_equal(rate_rows(r), 1);
  rate_free(r);
}

static void fields(void **state) {
  (void)state;
  struct edits *e;
  struct beam_error err = BEAM_ERROR_INIT;
  assert_int_equal(edits_new("X-A:  one two \nx-b:\r\n\nX-A: again\nNew:1", "x", &e, &err), 0);
  assert_int_equal(edits_count(e), 4);
  struct http_field f[8] = {{SPAN("X-B"), SPAN("gone")},
                            {SPAN("Kept"), SPAN("k")},
                            {SPAN("x-a"), SPAN("old")},
                            {SPAN("X-b"), SPAN("gone")}};
  static const char *const want[][2] = {{"Kept", "k"}, {"X-A", "one two"}, {"X-A", "again"}, {"New", "1"}};
  size_t n = edits_apply(e, f, 4);
  assert_int_equal(n, ROWS(want));
  for (size_t i = 0; i < n; i++) {
    assert_true(span_eq(f[i].name, span_of(want[i][0])));
    assert_true(span_eq(f[i].value, span_of(want[i][1])));
  }
  edits_free(e);
  assert_int_equal(edits_apply(NULL, f, 3), 3);
}

static void origins(void **state) {
  (void)state;
  static const struct {
    const char *list, *origin, *allowed; /* NULL: no such field; nobody */
    size_t fields;
  } table[] = {
      {"*", "https://a.test", "*", 1},
      {"*", NULL, NULL, 0},
      {"https://a.test", "https://a.test", "https://a.test", 3},
      {"https://a.test, http://localhost:3000", "http://localhost:3000", "http://localhost:3000", 3},
      {"https://a.test", "https://a.test.evil", NULL, 1},
      {"https://a.test", "http://a.test", NULL, 1},
      {"https://a.test", "https://a.test:444", NULL, 1},
      {"https://a.test", "null", NULL, 1},
      {"https://a.test", "", NULL, 1},
      {"https://a.test", NULL, NULL, 1},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct cors *c;
    struct beam_error e = BEAM_ERROR_INIT;
    struct http_field out[CORS_FIELDS], f = {SPAN("Origin"), span_of(table[i].origin)};
    struct http_head h = {.fields = &f, .fields_n = table[i].origin != NULL};
    assert_int_equal(cors_new(table[i].list, &c, &e), 0);
    struct span allowed = cors_allows(c, &h);
    if (!span_eq(allowed, span_of(table[i].allowed)))
      fail_msg("%s for %s: %.*s", table[i].origin, table[i].list, SPAN_FMT(allowed));
    assert_int_equal(cors_fields(c, allowed, out), table[i].fields);
    cors_free(c);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(addresses),  cmocka_unit_test(mistakes), cmocka_unit_test(older),
      cmocka_unit_test(passwords),  cmocka_unit_test(rates),    cmocka_unit_test(rate_flood),
      cmocka_unit_test(rate_asked), cmocka_unit_test(total),    cmocka_unit_test(tries),
      cmocka_unit_test(tries_v6),   cmocka_unit_test(fields),   cmocka_unit_test(origins)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
