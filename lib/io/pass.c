#include "io/pass.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

union room {
  struct cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int) * PASS_MAX)];
};

int pass_send(int socket, const int *fds, unsigned n) {
  union room room = {0};
  char byte = 'f';
  struct iovec v = {&byte, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = room.bytes};
  if (!n || n > PASS_MAX)
    return BEAM_ERR_INVALID;
  m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int) * n);
  memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
  if (sendmsg(socket, &m, MSG_NOSIGNAL) == 1)
    return 0;
  return errno == EAGAIN ? BEAM_ERR_LIMIT : errno == EPIPE ? BEAM_ERR_CLOSED : err_from_errno(errno);
}

int pass_receive(int socket, int *fds, unsigned cap, unsigned *n) {
  union room room;
  char byte;
  struct iovec v = {&byte, 1};
  struct msghdr m = {
      .msg_iov = &v, .msg_iovlen = 1, .msg_control = room.bytes, .msg_controllen = sizeof room.bytes};
  ssize_t got = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
  *n = 0;
  if (got == 0)
    return BEAM_ERR_CLOSED;
  if (got < 0)
    return errno == EAGAIN ? BEAM_ERR_TIMEOUT : err_from_errno(errno);
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
      continue;
    size_t many = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < many; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      if (*n < cap)
        fds[(*n)++] = fd;
      else
        close(fd);
    }
  }
  return 0;
}

bool pass_trusted(int socket) {
  struct ucred who;
  socklen_t n = sizeof who;
  return !getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &n) && (who.uid == getuid() || who.uid == 0);
}
