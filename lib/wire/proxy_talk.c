/* proxy_talk.c: what is said to a proxy.
 *
 *   HTTP:    CONNECT ──► 2xx: OPEN       anything else: BAD
 *   SOCKS5:  METHODS ──► (AUTH ──►) WANT ──► reply 0: OPEN
 */
#include <arpa/inet.h>
#include <string.h>

#include "wire/base64.h"
#include "wire/h1.h"
#include "wire/proxy.h"

enum { HTTP_CONNECT, SOCKS_METHODS, SOCKS_AUTH, SOCKS_WANT, OVER };

int proxy_talk_init(struct proxy_talk *t, const struct proxy *proxy, const char *host, uint16_t port) {
  memset(t, 0, sizeof *t);
  t->proxy = proxy;
  t->port = port;
  t->state = proxy->kind == PROXY_HTTP ? HTTP_CONNECT : SOCKS_METHODS;
  if (host_is_ip(host) ? str_copy(t->host, sizeof t->host, host) : host_fold(span_of(host), t->host))
    return 0;
  return BEAM_ERR_INVALID;
}

/* --- our words --- */

static size_t say_connect(const struct proxy_talk *t, char *out) {
  char authority[HOST_MAX + 10], pair[512], basic[32 + BASE64_SIZE(512)] = "";
  const struct proxy *p = t->proxy;
  str_fmt(authority, sizeof authority, strchr(t->host, ':') ? "[%s]:%u" : "%s:%u", t->host, t->port);
  if (p->secret) {
    static const char name[] = "Proxy-Authorization: Basic ";
    str_fmt(pair, sizeof pair, "%s:%s", p->user, p->password);
    memcpy(basic, name, sizeof name - 1);
    base64_encode(basic + sizeof name - 1, pair, strlen(pair));
  }
  str_fmt(out, PROXY_SAY_MAX, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n", authority, authority, basic,
          p->secret ? "\r\n" : "");
  explicit_bzero(pair, sizeof pair);
  explicit_bzero(basic, sizeof basic);
  return strlen(out);
}

static size_t say_auth(const struct proxy *p, char *out) {
  size_t n = strlen(p->user), m = strlen(p->password);
  out[0] = 1;
  out[1] = (char)n;
  memcpy(out + 2, p->user, n);
  out[2 + n] = (char)m;
  memcpy(out + 3 + n, p->password, m);
  return 3 + n + m;
}

static size_t say_want(const struct proxy_talk *t, char *out) {
  size_t n = 4;
  memcpy(out, "\5\1\0", 3); /* version 5, CONNECT */
  if (inet_pton(AF_INET, t->host, out + 4) == 1) {
    out[3] = 1;
    n += 4;
  } else if (inet_pton(AF_INET6, t->host, out + 4) == 1) {
    out[3] = 4;
    n += 16;
  } else {
    out[3] = 3;
    out[4] = (char)strlen(t->host);
    memcpy(out + 5, t->host, strlen(t->host));
    n += 1 + strlen(t->host);
  }
  out[n] = (char)(t->port >> 8);
  out[n + 1] = (char)t->port;
  return n + 2;
}

size_t proxy_talk_say(struct proxy_talk *t, char out[PROXY_SAY_MAX]) {
  switch (t->state) {
  case HTTP_CONNECT:
    return say_connect(t, out);
  case SOCKS_METHODS:
    memcpy(out, t->proxy->secret ? "\5\2\0\2" : "\5\1\0", 4); /* none, or none and a password */
    return t->proxy->secret ? 4 : 3;
  case SOCKS_AUTH:
    return say_auth(t->proxy, out);
  case SOCKS_WANT:
    return say_want(t, out);
  default:
    return 0;
  }
}

/* --- its words --- */

static enum proxy_what bad(struct proxy_talk *t, int err, const char *why) {
  t->state = OVER;
  t->err = err;
  str_copy(t->why, sizeof t->why, why);
  return PROXY_BAD;
}

static enum proxy_what status(struct proxy_talk *t, unsigned code) {
  switch (code) {
  case 407:
    return bad(t, BEAM_ERR_DENIED,
               t->proxy->secret ? "the proxy refuses these credentials"
                                : "the proxy wants a user name and a password");
  case 403:
  case 405:
    return bad(t, BEAM_ERR_DENIED, "the proxy's rules do not permit it");
  case 504:
    return bad(t, BEAM_ERR_TIMEOUT, "the proxy got no answer from the relay");
  case 502:
  case 503:
    return bad(t, BEAM_ERR_REFUSED, "the proxy cannot reach the relay");
  }
  char text[64];
  str_fmt(text, sizeof text, "the proxy answered %u to CONNECT", code);
  return bad(t, BEAM_ERR_REFUSED, text);
}

