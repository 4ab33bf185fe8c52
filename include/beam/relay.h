/* relay.h: own the public names: run a relay inside your program.
 *
 *   struct beam_relay_config c = BEAM_RELAY_CONFIG_INIT;
 *   c.domain = "tunnel.test";
 *   c.listen = "127.0.0.1:8443";
 *   c.data_dir = "relay-data";
 *   beam_relay_start(&c, &relay, &err);
 *
 * A relay runs its own threads (`workers` of them); these functions may be called from any one thread. Callbacks come from the relay's threads.
 */
#ifndef BEAM_RELAY_H
#define BEAM_RELAY_H

#include <beam/beam.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct beam_relay beam_relay;

enum beam_plain { BEAM_PLAIN_REDIRECT = 0, BEAM_PLAIN_SERVE = 1 };

struct beam_relay_event {
  size_t size;
  /* "session_up", "session_down", "tunnel_up", "tunnel_down", "refused", "draining", "drained", "took_over", "alone" (the relay before it has ended) */
  const char *kind;
  const char *name, *agent, *reason; /* NULL where it does not apply */
};

struct beam_relay_config {
  size_t size;
  const char *
      domain; /* base domain: tunnels are LABEL.domain. Required. Private bases ("localhost", "beam", "tunnel.test") get exact-name certificates of the relay's own CA */
  const char *control_host; /* host of the relay's own pages; NULL: none */
  const char *listen;       /* TLS: "ADDR:PORT[,ADDR:PORT…]"; NULL: "127.0.0.1:8443". Port 0 picks one */
  const char *listen_plain; /* plain http, likewise; NULL: none */
  enum beam_plain plain;    /* what plain http does */
  const char *
      data_dir; /* keys, names, audit. NULL: "relay" (for the domain "localhost": "embedded") below the default of beam_tunnel_config.data_dir */
  unsigned workers;     /* 0: one per processor */
  const char *tls_cert; /* PEM chain and key of one's own, covering *.domain; both or none */
  const char *tls_key;
  const char *agent_token_file; /* one token a line; agents must show one */
  int open;                     /* 1: agents need no token, also beyond loopback */
  int port_fallback; /* 1: when a port is taken, the next free one is used (the embedded relay of the CLI) */
  int give_descriptors; /* hand fresh visitors to the worker that has the link. 1: on, 0: off; the default of BEAM_RELAY_CONFIG_INIT is on */
  void (*on_event)(void *user, const struct beam_relay_event *e);
  void *user;
  const char *tcp_ports; /* "20000-20999": public ports that TCP tunnels get; NULL: no TCP tunnels */
  int handover; /* 0: none. 1: another process with the same data_dir may take the listening sockets over without losing a request, and this one drains.
                   2: the same, and first take them over from the relay that runs on data_dir, if one does */
  const char *udp_ports; /* the same for UDP tunnels; NULL: as tcp_ports; "none": no UDP tunnels */
  uint32_t
      udp_idle_ms; /* a UDP visitor who is silent for so long is forgotten; 0: 120000, and 30000 for one who only ever asked (never longer than this) */
  enum beam_congestion congestion; /* over QUIC, of what this side sends */
  const char *
      drain_to; /* "HOST[:PORT]" of another relay: where beam_relay_drain() sends the agents. They follow when it proves the same CA (the ca files of data_dir, copied); NULL: they come back here */
  /* What strangers may have at once; 0: the default in parentheses. An address is an IPv4 address or the /64 of an IPv6 one; loopback is not counted. */
  unsigned visitor_connections; /* connections of one address (512); more are closed */
  unsigned visitor_requests;    /* requests of one address (2048); more get 429 BEAM-4292 */
  unsigned tunnel_connections;  /* connections to one TCP or TLS tunnel (4096); more are closed */
  unsigned tunnel_requests;     /* requests to one tunnel (4096); more get 503 BEAM-5033 */
  unsigned
      min_body_rate; /* bytes a second a request's body must bring until its answer begins (240); gRPC and upgrades are exempt */
  int interstitial; /* 1: browsers that come to a tunnel by themselves first see a warning, once in seven days; only on a relay without agent_token_file, to which
                                   whoever opens a tunnel is unknown. 0: none */
  const char *
      proxy_from; /* load balancers in front: "10.0.0.0/8,2001:db8::5". What they connect to any TCP port with must begin with a PROXY protocol header (version 1 or 2), and its address is the visitor's everywhere: X-Forwarded-For, logs, limits, the agents' rules. From elsewhere no such header is taken. Not for QUIC. NULL: none */
};
#define BEAM_RELAY_CONFIG_INIT                                                                               \
  { .size = sizeof(struct beam_relay_config), .give_descriptors = 1 }

