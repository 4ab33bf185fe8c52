#include "contract.h"

int main(void) {
  static const struct pair_kind h2 = {"h2", pair_h2};
  return link_contract_run(&h2);
}
