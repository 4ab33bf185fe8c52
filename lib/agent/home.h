/* home.h: one relay that a tunnel is at: the way there, the links, BIND on each, and what becomes of it all when they are lost.
 *
 *             ┌────────────── backoff ◄──────────────┐
 *             ▼                                      │ lost, refused for now
 *   CONNECTING: race ──► bind ──► ACTIVE ────────────┤ (then the state is RECONNECTING)
 *             │                     │ relay drains: a second link is made before the first is let go
 *             └─ untrusted, denied, name taken, superseded ──► CLOSED (the last word)
 *
 * A relay that drains may say where to go. Its agents follow once, and only to a relay that proves the very CA of the one that sent them; when that fails, or
 * the link there is lost, they are back at the address they were given.
 *
 * It knows nothing of the local service, nor of other homes: its owner says what to bind, and gets the streams.
 */
#ifndef AGENT_HOME_H
#define AGENT_HOME_H

#include <beam/tunnel.h>

#include "agent/reach.h"

enum { HOME_BIND = 1 }; /* the number of the one BIND of a session */

struct home;

/* Callbacks come from the task queue, or from inside home_start(), home_bind(); none of them may close the home. */
struct home_owner {
  /* Fill in Bind, or Connect for an ENTRY, with `id` HOME_BIND. AGAIN: not yet, home_bind() will come. Else an error: the link is lost for it. */
  int (*ask)(void *user, struct home *h, beam_Control *m);
  void (*bound)(void *user, struct home *h, const beam_Bound *b); /* before the state says ACTIVE */
  /* State, transport or its reason changed. why: as on_state's error, NULL when there is none. */
  void (*changed)(void *user, struct home *h, const struct beam_error *why);
  void (*stream)(void *user, struct home *h, struct stream *s); /* takes s */
  /* The relay refused the message with this number, which is not the BIND. */
  void (*refused)(void *user, struct home *h, uint32_t id, int code);
  /* Is another home of the owner's at this relay ("host:port")? Then a relay that drains need not send us there. */
  bool (*elsewhere)(void *user, struct home *h, const char *relay);
};

struct home_conf {
  struct reach_conf reach;
  const struct home_owner *owner;
  void *user;
  unsigned links; /* at most so many that share the name; 0: what is best */
};

/* As reach_new. */
int home_new(const struct home_conf *conf, struct home **out, struct beam_error *err);
int home_start(struct home *h); /* NOMEM */
/* Let go of every link. `unbind`: tell the relay that the name is given up. No callback comes. NULL is accepted. */
void home_close(struct home *h, bool unbind);

/* ask() said AGAIN: now it may be asked again. */
void home_bind(struct home *h);
/* A message to the relay, over the newest link that is bound. AGAIN: there is none. */
int home_send(struct home *h, const beam_Control *m);

/* The machine's network changed, or it woke up (enum net_change): what was tried before may say nothing any more. A home that waits tries at once
 * if its network is another one; one that has a link asks whether that still leads to the relay, and gets the next one beside it if not. */
void home_network_changed(struct home *h, int what);

struct home_view {
  enum beam_tunnel_state state;
  const char *relay, *relay_id;          /* "host:port", "sha256:..." or NULL */
  const char *transport, *reason;        /* NULL: none yet; why not a better one, NULL: it is the best */
  uint64_t state_since, transport_since; /* loop time */
  unsigned reconnects;
  unsigned links; /* bound, those that drain included */
};
/* Strings are borrowed until the next event. */
void home_view(const struct home *h, struct home_view *out);

struct home_link_view {
  const char *relay;
  const char *transport, *reason;
  uint64_t since; /* loop time */
  unsigned streams;
  bool draining;
};
/* The index-th link, the newest first. False: there are not so many. */
bool home_link_view(const struct home *h, unsigned index, struct home_link_view *out);

#endif
