/* sock.c: a TCP or unix socket as a stream.
 *
 *   OPEN ──stream_close(0)──► DRAINING: out empties, then shutdown ──► LINGERING: read and discard until the peer ends ──► freed
 *     └─────stream_close(reason): SO_LINGER 0, the peer sees a reset ──────────────────────────────────────────────────► freed
 *
 * Reading: level-triggered, a block at a time. With `in` at its ceiling, or after the peer's end, reading stops, and an edge-triggered
 * watch takes its place that tells of nothing but errors: a reset must not wait until someone writes.
 * Writing: small writes of a turn leave together at its end; from FLUSH_NOW on at once, so that `out` stays small while the socket takes bytes.
 * Memory: LIMIT_SOCK_MIN each way is everyone's; what a socket holds beyond it is charged to the pool, and stops when less than LIMIT_POOL_SPARE of that is free.
 */
#include <beam/beam.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"
#include "io/block.h"
#include "io/budget.h"
#include "io/net.h"
#include "io/sockets.h"
#include "obs/metrics.h"

uint32_t sock_unheard_ms = LIMIT_TCP_UNHEARD_MS;

enum { FLUSH_NOW = 32 * 1024, IOVECS = 64, READ_BLOCKS = 4 };

struct sock {
  struct stream s;
  int fd;
  struct evbuffer *out; /* written and not sent */
  struct event rd, wr;
  struct loop_task flush; /* at the turn's end; once draining: at the loop's end */
  struct loop_timer linger;
  uint64_t asked;       /* ms: whether the peer is there */
  size_t charged;       /* to the pool: what in and out hold beyond LIMIT_SOCK_MIN */
  unsigned char blocks; /* to read at a time: doubles while reads fill all of them */
  unsigned reading : 1; /* rd reads; else it watches for errors, if `watching` */
  unsigned watching : 1;
  unsigned full : 1;     /* wr is set: the kernel takes no more */
  unsigned fin : 1;      /* shutdown was done */
  unsigned draining : 1; /* no owner any more */
  unsigned shared : 1;   /* sock_share */
};

static void on_read(evutil_socket_t fd, short what, void *arg);
static void on_write(evutil_socket_t fd, short what, void *arg);
static void on_watch(evutil_socket_t fd, short what, void *arg);
static void flush(struct sock *k);

/* --- how much it may hold --- */

_Static_assert(LIMIT_SOCK_MIN / 4 * 3 >= 5 + 16384 + 256,
               "a TLS record must fit, or a reader that rests never wakes");

static size_t ceiling(size_t most) {
  return budget_left(&budget_pool) > LIMIT_POOL_SPARE ? most : LIMIT_SOCK_MIN;
}

static size_t out_ceiling(const struct sock *k) {
  return ceiling(k->shared ? LIMIT_SOCK_SHARED : LIMIT_SOCK_OUT);
}

static size_t beyond(size_t held) {
  return held > LIMIT_SOCK_MIN ? held - LIMIT_SOCK_MIN : 0;
}

static void charge(struct sock *k) {
  size_t held = beyond(evbuffer_get_length(k->s.in)) + beyond(evbuffer_get_length(k->out));
  if (held > k->charged)
    budget_charge(&budget_pool, held - k->charged);
  else if (held < k->charged)
    budget_give(&budget_pool, k->charged - held);
  k->charged = held;
}

/* --- what we want to hear --- */

static void set_reader(struct sock *k, bool reading, bool watching) {
  if (k->reading == reading && k->watching == watching)
    return;
  if (k->reading || k->watching)
    event_del(&k->rd);
  k->reading = reading;
  k->watching = watching;
  if (!reading && !watching)
    return;
  short what = reading ? EV_READ | EV_PERSIST : EV_READ | EV_PERSIST | EV_ET;
  event_assign(&k->rd, loop_base(k->s.loop), k->fd, what, reading ? on_read : on_watch, k);
  if (!event_add(&k->rd, NULL))
    return;
  k->reading = k->watching = 0;
  stream_tell_closed(&k->s, BEAM_ERR_NOMEM);
}

/* A reader that rests wakes at three quarters: TLS takes a record only when all of it is here, which must fit below even the least ceiling.
 * Edge and level cannot be mixed on one descriptor: while writing is wanted, on_write hears of errors instead of the watch. */
