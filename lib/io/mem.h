/* mem.h: two streams that are each other's far end, in memory, on one loop. For tests, the sim and in-process joins. */
#ifndef IO_MEM_H
#define IO_MEM_H

#include "io/stream.h"

/* Each direction holds up to LIMIT_MEM_PIPE bytes. The caller owns both. NOMEM. */
int mem_pair(struct loop *l, struct stream **a, struct stream **b);

#endif
