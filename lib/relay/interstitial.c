#include "relay/interstitial.h"

#include <string.h>

#include "base/str.h"
#include "http/answer.h"
#include "http/pages.h"
#include "relay/settings.h"
#include "wire/h1.h"

/* __Host-: a neighbour under the same domain cannot set it for us. Over plain http there is no such thing. */
static const char secure_cookie[] = "__Host-beam-visited=1", plain_cookie[] = "beam-visited=1";
static const char continue_path[] = "/_beam/continue";

static bool is(const struct http_head *h, const char *name, const char *value) {
  const struct http_field *f = http_field_find(h, name);
  return f && span_ieq(f->value, span_of(value));
}

/* "a=b; beam-visited=1" */
static bool has_cookie(const struct http_head *h) {
  struct span want = span_of(span_eq(h->scheme, SPAN("https")) ? secure_cookie : plain_cookie);
  for (size_t i = 0; i < h->fields_n; i++) {
    struct span v = h->fields[i].value;
    if (!span_ieq(h->fields[i].name, SPAN("cookie")))
      continue;
    while (v.n) {
      const char *end = memchr(v.p, ';', v.n);
      struct span one = {v.p, end ? (size_t)(end - v.p) : v.n};
      v = (struct span){v.p + one.n + (end != NULL), v.n - one.n - (end != NULL)};
      while (one.n && *one.p == ' ')
        one.p++, one.n--;
      if (span_eq(one, want))
        return true;
    }
  }
  return false;
}

/* Every browser of today says what a request is for, and no page can make it say "document" of anything but a navigation (W3C Fetch Metadata). */
bool interstitial_shows(const struct http_head *h) {
  return span_eq(h->method, SPAN("GET")) && is(h, "sec-fetch-dest", "document") &&
         is(h, "sec-fetch-mode", "navigate") && !http_field_find(h, "beam-skip-warning") &&
         !http_field_find(h, "upgrade") && !has_cookie(h);
}

/* Of "https://HOST/path?query" with the request's own authority the part from the path on. */
void interstitial_back(const struct http_head *h, char *out, size_t cap) {
  const struct http_field *f = http_field_find(h, "referer");
  struct span v = f ? f->value : (struct span){0};
  size_t skip = h->scheme.n + 3 + h->authority.n;
  str_copy(out, cap, "/");
  if (!is(h, "sec-fetch-site", "same-origin") || v.n <= skip || memcmp(v.p, h->scheme.p, h->scheme.n) != 0 ||
      memcmp(v.p + h->scheme.n, "://", 3) != 0 ||
      !span_ieq((struct span){v.p + h->scheme.n + 3, h->authority.n}, h->authority))
    return;
  struct span path = {v.p + skip, v.n - skip};
  bool plain = path.p[0] == '/' && (path.n < 2 || (path.p[1] != '/' && path.p[1] != '\\'));
  if (plain && http_target_ok(SPAN("GET"), path))
    str_fmt(out, cap, "%.*s", SPAN_FMT(path));
}

static void answer(const struct visit *v, struct http_end *front, const struct http_head *h, uint16_t status,
                   struct http_field *fields, size_t n, const char *body, size_t body_n) {
  char length[24];
  str_fmt(length, sizeof length, "%zu", body_n);
  fields[n++] = (struct http_field){SPAN("Content-Length"), span_of(length)};
  fields[n++] = (struct http_field){SPAN("Cache-Control"), SPAN("no-store")};
  struct http_head head = {
      .status = status, .minor = 1, .reason = span_of(http_reason(status)), .fields = fields, .fields_n = n};
  http_answer(v->w->loop, front, h, &head, body, body_n);
}

static void show(const struct visit *v, struct http_end *front, const struct http_head *h, const char *host) {
  char text[PAGE_BYTES];
  struct http_field fields[8];
  size_t n = 0, body = page_render_warning(host, continue_path, text, sizeof text);
  fields[n++] = (struct http_field){SPAN("Content-Type"), SPAN("text/html; charset=utf-8")};
  fields[n++] = (struct http_field){SPAN("X-Content-Type-Options"), SPAN("nosniff")};
  fields[n++] =
      (struct http_field){SPAN("Content-Security-Policy"),
                          SPAN("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")};
  fields[n++] =
      (struct http_field){SPAN("Referrer-Policy"), SPAN("same-origin")}; /* tells us where to go back to */
  fields[n++] = (struct http_field){SPAN("Vary"), SPAN("Cookie, Sec-Fetch-Dest, Beam-Skip-Warning")};
  answer(v, front, h, 200, fields, n, text, body);
}

/* The cookie is for whoever clicked in our page: another site that sends its visitors here gets none for them. */
static void go_on(const struct visit *v, struct http_end *front, const struct http_head *h) {
  char back[8192], cookie[128];
  struct http_field fields[8];
  size_t n = 0;
  interstitial_back(h, back, sizeof back);
  str_fmt(cookie, sizeof cookie, "%s; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax%s",
          v->tls ? secure_cookie : plain_cookie, v->tls ? "; Secure" : "");
  fields[n++] = (struct http_field){SPAN("Location"), span_of(back)};
  if (is(h, "sec-fetch-site", "same-origin"))
    fields[n++] = (struct http_field){SPAN("Set-Cookie"), span_of(cookie)};
  answer(v, front, h, 303, fields, n, "", 0);
}

bool interstitial_request(const struct visit *v, struct http_end *front, const struct http_head *h,
                          const char *host) {
  const struct settings *s = settings_now(v->w->relay);
  if (!s->conf.interstitial || s->tokens) /* who showed a token is known to the relay's owner */
    return false;
  if (span_eq(h->method, SPAN("GET")) && span_eq(h->target, span_of(continue_path)))
    go_on(v, front, h);
  else if (interstitial_shows(h))
    show(v, front, h, host);
  else
    return false;
  return true;
}
