/* udp.h: a UDP socket on a loop: packets in batches both ways (recvmmsg + UDP_GRO, sendmmsg or UDP_SEGMENT where the kernel has it), ECN marks,
 * no fragmentation, the address each packet was sent to.
 *
 * Packets come by callback, borrowed for the call; sending takes what the socket takes and says when there is room again. Nothing is queued here.
 * An empty datagram is one too: n is 0.
 * These callbacks come straight from the poll, not from the task queue: whoever is above (quic/) notes and tells later. They may call udp_close().
 * A packet the network cannot take (no route, a firewall's refusal) counts as sent: it is lost, as packets are.
 */
#ifndef IO_UDP_H
#define IO_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "io/loop.h"

struct udp;

enum { UDP_NOT_ECT = 0, UDP_ECT_1 = 1, UDP_ECT_0 = 2, UDP_CE = 3 };

struct udp_packet {
  const uint8_t *p;
  size_t n;
  uint8_t ecn;
  const struct sockaddr_storage *from, *to; /* peer, and our address it was sent to */
};

struct udp_events {
  void (*packet)(void *user, const struct udp_packet *p);
  void (*batch_end)(void *user); /* the packets of this event are all delivered: answer now */
  void (*writable)(void *user);  /* after a send that took less */
  void (*failed)(void *user,
                 int err); /* connected sockets: the peer's machine said that nobody is there. May be NULL */
};

struct udp_net;

struct udp_conf {
  struct udp_net *net; /* NULL: the kernel's */
  const char *host;    /* address literal to bind; NULL: any of the peer's family */
  uint16_t port;       /* 0: any */
  bool reuse_port;     /* workers of one process share the port */
  bool
      fragment; /* what the path does not carry whole goes in pieces, as any program's datagrams do; else it is lost (QUIC asks for that) */
  int buffer;   /* the kernel's for it, bytes each way; 0: LIMIT_UDP_BUFFER */
  const struct sockaddr_storage
      *peer; /* connected to it: hears of no one else, and of failures. NULL: to nobody */
};
/* IN_USE, PERMISSION, INVALID, UNREACHABLE, NOMEM, SYSTEM. */
int udp_open(struct loop *l, const struct udp_conf *conf, const struct udp_events *ev, void *user,
             struct udp **out);
/* Our address; of an unconnected socket bound to any, the any-address. */
const struct sockaddr_storage *udp_address(const struct udp *u);
uint16_t udp_port(const struct udp *u);
/* n bytes as datagrams of `segment` bytes (the last may be shorter; n 0: an empty one) to one peer, in one system call where the kernel segments.
 * `from` is our source address (NULL: the kernel's choice; its port is ignored). Returns the bytes taken, whole segments; fewer than n: no
 * room, writable() comes; or TOO_LARGE: a segment exceeds what the first hop carries, nothing was sent. */
long udp_send(struct udp *u, const struct sockaddr_storage *to, const struct sockaddr_storage *from,
              uint8_t ecn, const uint8_t *p, size_t n, size_t segment);
void udp_close(struct udp *u); /* NULL is accepted */

uint16_t addr_port(const struct sockaddr_storage *a);

/* What one send may carry. */
enum { UDP_BATCH_BYTES = 65000, UDP_BATCH_SEGMENTS = 64 };

/* --- what implements it --- */
struct udp_net {
  int (*open)(struct udp_net *n, struct loop *l, const struct udp_conf *conf, const struct udp_events *ev,
              void *user, struct udp **out);
};
struct udp_ops {
  long (*send)(struct udp *u, const struct sockaddr_storage *to, const struct sockaddr_storage *from,
               uint8_t ecn, const uint8_t *p, size_t n, size_t segment);
  void (*close)(struct udp *u);
};
struct udp {
  const struct udp_ops *ops;
  struct loop *loop;
  const struct udp_events *ev;
  void *user;
  struct sockaddr_storage addr;
};

/* --- in memory, on one (usually virtual) loop: for tests and the sim; packets are delayed, lost, reordered, and the same seed does the same --- */
struct udp_memnet_conf {
  uint64_t seed;
  uint64_t delay_ms;  /* one way; 0 counts as 1 */
  uint64_t jitter_ms; /* added, uniform: packets overtake each other */
  unsigned loss;      /* of 1,000 packets */
  size_t mtu;         /* largest datagram that arrives; 0: any */
  size_t first_hop;   /* largest that can be sent: beyond it sending fails; 0: any */
  unsigned rate;      /* bytes a ms each way, through one queue; 0: no limit */
  unsigned queue_ms;  /* what would wait longer in it is lost */
  unsigned mark_ms;   /* what knows ECN and waits longer is marked (CE); 0: nothing is */
  /* May change the packet in place, also its length (down). May be NULL. */
  void (*mangle)(void *user, uint8_t *p, size_t *n);
  void *user;
};
int udp_memnet_new(struct loop *l, const struct udp_memnet_conf *conf, struct udp_net **out);
void udp_memnet_set(struct udp_net *n, const struct udp_memnet_conf *conf); /* the network changes midway */
/* A black hole towards sockets that were opened with a port (servers), from them, both, or none. */
enum { UDP_MEMNET_TO = 1, UDP_MEMNET_FROM = 2 };
void udp_memnet_blackhole(struct udp_net *n, int directions);
/* The socket on `port` is on another one from now on: packets to `port` find whoever opens it next. */
void udp_memnet_rename(struct udp_net *n, uint16_t port, uint16_t to);
void udp_memnet_free(struct udp_net *n); /* its sockets are closed already */

#endif