static void interest(struct sock *k) {
  size_t held = evbuffer_get_length(k->s.in);
  size_t most = ceiling(LIMIT_SOCK_IN);
  bool reading = !k->s.in_ended && !k->s.dead && (k->reading ? held < most : held <= most / 4 * 3);
  if (!k->full && event_pending(&k->wr, EV_WRITE, NULL))
    event_del(&k->wr);
  set_reader(k, reading, !reading && !k->full && !k->s.dead);
  if (k->full && !event_pending(&k->wr, EV_WRITE, NULL))
    event_add(&k->wr, NULL);
}

/* --- the end --- */

static void destroy(struct sock *k) {
  set_reader(k, false, false);
  event_del(&k->wr);
  task_cancel(&k->flush);
  timer_stop(&k->linger);
  metric_add(METRIC_SOCKETS, -1);
  if (k->fd >= 0)
    close(k->fd);
  budget_give(&budget_pool, k->charged);
  if (k->out)
    evbuffer_free(k->out);
  stream_fini(&k->s);
  free(k);
}

static void destroy_task(void *arg) {
  destroy(arg);
}

static void died(struct sock *k, int reason) {
  metric_end(METRIC_ENDS_SOCKET, reason);
  if (k->draining) {
    destroy(k);
    return;
  }
  stream_tell_closed(&k->s, reason);
  k->full = 0;
  evbuffer_drain(k->out, evbuffer_get_length(k->out));
  charge(k);
  interest(k);
}

/* --- reading --- */

/* One system call. >0: bytes came, and *more says that others wait; 0: the peer's end; else an error, BEAM_AGAIN when nothing is there. */
static ssize_t receive(struct sock *k, bool *more) {
  void *block[READ_BLOCKS];
  struct iovec v[READ_BLOCKS];
  size_t held = evbuffer_get_length(k->s.in), want = (size_t)k->blocks * BLOCK_BYTES;
  size_t most = ceiling(LIMIT_SOCK_IN), room = held < most ? most - held : 0;
  int n = 0;
  if (want > room)
    want = room;
  for (size_t left = want; left; left -= v[n++].iov_len) {
    v[n].iov_len = left < BLOCK_BYTES ? left : BLOCK_BYTES;
    if (!(v[n].iov_base = block[n] = block_get()))
      break;
  }
  struct msghdr msg = {.msg_iov = v, .msg_iovlen = (size_t)n};
  ssize_t got = n ? recvmsg(k->fd, &msg, 0) : -1;
  ssize_t result = got >= 0 ? got : n ? err_from_errno(errno) : room ? BEAM_ERR_NOMEM : BEAM_AGAIN;
  if (got > 0)
    metric_add(METRIC_SOCKET_IN, got);
  *more = got > 0 && (size_t)got == want;
  if (*more && k->blocks < READ_BLOCKS)
    k->blocks *= 2;
  else if (got > 0 && got < BLOCK_BYTES)
    k->blocks = 1;
  for (int i = 0; i < n; i++) {
    size_t part = got <= 0 ? 0 : (size_t)got < v[i].iov_len ? (size_t)got : v[i].iov_len;
    if (!part)
      block_put(block[i]);
    else if (block_append(k->s.in, block[i], part))
      result = BEAM_ERR_NOMEM; /* bytes are lost: the stream is over */
    got -= (ssize_t)part;
  }
  charge(k);
  return result;
}

/* The connection is broken. What the peer said before (the reply to an upload it did not want) may still wait to be read. */
static void broken(struct sock *k, int err) {
  bool more = true;
  while (!k->draining && !k->s.in_ended && more && receive(k, &more) > 0)
    stream_tell_readable(&k->s);
  died(k, err);
}

/* Nobody owns it any more: what comes is read and dropped, so that closing does not reset what the peer has yet to read. */
static void discard(struct sock *k) {
  char *block = block_get();
  ssize_t n = block ? recv(k->fd, block, BLOCK_BYTES, 0) : 0;
  int err = n < 0 ? err_from_errno(errno) : 0;
  block_put(block);
  if (n == 0 && k->fin) {
    destroy(k);
  } else if (n == 0) {
    k->s.in_ended = 1;
    interest(k);
  } else if (err && err != BEAM_AGAIN) {
    destroy(k);
  }
}

static void on_read(evutil_socket_t fd, short what, void *arg) {
  struct sock *k = arg;
  (void)fd;
  (void)what;
  if (k->draining) {
    discard(k);
    return;
  }
  bool more;
  ssize_t n = receive(k, &more);
  if (n == BEAM_AGAIN) {
    interest(
        k); /* the ceiling may have come down below what it holds: level-triggered, it would be told for ever */
    return;
  }
  if (n < 0) {
    died(k, (int)n);
    return;
  }
  if (!n)
    k->s.in_ended = 1;
  stream_tell_readable(&k->s);
  interest(k);
}

