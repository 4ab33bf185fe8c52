/* frames.c: both ends of an exchange that crosses a link.
 *
 *   relay:  h1_front ══ exchange ══ [upstream] ── frames ──► stream ══ link ══ stream ── frames ──► [front] ══ exchange ══ h1_upstream   :agent
 *
 * Each frees itself when its message is written, the other's was read (or stopped), and nothing pends; or when the stream or the exchange fails.
 */
#include "http/frames.h"

#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "http/frame_io.h"

struct side {
  struct http_end end;
  struct frame_io io;
  struct loop_task step;
  const struct http_handler *handler; /* front only */
  struct http_track track;            /* front only */
  unsigned depth, infos;
  enum page failing; /* fail once off the peer's stack */
  bool dead;
  bool begun;     /* front: the request was given to the handler */
  bool head_in;   /* upstream: the response's head went to the front */
  bool in_closed; /* their message is complete; the front's: or we said stop */
  bool stopped;   /* front: what still comes of the request is dropped */
  bool head_out;
  bool out_closed; /* END is written (or stands for it: STOP came) */
};

static struct side *side_of(struct http_end *e) {
  return (struct side *)e;
}

static void soon(struct side *f) {
  loop_soon(f->io.s->loop, &f->step);
}

static uint64_t now(struct side *f) {
  return loop_now(f->io.s->loop);
}

/* --- life --- */

static void die(struct side *f, int reason) {
  if (f->dead)
    return;
  f->dead = true;
  if (f->handler)
    http_track_end(&f->track, f->handler, now(f));
  task_cancel(&f->step);
  stream_close(f->io.s, reason);
}

static void leave(struct side *f) {
  if (--f->depth || !f->dead)
    return;
  const struct http_handler *h = f->handler;
  frame_io_fini(&f->io);
  free(f);
  if (h && h->gone)
    h->gone(h->user);
}

/* Whatever was wrong, `page` is what the visitor may read about it, if that is still possible. */
static void fail(struct side *f, enum page page, int reason) {
  http_send_abort(&f->end, page);
  if (f->handler && f->track.open && !f->track.failed)
    f->track.failed = page;
  die(f, reason);
}

/* --- writing, both ends --- */

static void end_message(struct side *f) {
  if (f->out_closed)
    return;
  f->out_closed = true;
  frame_io_mark(&f->io, FRAME_END);
  if (frame_io_flush(&f->io))
    stream_finish(f->io.s); /* else the step does */
  soon(f);
}

static void write_head(struct side *f, const struct http_head *h, bool more) {
  if (f->head_out || f->out_closed || frame_io_head(&f->io, FRAME_HEAD, h)) {
    f->failing = PAGE_INTERNAL;
    soon(f);
    return;
  }
  f->head_out = true;
  if (!more) {
    end_message(f);
    return;
  }
  frame_io_mark(&f->io, FRAME_DATA);
  soon(f); /* flushes, unless body comes at once */
}

static size_t on_room(struct http_end *e) {
  struct side *f = side_of(e);
  return f->head_out && !f->out_closed && !f->failing ? frame_io_room(&f->io) : 0;
}

static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  struct side *f = side_of(e);
  if (!f->head_out || f->out_closed || f->failing)
    return 0;
  size_t took = frame_io_body(&f->io, from, n);
  f->track.body_out = f->io.written;
  return took;
}

static void on_trailers(struct http_end *e, const struct http_head *h) {
  struct side *f = side_of(e);
  if (f->head_out && !f->out_closed && h->fields_n && frame_io_head(&f->io, FRAME_TRAILERS, h))
    f->failing = PAGE_TRUNCATED;
}

static void on_end(struct http_end *e) {
  end_message(side_of(e));
}

static void on_want(struct http_end *e) {
  soon(side_of(e));
}

/* --- the relay's end: upstream --- */

static void up_head(struct http_end *e, const struct http_head *h, bool more) {
  write_head(side_of(e), h, more);
}

static void up_abort(struct http_end *e, enum page page) {
  struct side *f = side_of(e);
  if (f->depth) { /* in the middle of passing something on */
    f->failing = page;
    soon(f);
    return;
  }
  f->depth++;
  die(f, BEAM_ERR_RESET);
  leave(f);
}

