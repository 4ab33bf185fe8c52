/* lanes.h: the parts of a home that its files share.
 *
 * home.c: the first link, and what becomes of the tunnel.  more.c: the links beside it.
 */
#ifndef AGENT_LANES_H
#define AGENT_LANES_H

#include "agent/backoff.h"
#include "agent/home.h"
#include "agent/spread.h"
#include "agent/way.h"
#include "identity/cert.h"

/* A link of ours: the first one, one that drains, or one beside the first (more.c). */
struct lane {
  struct lane *prev, *next;
  struct home *h;
  struct link *link;
  struct loop_timer retire;
  bool asked, bound;
  bool going;               /* the relay said DRAIN */
  bool left;                /* our address is another one: it may be dead, and nobody will tell */
  uint64_t doubted;         /* loop_now() when the network changed under it; 0: never */
  bool leaving;             /* ours to let go: closed when it has been without streams for a while */
  unsigned number;          /* among the links that share the name */
  unsigned worker, workers; /* of the relay; workers 0: it did not say */
  uint64_t counted;         /* of link->moved */
  uint64_t quiet;           /* leaving: without streams since */
  bool away;                /* at the relay that ours sent us to */
  char relay[300];
  uint64_t since;
  enum uplink_transport transport;
  char reason[RACE_REASON]; /* why not a better one */
};

struct home {
  struct loop *loop;
  const struct home_owner *owner;
  void *user;
  struct reach_conf conf;   /* of reach */
  struct reach *reach, *to; /* to: where a relay that drains sent us; NULL: nowhere */
  bool follow;              /* the next link is to be there */
  struct race *race;        /* for the next link */
  struct race *probe;       /* for a better one than we have */
  struct loop_timer probe_timer;
  struct loop_timer doubt; /* the newest link's, until it has answered */
  struct lane *lanes;      /* the first is the newest */
  struct loop_timer timer; /* backoff, or the answer to BIND */
  struct backoff backoff;
  /* more.c */
  uint8_t group[16];
  unsigned links_wanted; /* 0: what is best */
  bool takes_more;       /* the relay knows links that share a name */
  struct lane *more;
  struct race *more_race;
  unsigned more_tries; /* races of it whose link came out at a worker that has one */
  unsigned missing;    /* a bit for each number whose link was lost, not let go */
  uint64_t missing_until;
  struct backoff more_backoff;
  uint64_t more_after; /* not again before */
  struct spread spread;
  struct loop_timer look;
  bool look_slow;            /* nobody uses them just now */
  char network[WAY_NETWORK]; /* where the last attempt was made */
  uint8_t session[16];
  bool resumable, once_active;
  /* what is shown */
  enum beam_tunnel_state state;
  uint64_t state_since;
  char relay_id[FINGERPRINT_TEXT];
  const char *transport;
  uint64_t transport_since;
  char reason[RACE_REASON];
  unsigned reconnects;
};

/* home.c */
/* Group and number go with BIND. 0: asked, or not yet (n->asked). */
int home_ask(struct home *h, struct lane *n);
struct lane *home_lane_new(struct home *h, const struct race_result *r,
                           bool away); /* NULL: out of memory; the link is closed */
void home_start_race(struct home *h, race_cb cb, struct race **out, int *err);
void home_changed(struct home *h); /* a link came or went */

/* more.c */
void more_init(struct home *h, unsigned links);
void more_look(struct home *h); /* a stream came: is there need of more? */
bool more_bound_any(const struct home *h);
struct lane *more_promote(struct home *h); /* takes the best of them out; NULL: there is none */
void more_lost(struct home *h,
               const struct lane *n); /* the first is lost: its number is to be taken by another */
void more_move(struct home *h);       /* the first is at its next relay, which has none of these */
void more_network_changed(struct home *h, int what);
void more_close(struct home *h, int reason);

#endif
