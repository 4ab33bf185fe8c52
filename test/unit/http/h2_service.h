/* h2_service.h: a local service over HTTP/2 for the rig, as a script: nghttp2's server for what is right, frames written by hand for what is not. */
#ifndef H2_SERVICE_H
#define H2_SERVICE_H

#include "h2_client.h"

enum { H2_SERVICE_CALLS = 256 };

struct h2_call {
  int32_t id;
  char fields[4096]; /* "name: value\n" of head and trailers */
  struct evbuffer *body, *out;
  bool ended, closed, open; /* open: the response goes on */
  uint32_t code;            /* it was closed with */
  const char *trailers;     /* sent after the body */
};

struct h2_service {
  struct h2_client *c; /* whose rig it is in */
  unsigned index;      /* of the rig's services: which connection */
  nghttp2_session *ng; /* NULL: by hand */
  struct h2_call calls[H2_SERVICE_CALLS];
  unsigned calls_n;
  bool goaway;
  bool manual; /* request bodies are not given credit for */
};

/* For the connection that was dialled as number `index`; most: MAX_CONCURRENT_STREAMS, 0: it does not say. */
struct h2_service *h2_service_new(struct h2_client *c, unsigned index, unsigned most);
void h2_service_free(struct h2_service *s);
void h2_run(struct h2_client *c, struct h2_service *const *all,
            unsigned n); /* until nothing is left to do now */

/* The rest of these runs h2_run() with s alone. */
void h2_service_run(struct h2_service *s);
/* `text`: fields, ":status: 200\n" first. body NULL: that was all; else it goes on with it, and ends unless `open`. */
void h2_service_say(struct h2_service *s, struct h2_call *k, const char *text, const char *body, bool open);
void h2_service_info(struct h2_service *s, struct h2_call *k, const char *text);
void h2_service_data(struct h2_service *s, struct h2_call *k, const char *text, bool open);
void h2_service_reset(struct h2_service *s, struct h2_call *k, uint32_t code);
void h2_service_raw(struct h2_service *s, unsigned type, unsigned flags, int32_t id, const void *payload,
                    size_t n);
bool h2_call_has(struct h2_call *k, const char *line);

#endif
