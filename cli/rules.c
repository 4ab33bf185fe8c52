#include "rules.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { AUTH_FILE_MAX = 64 * 1024 };

static int unreadable(const char *path, struct beam_error *e) {
  int code = errno == ENOENT ? BEAM_ERR_NOT_FOUND : errno == EACCES ? BEAM_ERR_PERMISSION : BEAM_ERR_SYSTEM;
  return fail(e, code, "give a file with USER:PASSWORD, one a line", "--auth-file: cannot read %.200s: %s",
              path, strerror(errno));
}

/* The users of the file behind those of the flag. */
static int read_auth(struct options *o, struct beam_error *e) {
  char text[AUTH_FILE_MAX + 1];
  FILE *f = fopen(o->auth_file, "re");
  if (!f)
    return unreadable(o->auth_file, e);
  size_t head = 0;
  if (o->auth)
    head = (size_t)snprintf(text, sizeof text, "%s\n", o->auth);
  size_t n = head < sizeof text ? fread(text + head, 1, sizeof text - head, f) : 0;
  int failed = ferror(f);
  fclose(f);
  int r = 0;
  if (failed)
    r = unreadable(o->auth_file, e);
  else if (head + n >= sizeof text || memchr(text, 0, head + n))
    r = fail(e, BEAM_ERR_INVALID, "one USER:PASSWORD a line", "--auth-file: %.200s is not such a list",
             o->auth_file);
  else if (!(o->auth = options_keep(o, text, head + n)))
    r = fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  explicit_bzero(text, sizeof text);
  return r;
}

/* "10MiB", "10M", "500k", "1000". Powers of 1024, as everywhere in Beam. */
static int read_size(const char *flag, const char *text, uint64_t *out, struct beam_error *e) {
  static const char units[] = "kmgt";
  uint64_t n = 0;
  const char *p = text;
  for (; *p >= '0' && *p <= '9' && n < UINT64_C(1) << 50; p++)
    n = n * 10 + (uint64_t)(*p - '0');
  const char *unit = *p ? strchr(units, *p | 0x20) : NULL;
  unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
  const char *rest = p + (unit != NULL);
  bool ends = !*rest || (unit && (!strcasecmp(rest, "ib") || !strcasecmp(rest, "b")));
  if (p == text || !n || !ends || n >= UINT64_C(1) << 50 || n << shift >> shift != n)
    return fail(e, BEAM_ERR_INVALID, "write 500k, 10MiB or 1G", "--%s: \"%.60s\" is no size", flag, text);
  *out = n << shift;
  return 0;
}

int rules_of(struct options *o, struct beam_http_policy *out, struct beam_error *e) {
  int r = o->auth_file ? read_auth(o, e) : 0;
  *out = (struct beam_http_policy)BEAM_HTTP_POLICY_INIT;
  out->auth = o->auth;
  out->allow = o->allow;
  out->deny = o->deny;
  out->rate_limit = o->rate_limit;
  out->rate_limit_total = o->rate_limit_total;
  out->request_headers = o->request_header;
  out->response_headers = o->response_header;
  out->cors = o->cors;
  out->no_compression = o->no_compression;
  if (!r && o->max_body)
    r = read_size("max-body", o->max_body, &out->max_body, e);
  return r || !o->cache ? r : read_size("cache", o->cache, &out->cache, e);
}
