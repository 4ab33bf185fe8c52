/* forget.h: worker 0 asks the store to forget what is too old: at the start, then every LIMIT_FORGET_MS. */
#ifndef RELAY_FORGET_H
#define RELAY_FORGET_H

#include "relay/relay.h"

/* Now, batch after batch until there is no more. */
void forget_start(struct worker *w);
/* Every minute: is it time? */
void forget_sweep(struct worker *w);

#endif
