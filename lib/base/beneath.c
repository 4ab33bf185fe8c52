#include "base/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"

enum { TRIES = 8 }; /* something was renamed on the way: the kernel says "again" */

/* What it is that stands in the way is nobody's business: a link outside, a link where none counts, a name that is too long. */
static int refused(int e) {
  switch (e) {
  case ENOENT:
  case ENOTDIR:
  case ELOOP:
  case EXDEV:
  case ENAMETOOLONG:
  case EINVAL:
  case ENXIO:
  case EAGAIN:
    return BEAM_ERR_NOT_FOUND;
  default:
    return err_from_errno(e);
  }
}

int beneath_open_steps(int root, const char *path, int flags) {
  char name[256];
  int at = openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (at < 0)
    return refused(errno);
  while (*path) {
    size_t n = strcspn(path, "/");
    bool last = !path[n];
    if (!n || n >= sizeof name || (n <= 2 && !memcmp(path, "..", n))) {
      close(at);
      return BEAM_ERR_NOT_FOUND;
    }
    memcpy(name, path, n);
    name[n] = 0;
    int next = openat(at, name,
                      last ? flags | O_NOFOLLOW | O_CLOEXEC : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int e = errno;
    close(at);
    if (next < 0)
      return refused(e);
    at = next;
    path += n + !last;
    if (last)
      return at;
  }
  int fd = openat(at, ".", flags | O_CLOEXEC);
  int e = errno;
  close(at);
  return fd < 0 ? refused(e) : fd;
}

int beneath_open(int root, const char *path, int flags) {
  static atomic_bool missing;
  struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
                         .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
  for (int i = 0; i < TRIES && !atomic_load(&missing); i++) {
    long fd = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
    if (fd >= 0)
      return (int)fd;
    if (errno == ENOSYS || (errno == EPERM && i == 0)) { /* an old kernel, or a container that forbids it */
      bool old = errno == ENOSYS;
      int got = beneath_open_steps(root, path, flags);
      if (old)
        atomic_store(&missing, true);
      return got;
    }
    if (errno != EAGAIN && errno != EINTR)
      return refused(errno);
  }
  return atomic_load(&missing) ? beneath_open_steps(root, path, flags) : BEAM_ERR_NOT_FOUND;
}
