/* Being told that the network changed, or that the machine slept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/random.h"
#include "io/sockets.h"

struct told {
  unsigned changed, slept;
  struct net_watch *closes; /* in the callback */
};

static void on_change(void *user, int what) {
  struct told *t = user;
  t->changed += what & NET_CHANGED ? 1 : 0;
  t->slept += what & NET_SLEPT ? 1 : 0;
  net_unwatch(&net_sockets, t->closes);
  t->closes = NULL;
}

/* --- sleep, on the virtual clock --- */

static uint64_t slept_ms;
static uint64_t fake_asleep(void) {
  return slept_ms;
}

static void sleep_is_told(void **state) {
  (void)state;
  struct loop *l;
  struct told t = {0};
  struct net_watch *w;
  uint64_t (*real)(void) = netwatch_asleep;
  netwatch_asleep = fake_asleep;
  slept_ms = 7000; /* before our time */
  assert_int_equal(loop_new_virtual(&l), 0);
  assert_int_equal(net_watch(&net_sockets, l, on_change, &t, &w), 0);
  loop_run_for(l, 60000);
  assert_int_equal(t.slept, 0);
  slept_ms += 4999; /* a nap */
  loop_run_for(l, 60000);
  assert_int_equal(t.slept, 0);
  slept_ms += 5000;
  loop_run_for(l, 9999);
  assert_int_equal(t.slept, 0);
  loop_run_for(l, 1);
  assert_int_equal(t.slept, 1);
  loop_run_for(l, 60000); /* once for each sleep */
  assert_int_equal(t.slept, 1);
  assert_int_equal(t.changed, 0);
  net_unwatch(&net_sockets, w);
  slept_ms += 50000;
  loop_run_for(l, 60000);
  assert_int_equal(t.slept, 1);
  loop_free(l);
  netwatch_asleep = real;
}

/* Two watch one loop; one of them ends the other's watch while both are due. */
static void many_watch(void **state) {
  (void)state;
  struct loop *l;
  struct told t[3] = {0};
  struct net_watch *w[3];
  uint64_t (*real)(void) = netwatch_asleep;
  netwatch_asleep = fake_asleep;
  assert_int_equal(loop_new_virtual(&l), 0);
  for (int i = 0; i < 3; i++)
    assert_int_equal(net_watch(&net_sockets, l, on_change, &t[i], &w[i]), 0);
  t[0].closes = w[1];
  slept_ms += 60000;
  loop_run_for(l, 10000);
  assert_int_equal(t[0].slept, 1);
  assert_int_equal(t[1].slept, 0);
  assert_int_equal(t[2].slept, 1);
  t[2].closes = w[2]; /* its own */
  slept_ms += 60000;
  loop_run_for(l, 10000);
  assert_int_equal(t[0].slept, 2);
  assert_int_equal(t[2].slept, 2);
  net_unwatch(&net_sockets, w[0]);
  net_unwatch(&net_sockets, NULL);
  loop_free(l);
  netwatch_asleep = real;
}

/* Opened by one thread, closed by the one that runs the loop; another loop's watch beside it. */
static void *close_it(void *arg) {
  net_unwatch(&net_sockets, arg);
  return NULL;
}

