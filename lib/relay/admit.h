/* admit.h: how much strangers may have at once: connections and requests of one address (IPv4 whole, IPv6 by the /64 that one subscriber has), requests and
 * connections of one tunnel. One table for the whole relay. It has a row for each address that has a connection, so it is bounded by those.
 *
 *   connection ── admit_enter ──► guest ── admit_request ──► ticket, held until the exchange is over
 *
 * The table is locked when a connection begins and when it ends; requests only count atomically. A guest and its tickets belong to one thread.
 */
#ifndef RELAY_ADMIT_H
#define RELAY_ADMIT_H

#include "http/pages.h"
#include "relay/relay.h"

struct admit_key {
  uint8_t family;
  uint8_t prefix[8]; /* IPv4: four bytes; IPv6: the /64 */
};
/* False: an address that is not counted: loopback (a web server in front of us, tests), unix. */
bool admit_key_of(const struct sockaddr_storage *peer, struct admit_key *k);

int admit_new(struct admit **out);
void admit_free(struct admit *a);
size_t admit_addresses(struct admit *a); /* rows there are */

/* One more connection from there; `most` of them. False: too many, or no memory. */
bool admit_enter(struct admit *a, const struct sockaddr_storage *peer, unsigned most);
void admit_leave(struct admit *a, const struct sockaddr_storage *peer);

/* The same for a connection that brings requests. NULL: as false. */
struct admit_guest *admit_guest_new(struct admit *a, const struct sockaddr_storage *peer, unsigned most);
void admit_guest_unref(struct admit_guest *g); /* NULL accepted; it leaves with the last reference */

struct admit_ticket {
  struct admit_guest *guest;
  struct route_stats *stats;
};
/* One more request of this guest to this tunnel (stats: its route's). 0 and a ticket, or the page that refuses it. */
enum page admit_request(struct admit_guest *g, unsigned most, struct route_stats *stats, unsigned tunnel_most,
                        struct admit_ticket *out);
void admit_return(struct admit_ticket *t); /* an empty one, and one that was returned, are nothing */

/* Refusals by reason, for the metrics. */
enum admit_refusal {
  ADMIT_RELAY,
  ADMIT_ADDRESS,
  ADMIT_REQUESTS,
  ADMIT_TUNNEL,
  ADMIT_TUNNEL_CONNECTIONS,
  ADMIT_REFUSALS
};
extern const char *const admit_refusal_names[ADMIT_REFUSALS];
void admit_refused(struct relay *r, enum admit_refusal why);

#endif
