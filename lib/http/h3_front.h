/* h3_front.h: an HTTP/3 server connection (RFC 9114) over a QUIC connection: up to LIMIT_H2_STREAMS requests at once, each an exchange of its own. */
#ifndef HTTP_H3_FRONT_H
#define HTTP_H3_FRONT_H

#include "http/front.h"

struct quic_conn;

/* Takes q (also when it fails), whose handshake is complete and agreed on "h3". Trailers, informational responses, WebSocket by extended CONNECT (RFC 9220).
 * conf->tls is true, whatever it says. NOMEM, LIMIT (the visitor lets us open no streams). */
int h3_front_new(struct quic_conn *q, const struct front_conf *conf, struct front **out);

#endif
