#include "io/loop.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/random.h"

/* Tasks that make tasks may go round this often before events get their turn again. */
enum { TASK_ROUNDS = 64 };

struct post {
  struct post *next;
  loop_fn fn, dropped;
  void *arg;
};

struct loop {
  struct event_base *base; /* NULL: virtual */
  uint64_t now;
  bool stale; /* the poll may have slept since `now` was read: whoever asks first reads it again */
  struct loop_task soon, ends, frees; /* list heads */
  struct loop_timer **heap;
  size_t timers, heap_cap;
  uint64_t timer_order;

  void *scratch;

  struct event *wake, *tick; /* tick: wakes the poll for the next timer */
  int wake_fd;
  pthread_mutex_t lock; /* guards what other threads touch: */
  struct post *posts, **posts_tail;
  size_t posts_waiting;
  bool closing;
  _Atomic bool stop;
};

/* --- clock --- */

static uint64_t clock_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t loop_now(struct loop *l) {
  if (l->stale) {
    l->now = clock_ms();
    l->stale = false;
  }
  return l->now;
}
bool loop_is_virtual(struct loop *l) {
  return !l->base;
}
struct event_base *loop_base(struct loop *l) {
  return l->base;
}

void *loop_scratch(struct loop *l, size_t n) {
  if (!l->scratch)
    l->scratch = malloc(n);
  return l->scratch;
}

/* --- tasks --- */

static void list_init(struct loop_task *head) {
  head->prev = head->next = head;
}

static void list_push(struct loop_task *head, struct loop_task *t) {
  if (task_queued(t))
    return;
  t->prev = head->prev;
  t->next = head;
  head->prev->next = t;
  head->prev = t;
}

void task_cancel(struct loop_task *t) {
  if (!task_queued(t))
    return;
  t->prev->next = t->next;
  t->next->prev = t->prev;
  t->prev = t->next = NULL;
}

void loop_soon(struct loop *l, struct loop_task *t) {
  list_push(&l->soon, t);
}
void loop_turn_end(struct loop *l, struct loop_task *t) {
  list_push(&l->ends, t);
}
void loop_at_free(struct loop *l, struct loop_task *t) {
  list_push(&l->frees, t);
}

/* Run what is queued now; what these tasks queue waits for the next round. */
static void run_list(struct loop_task *head) {
  struct loop_task batch;
  list_init(&batch);
  if (head->next != head) {
    batch = *head;
    batch.prev->next = batch.next->prev = &batch;
    list_init(head);
  }
  while (batch.next != &batch) {
    struct loop_task *t = batch.next;
    task_cancel(t);
    t->fn(t->arg);
  }
}

static bool has_tasks(struct loop *l) {
  return l->soon.next != &l->soon || l->ends.next != &l->ends;
}

/* Flushes cascade (a link's into TLS's into the socket's), so turn-end tasks repeat until nothing is queued. */
static void run_tasks(struct loop *l) {
  for (int i = 0; i < TASK_ROUNDS && has_tasks(l); i++)
    run_list(l->soon.next != &l->soon ? &l->soon : &l->ends);
}

/* --- timers: a binary heap by (at, order) --- */

