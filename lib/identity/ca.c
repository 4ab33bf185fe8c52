#include "identity/ca.h"

#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "identity/x509.h"

/* ca.key holds key and certificate in one file, so that the two can never be of different minds; ca.pem is a copy of the certificate. */
#define KEY_FILE "ca.key"
#define PEM_FILE "ca.pem"
#define LOCK_FILE "keys.lock"

enum {
  FILE_MAX = 16 * 1024,
  DER_MAX = 4096,
  SERIAL = 16,
  BACKDATE = 3600,
  CA_BACKDATE = 24 * 3600,
  CA_YEARS = 10
};

struct ca {
  pthread_mutex_t lock; /* mbedTLS does not promise that two threads may sign with one key */
  mbedtls_pk_context key;
  mbedtls_x509_crt crt;
  char *pem;
  char path[PATH_ROOM];
  uint8_t fingerprint[32];
  char fingerprint_text[FINGERPRINT_TEXT];
  char subject[64];
  struct key *relay;
};

const uint8_t *ca_fingerprint(const struct ca *ca) {
  return ca->fingerprint;
}
const char *ca_fingerprint_text(const struct ca *ca) {
  return ca->fingerprint_text;
}
const char *ca_file(const struct ca *ca) {
  return ca->path;
}
const char *ca_pem(const struct ca *ca) {
  return ca->pem;
}
const struct key *ca_relay_key(const struct ca *ca) {
  return ca->relay;
}

static int internal(struct beam_error *e, const char *what, int code) {
  char why[128];
  return err_set(e,
                 code == MBEDTLS_ERR_PK_ALLOC_FAILED || code == MBEDTLS_ERR_X509_ALLOC_FAILED
                     ? BEAM_ERR_NOMEM
                     : BEAM_ERR_INTERNAL,
                 NULL, "cannot %s: %s", what, x509_why(code, why, sizeof why));
}

static int new_key(mbedtls_pk_context *key) {
  int code = mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
  return code ? code : mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*key), x509_random, NULL);
}

/* --- writing certificates --- */

static void stamp(char out[15], int64_t seconds) {
  time_t t = (time_t)seconds;
  struct tm tm;
  gmtime_r(&t, &tm);
  if (!strftime(out, 15, "%Y%m%d%H%M%S", &tm))
    out[0] = 0;
}

/* What a CA's and a leaf's certificate have in common. */
static int begin(mbedtls_x509write_cert *w, mbedtls_pk_context *subject_key, mbedtls_pk_context *issuer_key,
                 const char *subject, const char *issuer, int64_t from, int64_t to) {
  uint8_t serial[SERIAL];
  char a[15], b[15];
  random_bytes(serial, sizeof serial);
  serial[0] = (serial[0] & 0x7f) | 0x40; /* positive, and of full length */
  stamp(a, from);
  stamp(b, to);
  mbedtls_x509write_crt_set_version(w, MBEDTLS_X509_CRT_VERSION_3);
  mbedtls_x509write_crt_set_md_alg(w, MBEDTLS_MD_SHA256);
  mbedtls_x509write_crt_set_subject_key(w, subject_key);
  mbedtls_x509write_crt_set_issuer_key(w, issuer_key);
  int code = mbedtls_x509write_crt_set_serial_raw(w, serial, sizeof serial);
  if (!code)
    code = mbedtls_x509write_crt_set_subject_name(w, subject);
  if (!code)
    code = mbedtls_x509write_crt_set_issuer_name(w, issuer);
  if (!code)
    code = mbedtls_x509write_crt_set_validity(w, a, b);
  return code;
}

static int finish(mbedtls_x509write_cert *w, mbedtls_x509_crt *out) {
  uint8_t der[DER_MAX];
  int n = mbedtls_x509write_crt_der(w, der, sizeof der, x509_random, NULL);
  return n < 0 ? n : mbedtls_x509_crt_parse_der(out, der + sizeof der - n, (size_t)n);
}

static int write_ca(struct ca *ca) {
  uint8_t spki[256], sum[32];
  char id[9], subject[64];
  int n = mbedtls_pk_write_pubkey_der(&ca->key, spki, sizeof spki);
  if (n < 0)
    return n;
  crypto_hash_sha256(sum, spki + sizeof spki - n, (size_t)n);
  hex_encode(id, sum, 4);
  str_fmt(subject, sizeof subject, "CN=Beam relay CA %s", id);
  int64_t now = (int64_t)time(NULL);
  mbedtls_x509write_cert w;
  mbedtls_x509write_crt_init(&w);
  int code =
      begin(&w, &ca->key, &ca->key, subject, subject, now - CA_BACKDATE, now + CA_YEARS * (int64_t)31556952);
  if (!code)
    code = mbedtls_x509write_crt_set_basic_constraints(&w, 1, 0); /* signs leaves, no other CA */
  if (!code)
    code = mbedtls_x509write_crt_set_key_usage(&w, MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN);
  if (!code)
    code = mbedtls_x509write_crt_set_subject_key_identifier(&w);
  if (!code)
    code = mbedtls_x509write_crt_set_authority_key_identifier(&w);
  if (!code)
    code = finish(&w, &ca->crt);
  mbedtls_x509write_crt_free(&w);
  return code;
}

