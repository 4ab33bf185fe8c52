/* frame.h: exchange frames, how one HTTP exchange crosses a link's stream. Pure. lib/link/PROTOCOL.md is the written form.
 *
 *   frame = type (1 byte), length (3 bytes, big endian), payload
 *   HEAD      a head (below); request from relay to agent, response the other way; once in each direction
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
enum { FRAME_HEADER = 4, FRAME_MAX = 0xffffff, FRAME_DATA_MAX = 64 * 1024 };

struct frame {
  enum frame_type type;
  size_t length; /* payload */
};
/* Reads a frame header at p. FRAME_HEADER; 0: need more; PROTOCOL: unknown type or a length its type does not permit. */
long frame_decode(const uint8_t *p, size_t n, struct frame *out);
void frame_encode(uint8_t p[FRAME_HEADER], enum frame_type type, size_t length);

/* The payload of HEAD, INFO or TRAILERS. Copies. 0; PROTOCOL; NOMEM. Validates as strictly as the h1 parser: no CR, LF, NUL in values, token names. */
int frame_head_decode(const uint8_t *p, size_t n, struct http_head *out);
struct evbuffer;
int frame_head_write(struct evbuffer *out, enum frame_type type,
                     const struct http_head *h); /* header and payload; NOMEM, TOO_LARGE */

#endif
