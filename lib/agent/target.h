/* target.h: what the owner says a tunnel's local side is: "http://localhost:3000", "https://[::1]:8443", "unix:/run/app.sock". */
#ifndef AGENT_TARGET_H
#define AGENT_TARGET_H

#include <beam/beam.h>
#include <stdbool.h>
#include <stdint.h>

struct target {
  char host[256]; /* as net_dial() takes it: a name, a literal, "unix:/path" */
  char authority
      [300]; /* what such a service calls itself: "localhost:3000", without the port where it is the scheme's own */
  uint16_t port; /* of a unix socket one made from its path: a number to know it by, nothing listens there */
  bool tls, local; /* local: a unix socket */
};

/* INVALID with text: no scheme, a path, a user, a name or port that cannot be. */
int target_parse(const char *text, struct target *out, struct beam_error *err);
/* The same from a host and a port. INVALID: too long. */
int target_of(const char *host, uint16_t port, bool tls, struct target *out);
/* A folder: no host; the port is made from its whole path. Errors with text: NOT_FOUND, PERMISSION. */
int target_folder(const char *path, struct target *out, struct beam_error *err);
/* A number that the same text always gets, 1 to 65535: names are drawn for a port, and what has none shall get the same one again too. */
uint16_t target_number(const char *text);

#endif