/* --- the CA's files --- */

/* What is derived from key and certificate once both are there. */
static int complete(struct ca *ca, const char *from, struct beam_error *e) {
  const char *bad = NULL;
  if (mbedtls_pk_check_pair(&ca->crt.pk, &ca->key, x509_random, NULL))
    bad = "its key and its certificate do not belong together";
  else if (!mbedtls_x509_crt_get_ca_istrue(&ca->crt))
    bad = "its certificate is not that of a CA";
  else if (mbedtls_pk_get_type(&ca->key) != MBEDTLS_PK_ECKEY)
    bad = "its key is not an elliptic-curve key";
  if (bad)
    return err_set(
        e, BEAM_ERR_INVALID,
        "restore it from a backup; or move it away for a new CA, which every agent has to trust anew",
        "the relay's CA in %s cannot be used: %s", from, bad);
  if (x509_seconds(&ca->crt.valid_to) <= (int64_t)time(NULL))
    return err_set(
        e, BEAM_ERR_INVALID,
        "check this machine's clock; or move it away for a new CA, which every agent has to trust anew",
        "the relay's CA in %s has expired", from);
  if (x509_seconds(&ca->crt.valid_from) > (int64_t)time(NULL))
    log_warn("identity",
             "the relay's CA is valid from %04d-%02d-%02d on: this machine's clock is wrong, or was when it "
             "was made",
             ca->crt.valid_from.year, ca->crt.valid_from.mon, ca->crt.valid_from.day);
  int n = mbedtls_x509_dn_gets(ca->subject, sizeof ca->subject, &ca->crt.subject);
  if (n < 0)
    return internal(e, "read the CA's name", n);
  if (x509_pem(X509_BEGIN_CERT, X509_END_CERT, ca->crt.raw.p, ca->crt.raw.len, &ca->pem))
    return err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for the relay's CA");
  crypto_hash_sha256(ca->fingerprint, ca->crt.raw.p, ca->crt.raw.len);
  fingerprint_text(ca->fingerprint_text, ca->fingerprint);
  return 0;
}

static int make(struct ca *ca, struct beam_error *e) {
  int code = new_key(&ca->key);
  if (!code)
    code = write_ca(ca);
  return code ? internal(e, "make the relay's CA", code) : complete(ca, "memory", e);
}

static int read_key_file(struct ca *ca, const char *path, struct beam_error *e) {
  char *text, why[128];
  size_t n;
  int err = file_read_secret(path, FILE_MAX, &text, &n, e);
  if (err)
    return err;
  int code = mbedtls_pk_parse_key(&ca->key, (unsigned char *)text, n + 1, NULL, 0, x509_random, NULL);
  if (!code)
    code = mbedtls_x509_crt_parse(&ca->crt, (unsigned char *)text, n + 1);
  sodium_memzero(text, n);
  free(text);
  if (code)
    return err_set(
        e, BEAM_ERR_INVALID,
        "restore it from a backup; or move it away for a new CA, which every agent has to trust anew",
        "the relay's CA in %s is damaged: %s", path,
        code < 0 ? x509_why(code, why, sizeof why) : "certificate unreadable");
  return complete(ca, path, e);
}

static int write_key_file(struct ca *ca, const char *path, struct beam_error *e) {
  uint8_t der[DER_MAX];
  char *pem = NULL, text[FILE_MAX];
  int n = mbedtls_pk_write_key_der(&ca->key, der, sizeof der);
  int err = n < 0 ? internal(e, "write the CA's key", n) : 0;
  if (!err && x509_pem(X509_BEGIN_KEY, X509_END_KEY, der + sizeof der - n, (size_t)n, &pem))
    err = err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for the relay's CA");
  if (!err && !str_fmt(text, sizeof text, "%s%s", pem, ca->pem))
    err = err_set(e, BEAM_ERR_INTERNAL, NULL, "the CA's file is larger than it can be");
  if (!err)
    err = file_write(path, 0600, text, strlen(text), e);
  if (pem)
    sodium_memzero(pem, strlen(pem));
  free(pem);
  sodium_memzero(der, sizeof der);
  sodium_memzero(text, sizeof text);
  return err;
}

