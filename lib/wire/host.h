/* host.h: host names, labels and ports as text. Pure. */
#ifndef WIRE_HOST_H
#define WIRE_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum { HOST_MAX = 256 }; /* 253 bytes of name and the terminator, rounded */

/* "Shop.Example.com:8443" / "[::1]:80" -> lower-case host without trailing dot (IPv6 without brackets) and port (0: none). False: not a valid authority (userinfo, spaces, empty, bad port). */
bool host_parse(struct span authority, char host[HOST_MAX], uint16_t *port);
/* A name alone, folded to lower case without its trailing dot. Underscores are taken (service names have them); so is a good IPv4 address. */
bool host_fold(struct span name, char host[HOST_MAX]);
/* A DNS label: 1-63 of [a-z0-9-], no hyphen at either end, and no "--" at 3-4 (RFC 5891 keeps that for IDNA). */
bool host_label_ok(struct span label);
/* A host name of lower-case labels, at most 253 bytes; "xn--" labels are names too. */
bool host_name_ok(struct span name);
bool host_is_ip(const char *host);
/* "shop.tunnel.test" under "tunnel.test" -> "shop". False unless exactly one label stands before the base. */
bool host_label_under(const char *host, const char *base, struct span *label);

#endif
