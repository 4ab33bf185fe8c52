/* What is particular to sockets; the contract every stream keeps is tested in test_contract.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "io/budget.h"
#include "io/mem.h"
#include "io/net.h"
#include "io/pipe.h"
#include "io/sockets.h"

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

/* One end a stream, the other a plain descriptor the test plays the peer with. */
static struct stream *wrap(int *peer) {
  int fd[2];
  struct stream *s;
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
  assert_int_equal(sock_stream(l, fd[0], &s), 0);
  *peer = fd[1];
  return s;
}

static void moves_bytes_both_ways(void **state) {
  (void)state;
  int peer;
  char got[16];
  struct stream *s = wrap(&peer);
  assert_int_equal(stream_write(s, "hello", 5), 5);
  assert_int_equal(read(peer, got, sizeof got), -1); /* not before the turn's end */
  loop_turn(l, 0);
  assert_int_equal(read(peer, got, sizeof got), 5);
  assert_memory_equal(got, "hello", 5);
  assert_int_equal(write(peer, "back", 4), 4);
  loop_turn(l, 1000);
  assert_int_equal(stream_waiting(s), 4);
  stream_close(s, BEAM_ERR_RESET);
  close(peer);
}

static void writes_of_a_turn_leave_together(void **state) {
  (void)state;
  int peer;
  char got[64];
  int fd[2];
  struct stream *s;
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
  assert_int_equal(sock_stream(l, fd[0], &s), 0);
  peer = fd[1];
  for (int i = 0; i < 10; i++)
    assert_int_equal(stream_write(s, &"0123456789"[i], 1), 1);
  loop_turn(l, 0);
  assert_int_equal(recv(peer, got, sizeof got, 0), 10); /* one packet: one system call */
  stream_close(s, BEAM_ERR_RESET);
  close(peer);
}

static void stops_reading_at_the_ceiling(void **state) {
  (void)state;
  int peer;
  static char block[64 * 1024];
  struct stream *s = wrap(&peer);
  size_t sent = 0;
  for (ssize_t n; sent < 64 * 1024 * 1024; sent += (size_t)n) {
    if ((n = write(peer, block, sizeof block)) > 0)
      continue;
    n = 0;
    size_t before = stream_waiting(s);
    loop_turn(l, 0);
    if (stream_waiting(s) == before)
      break;
  }
  assert_true(stream_waiting(s) <= LIMIT_SOCK_IN);
  assert_true(stream_waiting(s) > 0);
  assert_true(sent < 8 * 1024 * 1024); /* the kernel's buffers and ours, no more */
  size_t taken = 0;
  while (taken < sent) {
    taken += stream_waiting(s);
    stream_consume(s, stream_waiting(s));
    if (taken < sent)
      loop_turn(l, 1000);
  }
  assert_int_equal(taken, sent);
  stream_close(s, BEAM_ERR_RESET);
  close(peer);
}

/* When the pool is half gone, 64 KiB a way is what one may hold; more is charged to the pool, and given back. */
static void holds_little_when_memory_is_short(void **state) {
  (void)state;
  int peer;
  static char block[LIMIT_SOCK_OUT];
  size_t before = budget_left(&budget_pool);
  for (int rich = 0; rich < 2; rich++) {
    struct stream *s = wrap(&peer);
    size_t most = rich ? LIMIT_SOCK_OUT : LIMIT_SOCK_MIN;
    if (!rich)
      budget_charge(&budget_pool, LIMIT_POOL_BYTES / 2);
    while (write(peer, block, sizeof block) > 0)
      ;
    while (stream_write(s, block, sizeof block) > 0)
      ;
    for (int i = 0; i < 10; i++) {
      loop_turn(l, 0);
      (void)!write(peer, block, sizeof block);
    }
    assert_int_equal(stream_waiting(s), most);
    if (!rich)
      budget_give(&budget_pool, LIMIT_POOL_BYTES / 2);
    if (rich)
      assert_int_equal(before - budget_left(&budget_pool), 2 * (most - LIMIT_SOCK_MIN));
    stream_close(s, BEAM_ERR_RESET);
    close(peer);
    assert_int_equal(budget_left(&budget_pool), before);
  }
}

static void close_in_order_drains_what_was_written(void **state) {
  (void)state;
  int peer;
  struct stream *s = wrap(&peer);
  static char block[64 * 1024], got[64 * 1024];
  size_t wrote = 0, read_ = 0;
  for (size_t n; (n = stream_write(s, block, sizeof block)) > 0; wrote += n)
    ;
  stream_close(s, 0);
  for (ssize_t n; (n = read(peer, got, sizeof got)) != 0;) {
    if (n > 0)
      read_ += (size_t)n;
    else
      loop_turn(l, 1000);
  }
  assert_int_equal(read_, wrote);
  close(peer);
  loop_turn(l, 1000);
}

static void gives_the_descriptor_with_what_was_received(void **state) {
  (void)state;
  int peer;
  char got[8];
  struct stream *s = wrap(&peer), *t;
  struct evbuffer *received = evbuffer_new();
  assert_int_equal(write(peer, "early", 5), 5);
  while (stream_waiting(s) < 5)
    loop_turn(l, 1000);
  int fd = sock_release(s, received);
  assert_true(fd >= 0);
  assert_int_equal(evbuffer_get_length(received), 5);
  assert_int_equal(write(peer, "late", 4), 4);
  assert_int_equal(sock_adopt(l, fd, received, &t), 0);
  while (stream_waiting(t) < 9)
    loop_turn(l, 1000);
  evbuffer_free(received);
  assert_int_equal(evbuffer_remove(stream_input(t), got, 8), 8);
  assert_memory_equal(got, "earlylat", 8);
  stream_close(t, BEAM_ERR_RESET);
  close(peer);
}

