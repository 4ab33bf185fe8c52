#include "io/net.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/str.h"
#include "io/sockets.h"

static const struct net_ops sockets_ops = {sockets_dial,   sockets_dial_cancel, sockets_listen,
                                           sockets_port,   sockets_unlisten,    sockets_watch,
                                           sockets_unwatch};
struct net net_sockets = {&sockets_ops};

int net_dial(struct net *n, struct loop *l, const char *host, uint16_t port, uint64_t timeout_ms, dial_cb cb,
             void *user, struct dial **out) {
  return n->ops->dial(n, l, host, port, timeout_ms, cb, user, out);
}

void net_dial_cancel(struct net *n, struct dial *d) {
  n->ops->dial_cancel(d);
}

int net_listen(struct net *n, struct loop *l, const char *host, uint16_t port, const void *siblings,
               accept_cb cb, void *user, struct listener **out) {
  return n->ops->listen(n, l, host, port, siblings, cb, user, out);
}

uint16_t net_listener_port(struct net *n, struct listener *ls) {
  return n->ops->listener_port(ls);
}
void net_listener_close(struct net *n, struct listener *ls) {
  n->ops->listener_close(ls);
}

int net_watch(struct net *n, struct loop *l, net_changed_cb cb, void *user, struct net_watch **out) {
  return n->ops->watch(n, l, cb, user, out);
}
void net_unwatch(struct net *n, struct net_watch *w) {
  if (w)
    n->ops->unwatch(w);
}

/* Connecting a UDP socket asks the routes, and sends nothing. */
bool net_source(const struct sockaddr_storage *peer, struct sockaddr_storage *out) {
  socklen_t len = sizeof *out;
  memset(out, 0, sizeof *out);
  if (peer->ss_family != AF_INET && peer->ss_family != AF_INET6)
    return false;
  int fd = socket(peer->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  bool ok = fd >= 0 && !connect(fd, (const struct sockaddr *)peer, addr_len(peer)) &&
            !getsockname(fd, (struct sockaddr *)out, &len);
  if (fd >= 0)
    close(fd);
  return ok;
}

/* --- addresses --- */

bool addr_same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
  const struct sockaddr_in *a4 = (const void *)a, *b4 = (const void *)b;
  const struct sockaddr_in6 *a6 = (const void *)a, *b6 = (const void *)b;
  if (a->ss_family != b->ss_family)
    return false;
  if (a->ss_family == AF_INET)
    return a4->sin_addr.s_addr == b4->sin_addr.s_addr;
  return a->ss_family == AF_INET6 && !memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr);
}

socklen_t addr_len(const struct sockaddr_storage *a) {
  return a->ss_family == AF_INET    ? sizeof(struct sockaddr_in)
         : a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                    : sizeof(struct sockaddr_un);
}

bool addr_literal(const char *host, uint16_t port, struct sockaddr_storage *out) {
  memset(out, 0, sizeof *out);
  if (!strncmp(host, "unix:", 5)) {
    struct sockaddr_un *u = (struct sockaddr_un *)out;
    u->sun_family = AF_UNIX;
    return host[5] && str_copy(u->sun_path, sizeof u->sun_path, host + 5);
  }
  struct sockaddr_in *in4 = (struct sockaddr_in *)out;
  if (inet_pton(AF_INET, host, &in4->sin_addr) == 1) {
    in4->sin_family = AF_INET;
    in4->sin_port = htons(port);
    return true;
  }
  /* getaddrinfo without a lookup, for the sake of fe80::1%eth0 */
  struct addrinfo hint = {.ai_family = AF_INET6, .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *ai;
  if (!strchr(host, ':') || getaddrinfo(host, NULL, &hint, &ai))
    return false;
  memcpy(out, ai->ai_addr, ai->ai_addrlen);
  ((struct sockaddr_in6 *)out)->sin6_port = htons(port);
  freeaddrinfo(ai);
  return true;
}

void addr_text(const struct sockaddr_storage *a, bool with_port, char *out, size_t cap) {
  char ip[INET6_ADDRSTRLEN] = "";
  const struct sockaddr_in *in4 = (const struct sockaddr_in *)a;
  const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)a;
  if (a->ss_family == AF_INET && inet_ntop(AF_INET, &in4->sin_addr, ip, sizeof ip))
    str_fmt(out, cap, with_port ? "%s:%u" : "%s", ip, ntohs(in4->sin_port));
  else if (a->ss_family == AF_INET6 && inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof ip))
    str_fmt(out, cap, with_port ? "[%s]:%u" : "%s", ip, ntohs(in6->sin6_port));
  else
    str_copy(out, cap, a->ss_family == AF_UNIX ? "unix" : "?");
}

int addr_split(const char *text, uint16_t def_port, char *host, size_t cap, uint16_t *port) {
  struct span h = span_of(text), p = {0};
  const char *colon = strrchr(text, ':');
  uint64_t number = def_port;
  if (text[0] == '[') {
    const char *end = strchr(text, ']');
    if (!end || (end[1] && end[1] != ':') || end == text + 1)
      return BEAM_ERR_INVALID;
    h = (struct span){text + 1, (size_t)(end - text - 1)};
    if (end[1])
      p = span_of(end + 2);
    colon = end[1] ? end + 1 : NULL;
  } else if (colon && strchr(text, ':') == colon) {
    h.n = (size_t)(colon - text);
    p = span_of(colon + 1);
  } else if (!colon && str_u64(h, 65535, &number)) {
    h.n = 0;
  } else {
    colon = NULL; /* a name, or an IPv6 literal without brackets */
  }
  if ((colon && !str_u64(p, 65535, &number)) || h.n >= cap || !text[0])
    return BEAM_ERR_INVALID;
  memcpy(host, h.p, h.n);
  host[h.n] = 0;
  *port = (uint16_t)number;
  return 0;
}

/* --- names that need no asking --- */

static bool is_localhost(const char *host) {
  size_t n = strlen(host);
  if (n && host[n - 1] == '.')
    n--;
  return (n == 9 && !strncasecmp(host, "localhost", 9)) ||
         (n > 10 && !strncasecmp(host + n - 10, ".localhost", 10));
}

size_t resolve_now(const char *host, uint16_t port, struct sockaddr_storage out[RESOLVE_NOW]) {
  if (is_localhost(host))
    return (size_t)addr_literal("::1", port, &out[0]) + (size_t)addr_literal("127.0.0.1", port, &out[1]);
  return addr_literal(host, port, &out[0]);
}
