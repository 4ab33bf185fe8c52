#include "http/cache_rules.h"

#include <string.h>

#include "base/limits.h"

static struct span trim(struct span s) {
  while (s.n && (*s.p == ' ' || *s.p == '\t'))
    s.p++, s.n--;
  while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
    s.n--;
  return s;
}

static struct span cut(struct span *s, char at) {
  const char *p = s->n ? memchr(s->p, at, s->n) : NULL;
  struct span item = {s->p, p ? (size_t)(p - s->p) : s->n};
  size_t used = item.n + (p != NULL);
  *s = (struct span){s->p + used, s->n - used};
  return trim(item);
}

/* A directive of Cache-Control, with its value ("" without one). A comma within quotes only makes more directives, none of which is known. */
static bool directive(const struct http_head *h, const char *name, struct span *value) {
  for (size_t i = 0; i < h->fields_n; i++) {
    struct span list = h->fields[i].value;
    if (!span_ieq(h->fields[i].name, SPAN("cache-control")))
      continue;
    while (list.n) {
      struct span item = cut(&list, ',');
      if (!span_ieq(cut(&item, '='), span_of(name)))
        continue;
      *value = item;
      return true;
    }
  }
  return false;
}

static bool has(const struct http_head *h, const char *name) {
  struct span value;
  return directive(h, name, &value);
}

/* Delta-seconds, perhaps in quotes; what is none counts as 0: stale at once. False: no such directive. */
static bool seconds(const struct http_head *h, const char *name, uint32_t *out) {
  struct span v;
  uint64_t n = 0;
  if (!directive(h, name, &v))
    return false;
  v = trim(v);
  if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"')
    v = (struct span){v.p + 1, v.n - 2};
  if (!str_u64(v, UINT64_MAX, &n))
    n = 0;
  *out = n < LIMIT_CACHE_SECONDS ? (uint32_t)n : LIMIT_CACHE_SECONDS;
  return true;
}

/* --- requests --- */

enum cache_wish cache_wish_of(const struct http_head *h, bool more) {
  uint32_t age;
  bool get = span_eq(h->method, SPAN("GET")) || span_eq(h->method, SPAN("HEAD"));
  if (!get || more || http_field_find(h, "range") || http_field_find(h, "upgrade") ||
      http_field_find(h, "if-match") || http_field_find(h, "if-unmodified-since") || has(h, "no-store"))
    return CACHE_BYPASS;
  if (has(h, "no-cache") || (seconds(h, "max-age", &age) && !age) ||
      (!http_field_find(h, "cache-control") && http_field_has_token(h, "pragma", "no-cache")))
    return CACHE_REFRESH;
  return CACHE_USE;
}

bool cache_is_unsafe(struct span m) {
  return !span_eq(m, SPAN("GET")) && !span_eq(m, SPAN("HEAD")) && !span_eq(m, SPAN("OPTIONS")) &&
         !span_eq(m, SPAN("TRACE"));
}

/* --- responses --- */

static bool is_kept_status(uint16_t status) {
  return status == 200 || status == 203 || status == 301 || status == 308 || status == 404 || status == 410;
}

void cache_terms_of(bool get, const struct http_head *h, struct cache_terms *out) {
  const struct http_field *age = http_field_find(h, "age");
  uint64_t came = 0;
  memset(out, 0, sizeof *out);
  out->strict = has(h, "must-revalidate") || has(h, "proxy-revalidate") || has(h, "s-maxage");
  bool shared = seconds(h, "s-maxage", &out->fresh_s);
  bool lives = shared || seconds(h, "max-age", &out->fresh_s);
  seconds(h, "stale-while-revalidate", &out->stale_s);
  if (age && str_u64(age->value, UINT32_MAX, &came))
    out->age_s = (uint32_t)came;
  out->keep = get && is_kept_status(h->status) && lives && (shared || has(h, "public")) &&
              (out->fresh_s > out->age_s || out->stale_s) && !has(h, "no-store") && !has(h, "private") &&
              !has(h, "no-cache") && !http_field_find(h, "set-cookie") &&
              !http_field_find(h, "content-range") && !http_field_has_token(h, "vary", "*");
}

/* --- conditions --- */

static struct span opaque(struct span tag) {
  return tag.n > 2 && !memcmp(tag.p, "W/", 2) ? (struct span){tag.p + 2, tag.n - 2} : tag;
}

/* Compared weakly. A tag with a comma in it may miss; then the whole response is sent. */
static bool tag_listed(struct span list, struct span tag) {
  if (span_eq(trim(list), SPAN("*")))
    return true;
  while (list.n)
    if (span_eq(opaque(cut(&list, ',')), opaque(tag)))
      return true;
  return false;
}

bool cache_not_modified(const struct http_head *request, const struct http_head *kept) {
  const struct http_field *none = http_field_find(request, "if-none-match");
  const struct http_field *since = http_field_find(request, "if-modified-since");
  const struct http_field *tag = http_field_find(kept, "etag");
  const struct http_field *modified = http_field_find(kept, "last-modified");
  if (kept->status != 200)
    return false;
  if (none)
    return tag && tag_listed(none->value, tag->value);
  return since && modified && span_eq(since->value, modified->value);
}

bool cache_joined(const struct http_head *h, struct span name, char *out, size_t cap, size_t *n) {
  for (size_t i = 0; i < h->fields_n; i++) {
    struct span v = h->fields[i].value;
    if (!span_ieq(h->fields[i].name, name))
      continue;
    if (v.n + 1 > cap - *n)
      return false;
    if (v.n)
      memcpy(out + *n, v.p, v.n);
    *n += v.n;
    out[(*n)++] = ',';
  }
  if (*n >= cap)
    return false;
  out[(*n)++] = '\n';
  return true;
}
