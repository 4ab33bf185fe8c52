/* paths.h: where Beam keeps things on this machine, after the XDG rules. */
#ifndef CLI_PATHS_H
#define CLI_PATHS_H

#include "options.h"

enum { PATH_SIZE = 4096 };

/* --config, else $XDG_CONFIG_HOME/beam/beam.yml, else ~/.config/beam/beam.yml. NOT_FOUND: no home at all. */
int path_config(const struct options *o, const struct cli_env *env, char out[PATH_SIZE],
                struct beam_error *e);
/* --data ($BEAM_DATA_DIR), else $XDG_DATA_HOME/beam, else ~/.local/share/beam; `below` NULL or a folder in it. INVALID: no home and nothing set. */
int path_data(const struct options *o, const struct cli_env *env, const char *below, char out[PATH_SIZE],
              struct beam_error *e);
/* The directory of the control sockets, made when absent: $XDG_RUNTIME_DIR/beam, else /tmp/beam-UID; ours alone (0700), or PERMISSION. */
int path_runtime(const struct cli_env *env, char out[PATH_SIZE], struct beam_error *e);
/* Make a directory and its parents, private. */
int path_make(const char *dir, struct beam_error *e);

#endif
