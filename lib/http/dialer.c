#include "http/dialer.h"

#include <beam/beam.h>

#include "base/limits.h"

static int dial(struct http_dialer *h, unsigned speaks, dial_cb cb, void *user, struct dial **out) {
  struct http_dialer_net *d = (struct http_dialer_net *)h;
  h->h2 = speaks == HTTP_DIAL_2;
  return net_dial(d->net, d->loop, d->host, d->port, LIMIT_UPSTREAM_DIAL_MS, cb, user, out);
}

static void cancel(struct http_dialer *h, struct dial *dial) {
  net_dial_cancel(((struct http_dialer_net *)h)->net, dial);
}

void http_dialer_net_init(struct http_dialer_net *d, struct net *net, struct loop *l, const char *host,
                          uint16_t port) {
  *d = (struct http_dialer_net){{dial, cancel, false}, net, l, host, port};
}

enum page http_dial_page(int err) {
  switch (err) {
  case BEAM_ERR_TIMEOUT:
    return PAGE_LOCAL_TIMEOUT;
  case BEAM_ERR_NOMEM:
  case BEAM_ERR_SYSTEM:
    return PAGE_OVERLOADED; /* out of memory or descriptors: ours, not the service's */
  case BEAM_ERR_UNTRUSTED:
    return PAGE_LOCAL_UNTRUSTED;
  case BEAM_ERR_TLS:
  case BEAM_ERR_PROTOCOL:
    return PAGE_LOCAL_TLS;
  default:
    return PAGE_LOCAL_REFUSED;
  }
}
