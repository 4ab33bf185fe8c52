/* Which certificate a name gets: its own leaf, renewed daily, or the owner's; never one that a stranger asked for. */
#include "../tmpdir.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include "domain/certs.h"
#include "tls/tls.h"

static struct ca *ca;
static struct certs *certs;
static struct beam_error e;

static int set_up(void **state) {
  e = (struct beam_error)BEAM_ERROR_INIT;
  return tmp_make(state) || ca_ephemeral(&ca, &e);
}

static int tear_down(void **state) {
  certs_free(certs);
  certs = NULL;
  ca_free(ca);
  return tmp_remove(state);
}

static void fingerprint(const char *name, uint8_t out[32]) {
  struct tls_cert *t = certs_get(certs, name);
  assert_non_null(t);
  tls_cert_fingerprint(t, out);
  tls_cert_unref(t);
  struct cert *c = certs_get_cert(certs, name);
  assert_non_null(c);
  assert_memory_equal(c->fingerprint, out, 32); /* both shapes are of one certificate */
  cert_unref(c);
}

static void assert_none(const char *name) {
  assert_null(certs_get(certs, name));
  assert_null(certs_get_cert(certs, name));
}

static void own_leaves(void **state) {
  (void)state;
  uint8_t a[32], b[32];
  assert_int_equal(certs_new(ca, "tunnel.test", NULL, NULL, &certs, &e), 0);
  assert_none("shop.tunnel.test"); /* a stranger's SNI mints nothing */
  assert_int_equal(certs_add(certs, "shop.tunnel.test", &e), 0);
  struct cert *c = certs_get_cert(certs, "shop.tunnel.test");
  assert_true(cert_covers(c, "shop.tunnel.test"));
  assert_false(cert_covers(c, "other.tunnel.test"));
  assert_int_equal(c->chain_n, 1);
  fingerprint("shop.tunnel.test", a);
  fingerprint("shop.tunnel.test", b);
  assert_memory_equal(a, b, 32);
  assert_none("other.tunnel.test");
  assert_none("");
  assert_none("SHOP.tunnel.test.");

  assert_int_equal(certs_add(certs, "shop.tunnel.test", &e), 0); /* counted */
  certs_drop(certs, "shop.tunnel.test");
  fingerprint("shop.tunnel.test", b);
  assert_memory_equal(a, b, 32);
  certs_drop(certs, "shop.tunnel.test");
  assert_none("shop.tunnel.test");
  certs_drop(certs, "shop.tunnel.test");
  assert_true(cert_covers(c, "shop.tunnel.test")); /* who holds a reference keeps it */
  cert_unref(c);
  assert_int_equal(certs_add(certs, "*.tunnel.test", &e), BEAM_ERR_INVALID);
  certs_free(NULL);
}

static _Atomic int64_t offset;
static int64_t later(void) {
  return (int64_t)time(NULL) + atomic_load(&offset);
}

static void renewed_daily(void **state) {
  (void)state;
  uint8_t a[32], b[32], link_a[32], link_b[32];
  atomic_store(&offset, 0);
  assert_int_equal(certs_new(ca, "tunnel.test", NULL, NULL, &certs, &e), 0);
  certs_clock(certs, later);
  assert_int_equal(certs_add(certs, "shop.tunnel.test", &e), 0);
  fingerprint("shop.tunnel.test", a);
  struct tls_cert *t = certs_get_link(certs);
  tls_cert_fingerprint(t, link_a);
  tls_cert_unref(t);
  static const struct {
    int64_t at;
    bool changes;
  } rows[] = {{24 * 3600 - 60, false},
              {24 * 3600 + 60, true},
              {24 * 3600 + 120, false},
              {48 * 3600 + 120, true},
              {0, true},
              {0, false}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) { /* the last: the clock was put back */
    atomic_store(&offset, rows[i].at);
    fingerprint("shop.tunnel.test", b);
    assert_int_equal(memcmp(a, b, 32) != 0, rows[i].changes);
    memcpy(a, b, 32);
    t = certs_get_link(certs);
    tls_cert_fingerprint(t, link_b);
    tls_cert_unref(t);
    assert_int_equal(memcmp(link_a, link_b, 32) != 0, rows[i].changes);
    memcpy(link_a, link_b, 32);
  }
}

static void link_leaf(void **state) {
  (void)state;
  assert_int_equal(certs_new(ca, "tunnel.test", NULL, NULL, &certs, &e), 0);
  struct tls_cert *t = certs_get_link(certs);
  assert_non_null(t);
  size_t n;
  assert_non_null(tls_cert_leaf(t, &n));
  tls_cert_unref(t);
  assert_none("beam-relay"); /* not for visitors */
}

/* --- the owner's certificate --- */

