/* commands.h: one function per command, and what they share. Each returns an enum cli_exit. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "options.h"
#include "output.h"

int cmd_http(struct options *o, const struct cli_env *env, struct output *out);
int cmd_relay(struct options *o, const struct cli_env *env, struct output *out);
int cmd_config(struct options *o, const struct cli_env *env, struct output *out);
int cmd_status(struct options *o, const struct cli_env *env, struct output *out);
int cmd_purge(struct options *o, const struct cli_env *env, struct output *out);
int cmd_stop(struct options *o, const struct cli_env *env, struct output *out);

/* The exit status for an error of a running tunnel or relay. */
int exit_for(int beam_err);
/* Say it and return its exit status. */
int report(struct output *out, const struct beam_error *e);
/* --verbose, --quiet and --log-level, as the library wants it. */
void log_setup(const struct options *o, struct output *out);

#endif
