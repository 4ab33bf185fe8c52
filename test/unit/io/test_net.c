/* Addresses, dialing and listening on real sockets of the loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/limits.h"
#include "io/net.h"
#include "obs/metrics.h"

static struct loop *l;

static int up(void **state) {
  (void)state;
  return loop_new(&l);
}
static int down(void **state) {
  (void)state;
  loop_free(l);
  return 0;
}

/* --- addresses --- */

static void splits_host_and_port(void **state) {
  (void)state;
  static const struct {
    const char *text, *host;
    int port; /* -1: refused */
  } t[] = {
      {"127.0.0.1:8443", "127.0.0.1", 8443},
      {"[::1]:8443", "::1", 8443},
      {"[::1]", "::1", 7},
      {"::1", "::1", 7},
      {"fe80::1%eth0", "fe80::1%eth0", 7},
      {":8443", "", 8443},
      {"8443", "", 8443},
      {"0", "", 0},
      {"65535", "", 65535},
      {"relay.example", "relay.example", 7},
      {"relay.example:1", "relay.example", 1},
      {"localhost:0", "localhost", 0},
      {"65536", "65536", 7}, /* not a port: then it is a name, and dialing it will fail */
      {"", NULL, -1},
      {"host:", NULL, -1},
      {"host:65536", NULL, -1},
      {"host:-1", NULL, -1},
      {"host:1x", NULL, -1},
      {"[::1", NULL, -1},
      {"[]:1", NULL, -1},
      {"[::1]8443", NULL, -1},
      {"[::1]:", NULL, -1},
      {"a-name-that-is-longer-than-the-buffer-of-32:1", NULL, -1},
  };
  for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
    char host[32] = "?";
    uint16_t port = 1;
    int err = addr_split(t[i].text, 7, host, sizeof host, &port);
    if (t[i].port < 0) {
      assert_int_equal(err, BEAM_ERR_INVALID);
      continue;
    }
    if (err || strcmp(host, t[i].host) || port != t[i].port)
      fail_msg("%s: err %d host %s port %u", t[i].text, err, host, port);
  }
}

static void writes_addresses(void **state) {
  (void)state;
  char text[64];
  struct sockaddr_storage a = {0};
  struct sockaddr_in *in4 = (struct sockaddr_in *)&a;
  in4->sin_family = AF_INET;
  in4->sin_port = htons(443);
  inet_pton(AF_INET, "203.0.113.9", &in4->sin_addr);
  addr_text(&a, true, text, sizeof text);
  assert_string_equal(text, "203.0.113.9:443");
  addr_text(&a, false, text, sizeof text);
  assert_string_equal(text, "203.0.113.9");
  addr_text(&a, true, text, 8); /* cut, not overrun */
  assert_string_equal(text, "203.0.1");
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a;
  memset(&a, 0, sizeof a);
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons(443);
  inet_pton(AF_INET6, "2001:db8::1", &in6->sin6_addr);
  addr_text(&a, true, text, sizeof text);
  assert_string_equal(text, "[2001:db8::1]:443");
}

/* --- dialing and listening --- */

struct seen {
  int calls, err;
  struct stream *s;
  struct sockaddr_storage peer;
};

static void on_dial(void *user, struct stream *s, int err) {
  struct seen *d = user;
  d->calls++;
  d->err = err;
  d->s = s;
}

static void on_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  struct seen *a = user;
  a->calls++;
  a->peer = *peer;
  if (a->s)
    stream_close(a->s, 0);
  a->s = s;
}

static void wait_for(int *what, int value) {
  for (int i = 0; *what < value; i++) {
    assert_true(i < 100000);
    loop_turn(l, 1000);
  }
}

