#include "wire/hello.h"

#include <string.h>

#include "base/limits.h"
#include "wire/host.h"

enum {
  RECORD_HEADER = 5,
  RECORD_HANDSHAKE = 22,
  RECORD_MAX = 1 << 14,
  HANDSHAKE_HEADER = 4,
  CLIENT_HELLO = 1
};
enum { EXT_SERVER_NAME = 0, EXT_ALPN = 16, EXT_VERSIONS = 43 };

/* --- vectors: every read checks its bounds; `bad` sticks --- */

struct reader {
  const uint8_t *p, *end;
  bool bad;
};

static const uint8_t *take(struct reader *r, size_t n) {
  static const uint8_t zero[32]; /* what is read after a fault: never more than a random */
  if (r->bad || (size_t)(r->end - r->p) < n) {
    r->bad = true;
    return zero;
  }
  r->p += n;
  return r->p - n;
}

static unsigned u8(struct reader *r) {
  return take(r, 1)[0];
}

static unsigned u16(struct reader *r) {
  const uint8_t *p = take(r, 2);
  return (unsigned)p[0] << 8 | p[1];
}

/* The vector of n bytes as a reader of its own; at least `min` long. */
static struct reader vector(struct reader *r, size_t n, size_t min) {
  if (n < min || (size_t)(r->end - r->p) < n)
    r->bad = true;
  if (r->bad)
    return (struct reader){r->p, r->p, true};
  r->p += n;
  return (struct reader){r->p - n, r->p, false};
}

static bool more(const struct reader *r) {
  return !r->bad && r->p < r->end;
}

/* --- extensions --- */

static bool server_name(struct reader r, struct sniff *out) {
  struct reader list = vector(&r, u16(&r), 1);
  bool have = false;
  while (more(&list)) {
    unsigned type = u8(&list);
    unsigned length = u16(&list);
    struct reader name = vector(&list, length, 1);
    if (list.bad || type != 0) /* no other type was ever defined, nor can its shape be known */
      return false;
    struct span s = {(const char *)name.p, (size_t)(name.end - name.p)};
    char host[HOST_MAX];
    if (have || !host_fold(s, host))
      return false;
    have = true;
    if (!host_is_ip(host)) /* some clients send an address (RFC 6066 forbids it); it names nobody */
      memcpy(out->sni, host, strlen(host) + 1);
  }
  return have && !list.bad && !r.bad && r.p == r.end;
}

static unsigned alpn_bit(const uint8_t *p, size_t n) {
  struct span name = {(const char *)p, n};
  if (span_eq(name, SPAN("http/1.1")))
    return SNIFF_ALPN_H1;
  if (span_eq(name, SPAN("h2")))
    return SNIFF_ALPN_H2;
  if (span_eq(name, SPAN("beam/1")))
    return SNIFF_ALPN_BEAM;
  if (span_eq(name, SPAN("acme-tls/1")))
    return SNIFF_ALPN_ACME;
  return SNIFF_ALPN_OTHER;
}

static bool alpn(struct reader r, struct sniff *out) {
  struct reader list = vector(&r, u16(&r), 2);
  while (more(&list)) {
    struct reader name = vector(&list, u8(&list), 1);
    out->alpn |= alpn_bit(name.p, (size_t)(name.end - name.p));
  }
  return !list.bad && !r.bad && r.p == r.end;
}

static bool versions(struct reader r, struct sniff *out) {
  struct reader list = vector(&r, u8(&r), 2);
  while (more(&list))
    if (u16(&list) == 0x0304)
      out->tls13 = true;
  return !list.bad && !r.bad && r.p == r.end;
}

/* An extension may come once (RFC 8446 4.2): the one read here must be the one that the handshake reads. */
static bool once(unsigned *seen, unsigned bit) {
  bool fresh = !(*seen & bit);
  *seen |= bit;
  return fresh;
}

static bool extensions(struct reader r, struct sniff *out) {
  unsigned seen = 0;
  while (more(&r)) {
    unsigned type = u16(&r);
    unsigned length = u16(&r);
    struct reader body = vector(&r, length, 0);
    if (r.bad)
      return false;
    if (type == EXT_SERVER_NAME && (!once(&seen, 1) || !server_name(body, out)))
      return false;
    if (type == EXT_ALPN && (!once(&seen, 2) || !alpn(body, out)))
      return false;
    if (type == EXT_VERSIONS && (!once(&seen, 4) || !versions(body, out)))
      return false;
  }
  return !r.bad;
}

