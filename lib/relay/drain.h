/* drain.h: a relay that goes away without losing a request.
 *
 *   UP ── relay_drain() ──► OPEN: agents are told to get their next link; visitors are served on, with Connection: close
 *                            │ nothing is under way, or time is nearly up, or a successor has our sockets (handover.h)
 *                            ▼
 *                           SHUT: no listeners; what is under way goes on to its end, idle connections are closed after a moment
 *                            │ nothing is left, or time is up
 *                            ▼
 *                           FLUSH: agents are let go, sockets send their last bytes ──► DONE: the event "drained"; the owner stops the relay
 *
 * Worker 0 decides, each worker does its part and counts what it has under way, all on timers of their own: nobody waits for anybody.
 */
#ifndef RELAY_DRAIN_H
#define RELAY_DRAIN_H

#include "relay/relay.h"

enum drain_state { DRAIN_UP = 0, DRAIN_OPEN, DRAIN_SHUT, DRAIN_FLUSH, DRAIN_DONE };

/* Any thread. `ms`: live streams are cut after it. `successor`: another process accepts on our sockets. No-op when it drains already. NOMEM, CLOSED. */
int drain_start(struct relay *r, uint32_t ms, bool successor);
/* New sessions and tunnels are refused, new connections are the last of their kind. */
static inline bool drain_begun(struct relay *r) {
  return atomic_load(&r->drain.state) != DRAIN_UP;
}
void drain_worker_close(struct worker *w);

#endif
