/* resolve.c: getaddrinfo on a thread of its own. libevent's resolver would save the thread and lose the hosts file's, mDNS's and
 * nsswitch's ways of finding a machine; names are looked up a few times an hour, for the relay. */
#include <beam/beam.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "io/sockets.h"

/* Made on the loop's thread; freed by the post that brings the answer, or by the loop's end, or, when the loop ended first, by the thread. */
struct resolve {
  char *host;
  uint16_t port;
  resolve_cb cb; /* NULL: cancelled */
  void *user;
  struct loop_task at_free;
  struct sockaddr_storage addrs[LIMIT_DIAL_ADDRS];
  size_t n;
  int err;
  pthread_mutex_t lock; /* guards: */
  struct loop *loop;    /* NULL: it ended */
  bool finished;        /* the thread is done with this */
};

static _Atomic unsigned running;

static void resolve_free(struct resolve *r) {
  task_cancel(&r->at_free);
  pthread_mutex_destroy(&r->lock);
  free(r->host);
  free(r);
}

static void deliver(void *arg) {
  struct resolve *r = arg;
  pthread_mutex_lock(&r->lock); /* the thread may still be between its post and its unlock */
  pthread_mutex_unlock(&r->lock);
  if (r->cb)
    r->cb(r->user, r->addrs, r->n, r->err);
  resolve_free(r);
}

static void loop_ends(void *arg) {
  struct resolve *r = arg;
  pthread_mutex_lock(&r->lock);
  bool finished = r->finished;
  r->loop = NULL;
  pthread_mutex_unlock(&r->lock);
  if (finished)
    resolve_free(r);
}

static void look_up(struct resolve *r) {
  struct addrinfo hint = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
  char port[8];
  str_fmt(port, sizeof port, "%u", r->port);
  int e = getaddrinfo(r->host, port, &hint, &list);
  if (e) {
    r->err = e == EAI_MEMORY ? BEAM_ERR_NOMEM : e == EAI_AGAIN ? BEAM_ERR_TIMEOUT : BEAM_ERR_UNREACHABLE;
    return;
  }
  for (struct addrinfo *a = list; a && r->n < LIMIT_DIAL_ADDRS; a = a->ai_next)
    if (a->ai_addrlen <= sizeof r->addrs[0])
      memcpy(&r->addrs[r->n++], a->ai_addr, a->ai_addrlen);
  freeaddrinfo(list);
  r->err = r->n ? 0 : BEAM_ERR_UNREACHABLE;
}

static void *thread_main(void *arg) {
  struct resolve *r = arg;
  look_up(r);
  atomic_fetch_sub(&running, 1);
  pthread_mutex_lock(&r->lock);
  bool gone = !r->loop;
  r->finished = true;
  if (!gone && loop_post(r->loop, deliver, r))
    (void)0; /* no memory for the post: the dial's own timeout tells its owner, the loop's end frees this */
  pthread_mutex_unlock(&r->lock);
  if (gone)
    resolve_free(r);
  return NULL;
}

int resolve_start(struct loop *l, const char *host, uint16_t port, resolve_cb cb, void *user,
                  struct resolve **out) {
  int err = BEAM_ERR_NOMEM;
  struct resolve *r = calloc(1, sizeof *r);
  pthread_attr_t attr;
  pthread_t thread;
  sigset_t all, old;
  if (!r || !(r->host = str_dup(host)) || pthread_attr_init(&attr))
    goto fail;
  if (atomic_fetch_add(&running, 1) >= LIMIT_RESOLVES) {
    err = BEAM_ERR_LIMIT;
    goto fail_running;
  }
  r->port = port;
  r->cb = cb;
  r->user = user;
  r->loop = l;
  pthread_mutex_init(&r->lock, NULL);
  task_init(&r->at_free, loop_ends, r);
  loop_at_free(l, &r->at_free);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  sigfillset(&all); /* signals are for the program's own threads */
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int failed = pthread_create(&thread, &attr, thread_main, r);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (failed)
    goto fail_started;
  pthread_attr_destroy(&attr);
  *out = r;
  return 0;

fail_started:
  task_cancel(&r->at_free);
  pthread_mutex_destroy(&r->lock);
fail_running:
  atomic_fetch_sub(&running, 1);
  pthread_attr_destroy(&attr);
fail:
  if (r)
    free(r->host);
  free(r);
  return err;
}

void resolve_cancel(struct resolve *r) {
  r->cb = NULL;
}
