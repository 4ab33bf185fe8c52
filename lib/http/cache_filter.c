#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "http/answer.h"
#include "http/cache_store.h"
#include "http/filter.h"

enum how { BYPASS, MISS, STALE, HIT };

struct cacher {
  struct http_filter filter;
  struct cache *cache;
  struct http_head request; /* the visitor's */
  uint8_t key[HASH_BYTES];
  enum how how;
  bool ours;            /* the condition that the upstream got is ours */
  struct entry *kept;   /* what there is */
  struct entry *making; /* what is being gathered */
  size_t cap;           /* of making->body */
};

static uint64_t now(const struct cacher *c) {
  return loop_now(c->filter.loop);
}

static uint64_t age_of(const struct entry *e, uint64_t at) {
  return e->terms.age_s + (at - e->made_ms) / 1000;
}

/* --- the request --- */

static bool is_condition(struct span name) {
  return span_ieq(name, SPAN("if-none-match")) || span_ieq(name, SPAN("if-modified-since"));
}

/* The service is asked whether what is kept is still good; the visitor's own condition is ours to answer. */
static int with_condition(const struct entry *e, const struct http_head *in, struct http_head *out) {
  const struct http_field *tag = http_field_find(&e->head, "etag");
  const struct http_field *modified = http_field_find(&e->head, "last-modified");
  *out = *in;
  out->block = out->fields = malloc((in->fields_n + 2) * sizeof *in->fields);
  if (!out->block) {
    memset(out, 0, sizeof *out);
    return BEAM_ERR_NOMEM;
  }
  out->fields_n = 0;
  for (size_t i = 0; i < in->fields_n; i++)
    if (!is_condition(in->fields[i].name))
      out->fields[out->fields_n++] = in->fields[i];
  out->method = SPAN("GET"); /* a HEAD may bring it up to date as well */
  if (tag)
    out->fields[out->fields_n++] = (struct http_field){SPAN("If-None-Match"), tag->value};
  if (modified)
    out->fields[out->fields_n++] = (struct http_field){SPAN("If-Modified-Since"), modified->value};
  return 1;
}

static bool has_validator(const struct entry *e) {
  return e->head.status == 200 &&
         (http_field_find(&e->head, "etag") || http_field_find(&e->head, "last-modified"));
}

static void keep(struct cacher *c, struct entry *e) {
  e->refs++;
  c->kept = e;
}

static int on_request(struct http_filter *f, const struct http_head *in, struct http_head *out) {
  struct cacher *c = (struct cacher *)f;
  struct cache_counts *n = cache_counts_of(c->cache);
  enum cache_wish wish = cache_wish_of(&c->request, f->body_follows);
  struct entry *e = wish == CACHE_BYPASS ? NULL : cache_find(c->cache, c->key, &c->request);
  c->how = wish == CACHE_BYPASS ? BYPASS : e ? STALE : MISS;
  n->bypassed += c->how == BYPASS;
  n->misses += c->how == MISS;
  if (!e)
    return 0;
  uint64_t age = age_of(e, now(c));
  bool fresh = age < e->terms.fresh_s;
  bool bearable = !e->terms.strict && age < (uint64_t)e->terms.fresh_s + e->terms.stale_s;
  if (wish == CACHE_USE && (fresh || bearable)) {
    keep(c, e);
    c->how = HIT;
    n->hits++;
    n->stale += !fresh;
    if (fresh || e->asked)
      return FILTER_ANSWER;
    if (with_condition(e, in, out) < 0)
      return FILTER_ANSWER;
    e->asked = c->ours = true;
    return FILTER_ANSWER_FETCH;
  }
  n->misses++;
  bool get = span_eq(c->request.method, SPAN("GET"));
  if (!get || !has_validator(e))
    return 0;
  keep(c, e);
  c->ours = true;
  return with_condition(e, in, out);
}

/* --- the response --- */

static void give_up(struct cacher *c) {
  if (!c->making)
    return;
  cache_release(c->cache, c->making->charged);
  entry_unref(c->making);
  c->making = NULL;
}

