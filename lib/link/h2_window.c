/* How far ahead a peer may send on one stream. The window doubles when a whole one drained within two round trips: then the
 * window is what holds the sender back. What goes beyond the first 64 KiB is taken from the process's pool beforehand: all
 * growth together leaves keep() of it, and no step takes more than half of what is left above that, so that one stream comes
 * ever closer to all of it. The rest is for the first 64 KiB of each stream, and for sockets: they read and write in small
 * pieces when less than LIMIT_POOL_SPARE is free. Credit that was given cannot be taken back in HTTP/2: a
 * window that shrinks gives to the pool only what has been withheld since.
 *
 * What the owner took is credit again in eighths of the window. The engine by itself would wait for half of it: then a sender
 * on a long way, whose window is just large enough, stands still for a third of the time.
 */
#include "io/budget.h"
#include "link/h2.h"

enum {
  FAST_MS = 4,    /* the clock's grain: two round trips count as at least this */
  TRIM_MS = 1000, /* idle windows are looked at so often */
  RTT_FRESH_MS = 1000,
  CREDIT_LEAST = LIMIT_STREAM_WINDOW_MIN / 2 /* smaller ones cost more than they are worth */
};

_Static_assert(LIMIT_POOL_BYTES / 16 * 11 >= LIMIT_POOL_SPARE + 4 * (LIMIT_SOCK_IN + LIMIT_SOCK_OUT),
               "a large window would make the sockets slow that fill it");

static size_t keep(void) {
  return budget_pool.cap / 16 * 11;
}

bool h2_window_fits(void) {
  return budget_left(&budget_pool) >= LIMIT_STREAM_WINDOW_MIN;
}

void h2_window_init(struct h2_stream *st) {
  st->window = LIMIT_STREAM_WINDOW_MIN;
  st->since = loop_now(st->link->k.loop);
}

/* Of the bytes that wait, the first LIMIT_STREAM_WINDOW_MIN are charged as they come; growth was paid beforehand. Once nothing more
 * can come, what waits is charged as it is. */
void h2_window_received(struct h2_stream *st) {
  size_t n = evbuffer_get_length(st->s.in);
  if (n && !st->held && !st->drained)
    st->since = loop_now(st->s.loop); /* what the sender needed to begin is no sign of a small window */
  if (st->id && n > LIMIT_STREAM_WINDOW_MIN)
    n = LIMIT_STREAM_WINDOW_MIN;
  if (n > st->held)
    budget_charge(&budget_pool, n - st->held);
  else if (n < st->held)
    budget_give(&budget_pool, st->held - n);
  st->held = n;
}

void h2_window_over(struct h2_stream *st) {
  budget_give(&budget_pool, st->owed + (st->window - LIMIT_STREAM_WINDOW_MIN));
  st->owed = 0;
  st->window = LIMIT_STREAM_WINDOW_MIN;
  h2_window_received(st);
}

void h2_window_fini(struct h2_stream *st) {
  h2_window_over(st);
  budget_give(&budget_pool, st->held);
  st->held = 0;
}

/* A round trip measured in-band, so that it includes the queues. */
void h2_window_measure(struct h2 *h) {
  uint64_t now = loop_now(h->k.loop);
  if (h->pinging || (h->rtt_at && now - h->rtt_at < RTT_FRESH_MS))
    return;
  if (nghttp2_submit_ping(h->ng, NGHTTP2_FLAG_NONE, NULL))
    return;
  h->pinging = 1;
  h->pinged_at = now;
}

/* Received and not given back, as the engine counts: what waits and `credit`, less `owed`. */
static int32_t unreturned(const struct h2_stream *st) {
  return nghttp2_session_get_stream_effective_recv_data_length(st->link->ng, st->id);
}

/* The engine never forgets by how much a window shrank. When it grows again the engine tells the peer only of what goes beyond that, and counts the rest as received: it is
 * credit then, for the peer used up what it had too much before we grow. Without that the window would be larger here than over there, and a sender stands still for ever once an
 * eighth of ours is more than it has. */
