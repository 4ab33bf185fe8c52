/* netwatch.c: this machine's network changed, or the machine slept. One hub a loop, however many watch.
 *
 *   link, address or route changed (rtnetlink) ──► quiet for QUIET_MS, or MOST_MS since the first ──► NET_CHANGED
 *   the clock was set, or the machine woke (timerfd) ──► did the boot clock run ahead? ─────────────► NET_SLEPT
 *   a tick every TICK_MS: the same question, and: does the tick come late? ─────────────────────────► NET_SLEPT
 *
 * The boot clock counts while a machine is suspended and the monotonic one, by which all timers go, does not: what they differ by is sleep. A tick that comes
 * late is a process that was stopped, or a virtual machine that was. Where there is no rtnetlink (another system, or it is forbidden) only the tick is left.
 */
#include <beam/beam.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>
#ifdef __linux__
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/timerfd.h>
#endif

#include "base/log.h"
#include "io/sockets.h"

enum {
  QUIET_MS = 250,   /* an interface that comes up says ten things within this: one word for all of them */
  MOST_MS = 2000,   /* ... and a machine where something always changes is heard too */
  TICK_MS = 10000,  /* as often as a link's PING, so that nothing wakes up more often for it */
  ASLEEP_MS = 5000, /* shorter naps do no harm: half of what a peer waits */
};

struct net_watch {
  struct net_watch *prev, *next;
  struct hub *hub;
  struct loop_task tell;
  int what;
  net_changed_cb cb;
  void *user;
};

struct hub {
  struct hub *prev, *next;
  struct loop *loop;
  struct net_watch *watches;
  struct loop_timer quiet, tick;
  uint64_t first; /* loop_now() of the first change not told of; 0: none */
  uint64_t due;   /* when the tick should come */
  uint64_t asleep;
  int route_fd, clock_fd; /* -1: there is none */
  struct event route, clock;
};

/* Of all loops of the process; each hub is its loop's alone. A loop may be made by one thread and run by another. */
static struct hub *hubs;
static pthread_mutex_t hubs_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t clock_asleep(void) {
#ifdef __linux__
  struct timespec boot, mono;
  if (clock_gettime(CLOCK_BOOTTIME, &boot) || clock_gettime(CLOCK_MONOTONIC, &mono))
    return 0;
  int64_t ms = (int64_t)(boot.tv_sec - mono.tv_sec) * 1000 + (boot.tv_nsec - mono.tv_nsec) / 1000000;
  return ms > 0 ? (uint64_t)ms : 0;
#else
  return 0;
#endif
}
uint64_t (*netwatch_asleep)(void) = clock_asleep;

/* --- telling --- */

static void tell(void *arg) {
  struct net_watch *w = arg;
  int what = w->what;
  w->what = 0;
  w->cb(w->user, what);
}

static void tell_all(struct hub *h, int what) {
  struct net_watch *w;
  DL_FOREACH(h->watches, w) {
    w->what |= what;
    loop_soon(h->loop, &w->tell);
  }
}

/* --- changes --- */

static void on_quiet(void *arg) {
  struct hub *h = arg;
  h->first = 0;
  log_debug("net", "the network changed");
  tell_all(h, NET_CHANGED);
}

static void changed(struct hub *h) {
  uint64_t now = loop_now(h->loop);
  if (!h->first)
    h->first = now;
  uint64_t left = h->first + MOST_MS > now ? h->first + MOST_MS - now : 0;
  if (timer_start(&h->quiet, left < QUIET_MS ? left : QUIET_MS))
    on_quiet(h); /* out of memory: no rest for it, then */
}

#ifdef __linux__
/* Not what changes nothing: a wireless driver's statistics come as a link without a changed flag. */
static bool is_change(const struct nlmsghdr *m) {
  const struct ifinfomsg *link = NLMSG_DATA(m);
  switch (m->nlmsg_type) {
  case RTM_NEWLINK:
    return m->nlmsg_len >= NLMSG_LENGTH(sizeof *link) && link->ifi_change;
  case RTM_DELLINK:
  case RTM_NEWADDR:
  case RTM_DELADDR:
  case RTM_NEWROUTE:
  case RTM_DELROUTE:
    return true;
  default:
    return false;
  }
}

static void on_route(evutil_socket_t fd, short what, void *arg) {
  struct hub *h = arg;
  _Alignas(struct nlmsghdr) char buf[16 * 1024];
  (void)what;
  for (int i = 0; i < 64; i++) { /* then others get their turn */
    struct sockaddr_nl from = {0};
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(fd, buf, sizeof buf, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
    if (n < 0 && errno == ENOBUFS) /* more than fits: something did change */
      changed(h);
    if (n <= 0)
      return;
    size_t left = (size_t)n;
    for (const struct nlmsghdr *m = (void *)buf; !from.nl_pid && NLMSG_OK(m, left); m = NLMSG_NEXT(m, left))
      if (is_change(m))
        changed(h);
  }
}

static int open_route(void) {
  struct sockaddr_nl a = {.nl_family = AF_NETLINK,
                          .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                       RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE};
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a)) {
    close(fd);
    fd = -1;
  }
  return fd;
}
#endif

