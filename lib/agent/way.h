/* way.h: which transport worked last, by relay and network: a laptop that comes back to the office need not find out anew that UDP is blocked there.
 * One small file in the data directory; losing it costs a second at the next start.
 */
#ifndef AGENT_WAY_H
#define AGENT_WAY_H

#include <stddef.h>

enum { WAY_NETWORK = 96 };

/* The network this machine is in, by its default route: interface and gateway, "-" when there is none. */
void way_network(char out[WAY_NETWORK]);
/* The same from the texts of /proc/net/route and /proc/net/ipv6_route; pure. */
void way_network_of(const char *routes, const char *routes6, char out[WAY_NETWORK]);

/* The word remembered for relay ("host:port") and network, into out. 0; NOT_FOUND; as file_read. */
int way_recall(const char *dir, const char *relay, const char *network, char *out, size_t cap);
/* Remember it; the file is written only when something changes. The 64 last are kept. Errors as file_write; INVALID: a text with blanks. */
int way_remember(const char *dir, const char *relay, const char *network, const char *word);

#endif
