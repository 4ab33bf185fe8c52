/* handover.h: a relay's successor, another process on the same data directory, gets its listening sockets and its routes, and the relay drains.
 *
 *   successor ─ connects to DATA/handover.sock ─────────────► relay
 *            ◄─ descriptors: a text (see handover.c), then a socket for each of its lines that speaks of one
 *      starts: accepts on the same sockets; a visitor of a name it knows and has no agent for yet waits
 *            ─ "g" ─────────────────────────────────────────► drains: stops accepting, tells its agents
 *            ◄─ "b", and the end of the connection when the process has ended: only then is QUIC listened to, because the packets of the
 *               links that the older relay still has come to whoever has the port
 *
 * Nothing is lost in between: a socket's backlog belongs to both. When the successor fails before "g", nothing has happened.
 */
#ifndef RELAY_HANDOVER_H
#define RELAY_HANDOVER_H

#include "relay/relay.h"

enum {
  HANDOVER_WAIT_MS =
      10000, /* a request waits so long for an agent that is on its way from the relay before us */
  HANDOVER_FOR_MS = 30000, /* ... for as long as agents may come: as long as streams get to end there */
};

/* Before the listeners: take what a running relay has. 0 also when there is none (r->handover.taken tells). Errors with text. */
int handover_take(struct relay *r, struct beam_error *err);
/* Before the threads: sockets that no listener of ours asked for go to those that have the same address; routes become known. */
int handover_apply(struct relay *r, struct beam_error *err);
/* The threads run: let the relay before us go, and offer the same to the one after us. */
void handover_go(struct relay *r);
/* A socket for this address, or -1. kind: 't' TLS, 'p' plain, 'r' a TCP tunnel's. Port 0: any. Any thread. */
int handover_socket(struct relay *r, char kind, const char *host, uint16_t port);
/* What nobody asked for within the first sweep is closed. */
void handover_sweep(struct relay *r);
void handover_close(struct relay *r); /* on worker 0's loop */
void handover_fini(struct relay *r);
/* How long a request waits for a link. */
uint32_t handover_wait_ms(struct worker *w);

#endif
