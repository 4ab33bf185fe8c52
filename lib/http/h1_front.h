/* h1_front.h: an HTTP/1.1 server connection: parses requests off a stream, answers them in order. */
#ifndef HTTP_H1_FRONT_H
#define HTTP_H1_FRONT_H

#include "http/exchange.h"
#include "io/stream.h"

struct h1_front;

struct h1_front_conf {
  bool tls;                           /* scheme for heads */
  const struct http_handler *handler; /* outlives the front */
  void (*closed)(
      void *user,
      struct h1_front *f); /* it freed itself; for the owner's list and counters. From the task queue */
  void *user;
};

/* Takes s (also when it fails). Keep-alive, pipelining answered in order, Expect, upgrade; limits of LIMIT_HEAD_*. NOMEM. */
int h1_front_new(struct stream *s, const struct h1_front_conf *conf, struct h1_front **out);
/* Finish: idle closes now, busy after the response in flight (Connection: close). */
void h1_front_drain(struct h1_front *f);
/* The request under way, or the next one, is the last: its answer says Connection: close. An idle connection stays until it comes. */
void h1_front_last(struct h1_front *f);
bool h1_front_busy(const struct h1_front *f); /* a request was read and is not answered to its end */
/* At once; closed() does not come. handler->finished() may, during the call. */
void h1_front_abort(struct h1_front *f, int reason);

#endif
