/* tunnel.h: put a local service on a public name.
 *
 *   struct beam_tunnel_config c = BEAM_TUNNEL_CONFIG_INIT;
 *   c.relay = "relay.example.com:443";
 *   c.local_port = 3000;
 *   c.on_state = my_state;
 *   beam_tunnel_open(loop, &c, &tunnel, NULL);
 *   beam_loop_run(loop);
 *
 * A tunnel lives on its loop's thread; its callbacks come from that loop, never from inside a call of yours.
 */
#ifndef BEAM_TUNNEL_H
#define BEAM_TUNNEL_H

#include <beam/beam.h>
#include <beam/policy.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct beam_tunnel beam_tunnel;

enum beam_tunnel_state {
  BEAM_TUNNEL_CONNECTING = 0, /* on the way to the relay for the first time */
  BEAM_TUNNEL_ACTIVE =
      1, /* the name answers (at one relay at least); told again when a link, its transport or the reason for it changes */
  BEAM_TUNNEL_RECONNECTING = 2, /* the link is lost; trying again by itself, the name is kept */
  BEAM_TUNNEL_CLOSED = 3,       /* over: `error` says why; the last callback */
};

enum beam_tunnel_kind {
  BEAM_TUNNEL_HTTP =
      0, /* visitors speak HTTP to the relay; the local service HTTP/1.1 or HTTP/2, or there is a folder instead */
  BEAM_TUNNEL_TCP = 1, /* a public port of the relay, bytes as they are */
  BEAM_TUNNEL_TLS =
      2, /* by server name on the relay's TLS port, never decrypted there: the local service has the certificate */
  BEAM_TUNNEL_UDP =
      3, /* a public UDP port of the relay, datagrams as they are; each visitor's come from a port of its own */
  BEAM_TUNNEL_PRIVATE =
      4, /* bytes as they are, from BEAM_TUNNEL_ENTRY of the same device key and nowhere else */
  BEAM_TUNNEL_ENTRY =
      5, /* the near end of the private tunnel `name`: listens on local_port (loopback, or the address local_host), and what connects there comes out at its agent */
};

/* What the tunnel is now. Strings are borrowed until the next callback or beam_tunnel_close(); NULL while unknown. */
struct beam_tunnel_info {
  size_t size;
  enum beam_tunnel_state state;
  const char *name;             /* full public name: "swift-beam-123.example.com" */
  const char *url;              /* "https://swift-beam-123.example.com" with the port when it is not 443 */
  const char *plain_url;        /* "http://…" when the name answers on plain http; else NULL */
  const char *dashboard;        /* the owner's page */
  const char *relay;            /* as dialled, "host:port" */
  const char *relay_id;         /* fingerprint of the relay's CA, "sha256:…" */
  const char *transport;        /* "quic", "h2", "ws" (HTTP/2 through WebSocket) */
  uint64_t since_ms;            /* milliseconds in this state */
  uint64_t requests;            /* answered so far */
  uint64_t bytes_in, bytes_out; /* bodies towards the local service, and back */
  unsigned reconnects;
  enum beam_tunnel_kind kind;
  uint16_t public_port; /* TCP, UDP */
  const char *
      transport_reason; /* why not a better one ("h2: no answer in 1000 ms"); NULL: it is the best, or none is up yet */
  uint64_t transport_since_ms; /* milliseconds over this transport */
};

/* The cache of a tunnel (policy->cache), counted since it was opened. */
struct beam_cache_info {
  size_t size;
  uint64_t hits, stale; /* answered from it; stale: those of them that were, while the service was asked */
  uint64_t misses, bypassed; /* the service answered; bypassed: requests that no cache may answer */
  uint64_t revalidated;      /* the service said that what is kept is still good */
  uint64_t evicted;          /* responses that made room for others */
  uint64_t bytes, responses; /* now */
};

/* One link of a tunnel, or a relay at which it has none just now. Strings are borrowed as those of beam_tunnel_info. */
struct beam_link_info {
  size_t size;
  const char *relay;            /* "host:port" */
  const char *relay_id;         /* fingerprint of its CA; NULL: never reached */
  const char *url;              /* the tunnel's address at this relay; NULL: none yet */
  enum beam_tunnel_state state; /* of the tunnel at this relay. CLOSED: for good */
  const char *transport;        /* NULL: no link just now */
  const char *transport_reason; /* why not a better one; NULL: it is the best */
  uint64_t since_ms;            /* milliseconds this link is up; without one, in this state */
  unsigned streams;             /* requests and connections on it now */
  int draining;                 /* 1: it is let go once they have ended */
  const char *why;              /* what is wrong at this relay; NULL: nothing */
};

/* One finished request. Strings are borrowed for the call; `path` has no query string. */
struct beam_request {
  size_t size;
  const char *method, *path, *host;
  unsigned status;    /* 0: none was sent */
  double ms, ttfb_ms; /* whole, and until the first byte of the response */
  uint64_t bytes_in, bytes_out;
  const char *error; /* "BEAM-5021" when Beam answered by itself or aborted; else NULL */
};

