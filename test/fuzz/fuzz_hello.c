/* The first bytes of a connection. A prefix may say "more" or what the whole says, nothing else; and records may cut a
 * ClientHello anywhere. An input that begins with 0 is a handshake message alone, to be cut. */
#include "fuzz.h"
#include "wire/hello.h"
#include "wire/host.h"

static void must_agree(const uint8_t *p, size_t n, enum sniff_what whole, const struct sniff *s) {
  struct sniff part;
  for (size_t k = n > 64 ? 64 : n;; k /= 2) { /* a few prefixes of the beginning, and one near the end */
    enum sniff_what what = sniff(p, k, &part);
    MUST(what == SNIFF_MORE || (what == whole && !memcmp(&part, s, sizeof part)));
    if (!k)
      break;
  }
  enum sniff_what what = sniff(p, n - (n > 0), &part);
  MUST(what == SNIFF_MORE || (what == whole && !memcmp(&part, s, sizeof part)));
}

static size_t wrap(const uint8_t *p, size_t n, size_t part, uint8_t *out) {
  size_t at = 0;
  for (size_t i = 0; i < n; i += part) {
    size_t k = n - i < part ? n - i : part;
    uint8_t header[] = {22, 3, 1, (uint8_t)(k >> 8), (uint8_t)k};
    memcpy(out + at, header, 5);
    memcpy(out + at + 5, p + i, k);
    at += 5 + k;
  }
  return at;
}

static void cut(const uint8_t *p, size_t n) {
  static uint8_t one[8192], many[8192];
  struct sniff a, b;
  if (n < 4 || n > 1000)
    return;
  enum sniff_what whole = sniff(one, wrap(p, n, n, one), &a);
  for (size_t part = 1; part < n; part = part * 3 + 1) {
    MUST(sniff(many, wrap(p, n, part, many), &b) == whole);
    MUST(!memcmp(&a, &b, sizeof a));
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  struct sniff s, none = {0};
  if (n && !p[0])
    cut(p + 1, n - 1);
  enum sniff_what what = sniff(p, n, &s);
  if (what == SNIFF_TLS) {
    char host[HOST_MAX];
    MUST(!s.sni[0] || (host_fold(span_of(s.sni), host) && !strcmp(host, s.sni)));
  } else {
    MUST(!memcmp(&s, &none, sizeof s));
  }
  must_agree(p, n, what, &s);
  return 0;
}
