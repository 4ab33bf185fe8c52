/* How far ahead a peer may send on one stream. The window doubles when a whole one drained within two round trips: then the window is what holds
 * the sender back. What goes beyond the first 64 KiB is taken from the process's pool beforehand: all growth together leaves keep() of it, and no step
 * takes more than half of what is left above that, so that one stream comes ever closer to all of it. Credit that was given cannot be taken back: a
 * window that shrinks gives to the pool only what has been withheld since. (The policy of the other transports; here it is ngtcp2 that is asked.)
 */
#include "io/budget.h"
#include "quic/conn.h"

enum {
  FAST_MS = 4,   /* the clock's grain: two round trips count as at least this */
  TRIM_MS = 1000 /* idle windows are looked at so often */
};

/* With less, sockets read and write in small pieces: LIMIT_POOL_SPARE, and some for those that fill a large window. */
static size_t keep(void) {
  return budget_pool.cap / 16 * 11;
}

bool quic_window_fits(void) {
  return budget_left(&budget_pool) >= LIMIT_STREAM_WINDOW_MIN;
}

void quic_window_init(struct quic_stream *st) {
  st->window = LIMIT_STREAM_WINDOW_MIN;
  st->since = loop_now(st->s.loop);
}

/* Of the bytes that wait, the first LIMIT_STREAM_WINDOW_MIN are charged as they come; growth was paid beforehand. Once nothing more can come, what
 * waits is charged as it is. */
void quic_window_received(struct quic_stream *st) {
  size_t n = evbuffer_get_length(st->s.in);
  if (n && !st->held && !st->drained)
    st->since = loop_now(st->s.loop); /* what the sender needed to begin is no sign of a small window */
  if (st->id >= 0 && n > LIMIT_STREAM_WINDOW_MIN)
    n = LIMIT_STREAM_WINDOW_MIN;
  if (n > st->held)
    budget_charge(&budget_pool, n - st->held);
  else if (n < st->held)
    budget_give(&budget_pool, st->held - n);
  st->held = n;
}

/* id is -1 by now, or will not be asked for again. */
void quic_window_over(struct quic_stream *st) {
  budget_give(&budget_pool, st->owed + (st->window - LIMIT_STREAM_WINDOW_MIN));
  st->owed = 0;
  st->window = LIMIT_STREAM_WINDOW_MIN;
  quic_window_received(st);
}

void quic_window_fini(struct quic_stream *st) {
  quic_window_over(st);
  budget_give(&budget_pool, st->held);
  st->held = 0;
}

static void give(struct quic_stream *st, uint64_t n) {
  if (n && !ngtcp2_conn_extend_max_stream_offset(st->c->ng, st->id, n))
    quic_conn_flush_soon(st->c);
}

static uint64_t rtt_ms(struct quic_conn *c) {
  ngtcp2_conn_info info;
  ngtcp2_conn_get_conn_info(c->ng, &info);
  return info.smoothed_rtt / QUIC_NS_PER_MS;
}

static void grow(struct quic_stream *st) {
  uint32_t more = st->window;
  size_t left = budget_left(&budget_pool);
  if (st->window >= LIMIT_STREAM_WINDOW_MAX || st->owed || st->s.in_ended)
    return;
  if (more > LIMIT_STREAM_WINDOW_MAX - st->window)
    more = LIMIT_STREAM_WINDOW_MAX - st->window;
  if (left > keep() && more > (left - keep()) / 2)
    more = (uint32_t)((left - keep()) / 2) & ~(uint32_t)(LIMIT_STREAM_WINDOW_MIN - 1);
  if (!more || !budget_take(&budget_pool, more, keep() + more))
    return;
  st->window += more;
  give(st, more);
  if (!timer_set(&st->c->trim))
    timer_start(&st->c->trim, TRIM_MS); /* without it windows only stay as they are */
}

void quic_window_drained(struct quic_stream *st, size_t n) {
  quic_window_received(st);
  if (st->id < 0 || !st->c || !st->c->ng)
    return;
  uint32_t back = n < st->owed ? (uint32_t)n : st->owed;
  st->owed -= back;
  budget_give(&budget_pool, back);
  give(st, n - back);
  st->drained += n;
  if (st->drained < st->window)
    return;
  uint64_t now = loop_now(st->s.loop), fast = 2 * rtt_ms(st->c);
  if (now - st->since <= (fast > FAST_MS ? fast : FAST_MS) && evbuffer_get_length(st->s.in) <= st->window / 4)
    grow(st);
  st->since = now;
  st->drained = 0;
}

/* Shrink what did not drain a quarter of its window since the last look; when the pool runs low, halve what is large. */
void quic_window_trim(void *arg) {
  struct quic_conn *c = arg;
  uint64_t now = loop_now(c->loop);
  bool low = budget_left(&budget_pool) < budget_pool.cap / 8, any = false;
  for (struct quic_stream *st = c->streams; st; st = st->next) {
    if (st->id < 0 || st->window == LIMIT_STREAM_WINDOW_MIN)
      continue;
    bool idle = now - st->since >= TRIM_MS && st->drained < st->window / 4;
    uint32_t window = idle ? LIMIT_STREAM_WINDOW_MIN : low ? st->window / 2 : st->window;
    if (window < LIMIT_STREAM_WINDOW_MIN)
      window = LIMIT_STREAM_WINDOW_MIN;
    st->owed += st->window - window;
    st->window = window;
    if (now - st->since >= TRIM_MS) {
      st->since = now;
      st->drained = 0;
    }
    any = any || st->window > LIMIT_STREAM_WINDOW_MIN;
  }
  if (any)
    timer_start(&c->trim, TRIM_MS);
}
