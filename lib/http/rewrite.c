#include "http/rewrite.h"

#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "http/filter.h"
#include "wire/host.h"

/* --- spans --- */

static bool starts(struct span s, struct span with) {
  return s.n >= with.n && span_ieq((struct span){s.p, with.n}, with);
}

static struct span trim(struct span s) {
  while (s.n && (*s.p == ' ' || *s.p == '\t'))
    s.p++, s.n--;
  while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
    s.n--;
  return s;
}

/* "http://host:1/x" begins with the origin "http://host:1", "http://host:12" does not. */
static bool of_origin(struct span url, struct span origin) {
  return origin.n && starts(url, origin) &&
         (url.n == origin.n || url.p[origin.n] == '/' || url.p[origin.n] == '?' || url.p[origin.n] == '#');
}

/* --- origins --- */

static void default_port_off(char *origin) {
  size_t n = strlen(origin);
  bool tls = !strncmp(origin, "https:", 6);
  const char *end = tls ? ":443" : ":80";
  size_t e = strlen(end);
  if (n > e && !strcmp(origin + n - e, end))
    origin[n - e] = 0;
}

void rewrite_origins(struct rewrite_origins *o, struct span scheme, struct span authority,
                     const char *local_origin) {
  if (!str_fmt(o->public_origin, sizeof o->public_origin, "%.*s://%.*s", SPAN_FMT(scheme),
               SPAN_FMT(authority)) ||
      !str_copy(o->local_origin, sizeof o->local_origin, local_origin))
    o->public_origin[0] = o->local_origin[0] = 0; /* longer than a host can be: nothing equals it */
  default_port_off(o->public_origin);
  default_port_off(o->local_origin);
}

/* Without its scheme: "localhost:3000". */
static struct span local_host(const struct rewrite_origins *o) {
  const char *scheme_end = strstr(o->local_origin, "://");
  return span_of(scheme_end ? scheme_end + 3 : "");
}

/* Is this address the local service's, by one of the names a program has for itself? How much of the address that is; 0: it is not. Under https too: that is what an
 * app makes of its own Host when it believes X-Forwarded-Proto (Next.js does). */
static size_t local_part(const struct rewrite_origins *o, struct span url) {
  static const char *const names[] = {"localhost", "127.0.0.1", "[::1]", "0.0.0.0"};
  struct span scheme = starts(url, SPAN("https://")) ? SPAN("https://") : SPAN("http://");
  struct span own = local_host(o);
  if (!own.n || !starts(url, scheme))
    return 0;
  struct span rest = {url.p + scheme.n, url.n - scheme.n};
  if (of_origin(rest, own))
    return scheme.n + own.n;
  const char *colon = strrchr(own.p, ':');
  const char *port = colon && !strchr(colon, ']') ? colon : "";
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char other[64];
    str_fmt(other, sizeof other, "%s%.8s", names[i], port);
    if (of_origin(rest, span_of(other)))
      return scheme.n + strlen(other);
  }
  return 0;
}

/* --- new text for fields --- */

struct text {
  char *p;
  size_t n, cap;
};

/* from[0..cut) becomes `to`; the rest stays. */
static struct span replaced(struct text *t, struct span to, struct span from, size_t cut) {
  char *at = t->p + t->n;
  size_t rest = from.n - cut;
  if (t->n + to.n + rest > t->cap)
    return from; /* counted beforehand: cannot be */
  memcpy(at, to.p, to.n);
  memcpy(at + to.n, from.p + cut, rest);
  t->n += to.n + rest;
  return (struct span){at, to.n + rest};
}

static bool is_own_origin(const struct rewrite_origins *o, const struct http_field *f) {
  return o->public_origin[0] && span_ieq(f->name, SPAN("origin")) &&
         span_ieq(f->value, span_of(o->public_origin));
}

int rewrite_request(const struct rewrite_origins *o, struct http_head *h, char **text) {
  struct span public = span_of(o->public_origin);
  struct text t = {0};
  bool own = false;
  *text = NULL;
  for (size_t i = 0; i < h->fields_n && !own; i++)
    own = is_own_origin(o, &h->fields[i]);
  for (size_t i = 0; i < h->fields_n; i++) {
    struct http_field *f = &h->fields[i];
    struct span to = span_of(o->local_origin);
    size_t cut = public.n;
    if (own && span_ieq(f->name, SPAN("x-forwarded-host")))
      to = local_host(o), cut = f->value.n;
    else if (!is_own_origin(o, f) && !(span_ieq(f->name, SPAN("referer")) && of_origin(f->value, public)))
      continue;
    if (!t.p && !(t.p = *text = malloc(t.cap = LIMIT_HEAD_BYTES + 4 * sizeof o->local_origin)))
      return BEAM_ERR_NOMEM;
    f->value = replaced(&t, to, f->value, cut);
  }
  return 0;
}

/* --- cookies --- */

/* The Domain attribute of a Set-Cookie (RFC 6265 5.2.3: the last one counts; a leading dot means nothing), and where "; Domain=..." lies. False: it has none. */
static bool cookie_domain(struct span cookie, struct span *domain, struct span *attribute) {
  const char *p = cookie.p, *end = cookie.p + cookie.n;
  bool found = false;
  while (p < end && (p = memchr(p, ';', (size_t)(end - p)))) {
    const char *next = memchr(p + 1, ';', (size_t)(end - p - 1));
    struct span all = {p, (size_t)((next ? next : end) - p)};
    struct span av = trim((struct span){p + 1, all.n - 1});
    const char *eq = av.n ? memchr(av.p, '=', av.n) : NULL;
    p++;
    if (!eq || !span_ieq(trim((struct span){av.p, (size_t)(eq - av.p)}), SPAN("domain")))
      continue;
    *domain = trim((struct span){eq + 1, (size_t)(av.p + av.n - eq - 1)});
    if (domain->n && domain->p[0] == '.')
      domain->p++, domain->n--;
    *attribute = all;
    found = true;
  }
  return found;
}

