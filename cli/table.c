/* table.c: the flags and commands of this version. */
#include "table.h"

#include <stddef.h>
#include <string.h>

#define AT(field) offsetof(struct options, field)
#define TUNNELS (CMD_HTTP | CMD_TCP | CMD_UDP | CMD_TLS)
#define LINKS (TUNNELS | CMD_CONNECT)
#define RUNS (TUNNELS | CMD_RELAY)

const struct opt opt_table[] = {
    /* clang-format off */
    {"port", NULL, 'p', OPT_PORT, TUNNELS, AT(port), "PORT", NULL, true, "BEAM_PORT", "local port to share"},
    {"name", "subdomain", 's', OPT_TEXT, CMD_HTTP | CMD_TLS | CMD_TCP, AT(name), "NAME", NULL, true, "BEAM_NAME", "the wanted name; else one is drawn, and the same again next time"},
    {"relay", NULL, 0, OPT_LIST, LINKS, AT(relay), "HOST[:PORT]", NULL, true, "BEAM_RELAY", "relay to go through (wss://HOST: one behind a web server), repeatable: one name at several; none: an embedded one that only this machine can reach"},
    {"relay-ca", NULL, 0, OPT_LIST, LINKS, AT(relay_ca), "FILE|sha256:HEX", NULL, true, "BEAM_RELAY_CA", "the relay's CA (of several: one for all, or one each); else the first one met is remembered"},
    {"token", NULL, 0, OPT_TEXT, LINKS, AT(token), "TOKEN", NULL, true, "BEAM_TOKEN", "what the relay's owner gave you (better in the environment: others see arguments)"},
    {"host-header", NULL, 0, OPT_TEXT, CMD_HTTP, AT(host_header), "rewrite|keep|VALUE", NULL, true, "BEAM_HOST_HEADER", "the Host that the local service sees (rewrite: its own address)"},
    {"local-host", NULL, 0, OPT_TEXT, TUNNELS | CMD_CONNECT, AT(local_host), "HOST", NULL, true, "BEAM_LOCAL_HOST", "where the local service is (localhost, both address families)"},
    {"upstream", NULL, 0, OPT_TEXT, CMD_HTTP | CMD_TCP | CMD_TLS, AT(upstream), "URL", NULL, true, "BEAM_UPSTREAM", "the local service as an address: http://HOST:PORT, https://HOST:PORT, unix:/PATH"},
    {"upstream-protocol", NULL, 0, OPT_CHOICE, CMD_HTTP, AT(upstream_protocol), "auto|http1|h2c|https", "auto,http1,h2c,https", true, "BEAM_UPSTREAM_PROTOCOL", "what the local service speaks (auto: HTTP/1.1, HTTP/2 for gRPC; over https what it chooses)"},
    {"upstream-ca", NULL, 0, OPT_TEXT, CMD_HTTP, AT(upstream_ca), "FILE", NULL, true, "BEAM_UPSTREAM_CA", "https: the local service's certificate, or the CA that signed it (else the system's CAs)"},
    {"upstream-insecure", NULL, 0, OPT_FLAG, CMD_HTTP, AT(upstream_insecure), NULL, NULL, true, "BEAM_UPSTREAM_INSECURE", "https: take any certificate of the local service"},
    {"fallback", NULL, 0, OPT_TEXT, CMD_HTTP, AT(fallback), "FILE", NULL, true, "BEAM_FALLBACK", "a folder: the file in it that answers where there is none (index.html for apps with routes of their own)"},
    {"framework", NULL, 0, OPT_TEXT, CMD_HTTP, AT(framework), "NAME", NULL, true, "BEAM_FRAMEWORK", "a note in the tunnel's record, such as next"},
    {"private", NULL, 0, OPT_FLAG, CMD_TCP, AT(private), NULL, NULL, false, "BEAM_PRIVATE", "no public port: a name that only beam connect with the same device key reaches"},
    {"remote-port", NULL, 0, OPT_PORT, CMD_TCP | CMD_UDP, AT(remote_port), "PORT", NULL, true, "BEAM_REMOTE_PORT", "the relay's port you want; else any, and the same again next time"},
    {"proxy-protocol", NULL, 0, OPT_CHOICE, CMD_HTTP | CMD_TCP | CMD_TLS, AT(proxy_protocol), "1|2", "1,2", true, "BEAM_PROXY_PROTOCOL", "tell the local service who the visitor is, by a PROXY protocol header"},
    {"transport", NULL, 0, OPT_CHOICE, LINKS, AT(transport), "auto|quic|h2|ws", "auto,quic,h2,ws", true, "BEAM_TRANSPORT", "how to reach the relay (auto: the best that gets through)"},
    {"congestion", NULL, 0, OPT_CHOICE, LINKS | CMD_RELAY, AT(congestion), "bbr|cubic", "bbr,cubic", true, "BEAM_CONGESTION", "how what is sent over QUIC is paced (bbr)"},
    {"proxy", NULL, 0, OPT_TEXT, LINKS, AT(proxy), "URL|none", NULL, true, "BEAM_PROXY", "http://[USER:PASSWORD@]HOST:PORT or socks5://... to reach the relay through (else HTTPS_PROXY, ALL_PROXY, NO_PROXY)"},
    {"links", NULL, 0, OPT_CHOICE, TUNNELS, AT(links), "N", "1,2,3,4,5,6,7,8", true, "BEAM_LINKS", "connections to each relay at most; one while idle, more under load (2; 1 over QUIC)"},
    {"auth", "basic-auth", 0, OPT_LINES, CMD_HTTP, AT(auth), "USER:PASSWORD", NULL, true, "BEAM_AUTH", "let in only who has this password, repeatable (better in the environment or --auth-file: others see arguments)"},
    {"auth-file", NULL, 0, OPT_TEXT, CMD_HTTP, AT(auth_file), "FILE", NULL, true, "BEAM_AUTH_FILE", "the same: USER:PASSWORD, one a line"},
    {"allow", "cidr-allow", 0, OPT_LIST, TUNNELS, AT(allow), "ADDRESS[/BITS]", NULL, true, "BEAM_ALLOW", "let in only visitors from there, repeatable"},
    {"deny", "cidr-deny", 0, OPT_LIST, TUNNELS, AT(deny), "ADDRESS[/BITS]", NULL, true, "BEAM_DENY", "let in nobody from there, repeatable; beats --allow"},
    {"rate-limit", NULL, 0, OPT_TEXT, CMD_HTTP, AT(rate_limit), "N/s|N/m|N/h", NULL, true, "BEAM_RATE_LIMIT", "requests of one visitor's address: 100/m"},
    {"rate-limit-total", NULL, 0, OPT_TEXT, CMD_HTTP, AT(rate_limit_total), "N/s|N/m|N/h", NULL, true, "BEAM_RATE_LIMIT_TOTAL", "requests of all visitors together: 1000/m"},
    {"max-body", NULL, 0, OPT_TEXT, CMD_HTTP, AT(max_body), "SIZE", NULL, true, "BEAM_MAX_BODY", "largest request body: 10MiB"},
    {"request-header", "request-header-add", 0, OPT_LINES, CMD_HTTP, AT(request_header), "NAME: VALUE", NULL, true, "BEAM_REQUEST_HEADER", "set a field of requests to the local service, repeatable; \"NAME:\" takes it out"},
    {"response-header", "response-header-add", 0, OPT_LINES, CMD_HTTP, AT(response_header), "NAME: VALUE", NULL, true, "BEAM_RESPONSE_HEADER", "the same of its responses"},
    {"cors", NULL, 0, OPT_LIST, CMD_HTTP, AT(cors), "ORIGIN|*", NULL, true, "BEAM_CORS", "let pages of this origin read the tunnel, repeatable; preflights are answered"},
    {"cache", NULL, 0, OPT_TEXT, CMD_HTTP, AT(cache), "SIZE", NULL, true, "BEAM_CACHE", "memory for public responses, such as 64MiB (none)"},
    {"no-compression", NULL, 0, OPT_FLAG, CMD_HTTP, AT(no_compression), NULL, NULL, true, "BEAM_NO_COMPRESSION", "pass responses as the local service sends them (else text goes in Brotli or gzip)"},
    {"takeover", NULL, 0, OPT_FLAG, TUNNELS, AT(takeover), NULL, NULL, false, NULL, "end another running session of yours that holds the name"},
    {"https", NULL, 0, OPT_FLAG, TUNNELS, AT(https), NULL, NULL, false, "BEAM_HTTPS", "embedded relay: plain http redirects to https (--plain redirect)"},
    {"local", NULL, 0, OPT_FLAG, TUNNELS, AT(local), NULL, NULL, false, NULL, "use the embedded relay although another one is configured"},
    {"domain", NULL, 0, OPT_TEXT, CMD_RELAY, AT(domain), "DOMAIN", NULL, true, "BEAM_DOMAIN", "tunnels are NAME.DOMAIN"},
    {"listen", NULL, 0, OPT_LIST, RUNS, AT(listen), "ADDR:PORT", NULL, true, "BEAM_LISTEN", "TLS address, repeatable; port 0: any free one (127.0.0.1:8443)"},
    {"listen-plain", NULL, 0, OPT_LIST, RUNS, AT(listen_plain), "ADDR:PORT", NULL, true, "BEAM_LISTEN_PLAIN", "plain http address, repeatable (relay: none)"},
    {"plain", NULL, 0, OPT_CHOICE, RUNS, AT(plain), "serve|redirect", "serve,redirect", true, "BEAM_PLAIN", "what plain http does (embedded: serve, relay: redirect)"},
    {"tcp-ports", NULL, 0, OPT_TEXT, CMD_RELAY | CMD_TCP, AT(tcp_ports), "FIRST-LAST", NULL, true, "BEAM_TCP_PORTS", "public ports for beam tcp (relay: none; embedded: 20000-20999)"},
    {"udp-ports", NULL, 0, OPT_TEXT, CMD_RELAY | CMD_UDP, AT(udp_ports), "FIRST-LAST|none", NULL, true, "BEAM_UDP_PORTS", "public ports for beam udp (as --tcp-ports; embedded: 20000-20999)"},
    {"udp-idle", NULL, 0, OPT_SECONDS, CMD_RELAY | CMD_UDP, AT(udp_idle), "SECONDS", NULL, true, "BEAM_UDP_IDLE", "a UDP visitor who is silent for so long is forgotten (120; embedded relay and relay)"},
    {"control-host", NULL, 0, OPT_TEXT, CMD_RELAY, AT(control_host), "HOST", NULL, true, "BEAM_CONTROL_HOST", "host of the relay's own pages, outside DOMAIN"},
    {"tls-cert", NULL, 0, OPT_TEXT, CMD_RELAY, AT(tls_cert), "FILE", NULL, true, "BEAM_TLS_CERT", "certificate chain of your own, covering *.DOMAIN"},
    {"tls-key", NULL, 0, OPT_TEXT, CMD_RELAY, AT(tls_key), "FILE", NULL, true, "BEAM_TLS_KEY", "its private key"},
    {"agent-token-file", NULL, 0, OPT_TEXT, CMD_RELAY, AT(agent_token_file), "FILE", NULL, true, "BEAM_AGENT_TOKEN_FILE", "agents must show one of these tokens (one a line)"},
    {"open", NULL, 0, OPT_FLAG, CMD_RELAY, AT(open), NULL, NULL, true, "BEAM_OPEN", "anyone may open tunnels, also beyond this machine"},
    {"replace", NULL, 0, OPT_FLAG, CMD_RELAY, AT(replace), NULL, NULL, false, NULL, "take over from the relay that runs on this data directory, losing no request"},
    {"proxy-from", NULL, 0, OPT_LIST, CMD_RELAY, AT(proxy_from), "ADDRESS[/BITS]", NULL, true, "BEAM_PROXY_FROM", "load balancers in front: they begin each TCP connection with a PROXY protocol header, repeatable"},
    {"drain-to", NULL, 0, OPT_TEXT, CMD_RELAY, AT(drain_to), "HOST[:PORT]", NULL, true, "BEAM_DRAIN_TO", "SIGTERM: where agents go, to another relay with the same CA"},
    {"workers", NULL, 0, OPT_NUMBER, RUNS, AT(workers), "N", NULL, true, "BEAM_WORKERS", "threads of the relay (one per processor; embedded: at most 2)"},
    {"interstitial", NULL, 0, OPT_FLAG, CMD_RELAY, AT(interstitial), NULL, NULL, true, "BEAM_INTERSTITIAL", "browsers see a warning before a tunnel, once in seven days (a relay without --agent-token-file)"},
    {"visitor-connections", NULL, 0, OPT_COUNT, CMD_RELAY, AT(visitor_connections), "N", NULL, true, "BEAM_VISITOR_CONNECTIONS", "connections at once of one visitor address, IPv6 by /64 (512)"},
    {"visitor-requests", NULL, 0, OPT_COUNT, CMD_RELAY, AT(visitor_requests), "N", NULL, true, "BEAM_VISITOR_REQUESTS", "requests at once of one visitor address (2048)"},
    {"tunnel-connections", NULL, 0, OPT_COUNT, CMD_RELAY, AT(tunnel_connections), "N", NULL, true, "BEAM_TUNNEL_CONNECTIONS", "connections at once to one TCP or TLS tunnel (4096)"},
    {"tunnel-requests", NULL, 0, OPT_COUNT, CMD_RELAY, AT(tunnel_requests), "N", NULL, true, "BEAM_TUNNEL_REQUESTS", "requests at once to one tunnel (4096)"},
    {"min-body-rate", NULL, 0, OPT_COUNT, CMD_RELAY, AT(min_body_rate), "BYTES", NULL, true, "BEAM_MIN_BODY_RATE", "bytes a second that a request's body brings until its answer begins (240)"},
    {"give-descriptors", NULL, 0, OPT_CHOICE, CMD_RELAY, AT(give_descriptors), "on|off", "on,off", true, "BEAM_GIVE_DESCRIPTORS", "hand fresh visitors to the worker that has their tunnel (on)"},
    {"data", NULL, 0, OPT_TEXT, RUNS | CMD_CONNECT, AT(data), "DIR", NULL, true, "BEAM_DATA_DIR", "keys and names are kept here (~/.local/share/beam)"},
    {"config", NULL, 0, OPT_TEXT, CMD_ALL, AT(config), "FILE", NULL, false, "BEAM_CONFIG", "configuration file (~/.config/beam/beam.yml)"},
    {"json", NULL, 0, OPT_FLAG, CMD_ALL, AT(json), NULL, NULL, false, "BEAM_JSON", "one JSON object a line, for programs"},
    {"quiet", NULL, 'q', OPT_FLAG, RUNS | CMD_CONNECT, AT(quiet), NULL, NULL, true, "BEAM_QUIET", "no line per request"},
    {"verbose", NULL, 'v', OPT_FLAG, RUNS | CMD_CONNECT, AT(verbose), NULL, NULL, false, "BEAM_VERBOSE", "everything in the log (--log-level debug)"},
    {"log-level", NULL, 0, OPT_CHOICE, RUNS | CMD_CONNECT, AT(log_level), "LEVEL", "error,warn,info,debug", true, "BEAM_LOG_LEVEL", "error, warn, info or debug, on standard error (error)"},
    {"help", NULL, 'h', OPT_FLAG, CMD_ALL, AT(help), NULL, NULL, false, NULL, "this help"},
    {"version", NULL, 'V', OPT_FLAG, CMD_ALL, AT(version), NULL, NULL, false, NULL, "version and features"},
    /* clang-format on */
};
const size_t opt_count = sizeof opt_table / sizeof *opt_table;
_Static_assert(sizeof opt_table / sizeof *opt_table <= OPTS_MAX, "options.typed has a place for each");

