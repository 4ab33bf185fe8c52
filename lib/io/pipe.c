#include "io/pipe.h"

#include <stdlib.h>

struct half {
  struct pipe *pipe;
  struct stream *s; /* we read from s and write to other->s */
  struct half *other;
  uint64_t moved;
};

struct pipe {
  struct half a, b;
  struct loop_task end;
  pipe_done done;
  void *user;
  struct pipe_result result;
};

static void report(void *arg) {
  struct pipe *p = arg;
  if (p->done)
    p->done(p->user, &p->result);
  free(p);
}

static void end(struct pipe *p, int reason) {
  struct loop *l = p->a.s->loop;
  stream_close(p->a.s, reason);
  stream_close(p->b.s, reason);
  p->result = (struct pipe_result){reason, p->a.moved, p->b.moved};
  loop_soon(l, &p->end);
}

/* Back-pressure is these two: move what the far side takes; move again when it has room. */
static void on_readable(void *user) {
  struct half *h = user;
  struct stream *to = h->other->s;
  size_t room;
  while (stream_waiting(h->s) && (room = stream_room(to))) {
    size_t n = stream_move(to, stream_input(h->s), room);
    if (!n)
      break;
    stream_credit(h->s, n);
    h->moved += n;
  }
  if (!stream_at_end(h->s))
    return;
  stream_finish(to);
  if (stream_at_end(to))
    end(h->pipe, 0);
}

static void on_writable(void *user) {
  struct half *h = user;
  on_readable(h->other);
}

static void on_closed(void *user, int reason) {
  struct half *h = user;
  end(h->pipe, reason);
}

static const struct stream_events events = {on_readable, on_writable, on_closed};

int pipe_start(struct stream *a, struct stream *b, pipe_done done, void *user, struct pipe **out) {
  struct pipe *p = calloc(1, sizeof *p);
  if (!p) {
    stream_close(a, BEAM_ERR_NOMEM);
    stream_close(b, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  p->a = (struct half){p, a, &p->b, 0};
  p->b = (struct half){p, b, &p->a, 0};
  p->done = done;
  p->user = user;
  task_init(&p->end, report, p);
  stream_own(a, &events, &p->a);
  stream_own(b, &events, &p->b);
  if (out)
    *out = p;
  return 0;
}

void pipe_abort(struct pipe *p, int reason) {
  if (!task_queued(&p->end)) {
    stream_close(p->a.s, reason);
    stream_close(p->b.s, reason);
  }
  task_cancel(&p->end);
  free(p);
}
