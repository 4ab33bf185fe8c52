/* http.h: an HTTP message head as a value: request or response, whatever version carried it. Text lives in one block owned by the head. */
#ifndef WIRE_HTTP_H
#define WIRE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct http_field {
  struct span name; /* as received; compare with span_ieq */
  struct span value;
};

/* status == 0: a request; then an empty method means it is a trailer section. All spans point into memory of the head itself (http_head_copy, or the parser's own block). */
struct http_head {
  uint16_t status;       /* response only */
  uint8_t minor;         /* HTTP/1.minor of the sender: 0 or 1; 1 for every newer version */
  struct span method;    /* request only */
  struct span scheme;    /* request: "http" or "https", filled in by the front */
  struct span authority; /* request: from Host or :authority */
  struct span target;    /* request: path and query, or "*" */
  struct span reason;    /* response: may be empty */
  size_t fields_n;
  struct http_field *fields;
  void *block; /* what http_head_free frees */
};

/* How the body that follows is delimited in HTTP/1 (RFC 9112 section 6.3). */
enum http_body { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED, HTTP_BODY_CLOSE, HTTP_BODY_UPGRADE };

int http_head_copy(struct http_head *dst, const struct http_head *src); /* deep; NOMEM */
void http_head_free(struct http_head *h);                               /* accepts a zeroed head */
/* Make h own itself: its spans and its array of fields belong to someone else; copy what they point at into one block and point there. NOMEM: h->block stays NULL. */
int http_head_own(struct http_head *h);
/* The first field of that name, or NULL. */
const struct http_field *http_field_find(const struct http_head *h, const char *name);
/* True when the comma-separated list in any field `name` has `token` (case ignored), e.g. Connection: close. */
bool http_field_has_token(const struct http_head *h, const char *name, const char *token);

/* May this stand on the wire? A name is a token; a value has no control byte but HTAB, and no blank at either end. */
bool http_name_ok(struct span name);
bool http_value_ok(struct span value);
/* A request target in one of its forms: origin ("/x?y"), "*" for OPTIONS, an authority for CONNECT. */
bool http_target_ok(struct span method, struct span target);

/* Builds a head field by field; one growing block. After an error every later call does nothing and http_build_done reports it. */
struct http_build;
int http_build_new(struct http_build **out);
void http_build_request(struct http_build *b, struct span method, struct span scheme, struct span authority,
                        struct span target);
void http_build_status(struct http_build *b, uint16_t status, struct span reason);
void http_build_field(struct http_build *b, struct span name, struct span value);
/* Frees b. NOMEM; TOO_LARGE: over what a visitor may send (LIMIT_HEAD_*) plus what we may add (LIMIT_HEAD_ADDED_*); INVALID: a name or value that may not stand on the wire. */
int http_build_done(struct http_build *b, struct http_head *out);
void http_build_free(struct http_build *b);

#endif
