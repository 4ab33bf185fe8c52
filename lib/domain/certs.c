#include "domain/certs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uthash.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "tls/tls.h"

/* A leaf lives for three days and is renewed each day: a relay that was asleep for a day still has a valid one to show. */
enum { LEAF_HOURS = 72, RENEW_S = 24 * 3600 };

/* The same certificate in its two shapes. */
struct shown {
  struct cert *cert;
  struct tls_cert *tls;
};

struct entry {
  char name[256];
  unsigned count;
  struct shown shown;
  int64_t minted;
  UT_hash_handle hh;
};

struct certs {
  pthread_mutex_t lock; /* guards all below; held for a lookup, and for the millisecond of a minting */
  struct ca *ca;
  char base[256];
  struct shown wildcard; /* the owner's; cert NULL: none */
  struct shown link;
  int64_t link_minted;
  struct entry *names;
};

static int shown_make(struct cert *c, struct shown *out, struct beam_error *e) {
  struct tls_cert *t;
  int err = tls_cert_new(c->chain, strlen(c->chain), c->key.p, c->key.n, &t);
  if (err) {
    cert_unref(c);
    return err_set(e, err, NULL, "a certificate could not be used: %s", beam_strerror(err));
  }
  *out = (struct shown){c, t};
  return 0;
}

static void shown_drop(struct shown *s) {
  cert_unref(s->cert);
  tls_cert_unref(s->tls);
  *s = (struct shown){NULL, NULL};
}

static int mint(struct certs *c, const char *name, enum ca_use use, struct shown *out, struct beam_error *e) {
  struct cert *cert;
  int err = ca_issue(c->ca, &name, 1, use, LEAF_HOURS, &cert, e);
  return err ? err : shown_make(cert, out, e);
}

/* A newer leaf when this one is a day old; when that fails the old one serves on and it is tried again at the next use. */
static void renew(struct certs *c, const char *name, enum ca_use use, struct shown *s, int64_t *minted) {
  int64_t now = time(NULL);
  struct beam_error e = BEAM_ERROR_INIT;
  struct shown fresh;
  if (now - *minted < RENEW_S)
    return;
  if (mint(c, name, use, &fresh, &e)) {
    log_limited(BEAM_LOG_ERROR, "certs", "not renewed name=%s: %s", name, e.what);
    return;
  }
  shown_drop(s);
  *s = fresh;
  *minted = now;
}

static int load_wildcard(struct certs *c, const char *cert_file, const char *key_file, struct beam_error *e) {
  struct cert *cert;
  char probe[300];
  int err = cert_load(cert_file, key_file, &cert, e);
  if (err)
    return err;
  str_fmt(probe, sizeof probe, "any-name.%s", c->base);
  if (!cert_covers(cert, probe)) {
    cert_unref(cert);
    return err_set(e, BEAM_ERR_INVALID, "get one whose names include the wildcard",
                   "the certificate in %s does not cover *.%s", cert_file, c->base);
  }
  return shown_make(cert, &c->wildcard, e);
}

int certs_new(struct ca *ca, const char *base, const char *cert_file, const char *key_file,
              struct certs **out, struct beam_error *e) {
  struct certs *c = calloc(1, sizeof *c);
  if (!c)
    return err_set(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  pthread_mutex_init(&c->lock, NULL);
  c->ca = ca;
  str_copy(c->base, sizeof c->base, base);
  int err = cert_file ? load_wildcard(c, cert_file, key_file, e) : 0;
  if (!err)
    err = mint(c, "beam-relay", CA_LINK, &c->link, e);
  if (err) {
    certs_free(c);
    return err;
  }
  c->link_minted = time(NULL);
  *out = c;
  return 0;
}

static void forget(struct certs *c, struct entry *n) {
  HASH_DEL(c->names, n);
  shown_drop(&n->shown);
  free(n);
}

void certs_free(struct certs *c) {
  if (!c)
    return;
  struct entry *n, *next;
  HASH_ITER(hh, c->names, n, next) {
    forget(c, n);
  }
  shown_drop(&c->wildcard);
  shown_drop(&c->link);
  pthread_mutex_destroy(&c->lock);
  free(c);
}

static int add_locked(struct certs *c, const char *name, struct beam_error *e) {
  struct entry *n;
  HASH_FIND_STR(c->names, name, n);
  if (n) {
    n->count++;
    return 0;
  }
  n = calloc(1, sizeof *n);
  if (!n || !str_copy(n->name, sizeof n->name, name)) {
    free(n);
    return err_set(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  }
  int err = mint(c, name, CA_SERVER, &n->shown, e);
  if (err) {
    free(n);
    return err;
  }
  n->minted = time(NULL);
  n->count = 1;
  HASH_ADD_STR(c->names, name, n);
  return 0;
}

static bool by_wildcard(const struct certs *c, const char *name) {
  return c->wildcard.cert && cert_covers(c->wildcard.cert, name);
}

int certs_add(struct certs *c, const char *name, struct beam_error *e) {
  if (by_wildcard(c, name))
    return 0;
  pthread_mutex_lock(&c->lock);
  int err = add_locked(c, name, e);
  pthread_mutex_unlock(&c->lock);
  return err;
}

void certs_drop(struct certs *c, const char *name) {
  if (by_wildcard(c, name))
    return;
  struct entry *n;
  pthread_mutex_lock(&c->lock);
  HASH_FIND_STR(c->names, name, n);
  if (n && !--n->count)
    forget(c, n);
  pthread_mutex_unlock(&c->lock);
}

static struct shown find(struct certs *c, const char *name) {
  if (by_wildcard(c, name))
    return (struct shown){cert_ref(c->wildcard.cert), tls_cert_ref(c->wildcard.tls)};
  struct shown s = {NULL, NULL};
  struct entry *n;
  pthread_mutex_lock(&c->lock);
  HASH_FIND_STR(c->names, name, n);
  if (n) {
    renew(c, name, CA_SERVER, &n->shown, &n->minted);
    s = (struct shown){cert_ref(n->shown.cert), tls_cert_ref(n->shown.tls)};
  }
  pthread_mutex_unlock(&c->lock);
  return s;
}

struct tls_cert *certs_get(struct certs *c, const char *name) {
  struct shown s = find(c, name);
  cert_unref(s.cert);
  return s.tls;
}

struct cert *certs_get_cert(struct certs *c, const char *name) {
  struct shown s = find(c, name);
  tls_cert_unref(s.tls);
  return s.cert;
}

struct tls_cert *certs_get_link(struct certs *c) {
  pthread_mutex_lock(&c->lock);
  renew(c, "beam-relay", CA_LINK, &c->link, &c->link_minted);
  struct tls_cert *t = tls_cert_ref(c->link.tls);
  pthread_mutex_unlock(&c->lock);
  return t;
}
