#include "wire/http.h"

#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "wire/chars.h"
#include "wire/host.h"

enum {
  BUILD_FIELDS = LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS,
  BUILD_BYTES = LIMIT_HEAD_BYTES + LIMIT_HEAD_ADDED_BYTES
};

/* --- owning a head: one block holds the array of fields, then all text --- */

static void put(struct span *s, char **at) {
  if (s->n)
    memcpy(*at, s->p, s->n);
  s->p = *at;
  *at += s->n;
}

int http_head_own(struct http_head *h) {
  size_t text = h->method.n + h->scheme.n + h->authority.n + h->target.n + h->reason.n;
  for (size_t i = 0; i < h->fields_n; i++)
    text += h->fields[i].name.n + h->fields[i].value.n;
  size_t table = h->fields_n * sizeof *h->fields;
  struct http_field *fields = malloc(table + text + 1);
  h->block = fields;
  if (!fields)
    return BEAM_ERR_NOMEM;
  char *at = (char *)fields + table;
  put(&h->method, &at);
  put(&h->scheme, &at);
  put(&h->authority, &at);
  put(&h->target, &at);
  put(&h->reason, &at);
  for (size_t i = 0; i < h->fields_n; i++) {
    fields[i] = h->fields[i];
    put(&fields[i].name, &at);
    put(&fields[i].value, &at);
  }
  h->fields = fields;
  return 0;
}

int http_head_copy(struct http_head *dst, const struct http_head *src) {
  struct http_head h = *src;
  int err = http_head_own(&h);
  if (err)
    memset(dst, 0, sizeof *dst);
  else
    *dst = h;
  return err;
}

void http_head_free(struct http_head *h) {
  free(h->block);
  memset(h, 0, sizeof *h);
}

/* --- asking --- */

const struct http_field *http_field_find(const struct http_head *h, const char *name) {
  struct span want = span_of(name);
  for (size_t i = 0; i < h->fields_n; i++)
    if (span_ieq(h->fields[i].name, want))
      return &h->fields[i];
  return NULL;
}

static bool list_has(struct span list, struct span token) {
  while (list.n) {
    const char *comma = memchr(list.p, ',', list.n);
    struct span item = {list.p, comma ? (size_t)(comma - list.p) : list.n};
    size_t eaten = item.n + (comma != NULL);
    list.p += eaten;
    list.n -= eaten;
    while (item.n && (*item.p == ' ' || *item.p == '\t'))
      item.p++, item.n--;
    while (item.n && (item.p[item.n - 1] == ' ' || item.p[item.n - 1] == '\t'))
      item.n--;
    if (span_ieq(item, token))
      return true;
  }
  return false;
}

bool http_field_has_token(const struct http_head *h, const char *name, const char *token) {
  struct span want = span_of(name), item = span_of(token);
  for (size_t i = 0; i < h->fields_n; i++)
    if (span_ieq(h->fields[i].name, want) && list_has(h->fields[i].value, item))
      return true;
  return false;
}

bool http_name_ok(struct span name) {
  return name.n && !char_first_not(name.p, name.n, CHAR_TOKEN);
}

static bool blank(char c) {
  return c == ' ' || c == '\t';
}

bool http_value_ok(struct span v) {
  return !v.n || (!blank(v.p[0]) && !blank(v.p[v.n - 1]) && !char_bad_value(v.p, v.n));
}

bool http_target_ok(struct span method, struct span target) {
  if (!target.n || char_first_not(target.p, target.n, CHAR_TARGET))
    return false;
  if (span_eq(method, SPAN("CONNECT"))) {
    char host[HOST_MAX];
    uint16_t port;
    return host_parse(target, host, &port) && port;
  }
  return target.p[0] == '/' || (span_eq(target, SPAN("*")) && span_eq(method, SPAN("OPTIONS")));
}

/* --- building --- */

/* While it grows, spans hold offsets into `text` (as p), because the text may move. What a usual head needs fits into blocks that malloc keeps at hand (1 KiB). */
enum { FEW_FIELDS = 24, FEW_BYTES = 960 };
struct http_build {
  int err;
  struct http_head head;
  char *text;
  size_t n, cap;
  size_t fields_cap;
  struct http_field *fields; /* few, or a block of its own */
  struct http_field few[FEW_FIELDS];
};

