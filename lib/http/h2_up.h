/* h2_up.h: what the files of the HTTP/2 upstream share. h2_pool.c: which connection a request gets. h2_upstream.c: one exchange. h2_up.c: one connection, nghttp2 and
 * what it reports, which is noted in the exchange and acted upon by its step.
 *
 * An upgrade to WebSocket is an extended CONNECT on a connection that takes those, if there is one already; any other goes over HTTP/1.1.
 *
 *          head()           a connection with a slot          answer, end            both complete
 *   NEW ─────────► WAITING ─────────────────────────► ON ───────────────────────────────────────► freed
 *                     ▲ └─ the service chose HTTP/1.1: h1_upstream │
 *                     └────────────────────────────────────────────┘ not processed (REFUSED_STREAM, GOAWAY), nothing of its body gone
 */
#ifndef HTTP_H2_UP_H
#define HTTP_H2_UP_H

#include <nghttp2/nghttp2.h>

#include "http/h2_upstream.h"
#include "http/mux.h"

struct h2_up;

struct h2_info {
  struct h2_info *next;
  struct http_head head;
};

struct h2_req {
  struct http_end end;
  struct h2_pool *pool; /* NULL: it is gone */
  struct h2_up *c;      /* NULL: not on a connection (any more) */
  int32_t id;
  struct h2_req *prev, *next, **list; /* in *list, which is one of the pool's or c's; NULL: in none */
  struct loop_task step;
  struct loop_timer timer;              /* for the head of the response */
  uint64_t active;                      /* ms: it last moved */
  struct http_head head, trailers;      /* of the request */
  struct http_head answer, in_trailers; /* of the response, until they are passed on */
  struct h2_info *infos;
  struct evbuffer *in, *out; /* received and not taken; taken and not sent */
  size_t in_held, out_held;  /* charged to the pool of memory */
  uint64_t left;             /* of the request's body, when it has a length */
  uint32_t code;             /* the stream was closed with */
  unsigned depth, infos_n, tries;
  enum page failing; /* fail once off the peer's stack */
  enum page lost;    /* its connection went: this page, if it is not tried again */
  unsigned dead : 1, more : 1, grpc : 1, asks : 1, safe : 1, has_length : 1;
  unsigned req_closed : 1; /* the front's end came, or we said stop */
  unsigned stopped : 1;    /* ... the latter: what is still in `out` is of no interest */
  unsigned lingers : 1;    /* complete, but for what is still in `out` */
  unsigned begun : 1;      /* body bytes of it have left: it cannot be sent again */
  unsigned deferred : 1;   /* the engine waits for more of the body */
  unsigned want_room : 1, wake : 1;
  unsigned connect : 1;  /* goes out as extended CONNECT (RFC 8441) */
  unsigned upgraded : 1; /* ... which was granted: bodies are the connection's bytes */
  unsigned has_trailers : 1, has_answer : 1, answered : 1;
  unsigned read_whole : 1; /* the service's end came */
  unsigned has_in_trailers : 1, resp_done : 1;
  unsigned over : 1;   /* HTTP/2 is done with its stream */
  unsigned reused : 1; /* ... which was on a connection that had answered before */
};

struct h2_pool {
  struct h2_pool_conf conf;
  struct h2_up *ups;
  unsigned ups_n;
  struct h2_req *waiting; /* oldest first */
  struct h2_req *apart; /* neither wait nor are on a connection: no head yet, or all of the answer is here */
  struct dial *dial;
  uint64_t h1_until; /* ms: HTTP/1.1 is what the service chose; asked again then */
  struct loop_task kick;
  struct loop_timer pause; /* a dial failed while other connections live: not again before */
};

struct h2_up {
  struct h2_pool *pool; /* NULL: it is gone */
  struct h2_up *prev, *next;
  struct loop *loop;
  struct stream *s;
  nghttp2_session *ng;
  struct evbuffer *out; /* frames that s has not taken */
  struct loop_task flush;
  struct loop_timer timer;
  struct h2_req *requests;
  unsigned requests_n, depth;
  struct mux_head head;
  int32_t head_id;
  size_t block, room;
  uint64_t block_since, idle_since, tokens_at;
  unsigned tokens;
  int kill; /* die with this, once off the stack */
  unsigned saw_settings : 1, going : 1, answered : 1, dead : 1;
};

/* --- h2_pool.c --- */
void h2_pool_wait(struct h2_req *r); /* ... for a connection. May put it on one at once */
void h2_pool_kick(struct h2_pool *p);

/* --- h2_upstream.c --- */
void h2_req_list(struct h2_req *r, struct h2_req **list); /* into that one alone, at its end. NULL: none */
void h2_req_fail(struct h2_req *r, enum page page);       /* frees it, once off its stack */
void h2_req_to_h1(struct h2_req *r);                      /* the same; another end takes its place */
enum page h2_req_headers(struct h2_req *r, struct mux_head *h, bool end); /* clears h. 0, or it is none */
int h2_req_data(struct h2_req *r, const uint8_t *p, size_t n);            /* NOMEM */
void h2_req_ended(struct h2_req *r);
void h2_req_sent(struct h2_req *r); /* r->out shrank, or there is more credit */
void h2_req_over(struct h2_req *r, uint32_t code);
void h2_req_lost(struct h2_req *r, enum page page); /* the connection goes */
void h2_req_soon(struct h2_req *r);

/* --- h2_up.c --- */
int h2_up_new(struct h2_pool *p, struct stream *s); /* takes s. NOMEM */
void h2_up_close(struct h2_up *c, int reason);
bool h2_up_has_slot(const struct h2_up *c);
bool h2_up_connects(const struct h2_up *c); /* the service takes extended CONNECT */
int h2_up_begin(struct h2_up *c,
                struct h2_req *r); /* 0: it is on c. LIMIT: c takes none any more; NOMEM, TOO_LARGE */
void h2_up_wake(struct h2_req *r); /* r->out grew, or its end came */
void h2_up_reset(struct h2_req *r, uint32_t code); /* and takes it off its connection */
void h2_up_took(struct h2_req *r, size_t n);       /* n bytes of r->in: credit goes back */
size_t h2_up_credit(const struct h2_req *r);       /* what the service would take now */

#endif
