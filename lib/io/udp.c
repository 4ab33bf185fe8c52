/* udp.c: the kernel's UDP. */
#include "io/udp.h"

#include <arpa/inet.h>
#include <beam/beam.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/limits.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
  READS = 8,              /* messages a system call, each as large as the kernel joins them */
  READ_BYTES = 64 * 1024, /* of one message */
  READ_ROUNDS = 4,        /* then other events get their turn */
  CONTROL_BYTES = 128     /* ECN, segment size, address */
};

union control {
  struct cmsghdr align;
  char bytes[CONTROL_BYTES];
};

struct udp_socket {
  struct udp u;
  int fd;
  bool connected;
  bool gso;
  bool reading; /* callbacks run: udp_close() only marks */
  bool closed;
  struct event rd, wr;
  int error; /* of a connected one: what a send was told about a packet before it; failed() is due */
};

/* --- addresses --- */

static socklen_t addr_len(const struct sockaddr_storage *a) {
  return a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

uint16_t addr_port(const struct sockaddr_storage *a) {
  return ntohs(a->ss_family == AF_INET ? ((const struct sockaddr_in *)a)->sin_port
                                       : ((const struct sockaddr_in6 *)a)->sin6_port);
}

static bool parse(const char *host, uint16_t port, int family, struct sockaddr_storage *out) {
  memset(out, 0, sizeof *out);
  struct sockaddr_in *v4 = (struct sockaddr_in *)out;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
  if (host ? inet_pton(AF_INET, host, &v4->sin_addr) == 1 : family == AF_INET) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    return true;
  }
  if (host && inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
    return false;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(port);
  return true;
}

/* --- receiving --- */

struct received {
  size_t segment; /* 0: not joined */
  uint8_t ecn;
  struct sockaddr_storage to;
};

/* The address a packet was sent to replaces the bound one, which may be the any-address. */
static void read_control(struct udp_socket *k, struct msghdr *m, struct received *r) {
  r->segment = 0;
  r->ecn = UDP_NOT_ECT;
  r->to = k->u.addr;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
    int v = 0;
    if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
      memcpy(&v, CMSG_DATA(c), sizeof v);
      r->segment = v > 0 ? (size_t)v : 0;
    } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
      r->ecn = *CMSG_DATA(c) & 3;
    } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
      memcpy(&v, CMSG_DATA(c), sizeof v);
      r->ecn = v & 3;
    } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
      struct in_pktinfo info;
      memcpy(&info, CMSG_DATA(c), sizeof info);
      ((struct sockaddr_in *)&r->to)->sin_addr = info.ipi_addr;
    } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
      struct in6_pktinfo info;
      memcpy(&info, CMSG_DATA(c), sizeof info);
      ((struct sockaddr_in6 *)&r->to)->sin6_addr = info.ipi6_addr;
    }
  }
}

static void deliver(struct udp_socket *k, const uint8_t *p, size_t n, const struct sockaddr_storage *from,
                    const struct received *r) {
  size_t at = 0, step = r->segment ? r->segment : n;
  do {
    struct udp_packet packet = {p + at, n - at < step ? n - at : step, r->ecn, from, &r->to};
    k->u.ev->packet(k->u.user, &packet);
    at += step;
  } while (at < n && !k->closed);
}

/* One system call's worth; false: no more for now. */
static bool receive(struct udp_socket *k) {
  struct mmsghdr m[READS];
  struct iovec v[READS];
  struct sockaddr_storage from[READS];
  union control control[READS];
  uint8_t *memory = loop_scratch(k->u.loop, (size_t)READS * READ_BYTES); /* udp_open() made it */
  memset(m, 0, sizeof m);
  memset(from, 0, sizeof from); /* what the kernel leaves of them must compare equal */
  for (int i = 0; i < READS; i++) {
    v[i] = (struct iovec){memory + (size_t)i * READ_BYTES, READ_BYTES};
    m[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
                                   .msg_namelen = sizeof from[i],
                                   .msg_iov = &v[i],
                                   .msg_iovlen = 1,
                                   .msg_control = &control[i],
                                   .msg_controllen = sizeof control[i]};
  }
  int n = recvmmsg(k->fd, m, READS, MSG_DONTWAIT, NULL);
  if (n < 0) {
    int err = err_from_errno(errno);
    if (err != BEAM_AGAIN && errno != EINTR && k->u.ev->failed)
      k->u.ev->failed(k->u.user, err);
    return false;
  }
  for (int i = 0; i < n && !k->closed; i++) {
    struct received r;
    read_control(k, &m[i].msg_hdr, &r);
    if (!(m[i].msg_hdr.msg_flags & MSG_TRUNC))
      deliver(k, v[i].iov_base, m[i].msg_len, &from[i], &r);
  }
  return n == READS;
}