static bool earlier(const struct loop_timer *a, const struct loop_timer *b) {
  return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void heap_put(struct loop *l, size_t i, struct loop_timer *t) {
  l->heap[i] = t;
  t->slot = i + 1;
}

static void heap_up(struct loop *l, size_t i, struct loop_timer *t) {
  for (; i && earlier(t, l->heap[(i - 1) / 2]); i = (i - 1) / 2)
    heap_put(l, i, l->heap[(i - 1) / 2]);
  heap_put(l, i, t);
}

static void heap_down(struct loop *l, size_t i, struct loop_timer *t) {
  for (size_t c; (c = 2 * i + 1) < l->timers; i = c) {
    if (c + 1 < l->timers && earlier(l->heap[c + 1], l->heap[c]))
      c++;
    if (!earlier(l->heap[c], t))
      break;
    heap_put(l, i, l->heap[c]);
  }
  heap_put(l, i, t);
}

int timer_start(struct loop_timer *t, uint64_t ms) {
  struct loop *l = t->loop;
  timer_stop(t);
  if (l->timers == l->heap_cap) {
    size_t cap = l->heap_cap ? 2 * l->heap_cap : 64;
    struct loop_timer **heap = realloc(l->heap, cap * sizeof *heap);
    if (!heap)
      return BEAM_ERR_NOMEM;
    l->heap = heap;
    l->heap_cap = cap;
  }
  t->at = loop_now(l) + ms;
  t->order = l->timer_order++;
  heap_up(l, l->timers++, t);
  return 0;
}

void timer_stop(struct loop_timer *t) {
  if (!t->slot)
    return;
  struct loop *l = t->loop;
  size_t i = t->slot - 1;
  t->slot = 0;
  struct loop_timer *last = l->heap[--l->timers];
  if (last == t)
    return;
  if (i && earlier(last, l->heap[(i - 1) / 2]))
    heap_up(l, i, last);
  else
    heap_down(l, i, last);
}

/* A timer that starts itself again with 0 ms waits for the next turn: events get theirs in between. */
static void run_timers(struct loop *l) {
  uint64_t started = l->timer_order;
  while (l->timers && l->heap[0]->at <= l->now && l->heap[0]->order < started) {
    struct loop_timer *t = l->heap[0];
    timer_stop(t);
    t->fn(t->arg);
  }
}

/* --- posts --- */

int loop_post(struct loop *l, loop_fn fn, void *arg) {
  return loop_post_or(l, fn, NULL, arg);
}

int loop_post_or(struct loop *l, loop_fn fn, loop_fn dropped, void *arg) {
  struct post *p = malloc(sizeof *p);
  if (!p)
    return BEAM_ERR_NOMEM;
  *p = (struct post){NULL, fn, dropped, arg};
  pthread_mutex_lock(&l->lock);
  int err = l->closing ? BEAM_ERR_CLOSED : l->posts_waiting >= LIMIT_POSTS ? BEAM_ERR_LIMIT : 0;
  bool first = !l->posts;
  if (!err) {
    *l->posts_tail = p;
    l->posts_tail = &p->next;
    l->posts_waiting++;
    uint64_t one = 1; /* under the lock, so that loop_free cannot close the descriptor in between */
    if (first && l->wake_fd >= 0 && write(l->wake_fd, &one, sizeof one) < 0)
      (void)0; /* EAGAIN: the loop is awake already */
  }
  pthread_mutex_unlock(&l->lock);
  if (err)
    free(p);
  return err;
}

static struct post *take_posts(struct loop *l) {
  pthread_mutex_lock(&l->lock);
  struct post *p = l->posts;
  l->posts = NULL;
  l->posts_tail = &l->posts;
  l->posts_waiting = 0;
  pthread_mutex_unlock(&l->lock);
  return p;
}

static bool run_posts(struct loop *l) {
  struct post *p = take_posts(l);
  bool any = p != NULL;
  while (p) {
    struct post *next = p->next;
    p->fn(p->arg);
    free(p);
    p = next;
  }
  return any;
}

static void on_wake(evutil_socket_t fd, short what, void *arg) {
  (void)what;
  uint64_t n;
  if (read(fd, &n, sizeof n) < 0)
    return;
  run_posts(arg);
}

static void on_tick(evutil_socket_t fd, short what, void *arg) {
  (void)fd;
  (void)what;
  (void)arg; /* waking up was all: timers run after the poll */
}

void loop_stop(struct loop *l) {
  atomic_store(&l->stop, true);
  uint64_t one = 1;
  if (l->wake_fd >= 0 && write(l->wake_fd, &one, sizeof one) < 0)
    (void)0;
}

/* --- life --- */

int loop_new_virtual(struct loop **out) {
  if (base_init())
    return BEAM_ERR_SYSTEM;
  struct loop *l = calloc(1, sizeof *l);
  if (!l)
    return BEAM_ERR_NOMEM;
  l->wake_fd = -1;
  l->now = 1000000;
  list_init(&l->soon);
  list_init(&l->ends);
  list_init(&l->frees);
  l->posts_tail = &l->posts;
  pthread_mutex_init(&l->lock, NULL);
  *out = l;
  return 0;
}

int loop_new(struct loop **out) {
  struct loop *l;
  int err = loop_new_virtual(&l);
  if (err)
    return err;
  struct event_config *cfg = event_config_new();
  if (cfg) {
    event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK); /* one thread; others only write to wake_fd */
    l->base = event_base_new_with_config(cfg);
    event_config_free(cfg);
  }
  l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (l->base && l->wake_fd >= 0)
    l->wake = event_new(l->base, l->wake_fd, EV_READ | EV_PERSIST, on_wake, l);
  if (l->base)
    l->tick = evtimer_new(l->base, on_tick, NULL);
  if (!l->wake || !l->tick || event_add(l->wake, NULL)) {
    loop_free(l);
    return BEAM_ERR_SYSTEM;
  }
  l->now = clock_ms();
  *out = l;
  return 0;
}

void loop_free(struct loop *l) {
  if (!l)
    return;
  pthread_mutex_lock(&l->lock);
  l->closing = true;
  pthread_mutex_unlock(&l->lock);
  for (struct post *p = take_posts(l), *next; p; p = next) {
    next = p->next;
    if (p->dropped)
      p->dropped(p->arg);
    free(p);
  }
  run_list(&l->frees);
  if (l->wake)
    event_free(l->wake);
  if (l->tick)
    event_free(l->tick);
  if (l->base)
    event_base_free(l->base);
  if (l->wake_fd >= 0)
    close(l->wake_fd);
  pthread_mutex_destroy(&l->lock);
  free(l->heap);
  free(l->scratch);
  free(l);
}

/* --- running --- */

static int turn(struct loop *l, int ms) {
  int bad;
  run_tasks(l);
  uint64_t wait = has_tasks(l) ? 0 : (uint64_t)(ms < 0 ? 60000 : ms);
  l->now = clock_ms();
  if (l->timers && l->heap[0]->at < l->now + wait)
    wait = l->heap[0]->at > l->now ? l->heap[0]->at - l->now : 0;
  l->stale = true; /* an event's callback must not reckon from before the poll */
  if (wait) {
    struct timeval tv = {(time_t)(wait / 1000), (suseconds_t)(wait % 1000 * 1000)};
    event_add(l->tick, &tv);
    bad = event_base_loop(l->base, EVLOOP_ONCE);
  } else {
    bad = event_base_loop(l->base, EVLOOP_NONBLOCK);
  }
  l->now = clock_ms();
  l->stale = false;
  run_timers(l);
  run_tasks(l);
  return bad < 0 ? BEAM_ERR_SYSTEM : 0;
}

void loop_turn(struct loop *l, int ms) {
  turn(l, ms);
}

int loop_run(struct loop *l) {
  int err = 0;
  while (!err && !atomic_load(&l->stop))
    err = turn(l, -1);
  atomic_store(&l->stop, false);
  return err;
}

void loop_run_for(struct loop *l, uint64_t ms) {
  uint64_t until = l->now + ms;
  for (;;) {
    run_timers(l);
    run_tasks(l);
    if (run_posts(l) || has_tasks(l))
      continue;
    if (!l->timers || l->heap[0]->at > until)
      break;
    l->now = l->heap[0]->at;
  }
  l->now = until;
}
