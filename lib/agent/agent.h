/* agent.h: one tunnel's life beside the local service.
 *
 *   homes (a relay each: links, BIND, trying again; home.h) ───────┬─ streams ─► local ─► the local service
 *                                                                  └─ ENTRY: ◄─ entry, a local port
 *
 * Everything lives on one loop. Public meaning of states and fields: include/beam/tunnel.h.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <beam/tunnel.h>

#include "io/net.h"

struct agent;

/* `config` is whole: the facade filled in defaults (data_dir, local_host). `net` is the real network or a simulated one; both outlive the agent. `self` is what callbacks get as tunnel. */
int agent_new(struct loop *loop, struct net *net, const struct beam_tunnel_config *config, beam_tunnel *self,
              struct agent **out, struct beam_error *err);
void agent_info(struct agent *a, struct beam_tunnel_info *info);
/* As beam_tunnel_link_info. */
int agent_link_info(struct agent *a, unsigned index, struct beam_link_info *out);
/* As beam_tunnel_cache_info, beam_tunnel_purge. */
int agent_cache_info(struct agent *a, struct beam_cache_info *out);
int agent_purge(struct agent *a, const char *path);
/* Unbind and let go. Frees itself once the requests in flight have ended, a turn or two later. */
void agent_close(struct agent *a);

#endif
