/* The link between two loops (threads) of one process.
 *
 *   end on loop A ── messages of one turn ──► box B ── one post ──► deliver on loop B ──► end
 *       bridge: what both share: the boxes, under a lock; freed when the last reference goes (two ends, and each post under way)
 *
 * An end and its streams belong to their loop's thread; only messages cross, and the buffers in them are given away whole. A
 * stream may send its first LIMIT_STREAM_WINDOW_MIN bytes ahead and gets credit as the other side takes them, so nothing that was
 * written ever waits here: a closed stream leaves at once. */
#include <stdlib.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/limits.h"
#include "io/block.h"
#include "io/budget.h"
#include "link/local.h"

enum {
  RETRY_MS = 10, /* the other loop's queue was full */
  CREDIT_STEP = LIMIT_STREAM_WINDOW_MIN / 4
};

struct local {
  struct link k;
  struct bridge *bridge;
  int me;
  struct lane *lanes; /* by id */
  struct lane *dirty; /* written to in this turn */
  struct queue out;
  struct loop_task flush, ready, failed;
  struct loop_timer retry;
  uint32_t next_id;
  bool dead;   /* closed() was told */
  bool closed; /* by its owner; lives on only until its last messages are posted */
  int failure;
};

/* One end of a stream. */
struct lane {
  struct stream s;
  struct local *end; /* NULL once the link was closed, or the stream is over there */
  uint32_t id;
  size_t credit;        /* may be sent */
  size_t taken;         /* by the owner, not told to the peer yet */
  size_t charged;       /* to the pool */
  struct evbuffer *out; /* of this turn */
  struct lane *dirty;
  bool is_dirty, mute;
  UT_hash_handle hh;
};

/* --- sending --- */

static void die(struct local *d, int reason);

static void fail(struct local *d, int reason) {
  d->failure = reason;
  loop_soon(d->k.loop, &d->failed);
}

static struct msg *say(struct local *d, enum msg_kind kind, uint32_t id) {
  struct msg *m = calloc(1, sizeof *m);
  if (!m) {
    fail(d, BEAM_ERR_NOMEM);
    return NULL;
  }
  m->kind = kind;
  m->id = id;
  queue_push(&d->out, m);
  loop_turn_end(d->k.loop, &d->flush);
  return m;
}

/* What a stream wrote in this turn becomes one message. */
static void say_data(struct lane *e) {
  if (!evbuffer_get_length(e->out))
    return;
  struct evbuffer *fresh = evbuffer_new();
  struct msg *m = fresh ? say(e->end, MSG_DATA, e->id) : NULL;
  if (!m) {
    if (fresh)
      evbuffer_free(fresh);
    fail(e->end, BEAM_ERR_NOMEM);
    return;
  }
  m->data = e->out;
  e->out = fresh;
}

static void say_credit(struct lane *e) {
  if (e->taken < CREDIT_STEP)
    return;
  struct msg *m = say(e->end, MSG_CREDIT, e->id);
  if (!m)
    return;
  m->n = (uint32_t)e->taken;
  e->taken = 0;
}

static void soil(struct lane *e) {
  if (e->is_dirty)
    return;
  e->is_dirty = true;
  e->dirty = e->end->dirty;
  e->end->dirty = e;
  loop_turn_end(e->end->k.loop, &e->end->flush);
}

static void unsoil(struct lane *e) {
  if (!e->is_dirty)
    return;
  struct lane **p = &e->end->dirty;
  while (*p != e)
    p = &(*p)->dirty;
  *p = e->dirty;
  e->is_dirty = false;
}

/* False: the other loop's queue is full, retry() comes. */
static bool post(struct local *d) {
  int err = bridge_send(d->bridge, !d->me, &d->out);
  if (!err)
    return true;
  if (err != BEAM_ERR_CLOSED && !timer_start(&d->retry, RETRY_MS))
    return false;
  if (!d->closed)
    fail(d, BEAM_ERR_RESET);
  return true;
}

