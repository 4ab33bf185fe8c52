/* proxy.h: getting a connection out through a proxy: which one, and what is said to it. Pure.
 *
 *   HTTP:    CONNECT host:port (RFC 9110 9.3.6), Basic credentials (RFC 7617)
 *   SOCKS5:  RFC 1928, credentials by RFC 1929; names are looked up by the proxy
 */
#ifndef WIRE_PROXY_H
#define WIRE_PROXY_H

#include <beam/beam.h>

#include "base/str.h"
#include "wire/host.h"

enum proxy_kind { PROXY_NONE, PROXY_HTTP, PROXY_SOCKS5 };

struct proxy {
  enum proxy_kind kind;
  char host[HOST_MAX];
  uint16_t port;
  bool secret;                   /* there are credentials */
  char user[256], password[256]; /* at most 255 bytes each; never log them */
};

/* "http://user:pass@host:port", "socks5://host" (also socks5h, socks), "host:port" (HTTP); user and password may be percent-encoded. Ports when absent:
 * 8080 after nothing or http, 1080 after socks. INVALID: not an address. UNSUPPORTED: another scheme (https, socks4). Credentials are not repeated in messages. */
int proxy_parse(const char *text, struct proxy *out, struct beam_error *why);
void proxy_wipe(struct proxy *p);

/* Is host:port to be reached without a proxy, by this NO_PROXY list? Items, separated by commas or blanks: "*", "example.com" or ".example.com" (it and
 * everything under it), an address, an address range ("10.0.0.0/8", "fd00::/8"); each may have ":port". NULL list: no. */
bool proxy_exempt(const char *no_proxy, const char *host, uint16_t port);

/* The proxy for a TLS connection to host:port. `config` is what the user said: a proxy, "" for none, NULL to ask the environment: https_proxy, HTTPS_PROXY,
 * all_proxy, ALL_PROXY, the first that is set and not empty, except for what no_proxy, NO_PROXY exempts, and for this machine itself.
 * env(name) is getenv or a test's. 0 (out->kind may be PROXY_NONE), or as proxy_parse. */
int proxy_choose(const char *config, char *(*env)(const char *name), const char *host, uint16_t port,
                 struct proxy *out, struct beam_error *why);

/* --- the talk: our bytes out, its bytes in --- */
enum { PROXY_SAY_MAX = 1600 };
enum proxy_what {
  PROXY_MORE, /* wait for more bytes */
  PROXY_SAY,  /* send what proxy_talk_say gives */
  PROXY_OPEN, /* the connection is through: what follows comes from the far side */
  PROXY_BAD /* over: talk->err (DENIED: credentials or rules; REFUSED, UNREACHABLE, TIMEOUT: the far side; UNSUPPORTED; PROTOCOL; TOO_LARGE) and talk->why */
};
struct proxy_talk {
  const struct proxy *proxy; /* borrowed */
  char host[HOST_MAX];       /* where to */
  uint16_t port;
  int state;
  size_t scanned;
  int err;
  char why[160]; /* for a person; no credentials in it */
};
/* INVALID: the host is none. */
int proxy_talk_init(struct proxy_talk *t, const struct proxy *proxy, const char *host, uint16_t port);
/* At first, and whenever hear() said PROXY_SAY: the bytes to send. They may carry credentials: wipe them. */
size_t proxy_talk_say(struct proxy_talk *t, char out[PROXY_SAY_MAX]);
/* Look at what came: *used bytes were eaten. What was not eaten comes again, in front of more. */
enum proxy_what proxy_talk_hear(struct proxy_talk *t, const char *p, size_t n, size_t *used);

#endif
