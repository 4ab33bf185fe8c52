/* The contract of streams, over every kind that io has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/socket.h>

#include "base/limits.h"
#include "io/mem.h"
#include "io/net.h"

#include "../stream_contract.h"

static int make_mem(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  (void)extra;
  return mem_pair(l, a, b);
}

static int make_unix(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  int fd[2];
  (void)extra;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd))
    return BEAM_ERR_SYSTEM;
  return sock_stream(l, fd[0], a) || sock_stream(l, fd[1], b);
}

static void on_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  (void)peer;
  *(struct stream **)user = s;
}

static void on_dial(void *user, struct stream *s, int err) {
  assert_int_equal(err, 0);
  *(struct stream **)user = s;
}

static int make_tcp(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  struct listener *ls;
  struct dial *d;
  (void)extra;
  *a = *b = NULL;
  if (net_listen(&net_sockets, l, "127.0.0.1", 0, NULL, on_accept, b, &ls) ||
      net_dial(&net_sockets, l, "127.0.0.1", net_listener_port(&net_sockets, ls), 5000, on_dial, a, &d))
    return BEAM_ERR_SYSTEM;
  while (!*a || !*b)
    loop_turn(l, 1000);
  net_listener_close(&net_sockets, ls);
  return 0;
}

static int make_memnet(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  const struct memnet_conf conf = {.seed = 7, .delay_ms = 3, .jitter_ms = 4};
  struct net *n;
  struct listener *ls;
  struct dial *d;
  *a = *b = NULL;
  if (memnet_new(l, &conf, &n) || net_listen(n, l, "relay", 443, NULL, on_accept, b, &ls) ||
      net_dial(n, l, "relay", 443, 1000, on_dial, a, &d))
    return BEAM_ERR_NOMEM;
  loop_run_for(l, 100);
  *extra = n;
  return *a && *b ? 0 : BEAM_ERR_INTERNAL;
}

static void unmake_memnet(void *extra) {
  memnet_free(extra);
}

int main(void) {
  const struct contract_kind kinds[] = {
      {.name = "mem, virtual clock", .virtual_clock = true, .holds = LIMIT_MEM_PIPE, .make = make_mem},
      {.name = "mem", .holds = LIMIT_MEM_PIPE, .make = make_mem},
      {.name = "memnet",
       .virtual_clock = true,
       .holds = LIMIT_MEM_PIPE,
       .make = make_memnet,
       .unmake = unmake_memnet},
      {.name = "unix socket", .weak_abort = true, .make = make_unix},
      {.name = "tcp socket", .make = make_tcp},
  };
  int failed = 0;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    failed += contract_run(&kinds[i]);
  return failed;
}