static void flush(void *arg) {
  struct local *d = arg;
  while (d->dirty) {
    struct lane *e = d->dirty;
    d->dirty = e->dirty;
    e->is_dirty = false;
    say_data(e);
    say_credit(e);
  }
  task_cancel(&d->flush); /* say() has queued it again */
  post(d);
}

static void vanish(struct local *d) {
  struct bridge *b = d->bridge;
  timer_stop(&d->retry);
  queue_free(&d->out);
  free(d);
  bridge_unref(b);
}

static void retry(void *arg) {
  struct local *d = arg;
  if (post(d) && d->closed)
    vanish(d);
}

/* --- streams --- */

static void charge(struct lane *e) {
  size_t n = evbuffer_get_length(e->s.in);
  if (n > e->charged)
    budget_charge(&budget_pool, n - e->charged);
  else
    budget_give(&budget_pool, e->charged - n);
  e->charged = n;
}

static void consumed(struct stream *s, size_t n) {
  struct lane *e = (struct lane *)s;
  charge(e);
  if (!e->end)
    return;
  e->taken += n;
  if (e->taken >= CREDIT_STEP)
    soil(e);
}

static size_t room(struct stream *s) {
  struct lane *e = (struct lane *)s;
  return e->mute || !e->end ? LIMIT_STREAM_WINDOW_MIN : e->credit;
}

static size_t move(struct stream *s, struct evbuffer *from, size_t n) {
  struct lane *e = (struct lane *)s;
  size_t r = room(s);
  if (n > r)
    n = r;
  if (e->mute || !e->end) {
    evbuffer_drain(from, n);
    return n;
  }
  n = n ? buffer_move(e->out, from, n) : 0;
  e->credit -= n;
  if (n)
    soil(e);
  return n;
}

static void finish(struct stream *s) {
  struct lane *e = (struct lane *)s;
  if (!e->end || e->mute)
    return;
  say_data(e);
  say(e->end, MSG_END, e->id);
}

static void leave(struct lane *e) {
  if (!e->end)
    return;
  unsoil(e);
  HASH_DEL(e->end->lanes, e);
  e->end->k.streams--;
  e->end = NULL;
}

static void lane_free(struct lane *e) {
  leave(e);
  budget_give(&budget_pool, e->charged);
  stream_fini(&e->s);
  if (e->out)
    evbuffer_free(e->out);
  free(e);
}

static void close_lane(struct stream *s, int reason) {
  struct lane *e = (struct lane *)s;
  struct local *d = e->end;
  if (d && !d->dead) {
    if (!reason)
      say_data(e);
    struct msg *m = say(d, reason ? MSG_RESET : MSG_GONE, e->id);
    if (m)
      m->reason = reason;
  }
  lane_free(e);
}

static const struct stream_ops stream_ops = {"local", consumed, room, move, finish, close_lane};

static struct lane *lane_new(struct local *d, uint32_t id) {
  struct lane *e = calloc(1, sizeof *e);
  if (!e)
    return NULL;
  int err = stream_init(&e->s, &stream_ops, d->k.loop);
  e->out = evbuffer_new();
  if (err || !e->out) {
    lane_free(e);
    return NULL;
  }
  e->end = d;
  e->id = id;
  e->credit = LIMIT_STREAM_WINDOW_MIN;
  HASH_ADD(hh, d->lanes, id, sizeof e->id, e);
  if (!e->hh.tbl) {
    e->end = NULL;
    lane_free(e);
    return NULL;
  }
  d->k.streams++;
  return e;
}

/* --- receiving --- */

static void on_open(struct local *d, uint32_t id) {
  bool fits = d->k.streams < LIMIT_LINK_STREAMS && budget_left(&budget_pool) >= LIMIT_STREAM_WINDOW_MIN;
  struct lane *e = fits ? lane_new(d, id) : NULL;
  if (e) {
    link_tell_stream(&d->k, &e->s);
    return;
  }
  struct msg *m = say(d, MSG_RESET, id);
  if (m)
    m->reason = BEAM_ERR_LIMIT;
}

