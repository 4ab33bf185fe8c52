/* local.c: the configuration of the relay inside a tunnel's own process, when no other is known. */
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay/server.h"

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

void relay_config_local(struct beam_relay_config *c) {
  bool six = has_ipv6_loopback();
  long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  *c = (struct beam_relay_config)BEAM_RELAY_CONFIG_INIT;
  c->domain = "localhost";
  c->listen = six ? "127.0.0.1:8443,[::1]:8443" : "127.0.0.1:8443";
  c->listen_plain = six ? "127.0.0.1:8080,[::1]:8080" : "127.0.0.1:8080";
  c->plain = BEAM_PLAIN_SERVE;
  c->workers = cpus > 1 ? 2 : 1;
  c->port_fallback = 1;
  c->tcp_ports = c->udp_ports = "20000-20999";
}
