#include "http/policy.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "http/auth.h"
#include "http/filter.h"
#include "wire/cidr.h"

struct ranges {
  struct cidr *list;
  size_t n;
};

struct policy {
  unsigned refs;
  struct http_auth *auth;    /* NULL: everybody */
  struct ranges allow, deny; /* of allow none: everybody */
};

/* --- what the owner wrote --- */

static struct span trim(struct span s) {
  while (s.n && (*s.p == ' ' || *s.p == '\t'))
    s.p++, s.n--;
  while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
    s.n--;
  return s;
}

/* "10.0.0.0/8, ::1". */
static int parse_ranges(const char *text, const char *what, struct ranges *out, struct beam_error *err) {
  size_t n = 1;
  if (!text)
    return 0;
  for (const char *p = text; (p = strchr(p, ',')); p++)
    n++;
  if (n > LIMIT_POLICY_RANGES)
    return err_set(err, BEAM_ERR_LIMIT, NULL, "%s: more than %u ranges", what, LIMIT_POLICY_RANGES);
  if (!(out->list = calloc(n, sizeof *out->list)))
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  for (const char *p = text; out->n < n; out->n++) {
    struct span one = {p, strcspn(p, ",")};
    p += one.n + (p[one.n] != 0);
    one = trim(one);
    if (!cidr_parse(one, &out->list[out->n]))
      return err_set(err, BEAM_ERR_INVALID, "write 203.0.113.9, 10.0.0.0/8 or 2001:db8::/32",
                     "%s: \"%.60s\" is neither an address nor a range", what, one.n ? one.p : "");
  }
  return 0;
}

static int parse(struct policy *p, const struct beam_http_policy *c, struct beam_error *err) {
  int e = parse_ranges(c->allow, "allow", &p->allow, err);
  if (!e)
    e = parse_ranges(c->deny, "deny", &p->deny, err);
  if (!e && c->auth)
    e = http_auth_new(c->auth, &p->auth, err);
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
  http_auth_free(p->auth);
  free(p->allow.list);
  free(p->deny.list);
  free(p);
}

/* --- a visitor --- */

static bool in_any(const struct ranges *r, const struct addr *a) {
  for (size_t i = 0; i < r->n; i++)
    if (cidr_has(&r->list[i], a))
      return true;
  return false;
}

bool policy_lets_in(const struct policy *p, const char *visitor) {
  struct addr a;
  if (!p->allow.n && !p->deny.n)
    return true;
  if (!addr_parse(span_of(visitor), &a))
    return false; /* nobody knows who it is */
  return !in_any(&p->deny, &a) && (!p->allow.n || in_any(&p->allow, &a));
}

enum page policy_answer(struct policy *p, struct loop *l, const char *visitor, struct http_end *front,
                        const struct http_head *h) {
  struct http_field more[PAGE_MORE_FIELDS];
  size_t n = 0;
  enum page page = PAGE_NONE;
  if (!policy_lets_in(p, visitor)) {
    page = PAGE_ADDRESS;
  } else if (p->auth && !http_auth_ok(p->auth, h)) {
    page = PAGE_AUTH;
    more[n++] = http_auth_challenge();
  }
  if (page)
    page_answer_with(l, front, h, page, NULL, more, n);
  return page;
}

/* --- on the way --- */

struct guard {
  struct http_filter filter;
  struct policy *policy;
};

/* The owner's password is not the service's to see. */
static int on_request(struct http_filter *f, const struct http_head *in, struct http_head *out) {
  const struct policy *p = ((struct guard *)f)->policy;
  if (!p->auth)
    return 0;
  *out = *in;
  out->block = out->fields = malloc((in->fields_n + 1) * sizeof *in->fields);
  if (!out->block) {
    memset(out, 0, sizeof *out);
    return BEAM_ERR_NOMEM;
  }
  out->fields_n = 0;
  for (size_t i = 0; i < in->fields_n; i++)
    if (!span_ieq(in->fields[i].name, SPAN("authorization")))
      out->fields[out->fields_n++] = in->fields[i];
  return 1;
}

static int on_response(struct http_filter *f, const struct http_head *in, struct http_head *out) {
  (void)f, (void)in, (void)out;
  return 0;
}

static void on_free(struct http_filter *f) {
  policy_unref(((struct guard *)f)->policy);
  free(f);
}

int policy_join(struct policy *p, struct loop *l, struct http_end *front) {
  static const struct http_filter_ops ops = {on_request, on_response, on_free};
  if (!p->auth)
    return 0;
  struct guard *g = calloc(1, sizeof *g);
  if (!g)
    return BEAM_ERR_NOMEM;
  g->policy = policy_ref(p);
  http_filter_join(l, &g->filter, &ops, front, front->peer);
  return 0;
}
