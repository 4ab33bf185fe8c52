/* fresh.h: how many new names one address (IPv6 by /64) may get: devices cost nothing to make, so without this one stranger could use up all names.
 * All workers share it, under a lock: a bind is not on the way of the data. */
#ifndef RELAY_FRESH_H
#define RELAY_FRESH_H

#include "relay/relay.h"

int fresh_new(struct fresh **out);
void fresh_free(struct fresh *f); /* NULL is accepted */
/* Before a claim: may it get a new name? True counts it already. Loopback is free. now_ms: loop_now(). */
bool fresh_take(struct fresh *f, const struct sockaddr_storage *peer, uint64_t now_ms);
/* After a claim that was counted and got no new name. */
void fresh_give_back(struct fresh *f, const struct sockaddr_storage *peer);
void fresh_sweep(struct fresh *f, uint64_t now_ms);
size_t fresh_addresses(struct fresh *f);

#endif
