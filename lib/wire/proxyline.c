#include "wire/proxyline.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

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

static size_t write_binary(const struct peer *v, const struct peer *l, char *out) {
  static const char signature[12] = "\r\n\r\n\0\r\nQUIT\n";
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
