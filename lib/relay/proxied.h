/* proxied.h: connections that come through a load balancer of ours (proxy_from): it says in a PROXY protocol header, before anything else, who the visitor is.
 *
 *   accepted ── from a balancer? ──► header is read ──► visitor.c or raw.c, as if the visitor had come by itself
 *            └─ from elsewhere ──► visitor.c or raw.c
 */
#ifndef RELAY_PROXIED_H
#define RELAY_PROXIED_H

#include "relay/relay.h"

/* A connection just accepted. `tunnel`: of a public TCP port, its name; NULL: of a listener, on `port`, which has TLS or not. Takes s. */
void proxied_accept(struct worker *w, struct stream *s, const struct sockaddr_storage *peer,
                    const char *tunnel, uint16_t port, bool tls);
void proxied_close_all(struct worker *w);

#endif