static uint64_t head_bytes(const struct http_head *h) {
  uint64_t n = sizeof(struct entry) + 512;
  for (size_t i = 0; i < h->fields_n; i++)
    n += h->fields[i].name.n + h->fields[i].value.n + sizeof *h->fields;
  return n;
}

static bool more_room(struct cacher *c, size_t n) {
  struct entry *e = c->making;
  size_t cap = c->cap ? c->cap : 16384;
  while (cap < n)
    cap *= 2;
  if (cap <= c->cap)
    return true;
  /* What an entry may be is asked as a whole, so what was charged is given back first. */
  uint64_t head = e->charged - c->cap;
  cache_release(c->cache, e->charged);
  e->charged = 0;
  if (!cache_charge(c->cache, head + cap))
    return false;
  e->charged = head + cap;
  char *body = realloc(e->body, cap);
  if (!body)
    return false;
  e->body = body;
  c->cap = cap;
  return true;
}

static void gather(struct cacher *c, const struct http_head *h, const struct cache_terms *terms) {
  uint64_t length = 0;
  struct entry *e = calloc(1, sizeof *e);
  if (!e)
    return;
  e->refs = 1;
  e->terms = *terms;
  e->made_ms = now(c);
  c->making = e;
  c->cap = 0;
  uint64_t n = head_bytes(h);
  if (!cache_charge(c->cache, n)) {
    entry_unref(e);
    c->making = NULL;
    return;
  }
  e->charged = n;
  bool told = !http_length(h, &length);
  if (http_head_copy(&e->head, h) ||
      (told && (length > LIMIT_CACHE_OBJECT || (length && !more_room(c, (size_t)length)))))
    give_up(c);
}

/* RFC 9111 4.3.4: what is kept is good again, on the terms that come with the 304. */
static void freshen(struct cacher *c, const struct http_head *h) {
  struct entry *e = c->kept;
  struct cache_terms terms;
  struct http_head as = *h;
  as.status = e->head.status;
  cache_counts_of(c->cache)->revalidated++;
  if (http_field_find(h, "cache-control")) {
    cache_terms_of(true, &as, &terms);
    e->terms = terms;
    if (!terms.keep)
      cache_drop(c->cache, e);
  }
  e->terms.age_s = 0;
  e->made_ms = now(c);
}

static int say_status(const struct cacher *c, const struct http_head *in, struct http_head *out) {
  static const char *const how[] = {"Beam; fwd=bypass", "Beam; fwd=miss", "Beam; fwd=stale", "Beam; hit"};
  *out = *in;
  out->block = out->fields = malloc((in->fields_n + 1) * sizeof *in->fields);
  if (!out->block) {
    memset(out, 0, sizeof *out);
    return BEAM_ERR_NOMEM;
  }
  memcpy(out->fields, in->fields, in->fields_n * sizeof *in->fields);
  out->fields[out->fields_n++] = (struct http_field){SPAN("Cache-Status"), span_of(how[c->how])};
  return 1;
}

static int on_response(struct http_filter *f, const struct http_head *in, struct http_head *out) {
  struct cacher *c = (struct cacher *)f;
  struct cache_terms terms;
  if (in->status == 101)
    return 0;
  if (cache_is_unsafe(c->request.method) && in->status >= 200 && in->status < 400)
    cache_invalidate(c->cache, c->key);
  if (in->status == 304 && c->ours) {
    freshen(c, in);
    return f->sink ? 0 : FILTER_ANSWER;
  }
  cache_terms_of(f->sink || span_eq(c->request.method, SPAN("GET")), in, &terms);
  if (c->how != BYPASS && terms.keep)
    gather(c, in, &terms);
  else if (c->kept && in->status < 500)
    cache_drop(c->cache, c->kept); /* the service says something else now */
  return f->sink ? 0 : say_status(c, in, out);
}

