#include "http/cors.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "http/answer.h"
#include "wire/h1.h"
#include "wire/host.h"

struct cors {
  bool any; /* "*" */
  size_t n;
  struct span origins[LIMIT_POLICY_ORIGINS];
  char text[];
};

/* scheme://host[:port] as a browser writes it, and nothing behind it. */
static bool is_origin(struct span s) {
  char host[HOST_MAX];
  uint16_t port;
  const char *sep = memmem(s.p, s.n, "://", 3);
  size_t scheme = sep ? (size_t)(sep - s.p) : 0;
  if (!scheme || !http_name_ok((struct span){s.p, scheme}) || memchr(sep + 3, '/', s.n - scheme - 3))
    return false;
  return host_parse((struct span){sep + 3, s.n - scheme - 3}, host, &port);
}

static int add(struct cors *c, struct span s, struct beam_error *err) {
  while (s.n && *s.p == ' ')
    s.p++, s.n--;
  while (s.n && s.p[s.n - 1] == ' ')
    s.n--;
  if (c->n == LIMIT_POLICY_ORIGINS)
    return err_set(err, BEAM_ERR_LIMIT, NULL, "cors: more than %u origins", LIMIT_POLICY_ORIGINS);
  if (!is_origin(s))
    return err_set(err, BEAM_ERR_INVALID, "write https://app.example.com, without a path; or * for everybody",
                   "cors: \"%.*s\" is no origin", s.n < 60 ? (int)s.n : 60, s.p);
  c->origins[c->n++] = s;
  return 0;
}

int cors_new(const char *origins, struct cors **out, struct beam_error *err) {
  size_t all = strlen(origins);
  struct cors *c = calloc(1, sizeof *c + all + 1);
  if (!c)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  memcpy(c->text, origins, all + 1);
  c->any = !strcmp(origins, "*");
  int e = 0;
  for (const char *p = c->text; !e && !c->any;) {
    size_t n = strcspn(p, ",");
    e = add(c, (struct span){p, n}, err);
    if (!p[n])
      break;
    p += n + 1;
  }
  if (e) {
    free(c);
    return e;
  }
  *out = c;
  return 0;
}

void cors_free(struct cors *c) {
  free(c);
}

struct span cors_allows(const struct cors *c, const struct http_head *request) {
  const struct http_field *f = http_field_find(request, "origin");
  for (size_t i = 0; f && !c->any && i < c->n; i++)
    if (span_ieq(c->origins[i], f->value))
      return c->origins[i];
  return f && c->any ? SPAN("*") : (struct span){"", 0};
}

size_t cors_fields(const struct cors *c, struct span allowed, struct http_field *out) {
  size_t n = 0;
  if (allowed.n)
    out[n++] = (struct http_field){SPAN("Access-Control-Allow-Origin"), allowed};
  if (!c->any) { /* with "*" browsers refuse to send credentials: rightly, for anybody could read what is behind them */
    if (allowed.n)
      out[n++] = (struct http_field){SPAN("Access-Control-Allow-Credentials"), SPAN("true")};
    out[n++] = (struct http_field){SPAN("Vary"), SPAN("Origin")};
  }
  return n;
}

bool cors_replaces(struct span name) {
  return span_ieq(name, SPAN("access-control-allow-origin")) ||
         span_ieq(name, SPAN("access-control-allow-credentials"));
}

bool cors_is_preflight(const struct http_head *h) {
  return span_eq(h->method, SPAN("OPTIONS")) && http_field_find(h, "origin") &&
         http_field_find(h, "access-control-request-method");
}

/* What was asked for is allowed: which methods and fields there are, only the service knows. */
void cors_preflight(const struct cors *c, struct loop *l, struct http_end *front, const struct http_head *h) {
  struct http_field fields[CORS_FIELDS + 5];
  struct span allowed = cors_allows(c, h);
  size_t n = cors_fields(c, allowed, fields);
  const struct http_field *method = http_field_find(h, "access-control-request-method");
  const struct http_field *names = http_field_find(h, "access-control-request-headers");
  if (allowed.n) {
    fields[n++] = (struct http_field){SPAN("Access-Control-Allow-Methods"), method->value};
    if (names)
      fields[n++] = (struct http_field){SPAN("Access-Control-Allow-Headers"), names->value};
    fields[n++] = (struct http_field){SPAN("Access-Control-Max-Age"), SPAN("600")};
  }
  fields[n++] = (struct http_field){SPAN("Vary"),
                                    SPAN("Access-Control-Request-Method, Access-Control-Request-Headers")};
  struct http_head head = {
      .status = 204, .minor = 1, .reason = span_of(http_reason(204)), .fields = fields, .fields_n = n};
  http_answer(l, front, h, &head, NULL, 0);
}
