/* listen.c: accepts connections and hands each over as a stream. */
#include <beam/beam.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "io/pass.h"
#include "io/sockets.h"
#include "obs/metrics.h"

struct sockets_listener {
  struct loop *loop;
  accept_cb cb;
  void *user;
  int fd;
  struct event ev;
  struct loop_timer pause;
  struct sockaddr_storage addr; /* as bound */
  bool accepting, closed;       /* closed inside its own callback: freed after it */
  const void *siblings;         /* whose; NULL: shared with nobody */
  struct sockets_listener *next_shared;
};

/* Listeners of this process that share their port with siblings. SO_REUSEPORT lets any program of the same user join silently, so the first
 * of ours binds without it, which fails when someone else is there (also another relay in this process), and only its siblings join. */
static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sockets_listener *shared;

static bool is_shared(const struct sockaddr_storage *a, const void *siblings) {
  for (struct sockets_listener *ls = shared; ls; ls = ls->next_shared)
    if (ls->siblings == siblings && addr_len(&ls->addr) == addr_len(a) && !memcmp(&ls->addr, a, addr_len(a)))
      return true;
  return false;
}

static void leave_shared(struct sockets_listener *gone) {
  pthread_mutex_lock(&shared_lock);
  for (struct sockets_listener **p = &shared; *p; p = &(*p)->next_shared)
    if (*p == gone) {
      *p = gone->next_shared;
      break;
    }
  pthread_mutex_unlock(&shared_lock);
}

/* --- accepting --- */

static void on_pause_over(void *arg) {
  struct sockets_listener *ls = arg;
  if (event_add(&ls->ev, NULL) && timer_start(&ls->pause, LIMIT_ACCEPT_PAUSE_MS))
    log_error("listen", "cannot resume: out of memory");
}

/* Newcomers wait in the kernel's backlog: most will still be served, which closing them would not. */
static void pause_accepting(struct sockets_listener *ls, int e) {
  char where[64];
  metric_add(METRIC_ACCEPT_PAUSES, 1);
  addr_text(&ls->addr, true, where, sizeof where);
  log_limited(BEAM_LOG_WARN, "listen", "accept paused at=%s err=%s", where, strerror(e));
  if (!timer_start(&ls->pause, LIMIT_ACCEPT_PAUSE_MS))
    event_del(&ls->ev);
}

static bool is_shortage(int e) {
  return e == EMFILE || e == ENFILE || e == ENOBUFS || e == ENOMEM;
}

static void on_accept(evutil_socket_t fd, short what, void *arg) {
  struct sockets_listener *ls = arg;
  (void)what;
  ls->accepting = true;
  for (unsigned i = 0; i < LIMIT_ACCEPTS && !ls->closed; i++) {
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof peer;
    struct stream *s;
    int got = accept4(fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || is_shortage(errno))) {
      if (errno != EAGAIN)
        pause_accepting(ls, errno);
      break;
    }
    if (got < 0 || sock_stream(ls->loop, got, &s))
      continue; /* such an error belongs to the one connection: accept(2) */
    metric_add(METRIC_ACCEPTED, 1);
    ls->cb(ls->user, s, &peer);
  }
  ls->accepting = false;
  if (ls->closed)
    free(ls);
}

/* --- making --- */

void sock_keepalive(int fd) {
  int on = 1, idle = LIMIT_TCP_IDLE_S, every = 15, times = 4;
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
}

static int bind_plain(int fd, const struct sockaddr_storage *a) {
  return bind(fd, (const struct sockaddr *)a, addr_len(a)) ? err_from_errno(errno) : 0;
}

static int bind_shared(int fd, const struct sockaddr_storage *a, const void *siblings) {
  int on = 1, err = bind_plain(fd, a);
  if (err == BEAM_ERR_IN_USE && is_shared(a, siblings)) {
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    err = bind_plain(fd, a);
  } else if (!err) {
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  }
  return err;
}

/* A socket file that nobody answers on was left by a program that died. */
static int bind_unix(int fd, const struct sockaddr_storage *a) {
  fchmod(fd, 0600); /* the file takes the mode of its socket */
  int err = bind_plain(fd, a);
  if (err != BEAM_ERR_IN_USE)
    return err;
  int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (probe < 0)
    return err_from_errno(errno);
  bool stale = connect(probe, (const struct sockaddr *)a, addr_len(a)) && errno == ECONNREFUSED;
  close(probe);
  if (!stale)
    return err;
  unlink(((const struct sockaddr_un *)a)->sun_path);
  return bind_plain(fd, a);
}

