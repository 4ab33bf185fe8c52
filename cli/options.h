/* options.h: what the user asked for: one struct filled from the configuration file, the environment and the flags, in this order. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "cli.h"
#include <stdbool.h>
#include <stddef.h>

enum command {
  CMD_HTTP = 1,
  CMD_RELAY = 2,
  CMD_CONFIG = 4,
  CMD_STATUS = 8,
  CMD_STOP = 16,
  CMD_HELP = 32,
  CMD_TCP = 64,
  CMD_TLS = 128,
  CMD_CONNECT = 256,
  CMD_UDP = 512,
  CMD_PURGE = 1024,
  CMD_ALL = 2047
};

enum { ARGS_MAX = 8, OPTS_MAX = 128 };

struct options {
  enum command command;
  const char *command_name; /* as typed: "start" is CMD_HTTP */
  const char *args[ARGS_MAX];
  unsigned n_args;

  /* tunnel */
  unsigned port;
  const char *name, *relay, *relay_ca, *token, *host_header, *local_host, *framework, *transport, *congestion,
      *proxy, *links, *upstream, *upstream_ca, *upstream_protocol, *fallback;
  bool upstream_insecure;
  bool takeover, https, local, no_compression;
  bool private;
  unsigned remote_port;
  const char *proxy_protocol;
  const char *auth, *auth_file, *allow, *deny, *rate_limit, *rate_limit_total, *max_body, *cache, *cors,
      *request_header, *response_header;
  /* tunnel's embedded relay, and relay */
  const char *listen, *listen_plain, *plain, *tcp_ports, *udp_ports;
  unsigned udp_idle;
  unsigned workers;
  /* relay */
  const char *domain, *control_host, *tls_cert, *tls_key, *agent_token_file, *give_descriptors, *drain_to,
      *proxy_from;
  bool open, replace, interstitial;
  unsigned visitor_connections, visitor_requests, tunnel_connections, tunnel_requests, min_body_rate;
  /* all */
  const char *data, *config, *log_level;
  bool json, quiet, verbose, help, version;

  bool typed[OPTS_MAX]; /* flag i of the table stood on the command line; see options_typed() */
  struct kept *kept;    /* strings that came from files or were joined */
};

struct config_file;

/* Fill `o` from the command line, the environment and the file (which --config or the environment may name). `o` is to be freed also after a failure.
 * INVALID: the usage is wrong; NOT_FOUND, PERMISSION, SYSTEM, NOMEM from reading the file. */
int options_parse(struct options *o, const struct cli_env *env, struct beam_error *e);
void options_free(struct options *o);
/* A copy that lives as long as `o`; NULL: out of memory. */
const char *options_keep(struct options *o, const char *text, size_t n);

/* Did the user type this flag, rather than set it once and forget it? */
bool options_typed(const struct options *o, const char *name);

static inline enum beam_congestion congestion_of(const struct options *o) {
  return o->congestion && o->congestion[0] == 'c' ? BEAM_CONGESTION_CUBIC : BEAM_CONGESTION_BBR;
}

/* The environment's value; empty ones count as absent. */
const char *env_get(const struct cli_env *env, const char *name);

/* For `beam config`: may this key stand in the file, and is the value one of its? INVALID with text. */
int options_check_key(const char *key, struct beam_error *e);
int options_check(const char *key, const char *value, struct beam_error *e);

/* The help text; `topic` NULL: of the program. INVALID: no such command. The caller frees *out. */
int options_help(const char *topic, char **out, struct beam_error *e);

/* Fill an error: the command's own, in the library's manner. Returns code; hint NULL: the library's hint for it. */
int fail(struct beam_error *e, int code, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
