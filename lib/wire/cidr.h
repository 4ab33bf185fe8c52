/* cidr.h: addresses and ranges of them as text ("203.0.113.9", "[2001:db8::1]:443", "10.0.0.0/8"). Pure.
 *
 * An IPv4 address written as IPv6 ("::ffff:10.0.0.1") is the IPv4 address: no rule is passed by spelling.
 */
#ifndef WIRE_CIDR_H
#define WIRE_CIDR_H

#include <beam/beam.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct addr {
  uint8_t n; /* bytes: 4 or 16; 0: none */
  uint8_t bytes[16];
};

struct cidr {
  struct addr net; /* host bits are zero */
  uint8_t bits;
};

/* A bare address, or one with its port ("1.2.3.4:80", "[::1]:80", "[::1]"). False: not an address; out->n is 0. */
bool addr_parse(struct span text, struct addr *out);
/* "ADDRESS" or "ADDRESS/BITS"; what is written behind the prefix does not count: "10.1.2.3/8" is 10.0.0.0/8. 0.0.0.0/0 is all of IPv4, ::/0 all of IPv6. */
bool cidr_parse(struct span text, struct cidr *out);
bool cidr_has(const struct cidr *c, const struct addr *a);

struct cidr_list {
  struct cidr *list;
  size_t n;
};
/* "10.0.0.0/8, ::1"; NULL: none. `what` names the list in messages. INVALID, LIMIT (LIMIT_ADDRESS_RANGES), NOMEM; *out is to be freed also then. */
int cidr_list_parse(const char *text, const char *what, struct cidr_list *out, struct beam_error *err);
void cidr_list_free(struct cidr_list *l);
bool cidr_list_has(const struct cidr_list *l, const struct addr *a); /* any of them has it */

#endif
