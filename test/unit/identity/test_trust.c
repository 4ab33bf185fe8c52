/* Who may do what: one row for each reason, and for each neighbour that is allowed. */
#include "../tmpdir.h"

#include "base/limits.h"
#include "identity/trust.h"

#define HELLO .action = TRUST_HELLO, .proof_ok = true, .version_ok = true
#define BIND .action = TRUST_BIND, .label_ok = true

static const struct {
  struct trust_facts f;
  int err;
  const char *reason; /* a part of it */
} rows[] = {
    {{.action = TRUST_LISTEN}, 0, ""},
    {{.action = TRUST_LISTEN, .relay_public = true}, BEAM_ERR_DENIED, "must say who"},
    {{.action = TRUST_LISTEN, .relay_public = true, .open = true}, 0, ""},
    {{.action = TRUST_LISTEN, .relay_public = true, .tokens_set = true}, 0, ""},

    {{HELLO}, 0, ""},
    {{HELLO, .relay_public = true}, BEAM_ERR_DENIED, "nobody"},
    {{HELLO, .relay_public = true, .open = true}, 0, ""},
    {{HELLO, .tokens_set = true}, BEAM_ERR_DENIED, "asks for a token"},
    {{HELLO, .tokens_set = true, .open = true},
     BEAM_ERR_DENIED,
     "asks for a token"}, /* the stricter of the two */
    {{HELLO, .tokens_set = true, .token_given = true}, BEAM_ERR_DENIED, "not one of"},
    {{HELLO, .relay_public = true, .tokens_set = true, .token_given = true, .token_ok = true}, 0, ""},
    {{HELLO, .token_given = true}, 0, ""}, /* one that nobody asked for does no harm */
    {{.action = TRUST_CONNECT, .running = true, .is_private = true}, 0, ""},
    {{.action = TRUST_CONNECT, .running = true, .is_private = true, .draining = true},
     BEAM_ERR_DRAINING,
     "about to end"},
    {{.action = TRUST_CONNECT, .owned_by_other = true, .is_private = true}, BEAM_ERR_NOT_FOUND, "running"},
    {{.action = TRUST_CONNECT, .running = true, .owned_by_other = true}, BEAM_ERR_DENIED, "another device"},
    {{.action = TRUST_CONNECT, .running = true}, BEAM_ERR_DENIED, "public"},
    {{HELLO, .draining = true}, BEAM_ERR_DRAINING, "about to end"},
    {{.action = TRUST_BIND, .draining = true}, BEAM_ERR_DRAINING, "about to end"},
    {{.action = TRUST_HELLO, .version_ok = true}, BEAM_ERR_UNTRUSTED, "device key"},
    {{.action = TRUST_HELLO, .version_ok = true, .tokens_set = true, .token_given = true, .token_ok = true},
     BEAM_ERR_UNTRUSTED,
     "device key"},
    {{.action = TRUST_HELLO, .proof_ok = true}, BEAM_ERR_UNSUPPORTED, "version"},
    {{HELLO, .sessions = LIMIT_SESSIONS - 1}, 0, ""},
    {{HELLO, .sessions = LIMIT_SESSIONS}, BEAM_ERR_LIMIT, "full"},

    {{.action = TRUST_BIND}, 0, ""},
    {{BIND, .name_given = true}, 0, ""},
    {{.action = TRUST_BIND, .name_given = true}, BEAM_ERR_NAME, "valid"},
    {{BIND, .name_given = true, .reserved = true}, BEAM_ERR_NAME, "keeps"},
    {{BIND, .name_given = true, .owned_by_other = true}, BEAM_ERR_TAKEN, "someone else"},
    {{BIND, .name_given = true, .owned_by_other = true, .takeover = true}, BEAM_ERR_TAKEN, "someone else"},
    {{BIND, .live_elsewhere = true}, BEAM_ERR_TAKEN, "another of your devices"},
    {{BIND, .live_elsewhere = true, .takeover = true}, 0, ""},
    {{BIND, .tunnels = LIMIT_TUNNELS_PER_SESSION - 1}, 0, ""},
    {{BIND, .tunnels = LIMIT_TUNNELS_PER_SESSION}, BEAM_ERR_LIMIT, "as many tunnels"},
    {{BIND, .port_wanted = true}, BEAM_ERR_UNSUPPORTED, "ports"},
    {{BIND, .port_wanted = true, .ports_offered = true}, 0, ""},
};

static void decisions(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct trust t = trust_allows(&rows[i].f);
    if (t.err != rows[i].err)
      print_error("row %zu: %s\n", i, t.reason);
    assert_int_equal(t.err, rows[i].err);
    assert_non_null(strstr(t.reason, rows[i].reason));
    assert_int_equal(t.err != 0, *t.hint != 0); /* a refusal says what to do */
  }
  struct trust_facts unknown = {.action = (enum trust_action)99};
  assert_int_equal(trust_allows(&unknown).err, BEAM_ERR_INTERNAL);
}

int main(void) {
  const struct CMUnitTest tests[] = {tmp_test(decisions)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
