/* auth.c: what a browser would send for each user is hashed once, with a salt of this process; what a visitor sent is hashed too, and hashes of one length are compared
 * in constant time with all of them. So neither the time tells how much was right, nor does memory hold a password.
 */
#include "http/auth.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/random.h"
#include "wire/base64.h"

struct http_auth {
  uint8_t salt[HASH_BYTES];
  size_t n;
  uint8_t sums[LIMIT_POLICY_USERS][HASH_BYTES];
};

struct http_field http_auth_challenge(void) {
  return (struct http_field){SPAN("WWW-Authenticate"), SPAN("Basic realm=\"Beam\", charset=\"UTF-8\"")};
}

static void sum(const struct http_auth *a, struct span credentials, uint8_t out[HASH_BYTES]) {
  struct hash h;
  hash_begin(&h);
  hash_add(&h, a->salt, sizeof a->salt);
  hash_field(&h, credentials.p, credentials.n);
  hash_end(&h, out);
}

static bool printable(struct span s) {
  for (size_t i = 0; i < s.n; i++)
    if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
      return false;
  return true;
}

static int add(struct http_auth *a, struct span pair, struct beam_error *err) {
  char text[BASE64_SIZE(LIMIT_POLICY_PASSWORD)];
  const char *colon = memchr(pair.p, ':', pair.n);
  if (a->n == LIMIT_POLICY_USERS)
    return err_set(err, BEAM_ERR_LIMIT, NULL, "more than %u users", LIMIT_POLICY_USERS);
  if (!colon || colon == pair.p || colon + 1 == pair.p + pair.n || pair.n > LIMIT_POLICY_PASSWORD ||
      !printable(pair))
    return err_set(err, BEAM_ERR_INVALID, "write USER:PASSWORD, neither of them empty, 256 bytes at most",
                   "user %zu is not USER:PASSWORD", a->n + 1);
  base64_encode(text, pair.p, pair.n);
  sum(a, span_of(text), a->sums[a->n++]);
  explicit_bzero(text, sizeof text);
  return 0;
}

int http_auth_new(const char *lines, struct http_auth **out, struct beam_error *err) {
  struct http_auth *a = calloc(1, sizeof *a);
  if (!a)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  random_bytes(a->salt, sizeof a->salt);
  int e = 0;
  for (const char *p = lines; !e && *p;) {
    size_t n = strcspn(p, "\n"), line = n && p[n - 1] == '\r' ? n - 1 : n;
    if (line)
      e = add(a, (struct span){p, line}, err);
    p += n + (p[n] != 0);
  }
  if (!e && !a->n)
    e = err_set(err, BEAM_ERR_INVALID, "write USER:PASSWORD", "there is no user who may come in");
  if (e) {
    http_auth_free(a);
    return e;
  }
  *out = a;
  return 0;
}

void http_auth_free(struct http_auth *a) {
  if (!a)
    return;
  explicit_bzero(a, sizeof *a);
  free(a);
}

static bool is_basic(struct span v) {
  return v.n >= 6 && span_ieq((struct span){v.p, 6}, SPAN("basic "));
}

/* "Basic TOKEN": the token; empty when it is anything else. */
static struct span token(struct span v) {
  if (!is_basic(v))
    return (struct span){"", 0};
  v.p += 6;
  v.n -= 6;
  while (v.n && *v.p == ' ')
    v.p++, v.n--;
  return v;
}

bool http_auth_ok(const struct http_auth *a, const struct http_head *h) {
  struct span given = {"", 0};
  uint8_t got[HASH_BYTES];
  unsigned fields = 0, hits = 0;
  for (size_t i = 0; i < h->fields_n; i++)
    if (span_ieq(h->fields[i].name, SPAN("authorization"))) {
      given = token(h->fields[i].value);
      fields++;
    }
  sum(a, given, got);
  for (size_t i = 0; i < a->n; i++)
    hits |= hash_same(got, a->sums[i]);
  return hits && fields == 1; /* of two, who knows which one the service would have looked at */
}

bool http_auth_tried(const struct http_head *h) {
  for (size_t i = 0; i < h->fields_n; i++)
    if (span_ieq(h->fields[i].name, SPAN("authorization")) && is_basic(h->fields[i].value))
      return true;
  return false;
}
