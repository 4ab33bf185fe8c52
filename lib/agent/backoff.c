#include "agent/backoff.h"

#include "base/random.h"

enum {
  FIRST_MS = 250,     /* a relay that restarts listens again within this */
  SOON_CAP_MS = 2000, /* so that an outage of seconds costs no more than two on top */
  SOON_FOR_MS = 60000,
  LATE_CAP_MS = 30000, /* a relay that is gone for long is not hammered */
};

void backoff_reset(struct backoff *b) {
  *b = (struct backoff){0, 0};
}

uint64_t backoff_next(struct backoff *b, uint64_t now_ms) {
  if (!b->attempts)
    b->since = now_ms;
  uint64_t cap = now_ms - b->since < SOON_FOR_MS ? SOON_CAP_MS : LATE_CAP_MS;
  uint64_t most = b->attempts < 10 ? (uint64_t)FIRST_MS << b->attempts : cap;
  b->attempts++;
  if (most > cap)
    most = cap;
  return 1 + random_below((uint32_t)most);
}
