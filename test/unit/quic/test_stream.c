/* A QUIC stream keeps the contract of every stream: opened by the client, and by the server; on packets in memory and on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../stream_contract.h"

#include "base/limits.h"
#include "io/budget.h"
#include "../quic_pair.h"

static bool server_opens;
static unsigned loss, delay = 1;

static int make(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  struct pair *p = calloc(1, sizeof *p);
  assert_non_null(p);
  pair_init(p, l);
  p->memnet.loss = loss;
  p->memnet.delay_ms = delay;
  pair_meet(p);
  struct peer *opens = server_opens ? &p->b : &p->a, *hears = server_opens ? &p->a : &p->b;
  assert_int_equal(quic_conn_open(opens->c, true, a), 0);
  PAIR_UNTIL(p, hears->streams == 1);
  *b = hears->stream[0];
  hears->stream[0] = NULL;
  *extra = p;
  return 0;
}

static void unmake(void *extra) {
  struct pair *p = extra;
  pair_fini(p);
  loop_run_for(p->l, 0);
  if (p->net)
    udp_memnet_free(p->net);
  if (!p->real)
    assert_int_equal(budget_left(&budget_pool), LIMIT_POOL_BYTES);
  free(p);
}

int main(void) {
  static const struct contract_kind mem = {.name = "quic over packets in memory",
                                           .virtual_clock = true,
                                           .holds = LIMIT_STREAM_WINDOW_MIN + LIMIT_SOCK_OUT,
                                           .make = make,
                                           .unmake = unmake};
  static const struct contract_kind loopback = {.name = "quic over loopback",
                                                .holds = LIMIT_STREAM_WINDOW_MIN + LIMIT_SOCK_OUT,
                                                .make = make,
                                                .unmake = unmake};
  int failed = contract_run(&mem);
  server_opens = true;
  failed += contract_run(&mem);
  loss = 20;
  failed += contract_run(&mem);
  loss = 0;
  delay = 40;
  failed += contract_run(&mem);
  return failed + contract_run(&loopback);
}
