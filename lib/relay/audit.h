/* audit.h: rows of the audit chain, at a rate that strangers cannot raise. */
#ifndef RELAY_AUDIT_H
#define RELAY_AUDIT_H

#include "relay/relay.h"

/* Append a row. Over LIMIT_AUDIT_RATE a worker it is counted instead, and one row says how many were left out. */
void audit(struct worker *w, const char *actor, const char *action, const char *subject, const char *detail);

#endif