static void loops_change_hands(void **state) {
  (void)state;
  struct loop *l[2];
  struct told t[2] = {0};
  struct net_watch *w[2];
  pthread_t thread;
  uint64_t (*real)(void) = netwatch_asleep;
  netwatch_asleep = fake_asleep;
  for (int i = 0; i < 2; i++) {
    assert_int_equal(loop_new_virtual(&l[i]), 0);
    assert_int_equal(net_watch(&net_sockets, l[i], on_change, &t[i], &w[i]), 0);
  }
  assert_int_equal(pthread_create(&thread, NULL, close_it, w[0]), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  slept_ms += 60000;
  loop_run_for(l[0], 10000);
  loop_run_for(l[1], 10000);
  assert_int_equal(t[0].slept, 0);
  assert_int_equal(t[1].slept, 1);
  net_unwatch(&net_sockets, w[1]);
  loop_free(l[0]);
  loop_free(l[1]);
  netwatch_asleep = real;
}

/* --- the kernel's word, in a network of our own --- */

static int set_up_lo(int fd) {
  struct ifreq r = {.ifr_name = "lo"};
  r.ifr_flags = IFF_UP | IFF_RUNNING;
  return ioctl(fd, SIOCSIFFLAGS, &r);
}

static int set_address(int fd, const char *label, const char *text) {
  struct ifreq r = {0};
  struct sockaddr_in *a = (struct sockaddr_in *)&r.ifr_addr;
  strcpy(r.ifr_name, label);
  a->sin_family = AF_INET;
  inet_pton(AF_INET, text, &a->sin_addr);
  return ioctl(fd, SIOCSIFADDR, &r);
}

static void turn_for(struct loop *l, const struct told *t, unsigned changed, uint64_t ms) {
  for (uint64_t end = loop_now(l) + ms; loop_now(l) < end && t->changed < changed;)
    loop_turn(l, 20);
}

/* In a child of its own, so that the network is nobody else's: 0, or the line that was not so. */
static int in_a_network_of_its_own(void) {
  struct loop *l;
  struct told t = {0};
  struct net_watch *w;
  struct sockaddr_storage peer = {0}, source;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || loop_new(&l) || net_watch(&net_sockets, l, on_change, &t, &w))
    return __LINE__;
  ((struct sockaddr_in *)&peer)->sin_family = AF_INET;
  inet_pton(AF_INET, "10.9.8.7", &((struct sockaddr_in *)&peer)->sin_addr);
  if (net_source(&peer, &source)) /* nothing is up */
    return __LINE__;
  if (set_up_lo(fd) || set_address(fd, "lo:1", "10.9.8.7") || set_address(fd, "lo:2", "10.9.8.6"))
    return __LINE__;
  turn_for(l, &t, 1, 10000);
  if (t.changed != 1)
    return __LINE__;
  if (!net_source(&peer, &source) || !addr_same_host(&source, &peer))
    return __LINE__;
  turn_for(l, &t, 2, 700); /* all of it was one word */
  if (t.changed != 1)
    return __LINE__;
  if (set_address(fd, "lo:1", "10.9.8.5"))
    return __LINE__;
  turn_for(l, &t, 2, 10000);
  if (t.changed != 2 || t.slept)
    return __LINE__;
  net_unwatch(&net_sockets, w);
  loop_free(l);
  close(fd);
  return 0;
}

static void the_kernel_tells_of_changes(void **state) {
  (void)state;
  int status;
  pid_t child = fork();
  assert_true(child >= 0);
  if (!child)
    _exit(unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET) ? 77
          : in_a_network_of_its_own()                                    ? 1
                                                                         : 0);
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) {
    print_message("skipped: lacks the right to make a network namespace\n");
    skip();
  }
  assert_int_equal(WEXITSTATUS(status), 0);
}

/* A machine where something always changes: told of every two seconds, and no more often. */
static int restless(void) {
  struct loop *l;
  struct told t = {0};
  struct net_watch *w;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || loop_new(&l) || net_watch(&net_sockets, l, on_change, &t, &w) || set_up_lo(fd))
    return __LINE__;
  uint64_t begun = loop_now(l);
  for (int i = 0; !t.changed; i++) {
    if (loop_now(l) - begun > 20000 || set_address(fd, "lo:1", i % 2 ? "10.9.8.7" : "10.9.8.6"))
      return __LINE__;
    loop_turn(l, 10);
  }
  uint64_t took = loop_now(l) - begun;
  net_unwatch(&net_sockets, w);
  loop_free(l);
  close(fd);
  return took >= 1900 ? 0 : __LINE__;
}

static void changes_without_end_are_told_of(void **state) {
  (void)state;
  int status;
  pid_t child = fork();
  assert_true(child >= 0);
  if (!child)
    _exit(unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET) ? 77 : restless() ? 1 : 0);
  assert_int_equal(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
    skip();
  assert_int_equal(status, 0);
}

static void addresses_without_ports(void **state) {
  (void)state;
  struct sockaddr_storage a, b;
  static const struct {
    const char *a, *b;
    bool same;
  } t[] = {{"127.0.0.1", "127.0.0.1", true},
           {"127.0.0.1", "127.0.0.2", false},
           {"::1", "::1", true},
           {"::1", "::2", false},
           {"::1", "127.0.0.1", false}};
  for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
    assert_true(addr_literal(t[i].a, 1, &a) && addr_literal(t[i].b, 2, &b));
    assert_int_equal(addr_same_host(&a, &b), t[i].same);
  }
  assert_true(addr_literal("127.0.0.1", 9, &a) && net_source(&a, &b) && addr_same_host(&a, &b));
  memset(&a, 0, sizeof a);
  a.ss_family = AF_UNIX;
  assert_false(net_source(&a, &b));
  assert_false(addr_same_host(&a, &a));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sleep_is_told),
      cmocka_unit_test(many_watch),
      cmocka_unit_test(loops_change_hands),
      cmocka_unit_test(the_kernel_tells_of_changes),
      cmocka_unit_test(changes_without_end_are_told_of),
      cmocka_unit_test(addresses_without_ports),
  };
  return base_init() || cmocka_run_group_tests(tests, NULL, NULL);
}
