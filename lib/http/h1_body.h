/* h1_body.h: message bodies of HTTP/1 on a stream, the same for front and upstream: in (off a stream into an exchange) and out (into a stream).
 *
 *   stream_input ──h1_in_pump──► http_send_body(end) ══ exchange ══► ops->body ──h1_out_body──► pend ──► stream
 *
 * Both move bytes between buffers, and neither holds any back: `pend` has what the stream did not take, a head and a few bytes of framing at most.
 */
#ifndef HTTP_H1_BODY_H
#define HTTP_H1_BODY_H

#include "http/exchange.h"
#include "io/stream.h"
#include "wire/h1.h"

struct h1_in {
  enum http_body kind;
  uint64_t left;   /* LENGTH: of the body; CHUNKED: of the chunk */
  uint64_t passed; /* body bytes so far */
  struct h1_chunked chunked;
};

enum h1_pump {
  H1_PUMP_WAIT, /* for bytes */
  H1_PUMP_FULL, /* the peer has no room: it will say want() */
  H1_PUMP_END,  /* complete; the caller says http_send_end */
  H1_PUMP_BAD,  /* chunked coding or trailers are malformed */
  H1_PUMP_CUT,  /* the stream ended before the body did */
  H1_PUMP_GONE, /* the exchange is over */
};

void h1_in_start(struct h1_in *in, enum http_body kind, uint64_t length);
/* Give e's peer what s has and the peer takes; trailers too, but not the end. e NULL: read and drop. */
enum h1_pump h1_in_pump(struct h1_in *in, struct stream *s, struct http_end *e);

struct h1_out {
  struct stream *s;
  struct evbuffer *pend; /* written and not taken by s */
  enum http_body kind;
  uint64_t left;   /* LENGTH: bytes still promised */
  uint64_t passed; /* body bytes so far */
  bool last;       /* CHUNKED: the last chunk is written */
  int err;         /* NOMEM, or TOO_LARGE: more body than was promised. The owner aborts */
};

int h1_out_init(struct h1_out *o, struct stream *s); /* NOMEM */
void h1_out_fini(struct h1_out *o);
void h1_out_start(struct h1_out *o, enum http_body kind,
                  uint64_t length); /* a new message; its head is already in pend */
bool h1_out_flush(
    struct h1_out
        *o); /* true: pend is empty (or never will be: the stream is dead). False: writable() comes */
size_t h1_out_room(struct h1_out *o);
size_t h1_out_body(struct h1_out *o, struct evbuffer *from, size_t n);
void h1_out_trailers(struct h1_out *o, const struct http_head *h);
int h1_out_end(struct h1_out *o); /* 0; TRUNCATED: less body than was promised. Does not half-close */

/* A whole head in s->in? Its length, *p pointing at it in one piece; 0: not yet; TOO_LARGE. */
long h1_head_waiting(struct stream *s, size_t *scanned, const char **p);

#endif
