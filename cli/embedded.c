/* embedded.c: see embedded.h. One data directory serves all embedded relays of a user, so that names and the CA stay the same. */
#include "embedded.h"
#include "paths.h"

#include <stdio.h>
#include <string.h>

int embedded_start(const struct options *o, const struct cli_env *env, beam_relay **out, char address[128],
                   struct beam_error *e) {
  char data[PATH_SIZE];
  int r = path_data(o, env, "embedded", data, e);
  if (r)
    return r;
  struct beam_relay_config c;
  beam_relay_config_local(&c);
  if (o->listen)
    c.listen = o->listen;
  if (o->listen_plain)
    c.listen_plain = o->listen_plain;
  if (o->https || (o->plain && strcmp(o->plain, "redirect") == 0))
    c.plain = BEAM_PLAIN_REDIRECT;
  c.data_dir = data;
  if (o->workers)
    c.workers = o->workers;
  if (o->tcp_ports)
    c.tcp_ports = o->tcp_ports;
  if (o->udp_ports)
    c.udp_ports = o->udp_ports;
  c.congestion = congestion_of(o);
  c.udp_idle_ms = o->udp_idle * 1000;
  r = beam_relay_start(&c, out, e);
  if (r)
    return r;
  struct beam_relay_info info = {.size = sizeof info};
  beam_relay_info(*out, &info);
  snprintf(address, 128, "%s", info.https);
  return 0;
}