static int open_socket(struct sockets_listener *ls) {
  int on = 1, err;
  socklen_t len = sizeof ls->addr;
  ls->fd = socket(ls->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (ls->fd < 0)
    return err_from_errno(errno);
  if (ls->addr.ss_family == AF_INET6)
    setsockopt(ls->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (ls->addr.ss_family != AF_UNIX)
    setsockopt(ls->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  err = ls->addr.ss_family == AF_UNIX ? bind_unix(ls->fd, &ls->addr)
        : ls->siblings                ? bind_shared(ls->fd, &ls->addr, ls->siblings)
                                      : bind_plain(ls->fd, &ls->addr);
  if (err)
    return err;
  sock_keepalive(ls->fd);
  if (listen(ls->fd, SOMAXCONN) ||
      (ls->addr.ss_family != AF_UNIX && getsockname(ls->fd, (struct sockaddr *)&ls->addr, &len)))
    return err_from_errno(errno);
  return 0;
}

int sockets_listen(struct net *n, struct loop *l, const char *host, uint16_t port, const void *siblings,
                   accept_cb cb, void *user, struct listener **out) {
  (void)n;
  if (loop_is_virtual(l))
    return BEAM_ERR_INVALID;
  struct sockets_listener *ls = calloc(1, sizeof *ls);
  if (!ls)
    return BEAM_ERR_NOMEM;
  *ls = (struct sockets_listener){.loop = l, .cb = cb, .user = user, .fd = -1, .siblings = siblings};
  timer_init(&ls->pause, l, on_pause_over, ls);
  int err = addr_literal(host, port, &ls->addr) ? 0 : BEAM_ERR_INVALID;
  if (err)
    goto fail;
  pthread_mutex_lock(&shared_lock);
  err = open_socket(ls);
  if (!err && siblings) {
    ls->next_shared = shared;
    shared = ls;
  }
  pthread_mutex_unlock(&shared_lock);
  if (err)
    goto fail;
  event_assign(&ls->ev, loop_base(l), ls->fd, EV_READ | EV_PERSIST, on_accept, ls);
  err = event_add(&ls->ev, NULL) ? BEAM_ERR_NOMEM : 0;
  if (err)
    goto fail;
  *out = (struct listener *)ls;
  return 0;

fail:
  leave_shared(ls);
  if (ls->fd >= 0)
    close(ls->fd);
  free(ls);
  return err;
}

/* --- from and to other processes --- */

int listener_dup(struct listener *listener) {
  return fcntl(((struct sockets_listener *)listener)->fd, F_DUPFD_CLOEXEC, 0);
}

int listener_adopt(struct loop *l, int fd, const void *siblings, accept_cb cb, void *user,
                   struct listener **out) {
  int on = 1, listening = 0;
  socklen_t n = sizeof listening, len = sizeof(struct sockaddr_storage);
  struct sockets_listener *ls = loop_is_virtual(l) ? NULL : calloc(1, sizeof *ls);
  if (!ls) {
    close(fd);
    return loop_is_virtual(l) ? BEAM_ERR_INVALID : BEAM_ERR_NOMEM;
  }
  *ls = (struct sockets_listener){.loop = l, .cb = cb, .user = user, .fd = fd, .siblings = siblings};
  timer_init(&ls->pause, l, on_pause_over, ls);
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) || !listening ||
      getsockname(fd, (struct sockaddr *)&ls->addr, &len)) {
    close(fd);
    free(ls);
    return BEAM_ERR_INVALID;
  }
  setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on); /* siblings of ours may join */
  pthread_mutex_lock(&shared_lock);
  ls->next_shared = shared;
  shared = ls;
  pthread_mutex_unlock(&shared_lock);
  event_assign(&ls->ev, loop_base(l), fd, EV_READ | EV_PERSIST, on_accept, ls);
  if (event_add(&ls->ev, NULL)) {
    sockets_unlisten((struct listener *)ls);
    return BEAM_ERR_NOMEM;
  }
  *out = (struct listener *)ls;
  return 0;
}

uint16_t sockets_port(struct listener *listener) {
  const struct sockaddr_storage *a = &((struct sockets_listener *)listener)->addr;
  return a->ss_family == AF_INET    ? ntohs(((const struct sockaddr_in *)a)->sin_port)
         : a->ss_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)a)->sin6_port)
                                    : 0;
}

void sockets_unlisten(struct listener *listener) {
  struct sockets_listener *ls = (struct sockets_listener *)listener;
  if (!ls)
    return;
  leave_shared(ls);
  event_del(&ls->ev);
  timer_stop(&ls->pause);
  close(ls->fd);
  if (ls->addr.ss_family == AF_UNIX)
    unlink(((const struct sockaddr_un *)&ls->addr)->sun_path);
  ls->closed = true;
  if (!ls->accepting)
    free(ls);
}