struct beam_tunnel_config {
  size_t size; /* set by BEAM_TUNNEL_CONFIG_INIT */
  const char *
      relay; /* "host[:port]", port 443 when absent; "wss://host" or "ws://host": WebSocket only, for a relay behind a web server. Several with commas between: the tunnel is at each of them under one name, as long as one is up it is active. Required */
  const char *
      relay_ca; /* a PEM file, or "sha256:HEX" of the relay's CA; NULL: trust on first use, remembered in data_dir. With several relays: one for all, or one each with commas between */
  const char *token;      /* what the relay's owner gave; NULL: none */
  const char *name;       /* the wanted label ("shop"); NULL: the relay draws one, the same again next time */
  const char *local_host; /* NULL: "localhost", both address families */
  uint16_t local_port;    /* required, unless `upstream` or `folder` is given */
  const char *
      data_dir; /* device key and known relays; NULL: $BEAM_DATA_DIR, else $XDG_DATA_HOME/beam, else ~/.local/share/beam */
  const char *host_header; /* "rewrite" (NULL; the local host and port), "keep", or a value of your own */
  int takeover;            /* 1: end another live session that holds the name, if it is ours */
  const char *framework;   /* a note for the record, such as "next"; may be NULL */
  /* Callbacks; each may be NULL. */
  void (*on_state)(
      void *user, beam_tunnel *t, const struct beam_tunnel_info *info,
      const struct beam_error *error); /* error: why it is (RE)CONNECTING or CLOSED; NULL otherwise */
  void (*on_request)(void *user, beam_tunnel *t, const struct beam_request *r);
  void *user;
  enum beam_tunnel_kind kind;
  uint16_t remote_port; /* TCP, UDP: the wanted public port; 0: any, the same again next time */
  int proxy_protocol; /* HTTP, TCP, TLS: 1 or 2: the local service gets the visitor's address in a PROXY protocol header of that version; 0: none. Each HTTP request then has a connection of its own, in plain HTTP/1.1 */
  const char *transport; /* "auto" (NULL): the best that gets through; "quic", "h2" or "ws": that one alone */
  const char *
      proxy; /* "http://[USER:PASSWORD@]HOST[:PORT]" or "socks5://...": the relay is reached through it. "" or "none": directly. NULL: as HTTPS_PROXY, ALL_PROXY and NO_PROXY of the environment say */
  enum beam_congestion congestion; /* over QUIC, of what this side sends */
  unsigned
      links; /* connections to each relay at most, 1 to 8: one while idle, more under load, each a minute longer than it is needed. 0: two over HTTP/2 and WebSocket, one over QUIC, whose streams do not wait for each other */
  const char *
      upstream; /* the local service as an address, instead of local_host and local_port: "http://HOST[:PORT]", "https://HOST[:PORT]" (BEAM_TUNNEL_HTTP), "unix:/PATH" (HTTP, TCP, TLS, PRIVATE). NULL: local_host and local_port, plain */
  const char *
      upstream_ca; /* https: a PEM file with the CA that signed the service's certificate, or that certificate itself; NULL: the system's CAs ($SSL_CERT_FILE) */
  int upstream_insecure; /* https: 1: whoever answers is the local service, its certificate is not looked at */
  const struct beam_http_policy *policy; /* who may visit, and more; NULL: everybody. Copied */
  const char *
      upstream_protocol; /* HTTP: what the local service speaks. "auto" (NULL): over https what it chooses, HTTP/2 or HTTP/1.1; else HTTP/1.1, but HTTP/2 for requests of gRPC. "http1"; "h2c": HTTP/2 without TLS; "https": TLS on local_host and local_port, as with an https address */
  const char *
      folder; /* HTTP: a directory whose files are shared, instead of a local service: GET and HEAD, index.html, parts, validators; nothing hidden (but .well-known), nothing outside of it. NULL: none */
  const char *
      fallback; /* folder: a file in it, "index.html", that answers where there is none and the path has no ending, as apps with routes of their own want it. NULL: 404.html, or a page */
};
#define BEAM_TUNNEL_CONFIG_INIT                                                                              \
  { .size = sizeof(struct beam_tunnel_config) }

/* Open a tunnel; the connection is made in the background, on_state tells. Copies the config.
 * Errors at once (err, may be NULL, says which value): INVALID; NAME; NOT_FOUND (upstream_ca, folder); UNSUPPORTED (proxy_protocol with UDP, https or h2c; rules for HTTP with another kind); LIMIT (too many rules); PERMISSION or STORE (data_dir, device key); NOMEM.
 * Errors later, as CLOSED: UNTRUSTED, DENIED, TAKEN, NAME, SUPERSEDED, PROTOCOL (versions). Everything else is tried again, for ever. */
BEAM_API int beam_tunnel_open(beam_loop *loop, const struct beam_tunnel_config *config, beam_tunnel **out,
                              struct beam_error *err);
/* Fill `info` (size set by the caller). */
BEAM_API void beam_tunnel_info(beam_tunnel *t, struct beam_tunnel_info *info);
/* Fill `info` (size set by the caller) for link `index`, from 0 on: the relays in their order, the links of each newest first. NOT_FOUND: there are not so many. */
BEAM_API int beam_tunnel_link_info(beam_tunnel *t, unsigned index, struct beam_link_info *info);
/* Fill `info` (size set by the caller). NOT_FOUND: the tunnel has no cache. */
BEAM_API int beam_tunnel_cache_info(beam_tunnel *t, struct beam_cache_info *info);
/* Forget what the cache keeps of this path and what is under it ("/a": "/a", "/a?b", "/a/b"; NULL: everything). NOT_FOUND: the tunnel has no cache. */
BEAM_API int beam_tunnel_purge(beam_tunnel *t, const char *path);
/* Unbind and free; requests in flight are aborted. No callback comes any more. NULL is accepted. */
BEAM_API void beam_tunnel_close(beam_tunnel *t);

#ifdef __cplusplus
}
#endif
#endif
