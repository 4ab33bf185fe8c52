/* flight.c: how much bulk may be on its way, and how fast it leaves, so that the queue before the path's narrowest place stays short.
 *
 * Congestion control fills that queue: CUBIC until packets are lost, BBR up to about a round trip. What is sent behind it waits, this link's own small
 * streams first of all. So the sender compares the round trips of now with the shortest one. Longer by more than a quarter: what is on its way is cut
 * to what makes it a quarter (where the queue is ours, the round trip is what is on its way, divided by a rate that stays the same). Shorter, and bulk
 * waited: more, by the same rule.
 *
 *   FREE ── bulk, and a long queue ──► HELD ─┬─ short, and bulk waits: more
 *     ▲                                      ├─ long: less, down to what arrives in that time
 *     └────── LIFT_MS ◄── LIFTED ◄───────────┘  long at that, and much less arrives than before: the queue is others', or the route is longer. Who gives
 *                                               way then, starves
 *
 *   UNKNOWN ── a long queue, or the rate grows no more ──► PACED: bulk leaves a quarter faster than the best of late arrived, twice that while
 *                                                          it grows. After a pause nothing is made up for: it would all be in the queue at once
 *
 * A round is two round trips: in the first one what was changed travels, in the second one it is seen. Congestion control stays in force throughout:
 * nothing here lets more go than it does.
 */
#include "quic/conn.h"

enum {
  QUEUE_SHARE = 4, /* of the shortest round trip: so long a queue is fine */
  QUEUE_MS = 4,    /* so is one of this length: a busy machine makes it by itself */
  TRIP_MS =
      2, /* a round trip counts as this at least: the clock's grain, and enough acknowledgements to see something */
  IDLE_TRIPS = 8,  /* nothing came for so long: what is measured now is of another time */
  BASE_MS = 10000, /* the shortest round trip is that of so long, or twice that: a route may become longer */
  LESS = 75,       /* per cent of what arrived when bulk was held first */
  STRIKES = 6,     /* rounds of a long queue and less than that */
  LIFT_MS = 5000,
  LOSSY = 200,        /* one of so many packets repeats something */
  LARGE = 1000,       /* smaller packets are not counted */
  CALM = 3,           /* so many rounds without a queue: twice as much at a time */
  GROWS = 110,        /* per cent of the best: a round that brought more is not the path's end */
  PLATEAU = 3,        /* rounds that did not */
  PACE = 125,         /* per cent of the best rate */
  SMALL_BYTES = 4096, /* a stream with less on its way does not wait for bulk ... */
  SMALL_FACTOR = 2,   /* ... until so many times the limit is on its way: many small streams are bulk too */
  QUANTUM_MOST = 64 * 1024,
  LEAST = 16 * 1024 /* no limit below this */
};
#define MOST 1e18

void quic_flight_init(struct quic_flight *f) {
  *f = (struct quic_flight){.limit = UINT64_MAX, .base = UINT64_MAX, .base_next = UINT64_MAX};
}

void quic_flight_moved(struct quic_flight *f) {
  uint64_t sent = f->sent;
  quic_flight_init(f);
  f->sent = sent;
}

/* --- what is seen --- */

static void note_base(struct quic_flight *f, uint64_t rtt, uint64_t now) {
  if (rtt < f->base)
    f->base = rtt;
  if (rtt < f->base_next)
    f->base_next = rtt;
  if (now - f->base_at < (uint64_t)BASE_MS * QUIC_NS_PER_MS)
    return;
  f->base = f->base_next;
  f->base_next = rtt;
  f->base_at = now;
}

/* Bytes a ms that arrived in the best of the last rounds. */
static uint64_t best(const struct quic_flight *f) {
  uint64_t most = 0;
  for (unsigned i = 0; i < QUIC_FLIGHT_ROUNDS; i++)
    if (f->rate[i] > most)
      most = f->rate[i];
  return most;
}

/* --- what follows --- */

static uint64_t between(double x, double low, double high) {
  return (uint64_t)(x < low ? low : x > high ? high : x);
}

/* change: what the round trip may be, divided by what it is. */
static void raise_limit(struct quic_flight *f, double change, bool calm) {
  f->strikes = 0;
  f->calm = calm && f->waited ? f->calm + 1 : 0;
  if (f->calm > CALM)
    change = 2;
  if (f->full_flight && f->limit != UINT64_MAX)
    f->limit = between((double)f->limit * change, LEAST, (double)f->limit * 2);
}

static void lower_limit(struct quic_flight *f, double change, double floor, uint64_t now) {
  double is = (double)(f->limit < f->most ? f->limit : f->most);
  if (f->limit == UINT64_MAX)
    f->was = best(f);
  f->calm = 0;
  f->limit = between(is * change, is / 2, MOST);
  if (f->limit > floor)
    return;
  f->limit = between(floor, LEAST, MOST);
  f->strikes += best(f) * 100 < f->was * LESS;
  if (f->strikes < STRIKES)
    return;
  f->limit = UINT64_MAX;
  f->lifted_at = now;
  f->strikes = 0;
}

/* What arrived in a round is never more than the path can do; it is less when the application had no more, or the peer's windows. */
static void note_rate(struct quic_flight *f, uint64_t rate) {
  uint64_t before = best(f);
  f->grows = rate * 100 > before * GROWS;
  if (f->busy || rate > before)
    f->rate[f->round++ % QUIC_FLIGHT_ROUNDS] = rate;
  if (best(f) > f->was)
    f->was = best(f);
  if (f->busy || f->blocked)
    f->plateau = f->grows ? 0 : f->plateau + 1;
  f->paced |= f->plateau >= PLATEAU;
}