/* Is `domain` the host `base`, or a domain that base lies under? */
static bool covers(struct span domain, struct span base) {
  if (!domain.n || domain.n > base.n ||
      !span_ieq((struct span){base.p + base.n - domain.n, domain.n}, domain))
    return false;
  return domain.n == base.n || base.p[base.n - domain.n - 1] == '.';
}

static bool goes(const struct rewrite_edge *e, const struct http_field *f) {
  struct span domain, attribute;
  if (span_ieq(f->name, SPAN("alt-svc")))
    return true;
  return span_ieq(f->name, SPAN("set-cookie")) && cookie_domain(f->value, &domain, &attribute) &&
         covers(domain, span_of(e->base));
}

int rewrite_edge(const struct rewrite_edge *e, const struct http_head *in, struct http_head *out) {
  size_t gone = 0;
  for (size_t i = 0; i < in->fields_n; i++)
    gone += goes(e, &in->fields[i]);
  if (!gone && !e->alt[0])
    return 0;
  *out = *in;
  out->block = out->fields = malloc((in->fields_n + 1) * sizeof *in->fields);
  if (!out->block) {
    memset(out, 0, sizeof *out);
    return BEAM_ERR_NOMEM;
  }
  out->fields_n = 0;
  for (size_t i = 0; i < in->fields_n; i++)
    if (!gone || !goes(e, &in->fields[i]))
      out->fields[out->fields_n++] = in->fields[i];
  if (e->alt[0])
    out->fields[out->fields_n++] = (struct http_field){SPAN("Alt-Svc"), span_of(e->alt)};
  return 1;
}

/* --- the response --- */

static bool is_local_name(struct span domain) {
  return span_ieq(domain, SPAN("localhost")) || span_eq(domain, SPAN("127.0.0.1"));
}

/* What becomes of this field: the length of its new value, 0: it stays. Written when t->p is there. */
static size_t change(const struct rewrite_origins *o, struct http_field *f, struct text *t) {
  struct span public = span_of(o->public_origin), v = f->value, domain, attribute;
  size_t cut = 0;
  if (span_ieq(f->name, SPAN("location")) || span_ieq(f->name, SPAN("content-location")) ||
      span_ieq(f->name, SPAN("access-control-allow-origin")))
    cut = local_part(o, v);
  if (cut) {
    if (t->p)
      f->value = replaced(t, public, v, cut);
    return public.n + v.n - cut;
  }
  if (!span_ieq(f->name, SPAN("set-cookie")) || !cookie_domain(v, &domain, &attribute) ||
      !is_local_name(domain))
    return 0;
  if (t->p) { /* without Domain the cookie is the visitor's host's */
    size_t before = (size_t)(attribute.p - v.p);
    f->value = replaced(t, (struct span){v.p, before}, v, before + attribute.n);
  }
  return v.n - attribute.n;
}

int rewrite_response(const struct rewrite_origins *o, const struct http_head *in, struct http_head *out) {
  struct text t = {0};
  size_t table = in->fields_n * sizeof *in->fields;
  for (size_t i = 0; i < in->fields_n; i++) {
    struct http_field f = in->fields[i];
    t.cap += change(o, &f, &t);
  }
  if (!t.cap)
    return 0;
  *out = *in;
  out->block = out->fields = malloc(table + t.cap);
  if (!out->block) {
    memset(out, 0, sizeof *out);
    return BEAM_ERR_NOMEM;
  }
  memcpy(out->fields, in->fields, table);
  t.p = (char *)out->block + table;
  for (size_t i = 0; i < out->fields_n; i++)
    change(o, &out->fields[i], &t);
  return 1;
}

/* --- between a front and an upstream --- */

struct rewriter {
  struct http_filter filter;
  struct rewrite_origins origins;
};

static int on_response(struct http_filter *f, const struct http_head *in, struct http_head *out) {
  return rewrite_response(&((struct rewriter *)f)->origins, in, out);
}

static void on_free(struct http_filter *f) {
  free(f);
}

int rewrite_join(struct loop *l, const struct rewrite_origins *o, struct http_end *front,
                 struct http_end *upstream) {
  static const struct http_filter_ops ops = {.response = on_response, .free = on_free};
  struct rewriter *r = calloc(1, sizeof *r);
  if (!r)
    return BEAM_ERR_NOMEM;
  r->origins = *o;
  http_filter_join(l, &r->filter, &ops, front, upstream);
  return 0;
}

struct edge {
  struct http_filter filter;
  struct rewrite_edge conf;
};

static void edge_free(struct http_filter *f) {
  struct edge *e = (struct edge *)f;
  if (e->conf.over)
    e->conf.over(&e->conf);
  free(e);
}

static int edge_response(struct http_filter *f, const struct http_head *in, struct http_head *out) {
  return rewrite_edge(&((struct edge *)f)->conf, in, out);
}

int rewrite_edge_join(struct loop *l, const struct rewrite_edge *conf, struct http_end *front,
                      struct http_end *upstream) {
  static const struct http_filter_ops ops = {.response = edge_response, .free = edge_free};
  struct edge *e = calloc(1, sizeof *e);
  if (!e)
    return BEAM_ERR_NOMEM;
  e->conf = *conf;
  http_filter_join(l, &e->filter, &ops, front, upstream);
  return 0;
}
