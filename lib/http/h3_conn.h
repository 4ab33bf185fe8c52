/* h3_conn.h: what the two files of the HTTP/3 front share. h3_front.c: the connection's life, its QUIC streams, time. h3_engine.c: nghttp3 and what it reports.
 *
 *   QUIC stream ── bytes ──► nghttp3 ── fields, data ──► mux_request          mux_request.out ──► nghttp3 ── frames ──► QUIC stream
 *
 * A QUIC stream is fed to nghttp3 only while its request has room for what comes of it: so back-pressure is QUIC's own credit.
 */
#ifndef HTTP_H3_CONN_H
#define HTTP_H3_CONN_H

#include <nghttp3/nghttp3.h>

#include "http/mux.h"
#include "quic/quic.h"

enum { H3_CONN_TICK_MS = 5000, H3_CONN_LAST_MS = 1000 };

struct h3_request {
  struct mux_request r;
  struct h3_stream *st;
  uint8_t *
      block; /* response bytes that nghttp3 points at: they leave in the same turn, or stay until the stream takes them */
  size_t block_n, block_acked;
  bool malformed;
};

/* A QUIC stream of the connection: a request's, control, QPACK's, or one we know nothing of. */
struct h3_stream {
  struct h3_conn *c;
  struct h3_stream *prev, *next;
  struct stream *s;
  int64_t id;
  struct h3_request *request;
  bool bidi, local;
  bool fed_end; /* nghttp3 knows that it ended */
};

struct h3_conn {
  struct mux_conn m;
  struct quic_conn *q;
  nghttp3_conn *ng;
  struct h3_stream *streams;
  struct loop_task flush;
  struct loop_timer timer;
  struct mux_head
      head; /* of the one stream that is being fed: no field section waits for another stream (QPACK blocks none) */
  uint64_t last_at, reset_second;
  int kill;
  bool said_last;
};

/* h3_front.c */
void h3_conn_flush_soon(struct h3_conn *c);
void h3_conn_kill(struct h3_conn *c, int reason); /* once off the stack */
struct h3_stream *h3_stream_find(struct h3_conn *c, int64_t id);
void h3_stream_close(struct h3_stream *st, int reason); /* HTTP is done with it */
void h3_stream_feed_soon(struct h3_stream *st);

/* h3_engine.c */
extern const struct mux_engine h3_engine;
int h3_engine_new(struct h3_conn *c);
int h3_engine_bind(struct h3_conn *c, int64_t control, int64_t encoder, int64_t decoder);
long h3_engine_feed(struct h3_stream *st, const uint8_t *p, size_t n,
                    bool end);          /* 0, or why the connection dies */
int h3_engine_write(struct h3_conn *c); /* all there is room for. 0, or why the connection dies */

#endif
