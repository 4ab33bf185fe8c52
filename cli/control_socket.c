/* control_socket.c: see control_socket.h. */
#include "control_socket.h"
#include "paths.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
  ANSWER_MS = 2000,  /* a client that sends nothing, or a beam that answers nothing, is given up */
  END_MS = 10000,    /* a beam ends within a second; ten cover a machine that swaps */
  WAITERS = 8,       /* clients that wait for the end */
  LINE_BYTES = 4096, /* a request; answers may be longer */
  ANSWER_BYTES = 65536,
  SAME_PID = 16 /* commands running in one process, as in another language's front */
};

struct control {
  struct control_ops ops;
  pthread_t thread;
  int listener, wake;
  int waiting[WAITERS];
  unsigned n_waiting;
  bool quiet;
  char path[108];
};

/* ---- shared by both sides ----------------------------------------------------------------------------------------- */

static int make_address(struct sockaddr_un *sa, const char *path) {
  *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
  size_t n = strlen(path);
  if (n >= sizeof sa->sun_path)
    return BEAM_ERR_INVALID;
  memcpy(sa->sun_path, path, n + 1);
  return 0;
}

static void time_limit(int fd, int ms) {
  struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
}

static bool send_all(int fd, const char *p, size_t n) {
  while (n) {
    ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
    if (k < 0 && errno == EINTR)
      continue;
    if (k <= 0)
      return false;
    p += k;
    n -= (size_t)k;
  }
  return true;
}

/* Up to the newline, which becomes the end of the string. */
static bool receive_line(int fd, char *line, size_t cap) {
  for (size_t n = 0; n + 1 < cap;) {
    ssize_t k = recv(fd, line + n, cap - 1 - n, 0);
    if (k < 0 && errno == EINTR)
      continue;
    if (k <= 0)
      return false;
    char *end = memchr(line + n, '\n', (size_t)k);
    n += (size_t)k;
    if (end) {
      *end = 0;
      return true;
    }
  }
  return false;
}

static int connect_to(const char *path) {
  struct sockaddr_un sa;
  if (make_address(&sa, path) != 0)
    return -1;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return -1;
  time_limit(fd, ANSWER_MS);
  if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
    return fd;
  int err = errno;
  close(fd);
  errno = err;
  return -1;
}

/* A socket file whose process is gone refuses; nothing else removes it. */
static bool remove_if_stale(const char *path) {
  int fd = connect_to(path);
  if (fd >= 0) {
    close(fd);
    return false;
  }
  return errno == ECONNREFUSED && unlink(path) == 0;
}

/* ---- the running side --------------------------------------------------------------------------------------------- */

/* The directory is ours alone already; this also keeps out whoever got a descriptor of it. */
static bool may_ask(int fd) {
  struct ucred who;
  socklen_t n = sizeof who;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 && (who.uid == getuid() || who.uid == 0);
}

static void purge(struct control *c, const char *request, struct json *j) {
  char path[LINE_BYTES]; /* no value is longer than its line */
  c->ops.purge(c->ops.user, json_get(request, "path", path, sizeof path) ? path : NULL);
  json_flag(j, "ok", true);
}

static void answer(struct control *c, int fd) {
  char line[LINE_BYTES], cmd[32];
  struct json j;
  time_limit(fd, ANSWER_MS);
  if (!may_ask(fd) || !receive_line(fd, line, sizeof line) || !json_get(line, "cmd", cmd, sizeof cmd)) {
    close(fd);
    return;
  }
  bool stop = strcmp(cmd, "stop") == 0 && c->n_waiting < WAITERS;
  json_open(&j);
  if (stop)
    json_flag(&j, "ok", true);
  else if (strcmp(cmd, "purge") == 0 && c->ops.purge)
    purge(c, line, &j);
  else if (strcmp(cmd, "status") == 0)
    c->ops.status(c->ops.user, &j);
  else
    json_text(&j, "error", "no such command");
  json_close(&j);
  if (!j.broken)
    send_all(fd, j.text, j.length);
  json_free(&j);
  if (!stop) {
    close(fd);
    return;
  }
  c->waiting[c->n_waiting++] = fd;
  c->ops.stop(c->ops.user);
}

