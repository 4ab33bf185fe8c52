/* alarm.h: a clock in nanoseconds, and one wake-up on it: for packets that are paced closer together than the loop's timers reckon (1 ms).
 * On a virtual loop the clock is the loop's, so an alarm rings at the next whole millisecond.
 */
#ifndef IO_ALARM_H
#define IO_ALARM_H

#include "io/loop.h"

struct alarm;

/* Monotonic, read anew at each call. On a virtual loop it goes on by a nanosecond a call, so that no two calls get the same. */
uint64_t alarm_now(struct loop *l);

int alarm_new(struct loop *l, loop_fn fn, void *arg, struct alarm **out); /* NOMEM, SYSTEM */
void alarm_free(struct alarm *a);                                         /* NULL is accepted */
/* Ring once at `at` (of alarm_now), or in the next turn if that is past; replaces what was set. */
void alarm_set(struct alarm *a, uint64_t at);
void alarm_stop(struct alarm *a);

#endif
