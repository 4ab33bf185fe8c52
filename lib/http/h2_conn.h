/* h2_conn.h: what the two files of the HTTP/2 front share. h2_front.c: the connection's life, its stream, time, floods. h2_engine.c: nghttp2 and what it reports. */
#ifndef HTTP_H2_CONN_H
#define HTTP_H2_CONN_H

#include <nghttp2/nghttp2.h>

#include "http/mux.h"

enum {
  H2_CONN_FRAME_DATA = 16 * 1024, /* DATA we send: what a small response waits for a large one */
  H2_CONN_TICK_MS = 5000,         /* everything slower than this is looked at so often */
  H2_CONN_LAST_MS = 1000, /* between "no new requests, please" and "none": a round trip of the slowest */
};

struct h2_request {
  struct mux_request r;
  uint32_t window; /* what the visitor may send ahead; beyond the first it is taken from the pool */
  size_t drained;  /* of it, since `since` */
  uint64_t since;  /* ms */
  bool deferred;   /* the engine waits for resume_data */
};

struct h2_conn {
  struct mux_conn m;
  struct stream *s;
  nghttp2_session *ng;
  struct evbuffer *out; /* frames that s has not taken */
  struct loop_task flush;
  struct loop_timer timer;
  struct mux_head head;
  int32_t head_id;                 /* the stream whose head is being received; 0: none, or a refused one */
  size_t block;                    /* bytes of that block, refused or not */
  uint64_t block_since;            /* ms; 0: none is under way */
  size_t room;                     /* of s, while flushing */
  size_t owed;                     /* of m.waiting: without credit of the connection */
  uint64_t heard, pinged, last_at; /* ms; pinged, last_at: 0: not */
  uint64_t tokens_at, reset_second;
  unsigned tokens; /* floods: what is left of the allowance */
  int kill;        /* die with this, once off the stack */
  unsigned saw_settings : 1, said_last : 1, calm : 1;
};

/* h2_front.c */
void h2_conn_flush_soon(struct h2_conn *c);
void h2_conn_kill(struct h2_conn *c, int reason); /* once off the stack */
bool h2_conn_spend(struct h2_conn *c); /* a frame that costs us and helps nobody; false: too many of them */
bool h2_conn_full(struct h2_conn *c);  /* no slot for another request */

/* h2_engine.c */
extern const struct mux_engine h2_engine;
int h2_engine_new(struct h2_conn *c);
int h2_engine_feed(struct h2_conn *c, const uint8_t *p, size_t n); /* 0, or why the connection dies */

#endif