static void make_owners(const char *name, const char *sans) {
  char line[1024];
  snprintf(
      line, sizeof line,
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=x -addext "
      "subjectAltName=%s -keyout %s/%s.key -out %s/%s.pem 2>/dev/null",
      sans, tmp, name, tmp, name);
  int status = system(line);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void wildcard(void **state) {
  (void)state;
  uint8_t a[32], b[32], own[32];
  make_owners("wild", "DNS:*.tunnel.test,DNS:tunnel.test");
  const char *pem = tmp_path("wild.pem"), *key = tmp_path("wild.key");
  assert_int_equal(certs_new(ca, "Tunnel.test", pem, key, &certs, &e), 0);
  fingerprint("shop.tunnel.test", a);
  assert_int_equal(certs_add(certs, "shop.tunnel.test", &e), 0);
  fingerprint("shop.tunnel.test", b);
  assert_memory_equal(a, b, 32);
  assert_none("a.b.tunnel.test");
  assert_none("tunnel.test"); /* not added yet */
  assert_int_equal(certs_add(certs, "tunnel.test", &e), 0);
  fingerprint("tunnel.test", b);
  assert_memory_equal(a, b, 32);
  assert_int_equal(certs_add(certs, "control.example.org", &e), 0); /* not covered: a leaf of the CA */
  fingerprint("control.example.org", own);
  assert_memory_not_equal(a, own, 32);
  struct tls_cert *t = certs_get_link(certs); /* never the public one */
  tls_cert_fingerprint(t, b);
  tls_cert_unref(t);
  assert_memory_not_equal(a, b, 32);

  /* renewed on disk */
  make_owners("wild", "DNS:*.tunnel.test,DNS:tunnel.test");
  assert_int_equal(certs_change(certs, tmp_path("wild.pem"), tmp_path("wild.key"), &e), 0);
  fingerprint("shop.tunnel.test", b);
  assert_memory_not_equal(a, b, 32);
  /* what no longer covers a bound name, and what is half written, is not taken */
  make_owners("wild", "DNS:*.tunnel.test");
  assert_int_equal(certs_change(certs, tmp_path("wild.pem"), tmp_path("wild.key"), &e), BEAM_ERR_INVALID);
  assert_non_null(strstr(e.what, "does not cover tunnel.test"));
  tmp_put("wild.pem", "half", 4, 0600);
  assert_int_equal(certs_change(certs, tmp_path("wild.pem"), tmp_path("wild.key"), &e), BEAM_ERR_INVALID);
  fingerprint("shop.tunnel.test", a);
  assert_memory_equal(a, b, 32);
  certs_drop(certs, "shop.tunnel.test");
  certs_drop(certs, "tunnel.test");
  assert_none("tunnel.test");
}

static void wildcard_refused(void **state) {
  (void)state;
  make_owners("other", "DNS:*.other.test");
  make_owners("host", "DNS:*.localhost");
  const char *other = tmp_path("other.pem"), *other_key = tmp_path("other.key");
  assert_int_equal(certs_new(ca, "tunnel.test", other, other_key, &certs, &e), BEAM_ERR_INVALID);
  assert_null(certs);
  assert_non_null(strstr(e.what, "does not cover *.tunnel.test"));
  assert_int_equal(certs_new(ca, "localhost", tmp_path("host.pem"), tmp_path("host.key"), &certs, &e),
                   BEAM_ERR_INVALID);
  assert_non_null(strstr(e.what, "browsers refuse"));
  assert_int_equal(certs_new(ca, "other.test", other, NULL, &certs, &e), BEAM_ERR_INVALID);
  assert_int_equal(certs_new(ca, "other.test", NULL, other_key, &certs, &e), BEAM_ERR_INVALID);
  assert_int_equal(certs_new(ca, "other.test", other, tmp_path("host.key"), &certs, &e), BEAM_ERR_INVALID);
  assert_int_equal(certs_new(ca, "other.test", tmp_path("none"), other_key, &certs, &e), BEAM_ERR_NOT_FOUND);
  assert_int_equal(certs_new(ca, "a b", NULL, NULL, &certs, &e), BEAM_ERR_INVALID);
  assert_null(certs);
}

/* Workers take references while names come and go and leaves are renewed; for the sanitizers to look at. */
static atomic_bool stop;
static void *take(void *arg) {
  (void)arg;
  while (!atomic_load(&stop)) {
    struct tls_cert *t = certs_get(certs, "shop.tunnel.test");
    if (t) {
      uint8_t fp[32];
      tls_cert_fingerprint(t, fp);
      tls_cert_unref(t);
    }
    struct cert *c = certs_get_cert(certs, "always.tunnel.test");
    assert_non_null(c);
    cert_unref(c);
  }
  return NULL;
}

static void shared_between_threads(void **state) {
  (void)state;
  pthread_t threads[2];
  atomic_store(&offset, 0);
  atomic_store(&stop, false);
  assert_int_equal(certs_new(ca, "tunnel.test", NULL, NULL, &certs, &e), 0);
  certs_clock(certs, later);
  assert_int_equal(certs_add(certs, "always.tunnel.test", &e), 0);
  for (int i = 0; i < 2; i++)
    pthread_create(&threads[i], NULL, take, NULL);
  for (int i = 0; i < 30; i++) {
    assert_int_equal(certs_add(certs, "shop.tunnel.test", &e), 0);
    atomic_fetch_add(&offset, 25 * 3600);
    certs_drop(certs, "shop.tunnel.test");
  }
  atomic_store(&stop, true);
  for (int i = 0; i < 2; i++)
    pthread_join(threads[i], NULL);
}

#define certs_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {certs_test(own_leaves),       certs_test(renewed_daily),
                                     certs_test(link_leaf),        certs_test(wildcard),
                                     certs_test(wildcard_refused), certs_test(shared_between_threads)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
