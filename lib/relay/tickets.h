/* tickets.h: the keys of TLS session tickets in the data directory, so that visitors resume after the relay restarts. */
#ifndef RELAY_TICKETS_H
#define RELAY_TICKETS_H

#include "relay/relay.h"

int tickets_load(struct relay *r,
                 struct beam_error *err); /* makes r->tickets; a missing or damaged file means fresh keys */
void tickets_save(
    struct relay
        *r); /* when they rotated since the last time; a failure is logged, visitors just handshake anew */

#endif
