/* local.h: from a link's data stream to the local service: StreamOpen, then one HTTP exchange, a pipe for TCP and TLS tunnels, or a socket for a UDP visitor. */
#ifndef AGENT_LOCAL_H
#define AGENT_LOCAL_H

#include "http/policy.h"
#include "io/net.h"
#include "wire/control.h"

struct local;

struct local_conf {
  struct loop *loop;
  struct net *net;
  const char *host; /* of the local service; or "unix:/path" */
  uint16_t port;
  const char *authority; /* what the service calls itself, "localhost:3000"; HTTP alone, as what follows */
  bool tls;              /* it speaks TLS ... */
  bool insecure;         /* ... with any certificate */
  const char *ca;        /* ... or one that leads to this PEM file; NULL: to the system's */
  int kind;              /* beam_TunnelKind: streams of any other are refused */
  int proxy_protocol;    /* 0, 1, 2 */
  const char *protocol;  /* "http1", "h2c"; else as the service or the request says */
  const char *folder, *fallback; /* not NULL: these files instead of a service */
  const char *host_header;       /* NULL or "rewrite": authority; "keep"; or a value */
  struct policy *policy;         /* the owner's rules; local takes a reference of its own */
  void (*finished)(void *user, const struct http_record *r);
  /* BEAM_TUNNEL_ENTRY: instead of a local service. Takes s. */
  void (*peer)(void *user, struct stream *s, const beam_StreamOpen *open);
  void *user;
};
/* Copies its strings. Errors, with text where there is something to say: NOMEM, what reading `ca` brings. */
int local_new(const struct local_conf *conf, struct local **out, struct beam_error *err);
/* The name bound now at this relay (a number below LIMIT_AGENT_RELAYS): streams of its for any other are refused, whatever it sends. */
int local_bind(struct local *l, unsigned relay, const char *name);
/* A data stream of that relay's. Takes s. */
void local_serve(struct local *l, unsigned relay, struct stream *s);
/* No callback any more. Exchanges in flight end as their streams are closed; it frees itself after the last. */
void local_close(struct local *l);

#endif
