#include "agent/spread.h"

enum {
  QUEUED = 64 * 1024, /* what a bulk stream alone keeps waiting; a page's worth of small answers is less */
  MOVED =
      1024 * 1024,  /* in 100 ms, 84 Mbit/s: what comes down from the relay waits there, out of our sight */
  BUSY_MS = 300,    /* a large picture is over by then; a handshake for it would be for nothing */
  STREAMS = 32,     /* so many at a time on each: small ones too have to wait for each other then */
  QUIET_MS = 60000, /* what a person at a page does comes in bursts, a minute apart is another visit */
};

/* Measured over 50 Mbit/s with 20 ms there and back, beside one bulk transfer, small requests took (median, nine in ten): HTTP/2 on one link 73 and 119 ms,
 * on two 33 and 52; QUIC 42 and 146 on one, 58 and 149 on two. Bulk was as fast in all four. */
enum { ORDERED = 2, UNORDERED = 1 };

unsigned spread_most(unsigned wanted, bool ordered) {
  return wanted ? wanted : ordered ? ORDERED : UNORDERED;
}

bool spread_busy(size_t queued, uint64_t moved) {
  return queued >= QUEUED || moved >= MOVED;
}

int spread_advice(struct spread *s, const struct spread_facts *f, uint64_t now_ms) {
  bool crowded = f->streams > STREAMS * f->links;
  if (f->links && (crowded || f->busy == f->links)) {
    s->quiet_since = 0;
    if (!s->busy_since)
      s->busy_since = now_ms;
    if (f->links >= f->most || (!crowded && now_ms - s->busy_since < BUSY_MS))
      return 0;
    s->busy_since = 0;
    return 1;
  }
  s->busy_since = 0;
  if (f->links < 2 || f->busy || f->streams > STREAMS / 2 * (f->links - 1)) {
    s->quiet_since = 0;
    return 0;
  }
  if (!s->quiet_since)
    s->quiet_since = now_ms;
  if (now_ms - s->quiet_since < QUIET_MS)
    return 0;
  s->quiet_since = 0;
  return -1;
}