static void on_stream_msg(struct local *d, struct msg *m) {
  struct lane *e;
  HASH_FIND(hh, d->lanes, &m->id, sizeof m->id, e);
  if (!e)
    return; /* closed here meanwhile */
  switch (m->kind) {
  case MSG_DATA:
    if (evbuffer_add_buffer(e->s.in, m->data)) {
      fail(d, BEAM_ERR_NOMEM);
      return;
    }
    charge(e);
    stream_tell_readable(&e->s);
    return;
  case MSG_END:
    e->s.in_ended = 1;
    stream_tell_readable(&e->s);
    return;
  case MSG_CREDIT:
    e->credit += m->n;
    stream_tell_writable(&e->s);
    return;
  case MSG_GONE:
    e->mute = true;
    stream_tell_writable(&e->s);
    if (!e->s.in_ended) {
      e->s.in_ended = 1;
      stream_tell_readable(&e->s);
    }
    leave(e);
    return;
  default:
    leave(e);
    stream_tell_closed(&e->s, m->reason);
  }
}

/* May close the link. */
static void on_msg(struct local *d, struct msg *m) {
  switch (m->kind) {
  case MSG_OPEN:
    on_open(d, m->id);
    return;
  case MSG_CONTROL:
    bridge_control_end(d->bridge, d->me);
    link_tell_control(&d->k, m->control);
    return;
  case MSG_DRAIN:
    link_tell_draining(&d->k);
    return;
  case MSG_CLOSE:
    die(d, m->reason);
    return;
  default:
    on_stream_msg(d, m);
  }
}

/* A post, on the loop of box `me`. */
static void deliver(struct bridge *b, int me) {
  struct queue q;
  queue_init(&q);
  bridge_take(b, me, &q);
  if (b->end[me])
    b->end[me]->k.heard = loop_now(b->loop[me]);
  while (q.first && b->end[me] && !b->end[me]->dead) {
    struct msg *m = q.first;
    q.first = m->next;
    on_msg(b->end[me], m);
    msg_free(m);
  }
  queue_free(&q);
}

/* --- the link --- */

static void kill_lanes(struct local *d, int reason) {
  struct lane *e, *next;
  HASH_ITER(hh, d->lanes, e, next) {
    leave(e);
    stream_tell_closed(&e->s, reason);
  }
}

static void die(struct local *d, int reason) {
  if (d->dead)
    return;
  d->dead = true;
  kill_lanes(d, reason == BEAM_ERR_CLOSED ? BEAM_ERR_RESET : reason);
  link_tell_closed(&d->k, reason);
}

static void on_failed(void *arg) {
  struct local *d = arg;
  die(d, d->failure);
}

static void on_ready(void *arg) {
  struct local *d = arg;
  link_tell_ready(&d->k);
}

static void close_link(struct link *k, int reason) {
  struct local *d = (struct local *)k;
  struct bridge *b = d->bridge;
  bool posted = true;
  d->closed = true;
  if (!d->dead) {
    flush(d);
    struct msg *m = say(d, MSG_CLOSE, 0);
    if (m)
      m->reason = reason ? reason : BEAM_ERR_CLOSED;
    posted = post(d);
  }
  d->dead = true;
  kill_lanes(d, reason ? reason : BEAM_ERR_RESET);
  task_cancel(&d->flush);
  task_cancel(&d->ready);
  task_cancel(&d->failed);
  b->end[d->me] = NULL;
  bridge_close(b, d->me);
  if (posted)
    vanish(d);
}