/* What the agent says went wrong. It may say only what an agent can know. */
static enum page told(uint16_t code) {
  const struct page_entry *p = page_find(code);
  if (!p || p->page == PAGE_NO_TUNNEL || p->page == PAGE_VISITOR_GONE)
    return PAGE_INTERNAL;
  return p->page;
}

static void up_bad(struct side *f) {
  log_limited(BEAM_LOG_WARN, "http", "agent broke the exchange protocol frame=%u",
              (unsigned)f->io.frame.type);
  fail(f, f->head_in ? PAGE_TRUNCATED : PAGE_INTERNAL, BEAM_ERR_PROTOCOL);
}

/* Nothing more comes from the agent. After its END that is as it should be, but a reset says too that it reads no more. */
static void up_cut(struct side *f) {
  if (!f->in_closed) {
    fail(f, f->head_in ? PAGE_TRUNCATED : PAGE_LINK_LOST, BEAM_ERR_RESET);
  } else if (stream_dead(f->io.s) && !f->out_closed) {
    f->out_closed = true;
    http_send_stop(&f->end);
  }
}

/* One event off the stream. False: enough for now. */
static bool up_event(struct side *f) {
  struct http_head *h = &f->io.head;
  switch (frame_io_next(&f->io, &f->end)) {
  case FIO_HEAD:
    if (!h->status)
      break;
    f->head_in = true;
    f->in_closed = !f->io.more;
    http_send_head(&f->end, h, f->io.more);
    return true;
  case FIO_INFO:
    if (++f->infos > LIMIT_UPSTREAM_INFOS)
      break;
    http_send_info(&f->end, h);
    return true;
  case FIO_TRAILERS:
    http_send_trailers(&f->end, h);
    return true;
  case FIO_END:
    f->in_closed = true;
    http_send_end(&f->end);
    return true;
  case FIO_STOP:
    if (!f->out_closed) {
      http_send_stop(&f->end);
      end_message(f);
    }
    return true;
  case FIO_ERROR:
    fail(f, f->head_in ? PAGE_TRUNCATED : told(f->io.code), 0);
    return false;
  case FIO_CUT:
    up_cut(f);
    return false;
  case FIO_WAIT:
  case FIO_FULL:
  case FIO_GONE:
    return false;
  case FIO_BAD:
    break;
  }
  up_bad(f);
  return false;
}

static void up_work(struct side *f) {
  if (f->failing) {
    fail(f, f->failing, BEAM_ERR_RESET);
    return;
  }
  if (frame_io_flush(&f->io) && f->out_closed)
    stream_finish(f->io.s);
  while (!f->dead && f->end.peer && !(f->in_closed && f->out_closed) && up_event(f))
    ;
  if (!f->dead && f->in_closed && f->out_closed) {
    http_done(&f->end);
    die(f, 0);
  }
}

static const struct http_end_ops up_ops = {"frames-upstream", up_head, NULL, on_room,  on_body,
                                           on_trailers,       on_end,  NULL, up_abort, on_want};

/* --- the agent's end: front --- */

static void front_head(struct http_end *e, const struct http_head *h, bool more) {
  struct side *f = side_of(e);
  http_track_status(&f->track, h->status, now(f));
  write_head(f, h, more);
}

static void front_info(struct http_end *e, const struct http_head *h) {
  struct side *f = side_of(e);
  if (f->head_out || f->out_closed || evbuffer_get_length(f->io.pend) > LIMIT_HEAD_BYTES)
    return; /* of a relay that does not read, none are missed */
  if (!frame_io_head(&f->io, FRAME_INFO, h))
    soon(f);
}

static void front_stop(struct http_end *e) {
  struct side *f = side_of(e);
  if (f->in_closed)
    return;
  f->in_closed = f->stopped = true;
  frame_io_mark(&f->io, FRAME_STOP);
  soon(f);
}

/* The exchange failed on our side: ERROR is the last thing said, and the relay makes the best of it. After END only a reset is left to say. */
static void front_abort(struct http_end *e, enum page page) {
  struct side *f = side_of(e);
  f->in_closed = f->stopped = true;
  f->track.failed = page;
  soon(f);
  if (f->out_closed) {
    f->failing = page;
    return;
  }
  frame_io_error(&f->io, page);
  f->out_closed = true;
}

static const struct http_end_ops front_ops = {"frames-front", front_head, front_info, on_room,     on_body,
                                              on_trailers,    on_end,     front_stop, front_abort, on_want};

