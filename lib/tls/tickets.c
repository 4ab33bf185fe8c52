/* tickets.c: the keys that seal session tickets. Two generations, so that what the older sealed still opens for a while:
 *
 *   ... previous (opens) ── current (seals and opens) ──► after LIMIT_TICKET_ROTATE_S: current becomes previous, a fresh one seals
 *
 * A ticket: name of the key (8), nonce (24), XChaCha20-Poly1305 of { time of issue (8), mbedTLS's session }.
 */
#include <beam/beam.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/limits.h"
#include "base/random.h"
#include "tls/context.h"

enum {
  NAME = 8,
  NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
  TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES,
  STAMP = 8
};

struct ticket_key {
  uint8_t name[NAME];
  uint8_t key[crypto_aead_xchacha20poly1305_ietf_KEYBYTES];
  uint64_t born; /* seconds since 1970; 0: none */
};

struct tls_tickets {
  _Atomic unsigned refs;
  pthread_mutex_t lock;
  struct ticket_key current, previous;
  uint64_t epoch;
};

static _Thread_local bool accepted;

bool tickets_accepted(void) {
  bool was = accepted;
  accepted = false;
  return was;
}

static uint64_t now_s(void) {
  return (uint64_t)time(NULL);
}

static void put_u64(uint8_t *p, uint64_t v) {
  for (int i = 0; i < 8; i++)
    p[i] = (uint8_t)(v >> (56 - 8 * i));
}

static uint64_t get_u64(const uint8_t *p) {
  uint64_t v = 0;
  for (int i = 0; i < 8; i++)
    v = v << 8 | p[i];
  return v;
}

static void fresh_key(struct ticket_key *k) {
  random_bytes(k->name, sizeof k->name);
  random_bytes(k->key, sizeof k->key);
  k->born = now_s();
}

/* A clock that was set back makes keys from the future: those are as good as too old. */
static bool older(const struct ticket_key *k, uint64_t seconds) {
  uint64_t now = now_s();
  return now < k->born || now - k->born >= seconds;
}

/* Under the lock, before each use. */
static void rotate(struct tls_tickets *t) {
  if (older(&t->current, LIMIT_TICKET_ROTATE_S)) {
    t->previous = t->current;
    fresh_key(&t->current);
    t->epoch++;
  }
  if (t->previous.born && older(&t->previous, 2 * LIMIT_TICKET_ROTATE_S))
    sodium_memzero(&t->previous, sizeof t->previous);
}

int tls_tickets_new(struct tls_tickets **out) {
  int err = tls_init();
  struct tls_tickets *t = err ? NULL : calloc(1, sizeof *t);
  if (!t)
    return err ? err : BEAM_ERR_NOMEM;
  atomic_init(&t->refs, 1);
  pthread_mutex_init(&t->lock, NULL);
  fresh_key(&t->current);
  t->epoch = 1;
  *out = t;
  return 0;
}

struct tls_tickets *tls_tickets_ref(struct tls_tickets *t) {
  if (t)
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
  return t;
}

void tls_tickets_unref(struct tls_tickets *t) {
  if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
    return;
  pthread_mutex_destroy(&t->lock);
  sodium_memzero(t, sizeof *t);
  free(t);
}

uint64_t tls_tickets_epoch(struct tls_tickets *t) {
  pthread_mutex_lock(&t->lock);
  rotate(t);
  uint64_t epoch = t->epoch;
  pthread_mutex_unlock(&t->lock);
  return epoch;
}

/* --- keeping them: magic (8), current (48), previous (48), zeros --- */

static const uint8_t magic[8] = "beamtkt1";

static uint8_t *put_key(uint8_t *p, const struct ticket_key *k) {
  memcpy(p, k->name, NAME);
  memcpy(p + NAME, k->key, sizeof k->key);
  put_u64(p + NAME + sizeof k->key, k->born);
  return p + NAME + sizeof k->key + 8;
}

static const uint8_t *get_key(const uint8_t *p, struct ticket_key *k) {
  memcpy(k->name, p, NAME);
  memcpy(k->key, p + NAME, sizeof k->key);
  k->born = get_u64(p + NAME + sizeof k->key);
  if (k->born && older(k, 2 * LIMIT_TICKET_ROTATE_S))
    sodium_memzero(k, sizeof *k);
  return p + NAME + sizeof k->key + 8;
}

