/* proxy.h: a dial that goes through a proxy, when there is one (wire/proxy.h says how one is chosen).
 *
 *   net_dial to the proxy ──► its talk ──► the stream, as if it had been dialled directly        PROXY_NONE: net_dial, and no more
 */
#ifndef IO_PROXY_H
#define IO_PROXY_H

#include "io/net.h"
#include "wire/proxy.h"

struct proxy_dial;

/* The outcome, from the task queue: a stream to own (err 0), or why not. `why` (never NULL, borrowed) is for a person, "" when err says it all: set, it
 * speaks of the proxy. */
typedef void (*proxy_cb)(void *user, struct stream *s, int err, const char *why);

/* Copies proxy. The time is for all of it. No cb after proxy_dial_cancel, and none when this fails. NOMEM, INVALID, as net_dial. */
int proxy_dial(struct net *n, struct loop *l, const struct proxy *proxy, const char *host, uint16_t port,
               uint64_t timeout_ms, proxy_cb cb, void *user, struct proxy_dial **out);
void proxy_dial_cancel(struct proxy_dial *d); /* NULL is accepted */

#endif