/* ca.pem is there for people; when it is not what it should be it is written again. */
static int show_certificate(struct ca *ca, struct beam_error *e) {
  char *text;
  size_t n;
  int err = file_read(ca->path, FILE_MAX, &text, &n, NULL);
  if (!err) {
    bool same = !strcmp(text, ca->pem);
    free(text);
    if (same)
      return 0;
  }
  if (err != BEAM_ERR_NOT_FOUND)
    log_warn("identity", "%s was not the relay's CA certificate: written again", ca->path);
  return file_write(ca->path, 0644, ca->pem, strlen(ca->pem), e);
}

static int load_locked(struct ca *ca, const char *dir, struct beam_error *e) {
  char path[PATH_ROOM];
  int err = path_join(path, dir, KEY_FILE, e);
  if (err || (err = path_join(ca->path, dir, PEM_FILE, e)))
    return err;
  err = read_key_file(ca, path, e);
  if (err == BEAM_ERR_NOT_FOUND) {
    err = make(ca, e);
    if (!err)
      err = write_key_file(ca, path, e);
    if (!err)
      log_info("identity", "new relay CA %s file=%s", ca->fingerprint_text, ca->path);
  }
  return err ? err : show_certificate(ca, e);
}

/* NULL: *err says why, and e. */
static struct ca *new_ca(int *err, struct beam_error *e) {
  *err = x509_init(e);
  struct ca *ca = *err ? NULL : calloc(1, sizeof *ca);
  if (!*err && !ca)
    *err = err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for the relay's CA");
  if (!ca)
    return NULL;
  pthread_mutex_init(&ca->lock, NULL);
  mbedtls_pk_init(&ca->key);
  mbedtls_x509_crt_init(&ca->crt);
  return ca;
}

int ca_load(const char *dir, struct ca **out, struct beam_error *e) {
  *out = NULL;
  int lock = -1, err;
  struct ca *ca = new_ca(&err, e);
  if (!ca)
    return err;
  err = key_load(dir, "relay.key", &ca->relay, e); /* makes dir, and takes and gives back the same lock */
  if (!err && (lock = file_lock(dir, LOCK_FILE, e)) < 0)
    err = lock;
  if (!err)
    err = load_locked(ca, dir, e);
  if (lock >= 0)
    close(lock);
  if (err)
    ca_free(ca);
  else
    *out = ca;
  return err;
}

int ca_ephemeral(struct ca **out, struct beam_error *e) {
  *out = NULL;
  int err;
  struct ca *ca = new_ca(&err, e);
  if (!ca)
    return err;
  err = key_ephemeral(&ca->relay);
  if (!err)
    err = make(ca, e);
  if (err)
    ca_free(ca);
  else
    *out = ca;
  return err;
}

void ca_free(struct ca *ca) {
  if (!ca)
    return;
  key_free(ca->relay);
  mbedtls_pk_free(&ca->key);
  mbedtls_x509_crt_free(&ca->crt);
  pthread_mutex_destroy(&ca->lock);
  free(ca->pem);
  free(ca);
}

/* --- leaves: ca_leaf.c --- */

int ca_sign(struct ca *ca, struct leaf_plan *plan, mbedtls_pk_context *key, mbedtls_x509_crt *out) {
  int64_t now = (int64_t)time(NULL), end = now + plan->seconds, last = x509_seconds(&ca->crt.valid_to);
  mbedtls_x509write_cert w;
  mbedtls_x509write_crt_init(&w);
  pthread_mutex_lock(&ca->lock);
  int code = begin(&w, key, &ca->key, plan->subject, ca->subject, now - BACKDATE, end < last ? end : last);
  if (!code)
    code = mbedtls_x509write_crt_set_basic_constraints(&w, 0, -1);
  if (!code)
    code = mbedtls_x509write_crt_set_key_usage(&w, MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
  if (!code)
    code = mbedtls_x509write_crt_set_ext_key_usage(&w, &plan->usage);
  if (!code)
    code = mbedtls_x509write_crt_set_subject_alternative_name(&w, plan->names);
  if (!code)
    code = mbedtls_x509write_crt_set_subject_key_identifier(&w);
  if (!code)
    code = mbedtls_x509write_crt_set_authority_key_identifier(&w);
  if (!code)
    code = finish(&w, out);
  if (!code && plan->with_ca)
    code = mbedtls_x509_crt_parse_der(out, ca->crt.raw.p, ca->crt.raw.len);
  pthread_mutex_unlock(&ca->lock);
  mbedtls_x509write_crt_free(&w);
  return code;
}