/* Fill the configuration of the relay that `beam 3000` runs when it knows of no other: for this machine alone, names under "localhost", on 127.0.0.1 and
 * (where there is IPv6) ::1, ports 8443 and 8080 (plain http, which it serves) or the next free ones, public ports for TCP and UDP tunnels from 20000 on.
 * Its strings are static; change what you like before beam_relay_start(). Sets size too. */
BEAM_API void beam_relay_config_local(struct beam_relay_config *config);

/* Where it listens and how to trust it. Strings live as long as the relay. */
struct beam_relay_info {
  size_t size;
  const char *domain;
  const char *https; /* "127.0.0.1:8443": the first TLS listener with its real port */
  const char *http;  /* likewise plain, NULL when there is none */
  uint16_t https_port, http_port;
  const char *ca_file;        /* PEM of the relay's own CA */
  const char *ca_fingerprint; /* "sha256:…" */
  unsigned workers;
  uint64_t sessions, tunnels, visitors; /* now */
  uint64_t requests;                    /* since start */
};

/* Start listening; returns once every listener is up. Errors (err, may be NULL, says which value or file): INVALID, IN_USE, PERMISSION, STORE, TLS (certificate or key), DENIED (beyond loopback without
 * agent_token_file or open), NOMEM, SYSTEM. */
BEAM_API int beam_relay_start(const struct beam_relay_config *config, beam_relay **out,
                              struct beam_error *err);
BEAM_API void beam_relay_info(beam_relay *r, struct beam_relay_info *info);
/* The relay's counters as text in the Prometheus exposition format. Returns the length needed; writes at most cap bytes, always terminated. */
BEAM_API size_t beam_relay_metrics(beam_relay *r, char *out, size_t cap);
/* Go away without losing a request: agents are told to get their next link, visitors are served on and told that their connection ends, live
 * streams have `ms` milliseconds to end. New agents and tunnels are refused for now (DRAINING; they try again). Returns at once; on_event says
 * "drained" when nothing is left or time is up: then beam_relay_stop(). A second call changes nothing. NOMEM, CLOSED. */
BEAM_API int beam_relay_drain(beam_relay *r, uint32_t ms);
/* Read tls_cert, tls_key and agent_token_file again: new connections get what they say now, none is lost; agents that are connected stay. When one
 * of them is wrong all stay as they were (err, may be NULL, says which and why): INVALID, NOT_FOUND, PERMISSION, NOMEM. */
BEAM_API int beam_relay_reload(beam_relay *r, struct beam_error *err);
/* The same with another configuration (copied): tls_cert, tls_key, agent_token_file, open, plain, tcp_ports, udp_ports, udp_idle_ms, congestion,
 * drain_to, proxy_from, give_descriptors, the limits and interstitial are in force for what begins from now on; tunnels keep the port they have. The callback and `user` stay. All of it, or
 * nothing and an error: the above; DENIED (it would be open to the world); UNSUPPORTED: domain, control_host, listen, listen_plain, data_dir or workers
 * differ, which needs another relay beside this one (`handover` 2 loses no request). */
BEAM_API int beam_relay_reconfigure(beam_relay *r, const struct beam_relay_config *config,
                                    struct beam_error *err);
/* Stop and free: no new connections, links and visitors closed, threads joined. Blocks for less than a second. Not from a callback. NULL is accepted. */
BEAM_API void beam_relay_stop(beam_relay *r);

#ifdef __cplusplus
}
#endif
#endif
