/* raw.h: a TCP or TLS visitor's stream, joined with a connection to the local service.
 *
 *   DIALLING ──► PIPED ──► both ends done; no local service: the visitor's stream is reset
 */
#ifndef AGENT_RAW_H
#define AGENT_RAW_H

#include "agent/local.h"
#include "wire/control.h"

struct raw;

/* Takes s. `list` is where it keeps itself until it is done; conf outlives it. */
void raw_serve(struct raw **list, const struct local_conf *conf, struct stream *s,
               const beam_StreamOpen *open);
void raw_close_all(struct raw **list);

#endif
