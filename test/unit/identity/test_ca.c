/* The relay's CA: made once, its leaves are what OpenSSL takes, its files are never lost to damage. */
#include "../tmpdir.h"

#include <sys/wait.h>
#include <time.h>

#include "base/str.h"
#include "identity/ca.h"

static struct beam_error e = BEAM_ERROR_INIT;

/* Runs a shell command line, its output goes to out; returns the exit status. */
__attribute__((format(printf, 3, 4))) static int run(char *out, size_t cap, const char *fmt, ...) {
  char line[1024];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  FILE *f = popen(line, "r");
  size_t n = fread(out, 1, cap - 1, f);
  out[n] = 0;
  int status = pclose(f);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void made_once_and_kept(void **state) {
  (void)state;
  struct ca *a, *b;
  char pem[4096];
  assert_int_equal(ca_load(tmp_path("relay"), &a, &e), 0);
  assert_int_equal(tmp_mode("relay/ca.key"), 0600);
  assert_int_equal(tmp_mode("relay/relay.key"), 0600);
  assert_int_equal(tmp_mode("relay/ca.pem"), 0644);
  tmp_get("relay/ca.pem", pem, sizeof pem);
  assert_string_equal(pem, ca_pem(a));
  assert_string_equal(ca_file(a), tmp_path("relay/ca.pem"));
  assert_null(strstr(pem, "PRIVATE"));
  assert_int_equal(ca_load(tmp_path("relay"), &b, &e), 0);
  assert_memory_equal(ca_fingerprint(a), ca_fingerprint(b), 32);
  assert_string_equal(key_id(ca_relay_key(a)), key_id(ca_relay_key(b)));
  ca_free(b);

  uint8_t fp[32];
  assert_int_equal(fingerprint_of(ca_file(a), fp, &e), 0);
  assert_memory_equal(fp, ca_fingerprint(a), 32);
  assert_int_equal(fingerprint_of(ca_fingerprint_text(a), fp, &e), 0);
  assert_memory_equal(fp, ca_fingerprint(a), 32);

  /* ca.pem is a copy: lost or spoiled, it comes back */
  assert_int_equal(unlink(ca_file(a)), 0);
  assert_int_equal(ca_load(tmp_path("relay"), &b, &e), 0);
  ca_free(b);
  tmp_get("relay/ca.pem", pem, sizeof pem);
  assert_string_equal(pem, ca_pem(a));
  tmp_put("relay/ca.pem", "x", 1, 0644);
  assert_int_equal(ca_load(tmp_path("relay"), &b, &e), 0);
  ca_free(b);
  tmp_get("relay/ca.pem", pem, sizeof pem);
  assert_string_equal(pem, ca_pem(a));
  ca_free(a);
  ca_free(NULL);
}

static void openssl_agrees(void **state) {
  (void)state;
  static char out[16384];
  struct ca *ca;
  struct cert *c;
  assert_int_equal(ca_load(tmp, &ca, &e), 0);
  assert_int_equal(run(out, sizeof out, "openssl x509 -in %s -noout -fingerprint -sha256 -text", ca_file(ca)),
                   0);
  uint8_t fp[32];
  char *line = strstr(out, "Fingerprint="), text[200];
  assert_non_null(line);
  snprintf(text, sizeof text, "sha256:%.*s", (int)strcspn(line + 12, "\n"), line + 12);
  assert_int_equal(fingerprint_of(text, fp, &e), 0);
  assert_memory_equal(fp, ca_fingerprint(ca), 32);
  assert_non_null(strstr(out, "CN = Beam relay CA "));
  assert_non_null(strstr(out, "CA:TRUE, pathlen:0"));

  const char *names[] = {"swift-otter-123.tunnel.test", "127.0.0.1", "::1"};
  assert_int_equal(ca_issue(ca, names, 3, CA_SERVER, 48, &c, &e), 0);
  assert_int_equal(c->chain_n, 1);
  tmp_put("leaf.pem", c->chain, strlen(c->chain), 0600);
  assert_int_equal(
      run(out, sizeof out,
          "openssl verify -x509_strict -purpose sslserver -verify_hostname %s -CAfile %s %s 2>&1", names[0],
          ca_file(ca), tmp_path("leaf.pem")),
      0);
  assert_int_equal(run(out, sizeof out, "openssl verify -x509_strict -verify_ip ::1 -CAfile %s %s 2>&1",
                       ca_file(ca), tmp_path("leaf.pem")),
                   0);
  assert_int_not_equal(run(out, sizeof out,
                           "openssl verify -verify_hostname other.tunnel.test -CAfile %s %s 2>&1",
                           ca_file(ca), tmp_path("leaf.pem")),
                       0);
  assert_int_not_equal(run(out, sizeof out, "openssl verify -purpose sslclient -CAfile %s %s 2>&1",
                           ca_file(ca), tmp_path("leaf.pem")),
                       0);
  /* the key is the leaf's */
  tmp_put("leaf.der", c->key.p, c->key.n, 0600);
  assert_int_equal(
      run(out, sizeof out,
          "test \"$(openssl pkey -inform DER -in %s -pubout)\" = \"$(openssl x509 -in %s -noout -pubkey)\"",
          tmp_path("leaf.der"), tmp_path("leaf.pem")),
      0);
  cert_unref(c);

  assert_int_equal(ca_issue(ca, names, 1, CA_CLIENT, 24, &c, &e), 0);
  tmp_put("client.pem", c->chain, strlen(c->chain), 0600);
  assert_int_equal(run(out, sizeof out, "openssl verify -x509_strict -purpose sslclient -CAfile %s %s 2>&1",
                       ca_file(ca), tmp_path("client.pem")),
                   0);
  cert_unref(c);
  ca_free(ca);
}

static void leaves(void **state) {
  (void)state;
  struct ca *ca;
  struct cert *c, *d;
  const char *name = "swift-otter-123.tunnel.test", *ip = "10.0.0.1";
  assert_int_equal(ca_ephemeral(&ca, &e), 0);
  assert_string_equal(ca_file(ca), "");
  assert_int_equal(ca_issue(ca, &name, 1, CA_LINK, 24, &c, &e), 0);
  assert_int_equal(c->chain_n, 2);
  assert_non_null(strstr(c->chain, ca_pem(ca))); /* the agent finds the CA it pinned in the chain */
  int64_t now = (int64_t)time(NULL);
  assert_true(c->not_before <= now - 3590 && c->not_before >= now - 3660);
  assert_true(c->not_after >= now + 24 * 3600 - 60 && c->not_after <= now + 24 * 3600 + 1);
  assert_true(cert_covers(c, name));
  assert_true(cert_covers(c, "Swift-Otter-123.tunnel.test"));
  assert_false(cert_covers(c, "tunnel.test"));
  assert_false(cert_covers(c, "a.swift-otter-123.tunnel.test"));
  assert_false(cert_covers(c, ip));
  assert_ptr_equal(cert_ref(c), c);
  cert_unref(c);
  assert_int_equal(ca_issue(ca, &name, 1, CA_LINK, 24, &d, &e), 0);
  assert_memory_not_equal(c->fingerprint, d->fingerprint, 32); /* another key and serial each time */
  assert_false(c->key.n == d->key.n && !memcmp(c->key.p, d->key.p, c->key.n));
  cert_unref(d);
  cert_unref(c);
  assert_int_equal(ca_issue(ca, &ip, 1, CA_SERVER, 1, &c, &e), 0);
  assert_true(cert_covers(c, ip));
  assert_false(cert_covers(c, "10.0.0.2"));
  cert_unref(c);

  char long_label[300];
  memset(long_label, 'a', sizeof long_label);
  long_label[299] = 0;
  const char *bad[] = {"*.tunnel.test", "", "a b", "-a.test", long_label, "a..b"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(ca_issue(ca, &bad[i], 1, CA_SERVER, 24, &c, &e), BEAM_ERR_INVALID);
  assert_int_equal(ca_issue(ca, &name, 0, CA_SERVER, 24, &c, &e), BEAM_ERR_INVALID);
  assert_int_equal(ca_issue(ca, &name, 1, CA_SERVER, CA_LEAF_HOURS_MAX + 1, &c, &e), BEAM_ERR_INVALID);
  assert_int_equal(ca_issue(ca, &name, 1, CA_SERVER, 0, &c, &e), BEAM_ERR_INVALID);
  /* a name longer than a common name may be */
  char name70[100];
  snprintf(name70, sizeof name70, "%.60s.tunnel.test", long_label);
  const char *p = name70;
  assert_int_equal(ca_issue(ca, &p, 1, CA_SERVER, 24, &c, &e), 0);
  assert_true(cert_covers(c, name70));
  cert_unref(c);
  ca_free(ca);
}

static void issue_time_is_told(void **state) {
  (void)state;
  struct ca *ca;
  struct timespec a, b;
  enum { N = 50 };
  const char *name = "swift-otter-123.tunnel.test";
  assert_int_equal(ca_ephemeral(&ca, &e), 0);
  clock_gettime(CLOCK_MONOTONIC, &a);
  for (int i = 0; i < N; i++) {
    struct cert *c;
    assert_int_equal(ca_issue(ca, &name, 1, CA_SERVER, 24, &c, &e), 0);
    cert_unref(c);
  }
  clock_gettime(CLOCK_MONOTONIC, &b);
  print_message("%.2f ms a leaf\n",
                ((double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6) / N);
  ca_free(ca);
}

static void damaged_files_are_kept(void **state) {
  (void)state;
  struct ca *ca;
  char good[4096], now[4096];
  assert_int_equal(ca_load(tmp, &ca, &e), 0);
  ca_free(ca);
  size_t n = tmp_get("ca.key", good, sizeof good);
  for (size_t cut = 0; cut < n - 2; cut += 7) {
    tmp_put("ca.key", good, cut, 0600);
    int err = ca_load(tmp, &ca, &e);
    assert_int_equal(err, BEAM_ERR_INVALID);
    assert_null(ca);
    assert_non_null(strstr(e.what, "ca.key"));
    assert_int_equal(tmp_get("ca.key", now, sizeof now), cut);
  }
  /* the key of one CA, the certificate of another */
  struct ca *other;
  assert_int_equal(ca_load(tmp_path("other"), &other, &e), 0);
  char mixed[8192];
  int len = snprintf(mixed, sizeof mixed, "%.*s%s", (int)(strstr(good, "-----BEGIN CERT") - good), good,
                     ca_pem(other));
  tmp_put("ca.key", mixed, (size_t)len, 0600);
  assert_int_equal(ca_load(tmp, &ca, &e), BEAM_ERR_INVALID);
  assert_non_null(strstr(e.what, "do not belong together"));
  ca_free(other);
  tmp_put("ca.key", good, n, 0640);
  assert_int_equal(ca_load(tmp, &ca, &e), BEAM_ERR_PERMISSION);
  tmp_put("ca.key", good, n, 0600);
  assert_int_equal(ca_load(tmp, &ca, &e), 0);
  ca_free(ca);
}

static void started_at_once(void **state) {
  (void)state;
  enum { KIDS = 6 };
  int go[2], back[2];
  assert_int_equal(pipe(go) | pipe(back), 0);
  for (int i = 0; i < KIDS; i++) {
    if (fork())
      continue;
    char c;
    struct ca *ca;
    close(go[1]);
    if (read(go[0], &c, 1) < 0 || ca_load(tmp_path("new"), &ca, NULL))
      _exit(1);
    _exit(write(back[1], ca_fingerprint(ca), 32) != 32);
  }
  close(go[1]);
  uint8_t first[32], fp[32];
  for (int i = 0; i < KIDS; i++) {
    assert_int_equal(read(back[0], fp, 32), 32);
    if (i == 0)
      memcpy(first, fp, 32);
    assert_memory_equal(first, fp, 32);
  }
  for (int i = 0, status; i < KIDS; i++) {
    wait(&status);
    assert_int_equal(status, 0);
  }
  close(go[0]);
  close(back[0]);
  close(back[1]);
}

/* --- the owner's own certificate --- */

static void openssl_cert(const char *key, const char *cert, const char *more) {
  char out[4096];
  assert_int_equal(
      run(out, sizeof out,
          "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout %s -out %s -subj "
          "/CN=x -addext subjectAltName=DNS:*.tunnel.test,DNS:tunnel.test %s 2>&1",
          tmp_path(key), tmp_path(cert), more),
      0);
}

static void owners_certificate(void **state) {
  (void)state;
  struct cert *c;
  openssl_cert("key", "cert", "-days 30");
  assert_int_equal(cert_load(tmp_path("cert"), tmp_path("key"), &c, &e), 0);
  static const struct {
    const char *host;
    bool yes;
  } rows[] = {{"shop.tunnel.test", true}, {"SHOP.tunnel.test", true}, {"tunnel.test", true},
              {"a.b.tunnel.test", false}, {".tunnel.test", false},    {"tunnel.tes", false},
              {"*.tunnel.test", true},    {"shop.other.test", false}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    assert_int_equal(cert_covers(c, rows[i].host), rows[i].yes);
  cert_unref(c);

  openssl_cert("key2", "cert2", "-days 30");
  assert_int_equal(cert_load(tmp_path("cert"), tmp_path("key2"), &c, &e), BEAM_ERR_INVALID);
  assert_non_null(strstr(e.what, "is not the one of the certificate"));
  assert_int_equal(cert_load(tmp_path("none"), tmp_path("key"), &c, &e), BEAM_ERR_NOT_FOUND);
  assert_int_equal(cert_load(tmp_path("key"), tmp_path("key"), &c, &e), BEAM_ERR_INVALID);
  assert_non_null(strstr(e.what, "no certificate"));
  assert_int_equal(cert_load(tmp_path("cert"), tmp_path("cert"), &c, &e), BEAM_ERR_INVALID);
  assert_non_null(strstr(e.what, "no key"));

  char out[256];
  assert_int_equal(run(out, sizeof out, "openssl ec -in %s -aes128 -passout pass:secret -out %s 2>&1",
                       tmp_path("key"), tmp_path("locked")),
                   0);
  assert_int_equal(cert_load(tmp_path("cert"), tmp_path("locked"), &c, &e), BEAM_ERR_INVALID);
  assert_non_null(strstr(e.what, "encrypted"));

  char pem[4096];
  size_t n = tmp_get("cert", pem, sizeof pem);
  for (size_t cut = 0; cut < n - 1; cut += 11) {
    tmp_put("cut", pem, cut, 0600);
    assert_int_equal(cert_load(tmp_path("cut"), tmp_path("key"), &c, &e), BEAM_ERR_INVALID);
  }
  static char many[32768];
  size_t len = 0;
  for (int i = 0; i < CERT_CHAIN_MAX + 1; i++, len += n)
    memcpy(many + len, pem, n);
  tmp_put("many", many, len, 0600);
  assert_int_equal(cert_load(tmp_path("many"), tmp_path("key"), &c, &e), BEAM_ERR_INVALID);
  tmp_put("many", many, len - n, 0600);
  assert_int_equal(cert_load(tmp_path("many"), tmp_path("key"), &c, &e), 0);
  assert_int_equal(c->chain_n, CERT_CHAIN_MAX);
  assert_string_equal(c->chain, many + n); /* the text comes out as it went in */
  cert_unref(c);
}

static void expired_certificate(void **state) {
  (void)state;
  struct cert *c;
  char out[4096];
  openssl_cert("key", "unused", "-days 1");
  /* `openssl req` of OpenSSL 3.0 takes no dates: its small CA does. */
  static const char line[] =
      "cd %s && : >index && echo 01 >serial && "
      "printf "
      "'[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index\\nserial=serial\\nnew_certs_dir=.\\ndefault_md="
      "sha256\\npolicy=p\\n"
      "[p]\\ncommonName=supplied\\n' >c.cnf && openssl req -new -key key -subj /CN=x -out csr 2>&1 && "
      "openssl ca -batch -config c.cnf -selfsign -keyfile key -in csr -startdate %s -enddate %s -notext -out "
      "dated 2>&1";
  static const struct {
    const char *from, *to, *says;
  } rows[] = {{"20200101000000Z", "20210101000000Z", "expired on 2021-01-01"},
              {"20900101000000Z", "20910101000000Z", "valid from 2090-01-01"}};
  for (size_t i = 0; i < 2; i++) {
    char cmd[1024];
    snprintf(cmd, sizeof cmd, line, tmp, rows[i].from, rows[i].to);
    assert_int_equal(run(out, sizeof out, "%s", cmd), 0);
    assert_int_equal(cert_load(tmp_path("dated"), tmp_path("key"), &c, &e), BEAM_ERR_INVALID);
    assert_non_null(strstr(e.what, rows[i].says));
  }
}

static void fingerprints(void **state) {
  (void)state;
  uint8_t fp[32], want[32];
  for (unsigned i = 0; i < 32; i++)
    want[i] = (uint8_t)(i * 7);
  char text[FINGERPRINT_TEXT], with[128] = "SHA256:";
  fingerprint_text(text, want);
  assert_int_equal(fingerprint_of(text, fp, &e), 0);
  assert_memory_equal(fp, want, 32);
  for (unsigned i = 0; i < 32; i++)
    snprintf(with + strlen(with), sizeof with - strlen(with), "%s%02X", i ? ":" : "", want[i]);
  assert_int_equal(fingerprint_of(with, fp, &e), 0);
  assert_memory_equal(fp, want, 32);
  for (size_t cut = 7; cut < strlen(text); cut++) {
    char part[FINGERPRINT_TEXT];
    snprintf(part, sizeof part, "%.*s", (int)cut, text);
    assert_int_equal(fingerprint_of(part, fp, &e), BEAM_ERR_INVALID);
  }
  static const char *bad[] = {"sha256:", "sha256:zz", "sha256:::"};
  for (size_t i = 0; i < 3; i++)
    assert_int_equal(fingerprint_of(bad[i], fp, &e), BEAM_ERR_INVALID);
  char more[FINGERPRINT_TEXT + 4];
  snprintf(more, sizeof more, "%s0", text);
  assert_int_equal(fingerprint_of(more, fp, &e), BEAM_ERR_INVALID);
  snprintf(more, sizeof more, "%s:", text);
  assert_int_equal(fingerprint_of(more, fp, &e), BEAM_ERR_INVALID);
  assert_int_equal(fingerprint_of(tmp_path("none"), fp, &e), BEAM_ERR_NOT_FOUND);
  /* a leaf is no CA */
  struct ca *ca;
  struct cert *c;
  const char *name = "a.test";
  assert_int_equal(ca_ephemeral(&ca, &e), 0);
  assert_int_equal(ca_issue(ca, &name, 1, CA_LINK, 1, &c, &e), 0);
  tmp_put("chain", c->chain, strlen(c->chain), 0600);
  assert_int_equal(fingerprint_of(tmp_path("chain"), fp, &e), BEAM_ERR_INVALID);
  cert_unref(c);
  assert_int_equal(ca_issue(ca, &name, 1, CA_SERVER, 1, &c, &e), 0);
  tmp_put("leaf", c->chain, strlen(c->chain), 0600);
  assert_int_equal(fingerprint_of(tmp_path("leaf"), fp, &e), BEAM_ERR_INVALID);
  cert_unref(c);
  ca_free(ca);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      tmp_test(made_once_and_kept),     tmp_test(openssl_agrees),  tmp_test(leaves),
      tmp_test(damaged_files_are_kept), tmp_test(started_at_once), tmp_test(owners_certificate),
      tmp_test(expired_certificate),    tmp_test(fingerprints),    tmp_test(issue_time_is_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
