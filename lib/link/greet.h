/* greet.h: HELLO and WELCOME, both roles: who is at the other end of this link, proven and bound to its TLS channel. Then liveness.
 *
 *   agent   waits for ready ──► sends HELLO ──► waits for WELCOME ──► UP
 *   relay   waits for HELLO ──► decides ──────► sends WELCOME ─────► UP          UP: PING every ping_ms, dead LIMIT_PONG_MS later
 *                                    └────────► sends ERROR{fatal} ► REFUSED
 *
 * The greeting is a guard of the link (link.h): it sees every event before the link's owner and stays for the link's life.
 * While it greets, the link belongs to it; greet_cb gives the link back, whatever the outcome. After success the owner calls
 * link_own() inside the callback and from then on gets every control message but HELLO, WELCOME, PING and PONG, and streams and
 * closed as ever. A silent peer closes the link with TIMEOUT, a flood of control messages (LIMIT_CONTROL_RATE) with LIMIT.
 * link_close() before the callback calls the greeting off: the callback does not come.
 */
#ifndef LINK_GREET_H
#define LINK_GREET_H

#include "identity/proof.h"
#include "link/link.h"

enum { GREET_VERSION_MIN = 1, GREET_VERSION_MAX = 1 };

/* What was proven and said. Everything is borrowed for the callback. */
struct greet_peer {
  uint32_t version; /* agreed */
  /* relay side: the session to resume (all zero: none); agent side: the session given */
  uint8_t session[16];
  /* relay side */
  uint8_t device_key[KEY_PUBLIC]; /* the agent's device, proven */
  const char *token;              /* as sent, "" when none; never log it */
  const char *agent, *hostname;   /* for people; not to be trusted */
  /* agent side */
  uint8_t relay_key[KEY_PUBLIC]; /* proven to hold this channel */
  const char *domain;            /* the relay's base domain */
  bool links;                    /* the relay takes several links for one name ("links" among its features) */
  unsigned worker, workers; /* which of its workers has this link ("worker=1/2"); workers 0: it did not say */
};

/* The outcome, once, from the task queue. err 0: peer is filled and the link is up; call link_own() now.
 * Else the link is of no more use: link_close(k, err). `why` (never NULL) says what happened and what to do, in the
 * relay's words when it refused (err is then the relay's code: DENIED, LIMIT, UNSUPPORTED, ...). */
typedef void (*greet_cb)(void *user, struct link *k, int err, const struct beam_error *why,
                         const struct greet_peer *peer);

struct greet_agent_conf {
  const struct key *device; /* kept by reference until the callback */
  uint8_t relay[32];        /* fingerprint of the CA that the TLS chain showed and the pin confirmed */
  const char *token;        /* NULL: none */
  const char *agent;        /* NULL: "beam/VERSION SYSTEM-MACHINE" */
  const char *hostname;     /* NULL: this machine's */
  const uint8_t *resume;    /* 16 bytes: the session to resume; NULL: none */
};

struct greet_relay_conf {
  const struct key *key;    /* the relay's identity, kept by reference until the callback */
  uint8_t relay[32];        /* fingerprint of its CA */
  const char *domain;       /* base domain */
  uint32_t ping_ms;         /* 0: LIMIT_PING_MS */
  unsigned worker, workers; /* told in WELCOME, workers 0: not */
  /* Called once, with a proven peer, from the task queue. 0: welcome; put the session's id into `session` (left all
   * zero: a random one is drawn). A beam_err: refused; fill `why` with what the agent's user should read (code 0: the
   * catalogue's text). AGAIN: the answer comes later by greet_answer(). NULL: everybody is welcome. */
  int (*decide)(void *user, struct link *k, const struct greet_peer *peer, uint8_t session[16],
                struct beam_error *why);
};

/* Take k and greet; copies conf's strings. `user` goes to every callback. NOMEM, INVALID: then k is still the caller's. */
int greet_agent(struct link *k, const struct greet_agent_conf *conf, greet_cb cb, void *user);
int greet_relay(struct link *k, const struct greet_relay_conf *conf, greet_cb cb, void *user);
/* Relay: the late answer to a decide() that said AGAIN: 0 with a session (NULL: draw one), or a beam_err with why (NULL:
 * the catalogue's text). The caller forgets about it when the link's greet_cb came with an error or it closed the link. */
void greet_answer(struct link *k, int err, const uint8_t session[16], const struct beam_error *why);

/* PING now, out of turn: is the peer there? What it answers shows in k->heard; without an answer the link is closed LIMIT_PONG_MS later, as ever.
 * AGAIN: not greeted yet. */
int greet_ping(struct link *k);

/* OFFER: versions and features, for where something may be said before the handshake is over: nothing in it is secret, or of any effect when it is said again.
 * Bytes written, or as control_encode. */
long greet_offer(uint8_t *out, size_t cap);

/* For status and the choice between links: ms since the peer was last heard of; the last round trip of a PING (0: none
 * yet). Both 0 on a link that was never greeted. */
uint64_t greet_silent_ms(const struct link *k);
uint32_t greet_rtt_ms(const struct link *k);

#endif
