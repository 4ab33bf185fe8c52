/* The PROXY protocol header of a load balancer: what is taken has one meaning, which does not change with what follows, and is written the same again. */
#include "fuzz.h"
#include "base/limits.h"
#include "wire/proxyline.h"

#include <arpa/inet.h>

static void text(const struct addr *a, uint16_t port, char out[64]) {
  char ip[INET6_ADDRSTRLEN];
  MUST(inet_ntop(a->n == 4 ? AF_INET : AF_INET6, a->bytes, ip, sizeof ip));
  snprintf(out, 64, a->n == 4 ? "%s:%u" : "[%s]:%u", ip, port);
}

static void again(const struct proxyline *line) {
  char visitor[64], local[64], out[PROXYLINE_MAX];
  struct proxyline read;
  MUST(line->visitor.n == line->local.n && (line->visitor.n == 4 || line->visitor.n == 16));
  text(&line->visitor, line->visitor_port, visitor);
  text(&line->local, line->local_port, local);
  for (int version = 1; version <= 2; version++) {
    size_t n = proxyline_write(version, visitor, local, out);
    MUST(proxyline_read(out, n, &read) == PROXYLINE_PROXY && read.used == n);
    MUST(!memcmp(&read.visitor, &line->visitor, sizeof read.visitor) &&
         read.visitor_port == line->visitor_port);
    MUST(!memcmp(&read.local, &line->local, sizeof read.local) && read.local_port == line->local_port);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  struct proxyline line, part;
  enum proxyline_what what = proxyline_read(p, n, &line);
  if (what == PROXYLINE_MORE)
    MUST(n < LIMIT_PROXY_HEADER + 16);
  if (what == PROXYLINE_PROXY || what == PROXYLINE_LOCAL)
    MUST(line.used && line.used <= n && line.used <= LIMIT_PROXY_HEADER + 16);
  if (what == PROXYLINE_PROXY)
    again(&line);
  for (size_t i = 0; i < n && i < 200; i++) { /* of fewer bytes never another answer, only none yet */
    enum proxyline_what early = proxyline_read(p, i, &part);
    MUST(early == PROXYLINE_MORE || early == what);
  }
  return 0;
}
