/* local_flows.h: the visitors of a UDP tunnel beside the local service: each has a socket of its own, so that the service sees them apart.
 *
 *   StreamOpen ─► RESOLVING (a name; literals and localhost at once) ─► OPEN ─► the stream ends, or LIMIT_UDP_AGENT_IDLE_MS of silence
 *                                                                       │ ▲
 *                                   "nobody is there" before any answer └─┘ the next address of localhost: ::1 and 127.0.0.1
 *
 * Nobody there is no end: the service may start a moment later, and the flow's next datagram finds it.
 */
#ifndef AGENT_LOCAL_FLOWS_H
#define AGENT_LOCAL_FLOWS_H

#include "agent/local.h"

struct local_flows;

/* conf is borrowed and outlives it. NOMEM. */
int local_flows_new(const struct local_conf *conf, struct local_flows **out);
/* A stream of kind UDP whose StreamOpen is read. Takes s. */
void local_flows_serve(struct local_flows *fs, struct stream *s, const beam_StreamOpen *open);
void local_flows_free(struct local_flows *fs); /* ends them all, no callback. NULL is accepted */

#endif
