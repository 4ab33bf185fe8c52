/* listen_quic.h: agents that come by QUIC, on the same port numbers as the TLS listeners. */
#ifndef RELAY_LISTEN_QUIC_H
#define RELAY_LISTEN_QUIC_H

#include "relay/relay.h"

/* The key that connection ids, resets and Retry tokens are made with: in the data directory, so that a restarted relay can tell agents that their
 * connection is gone. Makes it at the first start. */
int quic_key_load(struct relay *r, struct beam_error *err);
/* One endpoint for each TLS listener of this worker. A port whose UDP side somebody else has is left to TCP, with a warning. */
int quic_listen(struct worker *w, struct beam_error *err);
void quic_unlisten(struct worker *w);
/* The settings are others now: links that begin from now on. */
void quic_congestion(struct worker *w);

#endif
