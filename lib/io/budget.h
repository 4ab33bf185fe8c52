/* budget.h: how much memory the windows of a process may promise and hold. An atomic counter: any thread.
 *
 * Bytes that wait in a stream are charged as they come, up to the window every stream has from the start; what a window grows beyond that is taken
 * beforehand, and only while much is left, so that a few fast streams never leave nothing for the next ones.
 */
#ifndef IO_BUDGET_H
#define IO_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct budget {
  _Atomic size_t used;
  size_t cap;
};
extern struct budget budget_pool; /* the process's own, LIMIT_POOL_BYTES */

bool budget_take(struct budget *b, size_t n, size_t leave); /* n, if `leave` stay free after it */
void budget_charge(struct budget *b, size_t n);             /* unconditionally: the bytes are here already */
void budget_give(struct budget *b, size_t n);
size_t budget_left(struct budget *b);

#endif