static void end_round(struct quic_flight *f, uint64_t now) {
  uint64_t is = f->sum / f->samples, good = f->base + f->fine;
  note_rate(f, (f->arrived - f->round_arrived) * 1000 / ((now - f->round_at) / 1000 + 1));
  bool lossy = is <= good && f->again * LOSSY > f->packets;
  if (lossy) /* what is lost here was not too much, and congestion control needs room to find that out */
    f->limit = UINT64_MAX;
  if (lossy || !f->busy) /* not busy: rate and flight are the application's, not the path's */
    return;
  if (f->lifted_at && now - f->lifted_at < (uint64_t)LIFT_MS * QUIC_NS_PER_MS)
    return;
  double change = (double)good / (double)is;
  if (is <= good) {
    raise_limit(f, change, is - f->base < f->fine / 2);
  } else {
    f->paced = true;
    f->grows = false;
    lower_limit(f, change, (double)best(f) * (double)good / QUIC_NS_PER_MS, now);
  }
}

void quic_flight_look(struct quic_conn *c, uint64_t now) {
  struct quic_flight *f = &c->flight;
  ngtcp2_conn_info info;
  ngtcp2_conn_get_conn_info(c->ng, &info);
  uint64_t arrived =
      f->sent - info.bytes_in_flight; /* or lost; or acknowledgements, which nobody acknowledges */
  if (arrived == f->arrived)
    return; /* no news */
  f->arrived = arrived;
  note_base(f, info.latest_rtt, now);
  f->fine = f->base / QUEUE_SHARE;
  if (f->fine < (uint64_t)QUEUE_MS * QUIC_NS_PER_MS)
    f->fine = (uint64_t)QUEUE_MS * QUIC_NS_PER_MS;
  if (info.bytes_in_flight > f->most)
    f->most = info.bytes_in_flight;
  uint64_t trip = info.smoothed_rtt, age = now - f->round_at;
  if (trip < (uint64_t)TRIP_MS * QUIC_NS_PER_MS)
    trip = (uint64_t)TRIP_MS * QUIC_NS_PER_MS;
  if (age >= trip) {
    f->sum += info.latest_rtt;
    f->samples++;
  }
  if (age < 2 * trip)
    return;
  if (age < IDLE_TRIPS * trip)
    end_round(f, now);
  f->sum = f->samples = 0;
  f->most = info.bytes_in_flight;
  f->round_at = now;
  f->round_arrived = arrived;
  f->packets = f->again = 0;
  f->busy = f->blocked = f->waited = f->full_flight = false;
  f->pace = f->paced ? best(f) * (f->grows ? 2 * PACE : PACE) / 100 : 0;
}

void quic_flight_sent(struct quic_flight *f, size_t n, size_t fresh) {
  f->sent += n;
  if (f->pace)
    f->next += n * QUIC_NS_PER_MS / f->pace;
  if (n < LARGE)
    return;
  f->packets++;
  f->again += fresh < n / 2;
}

/* --- what is asked before each packet --- */

/* BBR makes its window very small every few seconds: what waits for that does not wait for its time to leave. */
void quic_flight_turned(struct quic_conn *c) {
  struct quic_flight *f = &c->flight;
  f->busy |= c->want[0] || c->want[1];
  f->waiting = c->want[1] && ngtcp2_conn_get_cwnd_left(c->ng) > 2 * LEAST;
}

/* What waited for its time, and then for this program to get a processor, is made up for at once, as long as the queue it makes is fine. Where the
 * application, the peer's window or congestion control paused, it is not. */
static bool too_early(struct quic_flight *f, uint64_t now) {
  if (!f->pace)
    return false;
  uint64_t credit = f->waiting ? f->fine : QUIC_NS_PER_MS;
  if (f->next + credit < now)
    f->next = now - credit;
  return f->next > now;
}

enum quic_flight_state quic_flight_state(struct quic_conn *c, uint64_t now) {
  struct quic_flight *f = &c->flight;
  ngtcp2_conn_info info;
  if (too_early(f, now))
    return QUIC_FLIGHT_EARLY;
  if (f->limit == UINT64_MAX)
    return QUIC_FLIGHT_FREE;
  ngtcp2_conn_get_conn_info(c->ng, &info);
  uint64_t is = info.bytes_in_flight, spare = info.cwnd / 8 < LEAST ? info.cwnd / 8 : LEAST;
  if (is >= f->limit)
    return is / SMALL_FACTOR >= f->limit ? QUIC_FLIGHT_OVER : QUIC_FLIGHT_FULL;
  /* BBR makes its window very small every few seconds, for a while: bulk leaves a little of it. */
  return is + spare >= info.cwnd ? QUIC_FLIGHT_SPARE : QUIC_FLIGHT_FREE;
}

bool quic_flight_is_small(const struct quic_stream *st) {
  return st->out.flight < SMALL_BYTES;
}

uint64_t quic_flight_early(const struct quic_conn *c) {
  return c->flight.pace && c->want[1] ? c->flight.next : UINT64_MAX;
}

/* What the engine lets go at once is a millisecond of its rate, but never more than 64 KiB. */
size_t quic_flight_burst(struct quic_conn *c) {
  size_t quantum = ngtcp2_conn_get_send_quantum(c->ng);
  return quantum < QUANTUM_MOST ? quantum : QUIC_FLUSH_BYTES;
}
