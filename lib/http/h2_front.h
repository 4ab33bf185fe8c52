/* h2_front.h: an HTTP/2 server connection (RFC 9113): up to LIMIT_H2_STREAMS requests at once, each an exchange of its own. */
#ifndef HTTP_H2_FRONT_H
#define HTTP_H2_FRONT_H

#include "http/front.h"

/* Takes s (also when it fails), which agreed on "h2" by ALPN. Trailers, informational responses, WebSocket by extended CONNECT (RFC 8441). NOMEM. */
int h2_front_new(struct stream *s, const struct front_conf *conf, struct front **out);

#endif
