/* greet.h: HELLO and WELCOME, both roles: who is at the other end of this link, proven and bound to its TLS channel. Then liveness: PING and PONG. */
#ifndef LINK_GREET_H
#define LINK_GREET_H

#include "link/link.h"

/* After the greeting these two see every control message but PING/PONG, which the keeper answers itself. The greeter owns the link's events and forwards
 * control/stream/closed to `ev` with `user`; a silent peer (LIMIT_PONG_MS) or a flood (LIMIT_CONTROL_RATE) closes the link with TIMEOUT or LIMIT. */

struct device;         /* identity/: the agent's key */
struct relay_identity; /* identity/: the relay's signing key and CA fingerprint (helper "store" names the real type) */

struct greet_peer {
  uint8_t device_key[32]; /* relay side: the agent's device, proven */
  const char *token;      /* relay side: as sent; borrowed during the callback; wipe nothing of it into logs */
  const char *agent;      /* for people */
  const char *hostname;
  uint8_t session[16];    /* relay side: the session the agent asks to resume (all zero: none). agent side: the session given */
  const char *domain;     /* agent side: the relay's base domain */
  uint32_t version;
};

#endif
