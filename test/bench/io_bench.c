/* io_bench [seconds a case] (make build/test/bench/io_bench): how fast bytes and messages cross sockets and a pipe, on one loop, without any protocol.
 *
 * bulk:  source thread ─TCP─► sock ═ pipe ═ sock ─TCP─► sink thread; beside it a plain read and write of 64 KiB, the machine's own measure, and splice(2)
 * ping:  64 connections send 1 KiB and wait for it to come back through a pipe
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "io/net.h"
#include "io/pipe.h"

static _Atomic bool stop;
static _Atomic uint64_t received;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A connected pair over loopback TCP. */
static void tcp_pair(int fd[2]) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof a;
  int on = 1, ls = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(ls, (struct sockaddr *)&a, sizeof a) || listen(ls, 1) ||
      getsockname(ls, (struct sockaddr *)&a, &len))
    abort();
  fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd[0], (struct sockaddr *)&a, sizeof a) || (fd[1] = accept(ls, NULL, NULL)) < 0)
    abort();
  for (int i = 0; i < 2; i++)
    setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  close(ls);
}

static void *source(void *arg) {
  int fd = *(int *)arg;
  char *block = calloc(1, 256 * 1024);
  while (block && !atomic_load(&stop) && send(fd, block, 256 * 1024, MSG_NOSIGNAL) > 0)
    ;
  free(block);
  shutdown(fd, SHUT_WR);
  return NULL;
}

static void *sink(void *arg) {
  int fd = *(int *)arg;
  char *block = malloc(256 * 1024);
  for (ssize_t n; block && (n = recv(fd, block, 256 * 1024, 0)) > 0;)
    atomic_fetch_add(&received, (uint64_t)n);
  free(block);
  return NULL;
}

static double run_seconds;
static void *stopper(void *arg) {
  (void)arg;
  struct timespec t = {(time_t)run_seconds, (long)((run_seconds - (double)(time_t)run_seconds) * 1e9)};
  nanosleep(&t, NULL);
  atomic_store(&stop, true);
  return NULL;
}

struct end {
  struct loop *l;
  unsigned left;
};
static void on_done(void *user, const struct pipe_result *r) {
  struct end *e = user;
  (void)r;
  if (!--e->left)
    loop_stop(e->l);
}

static struct stream *stream_on(struct loop *l, int fd) {
  struct stream *s;
  evutil_make_socket_nonblocking(fd);
  if (sock_stream(l, fd, &s))
    abort();
  return s;
}

static void *sink_and_end(void *arg) {
  sink(arg);
  shutdown(*(int *)arg, SHUT_WR);
  return NULL;
}

static void through_pipe(int in, int out) {
  struct end e = {.left = 1};
  if (loop_new(&e.l) || pipe_start(stream_on(e.l, in), stream_on(e.l, out), on_done, &e, NULL))
    abort();
  loop_run(e.l);
  loop_free(e.l);
}

/* What the machine gives to the plainest relay there is. */
static void through_copy(int in, int out) {
  char *block = malloc(64 * 1024);
  for (ssize_t n; block && (n = recv(in, block, 64 * 1024, 0)) > 0;)
    for (ssize_t at = 0, m; at < n; at += m)
      if ((m = send(out, block + at, (size_t)(n - at), MSG_NOSIGNAL)) <= 0)
        abort();
  free(block);
  close(in);
  close(out);
}

/* The same without the bytes ever being ours: what a pipe of two plain sockets could save, if Beam had one. */
static void through_splice(int in, int out) {
  int p[2];
  if (pipe2(p, O_CLOEXEC) || fcntl(p[1], F_SETPIPE_SZ, 256 * 1024) < 0)
    abort();
  for (ssize_t n; (n = splice(in, NULL, p[1], NULL, 256 * 1024, SPLICE_F_MOVE)) > 0;)
    for (ssize_t at = 0, m; at < n; at += m)
      if ((m = splice(p[0], NULL, out, NULL, (size_t)(n - at), SPLICE_F_MOVE)) <= 0)
        abort();
  close(p[0]);
  close(p[1]);
  close(in);
  close(out);
}

