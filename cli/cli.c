/* cli.c: the re-entrant front door: options, output, dispatch. */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int exit_for(int err) {
  switch (err) {
  case BEAM_OK:
    return CLI_OK;
  case BEAM_ERR_INVALID:
  case BEAM_ERR_UNSUPPORTED:
    return CLI_USAGE;
  case BEAM_ERR_IN_USE:
    return CLI_LISTEN;
  case BEAM_ERR_UNTRUSTED:
  case BEAM_ERR_DENIED:
  case BEAM_ERR_TAKEN:
  case BEAM_ERR_NAME:
  case BEAM_ERR_SUPERSEDED:
    return CLI_REFUSED;
  case BEAM_ERR_PERMISSION:
  case BEAM_ERR_STORE:
    return CLI_FILES;
  default:
    return CLI_FAILED;
  }
}

int report(struct output *out, const struct beam_error *e) {
  out_error(out, e);
  return exit_for(e->code);
}

void log_setup(const struct options *o, struct output *out) {
  static const char *const names[] = {"error", "warn", "info", "debug"};
  enum beam_log_level level = BEAM_LOG_ERROR;
  for (int i = 0; o->log_level && i < 4; i++)
    if (strcmp(names[i], o->log_level) == 0)
      level = (enum beam_log_level)i;
  if (o->verbose)
    level = BEAM_LOG_DEBUG;
  beam_log_to(out_log, out, level);
}

static int show_help(const struct options *o, struct output *out) {
  struct beam_error e = BEAM_ERROR_INIT;
  const char *topic = o->command != CMD_HELP ? o->command_name : o->n_args ? o->args[0] : NULL;
  char *text = NULL;
  if (options_help(topic, &text, &e) != 0)
    return report(out, &e);
  out_text(out, text);
  free(text);
  return CLI_OK;
}

static int show_version(struct output *out) {
  if (!out->json) {
    out_line(out, "beam %s (%s)", beam_version(), beam_features());
    return CLI_OK;
  }
  struct json j;
  json_open(&j);
  json_text(&j, "version", beam_version());
  json_text(&j, "features", beam_features());
  out_json(out, &j);
  return CLI_OK;
}

static int dispatch(struct options *o, const struct cli_env *env, struct output *out) {
  if (o->version)
    return show_version(out);
  if (o->help || o->command == CMD_HELP)
    return show_help(o, out);
  switch (o->command) {
  case CMD_HTTP:
  case CMD_TCP:
  case CMD_UDP:
  case CMD_TLS:
  case CMD_CONNECT:
    return cmd_http(o, env, out);
  case CMD_RELAY:
    return cmd_relay(o, env, out);
  case CMD_CONFIG:
    return cmd_config(o, env, out);
  case CMD_STATUS:
    return cmd_status(o, env, out);
  case CMD_PURGE:
    return cmd_purge(o, env, out);
  case CMD_STOP:
    return cmd_stop(o, env, out);
  default:
    return CLI_USAGE;
  }
}

int beam_cli_main(const struct cli_env *env) {
  struct options o;
  struct output out;
  struct beam_error e = BEAM_ERROR_INIT;
  int parsed = options_parse(&o, env, &e), status;
  if (out_init(&out, env, o.json) != 0) {
    options_free(&o);
    return CLI_FAILED;
  }
  if (parsed == 0) {
    status = dispatch(&o, env, &out);
  } else {
    out_error(&out, &e);
    /* Here NOT_FOUND, PERMISSION and the like can only be about the configuration file. */
    status = parsed == BEAM_ERR_NOMEM                                       ? CLI_FAILED
             : parsed == BEAM_ERR_INVALID || parsed == BEAM_ERR_UNSUPPORTED ? CLI_USAGE
                                                                            : CLI_FILES;
  }
  beam_log_to(NULL, NULL, BEAM_LOG_ERROR);
  out_free(&out);
  options_free(&o);
  return status;
}
