/* h1.h: HTTP/1.x heads and chunked bodies, pure: bytes in, struct out (RFC 9112). Strict: reject, never repair. */
#ifndef WIRE_H1_H
#define WIRE_H1_H

#include "wire/http.h"

/* Why a head was refused; the front turns it into 400/431/501/505 and a BEAM-code. */
enum h1_fault {
  H1_OK = 0,
  H1_FAULT_LINE,      /* request or status line malformed */
  H1_FAULT_VERSION,   /* not HTTP/1.0 or HTTP/1.1 */
  H1_FAULT_FIELD,     /* bad field name, no colon, a space before it */
  H1_FAULT_FOLD,      /* obs-fold: a line that begins with a blank */
  H1_FAULT_CONTROL,   /* control byte or NUL in a value */
  H1_FAULT_NEWLINE,   /* bare CR or LF */
  H1_FAULT_HOST,      /* missing, duplicate or invalid Host; absolute-form that disagrees */
  H1_FAULT_LENGTH,    /* duplicate, list or signed Content-Length */
  H1_FAULT_BOTH,      /* Content-Length with Transfer-Encoding */
  H1_FAULT_CODING,    /* any Transfer-Encoding but exactly "chunked", or in HTTP/1.0 */
  H1_FAULT_UPGRADE,   /* Upgrade with a body */
  H1_FAULT_TOO_LARGE, /* LIMIT_HEAD_BYTES */
  H1_FAULT_TOO_MANY,  /* LIMIT_HEAD_FIELDS */
  H1_FAULT_CHUNK,     /* bad chunk size, extension or terminator */
  H1_FAULT_NOMEM,
};
const char *h1_fault_text(enum h1_fault f);

struct h1_message {
  struct http_head head; /* hop-by-hop fields still in it */
  enum http_body body;   /* Content-Length: 0 is HTTP_BODY_NONE */
  uint64_t length;       /* HTTP_BODY_LENGTH: more than 0 */
  bool keep_alive;       /* the connection may be used again after this message */
  bool expect_100;       /* request: Expect: 100-continue */
  bool upgrade;          /* request: Connection: upgrade with an Upgrade field. response: status 101 */
};

/* Where the first empty line of p[from..n) ends, counted from p; 0: nowhere yet. A bare LF ends a line here, so that it is refused at once and not waited for. */
size_t h1_section_end(const char *p, size_t n, size_t from);
/* Is there a whole head in p[0..n)? Returns its length including the empty line; 0: need more (looks on from *scanned, which the caller keeps and zeroes
 * for each new head); TOO_LARGE when over LIMIT_HEAD_BYTES without an end. At most two empty lines before a request line are skipped (RFC 9112 2.2). */
long h1_head_length(const char *p, size_t n, size_t *scanned);
/* Parse one whole head (h1_head_length bytes). Copies what it keeps. On H1_OK the caller frees m->head; else *m is all zero.
 * Absolute-form is taken apart: target is the path, authority is Host's, which must agree. CONNECT keeps its authority as the target. scheme stays empty. */
enum h1_fault h1_parse_request(const char *p, size_t n, struct h1_message *m);
/* `method` of the request this answers (HEAD and CONNECT change the body). */
enum h1_fault h1_parse_response(const char *p, size_t n, struct span method, struct h1_message *m);

/* Chunked decoder: eats framing, leaves data to the caller. */
struct h1_chunked {
  int state;
  uint64_t
      left; /* data bytes of the current chunk still to come; while its size line is read, the size so far */
  size_t line;    /* bytes of the current line so far */
  size_t scanned; /* bytes of the trailer section looked at in vain: each is looked at once */
};
enum h1_chunk_what { H1_CHUNK_MORE, H1_CHUNK_DATA, H1_CHUNK_TRAILERS, H1_CHUNK_END, H1_CHUNK_BAD };
void h1_chunked_init(struct h1_chunked *c);
/* Look at p[0..n): *used bytes of framing were eaten (the caller drains them). DATA: the next *data bytes after them are body, the caller drains them and
 * calls h1_chunked_ate. TRAILERS: the next *data bytes are the whole trailer section without its final empty line (may be parsed with h1_parse_trailers), drained likewise.
 * END: the body is complete. MORE: feed more bytes; what was not eaten comes again, in front. BAD: H1_FAULT_CHUNK, for good.
 * No blank is taken on a size line outside of quotes, no bare LF anywhere. A body without trailers goes to END at once. */
enum h1_chunk_what h1_chunked_next(struct h1_chunked *c, const char *p, size_t n, size_t *used, size_t *data);
void h1_chunked_ate(struct h1_chunked *c,
                    size_t n); /* after DATA; after TRAILERS it may be called too, and does nothing */
/* Trailer fields, each line with its CR LF, no empty line. FIELD also for Host, Content-Length and Transfer-Encoding. */
enum h1_fault h1_parse_trailers(const char *p, size_t n, struct http_head *out);

/* --- writing --- */
struct evbuffer;
/* Append "GET /x HTTP/1.1\r\nHost: …" or "HTTP/1.1 200 OK\r\n…" with all fields as given and the empty line. NOMEM. (Caller has put framing fields in.) */
int h1_write_head(struct evbuffer *out, const struct http_head *h);
int h1_write_chunk_head(struct evbuffer *out, size_t n); /* "1f\r\n"; the caller appends n bytes and "\r\n" */
int h1_write_last_chunk(struct evbuffer *out, const struct http_head *trailers); /* trailers may be NULL */
const char *http_reason(uint16_t status); /* "Not Found"; "" when unknown */

#endif
