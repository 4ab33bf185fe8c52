#include "contract.h"

int main(void) {
  static const struct pair_kind h2 = {.name = "h2", .make = pair_h2};
  return link_contract_run(&h2);
}
