/* server.h: a whole relay, for the facade: start, ask, stop. The public header include/beam/relay.h says what each does. */
#ifndef RELAY_SERVER_H
#define RELAY_SERVER_H

#include <beam/relay.h>

struct relay;

void relay_config_local(struct beam_relay_config *config);
int relay_start(const struct beam_relay_config *config, struct relay **out,
                struct beam_error *err); /* config is whole (the facade filled in defaults) */
int relay_drain(struct relay *r, uint32_t ms);
int relay_reload(struct relay *r, const struct beam_relay_config *config, struct beam_error *err);
void relay_stop(struct relay *r);
void relay_info(struct relay *r, struct beam_relay_info *out);
size_t relay_metrics(struct relay *r, char *out, size_t cap);

#endif