static void front_begin(struct side *f) {
  f->begun = true;
  f->in_closed = !f->io.more;
  http_track_begin(&f->track, &f->io.head, now(f));
  f->handler->request(f->handler->user, &f->end, &f->track.head, f->io.more);
  if (!f->end.peer && !f->out_closed && !f->dead)
    front_abort(&f->end, PAGE_INTERNAL);
}

static bool front_event(struct side *f) {
  enum frame_what what = frame_io_next(&f->io, f->stopped ? NULL : &f->end);
  f->track.body_in = f->io.passed;
  switch (what) {
  case FIO_HEAD:
    if (f->begun || !f->io.head.method.n)
      break;
    front_begin(f);
    return true;
  case FIO_TRAILERS:
    if (!f->stopped)
      http_send_trailers(&f->end, &f->io.head);
    return true;
  case FIO_END:
    if (!f->stopped) {
      f->in_closed = true;
      http_send_end(&f->end);
    }
    return true;
  case FIO_ERROR:
    fail(f, PAGE_VISITOR_GONE, BEAM_ERR_RESET);
    return false;
  case FIO_CUT:
    if (!f->in_closed || stream_dead(f->io.s))
      fail(f, PAGE_VISITOR_GONE, BEAM_ERR_RESET);
    return false;
  case FIO_WAIT:
  case FIO_FULL:
  case FIO_GONE:
    return false;
  case FIO_STOP: /* who wants no response resets */
  case FIO_INFO:
  case FIO_BAD:
    break;
  }
  log_limited(BEAM_LOG_WARN, "http", "relay broke the exchange protocol frame=%u",
              (unsigned)f->io.frame.type);
  fail(f, PAGE_VISITOR_GONE, BEAM_ERR_PROTOCOL);
  return false;
}

static void front_work(struct side *f) {
  if (f->failing) {
    enum page page = f->failing;
    f->failing = PAGE_NONE;
    http_send_abort(&f->end, PAGE_VISITOR_GONE);
    if (f->out_closed) {
      fail(f, page, BEAM_ERR_RESET);
      return;
    }
    front_abort(&f->end, page);
  }
  while (!f->dead && !f->io.got_end && front_event(f))
    ;
  if (f->dead || !frame_io_flush(&f->io) || !f->out_closed)
    return;
  stream_finish(f->io.s);
  if (f->in_closed) {
    http_done(&f->end);
    die(f, 0);
  }
}

/* --- events --- */

static void work(struct side *f) {
  if (!f->dead && f->handler)
    front_work(f);
  else if (!f->dead)
    up_work(f);
  if (f->io.err && !f->dead)
    fail(f, PAGE_INTERNAL, BEAM_ERR_NOMEM);
}

static void on_step(void *arg) {
  struct side *f = arg;
  f->depth++;
  work(f);
  leave(f);
}

static void on_writable(void *user) {
  struct side *f = user;
  f->depth++;
  if (frame_io_flush(&f->io))
    http_send_want(&f->end);
  work(f);
  leave(f);
}

/* A relay that resets tells that the visitor left. What an agent said before it went is still passed on. */
static void on_closed(void *user, int reason) {
  struct side *f = user;
  f->depth++;
  if (f->handler)
    fail(f, PAGE_VISITOR_GONE, reason);
  else
    work(f);
  leave(f);
}

static const struct stream_events events = {on_step, on_writable, on_closed};

static struct side *side_new(struct stream *s, const struct http_end_ops *ops,
                             const struct http_handler *handler) {
  struct side *f = calloc(1, sizeof *f);
  if (!f || frame_io_init(&f->io, s)) {
    free(f);
    stream_close(s, BEAM_ERR_NOMEM);
    return NULL;
  }
  f->end.ops = ops;
  f->handler = handler;
  task_init(&f->step, on_step, f);
  stream_own(s, &events, f);
  return f;
}

int frames_upstream(struct stream *s, struct http_end **out) {
  struct side *f = side_new(s, &up_ops, NULL);
  if (!f)
    return BEAM_ERR_NOMEM;
  *out = &f->end;
  return 0;
}

int frames_front(struct stream *s, const struct http_handler *handler) {
  return side_new(s, &front_ops, handler) ? 0 : BEAM_ERR_NOMEM;
}
