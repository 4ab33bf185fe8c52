/* race.h: which transport: the best one that answers.
 *
 *   first at once; QUIC and h2 each 300 ms after the one before, WebSocket after 1 s, whatever is next at once when nothing is under way
 *
 *                 ┌ greeted ─► WON: the others are called off
 *   WAITS ─► RUNS ┤                                               all FAILED: the race is lost
 *                 └ error ─► FAILED; the relay's own refusal ends the race
 */
#ifndef AGENT_RACE_H
#define AGENT_RACE_H

#include "agent/uplink.h"

struct race;

/* What is raced: uplinks, or a test's. */
struct race_runner {
  int (*start)(const struct uplink_conf *conf, uplink_cb cb, void *user, struct uplink **out);
  void (*cancel)(struct uplink *u);
};
extern const struct race_runner race_uplinks;

struct race_conf {
  struct uplink_conf uplink; /* borrowed until the outcome, as uplink.h says; .transport is filled in here */
  unsigned allowed;          /* bits 1 << enum uplink_transport, at least one */
  enum uplink_transport first; /* started at once: what worked last here; not allowed: the best that is */
  const struct race_runner *runner;
};

enum { RACE_REASON = 400 };
struct race_result {
  struct uplink_result uplink; /* err 0: the callee owns the link. Lost: the error that says most */
  enum uplink_transport transport;
  char reason
      [RACE_REASON]; /* what became of the allowed ones that are better than the winner (lost: of all), "" when there are none */
};
typedef void (*race_cb)(void *user, const struct race_result *r);

/* The outcome comes once, from the task queue; the race is gone then. NOMEM, UNSUPPORTED. */
int race_start(const struct race_conf *conf, race_cb cb, void *user, struct race **out);
void race_cancel(struct race *r); /* before the outcome; NULL is accepted */

#endif
