/* udp_port.h: a public UDP port of this worker, whose visitors go to one name: the sockets, and flows.h for who comes. Beside raw.h's TCP ports, and like them:
 * the port opens on the worker of the agent's session, so that a flow's stream, and its datagrams, need no other worker.
 */
#ifndef RELAY_UDP_PORT_H
#define RELAY_UDP_PORT_H

#include "relay/relay.h"

struct udp_port;
/* On every address the relay has TLS listeners on; *out becomes NULL when udp_ports_close() closes it. IN_USE also for a port that the relay itself has. */
int udp_port_open(struct worker *w, uint16_t port, const char *name, struct udp_port **out);
void udp_port_close(struct udp_port *p); /* NULL is accepted */
/* The session is gone and may come back, here or on another worker: visitors are still heard for RAW_LINGER_MS. NULL is accepted. */
void udp_port_linger(struct udp_port *p);
/* The route of this name changed. */
void udp_ports_wake(struct worker *w, const char *name);
void udp_ports_close(struct worker *w);

#endif
