#include "wire/cidr.h"

#include <arpa/inet.h>
#include <string.h>

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