static void loop_free_ends_draining_sockets(void **state) {
  (void)state;
  int peer;
  struct stream *s = wrap(&peer);
  stream_write(s, "x", 1);
  stream_close(s, 0);
  char c;
  assert_int_equal(read(peer, &c, 1), 1);
  loop_free(l);
  assert_int_equal(read(peer, &c, 1), 0);
  close(peer);
  assert_int_equal(loop_new(&l), 0);
}

/* Both ends of a TCP connection on loopback. */
static struct stream *wrap_tcp(int *peer) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  struct stream *s;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(listener, (struct sockaddr *)&a, n), 0);
  assert_int_equal(listen(listener, 1), 0);
  assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &n), 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&a, n), 0);
  *peer = accept(listener, NULL, NULL);
  assert_true(*peer >= 0);
  close(listener);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  assert_int_equal(sock_stream(l, fd, &s), 0);
  return s;
}

/* Writes until nothing more is taken, kernel and stream; what waits in the kernel and was not sent yet. */
static size_t fill(struct stream *s, size_t *room) {
  static char block[64 * 1024];
  int unsent = -1;
  for (int turns = 0; turns < 2000; turns++) {
    while (stream_write(s, block, sizeof block))
      ;
    loop_turn(l, 0);
  }
  *room = stream_room(s);
  assert_int_equal(ioctl(sock_fd(s), SIOCOUTQNSD, &unsent), 0);
  assert_true(unsent >= 0);
  return (size_t)unsent;
}

/* Under a link little waits: a stream of it that has something to say waits behind no more than that. */
static void shared_sockets_keep_little_waiting(void **state) {
  (void)state;
  int peer, other;
  size_t room, plain_unsent, unsent;
  struct stream *plain = wrap_tcp(&other), *s = wrap_tcp(&peer);
  struct stream *filter, *end;
  assert_int_equal(mem_pair(l, &filter, &end), 0);
  filter->below = s; /* as TLS has it */
  sock_share(filter);
  filter->below = NULL;
  plain_unsent = fill(plain, &room);
  unsent = fill(s, &room);
  assert_true(unsent > 0);
  assert_true(unsent <=
              2 * LIMIT_SOCK_SHARED); /* the kernel takes whole segments of up to 64 KiB, and rounds */
  assert_true(plain_unsent > 2 * LIMIT_SOCK_SHARED);
  assert_int_equal(budget_pool.used > 0, 1);
  sock_share(end); /* no socket at the bottom: nothing happens */
  stream_close(filter, BEAM_ERR_RESET);
  stream_close(end, BEAM_ERR_RESET);
  stream_close(s, BEAM_ERR_RESET);
  stream_close(plain, BEAM_ERR_RESET);
  close(peer);
  close(other);
}

/* --- a peer that vanished --- */

static struct closed_note {
  int reason;
  bool came;
} note;

static void on_note(void *user, int reason) {
  (void)user;
  note = (struct closed_note){reason, true};
}

/* Two ends of a TCP connection over loopback. */
static struct stream *tcp_pair(int *peer) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  struct stream *s;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
      fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(listener, 1), 0);
  assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &n), 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
  *peer = accept(listener, NULL, NULL);
  assert_true(*peer >= 0);
  close(listener);
  assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
  assert_int_equal(sock_stream(l, fd, &s), 0);
  return s;
}

/* Hears nothing any more, not even what the kernel would answer: a filter drops all that comes. */
static void go_deaf(int fd) {
  struct sock_filter drop = {0x06, 0, 0, 0}; /* return 0 bytes */
  struct sock_fprog all = {1, &drop};
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof all), 0);
}

/* Whether it ended within a second of being told something every few milliseconds. */
static bool ends(struct stream *s) {
  static const struct stream_events events = {NULL, NULL, on_note};
  uint64_t begun = loop_now(l);
  note = (struct closed_note){0};
  stream_own(s, &events, NULL);
  while (!note.came && loop_now(l) - begun < 1000) {
    stream_write(s, "data: x", 7);
    loop_turn(l, 5);
  }
  return note.came;
}

static void a_peer_that_vanished(void **state) {
  (void)state;
  static char much[65536];
  int peer;
  sock_unheard_ms = 200;
  struct stream *s = tcp_pair(&peer);
  assert_false(ends(s)); /* it reads nothing, and is there */
  go_deaf(peer);
  assert_true(ends(s));
  assert_int_equal(note.reason, BEAM_ERR_TIMEOUT);
  stream_close(s, BEAM_ERR_TIMEOUT);
  close(peer);
  s = tcp_pair(&peer); /* a window of nothing, and the peer is there */
  for (int i = 0; i < 1000; i++) {
    stream_write(s, much, sizeof much);
    loop_turn(l, 0);
  }
  assert_int_equal(stream_room(s), 0);
  assert_false(ends(s));
  stream_close(s, BEAM_ERR_RESET);
  close(peer);
  sock_unheard_ms = LIMIT_TCP_UNHEARD_MS;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(moves_bytes_both_ways),
      cmocka_unit_test(writes_of_a_turn_leave_together),
      cmocka_unit_test(stops_reading_at_the_ceiling),
      cmocka_unit_test(holds_little_when_memory_is_short),
      cmocka_unit_test(close_in_order_drains_what_was_written),
      cmocka_unit_test(gives_the_descriptor_with_what_was_received),
      cmocka_unit_test(loop_free_ends_draining_sockets),
      cmocka_unit_test(shared_sockets_keep_little_waiting),
      cmocka_unit_test(a_peer_that_vanished),
  };
  return cmocka_run_group_tests(tests, up, down);
}
