#include "io/budget.h"

#include "base/limits.h"

struct budget budget_pool = {0, LIMIT_POOL_BYTES};

bool budget_take(struct budget *b, size_t n, size_t leave) {
  size_t used = atomic_load_explicit(&b->used, memory_order_relaxed);
  do {
    if (used > b->cap || b->cap - used < n || b->cap - used - n < leave)
      return false;
  } while (!atomic_compare_exchange_weak_explicit(&b->used, &used, used + n, memory_order_relaxed,
                                                  memory_order_relaxed));
  return true;
}

void budget_charge(struct budget *b, size_t n) {
  atomic_fetch_add_explicit(&b->used, n, memory_order_relaxed);
}

void budget_give(struct budget *b, size_t n) {
  atomic_fetch_sub_explicit(&b->used, n, memory_order_relaxed);
}

size_t budget_left(struct budget *b) {
  size_t used = atomic_load_explicit(&b->used, memory_order_relaxed);
  return used < b->cap ? b->cap - used : 0;
}