static void on_watch(evutil_socket_t fd, short what, void *arg) {
  struct sock *k = arg;
  int e = 0;
  socklen_t len = sizeof e;
  (void)what;
  if (!getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) && e)
    broken(k, err_from_errno(e));
}

static void consumed(struct stream *s, size_t n) {
  struct sock *k = (struct sock *)s;
  (void)n;
  charge(k);
  if (!k->reading)
    interest(k);
}

/* --- writing --- */

static void out_is_empty(struct sock *k) {
  if (k->s.out_ended && !k->fin) {
    k->fin = 1;
    shutdown(k->fd, SHUT_WR); /* ENOTCONN: the reader learns of it */
  }
  if (!k->draining)
    return;
  if (k->s.in_ended || timer_start(&k->linger, LIMIT_SOCK_LINGER_MS))
    destroy(k);
}

/* A peer that vanished while bytes were on their way to it: probes of silence do not run then, and the kernel sends them again for a quarter of an hour. One that
 * takes nothing but is there acknowledges probes, and may go on doing so. */
static bool is_gone(struct sock *k) {
  struct tcp_info info;
  socklen_t n = sizeof info;
  uint64_t now = loop_now(k->s.loop);
  if (now - k->asked < sock_unheard_ms / 4)
    return false;
  k->asked = now;
  return !getsockopt(k->fd, IPPROTO_TCP, TCP_INFO, &info, &n) && info.tcpi_unacked &&
         info.tcpi_last_ack_recv >= sock_unheard_ms;
}

/* May free k when draining. */
static void flush(struct sock *k) {
  struct evbuffer_iovec v[IOVECS];
  if (!k->s.dead && evbuffer_get_length(k->out) && is_gone(k)) {
    broken(k, BEAM_ERR_TIMEOUT);
    return;
  }
  while (!k->s.dead && evbuffer_get_length(k->out)) {
    int n = evbuffer_peek(k->out, -1, NULL, v, IOVECS);
    struct msghdr msg = {.msg_iov = v, .msg_iovlen = (size_t)(n < IOVECS ? n : IOVECS)};
    ssize_t sent = sendmsg(k->fd, &msg, MSG_NOSIGNAL);
    int err = sent < 0 ? err_from_errno(errno) : 0;
    if (sent > 0) {
      evbuffer_drain(k->out, (size_t)sent);
      metric_add(METRIC_SOCKET_OUT, sent);
      charge(k);
    }
    if (err == BEAM_AGAIN) {
      k->full = 1;
      interest(k);
      return;
    }
    if (err) {
      broken(k, err);
      return;
    }
  }
  if (k->full) {
    k->full = 0;
    interest(k);
  }
  out_is_empty(k);
}

static void told_room(struct sock *k) {
  if (!k->draining && evbuffer_get_length(k->out) <= out_ceiling(k) / 2)
    stream_tell_writable(&k->s);
}

static void flush_task(void *arg) {
  struct sock *k = arg;
  flush(k);
  told_room(k); /* nobody drains here: a draining sock's task is destroy_task */
}

static void on_write(evutil_socket_t fd, short what, void *arg) {
  struct sock *k = arg;
  (void)fd;
  (void)what;
  bool draining = k->draining;
  flush(k);
  if (!draining)
    told_room(k);
}

static size_t room(struct stream *s) {
  struct sock *k = (struct sock *)s;
  size_t held = evbuffer_get_length(k->out), most = out_ceiling(k);
  return held < most ? most - held : 0;
}

static size_t move(struct stream *s, struct evbuffer *from, size_t n) {
  struct sock *k = (struct sock *)s;
  size_t r = room(s);
  n = buffer_move(k->out, from, n < r ? n : r);
  charge(k);
  if (k->full || !n)
    return n;
  if (evbuffer_get_length(k->out) >= FLUSH_NOW)
    flush(k);
  if (!s->dead)
    loop_turn_end(s->loop, &k->flush); /* also tells of room that a short count waits for */
  return n;
}

static void finish(struct stream *s) {
  struct sock *k = (struct sock *)s;
  if (!k->full)
    loop_turn_end(s->loop, &k->flush);
}

/* --- closing --- */

static void linger_over(void *arg) {
  destroy(arg);
}

