/* loop.h: one thread's event loop: tasks, timers, posts from other threads.
 *
 * A turn:   poll events ──► tasks (until none is left, bounded) ──► turn-end tasks (flushes) ──► timers ──► poll ...
 *
 * Tasks carry every notification of a stream, so that no callback ever runs inside the call that caused it. Turn-end tasks write what
 * the turn produced, once. Timers are a heap of our own, so that the same code runs on the virtual clock of a simulation.
 */
#ifndef IO_LOOP_H
#define IO_LOOP_H

#include <beam/beam.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct loop;

typedef void (*loop_fn)(void *arg);

int loop_new(struct loop **out);
/* A loop whose clock stands still while there is work and jumps to the next timer when there is none. Starts at 1,000,000 ms. */
int loop_new_virtual(struct loop **out);
void loop_free(struct loop *l); /* the caller has closed everything on it; waiting posts are dropped */

int loop_run(struct loop *l);
void loop_stop(struct loop *l); /* any thread */
/* Virtual loops: run until the clock reaches `ms` from now; with 0 just until no task is left. */
void loop_run_for(struct loop *l, uint64_t ms);
/* Real loops, tests: run one turn; waits at most `ms` for events. */
void loop_turn(struct loop *l, int ms);

uint64_t loop_now(struct loop *l); /* ms, monotonic, cached at the turn's start */
bool loop_is_virtual(struct loop *l);
struct event_base *loop_base(struct loop *l); /* for rank 2 (io) only; NULL on a virtual loop */
/* For rank 2 only: memory that all sockets of the loop read into, one after the other; what is in it is good until the event's callback returns.
 * NULL: no memory. Always asked for with the same n. */
void *loop_scratch(struct loop *l, size_t n);

/* Any thread. Keeps the order of one thread's posts. NOMEM, LIMIT (queue full), CLOSED. */
int loop_post(struct loop *l, loop_fn fn, void *arg);
/* The same; when the loop is freed before its turn comes, dropped(arg) runs inside loop_free() instead: what arg holds is let go. */
int loop_post_or(struct loop *l, loop_fn fn, loop_fn dropped, void *arg);

/* --- tasks: intrusive, cannot fail --- */
struct loop_task {
  loop_fn fn;
  void *arg;
  struct loop_task *prev, *next; /* non-NULL while queued */
};
static inline void task_init(struct loop_task *t, loop_fn fn, void *arg) {
  t->fn = fn;
  t->arg = arg;
  t->prev = t->next = 0;
}
/* All no-ops when t is queued already. */
void loop_soon(struct loop *l, struct loop_task *t);
void loop_turn_end(struct loop *l, struct loop_task *t); /* after the turn's tasks */
/* Inside loop_free: for what outlives its owner for a while, such as a socket that drains. */
void loop_at_free(struct loop *l, struct loop_task *t);
void task_cancel(struct loop_task *t); /* no-op when not queued */
static inline bool task_queued(const struct loop_task *t) {
  return t->next != 0;
}

/* --- timers: intrusive, one shot --- */
struct loop_timer {
  struct loop *loop;
  loop_fn fn;
  void *arg;
  uint64_t at;
  uint64_t order; /* equal deadlines fire in the order they were set */
  size_t slot;    /* index in the heap + 1; 0: not set */
};
static inline void timer_init(struct loop_timer *t, struct loop *l, loop_fn fn, void *arg) {
  t->loop = l;
  t->fn = fn;
  t->arg = arg;
  t->slot = 0;
}
/* (Re)start: fires once, `ms` from now. Returns 0 or NOMEM: an owner treats that as its own failure. */
int timer_start(struct loop_timer *t, uint64_t ms);
void timer_stop(struct loop_timer *t); /* no-op when not set */
static inline bool timer_set(const struct loop_timer *t) {
  return t->slot != 0;
}

#endif
