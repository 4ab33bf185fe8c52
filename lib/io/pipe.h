/* pipe.h: joins two streams and moves bytes both ways until both ends are done; reports once. */
#ifndef IO_PIPE_H
#define IO_PIPE_H

#include "io/stream.h"

struct pipe;

struct pipe_result {
  int reason;              /* 0: both directions ended in order; else why it was aborted */
  uint64_t a_to_b, b_to_a; /* bytes moved */
};
typedef void (*pipe_done)(void *user, const struct pipe_result *r);

/* Takes both streams, also when it fails (then both are closed). done (may be NULL) comes once, from the task queue; the pipe frees itself after it. NOMEM. */
int pipe_start(struct stream *a, struct stream *b, pipe_done done, void *user, struct pipe **out);
void pipe_abort(struct pipe *p, int reason); /* before done: both ends are aborted, done does not come */

#endif
