/* mux.h: one request of a visitor whose connection carries many: the front end of its exchange, the same for HTTP/2 and HTTP/3. Inside http/ only.
 *
 *             head whole              response's end is sent, and the request was read or is not wanted
 *   (none) ────────────────► FRESH ──► BUSY ──────────────────────────────────────────────────────────────► freed
 *                                       │ the visitor resets, or goes: the exchange is aborted
 *                                       └ the exchange fails: a page before the response's head, a reset after it
 *
 * An engine (h2_engine.c, h3_engine.c) makes it, says what came, and sends what is in `out`. Its callbacks never call a handler or a peer: they note, and the
 * request's step, a task, does the rest.
 */
#ifndef HTTP_MUX_H
#define HTTP_MUX_H

#include "base/limits.h"
#include "http/front.h"

struct mux_request;

/* --- heads: mux_head.c --- */

/* A head, or trailers, while their fields come. */
struct mux_head {
  struct http_build *build;
  char *method, *scheme, *authority, *path, *protocol, *host, *status;
  char *cookie; /* the crumbs joined, RFC 9113 8.2.3, RFC 9114 4.2.1 */
  size_t cookie_n;
  size_t bytes, fields;
  enum page fault;
};
void mux_head_add(struct mux_head *h, struct span name, struct span value);
void mux_head_clear(struct mux_head *h);
/* Clears h. A request's head as HTTP/1 has it; an extended CONNECT becomes the GET it stands for, *key its Sec-WebSocket-Key (to be freed). 0 or the page that answers it. */
enum page mux_head_request(struct mux_head *h, bool tls, struct http_head *out, char **key);
/* A response's; 1xx too. */
enum page mux_head_response(struct mux_head *h, struct http_head *out);
enum page mux_head_trailers(struct mux_head *h, struct http_head *out);
/* Fields as both versions have them: lower case, nothing of one connection; ":status" first unless status is 0 (trailers, requests). The text they point at is in *text, freed by
 * the caller, and in h. NOMEM, TOO_LARGE. */
enum { MUX_FIELDS = LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS + 2 };
int mux_head_fields(const struct http_head *h, uint16_t status, struct http_field out[MUX_FIELDS], size_t *n,
                    char **text);

/* --- what a connection gives its requests --- */

enum mux_reset {
  MUX_RESET_FAILED, /* the response is cut */
  MUX_RESET_ENOUGH, /* it is whole: send no more of the request's body */
};
struct mux_engine {
  int (*respond)(struct mux_request *r, const struct http_head *h, bool more); /* NOMEM, TOO_LARGE */
  int (*inform)(struct mux_request *r, const struct http_head *h);
  void (*wake)(struct mux_request *r); /* r->out grew, or resp_done was set */
  void (*reset)(struct mux_request *r,
                enum mux_reset how);             /* HTTP is done with r soon after: mux_request_over() */
  void (*took)(struct mux_request *r, size_t n); /* n bytes of r->in were taken: give credit back */
  size_t (*credit)(struct mux_request *r);       /* what the visitor would take now */
};

struct mux_conn {
  struct front base;
  struct front_conf conf;
  struct loop *loop;
  const struct mux_engine *engine;
  struct mux_request *requests;
  unsigned requests_n;
  size_t waiting;  /* body bytes received and not taken, of all requests */
  unsigned resets; /* requests that the visitor gave up, for the engine to count */
  uint64_t idle_since;
  unsigned depth; /* entries on the stack: the last one to leave frees a dead connection */
  bool dead;
  bool last;                        /* no new requests: told when the last one is gone */
  void (*idle)(struct mux_conn *c); /* ... by this */
  void (*free)(struct mux_conn *c);
};
void mux_conn_leave(struct mux_conn *c);
void mux_conn_abandon(struct mux_conn *c); /* every request, now */

struct mux_request {
  struct http_end end;
  struct mux_conn *c;
  struct mux_request *prev, *next;
  int64_t id; /* of its stream; -1: HTTP is done with it */
  struct loop_task step;
  struct http_track track;
  struct http_head trailers;     /* of the request, until the body before them was taken */
  struct http_head out_trailers; /* of the response */
  struct evbuffer *in, *out;     /* body bytes: received and not taken; written and not sent */
  size_t in_held, out_held;      /* charged to the pool */
  uint64_t moved;                /* ms: response bytes last left */
  struct front_pace pace;        /* of the request's body */
  uint64_t left;                 /* of the response, when it has a length */
  enum page fault;               /* of the head: answered with this page */
  enum page failing;             /* the peer broke the rules: fail the exchange, once off its stack */
  char *key;                     /* Sec-WebSocket-Key that we made */
  unsigned depth, infos;
  unsigned fresh : 1, more : 1;
  unsigned json : 1, grpc : 1, no_body : 1, has_length : 1;
  unsigned asks : 1, upgraded : 1;
  unsigned has_trailers : 1, has_out_trailers : 1;
  unsigned unhurried : 1;  /* the request's body may be slow */
  unsigned read_whole : 1; /* the visitor's end came */
  unsigned req_closed : 1; /* our request ended, or the peer said stop */
  unsigned answered : 1;   /* a final head went out */
  unsigned resp_done : 1;
  unsigned fin_sent : 1;
  unsigned want_room : 1;              /* the peer was told that there is none */
  unsigned wake : 1;                   /* ... and is told now that there is */
  unsigned gone : 1;                   /* the visitor reset it */
  unsigned dead : 1;                   /* freed by the last to leave */
  void (*fini)(struct mux_request *r); /* what the engine keeps behind it; may be NULL */
};

/* --- for engines: mux_request.c --- */
/* size: of the engine's struct, which begins with a mux_request. NULL: out of memory. */
struct mux_request *mux_request_new(struct mux_conn *c, int64_t id, size_t size);
void mux_request_soon(struct mux_request *r);
void mux_request_head(struct mux_request *r, struct mux_head *h, bool end); /* the whole head came */
void mux_request_ended(struct mux_request *r);
int mux_request_received(struct mux_request *r, const uint8_t *p, size_t n); /* NOMEM */
void mux_request_sent(struct mux_request *r); /* r->out shrank, the end left, or the visitor gave credit */
void mux_request_over(struct mux_request *r, bool in_order); /* HTTP is done with it */
void mux_request_abandon(struct mux_request *r);             /* the connection goes: free it now */
/* For the front_ops of both: the request whose response waits longest for the visitor. */
uint64_t mux_conn_stalled(struct mux_conn *c);
void mux_conn_shed(struct mux_conn *c);
void mux_request_tick(struct mux_request *r, uint64_t now, bool low);

#endif
