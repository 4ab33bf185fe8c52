/* rules.h: the flags that say who may visit, as the library wants them. */
#ifndef CLI_RULES_H
#define CLI_RULES_H

#include "options.h"
#include <beam/policy.h>

/* Strings live as long as `o`. INVALID, NOT_FOUND, PERMISSION, SYSTEM: --auth-file. */
int rules_of(struct options *o, struct beam_http_policy *out, struct beam_error *e);

#endif
