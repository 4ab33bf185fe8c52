#include "domain/certs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HASH_NONFATAL_OOM 1 /* an add that failed leaves hh.tbl NULL */
#include <uthash.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "tls/tls.h"
#include "wire/host.h"

/* A leaf lives for three days and is renewed each day: a relay that was asleep for a day still has a valid one to show. */
enum { LEAF_HOURS = 72, RENEW_S = 24 * 3600, EXPIRY_WARN_S = 7 * 24 * 3600 };
#define LINK_NAME "beam-relay"

/* The same certificate in its two shapes. */
struct shown {
  struct cert *cert;
  struct tls_cert *tls;
};

struct entry {
  char name[HOST_MAX];
  unsigned count;
  bool owners; /* the owner's certificate covers it: shown is empty */
  struct shown shown;
  int64_t minted;
  UT_hash_handle hh;
};

struct certs {
  pthread_mutex_t lock; /* guards all below; held for a lookup, and for the half millisecond of a minting */
  struct ca *ca;
  char base[HOST_MAX];
  struct shown wildcard; /* the owner's; empty: none */
  struct shown link;
  int64_t link_minted;
  struct entry *names;
  int64_t (*clock)(void);
};

static int64_t wall(void) {
  return (int64_t)time(NULL);
}

void certs_clock(struct certs *c, int64_t (*clock)(void)) {
  c->clock = clock;
}

static int shown_make(struct cert *c, struct shown *out, struct beam_error *e) {
  struct tls_cert *t = NULL;
  int err = tls_cert_new(c->chain, strlen(c->chain), c->key.p, c->key.n, &t);
  if (err) {
    cert_unref(c);
    return err_set(e, err, NULL, "a certificate could not be used: %s", err_find(err)->what);
  }
  *out = (struct shown){c, t};
  return 0;
}

static struct shown shown_ref(const struct shown *s) {
  return s->cert ? (struct shown){cert_ref(s->cert), tls_cert_ref(s->tls)} : (struct shown){NULL, NULL};
}

static void shown_drop(struct shown *s) {
  cert_unref(s->cert);
  tls_cert_unref(s->tls);
  *s = (struct shown){NULL, NULL};
}

static int mint(struct certs *c, const char *name, enum ca_use use, struct shown *out, struct beam_error *e) {
  struct cert *cert = NULL;
  int err = ca_issue(c->ca, &name, 1, use, LEAF_HOURS, &cert, e);
  return err ? err : shown_make(cert, out, e);
}

/* A newer leaf when this one is a day old, or from the future (the clock was wrong then). When that fails the old one serves on and it is
 * tried again at the next use. */
static void renew(struct certs *c, const char *name, enum ca_use use, struct shown *s, int64_t *minted) {
  int64_t now = c->clock(), age = now - *minted;
  struct beam_error e = BEAM_ERROR_INIT;
  struct shown fresh = {NULL, NULL};
  if (age >= 0 && age < RENEW_S)
    return;
  if (mint(c, name, use, &fresh, &e)) {
    log_limited(BEAM_LOG_ERROR, "certs", "not renewed name=%s: %s", name, e.what);
    return;
  }
  shown_drop(s);
  *s = fresh;
  *minted = now;
}

/* --- the owner's certificate --- */

static int load_wildcard(struct certs *c, const char *cert_file, const char *key_file, struct shown *out,
                         struct beam_error *e) {
  struct cert *cert = NULL;
  char probe[HOST_MAX + 16];
  if (!strchr(c->base, '.'))
    return err_set(e, BEAM_ERR_INVALID, "leave --tls-cert out, or use a base domain of two labels or more",
                   "browsers refuse a certificate for *.%s", c->base);
  int err = cert_load(cert_file, key_file, &cert, e);
  if (err)
    return err;
  str_fmt(probe, sizeof probe, "any-name.%s", c->base);
  if (!cert_covers(cert, probe)) {
    cert_unref(cert);
    return err_set(e, BEAM_ERR_INVALID, "get one whose names include the wildcard",
                   "the certificate in %s does not cover *.%s", cert_file, c->base);
  }
  if (cert->not_after - wall() < EXPIRY_WARN_S)
    log_warn("certs", "the certificate in %s expires in %d days", cert_file,
             (int)((cert->not_after - wall()) / 86400));
  return shown_make(cert, out, e);
}

