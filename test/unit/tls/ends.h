/* ends.h: two TLS ends of ours over memory on a virtual clock, with a wire between them that tests can slow, count and cut. */
#ifndef TEST_ENDS_H
#define TEST_ENDS_H

#include "pki.h"
#include "tls/tls.h"

struct end {
  struct tls *shaking;
  struct stream *s; /* after the handshake */
  struct tls_info info;
  int err;                /* of the handshake; 1: not done */
  int closed;             /* reason, 0: alive */
  bool at_end;            /* the peer finished */
  bool hold;              /* do not read */
  size_t got;             /* bytes read ... */
  uint64_t hash;          /* ... and a running hash of them */
  unsigned char last[64]; /* the beginning of what came last */
  bool writable;
};

/* left ── lower[0] ══ wire ══ lower[1] ── right; the wire is two memory pairs and a pump. */
struct wire {
  struct stream *near[2], *far[2]; /* near: given to TLS; far: the pump's */
  struct loop_task task;
  size_t step;       /* bytes moved at a time */
  size_t carried[2]; /* by direction: 0 is left to right */
  size_t cut_after;  /* direction 1: then the rest is lost and the wire ends; 0: never */
};

struct world {
  struct loop *l;
  struct wire w;
  struct end client, server;
};

void world_open(struct world *w, struct tls_context *client, struct tls_context *server, size_t step);
void world_run(struct world *w); /* until nothing moves any more */
void world_close(struct world *w);
uint64_t end_hash(uint64_t hash, const void *p, size_t n);
extern const struct stream_events end_events;

#endif
