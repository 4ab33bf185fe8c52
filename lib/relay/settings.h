/* settings.h: what of a relay's configuration may change while it runs: one snapshot that never changes, and another one in its place.
 *
 * Any thread may read settings_now(); it keeps the pointer, and what it points at, for no longer than the event it is in. The snapshot of before is freed
 * once every worker has been between two events.
 */
#ifndef RELAY_SETTINGS_H
#define RELAY_SETTINGS_H

#include "base/limits.h"
#include "identity/tokens.h"
#include "relay/relay.h"
#include "wire/cidr.h"

struct settings {
  struct beam_relay_config conf; /* the fields that may change, with strings of our own; all others are 0 */
  struct tokens *tokens;         /* NULL: none asked for */
  struct cidr_list proxy_from;   /* load balancers that say who the visitor is */
  uint16_t port_lo, port_hi;     /* public ports for TCP tunnels; 0: none */
  uint16_t udp_lo, udp_hi;       /* the same for UDP tunnels */
  struct settings *next;         /* of those that are freed with the relay */
  _Atomic unsigned left;         /* workers that may still look at it */
  struct settings_pass {
    struct worker *w;
    struct settings *old;
  } passes[LIMIT_WORKERS];
};

/* Check c and read its token file. INVALID, DENIED (open to the world without a token file), and what tokens_load() says. */
int settings_new(const struct relay *r, const struct beam_relay_config *c, struct settings **out,
                 struct beam_error *err);
void settings_free(struct settings *s); /* NULL accepted */

static inline const struct settings *settings_now(const struct relay *r) {
  return atomic_load_explicit(&r->settings, memory_order_acquire);
}

/* All of c, or nothing: certificates, tokens and the rest are in force for what comes from now on. c NULL: the files of before, read again.
 * UNSUPPORTED: a field of c differs that cannot change while the relay runs; the text names it. */
int settings_change(struct relay *r, const struct beam_relay_config *c, struct beam_error *err);

#endif