static void close_sock(struct stream *s, int reason) {
  struct sock *k = (struct sock *)s;
  if (!s->dead)
    metric_end(METRIC_ENDS_SOCKET, reason);
  if (!reason && !timer_start(&k->linger, LIMIT_SOCK_DRAIN_MS)) {
    k->draining = 1;
    evbuffer_drain(s->in, evbuffer_get_length(s->in));
    charge(k);
    task_cancel(&k->flush);
    task_init(&k->flush, destroy_task, k);
    loop_at_free(s->loop, &k->flush);
    interest(k);
    if (!k->full)
      flush(k);
    return;
  }
  struct linger now = {1, 0};
  setsockopt(k->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  destroy(k);
}

/* --- making, giving, taking --- */

static const struct stream_ops ops = {"sock", consumed, room, move, finish, close_sock};

int sock_stream(struct loop *l, int fd, struct stream **out) {
  return sock_adopt(l, fd, NULL, out);
}

int sock_adopt(struct loop *l, int fd, struct evbuffer *received, struct stream **out) {
  int one = 1;
  struct sock *k = loop_is_virtual(l) ? NULL : calloc(1, sizeof *k);
  if (!k) {
    close(fd);
    return loop_is_virtual(l) ? BEAM_ERR_INVALID : BEAM_ERR_NOMEM;
  }
  metric_add(METRIC_SOCKETS, 1);
  k->fd = fd;
  k->blocks = 1;
  task_init(&k->flush, flush_task, k);
  timer_init(&k->linger, l, linger_over, k);
  int err = stream_init(&k->s, &ops, l);
  event_assign(&k->wr, loop_base(l), fd, EV_WRITE | EV_PERSIST, on_write, k);
  k->out = evbuffer_new();
  if (err || !k->out || (received && evbuffer_add_buffer(k->s.in, received))) {
    destroy(k);
    return BEAM_ERR_NOMEM;
  }
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
             sizeof one); /* fails on a unix socket, which has no need of it */
  if (evbuffer_get_length(k->s.in))
    stream_tell_readable(&k->s);
  interest(k);
  *out = &k->s;
  return 0;
}

int sock_fd(struct stream *s) {
  return s->ops == &ops ? ((struct sock *)s)->fd : -1;
}

static struct stream *bottom(struct stream *s) {
  while (s->below)
    s = s->below;
  return s;
}

static bool peer_is_here(int fd) {
  struct sockaddr_storage a = {0};
  socklen_t n = sizeof a;
  if (getpeername(fd, (struct sockaddr *)&a, &n))
    return true;
  return a.ss_family == AF_INET    ? ntohl(((struct sockaddr_in *)&a)->sin_addr.s_addr) >> 24 == 127
         : a.ss_family == AF_INET6 ? IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&a)->sin6_addr)
                                   : true;
}

/* The kernel sizes its buffers by itself, by what is on its way: SO_SNDBUF and SO_RCVBUF would end that. All of this may fail, on an
 * older kernel or without the right: then it is a socket like others. */
void sock_share(struct stream *s) {
  static const char bbr[] = "bbr";
  unsigned least = LIMIT_SOCK_SHARED;
  s = bottom(s);
  if (s->ops != &ops)
    return;
  struct sock *k = (struct sock *)s;
  k->shared = 1;
  setsockopt(k->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &least, sizeof least);
  if (!peer_is_here(k->fd)) /* its pacing costs time where nothing is lost and no queue is long */
    setsockopt(k->fd, IPPROTO_TCP, TCP_CONGESTION, bbr, sizeof bbr - 1);
}

int sock_release(struct stream *s, struct evbuffer *received) {
  struct sock *k = (struct sock *)s;
  if (s->ops != &ops || s->dead || evbuffer_get_length(k->out) || evbuffer_add_buffer(received, s->in))
    return -1;
  int fd = k->fd;
  k->fd = -1;
  destroy(k);
  return fd;
}

bool sock_ends(struct stream *s, struct sockaddr_storage *local, struct sockaddr_storage *peer) {
  socklen_t n = sizeof *local, m = sizeof *peer;
  int fd = sock_fd(bottom(s));
  memset(local, 0, sizeof *local);
  memset(peer, 0, sizeof *peer);
  return fd >= 0 && !getsockname(fd, (struct sockaddr *)local, &n) &&
         !getpeername(fd, (struct sockaddr *)peer, &m) &&
         (local->ss_family == AF_INET || local->ss_family == AF_INET6);
}

void sock_local(struct stream *s, char *out, size_t cap) {
  struct sockaddr_storage a = {0};
  socklen_t n = sizeof a;
  int fd = sock_fd(s);
  if (fd >= 0 && !getsockname(fd, (struct sockaddr *)&a, &n) &&
      (a.ss_family == AF_INET || a.ss_family == AF_INET6))
    addr_text(&a, true, out, cap);
  else
    str_copy(out, cap, ":0");
}