static enum proxy_what hear_http(struct proxy_talk *t, const char *p, size_t n, size_t *used) {
  for (;;) {
    long len = h1_head_length(p + *used, n - *used, &t->scanned);
    struct h1_message m;
    if (!len)
      return PROXY_MORE;
    if (len < 0)
      return bad(t, BEAM_ERR_TOO_LARGE, "the proxy's answer has no end");
    if (h1_parse_response(p + *used, (size_t)len, SPAN("CONNECT"), &m))
      return bad(t, BEAM_ERR_PROTOCOL, "the proxy's answer is not HTTP");
    unsigned code = m.head.status;
    http_head_free(&m.head);
    *used += (size_t)len;
    t->scanned = 0;
    if (code >= 200 && code < 300) {
      t->state = OVER;
      return PROXY_OPEN;
    }
    if (code >= 200 || code == 101)
      return status(t, code);
  }
}

static enum proxy_what hear_methods(struct proxy_talk *t, const uint8_t *p, size_t n, size_t *used) {
  if (n && p[0] != 5)
    return bad(t, BEAM_ERR_PROTOCOL, "the proxy does not speak SOCKS5");
  if (n < 2)
    return PROXY_MORE;
  if (p[1] == 0xff)
    return bad(t, BEAM_ERR_DENIED,
               t->proxy->secret ? "the proxy takes no password"
                                : "the proxy wants a user name and a password");
  if (p[1] != 0 && (p[1] != 2 || !t->proxy->secret))
    return bad(t, BEAM_ERR_PROTOCOL, "the proxy chose what was not offered");
  *used = 2;
  t->state = p[1] ? SOCKS_AUTH : SOCKS_WANT;
  return PROXY_SAY;
}

static enum proxy_what hear_auth(struct proxy_talk *t, const uint8_t *p, size_t n, size_t *used) {
  if (n && p[0] != 1)
    return bad(t, BEAM_ERR_PROTOCOL, "the proxy broke the rules of SOCKS5");
  if (n < 2)
    return PROXY_MORE;
  if (p[1])
    return bad(t, BEAM_ERR_DENIED, "the proxy refuses these credentials");
  *used = 2;
  t->state = SOCKS_WANT;
  return PROXY_SAY;
}

static enum proxy_what hear_reply(struct proxy_talk *t, const uint8_t *p, size_t n, size_t *used) {
  static const struct {
    int err;
    const char *why;
  } replies[] = {{BEAM_ERR_REFUSED, "the proxy failed"},
                 {BEAM_ERR_DENIED, "the proxy's rules do not permit it"},
                 {BEAM_ERR_UNREACHABLE, "the proxy finds no way to the relay's network"},
                 {BEAM_ERR_UNREACHABLE, "the proxy cannot reach the relay"},
                 {BEAM_ERR_REFUSED, "the relay refused the proxy's connection"},
                 {BEAM_ERR_TIMEOUT, "the proxy got no answer from the relay"},
                 {BEAM_ERR_UNSUPPORTED, "the proxy makes no connections"},
                 {BEAM_ERR_UNSUPPORTED, "the proxy does not take this kind of address"}};
  if (n && p[0] != 5)
    return bad(t, BEAM_ERR_PROTOCOL, "the proxy broke the rules of SOCKS5");
  if (n >= 2 && p[1])
    return p[1] <= 8 ? bad(t, replies[p[1] - 1].err, replies[p[1] - 1].why)
                     : bad(t, BEAM_ERR_REFUSED, "the proxy failed");
  if (n < 5)
    return PROXY_MORE;
  size_t address = p[3] == 1 ? 4 : p[3] == 4 ? 16 : p[3] == 3 ? 1u + p[4] : 0;
  if (p[2] || !address)
    return bad(t, BEAM_ERR_PROTOCOL, "the proxy broke the rules of SOCKS5");
  if (n < 4 + address + 2)
    return PROXY_MORE;
  *used = 4 + address + 2;
  t->state = OVER;
  return PROXY_OPEN;
}

enum proxy_what proxy_talk_hear(struct proxy_talk *t, const char *p, size_t n, size_t *used) {
  const uint8_t *b = (const uint8_t *)p;
  *used = 0;
  switch (t->state) {
  case HTTP_CONNECT:
    return hear_http(t, p, n, used);
  case SOCKS_METHODS:
    return hear_methods(t, b, n, used);
  case SOCKS_AUTH:
    return hear_auth(t, b, n, used);
  case SOCKS_WANT:
    return hear_reply(t, b, n, used);
  default:
    return PROXY_BAD;
  }
}
