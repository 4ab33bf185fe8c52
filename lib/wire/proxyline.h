/* proxyline.h: the PROXY protocol header, versions 1 and 2 (HAProxy's specification, 2020-03-05): who the visitor of a piped connection was. Pure. */
#ifndef WIRE_PROXYLINE_H
#define WIRE_PROXYLINE_H

#include <stddef.h>

enum { PROXYLINE_MAX = 128 };

/* From "203.0.113.9:51234" and "192.0.2.1:443" ("[2001:db8::1]:443"). What cannot be told (other families, ":443") becomes UNKNOWN or LOCAL, as the specification
 * asks. Returns the length written; 0: no such version. */
size_t proxyline_write(int version, const char *visitor, const char *local, char out[PROXYLINE_MAX]);

#endif
