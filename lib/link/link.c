#include "link/link.h"

#include "io/net.h"

void link_close(struct link *k, int reason) {
  if (!k)
    return;
  struct link_guard *g = k->guard;
  k->guard = NULL;
  k->ev = NULL;
  if (g)
    g->free(g);
  k->ops->close(k, reason);
}

void link_tell_ready(struct link *k) {
  if (k->ready)
    return;
  k->ready = true;
  if (k->guard && k->guard->ready(k->guard))
    return;
  if (k->ev && k->ev->ready)
    k->ev->ready(k->user);
}

void link_tell_stream(struct link *k, struct stream *s) {
  if (k->guard && k->guard->stream(k->guard, s))
    return;
  if (k->ev && k->ev->stream)
    k->ev->stream(k->user, s);
  else
    stream_close(s, BEAM_ERR_REFUSED);
}

void link_tell_control(struct link *k, const beam_Control *m) {
  if (k->guard && k->guard->control(k->guard, m))
    return;
  if (k->ev && k->ev->control)
    k->ev->control(k->user, m);
}

void link_tell_closed(struct link *k, int reason) {
  if (k->guard && k->guard->closed(k->guard, reason))
    return;
  if (k->ev && k->ev->closed)
    k->ev->closed(k->user, reason);
}

void link_tell_draining(struct link *k) {
  if (k->draining)
    return;
  k->draining = true;
  if (k->ev && k->ev->draining)
    k->ev->draining(k->user);
}

/* No way at all is a cable that is being plugged in elsewhere: when the address comes back, so do the bytes. */
enum link_way link_way_of(const struct sockaddr_storage *local, const struct sockaddr_storage *peer) {
  struct sockaddr_storage now;
  if (!net_source(peer, &now))
    return LINK_WAY_DOUBT;
  return addr_same_host(&now, local) ? LINK_WAY_SAME : LINK_WAY_LEFT;
}