static void on_body(struct http_filter *f, struct evbuffer *from, size_t n) {
  struct cacher *c = (struct cacher *)f;
  struct entry *e = c->making;
  if (!e)
    return;
  if (!from || n > LIMIT_CACHE_OBJECT - e->body_n || !more_room(c, e->body_n + n)) {
    give_up(c);
    return;
  }
  e->body_n += (size_t)evbuffer_copyout(from, e->body + e->body_n, n);
}

static void shrink(struct cacher *c) {
  struct entry *e = c->making;
  char *less = e->body_n ? realloc(e->body, e->body_n) : NULL;
  if (!less)
    return;
  e->body = less;
  cache_release(c->cache, c->cap - e->body_n);
  e->charged -= c->cap - e->body_n;
  c->cap = e->body_n;
}

static void on_end(struct http_filter *f, bool trailers) {
  struct cacher *c = (struct cacher *)f;
  struct entry *e = c->making;
  if (e)
    shrink(c);
  if (e && (trailers || !cache_insert(c->cache, c->key, &c->request, e))) {
    give_up(c);
    return;
  }
  c->making = NULL;
  entry_unref(e);
}

/* --- answering --- */

static bool in_304(struct span name) {
  static const char *const names[] = {"cache-control", "content-location", "date", "etag", "expires",
                                      "vary",          "last-modified"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (span_ieq(name, span_of(names[i])))
      return true;
  return false;
}

static void release(void *entry) {
  entry_unref(entry);
}

static void on_answer(struct http_filter *f, struct http_end *front) {
  struct cacher *c = (struct cacher *)f;
  struct entry *e = c->kept;
  struct http_field fields[LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS + 3];
  struct http_head h = e->head;
  bool same = cache_not_modified(&c->request, &e->head);
  char age[24], length[24];
  h.fields = fields;
  h.fields_n = 0;
  for (size_t i = 0; i < e->head.fields_n && i < LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS; i++) {
    struct span name = e->head.fields[i].name;
    if (span_ieq(name, SPAN("age")) || span_ieq(name, SPAN("content-length")) || (same && !in_304(name)))
      continue;
    fields[h.fields_n++] = e->head.fields[i];
  }
  str_fmt(age, sizeof age, "%llu", (unsigned long long)age_of(e, now(c)));
  str_fmt(length, sizeof length, "%zu", e->body_n);
  fields[h.fields_n++] = (struct http_field){SPAN("Age"), span_of(age)};
  fields[h.fields_n++] = (struct http_field){
      SPAN("Cache-Status"), c->how == HIT ? SPAN("Beam; hit") : SPAN("Beam; hit; detail=revalidated")};
  if (same) {
    h.status = 304;
    h.reason = SPAN("Not Modified");
    http_answer(f->loop, front, &c->request, &h, NULL, 0);
    return;
  }
  fields[h.fields_n++] = (struct http_field){SPAN("Content-Length"), span_of(length)};
  e->refs++;
  http_answer_with(f->loop, front, &c->request, &h, e->body, e->body_n, release, e);
}

/* --- between a front and an upstream --- */

static void on_free(struct http_filter *f) {
  struct cacher *c = (struct cacher *)f;
  give_up(c);
  if (c->kept && f->sink)
    c->kept->asked = false;
  entry_unref(c->kept);
  http_head_free(&c->request);
  cache_unref(c->cache);
  free(c);
}

int cache_join(struct cache *cache, struct loop *l, struct http_end *front, const struct http_head *request) {
  static const struct http_filter_ops ops = {.request = on_request,
                                             .response = on_response,
                                             .response_body = on_body,
                                             .response_end = on_end,
                                             .answer = on_answer,
                                             .free = on_free};
  struct cacher *c = calloc(1, sizeof *c);
  if (!c || http_head_copy(&c->request, request)) {
    free(c);
    return BEAM_ERR_NOMEM;
  }
  c->cache = cache_ref(cache);
  cache_key(cache, request, c->key);
  http_filter_join(l, &c->filter, &ops, front, front->peer);
  return 0;
}
