/* How far ahead a peer may send on one stream. The window doubles when a whole one drained within two round trips: then the
 * window is what holds the sender back. What goes beyond the first 64 KiB is taken from the process's pool beforehand: all
 * growth together gets half of it, and no step more than half of what is left of that. The other half is for the first
 * 64 KiB of each stream. Credit that was given cannot be taken back in HTTP/2: a window that shrinks gives to the pool only
 * what has been withheld since.
 */
#include "io/budget.h"
#include "link/h2.h"

enum {
  FAST_MS = 4,    /* the clock's grain: two round trips count as at least this */
  TRIM_MS = 1000, /* idle windows are looked at so often */
  RTT_FRESH_MS = 1000
};

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
static void measure(struct h2 *h, uint64_t now) {
  if (h->pinging || (h->rtt_at && now - h->rtt_at < RTT_FRESH_MS))
    return;
  if (nghttp2_submit_ping(h->ng, NGHTTP2_FLAG_NONE, NULL))
    return;
  h->pinging = 1;
  h->pinged_at = now;
}

static void set(struct h2_stream *st, uint32_t window) {
  struct h2 *h = st->link;
  if (nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, st->id, (int32_t)window))
    return;
  if (window < st->window)
    st->owed += st->window - window;
  st->window = window;
  if (!h->closing && !timer_set(&h->timer))
    timer_start(&h->timer, TRIM_MS); /* without it windows only stay as they are */
}

static void grow(struct h2_stream *st) {
  uint32_t more = st->window;
  if (st->window >= LIMIT_STREAM_WINDOW_MAX || st->owed)
    return;
  if (more > LIMIT_STREAM_WINDOW_MAX - st->window)
    more = LIMIT_STREAM_WINDOW_MAX - st->window;
  if (budget_take(&budget_pool, more, budget_pool.cap / 2 + more))
    set(st, st->window + more);
}

void h2_window_drained(struct h2_stream *st, size_t n) {
  struct h2 *h = st->link;
  h2_window_received(st);
  if (!st->id)
    return;
  if (st->owed) {
    uint32_t back = n < st->owed ? (uint32_t)n : st->owed;
    st->owed -= back;
    budget_give(&budget_pool, back);
  }
  if (nghttp2_session_consume_stream(h->ng, st->id, n))
    return;
  st->drained += n;
  if (st->drained >= st->window) {
    uint64_t now = loop_now(h->k.loop), fast = 2ull * h->rtt;
    measure(h, now);
    if (now - st->since <= (fast > FAST_MS ? fast : FAST_MS) &&
        evbuffer_get_length(st->s.in) <= st->window / 4)
      grow(st);
    st->since = now;
    st->drained = 0;
  }
  if (nghttp2_session_want_write(h->ng))
    h2_flush_soon(h);
}

/* Shrink what did not drain a quarter of its window since the last look; when the pool runs low, halve what is large. */
void h2_window_trim(struct h2 *h) {
  uint64_t now = loop_now(h->k.loop);
  bool low = budget_left(&budget_pool) < budget_pool.cap / 8, any = false;
  for (struct h2_stream *st = h->streams; st; st = st->next) {
    if (!st->id || st->window == LIMIT_STREAM_WINDOW_MIN)
      continue;
    bool idle = now - st->since >= TRIM_MS && st->drained < st->window / 4;
    uint32_t window = idle ? LIMIT_STREAM_WINDOW_MIN : low ? st->window / 2 : st->window;
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
