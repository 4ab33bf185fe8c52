/* proxy.c: which proxy.   --proxy, or the environment ─► a URL ─► kind, address, credentials */
#include "wire/proxy.h"

#include <arpa/inet.h>
#include <string.h>

#include "wire/cidr.h"

/* --- addresses of proxies --- */

static int say(struct beam_error *e, int err, const char *hint, const char *what) {
  if (e && e->size >= sizeof *e) {
    e->code = err;
    str_copy(e->what, sizeof e->what, what);
    str_copy(e->hint, sizeof e->hint, hint);
  }
  return err;
}

static int malformed(struct beam_error *e) {
  return say(e, BEAM_ERR_INVALID,
             "write http://HOST:PORT or socks5://HOST:PORT, with USER:PASSWORD@ before the host if need be",
             "the proxy's address is malformed");
}

/* Percent-decoded; false: malformed, too long, or a NUL in it. */
static bool unescape(struct span s, char *out, size_t cap) {
  size_t n = 0;
  for (size_t i = 0; i < s.n; i++) {
    char c = s.p[i];
    if (c == '%') {
      if (s.n - i < 3 || !hex_decode(&c, 1, (struct span){s.p + i + 1, 2}))
        return false;
      i += 2;
    }
    if (!c || n + 1 >= cap)
      return false;
    out[n++] = c;
  }
  out[n] = 0;
  return true;
}

static bool credentials(struct span s, struct proxy *p) {
  const char *colon = memchr(s.p, ':', s.n);
  size_t n = colon ? (size_t)(colon - s.p) : s.n;
  struct span password = colon ? (struct span){colon + 1, s.n - n - 1} : (struct span){0};
  p->secret = true;
  return unescape((struct span){s.p, n}, p->user, sizeof p->user) && p->user[0] && !strchr(p->user, ':') &&
         unescape(password, p->password, sizeof p->password);
}

/* Cut "scheme://" off; the kind, or -1. */
static int scheme(struct span *s, uint16_t *port) {
  static const struct {
    struct span name;
    enum proxy_kind kind;
    uint16_t port;
  } known[] = {{{"http://", 7}, PROXY_HTTP, 8080},
               {{"socks5://", 9}, PROXY_SOCKS5, 1080},
               {{"socks5h://", 10}, PROXY_SOCKS5, 1080},
               {{"socks://", 8}, PROXY_SOCKS5, 1080}};
  *port = 8080;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (s->n >= known[i].name.n && span_ieq((struct span){s->p, known[i].name.n}, known[i].name)) {
      s->p += known[i].name.n;
      s->n -= known[i].name.n;
      *port = known[i].port;
      return known[i].kind;
    }
  return memmem(s->p, s->n, "://", 3) ? -1 : PROXY_HTTP;
}

int proxy_parse(const char *text, struct proxy *out, struct beam_error *why) {
  struct span s = span_of(text);
  uint16_t port, given;
  int kind = scheme(&s, &port);
  memset(out, 0, sizeof *out);
  if (kind < 0)
    return say(why, BEAM_ERR_UNSUPPORTED, "use an HTTP proxy (http://) or a SOCKS5 one (socks5://)",
               "the proxy's kind is not supported");
  for (size_t i = s.n; i-- > 0;) /* the last @: a password that was not encoded may have one */
    if (s.p[i] == '@') {
      if (!credentials((struct span){s.p, i}, out))
        goto bad;
      s = (struct span){s.p + i + 1, s.n - i - 1};
      break;
    }
  const char *slash = memchr(s.p, '/', s.n);
  if (slash)
    s.n = (size_t)(slash - s.p);
  if (!host_parse(s, out->host, &given))
    goto bad;
  out->kind = (enum proxy_kind)kind;
  out->port = given ? given : port;
  return 0;

bad:
  proxy_wipe(out);
  return malformed(why);
}

void proxy_wipe(struct proxy *p) {
  explicit_bzero(p, sizeof *p);
}

/* --- exceptions --- */

/* The address as bytes; their count, 0: a name. */
static size_t address(const char *host, uint8_t out[16]) {
  return inet_pton(AF_INET, host, out) == 1 ? 4 : inet_pton(AF_INET6, host, out) == 1 ? 16 : 0;
}

static bool in_range(const char *range, const char *host) {
  struct cidr c;
  struct addr a;
  return cidr_parse(span_of(range), &c) && addr_parse(span_of(host), &a) && cidr_has(&c, &a);
}

/* "example.com" covers itself and what is under it. */
static bool under(struct span item, const char *host) {
  if (item.n && item.p[0] == '.') {
    item.p++;
    item.n--;
  }
  size_t n = strlen(host);
  if (!item.n || n < item.n || !span_ieq((struct span){host + n - item.n, item.n}, item))
    return false;
  return n == item.n || host[n - item.n - 1] == '.';
}

static bool exempts(struct span item, const char *host, uint16_t port) {
  char text[HOST_MAX + 16];
  uint64_t only;
  if (span_eq(item, SPAN("*")))
    return true;
  if (item.n >= sizeof text)
    return false;
  memcpy(text, item.p, item.n);
  text[item.n] = 0;
  char *start = text, *end = text + item.n, *colon = strrchr(text, ':');
  if (text[0] == '[') { /* [address] or [address]:port */
    char *close = strchr(text, ']');
    if (!close)
      return false;
    colon = close[1] == ':' ? close + 1 : NULL;
    start = text + 1;
    end = close;
  } else if (colon && strchr(text, ':') != colon) {
    colon = NULL; /* an IPv6 address without brackets */
  }
  if (colon && (!str_u64(span_of(colon + 1), 65535, &only) || only != port))
    return false;
  if (colon && start == text)
    end = colon;
  *end = 0;
  uint8_t bytes[16];
  return address(host, bytes) ? in_range(start, host)
                              : under((struct span){start, (size_t)(end - start)}, host);
}

bool proxy_exempt(const char *no_proxy, const char *host, uint16_t port) {
  for (const char *p = no_proxy ? no_proxy : ""; *p;) {
    size_t n = strcspn(p, ", \t");
    if (n && exempts((struct span){p, n}, host, port))
      return true;
    p += n + (p[n] != 0);
  }
  return false;
}

static bool is_this_machine(const char *host) {
  uint8_t a[16];
  static const uint8_t one[16] = {[15] = 1};
  size_t n = address(host, a);
  return (n == 4 && a[0] == 127) || (n == 16 && !memcmp(a, one, 16)) ||
         (!n && under(SPAN("localhost"), host));
}

int proxy_choose(const char *config, char *(*env)(const char *name), const char *host, uint16_t port,
                 struct proxy *out, struct beam_error *why) {
  static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
  memset(out, 0, sizeof *out);
  if (config)
    return *config ? proxy_parse(config, out, why) : 0;
  const char *except = env("no_proxy"), *found = NULL;
  if (!except)
    except = env("NO_PROXY");
  if (is_this_machine(host) || proxy_exempt(except, host, port))
    return 0;
  for (size_t i = 0; i < sizeof names / sizeof *names && !(found && *found); i++)
    found = env(names[i]);
  return found && *found ? proxy_parse(found, out, why) : 0;
}
