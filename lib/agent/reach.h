/* reach.h: how an agent gets to its relay: the address, the proxy, which transports may be tried, and which one worked last in this network.
 *
 *   reach_start ──► race of all that are allowed, the last winner first          reach_better ──► race of those better than what is in use
 */
#ifndef AGENT_REACH_H
#define AGENT_REACH_H

#include "agent/race.h"

struct reach;

struct reach_conf { /* all but relay, transport and proxy is borrowed for the reach's life */
  struct loop *loop;
  struct net *net;
  const char *
      relay; /* HOST[:PORT]; wss://HOST[:PORT] and ws://HOST[:PORT]: WebSocket only, the latter without outer TLS */
  const char *transport; /* NULL, "auto", "quic", "h2", "ws" */
  bool cubic;            /* over QUIC; else BBR */
  const char *proxy;     /* NULL: ask the environment; "": none */
  const char *data_dir;
  const char *relay_ca; /* NULL: trust on first use */
  const struct key *device;
  const char *token;
};
/* INVALID, UNSUPPORTED (not in this build), NOMEM, as fingerprint_of: with text. */
int reach_new(const struct reach_conf *conf, struct reach **out, struct beam_error *err);
void reach_free(struct reach *r); /* NULL is accepted */

const char *reach_relay(const struct reach *r); /* "host:port" */
/* resume: 16 bytes or NULL, borrowed until the outcome. As race_start. */
int reach_start(struct reach *r, const uint8_t *resume, race_cb cb, void *user, struct race **out);
bool reach_has_better(const struct reach *r, enum uplink_transport than);
int reach_better(struct reach *r, enum uplink_transport than, const uint8_t *resume, race_cb cb, void *user,
                 struct race **out);
/* It was won: remember it. */
void reach_won(struct reach *r, enum uplink_transport t);
/* Why t and not a better one, for a person: what is barred, what was asked for, and what a race found out. "" when t is the best there is. */
void reach_reason(const struct reach *r, enum uplink_transport t, const char *race, char out[RACE_REASON]);

#endif