const struct cmd cmd_table[] = {
    {"http", CMD_HTTP, "beam [http] PORT|HOST:PORT|URL|FOLDER",
     "put a local web service, or a folder, on an HTTPS name", false},
    {"start", CMD_HTTP, "beam start --port PORT", "the same", true},
    {"tcp", CMD_TCP, "beam tcp PORT|HOST:PORT", "put a local TCP service on a public port of the relay",
     false},
    {"udp", CMD_UDP, "beam udp PORT|HOST:PORT", "put a local UDP service on a public port of the relay",
     false},
    {"tls", CMD_TLS, "beam tls PORT|HOST:PORT",
     "put a local TLS service on a name; only it can read what comes", false},
    {"connect", CMD_CONNECT, "beam connect NAME PORT", "open a private tunnel of this device as a local port",
     false},
    {"relay", CMD_RELAY, "beam relay --domain DOMAIN", "run a relay that owns the names under DOMAIN", false},
    {"config", CMD_CONFIG, "beam config [list|path|get KEY|set KEY VALUE|unset KEY]",
     "show or change the configuration file", false},
    {"status", CMD_STATUS, "beam status", "show what runs on this machine", false},
    {"stop", CMD_STOP, "beam stop [NAME...]", "end all tunnels, or those named; a relay by its domain",
     false},
    {"purge", CMD_PURGE, "beam purge [NAME...] [/PATH]",
     "empty the caches of all tunnels, or of those named (--cache); /PATH: only that and what is under it",
     false},
    {"help", CMD_HELP, "beam help [COMMAND]", "what a command takes", false},
};
const size_t cmd_count = sizeof cmd_table / sizeof *cmd_table;

const struct opt *opt_find(const char *name, size_t n) {
  for (size_t i = 0; i < opt_count; i++) {
    const struct opt *o = &opt_table[i];
    if (strlen(o->name) == n && strncmp(o->name, name, n) == 0)
      return o;
    if (o->also && strlen(o->also) == n && strncmp(o->also, name, n) == 0)
      return o;
  }
  return NULL;
}

const struct cmd *cmd_find(const char *name) {
  for (size_t i = 0; i < cmd_count; i++)
    if (strcmp(cmd_table[i].name, name) == 0)
      return &cmd_table[i];
  return NULL;
}

const char *cmd_later(const char *name) {
  static const char *const later[][2] = {
      {"logs", "a log kept for later reading"},
      {"login", "accounts"},
      {"domains", "custom domains"},
      {"reserve", "reserved domains"},
      {"certs", "certificates by command"},
      {"doctor", "self-diagnosis"},
      {"completion", "shell completion"},
      {"cleanup", "removing kept names"},
  };
  for (size_t i = 0; i < sizeof later / sizeof *later; i++)
    if (strcmp(later[i][0], name) == 0)
      return later[i][1];
  return NULL;
}
