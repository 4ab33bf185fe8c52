/* flows.h: the visitors of one UDP tunnel. UDP knows no connections, so a flow is made of what comes from one address and port, and time ends it.
 *
 *   datagram of a stranger ─► NEW ─ answered, and the visitor spoke again ─► CONVERSATION
 *                              │ silent for LIMIT_UDP_NEW_MS, or in the way   │ silent for LIMIT_UDP_IDLE_MS
 *                              ▼                                              ▼
 *                             ended: its stream of the link is finished  ◄────┴─── the agent ended it
 *
 * A flow without a link keeps its place and a few datagrams; the next one, or the next link, opens a stream again.
 * Only a visitor's datagram makes a flow, so nothing leaves towards an address that was not heard from, and nothing is said by Beam itself.
 * What fills the table are addresses that may be forged: those that only ever asked (NEW) make room for others, oldest first; conversations do not.
 */
#ifndef RELAY_FLOWS_H
#define RELAY_FLOWS_H

#include <stdatomic.h>

#include "io/stream.h"
#include "io/udp.h"

struct flows;

/* Why a datagram was lost. */
enum flow_drop {
  FLOW_DROP_FULL,   /* no room for another flow: of the tunnel, the relay, or that address */
  FLOW_DROP_RATE,   /* too many new flows a second */
  FLOW_DROP_AWAY,   /* no link just now, or no tunnel any more */
  FLOW_DROP_LINK,   /* the link has no room */
  FLOW_DROP_SOCKET, /* the kernel did not take it */
  FLOW_DROPS
};
extern const char *const flow_drop_names[FLOW_DROPS];

/* Of a whole relay; any thread. */
struct flow_counts {
  _Atomic int64_t now;
  _Atomic uint64_t flows, in, out, dropped[FLOW_DROPS];
};

struct flows_conf {
  struct loop *loop;
  uint32_t idle_ms, new_ms; /* 0: the limits; new_ms is never more than idle_ms */
  unsigned max, rate;       /* 0: the limits */
  /* A stream for this visitor, StreamOpen written. *beside: the agent is at the stream's very end, so datagrams may go beside it. AGAIN: no link just
   * now; anything else ends the flow. */
  int (*open)(void *user, const struct sockaddr_storage *peer, const struct sockaddr_storage *local,
              bool *beside, struct stream **out);
  /* Whether one more flow of that address may be; and it is over. Either may be NULL. */
  bool (*enter)(void *user, const struct sockaddr_storage *peer);
  void (*leave)(void *user, const struct sockaddr_storage *peer);
  void (*ended)(void *user, uint64_t in, uint64_t out, int reason); /* bytes; may be NULL */
  struct flow_counts *counts;
  void *user;
};

int flows_new(const struct flows_conf *conf, struct flows **out); /* NOMEM */
/* A visitor's datagram on u; from the poll. */
void flows_packet(struct flows *fs, struct udp *u, const struct udp_packet *p);
void flows_wake(struct flows *fs); /* there is a link again */
unsigned flows_count(const struct flows *fs);
void flows_free(struct flows *fs); /* ends them all; before the sockets are closed. NULL is accepted */

#endif