/* --- sleep --- */

static void look_at_clocks(struct hub *h, uint64_t late) {
  uint64_t asleep = netwatch_asleep(), was = h->asleep;
  h->asleep = asleep;
  uint64_t slept = asleep > was ? asleep - was : 0;
  if (slept < late)
    slept = late;
  if (slept < ASLEEP_MS)
    return;
  log_info("net", "this machine slept for %llu s", (unsigned long long)slept / 1000);
  tell_all(h, NET_SLEPT);
}

static void on_tick(void *arg) {
  struct hub *h = arg;
  uint64_t now = loop_now(h->loop), late = now > h->due ? now - h->due : 0;
  h->due = now + TICK_MS;
  if (timer_start(&h->tick, TICK_MS))
    log_warn("net", "out of memory: sleep goes unnoticed");
  look_at_clocks(h, late);
}

#ifdef __linux__
/* Rings when the wall clock jumps, and that it does when the machine wakes. The hour it is set to never comes. */
static void arm_clock(int fd) {
  struct itimerspec never = {.it_value = {.tv_sec = (time_t)1 << 40}};
  timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

static void on_clock(evutil_socket_t fd, short what, void *arg) {
  uint64_t n;
  (void)what;
  if (read(fd, &n, sizeof n) < 0 && errno == ECANCELED)
    look_at_clocks(arg, 0);
  arm_clock(fd);
}

static int open_clock(void) {
  int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
  if (fd >= 0)
    arm_clock(fd);
  return fd;
}

static void listen_to(struct hub *h, struct event *ev, int *fd, event_callback_fn fn) {
  if (*fd < 0 ||
      (!event_assign(ev, loop_base(h->loop), *fd, EV_READ | EV_PERSIST, fn, h) && !event_add(ev, NULL)))
    return;
  close(*fd);
  *fd = -1;
}
#endif

/* --- life --- */

static struct hub *hub_find(const struct loop *l) {
  pthread_mutex_lock(&hubs_lock);
  struct hub *h = hubs;
  while (h && h->loop != l)
    h = h->next;
  pthread_mutex_unlock(&hubs_lock);
  return h;
}

static void hub_free(struct hub *h) {
  pthread_mutex_lock(&hubs_lock);
  DL_DELETE(hubs, h);
  pthread_mutex_unlock(&hubs_lock);
  timer_stop(&h->quiet);
  timer_stop(&h->tick);
  if (h->route_fd >= 0) {
    event_del(&h->route);
    close(h->route_fd);
  }
  if (h->clock_fd >= 0) {
    event_del(&h->clock);
    close(h->clock_fd);
  }
  free(h);
}

static struct hub *hub_of(struct loop *l) {
  struct hub *h = hub_find(l);
  if (h || !(h = calloc(1, sizeof *h)))
    return h;
  h->loop = l;
  h->route_fd = h->clock_fd = -1;
  h->asleep = netwatch_asleep();
  h->due = loop_now(l) + TICK_MS;
  timer_init(&h->quiet, l, on_quiet, h);
  timer_init(&h->tick, l, on_tick, h);
  if (timer_start(&h->tick, TICK_MS)) {
    free(h);
    return NULL;
  }
#ifdef __linux__
  if (!loop_is_virtual(l)) {
    h->route_fd = open_route();
    h->clock_fd = open_clock();
    listen_to(h, &h->route, &h->route_fd, on_route);
    listen_to(h, &h->clock, &h->clock_fd, on_clock);
    if (h->route_fd < 0)
      log_debug("net", "no rtnetlink: a change of the network is noticed by silence");
  }
#endif
  pthread_mutex_lock(&hubs_lock);
  DL_APPEND(hubs, h);
  pthread_mutex_unlock(&hubs_lock);
  return h;
}

int sockets_watch(struct net *n, struct loop *l, net_changed_cb cb, void *user, struct net_watch **out) {
  (void)n;
  struct net_watch *w = calloc(1, sizeof *w);
  if (!w || !(w->hub = hub_of(l))) {
    free(w);
    return BEAM_ERR_NOMEM;
  }
  w->cb = cb;
  w->user = user;
  task_init(&w->tell, tell, w);
  DL_APPEND(w->hub->watches, w);
  *out = w;
  return 0;
}

void sockets_unwatch(struct net_watch *w) {
  if (!w)
    return;
  struct hub *h = w->hub;
  task_cancel(&w->tell);
  DL_DELETE(h->watches, w);
  free(w);
  if (!h->watches)
    hub_free(h);
}
