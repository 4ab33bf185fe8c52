#include "http/policy.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "http/auth.h"
#include "http/cache.h"
#include "http/compress.h"
#include "http/cors.h"
#include "http/edits.h"
#include "http/filter.h"
#include "http/rate.h"
#include "wire/cidr.h"

struct policy {
  unsigned refs;
  struct http_auth *auth;       /* NULL: everybody */
  struct rate *tries;           /* with auth: passwords that failed */
  struct cidr_list allow, deny; /* of allow none: everybody */
  struct rate *rate;            /* what follows: NULL or 0: not asked for */
  struct rate *total;           /* one bucket for everybody */
  struct cors *cors;
  struct edits *request, *response;
  uint64_t max_body;
  struct cache *cache;
  bool compresses;
  struct encode_share share;
};

/* --- what the owner wrote --- */

static int make_cache(uint64_t bytes, struct cache **out, struct beam_error *err) {
  if (bytes < LIMIT_CACHE_LEAST || bytes > LIMIT_CACHE_MOST)
    return err_set(err, BEAM_ERR_INVALID, "give it between 1 MiB and 4 GiB", "a cache of %llu bytes",
                   (unsigned long long)bytes);
  int e = cache_new(bytes, out);
  return e ? err_set(err, e, NULL, "out of memory") : 0;
}

static int make_auth(struct policy *p, const char *lines, struct beam_error *err) {
  int e = http_auth_new(lines, &p->auth, err);
  if (!e && !(p->tries = rate_of(LIMIT_PASSWORD_TRIES, 60)))
    e = err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  return e;
}

static int parse(struct policy *p, const struct beam_http_policy *c, struct beam_error *err) {
  int e = cidr_list_parse(c->allow, "allow", &p->allow, err);
  if (!e)
    e = cidr_list_parse(c->deny, "deny", &p->deny, err);
  if (!e && c->auth)
    e = make_auth(p, c->auth, err);
  if (!e && c->rate_limit)
    e = rate_new(c->rate_limit, &p->rate, err);
  if (!e && c->rate_limit_total)
    e = rate_new(c->rate_limit_total, &p->total, err);
  if (!e && c->cors)
    e = cors_new(c->cors, &p->cors, err);
  if (!e && c->request_headers)
    e = edits_new(c->request_headers, "request header", &p->request, err);
  if (!e && c->response_headers)
    e = edits_new(c->response_headers, "response header", &p->response, err);
  p->max_body = c->max_body;
  p->compresses = !c->no_compression;
  if (!e && c->cache)
    e = make_cache(c->cache, &p->cache, err);
  return e;
}

int policy_new(const struct beam_http_policy *conf, struct policy **out, struct beam_error *err) {
  struct beam_http_policy c = BEAM_HTTP_POLICY_INIT;
  struct policy *p = calloc(1, sizeof *p);
  if (!p)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  p->refs = 1;
  if (conf && conf->size >= sizeof conf->size)
    memcpy(&c, conf, conf->size < sizeof c ? conf->size : sizeof c);
  int e = parse(p, &c, err);
  if (e) {
    policy_unref(p);
    return e;
  }
  *out = p;
  return 0;
}

struct policy *policy_ref(struct policy *p) {
  p->refs++;
  return p;
}

void policy_unref(struct policy *p) {
  if (!p || --p->refs)
    return;
  encode_share_fini(&p->share);
  cache_unref(p->cache);
  http_auth_free(p->auth);
  rate_free(p->tries);
  rate_free(p->rate);
  rate_free(p->total);
  cors_free(p->cors);
  edits_free(p->request);
  edits_free(p->response);
  cidr_list_free(&p->allow);
  cidr_list_free(&p->deny);
  free(p);
}

/* --- a visitor --- */

bool policy_lets_in(const struct policy *p, const char *visitor) {
  struct addr a;
  if (!p->allow.n && !p->deny.n)
    return true;
  if (!addr_parse(span_of(visitor), &a))
    return false; /* nobody knows who it is */
  return !cidr_list_has(&p->deny, &a) && (!p->allow.n || cidr_list_has(&p->allow, &a));
}

/* --- refusing --- */

/* A page, and *wait: the seconds that its Retry-After gives. */
static enum page refuse(struct policy *p, struct loop *l, const char *visitor, unsigned *wait) {
  if (!policy_lets_in(p, visitor))
    return PAGE_ADDRESS;
  if (p->rate && (*wait = rate_take(p->rate, visitor, loop_now(l))))
    return PAGE_RATE;
  return PAGE_NONE;
}

/* An address that failed too often gets the same answer whatever it brings: would the right password still pass, a guesser could go on, and lose nothing but the word
 * for "wrong". Whoever brings none is asked for one as always. */
static enum page refuse_password(struct policy *p, struct loop *l, const char *visitor,
                                 const struct http_head *h, unsigned *wait) {
  bool tried = http_auth_tried(h);
  if (tried && (*wait = rate_wait(p->tries, visitor, loop_now(l))))
    return PAGE_PASSWORD_TRIES;
  if (http_auth_ok(p->auth, h))
    return PAGE_NONE;
  if (tried && (*wait = rate_take(p->tries, visitor, loop_now(l)))) /* no memory to count it in */
    return PAGE_PASSWORD_TRIES;
  return PAGE_AUTH;
}

