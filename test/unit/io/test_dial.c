/* Happy Eyeballs, with a resolver that says what the test wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "io/sockets.h"

static struct loop *l;

/* --- the resolver: takes the place of io/resolve.c --- */

struct resolve {
  struct loop_task task;
  resolve_cb cb;
  void *user;
};
static struct resolve answer;
static struct sockaddr_storage answer_addrs[8];
static size_t answer_n;
static int answer_err, resolves, cancels;
static bool answer_never;

static void give_answer(void *arg) {
  (void)arg;
  answer.cb(answer.user, answer_addrs, answer_n, answer_err);
}

int resolve_start(struct loop *loop, const char *host, uint16_t port, resolve_cb cb, void *user,
                  struct resolve **out) {
  (void)host;
  (void)port;
  resolves++;
  answer.cb = cb;
  answer.user = user;
  task_init(&answer.task, give_answer, NULL);
  if (!answer_never)
    loop_soon(loop, &answer.task);
  *out = &answer;
  return 0;
}

void resolve_cancel(struct resolve *r) {
  cancels++;
  task_cancel(&r->task);
}

static int up(void **state) {
  (void)state;
  answer_n = 0;
  answer_err = resolves = cancels = 0;
  answer_never = false;
  return loop_new(&l);
}
static int down(void **state) {
  (void)state;
  loop_free(l);
  return 0;
}

/* --- places to dial to --- */

static void answer_with(const char *ip, uint16_t port) {
  assert_true(addr_literal(ip, port, &answer_addrs[answer_n++]));
}

/* Its backlog is full: a connect to it gets no answer. */
struct hang {
  int fd, fill[4];
  uint16_t port;
};
static void hang_open(struct hang *h) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof a;
  h->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(h->fd, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(h->fd, 0), 0);
  assert_int_equal(getsockname(h->fd, (struct sockaddr *)&a, &len), 0);
  h->port = ntohs(a.sin_port);
  for (int i = 0; i < 4; i++) {
    h->fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)!connect(h->fill[i], (struct sockaddr *)&a, sizeof a);
  }
}
static void hang_close(struct hang *h) {
  for (int i = 0; i < 4; i++)
    close(h->fill[i]);
  close(h->fd);
}

static void on_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  (void)peer;
  ++*(int *)user;
  stream_close(s, 0);
}

static struct listener *open_listener(const char *ip, int *accepted, uint16_t *port) {
  struct listener *ls = NULL;
  if (!net_listen(&net_sockets, l, ip, 0, NULL, on_accept, accepted, &ls))
    *port = net_listener_port(&net_sockets, ls);
  return ls;
}

static uint16_t closed_port(void) {
  int none;
  uint16_t port = 0;
  net_listener_close(&net_sockets, open_listener("127.0.0.1", &none, &port));
  return port;
}

struct seen {
  int calls, err;
  struct stream *s;
};
static void on_dial(void *user, struct stream *s, int err) {
  struct seen *d = user;
  d->calls++;
  d->err = err;
  d->s = s;
}

/* Dial the resolver's answer and wait for the outcome; ms it took. */
static uint64_t outcome(struct seen *d, uint64_t timeout) {
  struct dial *dial;
  memset(d, 0, sizeof *d);
  loop_turn(l, 0);
  uint64_t t = loop_now(l);
  assert_int_equal(net_dial(&net_sockets, l, "relay.example", 1, timeout, on_dial, d, &dial), 0);
  while (!d->calls)
    loop_turn(l, 1000);
  return loop_now(l) - t;
}

/* --- tests --- */

static void a_silent_address_is_overtaken(void **state) {
  (void)state;
  struct hang h;
  struct seen d;
  int accepted = 0;
  uint16_t port;
  struct listener *ls = open_listener("127.0.0.1", &accepted, &port);
  hang_open(&h);
  answer_with("127.0.0.1", h.port);
  answer_with("127.0.0.1", port);
  assert_true(outcome(&d, 30000) >= LIMIT_DIAL_STAGGER_MS);
  assert_int_equal(d.err, 0);
  assert_non_null(d.s);
  assert_int_equal(resolves, 1);
  stream_close(d.s, BEAM_ERR_CLOSED);
  net_listener_close(&net_sockets, ls);
  hang_close(&h);
}