static bool set(struct h2_stream *st, uint32_t window) {
  struct h2 *h = st->link;
  int32_t before = unreturned(st);
  if (nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, st->id, (int32_t)window))
    return false;
  if (window < st->window)
    st->owed += st->window - window;
  else
    st->credit += (uint32_t)(unreturned(st) - before);
  st->window = window;
  if (!h->closing && !timer_set(&h->timer))
    timer_start(&h->timer, TRIM_MS); /* without it windows only stay as they are */
  return true;
}

static void grow(struct h2_stream *st) {
  uint32_t more = st->window;
  size_t left = budget_left(&budget_pool);
  if (st->window >= LIMIT_STREAM_WINDOW_MAX || st->owed)
    return;
  if (more > LIMIT_STREAM_WINDOW_MAX - st->window)
    more = LIMIT_STREAM_WINDOW_MAX - st->window;
  if (left > keep() && more > (left - keep()) / 2)
    more = (uint32_t)((left - keep()) / 2) & ~(uint32_t)(LIMIT_STREAM_WINDOW_MIN - 1);
  if (more && budget_take(&budget_pool, more, keep() + more) && !set(st, st->window + more))
    budget_give(&budget_pool, more);
}

/* After a window shrank, the engine first keeps what the peer has too much. */
static void give_credit(struct h2_stream *st) {
  struct h2 *h = st->link;
  uint32_t least = st->window / 8 > CREDIT_LEAST ? st->window / 8 : CREDIT_LEAST;
  if (st->credit < least)
    return;
  int32_t most = unreturned(st);
  int32_t n = most < (int32_t)st->credit ? most : (int32_t)st->credit;
  if (n > 0 && !nghttp2_submit_window_update(h->ng, NGHTTP2_FLAG_NONE, st->id, n))
    st->credit -= (uint32_t)n;
}

void h2_window_drained(struct h2_stream *st, size_t n) {
  struct h2 *h = st->link;
  h2_window_received(st);
  if (!st->id)
    return;
  uint32_t back = n < st->owed ? (uint32_t)n : st->owed;
  st->owed -= back;
  budget_give(&budget_pool, back);
  st->credit += (uint32_t)n - back;
  st->drained += n;
  if (st->drained >= st->window) {
    uint64_t now = loop_now(h->k.loop), fast = 2ull * h->rtt;
    h2_window_measure(h);
    if (now - st->since <= (fast > FAST_MS ? fast : FAST_MS) &&
        evbuffer_get_length(st->s.in) <= st->window / 4)
      grow(st);
    st->since = now;
    st->drained = 0;
  }
  give_credit(st);
  if (nghttp2_session_want_write(h->ng))
    h2_flush_soon(h);
}

static uint32_t half(uint32_t window) {
  return window / 2 > LIMIT_STREAM_WINDOW_MIN ? window / 2 : LIMIT_STREAM_WINDOW_MIN;
}

/* Shrink what did not drain a quarter of its window since the last look; when the pool runs low, halve what is large. */
void h2_window_trim(struct h2 *h) {
  uint64_t now = loop_now(h->k.loop);
  bool low = budget_left(&budget_pool) < budget_pool.cap / 8, any = false;
  for (struct h2_stream *st = h->streams; st; st = st->next) {
    if (!st->id || st->window == LIMIT_STREAM_WINDOW_MIN)
      continue;
    bool idle = now - st->since >= TRIM_MS && st->drained < st->window / 4;
    uint32_t window = idle ? LIMIT_STREAM_WINDOW_MIN : low ? half(st->window) : st->window;
    if (window != st->window)
      set(st, window);
    if (now - st->since >= TRIM_MS) {
      st->since = now;
      st->drained = 0;
    }
    any = any || st->window > LIMIT_STREAM_WINDOW_MIN;
  }
  if (any && !timer_set(&h->timer))
    timer_start(&h->timer, TRIM_MS);
  if (nghttp2_session_want_write(h->ng))
    h2_flush_soon(h);
}
