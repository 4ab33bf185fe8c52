/* net.h: the network as the rest of Beam sees it: dial and listen give streams. One is the real one (sockets), one is in memory on a virtual clock. */
#ifndef IO_NET_H
#define IO_NET_H

#include <sys/socket.h>

#include "io/stream.h"

struct net;
struct dial;
struct listener;
struct net_watch;

/* The outcome of a dial, from the task queue: a stream to own (err 0), or why not. */
typedef void (*dial_cb)(void *user, struct stream *s, int err);
/* A fresh connection: the callee owns s. `peer` is for logs and limits. */
typedef void (*accept_cb)(void *user, struct stream *s, const struct sockaddr_storage *peer);
/* Bits of enum net_change, from the task queue. */
typedef void (*net_changed_cb)(void *user, int what);
enum net_change {
  NET_CHANGED = 1, /* interfaces, addresses or routes: perhaps none that anybody uses */
  NET_SLEPT = 2,   /* the machine slept, or we were stopped, for longer than a peer likes */
};

struct net_ops {
  int (*dial)(struct net *n, struct loop *l, const char *host, uint16_t port, uint64_t timeout_ms, dial_cb cb,
              void *user, struct dial **out);
  void (*dial_cancel)(struct dial *d);
  int (*listen)(struct net *n, struct loop *l, const char *host, uint16_t port, const void *siblings,
                accept_cb cb, void *user, struct listener **out);
  uint16_t (*listener_port)(struct listener *ls);
  void (*listener_close)(struct listener *ls);
  int (*watch)(struct net *n, struct loop *l, net_changed_cb cb, void *user, struct net_watch **out);
  void (*unwatch)(struct net_watch *w);
};
struct net {
  const struct net_ops *ops;
};

extern struct net net_sockets; /* the real one */

/* Connect to a host name, address literal or "localhost" (both families, Happy Eyeballs, RFC 8305). No cb after net_dial_cancel, and none when this fails. */
int net_dial(struct net *n, struct loop *l, const char *host, uint16_t port, uint64_t timeout_ms, dial_cb cb,
             void *user, struct dial **out);
void net_dial_cancel(struct net *n, struct dial *d);
/* host is an address literal ("127.0.0.1", "::1", "0.0.0.0", "::"). port 0 picks one: listener_port tells. Listeners with the same `siblings` may share
 * a port (NULL: with nobody). IN_USE, PERMISSION, INVALID. */
int net_listen(struct net *n, struct loop *l, const char *host, uint16_t port, const void *siblings,
               accept_cb cb, void *user, struct listener **out);
uint16_t net_listener_port(struct net *n, struct listener *ls);
void net_listener_close(struct net *n, struct listener *ls);
/* Be told when this machine's network changes or it slept; what comes in a burst is told once. On the loop's thread, before the loop is freed. NOMEM. */
int net_watch(struct net *n, struct loop *l, net_changed_cb cb, void *user, struct net_watch **out);
void net_unwatch(struct net *n, struct net_watch *w); /* NULL is accepted; no cb after it */
/* Our own address on the way to `peer` as the routes are now; nothing is sent. false: there is no way, or no telling (not an IP address). */
bool net_source(const struct sockaddr_storage *peer, struct sockaddr_storage *out);
bool addr_same_host(const struct sockaddr_storage *a,
                    const struct sockaddr_storage *b); /* whatever the ports */

/* --- sockets only (io/sock.c) --- */
/* A stream on a connected, non-blocking TCP or unix socket. Takes fd, also when it fails. NOMEM. */
int sock_stream(struct loop *l, int fd, struct stream **out);
/* Give the descriptor away together with what was received and not taken: moves stream_input() into `received`, frees s, returns the fd.
 * Only before anything was written. -1 when s is not a socket (then nothing happened). */
int sock_release(struct stream *s, struct evbuffer *received);
/* The other half of giving: a stream whose input begins with `received` (moved out of it). */
int sock_adopt(struct loop *l, int fd, struct evbuffer *received, struct stream **out);
int sock_fd(struct stream *s); /* -1 when it is not a socket */
/* Many share this stream (a link): on the socket at the bottom of it little waits, in the kernel and here, so that what is written next
 * leaves soon; and it uses BBR where the kernel has it. Nothing happens where there is no socket. */
void sock_share(struct stream *s);
/* The addresses of the connection at the bottom of s, ours and the peer's. false: that is no TCP socket. */
bool sock_ends(struct stream *s, struct sockaddr_storage *local, struct sockaddr_storage *peer);
/* Our own address of the connection, as addr_text() with the port; ":0" when it is not a TCP socket. */
void sock_local(struct stream *s, char *out, size_t cap);

/* --- in memory, on one (usually virtual) loop, for test/sim: no resolver, a dial reaches the listener of that very host and port --- */
struct memnet_conf {
  uint64_t seed;      /* of the jitter: the same seed gives the same run */
  uint64_t delay_ms;  /* one way */
  uint64_t jitter_ms; /* added, uniform */
};
int memnet_new(struct loop *l, const struct memnet_conf *conf, struct net **out);
void memnet_free(struct net *n);
/* Faults of the connections to a host, the one a listener was given and a dial names. A cut resets them and refuses new ones until it is healed.
 * In a black hole nothing arrives, in one direction or both, and nobody learns of it; when it is gone, what was sent goes on its way. */
void memnet_cut(struct net *n, const char *host, bool on);
enum { MEMNET_TO = 1, MEMNET_FROM = 2 };
void memnet_blackhole(struct net *n, const char *host, int directions);
void memnet_change(struct net *n, int what); /* whoever watches is told, enum net_change */

/* Text of an address: "203.0.113.9:443", "[2001:db8::1]:443" (with_port) or the bare address. */
void addr_text(const struct sockaddr_storage *a, bool with_port, char *out, size_t cap);
/* "127.0.0.1:8443", "[::1]:8443", ":8443", "8443", "host:8443" -> host and port; def_port when there is none. INVALID. */
int addr_split(const char *text, uint16_t def_port, char *host, size_t cap, uint16_t *port);

#endif
