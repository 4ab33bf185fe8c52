/* resolve.h: host names to addresses. */
#ifndef IO_RESOLVE_H
#define IO_RESOLVE_H

#include <stddef.h>
#include <sys/socket.h>

#include "io/loop.h"

enum { RESOLVE_NOW = 2 };
/* What needs no asking: literals, and "localhost" in both families (RFC 6761 section 6.3), IPv6 first. 0: ask resolve_start(). */
size_t resolve_now(const char *host, uint16_t port, struct sockaddr_storage out[RESOLVE_NOW]);

/* By the system's resolver (hosts file, nsswitch, RFC 6724 order) on a thread of its own. */
struct resolve;
typedef void (*resolve_cb)(void *user, const struct sockaddr_storage *addrs, size_t n, int err);
/* cb comes from the loop, once; addrs is borrowed. NOMEM, LIMIT. */
int resolve_start(struct loop *l, const char *host, uint16_t port, resolve_cb cb, void *user,
                  struct resolve **out);
void resolve_cancel(struct resolve *r); /* before cb: it does not come */

#endif
