/* raw.h: visitors whose bytes are not ours to read: TCP tunnels (a public port each) and TLS tunnels (by SNI, never decrypted).
 *
 *   visitor ─► WAITING (no link just now, LIMIT_LINK_WAIT_MS) ─► PIPED to a stream of the link ─► both ends done
 */
#ifndef RELAY_RAW_H
#define RELAY_RAW_H

#include "relay/relay.h"

/* Join the visitor's stream with the agent that has `name`. Takes s with whatever was received and not consumed. `sni` may be "". */
void raw_forward(struct worker *w, struct stream *s, const char *name, const char *sni,
                 const struct sockaddr_storage *peer, const char *local);
/* The same for a stream of another agent, who may: to a private tunnel. */
void raw_private(struct worker *w, struct stream *s, const char *name, const struct sockaddr_storage *peer);
/* The route of this name changed. */
void raw_wake(struct worker *w, const char *name);
void raw_close(struct worker *w);
unsigned raw_count(struct worker *w); /* visitors now */

/* A public port on this worker: its visitors go to `name`. *out becomes NULL when raw_ports_close() closes it. */
struct raw_port;
int raw_port_open(struct worker *w, uint16_t port, const char *name, struct raw_port **out);
void raw_ports_each(struct worker *w, void (*cb)(void *user, const char *host, struct listener *ls),
                    void *user);
void raw_ports_close(struct worker *w);
void raw_port_close(struct raw_port *p); /* NULL is accepted */
/* The session is gone and may come back, here or on another worker: visitors still get in for RAW_LINGER_MS and wait for it. NULL is accepted. */
void raw_port_linger(struct raw_port *p);
enum {
  RAW_LINGER_MS = 10000
}; /* a relay's restart or an agent's reconnect; beyond it a refusal is the better answer */

#endif
