/* ws.h: WebSocket (RFC 6455): the upgrade's fields, and frames. Pure: bytes in, values out. Strict: what breaks a MUST of the standard is refused.
 *
 * No extension is ever negotiated, so the reserved bits are always zero. What Beam sends through it are binary messages of one frame each.
 */
#ifndef WIRE_WS_H
#define WIRE_WS_H

#include "wire/http.h"

enum {
  WS_HEADER_MAX = 14,
  WS_CONTROL_MAX = 125, /* payload of a control frame, RFC 6455 5.5 */
  WS_KEY_SIZE = 25,     /* base64 of 16 bytes, and a NUL */
  WS_ACCEPT_SIZE = 29,  /* base64 of a SHA-1, and a NUL */
};

enum ws_op { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

/* Status codes of a close, RFC 6455 7.4.1. */
enum {
  WS_CODE_NORMAL = 1000,
  WS_CODE_PROTOCOL = 1002,
  WS_CODE_UNSUPPORTED = 1003, /* text, where only binary means something */
  WS_CODE_NONE = 1005,        /* never sent: the frame had none */
  WS_CODE_TOO_LARGE = 1009,
};

struct ws_frame {
  bool fin, masked;
  uint8_t op; /* enum ws_op */
  uint8_t mask[4];
  uint64_t length; /* of the payload */
};

/* One frame's header. Its length; 0: need more; PROTOCOL: reserved bits or opcode, control frame cut in pieces or too long, a length that is not in its
 * shortest form or has the top bit. */
long ws_frame_decode(const uint8_t *p, size_t n, struct ws_frame *out);
/* The header's length. The frame is one that decode would take. */
size_t ws_frame_encode(uint8_t out[WS_HEADER_MAX], const struct ws_frame *f);
/* dst = src masked, or unmasked: the same thing. `at`: how many bytes of the payload came before these. dst may be src. */
void ws_mask(void *dst, const void *src, size_t n, const uint8_t mask[4], uint64_t at);

/* --- the frames of one direction --- */
struct ws_reader {
  bool masked;      /* they must be (a client's), or must not be (a server's) */
  bool in_frame;    /* header read, payload not all eaten */
  bool in_message;  /* a fragmented message is open */
  uint16_t code;    /* after WS_BAD: what to close with */
  uint64_t max;     /* bytes of one message */
  uint64_t message; /* of the current one, so far */
  uint64_t at;      /* payload bytes eaten of the frame */
  struct ws_frame f;
};
enum ws_what {
  WS_WHAT_MORE, /* feed more; what was not eaten comes again, in front */
  WS_WHAT_DATA, /* the next *data bytes are payload; of those that are there the caller takes some, and says how many with ws_reader_ate */
  WS_WHAT_CONTROL, /* a whole control frame r->f: its *data bytes of payload are there, and are taken all at once */
  WS_WHAT_BAD /* for good: r->code */
};
void ws_reader_init(struct ws_reader *r, bool masked, uint64_t max_message);
/* Look at p[0..n): *used bytes of header were eaten (the caller drains them). Binary messages only. WS_HEADER_MAX + WS_CONTROL_MAX bytes always suffice to get on. */
enum ws_what ws_reader_next(struct ws_reader *r, const uint8_t *p, size_t n, size_t *used, uint64_t *data);
void ws_reader_ate(struct ws_reader *r, uint64_t n);
/* Payload bytes as they were meant; call before ws_reader_ate. dst may be src. */
void ws_reader_unmask(const struct ws_reader *r, void *dst, const void *src, size_t n);
/* The code in an unmasked close frame's payload; WS_CODE_NONE when it is empty; PROTOCOL: malformed, or a code that must not be sent. */
int ws_close_code(const uint8_t *p, size_t n);

/* --- the upgrade (RFC 6455 4) --- */
void ws_key_make(char key[WS_KEY_SIZE], const uint8_t random[16]);
void ws_accept_make(char accept[WS_ACCEPT_SIZE], const char *key); /* of a key of 24 characters */
/* Server: is h a good opening for this subprotocol? 0 and its key (borrowed); UNSUPPORTED: no upgrade to WebSocket 13 at all (answer 426); INVALID: a bad one (400). */
int ws_request_check(const struct http_head *h, const char *protocol, struct span *key);
/* Client: does this response grant what was asked with that key? 0; REFUSED: another status than 101; PROTOCOL: a 101 that is not for us. */
int ws_response_check(const struct http_head *h, const char *key, const char *protocol);

#endif
