/* Every allocation fails once: an error or the whole result, no crash, no leak, and no file that is half there. */
#include "../tmpdir.h"

#include "../nomem.h"

#include "identity/ca.h"
#include "identity/pins.h"
#include "identity/tokens.h"

static struct beam_error e;
static const uint8_t fp[32] = {7};

static int make_ca(void) {
  struct ca *ca;
  struct cert *c;
  const char *name = "shop.tunnel.test";
  int err = ca_load(tmp_path("relay"), &ca, &e);
  if (err)
    return err;
  err = ca_issue(ca, &name, 1, CA_LINK, 24, &c, &e);
  if (!err)
    cert_unref(c);
  ca_free(ca);
  return err;
}

static int make_key(void) {
  struct key *k;
  int err = device_load(tmp_path("agent"), &k, &e);
  if (!err)
    key_free(k);
  return err;
}

static int make_pins(void) {
  int err = pins_remember(tmp_path("agent"), "relay.test:443", fp, &e);
  return err ? err : pins_check(tmp_path("agent"), "relay.test:443", fp, &e);
}

static int read_tokens(void) {
  struct tokens *t;
  int err = tokens_load(tmp_path("tokens"), &t, &e);
  if (!err) {
    assert_true(tokens_match(t, "0123456789abcdef"));
    tokens_free(t);
  }
  return err;
}

static int read_cert(void) {
  struct cert *c;
  int err = cert_load(tmp_path("cert"), tmp_path("key"), &c, &e);
  if (!err) {
    assert_int_equal(c->chain_n, 1);
    cert_unref(c);
  }
  return err;
}

static int read_fingerprint(void) {
  uint8_t out[32];
  return fingerprint_of(tmp_path("relay/ca.pem"), out, &e);
}

static int (*const work[])(void) = {make_ca, make_key, make_pins, read_tokens, read_cert, read_fingerprint};

/* What the readers read: a leaf of a CA that lived for this only. */
static void put_files(void) {
  struct ca *ca;
  struct cert *c;
  char line[256];
  const char *name = "shop.tunnel.test";
  assert_int_equal(ca_load(tmp_path("relay"), &ca, &e), 0);
  assert_int_equal(ca_issue(ca, &name, 1, CA_SERVER, 24, &c, &e), 0);
  tmp_put("cert", c->chain, strlen(c->chain), 0600);
  tmp_put("der", c->key.p, c->key.n, 0600);
  snprintf(line, sizeof line, "openssl ec -inform DER -in %s/der -out %s/key 2>/dev/null", tmp, tmp);
  assert_int_equal(system(line), 0);
  tmp_put("tokens", "0123456789abcdef", 16, 0600);
  cert_unref(c);
  ca_free(ca);
}

/* Run one piece of work with its at-th allocation failing, from files that are there or (fresh) from nothing. False: it made fewer. */
static bool with_failure(int (*run)(void), long at, bool fresh) {
  if (fresh) {
    remove(tmp_path("relay/ca.key"));
    remove(tmp_path("relay/ca.pem"));
    remove(tmp_path("agent/device.key"));
    remove(tmp_path("agent/known_relays"));
  }
  e = (struct beam_error)BEAM_ERROR_INIT;
  long before = live;
  count = 0;
  fail_at = at;
  int err = run();
  bool reached = count >= at;
  fail_at = 0;
  assert_int_equal(live, before);
  if (err) {
    assert_int_equal(e.code, err);
    assert_true(*e.what);
  }
  assert_int_equal(run(), 0); /* nothing is half there */
  return reached;
}

static void each_fails_once(void **state) {
  (void)state;
  if (!INTERPOSE) {
    print_message("skipped: the sanitizer owns malloc\n");
    skip();
  }
  const char *how_long = getenv("BEAM_TEST_LONG"); /* set and empty: not */
  bool every_one = how_long && *how_long;
  for (size_t i = 0; i < sizeof work / sizeof *work; i++) {
    put_files();
    assert_int_equal(work[i](), 0); /* once in peace, for what libraries keep for ever */
    long at = 1;
    while (with_failure(work[i], at, work[i] != read_fingerprint && at % 2 == 0))
      at += at < 100 || every_one ? 1 : 7;
    print_message("about %ld allocations\n", at);
    assert_true(at > 1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {tmp_test(each_fails_once)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
