/* proxyline.h: the PROXY protocol header, versions 1 and 2 (HAProxy's specification, 2020-03-05): who the visitor of a piped connection was. Pure. */
#ifndef WIRE_PROXYLINE_H
#define WIRE_PROXYLINE_H

#include <stddef.h>

#include "wire/cidr.h"

enum { PROXYLINE_MAX = 128 };

/* From "203.0.113.9:51234" and "192.0.2.1:443" ("[2001:db8::1]:443"). What cannot be told (other families, ":443") becomes UNKNOWN or LOCAL, as the specification
 * asks. Returns the length written; 0: no such version. */
size_t proxyline_write(int version, const char *visitor, const char *local, char out[PROXYLINE_MAX]);

enum proxyline_what {
  PROXYLINE_MORE,  /* as far as it goes it may become one */
  PROXYLINE_PROXY, /* it says who the visitor is */
  PROXYLINE_LOCAL, /* it says nothing (LOCAL, UNKNOWN, other families): the connection is whose it is */
  PROXYLINE_BAD,   /* no such header, or a malformed one */
};
struct proxyline {
  size_t used; /* bytes of the header: what follows is the visitor's */
  struct addr visitor, local;
  uint16_t visitor_port, local_port;
};
/* Read either version off the first bytes of a connection. Nothing is guessed: version 1 as the specification spells it, at most 107 bytes; version 2 with at most
 * LIMIT_PROXY_HEADER behind its fixed part, whose TLVs are passed over. */
enum proxyline_what proxyline_read(const void *p, size_t n, struct proxyline *out);

#endif