static void *serve(void *arg) {
  struct control *c = arg;
  struct pollfd fds[2] = {{.fd = c->listener, .events = POLLIN}, {.fd = c->wake, .events = POLLIN}};
  for (;;) {
    if (poll(fds, 2, -1) < 0 && errno != EINTR)
      return NULL;
    if (fds[1].revents)
      return NULL;
    if (!(fds[0].revents & POLLIN))
      continue;
    int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
      answer(c, fd);
  }
}

/* Listening begins under a hidden name: a `beam status` that comes between bind and listen would take the socket for a dead one and remove it. */
static int listen_hidden(struct control *c, const char *dir, char *path, size_t cap, struct beam_error *e) {
  struct sockaddr_un sa;
  snprintf(path, cap, "%s/.%ld-%d", dir, (long)getpid(), c->listener);
  if (make_address(&sa, path) != 0)
    return fail(e, BEAM_ERR_INVALID, "set XDG_RUNTIME_DIR to a shorter path",
                "%.200s is too long for a socket", path);
  unlink(path); /* of an earlier process with our number */
  if (bind(c->listener, (struct sockaddr *)&sa, sizeof sa) != 0)
    return fail(e, BEAM_ERR_PERMISSION, NULL, "cannot make %.200s: %s", path, strerror(errno));
  if (listen(c->listener, 16) == 0)
    return 0;
  int err = errno;
  unlink(path);
  return fail(e, BEAM_ERR_SYSTEM, NULL, "cannot listen on %.200s: %s", path, strerror(err));
}

static int listen_at(struct control *c, const char *dir, struct beam_error *e) {
  char hidden[PATH_SIZE + 32];
  int r = listen_hidden(c, dir, hidden, sizeof hidden, e);
  if (r)
    return r;
  r = BEAM_ERR_LIMIT;
  for (unsigned i = 1; r == BEAM_ERR_LIMIT && i <= SAME_PID; i++) {
    int n = i == 1 ? snprintf(c->path, sizeof c->path, "%s/%ld.sock", dir, (long)getpid())
                   : snprintf(c->path, sizeof c->path, "%s/%ld-%u.sock", dir, (long)getpid(), i);
    if (n < 0 || (size_t)n >= sizeof c->path)
      r = fail(e, BEAM_ERR_INVALID, "set XDG_RUNTIME_DIR to a shorter path",
               "%.200s is too long for a socket", dir);
    else if (link(hidden, c->path) == 0 ||
             (errno == EEXIST && remove_if_stale(c->path) && link(hidden, c->path) == 0))
      r = 0;
  }
  unlink(hidden);
  if (r == BEAM_ERR_LIMIT)
    return fail(e, BEAM_ERR_LIMIT, NULL, "cannot name a control socket in %.200s", dir);
  return r;
}

int control_open(const struct cli_env *env, const struct control_ops *ops, struct control **out,
                 struct beam_error *e) {
  char dir[PATH_SIZE];
  int r = path_runtime(env, dir, e);
  if (r)
    return r;
  struct control *c = calloc(1, sizeof *c);
  if (!c)
    return fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  c->ops = *ops;
  c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  c->wake = eventfd(0, EFD_CLOEXEC);
  if (c->listener < 0 || c->wake < 0) {
    r = fail(e, BEAM_ERR_SYSTEM, NULL, "cannot make the control socket: %s", strerror(errno));
    goto fail;
  }
  r = listen_at(c, dir, e);
  if (r)
    goto fail;
  r = pthread_create(&c->thread, NULL, serve, c);
  if (r) {
    unlink(c->path);
    r = fail(e, BEAM_ERR_SYSTEM, NULL, "cannot start a thread: %s", strerror(r));
    goto fail;
  }
  *out = c;
  return 0;
fail:
  if (c->listener >= 0)
    close(c->listener);
  if (c->wake >= 0)
    close(c->wake);
  free(c);
  return r;
}

void control_quiet(struct control *c) {
  if (!c || c->quiet)
    return;
  uint64_t one = 1;
  while (write(c->wake, &one, sizeof one) < 0 && errno == EINTR)
    ;
  pthread_join(c->thread, NULL);
  unlink(c->path);
  c->quiet = true;
}

void control_close(struct control *c) {
  if (!c)
    return;
  control_quiet(c);
  for (unsigned i = 0; i < c->n_waiting; i++)
    close(c->waiting[i]);
  close(c->listener);
  close(c->wake);
  free(c);
}