static void meet(const char *listen_on, const char *dial_to) {
  int64_t sockets = metric_read(METRIC_SOCKETS), in_bytes = metric_read(METRIC_SOCKET_IN),
          accepted = metric_read(METRIC_ACCEPTED), connected = metric_ends_read(METRIC_ENDS_DIAL, 0);
  struct seen in = {0}, out = {0};
  struct listener *ls;
  struct dial *d;
  int err = net_listen(&net_sockets, l, listen_on, 0, NULL, on_accept, &in, &ls);
  if (err == BEAM_ERR_UNREACHABLE && strchr(listen_on, ':')) {
    print_message("skipped: no IPv6 here\n");
    return;
  }
  assert_int_equal(err, 0);
  uint16_t port = net_listener_port(&net_sockets, ls);
  assert_int_equal(net_dial(&net_sockets, l, dial_to, port, 5000, on_dial, &out, &d), 0);
  assert_int_equal(out.calls, 0); /* never from inside the call */
  wait_for(&out.calls, 1);
  assert_int_equal(out.err, 0);
  wait_for(&in.calls, 1);
  assert_int_equal(stream_write(out.s, "hi", 2), 2);
  while (stream_waiting(in.s) < 2)
    loop_turn(l, 1000);
  assert_int_equal(metric_read(METRIC_SOCKETS) - sockets, 2);
  assert_int_equal(metric_read(METRIC_SOCKET_IN) - in_bytes, 2);
  assert_int_equal(metric_read(METRIC_ACCEPTED) - accepted, 1);
  assert_int_equal(metric_ends_read(METRIC_ENDS_DIAL, 0) - connected, 1);
  assert_true(fcntl(sock_fd(in.s), F_GETFD) & FD_CLOEXEC);
  assert_true(fcntl(sock_fd(out.s), F_GETFD) & FD_CLOEXEC);
  stream_close(in.s, BEAM_ERR_CLOSED);
  stream_close(out.s, BEAM_ERR_CLOSED);
  net_listener_close(&net_sockets, ls);
  assert_int_equal(out.calls, 1);
}

static void connects(void **state) {
  (void)state;
  meet("127.0.0.1", "127.0.0.1");
  meet("::1", "::1");
  meet("::1", "localhost");
  meet("127.0.0.1", "localhost"); /* the other family refuses at once */
  meet("127.0.0.1", "LocalHost.");
  meet("127.0.0.1", "shop.localhost");
}

static void connects_to_unix_sockets(void **state) {
  (void)state;
  char dir[] = P_tmpdir "/beam-net-XXXXXX", host[80], path[64];
  struct stat st;
  assert_non_null(mkdtemp(dir));
  snprintf(path, sizeof path, "%s/s", dir);
  snprintf(host, sizeof host, "unix:%s", path);
  meet(host, host);
  assert_int_equal(stat(path, &st), -1); /* gone with its listener */
  /* left by a program that died: taken over; in use: refused; the file is for its owner alone */
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un u = {.sun_family = AF_UNIX};
  snprintf(u.sun_path, sizeof u.sun_path, "%s", path);
  assert_int_equal(bind(fd, (struct sockaddr *)&u, sizeof u), 0);
  close(fd);
  struct seen in = {0};
  struct listener *ls, *other;
  assert_int_equal(net_listen(&net_sockets, l, host, 0, NULL, on_accept, &in, &ls), 0);
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0600);
  assert_int_equal(net_listen(&net_sockets, l, host, 0, NULL, on_accept, &in, &other), BEAM_ERR_IN_USE);
  net_listener_close(&net_sockets, ls);
  loop_turn(l, 0);
  rmdir(dir);
}

/* A port that was free a moment ago. */
static uint16_t closed_port(void) {
  struct seen in = {0};
  struct listener *ls;
  assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", 0, NULL, on_accept, &in, &ls), 0);
  uint16_t port = net_listener_port(&net_sockets, ls);
  net_listener_close(&net_sockets, ls);
  return port;
}

static void says_why_it_failed(void **state) {
  (void)state;
  static const struct {
    const char *host;
    int err;
  } t[] = {
      {"127.0.0.1", BEAM_ERR_REFUSED},
      {"localhost", BEAM_ERR_REFUSED},
      {"unix:/nonexistent/socket", BEAM_ERR_NOT_FOUND},
      {"no-such-name.invalid", BEAM_ERR_UNREACHABLE},
  };
  for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
    struct seen out = {0};
    struct dial *d;
    assert_int_equal(net_dial(&net_sockets, l, t[i].host, closed_port(), 20000, on_dial, &out, &d), 0);
    assert_int_equal(out.calls, 0);
    wait_for(&out.calls, 1);
    assert_null(out.s);
    /* without any resolver the answer is "try again later" */
    if (out.err != t[i].err && !(out.err == BEAM_ERR_TIMEOUT && strstr(t[i].host, "invalid")))
      fail_msg("%s: %d", t[i].host, out.err);
  }
  struct seen out = {0};
  struct dial *d;
  assert_int_equal(net_dial(&net_sockets, l, "", 1, 1000, on_dial, &out, &d), BEAM_ERR_INVALID);
  loop_turn(l, 0);
  assert_int_equal(out.calls, 0);
}

