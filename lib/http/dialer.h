/* dialer.h: how an upstream gets connections to its service. Whoever makes the upstream says how: plainly, through TLS, or in a test. */
#ifndef HTTP_DIALER_H
#define HTTP_DIALER_H

#include "http/pages.h"
#include "io/net.h"

struct http_dialer {
  /* speaks: HTTP_DIAL_*, what the caller could go on with. cb is called from the task queue, not after cancel, and not when this fails. */
  int (*dial)(struct http_dialer *d, unsigned speaks, dial_cb cb, void *user, struct dial **out);
  void (*cancel)(struct http_dialer *d, struct dial *dial);
  bool h2; /* valid while cb runs: HTTP/2 is what this connection speaks */
};
enum { HTTP_DIAL_1 = 1, HTTP_DIAL_2 = 2 };

/* Plain connections. With both versions allowed it is HTTP/1: nothing on the wire could tell. */
struct http_dialer_net {
  struct http_dialer d;
  struct net *net;
  struct loop *loop;
  const char *host; /* borrowed */
  uint16_t port;
};
void http_dialer_net_init(struct http_dialer_net *d, struct net *net, struct loop *l, const char *host,
                          uint16_t port);
/* What a visitor is told when a dial failed so. */
enum page http_dial_page(int err);

#endif