static void a_refusal_moves_on(void **state) {
  (void)state;
  struct seen d;
  int accepted = 0;
  uint16_t port;
  struct listener *ls = open_listener("127.0.0.1", &accepted, &port);
  answer_with("127.0.0.1", closed_port());
  answer_with("127.0.0.1", closed_port());
  answer_with("127.0.0.1", port);
  outcome(&d, 30000);
  assert_int_equal(d.err, 0);
  while (!accepted)
    loop_turn(l, 1000);
  stream_close(d.s, BEAM_ERR_CLOSED);
  net_listener_close(&net_sockets, ls);
}

/* Two of one family before the other: the other is second all the same. */
static void families_take_turns(void **state) {
  (void)state;
  struct hang h;
  struct seen d;
  int same = 0, other = 0;
  uint16_t same_port, other_port;
  struct listener *ls6 = open_listener("::1", &other, &other_port);
  if (!ls6) {
    print_message("skipped: no IPv6 here\n");
    return;
  }
  struct listener *ls4 = open_listener("127.0.0.1", &same, &same_port);
  hang_open(&h);
  answer_with("127.0.0.1", h.port);
  answer_with("127.0.0.1", same_port);
  answer_with("::1", other_port);
  outcome(&d, 30000);
  assert_int_equal(d.err, 0);
  while (!other)
    loop_turn(l, 1000);
  assert_int_equal(same, 0);
  stream_close(d.s, BEAM_ERR_CLOSED);
  net_listener_close(&net_sockets, ls4);
  net_listener_close(&net_sockets, ls6);
  hang_close(&h);
}

static void the_most_telling_error_is_told(void **state) {
  (void)state;
  struct seen d;
  answer_with("unix:/nonexistent/a", 0); /* any other error will do */
  answer_with("127.0.0.1", closed_port());
  answer_with("unix:/nonexistent/b", 0);
  outcome(&d, 30000);
  assert_int_equal(d.err, BEAM_ERR_REFUSED);
  assert_null(d.s);
  answer_n = 0;
  answer_err = BEAM_ERR_UNREACHABLE; /* the name does not resolve */
  outcome(&d, 30000);
  assert_int_equal(d.err, BEAM_ERR_UNREACHABLE);
}

static void time_is_up_while_resolving_or_connecting(void **state) {
  (void)state;
  struct hang h;
  struct seen d;
  hang_open(&h);
  answer_with("127.0.0.1", h.port);
  answer_with("127.0.0.1", h.port);
  assert_true(outcome(&d, 300) >= 300); /* both are under way by then */
  assert_int_equal(d.err, BEAM_ERR_TIMEOUT);
  answer_never = true;
  assert_true(outcome(&d, 20) >= 20);
  assert_int_equal(d.err, BEAM_ERR_TIMEOUT);
  assert_int_equal(cancels, 1);
  hang_close(&h);
}

static void a_cancelled_dial_lets_go_of_everything(void **state) {
  (void)state;
  struct hang h;
  struct seen d = {0};
  struct dial *dial;
  int before = dup(0);
  close(before);
  hang_open(&h);
  answer_with("127.0.0.1", h.port);
  answer_with("127.0.0.1", h.port);
  assert_int_equal(net_dial(&net_sockets, l, "relay.example", 1, 1000, on_dial, &d, &dial), 0);
  net_dial_cancel(&net_sockets, dial); /* while resolving */
  assert_int_equal(cancels, 1);
  assert_int_equal(net_dial(&net_sockets, l, "relay.example", 1, 1000, on_dial, &d, &dial), 0);
  uint64_t t = loop_now(l);
  while (loop_now(l) < t + LIMIT_DIAL_STAGGER_MS + 20) /* with two attempts under way */
    loop_turn(l, 10);
  net_dial_cancel(&net_sockets, dial);
  hang_close(&h);
  loop_turn(l, 0);
  assert_int_equal(d.calls, 0);
  int after = dup(0);
  close(after);
  assert_int_equal(after, before);
}

int main(void) {
#define T(t) cmocka_unit_test_setup_teardown(t, up, down)
  const struct CMUnitTest tests[] = {
      T(a_silent_address_is_overtaken),
      T(a_refusal_moves_on),
      T(families_take_turns),
      T(the_most_telling_error_is_told),
      T(time_is_up_while_resolving_or_connecting),
      T(a_cancelled_dial_lets_go_of_everything),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
