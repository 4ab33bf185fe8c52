/* h1_pool.h: connections to one local service, lent to one request at a time. Inside http/ only; h1_upstream.h is the public side. */
#ifndef HTTP_H1_POOL_H
#define HTTP_H1_POOL_H

#include "http/gate.h"
#include "http/h1_body.h"
#include "http/h1_upstream.h"

struct conn {
  struct h1_pool *pool;
  struct stream *s; /* while lent, the request owns its events */
  struct h1_out out;
  struct conn *next, **link; /* in pool->idle */
  uint64_t until;            /* idle: closed at this time */
  bool reused;
};

struct request;

struct h1_pool {
  struct h1_pool_conf conf; /* host is a copy */
  struct http_dialer_net plain;
  struct evbuffer *scratch;
  struct conn *idle; /* last in, first out: the surplus ages and goes */
  size_t idle_n;
  struct request *requests;
  struct gate gate; /* how many of them go at once */
  struct loop_timer sweep;
};

/* Takes s, also when it fails. NOMEM. */
int conn_new(struct h1_pool *p, struct stream *s, struct conn **out);
void conn_close(struct conn *c, int reason); /* NULL is accepted */
struct conn *pool_take(struct h1_pool *p);   /* an idle one, or NULL */
/* Give it back for the next request: it is kept for ms at most, or closed when there are enough, or when it is not as silent as it should be. */
void pool_keep(struct conn *c, uint64_t ms);

/* For the pool's end: fails the exchange and frees the request, unless it is on the stack: then when it leaves. */
void request_fail(struct request *r, enum page page);

#endif