/* The total comes last: what no other rule lets pass must not use it up for those who may. */
static enum page refuse_more(struct policy *p, struct loop *l, const char *visitor, const struct http_head *h,
                             unsigned *wait) {
  uint64_t length;
  enum page page = p->auth ? refuse_password(p, l, visitor, h, wait) : PAGE_NONE;
  if (page)
    return page;
  if (p->max_body && !http_length(h, &length) && length > p->max_body)
    return PAGE_BODY_TOO_LARGE;
  if (p->total && (*wait = rate_take(p->total, "", loop_now(l))))
    return PAGE_RATE_TOTAL;
  return PAGE_NONE;
}

/* A page of another origin must be able to read why, too. */
static void say(const struct policy *p, struct loop *l, struct http_end *front, const struct http_head *h,
                enum page page, unsigned wait) {
  struct http_field more[PAGE_MORE_FIELDS];
  char seconds[16];
  size_t n = p->cors ? cors_fields(p->cors, cors_allows(p->cors, h), more) : 0;
  if (page == PAGE_AUTH)
    more[n++] = http_auth_challenge();
  if (wait) {
    str_fmt(seconds, sizeof seconds, "%u", wait);
    more[n++] = (struct http_field){SPAN("Retry-After"), span_of(seconds)};
  }
  page_answer_with(l, front, h, page, NULL, more, n);
}

bool policy_answer(struct policy *p, struct loop *l, const char *visitor, struct http_end *front,
                   const struct http_head *h, enum page *refused) {
  unsigned wait = 0;
  *refused = refuse(p, l, visitor, &wait);
  if (!*refused && p->cors && cors_is_preflight(h)) {
    cors_preflight(p->cors, l, front, h);
    return true;
  }
  if (!*refused)
    *refused = refuse_more(p, l, visitor, h, &wait);
  if (*refused)
    say(p, l, front, h, *refused, wait);
  return *refused != PAGE_NONE;
}

/* --- on the way --- */

struct guard {
  struct http_filter filter;
  struct policy *policy;
  struct span cors; /* whom the answer lets read it; of the policy */
  uint64_t body;    /* of the request, so far */
  bool upgraded;
};

/* *out = in, with an array of its own that has room for `more`. */
static int copy(const struct http_head *in, size_t more, struct http_head *out) {
  *out = *in;
  out->block = out->fields = malloc((in->fields_n + more + 1) * sizeof *in->fields);
  if (!out->block) {
    memset(out, 0, sizeof *out);
    return BEAM_ERR_NOMEM;
  }
  memcpy(out->fields, in->fields, in->fields_n * sizeof *in->fields);
  return 0;
}

static void drop(struct http_head *h, bool (*goes)(struct span)) {
  size_t kept = 0;
  for (size_t i = 0; i < h->fields_n; i++)
    if (!goes(h->fields[i].name))
      h->fields[kept++] = h->fields[i];
  h->fields_n = kept;
}

static bool is_authorization(struct span name) {
  return span_ieq(name, SPAN("authorization"));
}

/* The owner's password is not the service's to see. */
static int on_request(struct http_filter *f, const struct http_head *in, struct http_head *out) {
  const struct policy *p = ((struct guard *)f)->policy;
  if (!p->auth && !p->request)
    return 0;
  int err = copy(in, edits_count(p->request), out);
  if (err)
    return err;
  if (p->auth)
    drop(out, is_authorization);
  out->fields_n = edits_apply(p->request, out->fields, out->fields_n);
  return 1;
}

static enum page on_request_body(struct http_filter *f, size_t n) {
  struct guard *g = (struct guard *)f;
  uint64_t max = g->policy->max_body;
  if (!max || g->upgraded)
    return PAGE_NONE;
  if (n > max - g->body)
    return PAGE_BODY_TOO_LARGE;
  g->body += n;
  return PAGE_NONE;
}

static int on_response(struct http_filter *f, const struct http_head *in, struct http_head *out) {
  struct guard *g = (struct guard *)f;
  const struct policy *p = g->policy;
  g->upgraded = in->status == 101;
  if (!p->cors && !p->response)
    return 0;
  int err = copy(in, CORS_FIELDS + edits_count(p->response), out);
  if (err)
    return err;
  if (p->cors) {
    drop(out, cors_replaces);
    out->fields_n += cors_fields(p->cors, g->cors, out->fields + out->fields_n);
  }
  out->fields_n = edits_apply(p->response, out->fields, out->fields_n);
  return 1;
}

static void on_free(struct http_filter *f) {
  policy_unref(((struct guard *)f)->policy);
  free(f);
}

static bool guards(const struct policy *p) {
  return p->auth || p->cors || p->request || p->response || p->max_body;
}

static void unref(void *owner) {
  policy_unref(owner);
}

int policy_join(struct policy *p, struct loop *l, struct http_end *front, const struct http_head *h) {
  static const struct http_filter_ops ops = {
      .request = on_request, .response = on_response, .request_body = on_request_body, .free = on_free};
  int err = p->cache ? cache_join(p->cache, l, front, h) : 0;
  if (err)
    return err;
  if (guards(p)) {
    struct guard *g = calloc(1, sizeof *g);
    if (!g)
      return BEAM_ERR_NOMEM;
    g->policy = policy_ref(p);
    if (p->cors)
      g->cors = cors_allows(p->cors, h);
    http_filter_join(l, &g->filter, &ops, front, front->peer);
  }
  if (!p->compresses)
    return 0;
  err = compress_join(l, &p->share, front, h, unref, policy_ref(p));
  if (err)
    policy_unref(p);
  return err;
}

struct cache *policy_cache(const struct policy *p) {
  return p->cache;
}
