/* flow.h: one visitor's datagrams over a link, at either end (PROTOCOL.md section 6). The stream is the flow's life; its end is the flow's end.
 *
 *   flow_send ─┬─ f->beside, and it fits a packet ─► a datagram of the link
 *              └─ else ─► on the stream, 2-byte length before it ─ no room ─► lost
 */
#ifndef LINK_FLOW_H
#define LINK_FLOW_H

#include "io/stream.h"

struct flow_events {
  void (*datagram)(void *user, const uint8_t *p, size_t n); /* borrowed; may close the flow */
  void (*closed)(void *user,
                 int reason); /* once, from the task queue; 0: in order. The stream is closed already */
};

struct flow {
  struct stream *s; /* NULL: none */
  const struct flow_events *ev;
  void *user;
  struct evbuffer *part; /* of a large datagram, as much as has come; NULL: there is none */
  size_t want;           /* its payload; what has come of it is charged to the pool */
  struct evbuffer *rest; /* of a large datagram that the stream took only a piece of; NULL: there is none */
  size_t charged;        /* of it, to the pool */
  bool *gone;            /* set when the flow is closed while its owner is told something */
  bool beside;           /* the far end takes datagrams beside the stream, and knows the flow by now */
};

/* Take s, whose StreamOpen is written, or read. */
void flow_own(struct flow *f, struct stream *s, const struct flow_events *ev, void *user);
/* 0: on its way. AGAIN: no room: it is lost. CLOSED, TOO_LARGE (over LIMIT_UDP_PAYLOAD), NOMEM: lost too. */
int flow_send(struct flow *f, const uint8_t *p, size_t n);
void flow_close(struct flow *f, int reason); /* no callback; also when there is no stream */

#endif
