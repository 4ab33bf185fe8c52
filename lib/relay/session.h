/* session.h: an agent's registration at this worker: one link, its tunnels. Links of one agent that share a name are sessions that share a route (route.h).
 *
 *   TLS stream ─► GREETING ─► UP ── Bind ─► tunnel CLAIMING (store) ─► PUBLISHING (all workers) ─► LIVE
 *                    │         └─ Unbind / superseded ─► tunnel ends, the name is GONE or someone else's
 *                    └─ refused, link lost ─► session_end(reason): names become AWAY
 */
#ifndef RELAY_SESSION_H
#define RELAY_SESSION_H

#include "relay/relay.h"

/* A TLS stream that speaks beam/1: link, greeting, session. Takes s. The peer counts towards its address as long as the session lives. */
void session_accept(struct worker *w, struct stream *s, const char *addr,
                    const struct sockaddr_storage *peer);
/* The same for a link of any transport. Takes k. */
void session_start(struct worker *w, struct link *k, const char *addr, const struct sockaddr_storage *peer);
/* A data stream to the agent of this session. NOT_FOUND: it is not here (any more); else as link_open(). */
int session_open(struct worker *w, uint64_t id, struct stream **out);
/* The name was taken from this session: `how` of struct route_effect. */
void session_lost_name(struct worker *w, uint64_t id, const char *name, int how);
/* Tell every agent of this worker to get its next link, within after_ms; `to`: at that relay, "": here. */
void session_drain_all(struct worker *w, uint32_t after_ms, const char *to);
/* Agents of this worker that have not said that they have their next link. */
unsigned session_staying(struct worker *w);
void session_end_all(struct worker *w, int reason);
/* What /_beam says of the session that has a name. False: not here. */
struct session_view {
  const char *device, *agent, *addr, *transport;
  unsigned streams;
  uint32_t rtt_ms;
};
bool session_view(struct worker *w, uint64_t id, struct session_view *out);

#endif
