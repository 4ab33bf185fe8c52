#include "wire/host.h"

#include <arpa/inet.h>
#include <string.h>

enum { LABEL_MAX = 63, NAME_BYTES = 253 };

/* RFC 1123 labels; `loose` also takes the underscore that container and service names carry. */
static bool label_char(char c, bool loose) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || (loose && c == '_');
}

static bool label_plain(const char *p, size_t n, bool loose) {
  if (!n || n > LABEL_MAX || p[0] == '-' || p[n - 1] == '-')
    return false;
  for (size_t i = 0; i < n; i++)
    if (!label_char(p[i], loose))
      return false;
  return true;
}

bool host_label_ok(struct span l) {
  return label_plain(l.p, l.n, false) && !(l.n >= 4 && l.p[2] == '-' && l.p[3] == '-');
}

static bool labels_ok(struct span name, bool loose) {
  if (!name.n || name.n > NAME_BYTES)
    return false;
  const char *end = name.p + name.n;
  for (const char *p = name.p;;) {
    const char *dot = memchr(p, '.', (size_t)(end - p));
    if (!label_plain(p, (size_t)((dot ? dot : end) - p), loose))
      return false;
    if (!dot)
      return true;
    p = dot + 1;
  }
}

bool host_name_ok(struct span name) {
  return labels_ok(name, false);
}

bool host_is_ip(const char *host) {
  unsigned char addr[16];
  return inet_pton(AF_INET, host, addr) == 1 || inet_pton(AF_INET6, host, addr) == 1;
}

/* A name whose last label is a number could only be an address (so say URL parsers): then it must be a good one. */
static bool numeric_tail(const char *host) {
  const char *dot = strrchr(host, '.');
  const char *p = dot ? dot + 1 : host;
  return strspn(p, "0123456789") == strlen(p);
}

bool host_fold(struct span name, char host[HOST_MAX]) {
  if (name.n && name.p[name.n - 1] == '.')
    name.n--;
  if (!name.n || name.n > NAME_BYTES)
    return false;
  for (size_t i = 0; i < name.n; i++) {
    char c = name.p[i];
    host[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
  }
  host[name.n] = 0;
  return labels_ok((struct span){host, name.n}, true) && (!numeric_tail(host) || host_is_ip(host));
}

static bool port_parse(struct span digits, uint16_t *port) {
  uint64_t v;
  if (digits.n > 5 || !str_u64(digits, 65535, &v) || !v)
    return false;
  *port = (uint16_t)v;
  return true;
}

/* "::1", written the one canonical way (RFC 5952), so that two spellings compare equal. */
static bool ipv6_parse(struct span text, char host[HOST_MAX]) {
  char z[INET6_ADDRSTRLEN];
  unsigned char addr[16];
  if (!text.n || text.n >= sizeof z || memchr(text.p, 0, text.n))
    return false;
  memcpy(z, text.p, text.n);
  z[text.n] = 0;
  return inet_pton(AF_INET6, z, addr) == 1 && inet_ntop(AF_INET6, addr, host, HOST_MAX);
}

bool host_parse(struct span a, char host[HOST_MAX], uint16_t *port) {
  *port = 0;
  host[0] = 0;
  if (!a.n)
    return false;
  if (a.p[0] == '[') {
    const char *close = memchr(a.p, ']', a.n);
    if (!close || !ipv6_parse((struct span){a.p + 1, (size_t)(close - a.p - 1)}, host))
      return false;
    struct span rest = {close + 1, a.n - (size_t)(close + 1 - a.p)};
    return !rest.n || (rest.p[0] == ':' && port_parse((struct span){rest.p + 1, rest.n - 1}, port));
  }
  const char *colon = memchr(a.p, ':', a.n);
  struct span name = {a.p, colon ? (size_t)(colon - a.p) : a.n};
  if (colon && !port_parse((struct span){colon + 1, a.n - name.n - 1}, port))
    return false;
  return host_fold(name, host);
}

bool host_label_under(const char *host, const char *base, struct span *label) {
  size_t hn = strlen(host), bn = strlen(base);
  if (!bn || hn < bn + 2 || host[hn - bn - 1] != '.' || memcmp(host + hn - bn, base, bn) != 0)
    return false;
  *label = (struct span){host, hn - bn - 1};
  return !memchr(label->p, '.', label->n);
}