static void bulk(const char *what, void (*relay)(int, int)) {
  int in[2], out[2];
  pthread_t t[3];
  atomic_store(&stop, false);
  atomic_store(&received, 0);
  tcp_pair(in);
  tcp_pair(out);
  double t0 = now(), c0 = cpu();
  pthread_create(&t[0], NULL, source, &in[0]);
  pthread_create(&t[1], NULL, sink_and_end, &out[1]);
  pthread_create(&t[2], NULL, stopper, NULL);
  relay(in[1], out[0]);
  double seconds = now() - t0, used = cpu() - c0, mb = (double)atomic_load(&received) / 1e6;
  for (int i = 0; i < 3; i++)
    pthread_join(t[i], NULL);
  close(in[0]);
  close(out[1]);
  printf("%-24s %7.0f MB/s %6.0f us of CPU a MB\n", what, mb / seconds, used * 1e6 / mb);
}

/* --- ping --- */

enum { PINGERS = 64, PING_BYTES = 1024 };

/* Plays client and server of all connections: whatever comes from one side goes to the other, or back. */
static void *ping_peers(void *arg) {
  int(*fd)[2] = arg; /* [i][0] client, [i][1] server */
  struct pollfd p[2 * PINGERS];
  char block[PING_BYTES] = {0};
  uint64_t done = 0;
  for (int i = 0; i < PINGERS; i++) {
    for (int k = 0; k < 2; k++)
      p[2 * i + k] = (struct pollfd){fd[i][k], POLLIN, 0};
    if (send(fd[i][0], block, sizeof block, 0) < 0)
      abort();
  }
  while (!atomic_load(&stop) && poll(p, 2 * PINGERS, 1000) > 0)
    for (int i = 0; i < 2 * PINGERS; i++)
      if (p[i].revents & POLLIN) {
        ssize_t n = recv(p[i].fd, block, sizeof block, 0);
        if (n <= 0 || send(p[i].fd, block, (size_t)n, MSG_NOSIGNAL) < 0)
          abort();
        done += i & 1;
      }
  atomic_store(&received, done);
  for (int i = 0; i < 2 * PINGERS; i++)
    shutdown(p[i].fd, SHUT_WR);
  return NULL;
}

static void ping(void) {
  int fd[PINGERS][2], a[2], b[2];
  pthread_t t[2];
  struct end e = {.left = PINGERS};
  atomic_store(&stop, false);
  if (loop_new(&e.l))
    abort();
  for (int i = 0; i < PINGERS; i++) {
    tcp_pair(a);
    tcp_pair(b);
    fd[i][0] = a[0];
    fd[i][1] = b[1];
    if (pipe_start(stream_on(e.l, a[1]), stream_on(e.l, b[0]), on_done, &e, NULL))
      abort();
  }
  double t0 = now(), c0 = cpu();
  pthread_create(&t[0], NULL, ping_peers, fd);
  pthread_create(&t[1], NULL, stopper, NULL);
  loop_run(e.l);
  double seconds = now() - t0, used = cpu() - c0;
  pthread_join(t[0], NULL);
  pthread_join(t[1], NULL);
  double n = (double)atomic_load(&received);
  loop_free(e.l);
  for (int i = 0; i < PINGERS; i++)
    close(fd[i][0]), close(fd[i][1]);
  printf("%-24s %7.0f 1/s  %6.1f us of CPU each\n", "ping 64 x 1 KiB", n / seconds, used * 1e6 / n);
}

int main(int argc, char **argv) {
  run_seconds = argc > 1 ? strtod(argv[1], NULL) : 2;
  for (int round = 0; round < 3; round++) { /* in turns: the machine's mood changes */
    bulk("bulk, read and write", through_copy);
    bulk("bulk, splice", through_splice);
    bulk("bulk, pipe", through_pipe);
    ping();
  }
  struct rusage r;
  getrusage(RUSAGE_SELF, &r);
  printf("peak %ld KiB, %ld minor faults\n", r.ru_maxrss, r.ru_minflt);
  return 0;
}
