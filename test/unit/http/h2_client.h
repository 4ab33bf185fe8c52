/* h2_client.h: an HTTP/2 visitor for the rig: nghttp2's client for what is right, frames written by hand for what is not. */
#ifndef H2_CLIENT_H
#define H2_CLIENT_H

#include <nghttp2/nghttp2.h>

#include "rig.h"

enum { H2_CLIENT_STREAMS = 256 };

struct h2_answer {
  int32_t id;
  int status; /* of the final head; 0: none yet */
  char fields
      [4096]; /* "name: value\n" of all heads and trailers; an informational one begins with its status */
  struct evbuffer *body;
  bool ended, closed;
  uint32_t code; /* it was closed with */
};

struct h2_client {
  struct rig *r;
  nghttp2_session *ng; /* NULL: all by hand */
  struct h2_answer answers[H2_CLIENT_STREAMS];
  unsigned answers_n;
  bool goaway;
  uint32_t goaway_code;
  bool manual; /* what comes is not given credit for */
  unsigned pings;
};

struct h2_client *h2_client_new(enum rig_way way);
void h2_client_free(struct h2_client *c);
void h2_client_run(struct h2_client *c); /* until nothing is left to do now, both ways */
void h2_client_wait(struct h2_client *c, uint64_t ms);

/* `text`: fields "name: value\n" beginning with the pseudo fields. body NULL: none; "": it comes with h2_client_data. */
struct h2_answer *h2_client_ask(struct h2_client *c, const char *text, const char *body);
struct h2_answer *h2_client_get(struct h2_client *c, const char *path);
void h2_client_data(struct h2_client *c, struct h2_answer *a, const char *text, bool end);
size_t h2_client_unsent(struct h2_client *c, struct h2_answer *a); /* of what h2_client_data got */
void h2_client_trailers(struct h2_client *c, struct h2_answer *a, const char *text);
void h2_client_reset(struct h2_client *c, struct h2_answer *a);
const char *h2_client_body(struct h2_answer *a);
bool h2_client_has(struct h2_answer *a, const char *line); /* a whole line of its fields */

/* By hand. */
void h2_raw(struct h2_client *c, unsigned type, unsigned flags, int32_t id, const void *payload, size_t n);
size_t h2_raw_field(uint8_t *out, const char *name,
                    const char *value); /* literal, not indexed, not compressed */

#endif
