/* wslink.h: an agent's link through WebSocket, on any host name and any port of ours: GET /_beam/link is answered by the relay itself.
 *
 *   visitor ─► TLS (proves nothing) or none ─► h1 front ─► dispatch ─► wslink: 101 ─► ws stream ─► visitor_link() ─► beam/1's own TLS ─► session
 *
 * A web server in front (nginx, Caddy) ends the outer TLS; the address counted and logged is then the web server's.
 */
#ifndef RELAY_WSLINK_H
#define RELAY_WSLINK_H

#include "http/exchange.h"
#include "relay/dispatch.h"

/* Is it for this file? Whatever its host and method. */
bool wslink_asked(const struct http_head *h);
void wslink_request(const struct visit *v, struct http_end *front, const struct http_head *h, bool more);
/* Is this finished exchange one of ours? Then it is nobody's traffic. */
bool wslink_was(const struct http_record *r);

#endif