void tls_tickets_export(struct tls_tickets *t, uint8_t out[TLS_TICKETS_BLOB]) {
  memset(out, 0, TLS_TICKETS_BLOB);
  memcpy(out, magic, sizeof magic);
  pthread_mutex_lock(&t->lock);
  rotate(t);
  put_key(put_key(out + sizeof magic, &t->current), &t->previous);
  pthread_mutex_unlock(&t->lock);
}

int tls_tickets_import(struct tls_tickets *t, const uint8_t *blob, size_t n) {
  struct ticket_key current, previous;
  if (n != TLS_TICKETS_BLOB || memcmp(blob, magic, sizeof magic) != 0)
    return BEAM_ERR_INVALID;
  get_key(get_key(blob + sizeof magic, &current), &previous);
  pthread_mutex_lock(&t->lock);
  if (current.born) {
    t->current = current;
    t->previous = previous;
    t->epoch++;
    rotate(t);
  }
  pthread_mutex_unlock(&t->lock);
  sodium_memzero(&current, sizeof current);
  sodium_memzero(&previous, sizeof previous);
  return 0;
}

/* --- what mbedTLS calls --- */

int tickets_write(void *tickets, const mbedtls_ssl_session *session, unsigned char *start,
                  const unsigned char *end, size_t *n, uint32_t *lifetime) {
  struct tls_tickets *t = tickets;
  struct ticket_key key;
  size_t room = (size_t)(end - start), len = 0;
  if (room < NAME + NONCE + STAMP + TAG)
    return MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL;
  uint8_t *plain = start + NAME + NONCE;
  int err = mbedtls_ssl_session_save(session, plain + STAMP, room - NAME - NONCE - STAMP - TAG, &len);
  if (err)
    return err;
  put_u64(plain, now_s());
  pthread_mutex_lock(&t->lock);
  rotate(t);
  key = t->current;
  pthread_mutex_unlock(&t->lock);
  memcpy(start, key.name, NAME);
  random_bytes(start + NAME, NONCE);
  crypto_aead_xchacha20poly1305_ietf_encrypt(plain, NULL, plain, STAMP + len, start, NAME, NULL, start + NAME,
                                             key.key);
  sodium_memzero(&key, sizeof key);
  *n = NAME + NONCE + STAMP + len + TAG;
  *lifetime = LIMIT_TICKET_ROTATE_S;
  return 0;
}

static bool find_key(struct tls_tickets *t, const uint8_t *name, struct ticket_key *out) {
  bool found = true;
  pthread_mutex_lock(&t->lock);
  rotate(t);
  if (!memcmp(name, t->current.name, NAME))
    *out = t->current;
  else if (t->previous.born && !memcmp(name, t->previous.name, NAME))
    *out = t->previous;
  else
    found = false;
  pthread_mutex_unlock(&t->lock);
  return found;
}

int tickets_parse(void *tickets, mbedtls_ssl_session *session, unsigned char *ticket, size_t n) {
  struct ticket_key key;
  if (n < NAME + NONCE + STAMP + TAG || !find_key(tickets, ticket, &key))
    return MBEDTLS_ERR_SSL_INVALID_MAC;
  uint8_t *plain = ticket + NAME + NONCE;
  unsigned long long len = 0;
  int bad = crypto_aead_xchacha20poly1305_ietf_decrypt(plain, &len, NULL, plain, n - NAME - NONCE, ticket,
                                                       NAME, ticket + NAME, key.key);
  sodium_memzero(&key, sizeof key);
  if (bad)
    return MBEDTLS_ERR_SSL_INVALID_MAC;
  uint64_t issued = get_u64(plain), now = now_s();
  int err = now < issued || now - issued >= LIMIT_TICKET_ROTATE_S
                ? MBEDTLS_ERR_SSL_SESSION_TICKET_EXPIRED
                : mbedtls_ssl_session_load(session, plain + STAMP, (size_t)len - STAMP);
  sodium_memzero(plain, (size_t)len);
  accepted = !err;
  return err;
}
