/* The device key: made once, kept private, never overwritten; Ed25519 against Wycheproof. */
#include "../tmpdir.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/str.h"
#include "identity/key.h"

static void made_once_and_kept(void **state) {
  (void)state;
  struct key *a, *b;
  struct beam_error e = BEAM_ERROR_INIT;
  mode_t old = umask(0);
  const char *dir = tmp_path("data");
  assert_int_equal(device_load(dir, &a, &e), 0);
  umask(old);
  assert_int_equal(tmp_mode("data"), 0700);
  assert_int_equal(tmp_mode("data/device.key"), 0600);
  assert_int_equal(device_load(dir, &b, &e), 0);
  assert_memory_equal(key_public(a), key_public(b), KEY_PUBLIC);
  assert_string_equal(key_id(a), key_id(b));
  assert_int_equal(strlen(key_id(a)), KEY_ID - 1);
  assert_int_equal(strspn(key_id(a), "abcdefghijklmnopqrstuvwxyz234567"), KEY_ID - 1);
  struct key *other;
  assert_int_equal(key_load(dir, "relay.key", &other, &e), 0);
  assert_string_not_equal(key_id(a), key_id(other));
  key_free(other);
  key_free(a);
  key_free(b);
  key_free(NULL);
}

static void signs_and_verifies(void **state) {
  (void)state;
  struct key *k, *other;
  uint8_t sig[KEY_SIGNATURE];
  char msg[] = "a message";
  assert_int_equal(key_ephemeral(&k), 0);
  assert_int_equal(key_ephemeral(&other), 0);
  key_sign(k, msg, sizeof msg, sig);
  assert_int_equal(key_verify(key_public(k), msg, sizeof msg, sig), 0);
  assert_int_equal(key_verify(key_public(other), msg, sizeof msg, sig), BEAM_ERR_UNTRUSTED);
  msg[0] ^= 1;
  assert_int_equal(key_verify(key_public(k), msg, sizeof msg, sig), BEAM_ERR_UNTRUSTED);
  key_free(k);
  key_free(other);
}

/* RFC 4648: five bits a letter, most significant first. */
static void id_is_base32_of_the_hash(void **state) {
  (void)state;
  uint8_t pub[KEY_PUBLIC] = {0};
  char id[KEY_ID];
  key_id_of(id, pub); /* SHA-256 of 32 zero bytes: 66687aad f862bd77 6c8fc18b 8e9f8e20 ... */
  assert_string_equal(id, "mzuhvlpymk6xo3epygfy");
}

/* Every truncation and a flip of every byte is an error that names the file, and the file stays as it was. */
static void damaged_file_is_kept(void **state) {
  (void)state;
  struct key *k;
  struct beam_error e = BEAM_ERROR_INIT;
  char good[256], now[256];
  assert_int_equal(device_load(tmp, &k, &e), 0);
  key_free(k);
  size_t n = tmp_get("device.key", good, sizeof good);
  for (size_t cut = 0; cut < n; cut++) {
    tmp_put("device.key", good, cut, 0600);
    assert_int_equal(device_load(tmp, &k, &e), BEAM_ERR_INVALID);
    assert_null(k);
    assert_non_null(strstr(e.what, "device.key"));
    assert_int_equal(tmp_get("device.key", now, sizeof now), cut);
  }
  for (size_t i = 0; i < n; i++) {
    char bad[256];
    memcpy(bad, good, n);
    bad[i] = bad[i] == '0' ? '1' : '0';
    tmp_put("device.key", bad, n, 0600);
    assert_int_equal(device_load(tmp, &k, &e), BEAM_ERR_INVALID);
    assert_int_equal(tmp_get("device.key", now, sizeof now), n);
    assert_memory_equal(now, bad, n);
  }
  good[n] = '\n';
  tmp_put("device.key", good, n + 1, 0600);
  assert_int_equal(device_load(tmp, &k, &e), BEAM_ERR_INVALID);
  tmp_put("device.key", good, n, 0600);
  assert_int_equal(device_load(tmp, &k, &e), 0);
  key_free(k);
}

static void others_must_not_read_it(void **state) {
  (void)state;
  struct key *k;
  struct beam_error e = BEAM_ERROR_INIT;
  assert_int_equal(device_load(tmp, &k, &e), 0);
  key_free(k);
  assert_int_equal(chmod(tmp_path("device.key"), 0644), 0);
  assert_int_equal(device_load(tmp, &k, &e), BEAM_ERR_PERMISSION);
  assert_non_null(strstr(e.hint, "chmod 600"));
}

static void unusable_directory(void **state) {
  (void)state;
  struct key *k;
  struct beam_error e = BEAM_ERROR_INIT;
  tmp_put("file", "", 0, 0600);
  assert_true(device_load(tmp_path("file"), &k, &e) < 0);
  assert_true(*e.what && *e.hint);
  assert_int_equal(mkdir(tmp_path("device.key"), 0700), 0);
  assert_int_equal(device_load(tmp, &k, &e), BEAM_ERR_INVALID);
}

