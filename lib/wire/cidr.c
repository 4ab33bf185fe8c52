#include "wire/cidr.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

static bool bare(struct span s, struct addr *out) {
  char text[INET6_ADDRSTRLEN];
  memset(out, 0, sizeof *out);
  if (!s.n || s.n >= sizeof text || memchr(s.p, 0, s.n))
    return false;
  memcpy(text, s.p, s.n);
  text[s.n] = 0;
  if (inet_pton(AF_INET, text, out->bytes) == 1) {
    out->n = 4;
    return true;
  }
  if (inet_pton(AF_INET6, text, out->bytes) != 1) {
    memset(out, 0, sizeof *out);
    return false;
  }
  out->n = 16;
  return true;
}

/* Of ::ffff:a.b.c.d what it means. */
static void unmap(struct addr *a) {
  if (a->n != 16 || memcmp(a->bytes, mapped, sizeof mapped))
    return;
  memmove(a->bytes, a->bytes + 12, 4);
  memset(a->bytes + 4, 0, 12);
  a->n = 4;
}

static bool is_port(struct span s) {
  uint64_t port;
  return str_u64(s, 65535, &port);
}

bool addr_parse(struct span s, struct addr *out) {
  const char *colon = s.n ? memchr(s.p, ':', s.n) : NULL;
  out->n = 0;
  if (s.n && s.p[0] == '[') {
    const char *close = memchr(s.p, ']', s.n);
    size_t inner = close ? (size_t)(close - s.p) - 1 : 0, rest = close ? s.n - inner - 2 : 0;
    if (!close || (rest && (close[1] != ':' || !is_port((struct span){close + 2, rest - 1}))))
      return false;
    s = (struct span){s.p + 1, inner};
    if (!memchr(s.p, ':', s.n))
      return false;
  } else if (colon &&
             !memchr(colon + 1, ':', (size_t)(s.p + s.n - colon - 1))) { /* one colon: IPv4 and port */
    size_t before = (size_t)(colon - s.p);
    if (!is_port((struct span){colon + 1, s.n - before - 1}))
      return false;
    s.n = before;
  }
  if (!bare(s, out))
    return false;
  unmap(out);
  return true;
}

static void mask(struct addr *a, unsigned bits) {
  for (unsigned i = bits; i < a->n * 8u; i++)
    a->bytes[i / 8] &= (uint8_t) ~(0x80u >> i % 8);
}

bool cidr_parse(struct span s, struct cidr *out) {
  const char *slash = s.n ? memchr(s.p, '/', s.n) : NULL;
  size_t len = slash ? (size_t)(slash - s.p) : s.n;
  uint64_t bits;
  memset(out, 0, sizeof *out);
  if (!bare((struct span){s.p, len}, &out->net))
    return false;
  bits = out->net.n * 8u;
  if (slash && !str_u64((struct span){slash + 1, s.n - len - 1}, bits, &bits))
    return false;
  mask(&out->net, (unsigned)bits);
  if (bits >= 96)
    unmap(&out->net);
  out->bits = (uint8_t)(out->net.n == 4 && bits > 32 ? bits - 96 : bits);
  return true;
}

bool cidr_has(const struct cidr *c, const struct addr *a) {
  size_t whole = c->bits / 8;
  uint8_t rest = (uint8_t)(0xff00 >> c->bits % 8);
  return a->n && a->n == c->net.n && !memcmp(a->bytes, c->net.bytes, whole) &&
         (!(c->bits % 8) || ((a->bytes[whole] ^ c->net.bytes[whole]) & rest) == 0);
}

static struct span trim(struct span s) {
  while (s.n && (*s.p == ' ' || *s.p == '\t'))
    s.p++, s.n--;
  while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
    s.n--;
  return s;
}

int cidr_list_parse(const char *text, const char *what, struct cidr_list *out, struct beam_error *err) {
  size_t n = 1;
  memset(out, 0, sizeof *out);
  if (!text)
    return 0;
  for (const char *p = text; (p = strchr(p, ',')); p++)
    n++;
  if (n > LIMIT_ADDRESS_RANGES)
    return err_set(err, BEAM_ERR_LIMIT, NULL, "%s: more than %u ranges", what, LIMIT_ADDRESS_RANGES);
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

void cidr_list_free(struct cidr_list *l) {
  free(l->list);
  memset(l, 0, sizeof *l);
}

bool cidr_list_has(const struct cidr_list *l, const struct addr *a) {
  for (size_t i = 0; i < l->n; i++)
    if (cidr_has(&l->list[i], a))
      return true;
  return false;
}
