#include "http/edits.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"

struct edits {
  size_t n;
  struct http_field list[LIMIT_POLICY_EDITS]; /* an empty value: only out */
  char text[];
};

/* Whoever could set these could make two messages out of one, or break the connection they come on. Host has an option of its own. */
static bool is_framing(struct span name) {
  static const char *const names[] = {"connection", "keep-alive", "proxy-connection",  "te",
                                      "trailer",    "upgrade",    "transfer-encoding", "content-length",
                                      "host",       "expect"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (span_ieq(name, span_of(names[i])))
      return true;
  return false;
}

static struct span trim(struct span s) {
  while (s.n && (*s.p == ' ' || *s.p == '\t'))
    s.p++, s.n--;
  while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
    s.n--;
  return s;
}

static int add(struct edits *e, struct span line, const char *what, struct beam_error *err) {
  const char *colon = memchr(line.p, ':', line.n);
  struct span name = {line.p, colon ? (size_t)(colon - line.p) : 0};
  if (e->n == LIMIT_POLICY_EDITS)
    return err_set(err, BEAM_ERR_LIMIT, NULL, "%s: more than %u fields", what, LIMIT_POLICY_EDITS);
  if (!colon || !http_name_ok(name))
    return err_set(err, BEAM_ERR_INVALID, "write \"Name: value\", or \"Name:\" to take a field out",
                   "%s: \"%.*s\" is no header field", what, line.n < 60 ? (int)line.n : 60, line.p);
  struct span value = trim((struct span){colon + 1, line.n - name.n - 1});
  if (!http_value_ok(value))
    return err_set(err, BEAM_ERR_INVALID, NULL, "%s: the value of %.*s has a control character", what,
                   name.n < 60 ? (int)name.n : 60, name.p);
  if (is_framing(name))
    return err_set(
        err, BEAM_ERR_INVALID, span_ieq(name, SPAN("host")) ? "--host-header sets the Host" : "leave it away",
        "%s: %.*s says how messages are framed, and is not to be changed", what, (int)name.n, name.p);
  e->list[e->n++] = (struct http_field){name, value};
  return 0;
}

int edits_new(const char *lines, const char *what, struct edits **out, struct beam_error *err) {
  size_t all = strlen(lines);
  if (all > LIMIT_POLICY_EDIT_BYTES)
    return err_set(err, BEAM_ERR_LIMIT, NULL, "%s: more than %u bytes", what, LIMIT_POLICY_EDIT_BYTES);
  struct edits *e = calloc(1, sizeof *e + all + 1);
  if (!e)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  memcpy(e->text, lines, all + 1);
  int r = 0;
  for (const char *p = e->text; !r && *p;) {
    size_t n = strcspn(p, "\n"), line = n && p[n - 1] == '\r' ? n - 1 : n;
    if (line)
      r = add(e, (struct span){p, line}, what, err);
    p += n + (p[n] != 0);
  }
  if (!r && !e->n)
    r = err_set(err, BEAM_ERR_INVALID, "write \"Name: value\"", "%s: there is no field", what);
  if (r) {
    free(e);
    return r;
  }
  *out = e;
  return 0;
}

void edits_free(struct edits *e) {
  free(e);
}

size_t edits_count(const struct edits *e) {
  return e ? e->n : 0;
}

static bool touches(const struct edits *e, struct span name) {
  for (size_t i = 0; i < e->n; i++)
    if (span_ieq(e->list[i].name, name))
      return true;
  return false;
}

size_t edits_apply(const struct edits *e, struct http_field *fields, size_t n) {
  size_t kept = 0;
  if (!e)
    return n;
  for (size_t i = 0; i < n; i++)
    if (!touches(e, fields[i].name))
      fields[kept++] = fields[i];
  for (size_t i = 0; i < e->n; i++)
    if (e->list[i].value.n)
      fields[kept++] = e->list[i];
  return kept;
}
