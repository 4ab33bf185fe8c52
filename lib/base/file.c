#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/random.h"
#include "base/str.h"

/* "cannot <verb> <path>: <why>"; a full disk counts as the store's failure, the rest as errno says. */
static int fail(struct beam_error *e, const char *verb, const char *path) {
  int why = errno;
  int err = why == EFBIG ? BEAM_ERR_STORE : err_from_errno(why);
  if (err == BEAM_AGAIN || err == BEAM_ERR_INVALID || err == 0)
    err = BEAM_ERR_SYSTEM;
  return err_set(e, err, NULL, "cannot %s %s: %s", verb, path, strerror(why));
}

bool dir_default(char *out, size_t cap) {
  const char *beam = getenv("BEAM_DATA_DIR"), *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
  if (beam && *beam)
    return str_copy(out, cap, beam);
  if (xdg && *xdg)
    return str_fmt(out, cap, "%s/beam", xdg);
  return home && *home && str_fmt(out, cap, "%s/.local/share/beam", home);
}

int path_join(char out[PATH_ROOM], const char *dir, const char *name, struct beam_error *e) {
  size_t n = strlen(dir);
  if (!str_fmt(out, PATH_ROOM, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name))
    return err_set(e, BEAM_ERR_INVALID, "choose a shorter directory", "the path %.80s... is too long", dir);
  return 0;
}

/* The directory part of path; "." when there is none. */
static void parent_of(const char *path, char out[PATH_ROOM]) {
  const char *slash = strrchr(path, '/');
  size_t n = slash ? (size_t)(slash - path) : 0;
  if (!slash)
    str_copy(out, PATH_ROOM, ".");
  else if (n == 0)
    str_copy(out, PATH_ROOM, "/");
  else
    str_fmt(out, PATH_ROOM, "%.*s", (int)n, path);
}

static int sync_dir(const char *dir) {
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  int r = fsync(fd);
  if (r && (errno == EINVAL || errno == EROFS))
    r = 0; /* file systems without directories to sync */
  close(fd);
  return r;
}

static int make_one(const char *dir, mode_t mode, struct beam_error *e) {
  if (mkdir(dir, mode) == 0) {
    char up[PATH_ROOM];
    parent_of(dir, up);
    sync_dir(up);
    return 0;
  }
  int why = errno;
  struct stat st;
  if (stat(dir, &st) == 0) {
    if (S_ISDIR(st.st_mode))
      return 0;
    return err_set(e, BEAM_ERR_INVALID, "move the file away or choose another directory",
                   "%s should be a directory and is a file", dir);
  }
  errno = why;
  return fail(e, "make the directory", dir);
}

int dir_make_private(const char *dir, struct beam_error *e) {
  char path[PATH_ROOM];
  if (!*dir || !str_copy(path, sizeof path, dir))
    return err_set(e, BEAM_ERR_INVALID, NULL, "the directory's name is %s", *dir ? "too long" : "empty");
  size_t n = strlen(path);
  while (n > 1 && path[n - 1] == '/')
    path[--n] = 0;
  for (size_t i = 1; i < n; i++) {
    if (path[i] != '/')
      continue;
    path[i] = 0;
    int err = make_one(path, 0755, e);
    path[i] = '/';
    if (err)
      return err;
  }
  return make_one(path, 0700, e);
}

static int write_all(int fd, const char *p, size_t n) {
  while (n) {
    ssize_t k = write(fd, p, n);
    if (k < 0 && errno == EINTR)
      continue;
    if (k <= 0)
      return -1;
    p += k;
    n -= (size_t)k;
  }
  return 0;
}

