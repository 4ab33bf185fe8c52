/* spread.h: when a name wants more links than it has, and when fewer do. All policy of that, with its numbers, is in spread.c. Pure. */
#ifndef AGENT_SPREAD_H
#define AGENT_SPREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  SPREAD_LOOK_MS = 100,  /* how often a home looks at its links while there are streams */
  SPREAD_IDLE_MS = 1000, /* ... and while there are none, but more than one link */
  SPREAD_LEAVE_MS =
      5000, /* a link that is let go is closed so long after its last stream: the relay may have opened another before it heard */
  SPREAD_TRIES =
      4, /* races for a link that lands at a worker which has none yet: of two workers fifteen in sixteen find the other */
  SPREAD_MISSING_MS =
      30000, /* a lost link's number is wanted back for so long: then the relay knows by itself that it is gone */
};

struct spread {
  uint64_t busy_since, quiet_since; /* 0: it is not */
};

struct spread_facts {
  unsigned links, most;
  unsigned busy;    /* of the links */
  unsigned streams; /* on all of them */
};

/* How many links at most, when the owner of the tunnel asked for `wanted` (0: what is best). ordered: streams of this transport wait for each other. */
unsigned spread_most(unsigned wanted, bool ordered);
/* Is this link loaded? `moved` in the last SPREAD_LOOK_MS. */
bool spread_busy(size_t queued, uint64_t moved);
/* 1: one more; -1: one less; 0: leave it. */
int spread_advice(struct spread *s, const struct spread_facts *f, uint64_t now_ms);

#endif