static void destroy(struct udp_socket *k) {
  event_del(&k->rd);
  event_del(&k->wr);
  if (k->fd >= 0)
    close(k->fd);
  free(k);
}

static void on_read(evutil_socket_t fd, short what, void *arg) {
  struct udp_socket *k = arg;
  (void)fd, (void)what;
  k->reading = true;
  int error = k->error;
  k->error = 0;
  if (error && k->u.ev->failed)
    k->u.ev->failed(k->u.user, error);
  for (int i = 0; i < READ_ROUNDS && !k->closed && receive(k); i++)
    ;
  if (!k->closed && k->u.ev->batch_end)
    k->u.ev->batch_end(k->u.user);
  k->reading = false;
  if (k->closed)
    destroy(k);
}

/* --- sending --- */

static void on_write(evutil_socket_t fd, short what, void *arg) {
  struct udp_socket *k = arg;
  (void)fd, (void)what;
  event_del(&k->wr);
  k->reading = true;
  k->u.ev->writable(k->u.user);
  k->reading = false;
  if (k->closed)
    destroy(k);
}

static struct cmsghdr *add(struct msghdr *m, int level, int type, const void *p, size_t n) {
  struct cmsghdr *c = (struct cmsghdr *)((char *)m->msg_control + m->msg_controllen);
  m->msg_controllen += CMSG_SPACE(n);
  c->cmsg_level = level;
  c->cmsg_type = type;
  c->cmsg_len = CMSG_LEN(n);
  memcpy(CMSG_DATA(c), p, n);
  return c;
}