static int open_stream(struct link *k, struct stream **out) {
  struct local *d = (struct local *)k;
  if (d->dead)
    return BEAM_ERR_CLOSED;
  if (!k->ready)
    return BEAM_AGAIN;
  if (k->draining)
    return BEAM_ERR_DRAINING;
  if (k->streams >= LIMIT_LINK_STREAMS)
    return BEAM_ERR_LIMIT;
  if (budget_left(&budget_pool) < LIMIT_STREAM_WINDOW_MIN)
    return BEAM_ERR_NOMEM;
  struct lane *e = lane_new(d, d->next_id);
  if (!e)
    return BEAM_ERR_NOMEM;
  if (!say(d, MSG_OPEN, e->id)) {
    lane_free(e);
    return BEAM_ERR_NOMEM;
  }
  d->next_id += 2; /* wraps after 2^31 streams, far above what is open at a time */
  *out = &e->s;
  return 0;
}

static int send_control(struct link *k, const beam_Control *c) {
  struct local *d = (struct local *)k;
  if (d->dead)
    return BEAM_ERR_CLOSED;
  if (!k->ready)
    return BEAM_AGAIN;
  if (!bridge_control_begin(d->bridge, !d->me))
    return BEAM_ERR_LIMIT;
  beam_Control *copy = malloc(sizeof *copy);
  struct msg *m = copy ? say(d, MSG_CONTROL, 0) : NULL;
  if (!m) {
    free(copy);
    bridge_control_end(d->bridge, !d->me);
    return BEAM_ERR_NOMEM;
  }
  *copy = *c;
  m->control = copy;
  return 0;
}

static void drain(struct link *k) {
  struct local *d = (struct local *)k;
  if (k->draining)
    return;
  k->draining = true;
  if (!d->dead)
    say(d, MSG_DRAIN, 0);
}

static const struct link_ops ops = {"local", open_stream, send_control, drain, close_link, NULL, NULL};

static struct local *local_new(struct bridge *b, int me) {
  struct local *d = calloc(1, sizeof *d);
  if (!d)
    return NULL;
  d->k.ops = &ops;
  d->k.loop = b->loop[me];
  d->bridge = b;
  d->me = me;
  d->next_id = (uint32_t)me;
  queue_init(&d->out);
  task_init(&d->flush, flush, d);
  task_init(&d->ready, on_ready, d);
  task_init(&d->failed, on_failed, d);
  timer_init(&d->retry, d->k.loop, retry, d);
  b->end[me] = d;
  bridge_ref(b);
  return d;
}

/* --- handing b over --- */

struct gift {
  struct local *b;
  void (*given)(void *user, struct link *b);
  void *user;
};

static void on_gift(void *arg) {
  struct gift g = *(struct gift *)arg;
  struct bridge *b = g.b->bridge;
  free(arg);
  bridge_ref(b); /* given() may close it */
  g.given(g.user, &g.b->k);
  if (b->end[1])
    link_tell_ready(&g.b->k); /* before anything that the other end sent */
  bridge_unref(b);
}

static void on_gift_dropped(void *arg) {
  struct gift *g = arg;
  link_close(&g->b->k, 0);
  free(g);
}

int link_local_pair(struct loop *a, struct loop *b, struct link **out,
                    void (*given)(void *user, struct link *b), void *user) {
  struct bridge *bridge = bridge_new(a, b, deliver);
  if (!bridge)
    return BEAM_ERR_NOMEM;
  struct local *d[2] = {local_new(bridge, 0), local_new(bridge, 1)};
  struct gift *g = malloc(sizeof *g);
  int err = d[0] && d[1] && g ? 0 : BEAM_ERR_NOMEM;
  if (!err) {
    *g = (struct gift){d[1], given, user};
    err = loop_post_or(b, on_gift, on_gift_dropped, g);
  }
  if (err) {
    free(g);
    for (int i = 1; i >= 0; i--) {
      if (!d[i])
        continue;
      d[i]->dead = true;
      close_link(&d[i]->k, 0);
    }
  } else {
    loop_soon(a, &d[0]->ready);
    *out = &d[0]->k;
  }
  bridge_unref(bridge);
  return err;
}