static void resolves_names_of_the_hosts_file(void **state) {
  (void)state;
  char name[256], line[512];
  FILE *f = fopen("/etc/hosts", "re");
  name[0] = 0;
  while (f && fgets(line, sizeof line, f)) {
    char ip[128], first[256];
    if (sscanf(line, "%127s %255s", ip, first) == 2 && (!strcmp(ip, "127.0.0.1") || !strcmp(ip, "::1")) &&
        strcmp(first, "localhost"))
      snprintf(name, sizeof name, "%s", first);
  }
  if (f)
    fclose(f);
  if (!name[0]) {
    print_message("skipped: the hosts file names nothing on the loopback but localhost\n");
    return;
  }
  struct seen out = {0};
  struct dial *d;
  assert_int_equal(net_dial(&net_sockets, l, name, closed_port(), 20000, on_dial, &out, &d), 0);
  wait_for(&out.calls, 1);
  assert_int_equal(out.err, BEAM_ERR_REFUSED);
}

/* A listener whose backlog is full answers nobody: a connect to it hangs. */
static void a_dial_times_out(void **state) {
  (void)state;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof a;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fill[4];
  assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(fd, 0), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
  for (int i = 0; i < 4; i++) {
    fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)!connect(fill[i], (struct sockaddr *)&a, sizeof a);
  }
  struct seen out = {0};
  struct dial *d;
  loop_turn(l, 0);
  uint64_t then = loop_now(l);
  assert_int_equal(net_dial(&net_sockets, l, "127.0.0.1", ntohs(a.sin_port), 80, on_dial, &out, &d), 0);
  wait_for(&out.calls, 1);
  assert_int_equal(out.err, BEAM_ERR_TIMEOUT);
  assert_true(loop_now(l) - then >= 80);
  /* and a cancelled one never calls */
  struct seen none = {0};
  assert_int_equal(net_dial(&net_sockets, l, "127.0.0.1", ntohs(a.sin_port), 20, on_dial, &none, &d), 0);
  net_dial_cancel(&net_sockets, d);
  struct seen later = {0};
  assert_int_equal(net_dial(&net_sockets, l, "127.0.0.1", ntohs(a.sin_port), 40, on_dial, &later, &d), 0);
  wait_for(&later.calls, 1);
  assert_int_equal(none.calls, 0);
  for (int i = 0; i < 4; i++)
    close(fill[i]);
  close(fd);
}

static void cancel_after_it_connected_closes_the_stream(void **state) {
  (void)state;
  struct seen in = {0}, out = {0};
  struct listener *ls;
  struct dial *d;
  assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", 0, NULL, on_accept, &in, &ls), 0);
  /* a unix socket connects inside the call: the stream exists, the callback waits in the task queue */
  char dir[] = P_tmpdir "/beam-net-XXXXXX", host[80];
  assert_non_null(mkdtemp(dir));
  snprintf(host, sizeof host, "unix:%s/s", dir);
  struct listener *uls;
  assert_int_equal(net_listen(&net_sockets, l, host, 0, NULL, on_accept, &in, &uls), 0);
  assert_int_equal(net_dial(&net_sockets, l, host, 0, 1000, on_dial, &out, &d), 0);
  net_dial_cancel(&net_sockets, d);
  wait_for(&in.calls, 1);
  while (!stream_at_end(in.s) && !stream_dead(in.s))
    loop_turn(l, 1000);
  assert_int_equal(out.calls, 0);
  stream_close(in.s, 0);
  net_listener_close(&net_sockets, ls);
  net_listener_close(&net_sockets, uls);
  rmdir(dir);
}

static void a_lookup_may_outlive_its_dial_and_its_loop(void **state) {
  (void)state;
  struct seen out = {0};
  struct dial *d;
  assert_int_equal(net_dial(&net_sockets, l, "no-such-name.invalid", 1, 20000, on_dial, &out, &d), 0);
  net_dial_cancel(&net_sockets, d);
  assert_int_equal(net_dial(&net_sockets, l, "other-name.invalid", 1, 20000, on_dial, &out, &d), 0);
  net_dial_cancel(&net_sockets, d);
  loop_free(l);
  assert_int_equal(loop_new(&l), 0);
  assert_int_equal(out.calls, 0);
}

