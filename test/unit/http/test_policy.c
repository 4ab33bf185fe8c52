#include "rig.h"

#include "http/auth.h"
#include "http/policy.h"
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
  char many[LIMIT_POLICY_RANGES * 4 + 16] = "::1", users[LIMIT_POLICY_USERS * 5 + 16] = "";
  for (unsigned i = 0; i < LIMIT_POLICY_RANGES; i++)
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

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(addresses), cmocka_unit_test(mistakes),
                                     cmocka_unit_test(older), cmocka_unit_test(passwords)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
