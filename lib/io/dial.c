/* dial.c: from a host and a port to a connected stream, by Happy Eyeballs (RFC 8305): families take turns, the next address is tried when the
 * one before it failed or 250 ms passed; the first that connects wins.
 *
 *   RESOLVING ──addresses──► CONNECTING ──one connects / all failed / time is up──► told from a task, freed
 *   "localhost" and literals begin at CONNECTING: nobody else has a say in where localhost is (RFC 6761 section 6.3).
 */
#include <arpa/inet.h>
#include <beam/beam.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/err.h"
#include "base/limits.h"
#include "io/sockets.h"
#include "obs/metrics.h"

struct attempt {
  struct sockets_dial *dial;
  struct event ev;
  int fd; /* -1: not under way */
};

struct sockets_dial {
  struct loop *loop;
  dial_cb cb;
  void *user;
  struct resolve *resolve;
  struct loop_timer timeout, stagger;
  struct loop_task told;
  struct stream *won;
  int err;
  size_t n, next, under_way;
  struct sockaddr_storage addrs[LIMIT_DIAL_ADDRS];
  struct attempt attempts[LIMIT_DIAL_ADDRS]; /* by address */
};

static void try_next(struct sockets_dial *d);

static void stop_attempt(struct attempt *a) {
  if (a->fd < 0)
    return;
  event_del(&a->ev);
  close(a->fd);
  a->fd = -1;
}

static void dial_free(struct sockets_dial *d) {
  if (d->resolve)
    resolve_cancel(d->resolve);
  timer_stop(&d->timeout);
  timer_stop(&d->stagger);
  task_cancel(&d->told);
  for (size_t i = 0; i < d->next; i++)
    stop_attempt(&d->attempts[i]);
  free(d);
}

static void tell(void *arg) {
  struct sockets_dial *d = arg;
  dial_cb cb = d->cb;
  void *user = d->user;
  struct stream *s = d->won;
  int err = d->err;
  metric_end(METRIC_ENDS_DIAL, err);
  dial_free(d);
  cb(user, s, err);
}

static void over(struct sockets_dial *d) {
  timer_stop(&d->timeout);
  timer_stop(&d->stagger);
  for (size_t i = 0; i < d->next; i++)
    stop_attempt(&d->attempts[i]);
  loop_soon(d->loop, &d->told);
}

/* "Connection refused" says most: someone was there. Otherwise the first reason stays. */
static void note(struct sockets_dial *d, int err) {
  if (!d->err || err == BEAM_ERR_REFUSED)
    d->err = err;
}

/* A port of the ephemeral range nobody listens on: the kernel may pick it as our own source port, and TCP then connects to itself. */
static bool is_itself(int fd) {
  struct sockaddr_storage a = {0}, b = {0};
  socklen_t na = sizeof a, nb = sizeof b;
  return !getsockname(fd, (struct sockaddr *)&a, &na) && !getpeername(fd, (struct sockaddr *)&b, &nb) &&
         a.ss_family != AF_UNIX && na == nb && !memcmp(&a, &b, na);
}

static void connected(struct attempt *a) {
  struct sockets_dial *d = a->dial;
  int fd = a->fd;
  if (is_itself(fd)) {
    stop_attempt(a);
    d->under_way--;
    note(d, BEAM_ERR_REFUSED);
    try_next(d);
    return;
  }
  event_del(&a->ev);
  a->fd = -1;
  sock_keepalive(fd);
  d->err = sock_stream(d->loop, fd, &d->won);
  over(d);
}

static void on_event(evutil_socket_t fd, short what, void *arg) {
  struct attempt *a = arg;
  struct sockets_dial *d = a->dial;
  int e = 0;
  socklen_t len = sizeof e;
  (void)what;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len))
    e = errno;
  if (!e) {
    connected(a);
    return;
  }
  stop_attempt(a);
  d->under_way--;
  note(d, err_from_errno(e));
  try_next(d);
}

