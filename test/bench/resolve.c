/* Loaded before wrk: the bench's name is this machine, whatever name service there is. wrk then sends the name in its
 * ClientHello, which a relay needs, and nobody has to edit /etc/hosts. */
#include <netdb.h>
#include <string.h>
#include <dlfcn.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
  resolver *next = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
  size_t n = node ? strlen(node) : 0;
  static const char suffix[] = ".tunnel.test";
  if (n >= sizeof suffix && strcmp(node + n - (sizeof suffix - 1), suffix) == 0)
    node = "127.0.0.1";
  return next(node, service, hints, out);
}