static void refuses_a_port_in_use(void **state) {
  (void)state;
  struct seen in = {0};
  struct listener *ls, *other;
  assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", 0, NULL, on_accept, &in, &ls), 0);
  uint16_t port = net_listener_port(&net_sockets, ls);
  assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", port, NULL, on_accept, &in, &other),
                   BEAM_ERR_IN_USE);
  assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", port, &in, on_accept, &in, &other),
                   BEAM_ERR_IN_USE);
  net_listener_close(&net_sockets, ls);
  assert_int_equal(net_listen(&net_sockets, l, "localhost", 0, NULL, on_accept, &in, &other),
                   BEAM_ERR_INVALID);
  assert_int_equal(net_listen(&net_sockets, l, "256.0.0.1", 0, NULL, on_accept, &in, &other),
                   BEAM_ERR_INVALID);
}

static void sockets_need_a_real_clock(void **state) {
  (void)state;
  struct seen in = {0};
  struct listener *ls;
  struct dial *d;
  struct loop *v;
  assert_int_equal(loop_new_virtual(&v), 0);
  assert_int_equal(net_listen(&net_sockets, v, "127.0.0.1", 0, NULL, on_accept, &in, &ls), BEAM_ERR_INVALID);
  assert_int_equal(net_dial(&net_sockets, v, "127.0.0.1", 1, 1000, on_dial, &in, &d), BEAM_ERR_INVALID);
  loop_free(v);
}

static void siblings_share_a_port_and_strangers_do_not(void **state) {
  (void)state;
  struct seen in = {0};
  struct listener *a, *b;
  assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", 0, &in, on_accept, &in, &a), 0);
  uint16_t port = net_listener_port(&net_sockets, a);
  assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", port, &in, on_accept, &in, &b), 0);
  /* another relay in the same process is a stranger too */
  struct listener *c;
  assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", port, &c, on_accept, &in, &c), BEAM_ERR_IN_USE);
  net_listener_close(&net_sockets, a);
  net_listener_close(&net_sockets, b);
  /* somebody else listens with SO_REUSEPORT: joining would steal part of their connections */
  struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof sa;
  int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
  assert_int_equal(listen(fd, 1), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
  assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", ntohs(sa.sin_port), &in, on_accept, &in, &a),
                   BEAM_ERR_IN_USE);
  close(fd);
}

/* Out of descriptors, newcomers wait in the backlog; once there are some again they are served. */
static void survives_a_lack_of_descriptors(void **state) {
  (void)state;
  struct seen in = {0}, out = {0};
  struct listener *ls;
  struct dial *d;
  struct rlimit old, few;
  assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", 0, NULL, on_accept, &in, &ls), 0);
  assert_int_equal(
      net_dial(&net_sockets, l, "127.0.0.1", net_listener_port(&net_sockets, ls), 5000, on_dial, &out, &d),
      0);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
  int next = dup(0);
  close(next);
  few = old;
  few.rlim_cur = (rlim_t)next;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
  wait_for(&out.calls, 1);
  uint64_t then = loop_now(l);
  while (loop_now(l) < then + 250)
    loop_turn(l, 50);
  assert_int_equal(in.calls, 0);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
  wait_for(&in.calls, 1);
  stream_close(in.s, BEAM_ERR_CLOSED);
  stream_close(out.s, BEAM_ERR_CLOSED);
  net_listener_close(&net_sockets, ls);
}

struct closer {
  struct listener *ls;
  int calls;
};
static void on_accept_close(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  struct closer *c = user;
  (void)peer;
  c->calls++;
  stream_close(s, BEAM_ERR_DENIED);
  net_listener_close(&net_sockets, c->ls);
}