/* 0: under way or connected */
static int begin(struct sockets_dial *d, size_t i) {
  struct attempt *a = &d->attempts[i];
  const struct sockaddr *addr = (const struct sockaddr *)&d->addrs[i];
  a->dial = d;
  a->fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (a->fd < 0)
    return err_from_errno(errno);
  event_assign(&a->ev, loop_base(d->loop), a->fd, EV_WRITE, on_event, a);
  if (connect(a->fd, addr, addr_len(&d->addrs[i]))) {
    int e = errno;
    /* EAGAIN comes from a unix socket whose backlog is full, and there is no event for that */
    int err = e == EINPROGRESS ? 0 : e == EAGAIN ? BEAM_ERR_REFUSED : err_from_errno(e);
    if (!err && event_add(&a->ev, NULL))
      err = BEAM_ERR_NOMEM;
    if (err)
      stop_attempt(a);
    else
      d->under_way++;
    return err;
  }
  d->under_way++;
  connected(a);
  return 0;
}

static void try_next(struct sockets_dial *d) {
  timer_stop(&d->stagger);
  while (d->next < d->n && !task_queued(&d->told)) {
    int err = begin(d, d->next++);
    if (!err) {
      if (d->next < d->n && !task_queued(&d->told) && timer_start(&d->stagger, LIMIT_DIAL_STAGGER_MS))
        continue; /* no memory for the timer: all at once */
      return;
    }
    note(d, err);
  }
  if (!d->under_way && !task_queued(&d->told))
    over(d);
}

static void on_stagger(void *arg) {
  try_next(arg);
}

static void on_timeout(void *arg) {
  struct sockets_dial *d = arg;
  d->err = BEAM_ERR_TIMEOUT;
  over(d);
}

/* The resolver's order says which family is first; then they take turns (RFC 8305 section 4). */
static void interleave(struct sockets_dial *d, const struct sockaddr_storage *addrs, size_t n) {
  bool used[LIMIT_DIAL_ADDRS] = {0};
  sa_family_t want = n ? addrs[0].ss_family : 0;
  for (d->n = 0; d->n < n;) {
    size_t pick = n;
    for (size_t i = n; i-- > 0;)
      if (!used[i] && (addrs[i].ss_family == want || pick == n || addrs[pick].ss_family != want))
        pick = i;
    used[pick] = true;
    d->addrs[d->n++] = addrs[pick];
    want = addrs[pick].ss_family == AF_INET6 ? AF_INET : AF_INET6;
  }
}

static void on_resolved(void *user, const struct sockaddr_storage *addrs, size_t n, int err) {
  struct sockets_dial *d = user;
  d->resolve = NULL;
  if (task_queued(&d->told))
    return; /* too late: the timeout is about to be told */
  if (err)
    note(d, err);
  interleave(d, addrs, n);
  try_next(d);
}

int sockets_dial(struct net *net, struct loop *l, const char *host, uint16_t port, uint64_t timeout_ms,
                 dial_cb cb, void *user, struct dial **out) {
  (void)net;
  if (loop_is_virtual(l))
    return BEAM_ERR_INVALID;
  int err = BEAM_ERR_NOMEM;
  struct sockets_dial *d = calloc(1, sizeof *d);
  if (!d)
    return err;
  d->loop = l;
  d->cb = cb;
  d->user = user;
  timer_init(&d->timeout, l, on_timeout, d);
  timer_init(&d->stagger, l, on_stagger, d);
  task_init(&d->told, tell, d);
  if ((err = timer_start(&d->timeout, timeout_ms)))
    goto fail;
  d->n = resolve_now(host, port, d->addrs);
  if (!d->n && (!strncmp(host, "unix:", 5) || !host[0])) {
    err = BEAM_ERR_INVALID;
    goto fail;
  }
  if (!d->n && (err = resolve_start(l, host, port, on_resolved, d, &d->resolve)))
    goto fail;
  if (d->n)
    try_next(d); /* tells by a task, even when the kernel answers at once */
  metric_add(METRIC_DIALS, 1);
  *out = (struct dial *)d;
  return 0;

fail:
  dial_free(d);
  return err;
}

void sockets_dial_cancel(struct dial *dial) {
  struct sockets_dial *d = (struct sockets_dial *)dial;
  if (!d)
    return;
  if (d->won)
    stream_close(d->won, BEAM_ERR_CLOSED);
  dial_free(d);
}
