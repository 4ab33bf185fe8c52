/* peers.h: streams between workers: a request that arrived on one goes over the in-process link to the one that has the agent. */
#ifndef RELAY_PEERS_H
#define RELAY_PEERS_H

#include "relay/relay.h"

/* On w's loop: link it with the workers of a higher index; they get their end by themselves. */
int peers_connect(struct worker *w);
void peers_close(struct worker *w);

#endif
