/* rig.h: a visitor, a front, an upstream and a scripted local service on a virtual loop; the relay's and the agent's half in one, or with exchange frames between them. */
#ifndef RIG_H
#define RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <beam/beam.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "http/exchange.h"
#include "http/forward.h"
#include "http/frames.h"
#include "http/h1_front.h"
#include "http/h2_front.h"
#include "http/h1_upstream.h"
#include "http/h2_upstream.h"
#include "io/mem.h"
#include "http/policy.h"
#include "http/rewrite.h"
#include "io/net.h"

/* The far end of a stream: keeps all it gets. */
struct peer {
  struct stream *s;
  struct evbuffer *got;
  bool ended, dead, slow; /* slow: does not read */
};
int peer_pair(struct loop *l, struct peer *p, struct stream **other);
void peer_own(struct peer *p, struct stream *s);
void peer_say(struct peer *p, const char *text); /* all of it must fit */
void peer_put(struct peer *p, const void *data, size_t n);
void peer_read(struct peer *p); /* a slow one reads what waits */
void peer_finish(struct peer *p);
void peer_reset(struct peer *p);
const char *peer_text(struct peer *p);  /* all it got so far, terminated */
const char *peer_since(struct peer *p); /* the same, and forgets it */
size_t peer_length(struct peer *p);
void peer_free(struct peer *p);

enum { RIG_SERVICES = 8 };
enum rig_way {
  DIRECT,
  FILTERED,
  FRAMES
}; /* FILTERED: with a filter between front and upstream; FRAMES: and with frames */

struct rig {
  struct net net; /* first: the fake network finds its rig by it */
  struct loop *loop;
  enum rig_way way;
  struct peer visitor;
  struct front *front; /* NULL once it closed */
  struct http_handler relay, agent;
  struct h1_pool *pool;
  struct h2_pool *pool2; /* not NULL: requests go here */
  struct http_dialer_net plain;
  bool chose_h1; /* after rig_over2(r, false): the service's choice */
  struct peer service[RIG_SERVICES];
  unsigned dials, gone, records, heads;
  int dial_err; /* every dial fails so; BEAM_AGAIN: it never ends */
  uint64_t dial_timeout;
  struct policy *policy;   /* the owner's rules; NULL: none, as at a relay */
  const char *address;     /* of the visitor, whom the rules are then asked about first; NULL: are not */
  enum page refused;       /* ... and what they said last */
  enum page answer_with;   /* the handler answers with this page */
  bool ignore;             /* the handler does nothing */
  struct peer *link_tap;   /* not NULL: the agent's end of the next frames stream is given here */
  struct http_record last; /* its spans are not valid */
  char last_method[16];
};

typedef int (*rig_front)(struct stream *s, const struct front_conf *conf, struct front **out);
struct rig *rig_new(enum rig_way way); /* with an HTTP/1 front */
struct rig *rig_new_with(enum rig_way way, rig_front front);
void rig_over2(struct rig *r, bool prior); /* the upstream is HTTP/2 from now on */
void rig_free(struct rig *r);
void rig_run(struct rig *r); /* until nothing is left to do now */
void rig_wait(struct rig *r, uint64_t ms);

/* Not 0: what the rig itself allocates must not fail now (test_nomem asks). */
extern int rig_calm;

#define ROWS(table) (sizeof(table) / sizeof *(table))

#endif
