/* datagram.h: how the datagrams of a UDP tunnel cross a link (lib/link/PROTOCOL.md section 6). Pure.
 *
 *   on the flow's stream     length (2 bytes, big endian), payload
 *   beside it, on QUIC       quarter stream id (a variable-length integer, RFC 9000 section 16), payload: the form of RFC 9297 section 2.1
 */
#ifndef WIRE_DATAGRAM_H
#define WIRE_DATAGRAM_H

#include <stddef.h>
#include <stdint.h>

enum {
  DATAGRAM_HEADER = 2, /* the length */
  DATAGRAM_MAX =
      65527, /* payload of a UDP datagram over IPv6 without jumbograms (RFC 8200); IPv4 has 65507 */
  DATAGRAM_NAME_MAX = 8 /* the longest variable-length integer */
};

/* DATAGRAM_HEADER and the payload's length (0 is a datagram too); 0: need more; PROTOCOL: longer than any datagram. */
long datagram_decode(const uint8_t *p, size_t n, size_t *length);
void datagram_encode(uint8_t p[DATAGRAM_HEADER], size_t length); /* length <= DATAGRAM_MAX */

/* The bytes of the name, and the stream's number divided by four; PROTOCOL: it is cut off. */
long datagram_name_decode(const uint8_t *p, size_t n, uint64_t *quarter);
/* The bytes written, as few as can be. quarter < 2^62. */
size_t datagram_name_encode(uint64_t quarter, uint8_t p[DATAGRAM_NAME_MAX]);

#endif
