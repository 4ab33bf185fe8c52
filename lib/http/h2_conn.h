/* h2_conn.h: what the files of the HTTP/2 front share. Inside http/ only.
 *
 *   h2_front.c: the connection's life, its stream, timers, floods.   h2_engine.c: nghttp2 and what it reports.
 *   h2_request.c: one request: the front end of its exchange.        h2_head.c: fields to a head and back.
 *
 *             HEADERS whole           response's end is sent, and the request was read or is not wanted
 *   (none) ────────────────► FRESH ──► BUSY ──────────────────────────────────────────────────────────────► freed
 *                                       │ the visitor resets, or goes: the exchange is aborted
 *                                       └ the exchange fails: a page before the response's head, RST_STREAM after it
 *
 * The engine's callbacks never call a handler or a peer: they note, and the request's step, a task, does the rest.
 */
#ifndef HTTP_H2_CONN_H
#define HTTP_H2_CONN_H

#include <nghttp2/nghttp2.h>

#include "base/limits.h"
#include "http/front.h"

enum {
  H2_CONN_FRAME_DATA = 16 * 1024, /* DATA we send: what a small response waits for a large one */
  H2_CONN_TICK_MS = 5000,         /* everything slower than this is looked at so often */
  H2_CONN_LAST_MS = 1000, /* between "no new requests, please" and "none": a round trip of the slowest */
};

/* A head, or trailers, while their fields come. One block of them at a time on a connection. */
struct h2_head {
  struct http_build *build;
  char *method, *scheme, *authority, *path, *protocol, *host;
  char *cookie; /* the crumbs joined, RFC 9113 8.2.3 */
  size_t cookie_n;
  size_t bytes, fields;
  enum page fault;
};

struct h2_request {
  struct http_end end;
  struct h2_conn *c;
  struct h2_request *prev, *next;
  int32_t id; /* 0: HTTP/2 is done with it */
  struct loop_task step;
  struct http_track track;
  struct http_head trailers;     /* of the request, until the body before them was taken */
  struct http_head out_trailers; /* of the response */
  struct evbuffer *in, *out;     /* body bytes: received and not taken; written and not sent */
  size_t in_held, out_held;      /* charged to the pool */
  uint32_t window;       /* what the visitor may send ahead; beyond the first it is taken from the pool */
  size_t drained;        /* of it, since `since` */
  uint64_t since, moved; /* ms; `moved`: response bytes last left */
  uint64_t left;         /* of the response, when it has a length */
  enum page fault;       /* of the head: answered with this page */
  enum page failing;     /* the peer broke the rules: fail the exchange, once off its stack */
  char *key;             /* Sec-WebSocket-Key that we made */
  unsigned depth;
  unsigned fresh : 1, more : 1;
  unsigned json : 1, no_body : 1, has_length : 1;
  unsigned asks : 1, upgraded : 1;
  unsigned has_trailers : 1, has_out_trailers : 1;
  unsigned read_whole : 1; /* END_STREAM came */
  unsigned req_closed : 1; /* our request ended, or the peer said stop */
  unsigned answered : 1;   /* a final head went out */
  unsigned resp_done : 1;
  unsigned fin_sent : 1;
  unsigned deferred : 1;  /* the engine waits for resume_data */
  unsigned want_room : 1; /* the peer was told that there is none */
  unsigned wake : 1;      /* ... and is told now that there is */
  unsigned gone : 1;      /* the visitor reset it */
  unsigned dead : 1;      /* freed by the last to leave */
};

struct h2_conn {
  struct front base;
  struct stream *s;
  struct front_conf conf;
  nghttp2_session *ng;
  struct evbuffer *out; /* frames that s has not taken */
  struct loop_task flush;
  struct loop_timer timer;
  struct h2_request *requests;
  unsigned requests_n;
  struct h2_head head;
  int32_t head_id;      /* the stream whose head is being received; 0: none, or a refused one */
  size_t block;         /* bytes of that block, refused or not */
  uint64_t block_since; /* ms; 0: none is under way */
  size_t room;          /* of s, while flushing */
  size_t waiting,
      owed; /* body bytes received and not taken, of all requests; of them without credit of the connection */
  uint64_t heard, idle_since, pinged, last_at; /* ms; pinged, last_at: 0: not */
  uint64_t tokens_at, reset_second;
  unsigned tokens, resets; /* floods: what is left of the allowance; resets within this second */
  unsigned depth;
  int kill; /* die with this, once off the stack */
  unsigned dead : 1, saw_settings : 1, last : 1, said_last : 1, draining : 1, calm : 1;
};

/* h2_front.c */
void h2_conn_leave(
    struct h2_conn
        *c); /* whoever counted an entry in c->depth; the last one to leave frees a dead connection */
void h2_conn_flush_soon(struct h2_conn *c);
void h2_conn_kill(struct h2_conn *c, int reason); /* once off the stack */
bool h2_conn_spend(struct h2_conn *c); /* a frame that costs us and helps nobody; false: too many of them */
bool h2_conn_full(struct h2_conn *c);  /* no slot for another request */

/* h2_engine.c */
int h2_engine_new(struct h2_conn *c);
int h2_engine_feed(struct h2_conn *c, const uint8_t *p, size_t n); /* 0, or why the connection dies */
void h2_engine_reset(struct h2_conn *c, int32_t id, uint32_t code);
int h2_engine_respond(struct h2_request *r, const struct http_head *h, bool more); /* NOMEM, TOO_LARGE */
int h2_engine_inform(struct h2_request *r, const struct http_head *h);
void h2_engine_credit(struct h2_request *r, size_t n); /* n bytes of the request's body were taken */
void h2_engine_window(struct h2_request *r, uint32_t window);

/* h2_request.c */
struct h2_request *h2_request_new(struct h2_conn *c, int32_t id);
void h2_request_soon(struct h2_request *r);
void h2_request_received(struct h2_request *r);            /* r->in grew */
void h2_request_sent(struct h2_request *r);                /* r->out shrank, or the end left */
void h2_request_over(struct h2_request *r, uint32_t code); /* HTTP/2 is done with it */
void h2_request_abandon(struct h2_request *r);             /* the connection goes: free it now */
void h2_request_tick(struct h2_request *r, uint64_t now, bool low);

/* h2_head.c */
void h2_head_add(struct h2_head *h, struct span name, struct span value);
void h2_head_clear(struct h2_head *h);
/* Clears h. A request's head as HTTP/1 has it; an extended CONNECT becomes the GET it stands for, *key its Sec-WebSocket-Key (to be freed). 0 or the page that answers it. */
enum page h2_head_request(struct h2_head *h, bool tls, struct http_head *out, char **key);
enum page h2_head_trailers(struct h2_head *h, struct http_head *out);
/* Fields as HTTP/2 has them: lower case, nothing of one connection. `status` 0: trailers. *text is freed by the caller. NOMEM, TOO_LARGE. */
enum { H2_HEAD_NV = LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS + 2 };
int h2_head_fields(const struct http_head *h, uint16_t status, nghttp2_nv nv[H2_HEAD_NV], size_t *n,
                   char **text);

#endif
