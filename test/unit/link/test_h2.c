#include "contract.h"

#include "io/mem.h"

static int make(struct loop *l, struct link **relay, struct link **agent) {
  static const uint8_t exporter[32];
  struct stream *a, *b;
  int err = mem_pair(l, &a, &b);
  if (err)
    return err;
  err = link_h2_new(a, LINK_RELAY, exporter, relay);
  return err ? err : link_h2_new(b, LINK_AGENT, exporter, agent);
}

int main(void) {
  static const struct pair_kind h2 = {"h2", make};
  return contract_run(&h2);
}
