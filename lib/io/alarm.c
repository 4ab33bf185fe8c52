#include "io/alarm.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

struct alarm {
  struct loop *loop;
  loop_fn fn;
  void *arg;
  int fd; /* -1 on a virtual loop */
  struct event ev;
  struct loop_timer timer; /* there */
};

uint64_t alarm_now(struct loop *l) {
  static _Thread_local uint64_t last; /* of virtual clocks */
  struct timespec ts;
  if (loop_is_virtual(l)) {
    uint64_t ms = loop_now(l);
    last = last / NS_PER_MS == ms && last % NS_PER_MS < NS_PER_MS - 1 ? last + 1 : ms * NS_PER_MS;
    return last;
  }
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void on_timer(void *arg) {
  struct alarm *a = arg;
  a->fn(a->arg);
}

static void on_event(evutil_socket_t fd, short what, void *arg) {
  struct alarm *a = arg;
  uint64_t rings;
  (void)what;
  if (read(fd, &rings, sizeof rings) == sizeof rings) /* else it was set anew in the meantime */
    a->fn(a->arg);
}

int alarm_new(struct loop *l, loop_fn fn, void *arg, struct alarm **out) {
  struct alarm *a = calloc(1, sizeof *a);
  if (!a)
    return BEAM_ERR_NOMEM;
  *a = (struct alarm){.loop = l, .fn = fn, .arg = arg, .fd = -1};
  timer_init(&a->timer, l, on_timer, a);
  if (!loop_is_virtual(l)) {
    a->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (a->fd < 0 || event_assign(&a->ev, loop_base(l), a->fd, EV_READ | EV_PERSIST, on_event, a) ||
        event_add(&a->ev, NULL)) {
      if (a->fd >= 0)
        close(a->fd);
      free(a);
      return BEAM_ERR_SYSTEM;
    }
  }
  *out = a;
  return 0;
}

void alarm_free(struct alarm *a) {
  if (!a)
    return;
  timer_stop(&a->timer);
  if (a->fd >= 0) {
    event_del(&a->ev);
    close(a->fd);
  }
  free(a);
}

void alarm_set(struct alarm *a, uint64_t at) {
  if (a->fd < 0) {
    uint64_t now = loop_now(a->loop) * NS_PER_MS;
    timer_start(&a->timer, at > now ? (at - now + NS_PER_MS - 1) / NS_PER_MS : 0);
    return;
  }
  struct itimerspec when = {.it_value = {(time_t)(at / NS_PER_S), (long)(at % NS_PER_S)}};
  if (!at)
    when.it_value.tv_nsec = 1; /* zero would stop it */
  timerfd_settime(a->fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void alarm_stop(struct alarm *a) {
  static const struct itimerspec never;
  if (a->fd < 0)
    timer_stop(&a->timer);
  else
    timerfd_settime(a->fd, 0, &never, NULL);
}
