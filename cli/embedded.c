/* embedded.c: see embedded.h. One data directory serves all embedded relays of a user, so that names and the CA stay the same. */
#include "embedded.h"
#include "paths.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Containers often have no IPv6 at all; then ::1 is left out instead of failing. */
static bool has_ipv6_loopback(void) {
  struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return false;
  bool ok = bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0;
  close(fd);
  return ok;
}

int embedded_start(const struct options *o, const struct cli_env *env, beam_relay **out, char address[128],
                   struct beam_error *e) {
  char data[PATH_SIZE];
  int r = path_data(o, env, "embedded", data, e);
  if (r)
    return r;
  bool six = has_ipv6_loopback();
  struct beam_relay_config c = BEAM_RELAY_CONFIG_INIT;
  c.domain = "localhost";
  c.listen = o->listen ? o->listen : six ? "127.0.0.1:8443,[::1]:8443" : "127.0.0.1:8443";
  c.listen_plain = o->listen_plain ? o->listen_plain : six ? "127.0.0.1:8080,[::1]:8080" : "127.0.0.1:8080";
  bool redirect = o->https || (o->plain && strcmp(o->plain, "redirect") == 0);
  c.plain = redirect ? BEAM_PLAIN_REDIRECT : BEAM_PLAIN_SERVE;
  c.data_dir = data;
  long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  c.workers = o->workers ? o->workers : cpus > 1 ? 2 : 1;
  c.port_fallback = 1;
  c.congestion = congestion_of(o);
  c.tcp_ports = o->tcp_ports ? o->tcp_ports : "20000-20999";
  c.udp_ports = o->udp_ports ? o->udp_ports : "20000-20999";
  c.udp_idle_ms = o->udp_idle * 1000;
  r = beam_relay_start(&c, out, e);
  if (r)
    return r;
  struct beam_relay_info info = {.size = sizeof info};
  beam_relay_info(*out, &info);
  snprintf(address, 128, "%s", info.https);
  return 0;
}
