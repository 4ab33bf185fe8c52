/* h1_upstream.h: the local service over HTTP/1.1: a pool of connections and the exchanges on them. */
#ifndef HTTP_H1_UPSTREAM_H
#define HTTP_H1_UPSTREAM_H

#include "http/exchange.h"
#include "http/dialer.h"
#include "io/net.h"

struct h1_pool;

struct h1_pool_conf {
  struct net *net;
  struct loop *loop;
  const char *host; /* "localhost": both families; or a name or literal */
  uint16_t port;
  struct http_dialer *dialer; /* outlives the pool; NULL: plain connections to host and port */
};
int h1_pool_new(const struct h1_pool_conf *conf, struct h1_pool **out);
/* A connection that somebody made already, idle from now on. Takes s. */
void h1_pool_give(struct h1_pool *p, struct stream *s);
/* Exchanges in flight get PAGE_INTERNAL; idle connections close. */
void h1_pool_free(struct h1_pool *p);
/* An upstream end for one request: it takes an idle connection or dials once its head arrives. A request on an idle connection that the service closed before answering is
 * sent again on a fresh one when it is safe (no body sent yet, idempotent method; RFC 9110 9.2.2). NOMEM. */
int h1_pool_request(struct h1_pool *p, struct http_end **out);
/* Before its head is sent: this request goes out on a connection of its own that begins with these bytes (a PROXY protocol header), and ends with it. NOMEM. */
int h1_request_preface(struct http_end *upstream, const void *p, size_t n);

#endif
