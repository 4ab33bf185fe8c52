/* tunnel_output.h: what `beam 3000` says while it runs. On the tunnel's loop. */
#ifndef CLI_TUNNEL_OUTPUT_H
#define CLI_TUNNEL_OUTPUT_H

#include "output.h"
#include "target.h"
#include <beam/relay.h>
#include <beam/tunnel.h>

struct tunnel_output {
  struct output *out;
  char target[300]; /* "http://localhost:3000", "tcp://localhost:5432" */
  char last[320];   /* the last reason told, so that a hundred equal failures are one line */
  char shown[256];  /* the name in the banner */
  char ca[4096];    /* embedded relay's CA */
  char transport[16];
  bool embedded, was_active, is_active;
  enum beam_tunnel_kind kind;
  char typed[300]; /* what to type for it again: "3000", "https://localhost:8443" */
};

void tunnel_output_init(struct tunnel_output *t, struct output *out, enum beam_tunnel_kind kind,
                        const struct target *target);
void say_embedded(struct tunnel_output *t, const struct beam_relay_info *relay);
void say_state(struct tunnel_output *t, const struct beam_tunnel_info *info, const struct beam_error *error);
void say_request(struct tunnel_output *t, const struct beam_request *r);
void say_end(struct tunnel_output *t);
const char *state_text(enum beam_tunnel_state state);
const char *kind_text(enum beam_tunnel_kind kind); /* "http", "tcp", "tls" */

#endif
