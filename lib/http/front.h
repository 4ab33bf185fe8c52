/* front.h: a visitor's connection, whatever version of HTTP it speaks: requests come off it, each becomes an exchange.
 *
 *   h1_front.h: HTTP/1.1, one request after the other        h2_front.h: HTTP/2, up to a hundred at once
 */
#ifndef HTTP_FRONT_H
#define HTTP_FRONT_H

#include "base/limits.h"
#include "http/exchange.h"
#include "io/stream.h"

struct front;

struct front_ops {
  void (*drain)(struct front *f);
  void (*last)(struct front *f);
  bool (*busy)(const struct front *f);
  uint64_t (*stalled)(const struct front *f);
  void (*shed)(struct front *f);
  void (*abort)(struct front *f, int reason);
};

struct front {
  const struct front_ops *ops;
};

struct front_conf {
  bool tls;                           /* scheme for heads */
  const struct http_handler *handler; /* outlives the front */
  void (*closed)(
      void *user,
      struct front *f); /* it freed itself; for the owner's list and counters. From the task queue */
  void *user;
  unsigned body_rate; /* bytes a second that a request's body must have until its answer begins; 0: any */
};

/* Does the visitor send its body fast enough? Asked every few seconds of a request whose answer has not begun. */
struct front_pace {
  uint64_t since;  /* ms: until when it was */
  uint64_t passed; /* of the body, then */
};
/* `owes`: the visitor is who is waited for, not the service. False: too slow for LIMIT_BODY_MS. */
static inline bool front_in_time(struct front_pace *p, unsigned rate, uint64_t passed, bool owes,
                                 uint64_t now) {
  if (owes && (passed - p->passed) * 1000 < rate * (now - p->since))
    return now - p->since < LIMIT_BODY_MS;
  *p = (struct front_pace){now, passed};
  return true;
}
/* gRPC keeps a request open to say something later: it is never slow. */
static inline bool front_may_be_slow(const struct http_head *h) {
  const struct http_field *f = http_field_find(h, "content-type");
  return f && f->value.n >= 16 && span_ieq((struct span){f->value.p, 16}, SPAN("application/grpc"));
}

/* Finish: idle closes now, busy after what is in flight, and says so (Connection: close, GOAWAY). */
static inline void front_drain(struct front *f) {
  f->ops->drain(f);
}
/* What is under way, or the next request, is the last. An idle connection stays until it comes. */
static inline void front_last(struct front *f) {
  f->ops->last(f);
}
/* A request was read and is not answered to its end. */
static inline bool front_busy(const struct front *f) {
  return f->ops->busy(f);
}
/* Milliseconds for which nothing of a response could be written that waits for this visitor; of several the longest; 0: none waits. */
static inline uint64_t front_stalled(const struct front *f) {
  return f->ops->stalled(f);
}
/* Give that one up: what it holds is free a turn later. */
static inline void front_shed(struct front *f) {
  f->ops->shed(f);
}
/* At once; closed() does not come. handler->finished() may, during the call. */
static inline void front_abort(struct front *f, int reason) {
  f->ops->abort(f, reason);
}

#endif