/* The body of a ClientHello (RFC 8446 4.1.2). */
static bool client_hello(const uint8_t *p, size_t n, struct sniff *out) {
  struct reader r = {p, p + n, false};
  if (u16(&r) >> 8 != 3)
    return false;
  take(&r, 32);
  unsigned session = u8(&r);
  vector(&r, session, 0);
  unsigned suites = u16(&r);
  vector(&r, suites, 2);
  vector(&r, u8(&r), 1);
  if (r.bad || session > 32 || suites % 2)
    return false;
  if (r.p == r.end) /* extensions came with TLS 1.2's own RFC and may be left out */
    return true;
  struct reader ext = vector(&r, u16(&r), 0);
  return !r.bad && r.p == r.end && extensions(ext, out);
}

/* --- records --- */

/* Joins what the records carry until the whole message is there. */
static enum sniff_what sniff_tls(const uint8_t *p, size_t n, struct sniff *out) {
  uint8_t message[LIMIT_CLIENT_HELLO];
  size_t have = 0, need = HANDSHAKE_HEADER;
  size_t seen = n < LIMIT_CLIENT_HELLO ? n : LIMIT_CLIENT_HELLO;
  for (size_t at = 0; have < need;) {
    size_t left = seen - at;
    if ((left > 0 && p[at] != RECORD_HANDSHAKE) || (left > 1 && p[at + 1] != 3) ||
        (left > 2 && p[at + 2] > 4))
      return SNIFF_GARBAGE;
    if (left < RECORD_HEADER)
      return n >= LIMIT_CLIENT_HELLO ? SNIFF_GARBAGE : SNIFF_MORE;
    size_t length = (size_t)p[at + 3] << 8 | p[at + 4];
    if (!length || length > RECORD_MAX)
      return SNIFF_GARBAGE;
    at += RECORD_HEADER;
    size_t part = length < seen - at ? length : seen - at;
    memcpy(message + have, p + at, part);
    have += part;
    at += part;
    if (have && message[0] != CLIENT_HELLO)
      return SNIFF_GARBAGE;
    if (have >= HANDSHAKE_HEADER && need == HANDSHAKE_HEADER) {
      need += (size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3];
      if (need > LIMIT_CLIENT_HELLO)
        return SNIFF_GARBAGE;
    }
    if (have < need && part < length)
      return n >= LIMIT_CLIENT_HELLO ? SNIFF_GARBAGE : SNIFF_MORE;
  }
  return client_hello(message + HANDSHAKE_HEADER, need - HANDSHAKE_HEADER, out) ? SNIFF_TLS : SNIFF_GARBAGE;
}

/* --- what else may come --- */

static bool method_char(uint8_t c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_';
}

/* The preface of HTTP/2 begins like a method, so it is asked first. */
static enum sniff_what sniff_text(const uint8_t *p, size_t n) {
  static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  enum { PREFACE = sizeof preface - 1, METHOD_MAX = 32 };
  if (n >= PREFACE && !memcmp(p, preface, PREFACE))
    return SNIFF_HTTP2;
  if (n < PREFACE && !memcmp(p, preface, n))
    return SNIFF_MORE;
  size_t at = 0;
  for (int i = 0; i < 2 && n - at >= 2 && p[at] == '\r' && p[at + 1] == '\n';
       i++) /* as h1_head_length() skips them */
    at += 2;
  if (at < 4 && n - at == 1 && p[at] == '\r')
    return SNIFF_MORE;
  size_t first = at;
  while (at < n && at - first <= METHOD_MAX && method_char(p[at]))
    at++;
  if (at - first > METHOD_MAX)
    return SNIFF_GARBAGE;
  if (at == n)
    return SNIFF_MORE;
  return at > first && p[at] == ' ' ? SNIFF_HTTP1 : SNIFF_GARBAGE;
}

enum sniff_what sniff(const uint8_t *p, size_t n, struct sniff *out) {
  memset(out, 0, sizeof *out);
  if (!n)
    return SNIFF_MORE;
  if (p[0] != RECORD_HANDSHAKE)
    return sniff_text(p, n);
  enum sniff_what what = sniff_tls(p, n, out);
  if (what != SNIFF_TLS)
    memset(out, 0, sizeof *out);
  return what;
}