static void a_listener_may_close_in_its_callback(void **state) {
  (void)state;
  struct closer c = {0};
  struct seen out[2] = {{0}};
  struct dial *d[2];
  assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", 0, NULL, on_accept_close, &c, &c.ls), 0);
  uint16_t port = net_listener_port(&net_sockets, c.ls);
  for (int i = 0; i < 2; i++)
    assert_int_equal(net_dial(&net_sockets, l, "127.0.0.1", port, 5000, on_dial, &out[i], &d[i]), 0);
  wait_for(&c.calls, 1);
  wait_for(&out[0].calls, 1);
  wait_for(&out[1].calls, 1);
  assert_int_equal(c.calls, 1);
  stream_close(out[0].s, 0);
  stream_close(out[1].s, 0);
}

/* An aborted stream is a reset on the wire, one closed in order is not. */
static void an_abort_is_a_reset(void **state) {
  (void)state;
  for (int abort = 0; abort < 2; abort++) {
    struct seen in = {0};
    struct listener *ls;
    char c;
    assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", 0, NULL, on_accept, &in, &ls), 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons(net_listener_port(&net_sockets, ls))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(write(fd, "unread", 6), 6);
    wait_for(&in.calls, 1);
    stream_write(in.s, "x", 1);
    loop_turn(l, 0);
    stream_close(in.s, abort ? BEAM_ERR_PROTOCOL : 0);
    loop_turn(l, 0);
    ssize_t n = read(fd, &c, 1);
    if (abort) {
      while (n > 0)
        n = read(fd, &c, 1);
      assert_int_equal(n, -1);
      assert_int_equal(errno, ECONNRESET);
    } else {
      assert_int_equal(n, 1); /* though what we sent was never read */
      assert_int_equal(read(fd, &c, 1), 0);
    }
    close(fd);
    net_listener_close(&net_sockets, ls);
    loop_turn(l, 0);
  }
}

static void on_readable(void *user) {
  ++*(int *)user;
}
static void on_closed(void *user, int reason) {
  ((int *)user)[1] = reason;
}

/* The peer answers and resets because it did not want the rest of what we upload: the answer is read before the reset is told. */
static void an_answer_before_a_reset_is_heard(void **state) {
  (void)state;
  static const struct stream_events events = {on_readable, NULL, on_closed};
  static char block[1024 * 1024];
  struct seen in = {0};
  struct listener *ls;
  struct linger now = {1, 0};
  char got[8];
  int heard[2] = {0};
  assert_int_equal(net_listen(&net_sockets, l, "127.0.0.1", 0, NULL, on_accept, &in, &ls), 0);
  struct sockaddr_in a = {.sin_family = AF_INET,
                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                          .sin_port = htons(net_listener_port(&net_sockets, ls))};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
  wait_for(&in.calls, 1);
  stream_own(in.s, &events, heard);
  while (stream_write(in.s, block, sizeof block) > 0)
    ; /* the socket is full: the next thing we hear is that a write failed */
  assert_int_equal(write(fd, "too big", 7), 7);
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
  close(fd);
  while (!heard[1])
    loop_turn(l, 1000);
  assert_true(heard[0] > 0);
  assert_int_equal(heard[1], BEAM_ERR_RESET);
  assert_int_equal(evbuffer_remove(stream_input(in.s), got, sizeof got), 7);
  assert_memory_equal(got, "too big", 7);
  stream_close(in.s, 0);
  net_listener_close(&net_sockets, ls);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(splits_host_and_port),
      cmocka_unit_test(writes_addresses),
      cmocka_unit_test(
          survives_a_lack_of_descriptors), /* before look-ups: their threads open and close some */
      cmocka_unit_test(connects),
      cmocka_unit_test(connects_to_unix_sockets),
      cmocka_unit_test(says_why_it_failed),
      cmocka_unit_test(resolves_names_of_the_hosts_file),
      cmocka_unit_test(a_dial_times_out),
      cmocka_unit_test(cancel_after_it_connected_closes_the_stream),
      cmocka_unit_test(a_lookup_may_outlive_its_dial_and_its_loop),
      cmocka_unit_test(refuses_a_port_in_use),
      cmocka_unit_test(sockets_need_a_real_clock),
      cmocka_unit_test(siblings_share_a_port_and_strangers_do_not),
      cmocka_unit_test(a_listener_may_close_in_its_callback),
      cmocka_unit_test(an_abort_is_a_reset),
      cmocka_unit_test(an_answer_before_a_reset_is_heard),
  };
  return cmocka_run_group_tests(tests, up, down);
}