static void write_control(struct udp_socket *k, struct msghdr *m, const struct sockaddr_storage *from,
                          uint8_t ecn, uint16_t segment) {
  bool v4 = k->u.addr.ss_family == AF_INET;
  m->msg_controllen = 0;
  if (ecn) {
    int v = ecn;
    add(m, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, &v, sizeof v);
  }
  if (segment)
    add(m, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment);
  if (from && !k->connected && from->ss_family == k->u.addr.ss_family) {
    if (v4) {
      struct in_pktinfo info = {.ipi_spec_dst = ((const struct sockaddr_in *)from)->sin_addr};
      add(m, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    } else {
      struct in6_pktinfo info = {.ipi6_addr = ((const struct sockaddr_in6 *)from)->sin6_addr};
      add(m, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    }
  }
  if (!m->msg_controllen)
    m->msg_control = NULL;
}

/* A connected socket's send that fails so speaks of an earlier packet, which found nobody, and took the word of it from the socket: failed() brings
 * it, and this packet may be sent after all. */
static bool is_old_news(struct udp_socket *k, int e) {
  if (!k->connected || e != ECONNREFUSED)
    return false;
  k->error = BEAM_ERR_REFUSED;
  event_active(&k->rd, EV_READ, 0);
  return true;
}

/* What a failed send means: BEAM_AGAIN, TOO_LARGE, or 0: lost. */
static int verdict(int e) {
  if (e == EAGAIN || e == EWOULDBLOCK || e == ENOBUFS)
    return BEAM_AGAIN;
  return e == EMSGSIZE ? BEAM_ERR_TOO_LARGE : 0;
}

/* The kernel segments; 1: it does not after all. */
static int send_joined(struct udp_socket *k, struct msghdr *m) {
  ssize_t sent;
  do
    sent = sendmsg(k->fd, m, MSG_DONTWAIT);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0)
    return 0;
  if (is_old_news(k, errno))
    return 1;
  if (errno == EIO || errno == EINVAL) { /* the device lacks checksums; or it says so of what is too large */
    k->gso = k->gso && errno != EIO;
    return 1;
  }
  return verdict(errno);
}

/* Segments one by one: the bytes that were taken. */
static long send_each(struct udp_socket *k, const struct msghdr *like, const uint8_t *p, size_t n,
                      size_t segment) {
  struct mmsghdr m[UDP_BATCH_SEGMENTS];
  struct iovec v[UDP_BATCH_SEGMENTS];
  unsigned count = 0, done = 0;
  bool again = false;
  memset(m, 0, sizeof m);
  for (size_t at = 0; (at < n || !count) && count < UDP_BATCH_SEGMENTS; at += segment, count++) {
    v[count] = (struct iovec){(void *)(p + at), n - at < segment ? n - at : segment};
    m[count].msg_hdr = *like;
    m[count].msg_hdr.msg_iov = &v[count];
    m[count].msg_hdr.msg_iovlen = 1;
  }
  while (done < count) {
    int sent = sendmmsg(k->fd, m + done, count - done, MSG_DONTWAIT);
    again = sent < 0 && !again && is_old_news(k, errno);
    if (again)
      continue;
    int err = sent > 0 || errno == EINTR ? 0 : verdict(errno);
    if (err == BEAM_ERR_TOO_LARGE && !done)
      return err;
    if (err == BEAM_AGAIN)
      break;
    done += sent > 0 ? (unsigned)sent : errno == EINTR ? 0 : 1; /* what was refused is lost */
  }
  size_t taken = done * segment;
  return (long)(taken < n ? taken : n);
}

static long send_packets(struct udp *u, const struct sockaddr_storage *to,
                         const struct sockaddr_storage *from, uint8_t ecn, const uint8_t *p, size_t n,
                         size_t segment) {
  struct udp_socket *k = (struct udp_socket *)u;
  union control control;
  memset(&control, 0, sizeof control);
  struct iovec v = {(void *)p, n};
  struct msghdr m = {.msg_name = k->connected ? NULL : (void *)to,
                     .msg_namelen = k->connected ? 0 : addr_len(to),
                     .msg_iov = &v,
                     .msg_iovlen = 1,
                     .msg_control = &control};
  bool join = k->gso && n > segment && n <= UDP_BATCH_BYTES && n <= segment * UDP_BATCH_SEGMENTS;
  long taken = 0;
  int err = 1;
  if (join) {
    write_control(k, &m, from, ecn, (uint16_t)segment);
    err = send_joined(k, &m);
    taken = err ? 0 : (long)n;
  }
  if (err == 1) {
    m.msg_control = &control;
    write_control(k, &m, from, ecn, 0);
    do {
      long more = send_each(k, &m, p + taken, n - (size_t)taken, segment);
      err = more < 0 ? (int)more : !more ? BEAM_AGAIN : 0;
      taken += more > 0 ? more : 0;
    } while (!err && (size_t)taken < n);
  }
  if (err == BEAM_ERR_TOO_LARGE && !taken)
    return err;
  if ((size_t)taken < n)
    event_add(&k->wr, NULL);
  return taken;
}

/* --- life --- */

static void close_socket(struct udp *u) {
  struct udp_socket *k = (struct udp_socket *)u;
  if (!k->reading) {
    destroy(k);
    return;
  }
  k->closed = true;
}

static const struct udp_ops ops = {send_packets, close_socket};

static void set_int(int fd, int level, int option, int value) {
  setsockopt(fd, level, option, &value, sizeof value);
}

/* A buffer as large as we may have: beyond the system's limit only the administrator's processes get it. */
static void set_buffer(int fd, int force, int polite, int n) {
  n = n ? n : (int)LIMIT_UDP_BUFFER;
  if (setsockopt(fd, SOL_SOCKET, force, &n, sizeof n))
    setsockopt(fd, SOL_SOCKET, polite, &n, sizeof n);
}

static void set_options(struct udp_socket *k, const struct udp_conf *conf) {
  int fd = k->fd, on = 1;
  if (k->u.addr.ss_family == AF_INET) {
    set_int(fd, IPPROTO_IP, IP_RECVTOS, 1);
    set_int(fd, IPPROTO_IP, IP_PKTINFO, 1);
    set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, conf->fragment ? IP_PMTUDISC_DONT : IP_PMTUDISC_PROBE);
  } else {
    set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    set_int(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, conf->fragment ? IPV6_PMTUDISC_DONT : IPV6_PMTUDISC_PROBE);
  }
  set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, conf->buffer);
  set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, conf->buffer);
  setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
  int segment = 0;
  k->gso = !setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment); /* 0: only per call */
}

