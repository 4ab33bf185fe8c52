/* h2_upstream.h: the local service over HTTP/2 (RFC 9113): a pool of connections, each with many exchanges on it. */
#ifndef HTTP_H2_UPSTREAM_H
#define HTTP_H2_UPSTREAM_H

#include "http/dialer.h"
#include "http/exchange.h"

struct h1_pool;
struct h2_pool;

struct h2_pool_conf {
  struct loop *loop;
  struct http_dialer *dialer; /* outlives the pool */
  bool tls;                   /* :scheme */
  bool prior; /* HTTP/2 without asking; else the service chooses (ALPN) between it and HTTP/1.1 */
  struct h1_pool *
      h1; /* of the same service; outlives the pool: upgrades, and everything when HTTP/1.1 is what it chose */
};
int h2_pool_new(const struct h2_pool_conf *conf, struct h2_pool **out); /* NOMEM */
/* Exchanges in flight get PAGE_INTERNAL; connections close. NULL is accepted. */
void h2_pool_free(struct h2_pool *p);
/* An upstream end for one request. It goes out once there is a connection with a slot for it; one that the service says it did not process goes out again. gRPC
 * (page_is_grpc) is told to accept trailers, waits for its answer as long as it likes, and is refused where only HTTP/1.1 is spoken. NOMEM. */
int h2_pool_request(struct h2_pool *p, struct http_end **out);

#endif
