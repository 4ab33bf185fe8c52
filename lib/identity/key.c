#include "identity/key.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"

struct key {
  uint8_t pub[crypto_sign_PUBLICKEYBYTES];
  uint8_t secret[crypto_sign_SECRETKEYBYTES];
  char id[KEY_ID];
};

/* The file is one line: magic, 32 bytes of seed in hex, the first 4 bytes of the public key in hex. The last part tells a damaged seed
 * from a whole one: a wrong bit would otherwise be another identity, quietly. */
#define MAGIC "beam-ed25519-1 "
enum {
  SEED = crypto_sign_SEEDBYTES,
  CHECK = 4,
  MAGIC_N = sizeof MAGIC - 1,
  LINE = MAGIC_N + 2 * SEED + 1 + 2 * CHECK + 1
};

void key_id_of(char out[KEY_ID], const uint8_t pub[KEY_PUBLIC]) {
  static const char base32[] = "abcdefghijklmnopqrstuvwxyz234567"; /* RFC 4648, lower case */
  uint8_t h[crypto_hash_sha256_BYTES];
  crypto_hash_sha256(h, pub, KEY_PUBLIC);
  for (unsigned i = 0; i < KEY_ID - 1; i++) {
    unsigned bit = i * 5, two = (unsigned)h[bit / 8] << 8 | h[bit / 8 + 1];
    out[i] = base32[two >> (11 - bit % 8) & 31];
  }
  out[KEY_ID - 1] = 0;
}

static struct key *from_seed(const uint8_t seed[SEED]) {
  struct key *k = sodium_malloc(sizeof *k); /* guarded, locked in memory, wiped by sodium_free */
  if (!k)
    return NULL;
  crypto_sign_seed_keypair(k->pub, k->secret, seed);
  key_id_of(k->id, k->pub);
  return k;
}

static void write_line(char line[LINE + 1], const uint8_t seed[SEED], const uint8_t *pub) {
  memcpy(line, MAGIC, MAGIC_N);
  hex_encode(line + MAGIC_N, seed, SEED);
  line[MAGIC_N + 2 * SEED] = ' ';
  hex_encode(line + MAGIC_N + 2 * SEED + 1, pub, CHECK);
  line[LINE - 1] = '\n';
  line[LINE] = 0;
}

static struct key *read_line(const char *p, size_t n) {
  uint8_t seed[SEED], check[CHECK];
  struct key *k = NULL;
  if (n == LINE && !memcmp(p, MAGIC, MAGIC_N) && p[MAGIC_N + 2 * SEED] == ' ' && p[LINE - 1] == '\n' &&
      hex_decode(seed, SEED, (struct span){p + MAGIC_N, 2 * SEED}) &&
      hex_decode(check, CHECK, (struct span){p + MAGIC_N + 2 * SEED + 1, 2 * CHECK}))
    k = from_seed(seed);
  if (k && memcmp(check, k->pub, CHECK)) {
    key_free(k);
    k = NULL;
  }
  sodium_memzero(seed, sizeof seed);
  return k;
}

static int read_file(const char *path, struct key **out, struct beam_error *e) {
  char *text;
  size_t n;
  int err = file_read_secret(path, LINE, &text, &n, e);
  if (err && err != BEAM_ERR_TOO_LARGE)
    return err;
  if (!err) {
    *out = read_line(text, n);
    sodium_memzero(text, n);
    free(text);
  }
  if (!*out)
    return err_set(e, BEAM_ERR_INVALID,
                   "restore it from a backup; or move it away, and a new key (another identity, other names) "
                   "will be made",
                   "the key file %s is damaged", path);
  return 0;
}

static int make_file(const char *path, struct key **out, struct beam_error *e) {
  uint8_t seed[SEED];
  char line[LINE + 1];
  random_bytes(seed, sizeof seed);
  struct key *k = from_seed(seed);
  int err = k ? 0 : err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for a key");
  if (!err) {
    write_line(line, seed, k->pub);
    err = file_write(path, 0600, line, LINE, e);
  }
  sodium_memzero(seed, sizeof seed);
  sodium_memzero(line, sizeof line);
  if (err) {
    key_free(k);
    return err;
  }
  log_info("identity", "new key id=%s file=%s", k->id, path);
  *out = k;
  return 0;
}

int key_load(const char *dir, const char *file, struct key **out, struct beam_error *e) {
  *out = NULL;
  char path[PATH_ROOM];
  if (base_init())
    return err_set(e, BEAM_ERR_SYSTEM, NULL, "no source of random numbers");
  int err = path_join(path, dir, file, e);
  if (err)
    return err;
  err = read_file(path, out, e);
  if (err != BEAM_ERR_NOT_FOUND)
    return err;
  if ((err = dir_make_private(dir, e)))
    return err;
  int lock =
      file_lock(dir, "keys.lock", e); /* two first runs at once: the second takes the first one's key */
  if (lock < 0)
    return lock;
  err = read_file(path, out, e);
  if (err == BEAM_ERR_NOT_FOUND)
    err = make_file(path, out, e);
  close(lock);
  return err;
}

int device_load(const char *dir, struct key **out, struct beam_error *e) {
  return key_load(dir, "device.key", out, e);
}

int key_ephemeral(struct key **out) {
  *out = NULL;
  if (base_init())
    return BEAM_ERR_SYSTEM;
  uint8_t seed[SEED];
  random_bytes(seed, sizeof seed);
  *out = from_seed(seed);
  sodium_memzero(seed, sizeof seed);
  return *out ? 0 : BEAM_ERR_NOMEM;
}

void key_free(struct key *k) {
  sodium_free(k);
}

const uint8_t *key_public(const struct key *k) {
  return k->pub;
}
const char *key_id(const struct key *k) {
  return k->id;
}

void key_sign(const struct key *k, const void *msg, size_t n, uint8_t sig[KEY_SIGNATURE]) {
  crypto_sign_detached(sig, NULL, msg, n, k->secret);
}

int key_verify(const uint8_t pub[KEY_PUBLIC], const void *msg, size_t n, const uint8_t sig[KEY_SIGNATURE]) {
  return crypto_sign_verify_detached(sig, msg, n, pub) ? BEAM_ERR_UNTRUSTED : 0;
}