/* ---- the asking side ---------------------------------------------------------------------------------------------- */

/* The status of the beam at this socket; NULL when none answers. The caller frees it. */
static char *ask_status(const char *path) {
  static const char request[] = "{\"cmd\":\"status\"}\n";
  int fd = connect_to(path);
  if (fd < 0) {
    if (errno == ECONNREFUSED)
      unlink(path);
    return NULL;
  }
  char *line = malloc(ANSWER_BYTES);
  if (line && (!send_all(fd, request, sizeof request - 1) || !receive_line(fd, line, ANSWER_BYTES))) {
    free(line);
    line = NULL;
  }
  close(fd);
  return line;
}

int control_each(const struct cli_env *env, control_fn fn, void *user, struct beam_error *e) {
  char dir[PATH_SIZE];
  int r = path_runtime(env, dir, e), n = 0;
  if (r)
    return r;
  struct dirent **found = NULL;
  int count = scandir(dir, &found, NULL, versionsort);
  if (count < 0)
    return fail(e, BEAM_ERR_PERMISSION, NULL, "cannot read %.200s: %s", dir, strerror(errno));
  for (int i = 0; i < count; i++) {
    char path[PATH_SIZE + 300];
    size_t len = strlen(found[i]->d_name);
    snprintf(path, sizeof path, "%s/%s", dir, found[i]->d_name);
    bool is_socket = len > 5 && strcmp(found[i]->d_name + len - 5, ".sock") == 0;
    free(found[i]);
    char *status = is_socket ? ask_status(path) : NULL;
    if (status) {
      fn(user, path, status);
      n++;
      free(status);
    }
  }
  free(found);
  return n;
}

static int purge_at(const char *socket_path, const struct json *request, struct beam_error *e) {
  char line[LINE_BYTES], ok[8];
  if (request->broken)
    return fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  if (request->length >= LINE_BYTES)
    return fail(e, BEAM_ERR_INVALID, "give a shorter one: what is under it is purged too",
                "the path is too long");
  int fd = connect_to(socket_path);
  if (fd < 0)
    return errno == ECONNREFUSED || errno == ENOENT
               ? 0
               : fail(e, BEAM_ERR_SYSTEM, NULL, "cannot reach %.200s: %s", socket_path, strerror(errno));
  int r = 0;
  if (!send_all(fd, request->text, request->length) || !receive_line(fd, line, sizeof line))
    r = fail(e, BEAM_ERR_TIMEOUT, NULL, "the beam at %.200s does not answer", socket_path);
  else if (!json_get(line, "ok", ok, sizeof ok))
    r = fail(e, BEAM_ERR_UNSUPPORTED, "only tunnels of beam http have one", "there is no cache to purge");
  close(fd);
  return r;
}

int control_purge(const char *socket_path, const char *path, struct beam_error *e) {
  struct json j;
  json_open(&j);
  json_text(&j, "cmd", "purge");
  if (path)
    json_text(&j, "path", path);
  json_close(&j);
  int r = purge_at(socket_path, &j, e);
  json_free(&j);
  return r;
}

int control_stop(const char *socket_path, struct beam_error *e) {
  static const char request[] = "{\"cmd\":\"stop\"}\n";
  char line[LINE_BYTES], byte;
  int fd = connect_to(socket_path);
  if (fd < 0)
    return errno == ECONNREFUSED || errno == ENOENT
               ? 0
               : fail(e, BEAM_ERR_SYSTEM, NULL, "cannot reach %.200s: %s", socket_path, strerror(errno));
  int r = 0;
  if (!send_all(fd, request, sizeof request - 1) || !receive_line(fd, line, sizeof line)) {
    r = fail(e, BEAM_ERR_TIMEOUT, NULL, "the beam at %.200s does not answer", socket_path);
  } else {
    time_limit(fd, END_MS);
    ssize_t k;
    do
      k = recv(fd, &byte, 1, 0);
    while (k < 0 && errno == EINTR);
    if (k < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      r = fail(e, BEAM_ERR_TIMEOUT, "end it by its process id", "the beam at %.200s did not end in time",
               socket_path);
  }
  close(fd);
  return r;
}