int file_write(const char *path, mode_t mode, const void *p, size_t n, struct beam_error *e) {
  char temp[PATH_ROOM], dir[PATH_ROOM];
  uint64_t salt;
  random_bytes(&salt, sizeof salt);
  if (!str_fmt(temp, sizeof temp, "%s.%016llx.tmp", path, (unsigned long long)salt))
    return err_set(e, BEAM_ERR_INVALID, NULL, "the path %.80s... is too long", path);
  parent_of(path, dir);
  int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0)
    return fail(e, "write", path);
  int err = 0;
  if (write_all(fd, p, n) || fchmod(fd, mode) || fsync(fd))
    err = fail(e, "write", path);
  if (close(fd) && !err)
    err = fail(e, "write", path);
  if (!err && rename(temp, path))
    err = fail(e, "put in place", path);
  if (!err && sync_dir(dir))
    err = fail(e, "sync the directory of", path);
  if (err)
    unlink(temp);
  return err;
}

/* Others must not have been able to read or change it. */
static int check_private(int fd, const char *path, struct beam_error *e) {
  struct stat st;
  if (fstat(fd, &st))
    return fail(e, "look at", path);
  if (st.st_uid != geteuid() && st.st_uid != 0)
    return err_set(e, BEAM_ERR_PERMISSION, "use a directory of your own",
                   "%s is secret and belongs to another user", path);
  if (st.st_mode & 077) {
    char hint[PATH_ROOM + 16];
    str_fmt(hint, sizeof hint, "chmod 600 %s", path);
    return err_set(e, BEAM_ERR_PERMISSION, hint, "%s is secret and other users may use it (mode %03o)", path,
                   (unsigned)st.st_mode & 0777);
  }
  return 0;
}

/* Twice the room, never beyond max + 1. Frees buf when there is none. */
static char *grown(char *buf, size_t *cap, size_t max) {
  size_t more = *cap < max / 2 ? 2 * *cap : max + 1;
  char *bigger = realloc(buf, more + 1);
  if (!bigger)
    free(buf);
  *cap = more;
  return bigger;
}

static int read_whole(int fd, const char *path, size_t max, char **out, size_t *n, struct beam_error *e) {
  struct stat st;
  if (fstat(fd, &st))
    return fail(e, "look at", path);
  if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode))
    return err_set(e, BEAM_ERR_INVALID, "give a file", "%s is not a file", path);
  /* Room for what the file says it has; the size of /proc's files and of pipes is not known before. One more than allowed tells too large. */
  size_t cap = st.st_size > 0 && (size_t)st.st_size < max ? (size_t)st.st_size + 1
               : max < 4096                               ? max + 1
                                                          : 4096,
         len = 0;
  char *buf = malloc(cap + 1);
  while (buf && len <= max) {
    if (len == cap && !(buf = grown(buf, &cap, max)))
      break;
    ssize_t k = read(fd, buf + len, cap - len);
    if (k < 0 && errno == EINTR)
      continue;
    if (k < 0) {
      int err = fail(e, "read", path);
      free(buf);
      return err;
    }
    if (k == 0)
      break;
    len += (size_t)k;
  }
  if (!buf)
    return err_set(e, BEAM_ERR_NOMEM, NULL, "no memory to read %s", path);
  if (len > max) {
    free(buf);
    return err_set(e, BEAM_ERR_TOO_LARGE, NULL, "%s is larger than %zu bytes", path, max);
  }
  buf[len] = 0;
  *out = buf;
  *n = len;
  return 0;
}

static int read_file(const char *path, size_t max, bool secret, char **out, size_t *n, struct beam_error *e) {
  *out = NULL;
  *n = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return fail(e, "open", path);
  int err = secret ? check_private(fd, path, e) : 0;
  if (!err)
    err = read_whole(fd, path, max, out, n, e);
  close(fd);
  return err;
}

int file_read(const char *path, size_t max, char **out, size_t *n, struct beam_error *e) {
  return read_file(path, max, false, out, n, e);
}

int file_read_secret(const char *path, size_t max, char **out, size_t *n, struct beam_error *e) {
  return read_file(path, max, true, out, n, e);
}

int file_lock(const char *dir, const char *name, struct beam_error *e) {
  char path[PATH_ROOM];
  int err = path_join(path, dir, name, e);
  if (err)
    return err;
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0)
    return fail(e, "open the lock", path);
  while (flock(fd, LOCK_EX)) {
    if (errno == EINTR)
      continue;
    err = fail(e, "lock", path);
    close(fd);
    return err;
  }
  return fd;
}
