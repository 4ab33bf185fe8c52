/* gate.h: bursts go to the local service a part at a time. So many requests are begun and not yet done; the next ones wait for one of them to be done, or
 * for it to have been on its way for a moment: then the service is slow, and waiting for it would only make it slower.
 *
 *   gate_enter ─► INSIDE ──── done (gate_leave), or LIMIT_UPSTREAM_BURST_MS ────► OUT
 *        └──────► WAITING ─► its step runs, INSIDE
 */
#ifndef HTTP_GATE_H
#define HTTP_GATE_H

#include <stdbool.h>

#include "io/loop.h"

enum gate_place { GATE_OUT, GATE_WAITING, GATE_INSIDE };

/* Part of who passes; zeroed before its first use. */
struct gate_pass {
  enum gate_place place;
  struct loop_task *step; /* told when it is let in */
  uint64_t since;
  struct gate_pass *prev, *next; /* in the list of its place */
};

struct gate {
  struct loop_timer timer;            /* set while anybody waits */
  struct gate_pass *inside, *waiting; /* in order of their coming */
  unsigned inside_n;
};

void gate_init(struct gate *g, struct loop *l);
void gate_fini(struct gate *g); /* nobody is there any more */
/* true: go on. false: wait; `step` is queued once the place is GATE_INSIDE. */
bool gate_enter(struct gate *g, struct gate_pass *p, struct loop_task *step);
void gate_leave(struct gate *g, struct gate_pass *p); /* from wherever it is; no-op when that is OUT */

#endif