/* Does it cover every bound name that the one before covered? Gives the first that it does not, or NULL. */
static const char *left_out(const struct certs *c, const struct cert *fresh) {
  for (const struct entry *n = c->names; n; n = n->hh.next)
    if (n->owners && !cert_covers(fresh, n->name))
      return n->name;
  return NULL;
}

int certs_change(struct certs *c, const char *cert_file, const char *key_file, struct beam_error *e) {
  struct shown other = {NULL, NULL};
  if (!cert_file || !key_file)
    return !c->wildcard.cert
               ? 0
               : err_set(e, BEAM_ERR_UNSUPPORTED,
                         "start the new relay with --replace, which makes certificates of its own",
                         "names that are in use would lose their certificate");
  int err = load_wildcard(c, cert_file, key_file, &other, e);
  if (err)
    return err;
  pthread_mutex_lock(&c->lock);
  const char *missing = left_out(c, other.cert);
  if (missing) {
    err = err_set(e, BEAM_ERR_INVALID, "get one for the same names as before",
                  "the certificate in %s does not cover %s", cert_file, missing);
  } else {
    struct shown old = c->wildcard;
    c->wildcard = other;
    other = old;
  }
  pthread_mutex_unlock(&c->lock);
  shown_drop(&other);
  return err;
}

/* --- life --- */

static int first_files(struct certs *c, const char *cert_file, const char *key_file, struct beam_error *e) {
  if (!cert_file && !key_file)
    return 0;
  if (!cert_file || !key_file)
    return err_set(e, BEAM_ERR_INVALID, "give both --tls-cert and --tls-key, or neither",
                   "a certificate and its key go together");
  return load_wildcard(c, cert_file, key_file, &c->wildcard, e);
}

int certs_new(struct ca *ca, const char *base, const char *cert_file, const char *key_file,
              struct certs **out, struct beam_error *e) {
  *out = NULL;
  struct certs *c = calloc(1, sizeof *c);
  if (!c)
    return err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for certificates");
  pthread_mutex_init(&c->lock, NULL);
  c->ca = ca;
  c->clock = wall;
  int err = host_fold(span_of(base), c->base)
                ? first_files(c, cert_file, key_file, e)
                : err_set(e, BEAM_ERR_INVALID, NULL, "'%.100s' cannot be the domain of tunnels", base);
  if (!err)
    err = mint(c, LINK_NAME, CA_LINK, &c->link, e);
  if (err) {
    certs_free(c);
    return err;
  }
  c->link_minted = wall();
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

/* --- names --- */

static bool under_wildcard(const struct certs *c, const char *name) {
  struct span label;
  return c->wildcard.cert && host_label_under(name, c->base, &label);
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
    return err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for certificates");
  }
  n->owners = c->wildcard.cert && cert_covers(c->wildcard.cert, name);
  int err = n->owners ? 0 : mint(c, name, CA_SERVER, &n->shown, e);
  if (!err) {
    n->minted = c->clock();
    n->count = 1;
    HASH_ADD_STR(c->names, name, n);
    if (!n->hh.tbl)
      err = err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for certificates");
  }
  if (err) {
    shown_drop(&n->shown);
    free(n);
  }
  return err;
}

int certs_add(struct certs *c, const char *name, struct beam_error *e) {
  pthread_mutex_lock(&c->lock);
  int err = add_locked(c, name, e);
  pthread_mutex_unlock(&c->lock);
  return err;
}

void certs_drop(struct certs *c, const char *name) {
  struct entry *n;
  pthread_mutex_lock(&c->lock);
  HASH_FIND_STR(c->names, name, n);
  if (n && !--n->count)
    forget(c, n);
  pthread_mutex_unlock(&c->lock);
}

static struct shown find(struct certs *c, const char *name) {
  struct shown s = {NULL, NULL};
  struct entry *n = NULL;
  pthread_mutex_lock(&c->lock);
  if (under_wildcard(c, name)) {
    s = shown_ref(&c->wildcard);
  } else {
    HASH_FIND_STR(c->names, name, n);
    if (n && !n->owners)
      renew(c, name, CA_SERVER, &n->shown, &n->minted);
    if (n)
      s = shown_ref(n->owners ? &c->wildcard : &n->shown);
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
  renew(c, LINK_NAME, CA_LINK, &c->link, &c->link_minted);
  struct tls_cert *t = tls_cert_ref(c->link.tls);
  pthread_mutex_unlock(&c->lock);
  return t;
}