/* The first worker binds without sharing, so that a port somebody else holds is in use. */
static int bind_it(struct udp_socket *k, bool share) {
  const struct sockaddr *a = (const struct sockaddr *)&k->u.addr;
  socklen_t len = addr_len(&k->u.addr);
  int err = bind(k->fd, a, len) ? err_from_errno(errno) : 0;
  if (share && (!err || err == BEAM_ERR_IN_USE)) {
    set_int(k->fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (err)
      err = bind(k->fd, a, len) ? err_from_errno(errno) : 0;
  }
  return err;
}

static int open_fd(struct udp_socket *k, const struct udp_conf *conf) {
  socklen_t len = sizeof k->u.addr;
  k->fd = socket(k->u.addr.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (k->fd < 0)
    return err_from_errno(errno);
  set_options(k, conf);
  int err = bind_it(k, conf->reuse_port);
  if (!err && conf->peer && connect(k->fd, (const struct sockaddr *)conf->peer, addr_len(conf->peer)))
    err = err_from_errno(errno);
  k->connected = !err && conf->peer;
  if (!err && getsockname(k->fd, (struct sockaddr *)&k->u.addr, &len))
    err = err_from_errno(errno);
  return err;
}

static int open_socket(struct loop *l, const struct udp_conf *conf, const struct udp_events *ev, void *user,
                       struct udp **out) {
  struct udp_socket *k = loop_is_virtual(l) ? NULL : calloc(1, sizeof *k);
  if (!k)
    return loop_is_virtual(l) ? BEAM_ERR_INVALID : BEAM_ERR_NOMEM;
  k->u = (struct udp){.ops = &ops, .loop = l, .ev = ev, .user = user};
  k->fd = -1;
  int err = BEAM_ERR_INVALID;
  event_assign(&k->rd, loop_base(l), -1, EV_READ | EV_PERSIST, on_read, k);
  event_assign(&k->wr, loop_base(l), -1, EV_WRITE, on_write, k);
  if (!parse(conf->host, conf->port, conf->peer ? conf->peer->ss_family : AF_INET, &k->u.addr))
    goto fail;
  err = BEAM_ERR_NOMEM;
  if (!loop_scratch(l, (size_t)READS * READ_BYTES) || (err = open_fd(k, conf)))
    goto fail;
  event_assign(&k->rd, loop_base(l), k->fd, EV_READ | EV_PERSIST, on_read, k);
  event_assign(&k->wr, loop_base(l), k->fd, EV_WRITE, on_write, k);
  err = BEAM_ERR_SYSTEM;
  if (event_add(&k->rd, NULL))
    goto fail;
  *out = &k->u;
  return 0;
fail:
  destroy(k);
  return err;
}

int udp_open(struct loop *l, const struct udp_conf *conf, const struct udp_events *ev, void *user,
             struct udp **out) {
  return conf->net ? conf->net->open(conf->net, l, conf, ev, user, out) : open_socket(l, conf, ev, user, out);
}

const struct sockaddr_storage *udp_address(const struct udp *u) {
  return &u->addr;
}

uint16_t udp_port(const struct udp *u) {
  return addr_port(&u->addr);
}

long udp_send(struct udp *u, const struct sockaddr_storage *to, const struct sockaddr_storage *from,
              uint8_t ecn, const uint8_t *p, size_t n, size_t segment) {
  return u->ops->send(u, to, from, ecn, p, n, segment);
}

void udp_close(struct udp *u) {
  if (u)
    u->ops->close(u);
}
