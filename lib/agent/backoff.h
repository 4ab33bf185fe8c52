/* backoff.h: how long to wait before the next attempt: full jitter, at most 2 s in the first minute, then up to 30 s. Pure. */
#ifndef AGENT_BACKOFF_H
#define AGENT_BACKOFF_H

#include <stdint.h>

struct backoff {
  uint64_t since;    /* when the trouble began, 0: no trouble */
  unsigned attempts; /* since then */
};

void backoff_reset(struct backoff *b);
/* The delay before the next attempt, ms. A thousand agents that lost one relay come back spread over it. */
uint64_t backoff_next(struct backoff *b, uint64_t now_ms);

#endif
