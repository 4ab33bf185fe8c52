/* admit.h: what counts as one address of strangers: IPv4 whole, IPv6 by the /64 that one subscriber has. */
#ifndef RELAY_ADMIT_H
#define RELAY_ADMIT_H

#include "relay/relay.h"

struct admit_key {
  uint8_t family;
  uint8_t prefix[8]; /* IPv4: four bytes; IPv6: the /64 */
};
/* False: an address that is not counted: loopback (a web server in front of us, tests), unix. */
bool admit_key_of(const struct sockaddr_storage *peer, struct admit_key *k);

#endif
