/* test_pass.c: a listening socket goes to another owner with what waits in its backlog. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/pass.h"

static unsigned accepted;
static void on_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  (void)user, (void)peer;
  accepted++;
  stream_close(s, 0);
}

static int dial(uint16_t port) {
  struct sockaddr_in a = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
  return fd;
}

static void test_backlog_goes_along(void **state) {
  (void)state;
  struct loop *one, *two;
  struct listener *old, *adopted, *sibling;
  int pair[2], fds[4];
  unsigned n;
  accepted = 0;
  assert_int_equal(loop_new(&one), 0);
  assert_int_equal(loop_new(&two), 0);
  assert_int_equal(net_listen(&net_sockets, one, "127.0.0.1", 0, NULL, on_accept, NULL, &old), 0);
  uint16_t port = net_listener_port(&net_sockets, old);
  int visitors[3] = {dial(port), dial(port), dial(port)}; /* nobody accepts them: the old loop never turns */

  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  assert_true(pass_trusted(pair[0]));
  int fd = listener_dup(old);
  assert_true(fd >= 0);
  assert_int_equal(pass_send(pair[0], &fd, 1), 0);
  close(fd);
  assert_int_equal(pass_receive(pair[1], fds, 4, &n), 0);
  assert_int_equal(n, 1);
  net_listener_close(&net_sockets, old);

  assert_int_equal(listener_adopt(two, fds[0], &accepted, on_accept, NULL, &adopted), 0);
  assert_int_equal(net_listener_port(&net_sockets, adopted), port);
  for (int i = 0; i < 100 && accepted < 3; i++)
    loop_turn(two, 10);
  assert_int_equal(accepted, 3);
  /* Another worker of the new owner joins the port. */
  assert_int_equal(net_listen(&net_sockets, two, "127.0.0.1", port, &accepted, on_accept, NULL, &sibling), 0);
  net_listener_close(&net_sockets, sibling);
  net_listener_close(&net_sockets, adopted);
  for (int i = 0; i < 3; i++)
    close(visitors[i]);
  close(pair[0]);
  assert_int_equal(pass_receive(pair[1], fds, 4, &n), BEAM_ERR_CLOSED);
  close(pair[1]);
  loop_free(one);
  loop_free(two);
}

static void test_what_is_no_listener(void **state) {
  (void)state;
  struct loop *l;
  struct listener *out;
  assert_int_equal(loop_new(&l), 0);
  assert_int_equal(listener_adopt(l, socket(AF_INET, SOCK_STREAM, 0), &accepted, on_accept, NULL, &out),
                   BEAM_ERR_INVALID);
  assert_int_equal(listener_adopt(l, open("/dev/null", O_RDONLY), &accepted, on_accept, NULL, &out),
                   BEAM_ERR_INVALID);
  loop_free(l);
}

/* More than there is room for: the rest is closed, not leaked. Without any: nothing is sent. */
static void test_bounds(void **state) {
  (void)state;
  int pair[2], fds[PASS_MAX + 1], got[2];
  unsigned n;
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  for (unsigned i = 0; i <= PASS_MAX; i++)
    fds[i] = 0;
  assert_int_equal(pass_send(pair[0], fds, 0), BEAM_ERR_INVALID);
  assert_int_equal(pass_send(pair[0], fds, PASS_MAX + 1), BEAM_ERR_INVALID);
  int lowest = dup(0);
  close(lowest);
  assert_int_equal(pass_send(pair[0], fds, PASS_MAX), 0);
  assert_int_equal(pass_receive(pair[1], got, 2, &n), 0);
  assert_int_equal(n, 2);
  close(got[0]);
  close(got[1]);
  int again = dup(0);
  assert_int_equal(again, lowest);
  close(again);
  close(pair[0]);
  close(pair[1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_backlog_goes_along),
      cmocka_unit_test(test_what_is_no_listener),
      cmocka_unit_test(test_bounds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