int http_build_new(struct http_build **out) {
  struct http_build *b = malloc(sizeof *b);
  *out = b;
  if (!b)
    return BEAM_ERR_NOMEM;
  memset(b, 0, offsetof(struct http_build, few)); /* the array is written before it is read */
  b->fields = b->few;
  b->fields_cap = FEW_FIELDS;
  b->head.minor = 1;
  return 0;
}

void http_build_free(struct http_build *b) {
  if (!b)
    return;
  free(b->text);
  if (b->fields != b->few)
    free(b->fields);
  free(b);
}

static bool reserve(struct http_build *b, size_t n) {
  if (b->n + n <= b->cap)
    return true;
  size_t cap = b->cap ? b->cap * 2 : FEW_BYTES;
  while (cap < b->n + n)
    cap *= 2;
  char *text = realloc(b->text, cap);
  if (!text) {
    b->err = BEAM_ERR_NOMEM;
    return false;
  }
  b->text = text;
  b->cap = cap;
  return true;
}

static struct span keep(struct http_build *b, struct span s) {
  if (b->err)
    return (struct span){0};
  if (s.n > BUILD_BYTES || b->n + s.n > BUILD_BYTES) {
    b->err = BEAM_ERR_TOO_LARGE;
    return (struct span){0};
  }
  if (!reserve(b, s.n))
    return (struct span){0};
  struct span at = {(const char *)(uintptr_t)b->n, s.n};
  if (s.n)
    memcpy(b->text + b->n, s.p, s.n);
  b->n += s.n;
  return at;
}

static void check(struct http_build *b, bool ok) {
  if (!b->err && !ok)
    b->err = BEAM_ERR_INVALID;
}

void http_build_request(struct http_build *b, struct span method, struct span scheme, struct span authority,
                        struct span target) {
  check(b, http_name_ok(method) && http_value_ok(scheme) && http_value_ok(authority) &&
               http_target_ok(method, target));
  b->head.status = 0;
  b->head.method = keep(b, method);
  b->head.scheme = keep(b, scheme);
  b->head.authority = keep(b, authority);
  b->head.target = keep(b, target);
}

void http_build_status(struct http_build *b, uint16_t status, struct span reason) {
  check(b, status >= 100 && status <= 999 && http_value_ok(reason));
  b->head.status = status;
  b->head.reason = keep(b, reason);
}

static void grow_fields(struct http_build *b) {
  size_t cap = b->fields_cap * 4 < BUILD_FIELDS ? b->fields_cap * 4 : BUILD_FIELDS;
  struct http_field *more = malloc(cap * sizeof *more);
  if (!more) {
    b->err = BEAM_ERR_NOMEM;
    return;
  }
  memcpy(more, b->fields, b->head.fields_n * sizeof *more);
  if (b->fields != b->few)
    free(b->fields);
  b->fields = more;
  b->fields_cap = cap;
}

void http_build_field(struct http_build *b, struct span name, struct span value) {
  check(b, http_name_ok(name) && http_value_ok(value));
  if (!b->err && b->head.fields_n == BUILD_FIELDS)
    b->err = BEAM_ERR_TOO_LARGE;
  if (!b->err && b->head.fields_n == b->fields_cap)
    grow_fields(b);
  if (b->err)
    return;
  struct http_field f = {keep(b, name), keep(b, value)};
  b->fields[b->head.fields_n++] = f;
}

static void settle(struct span *s, const char *text) {
  s->p = s->n ? text + (uintptr_t)s->p : "";
}

int http_build_done(struct http_build *b, struct http_head *out) {
  memset(out, 0, sizeof *out);
  int err = b->err;
  if (!err) {
    struct http_head h = b->head;
    h.fields = b->fields;
    struct span *parts[] = {&h.method, &h.scheme, &h.authority, &h.target, &h.reason};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
      settle(parts[i], b->text);
    for (size_t i = 0; i < h.fields_n; i++) {
      settle(&b->fields[i].name, b->text);
      settle(&b->fields[i].value, b->text);
    }
    err = http_head_own(&h);
    if (!err)
      *out = h;
  }
  http_build_free(b);
  return err;
}
