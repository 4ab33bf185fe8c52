/* embedded.h: the relay inside `beam 3000` when none is configured: this machine only, names under .localhost. */
#ifndef CLI_EMBEDDED_H
#define CLI_EMBEDDED_H

#include "options.h"
#include <beam/relay.h>

/* Start it. `address` receives where the tunnel dials it. Errors: those of beam_relay_start(), with text. */
int embedded_start(const struct options *o, const struct cli_env *env, beam_relay **out, char address[128],
                   struct beam_error *e);

#endif
