/* uplink.h: one attempt to get a greeted link to the relay over one transport.
 *
 *   h2:  DIAL ──► TLS (with the pin) ──► GREET ──► UP: the link is the agent's          any step: up(user, err) and it is over
 *   ws:  DIAL ──► outer TLS, unchecked ──► UPGRADE ──► the same TLS, inside ──► GREET ──► UP
 *
 * A dial goes through the proxy, if there is one.
 */
#ifndef AGENT_UPLINK_H
#define AGENT_UPLINK_H

#include "identity/key.h"
#include "io/net.h"
#include "link/link.h"
#include "wire/proxy.h"

struct uplink;
struct tls_context;

/* From the best to the last resort. */
enum uplink_transport { UPLINK_QUIC, UPLINK_H2, UPLINK_WS, UPLINK_TRANSPORTS };
const char *uplink_name(enum uplink_transport t); /* "quic", "h2", "ws" */
bool uplink_can(enum uplink_transport t);         /* is it in this build? */

struct uplink_conf { /* borrowed until the outcome */
  struct loop *loop;
  struct net *net;
  enum uplink_transport transport;
  const char *host; /* relay */
  uint16_t port;
  const char *pin_name;      /* "host:port", the key in known_relays */
  const struct proxy *proxy; /* kind PROXY_NONE: none */
  bool plain;                /* ws without outer TLS */
  bool cubic;                /* quic: not BBR */
  const char *data_dir;
  const uint8_t *ca; /* 32 bytes: the only CA accepted; NULL: trust on first use */
  const struct key *device;
  const char *token;     /* NULL: none */
  const uint8_t *resume; /* 16 bytes or NULL */
};

struct uplink_result {
  int err; /* 0: link is up and the callee owns it (link_own at once) */
  struct beam_error why;
  bool said; /* err is what the relay itself said, proven: another transport will not change its mind */
  struct link *link;
  uint8_t session[16];
  uint8_t relay_id[32];     /* fingerprint of its CA */
  bool links;               /* it takes several for one name */
  unsigned worker, workers; /* as greet.h */
};
typedef void (*uplink_cb)(void *user, const struct uplink_result *r);

/* The outcome comes once, from the task queue; the uplink is gone then. NOMEM, UNSUPPORTED. */
int uplink_start(const struct uplink_conf *conf, uplink_cb cb, void *user, struct uplink **out);
void uplink_cancel(struct uplink *u); /* before the outcome */

#endif
