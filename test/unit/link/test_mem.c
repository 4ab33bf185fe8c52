#include "contract.h"

int main(void) {
  static const struct pair_kind mem = {.name = "mem", .make = link_mem_pair};
  return link_contract_run(&mem);
}
