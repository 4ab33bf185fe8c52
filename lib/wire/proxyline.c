#include "wire/proxyline.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"

struct peer {
  int family; /* 0: unknown */
  uint8_t ip[16];
  uint16_t port;
  char text[INET6_ADDRSTRLEN];
};

static struct peer parse(const char *addr) {
  struct peer p = {0};
  char host[64];
  uint64_t port;
  const char *colon = strrchr(addr, ':');
  if (!colon || !str_u64(span_of(colon + 1), 65535, &port))
    return p;
  bool brackets = addr[0] == '[' && colon > addr + 1 && colon[-1] == ']';
  if (!str_fmt(host, sizeof host, "%.*s", (int)(colon - addr) - 2 * brackets, addr + brackets))
    return p;
  int family = brackets ? AF_INET6 : AF_INET;
  if (inet_pton(family, host, p.ip) != 1)
    return p;
  inet_ntop(family, p.ip, p.text, sizeof p.text); /* one spelling of each address */
  p.port = (uint16_t)port;
  p.family = family;
  return p;
}

static size_t write_text(const struct peer *v, const struct peer *l, char *out) {
  if (!v->family || v->family != l->family)
    str_copy(out, PROXYLINE_MAX, "PROXY UNKNOWN\r\n");
  else
    str_fmt(out, PROXYLINE_MAX, "PROXY TCP%d %s %s %u %u\r\n", v->family == AF_INET ? 4 : 6, v->text, l->text,
            v->port, l->port);
  return strlen(out);
}

static const char signature[12] = "\r\n\r\n\0\r\nQUIT\n";

static size_t write_binary(const struct peer *v, const struct peer *l, char *out) {
  bool known = v->family && v->family == l->family;
  size_t ip = known ? v->family == AF_INET ? 4 : 16 : 0, n = sizeof signature;
  memcpy(out, signature, n);
  out[n++] = known ? 0x21 : 0x20; /* version 2; PROXY, or LOCAL: nothing can be said */
  out[n++] = !known ? 0 : v->family == AF_INET ? 0x11 : 0x21;
  out[n++] = 0;
  out[n++] = (char)(known ? 2 * ip + 4 : 0);
  if (!known)
    return n;
  memcpy(out + n, v->ip, ip);
  memcpy(out + n + ip, l->ip, ip);
  n += 2 * ip;
  out[n++] = (char)(v->port >> 8);
  out[n++] = (char)v->port;
  out[n++] = (char)(l->port >> 8);
  out[n++] = (char)l->port;
  return n;
}

size_t proxyline_write(int version, const char *visitor, const char *local, char out[PROXYLINE_MAX]) {
  struct peer v = parse(visitor), l = parse(local);
  return version == 1 ? write_text(&v, &l, out) : version == 2 ? write_binary(&v, &l, out) : 0;
}

/* --- reading --- */

/* Up to the next space, or the end. */
static struct span word(struct span *s) {
  const char *space = s->n ? memchr(s->p, ' ', s->n) : NULL;
  struct span w = {s->p, space ? (size_t)(space - s->p) : s->n};
  size_t used = w.n + (space != NULL);
  *s = (struct span){s->p + used, s->n - used};
  return w;
}

static bool read_port(struct span s, uint16_t *out) {
  uint64_t v;
  if (!str_u64(s, 65535, &v) || (s.n > 1 && s.p[0] == '0'))
    return false;
  *out = (uint16_t)v;
  return true;
}

static bool read_addr(struct span s, size_t bytes, struct addr *out) {
  char text[INET6_ADDRSTRLEN];
  memset(out, 0, sizeof *out);
  if (!s.n || s.n >= sizeof text || memchr(s.p, 0, s.n))
    return false;
  memcpy(text, s.p, s.n);
  text[s.n] = 0;
  out->n = (uint8_t)bytes;
  return inet_pton(bytes == 4 ? AF_INET : AF_INET6, text, out->bytes) == 1;
}

/* "PROXY TCP4 192.0.2.1 198.51.100.1 51234 443\r\n" */
static enum proxyline_what read_text(const char *p, size_t n, struct proxyline *out) {
  enum { MAX = 107 };
  const char *cr = memchr(p, '\r', n < MAX ? n : MAX);
  if (!cr || cr + 1 == p + n)
    return n < MAX ? PROXYLINE_MORE : PROXYLINE_BAD;
  size_t len = (size_t)(cr - p);
  if (cr[1] != '\n' || len + 2 > MAX)
    return PROXYLINE_BAD;
  out->used = len + 2;
  struct span line = {p + 6, len - 6}, kind = word(&line);
  if (span_eq(kind, SPAN("UNKNOWN")))
    return PROXYLINE_LOCAL;
  size_t bytes = span_eq(kind, SPAN("TCP4")) ? 4 : span_eq(kind, SPAN("TCP6")) ? 16 : 0;
  struct span visitor = word(&line), local = word(&line), from = word(&line);
  bool ok = bytes && read_addr(visitor, bytes, &out->visitor) && read_addr(local, bytes, &out->local) &&
            read_port(from, &out->visitor_port) && read_port(line, &out->local_port);
  return ok ? PROXYLINE_PROXY : PROXYLINE_BAD;
}

static uint16_t be16(const uint8_t *p) {
  return (uint16_t)(p[0] << 8 | p[1]);
}

static enum proxyline_what read_binary(const uint8_t *p, size_t n, struct proxyline *out) {
  enum { FIXED = 16 };
  if (n > 12 && p[12] != 0x20 && p[12] != 0x21)
    return PROXYLINE_BAD;
  if (n < FIXED)
    return PROXYLINE_MORE;
  size_t len = be16(p + 14), ip = p[13] == 0x11 ? 4 : p[13] == 0x21 ? 16 : 0;
  if (len > LIMIT_PROXY_HEADER || (p[12] == 0x21 && ip && len < 2 * ip + 4))
    return PROXYLINE_BAD;
  if (n < FIXED + len)
    return PROXYLINE_MORE;
  out->used = FIXED + len;
  if (p[12] == 0x20 || !ip)
    return PROXYLINE_LOCAL;
  p += FIXED;
  out->visitor.n = out->local.n = (uint8_t)ip;
  memcpy(out->visitor.bytes, p, ip);
  memcpy(out->local.bytes, p + ip, ip);
  out->visitor_port = be16(p + 2 * ip);
  out->local_port = be16(p + 2 * ip + 2);
  return PROXYLINE_PROXY;
}

enum proxyline_what proxyline_read(const void *p, size_t n, struct proxyline *out) {
  static const char text[6] = "PROXY ";
  memset(out, 0, sizeof *out);
  if (!n)
    return PROXYLINE_MORE;
  if (!memcmp(p, text, n < sizeof text ? n : sizeof text))
    return n < sizeof text ? PROXYLINE_MORE : read_text(p, n, out);
  if (memcmp(p, signature, n < sizeof signature ? n : sizeof signature))
    return PROXYLINE_BAD;
  return read_binary(p, n, out);
}
