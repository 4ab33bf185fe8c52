/* visitor.h: a fresh connection, from its first byte to the room that takes it over.
 *
 *   SNIFF ─┬─ TLS, ALPN beam/1 ─► TLS_AGENT ─► session_accept()
 *          ├─ TLS, name on another worker ─► its descriptor is given away (once)
 *          ├─ TLS ─► TLS_VISITOR ─► FRONT (HTTP/2 or 1, by ALPN)          QUIC, ALPN h3 ─► FRONT (HTTP/3)
 *          ├─ HTTP/1 ─► FRONT (plain: served, or redirected to https)
 *          └─ garbage, too slow, too many ─► closed and counted
 */
#ifndef RELAY_VISITOR_H
#define RELAY_VISITOR_H

#include "relay/relay.h"

/* A connection that came to a listener of this worker (tls: a TLS port) from peer to `local`, which is text. Takes s. `given`: it came from another worker and stays here. */
void visitor_new(struct worker *w, struct stream *s, const struct sockaddr_storage *peer, const char *local,
                 uint16_t local_port, bool tls, bool given);
/* What came through a WebSocket (wslink.h), as if on a TLS port, but only an agent's beam/1 is let in: so that nobody nests connections. Takes s. */
void visitor_link(struct worker *w, struct stream *s, const struct sockaddr_storage *peer,
                  uint16_t local_port);
struct quic_conn;
/* A QUIC connection that agreed on h3. Takes q. */
void visitor_quic(struct worker *w, struct quic_conn *q, uint16_t local_port);
void visitor_end_all(struct worker *w);
/* Another request begins: while memory is short, the response of this worker that stalled longest makes room for it. */
void visitors_make_room(struct worker *w);

/* The relay goes away: what the connections of this worker do, and that their next request is their last; then idle ones are closed.
 * An agent's link through WebSocket counts as neither busy nor idle: it ends with its session. */
void visitors_count(struct worker *w, unsigned *busy, unsigned *idle); /* adds */
void visitors_last(struct worker *w);
void visitors_drain(struct worker *w);

#endif
