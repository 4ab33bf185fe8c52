/* frame.h: exchange frames, how one HTTP exchange crosses a link's stream. Pure. lib/link/PROTOCOL.md is the written form.
 *
 *   frame = type (1 byte), length (3 bytes, big endian), payload
 *   HEAD      a head (below); request from relay to agent, response the other way; once in each direction. The frame after it comes with it and tells
 *             whether the message goes on: END does not, DATA (empty, when no bytes are there yet) does
 *   INFO      an informational response head (1xx but 101)
 *   DATA      body bytes; after a 101 or CONNECT: the upgraded connection's bytes
 *   TRAILERS  fields
 *   END       the message is complete; a FIN without it is a truncation
 *   STOP      no more request body wanted; the response goes on
 *   ERROR     u16 page code, big endian: the exchange failed; the relay renders the page when no head went out yet, else aborts
 *
 *   head = kind (0 request, 1 response, 2 trailers) then
 *          request:  method, scheme, authority, target      response: u16 status, reason
 *          then fields (name, value) to the end of the payload; every text is u16 length + bytes
 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include "base/limits.h"
#include "wire/http.h"

enum frame_type {
  FRAME_HEAD = 1,
  FRAME_INFO = 2,
  FRAME_DATA = 3,
  FRAME_TRAILERS = 4,
  FRAME_END = 5,
  FRAME_STOP = 6,
  FRAME_ERROR = 7
};
enum {
  FRAME_HEADER = 4,
  FRAME_DATA_MAX = 64 * 1024, /* payload of one DATA; longer bodies take more frames */
  FRAME_HEAD_MAX = LIMIT_HEAD_BYTES + LIMIT_HEAD_ADDED_BYTES, /* payload of HEAD, INFO and TRAILERS */
};

struct frame {
  enum frame_type type;
  size_t length; /* payload */
};
/* Reads a frame header at p. FRAME_HEADER; 0: need more; PROTOCOL: unknown type or a length its type does not permit:
 * END and STOP have none, ERROR has 2, HEAD, INFO and TRAILERS at least 1. An empty DATA is sent only directly after HEAD: the reader checks that. */
long frame_decode(const uint8_t *p, size_t n, struct frame *out);
void frame_encode(uint8_t p[FRAME_HEADER], enum frame_type type, size_t length);

/* The payload of HEAD, INFO or TRAILERS. Copies. 0; PROTOCOL; NOMEM. As strict as the h1 parser: names are tokens, values without control bytes, the authority a
 * host or empty, trailers without Host, Content-Length and Transfer-Encoding. The payload says itself what it is, and the caller must ask whether that is
 * what it waits for: request: method.n > 0; response: status > 0; trailers: neither. minor is 1: versions do not cross a link. */
int frame_head_decode(const uint8_t *p, size_t n, struct http_head *out);
struct evbuffer;
/* Header and payload: TRAILERS take the fields of h only; else status says whether h is a request or a response. NOMEM, TOO_LARGE. */
int frame_head_write(struct evbuffer *out, enum frame_type type, const struct http_head *h);

#endif