static void full_disk(void **state) {
  (void)state;
  pid_t pid = fork();
  if (pid == 0) {
    struct key *k;
    struct beam_error e = BEAM_ERROR_INIT;
    struct rlimit lim = {16, 16};
    signal(SIGXFSZ, SIG_IGN);
    _exit(setrlimit(RLIMIT_FSIZE, &lim) || device_load(tmp, &k, &e) != BEAM_ERR_STORE || k);
  }
  int status;
  waitpid(pid, &status, 0);
  assert_int_equal(status, 0);
  assert_int_equal(access(tmp_path("device.key"), F_OK), -1);
}

/* Processes that start at once end up with one key. */
static void started_at_once(void **state) {
  (void)state;
  enum { KIDS = 8 };
  int go[2], back[2];
  assert_int_equal(pipe(go) | pipe(back), 0);
  for (int i = 0; i < KIDS; i++) {
    if (fork())
      continue;
    char c;
    struct key *k;
    close(go[1]);
    if (read(go[0], &c, 1) < 0 || device_load(tmp_path("new"), &k, NULL))
      _exit(1);
    _exit(write(back[1], key_id(k), KEY_ID) != KEY_ID);
  }
  close(go[1]); /* all at once */
  char first[KEY_ID], id[KEY_ID];
  for (int i = 0; i < KIDS; i++) {
    assert_int_equal(read(back[0], id, KEY_ID), KEY_ID);
    if (i == 0)
      memcpy(first, id, KEY_ID);
    assert_string_equal(first, id);
  }
  for (int i = 0, status; i < KIDS; i++) {
    wait(&status);
    assert_int_equal(status, 0);
  }
  close(go[0]);
  close(back[0]);
  close(back[1]);
}

/* --- Wycheproof: a scan for the few fields that matter, in the order the file has them --- */

static char *field_after(char *from, const char *name, char *hex, size_t cap) {
  char key[32];
  snprintf(key, sizeof key, "\"%s\"", name);
  char *p = strstr(from, key);
  if (!p || !(p = strchr(p + strlen(key), '"')))
    return NULL;
  char *end = strchr(++p, '"');
  if (!end || (size_t)(end - p) >= cap)
    return NULL;
  memcpy(hex, p, (size_t)(end - p));
  hex[end - p] = 0;
  return end;
}

static void wycheproof(void **state) {
  (void)state;
  const char *dir = getenv("BEAM_VECTORS") ? getenv("BEAM_VECTORS") : "../shared/vectors";
  char path[512];
  snprintf(path, sizeof path, "%s/wycheproof_ed25519.json", dir);
  FILE *f = fopen(path, "r");
  if (!f) {
    print_message("skipped: vectors absent\n");
    skip();
  }
  static char text[300000], hex[20000], result[64];
  static uint8_t msg[10000];
  text[fread(text, 1, sizeof text - 1, f)] = 0;
  fclose(f);
  unsigned good = 0, bad = 0;
  uint8_t pub[KEY_PUBLIC], sig[KEY_SIGNATURE];
  for (char *group = strstr(text, "\"publicKey\""); group;) {
    char *next = strstr(group + 1, "\"publicKey\"");
    char *p = field_after(group, "pk", hex, sizeof hex);
    assert_non_null(p);
    assert_true(hex_decode(pub, sizeof pub, span_of(hex)));
    for (char *t = strstr(p, "\"tcId\""); t && (!next || t < next); t = strstr(t + 1, "\"tcId\"")) {
      assert_non_null(field_after(t, "msg", hex, sizeof hex));
      size_t n = strlen(hex) / 2;
      assert_true(hex_decode(msg, n, span_of(hex)));
      assert_non_null(field_after(t, "sig", hex, sizeof hex));
      assert_non_null(field_after(t, "result", result, sizeof result));
      bool whole = hex_decode(sig, sizeof sig, span_of(hex)); /* of another length: nothing to ask */
      int err = whole ? key_verify(pub, msg, n, sig) : BEAM_ERR_UNTRUSTED;
      assert_int_equal(err == 0, !strcmp(result, "valid"));
      *(err ? &bad : &good) += 1;
    }
    group = next;
  }
  print_message("%u valid, %u invalid\n", good, bad);
  assert_true(good > 50 && bad > 20);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      tmp_test(made_once_and_kept),      tmp_test(signs_and_verifies), tmp_test(id_is_base32_of_the_hash),
      tmp_test(damaged_file_is_kept),    tmp_test(unusable_directory), tmp_test(full_disk),
      tmp_test(others_must_not_read_it), tmp_test(started_at_once),    tmp_test(wycheproof),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
