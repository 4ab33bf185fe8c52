/* udp_batch.h: datagrams to whomever, joined: what one turn of the loop has for the same peer in pieces of the same size leaves in one system call.
 *
 *   udp_batch_add ─► the same socket, peer and size as before: waits ─► turn's end, another peer, a shorter one (the last of its call), or full ─► sent
 *
 * One batch serves all sockets of its owner. What a socket does not take is lost, as datagrams are, and counted.
 */
#ifndef IO_UDP_BATCH_H
#define IO_UDP_BATCH_H

#include "io/udp.h"

struct udp_batch {
  struct loop *loop;
  struct loop_task flush;
  struct udp *u; /* of what waits */
  struct sockaddr_storage to, from;
  bool from_any;
  size_t n, segment;
  unsigned count;
  uint8_t *bytes;
  uint64_t sent, lost; /* datagrams, so far */
};

void udp_batch_init(struct udp_batch *b, struct loop *l);
/* Copies. `to` may be NULL on a connected socket; `from` as in udp_send(). */
void udp_batch_add(struct udp_batch *b, struct udp *u, const struct sockaddr_storage *to,
                   const struct sockaddr_storage *from, const uint8_t *p, size_t n);
void udp_batch_flush(struct udp_batch *b); /* also before a socket is closed */
void udp_batch_fini(struct udp_batch *b);

#endif
