/* h3_front.h: an HTTP/3 server connection (RFC 9114) over a QUIC connection: up to LIMIT_H2_STREAMS requests at once, each an exchange of its own. */
#ifndef HTTP_H3_FRONT_H
#define HTTP_H3_FRONT_H

#include "base/limits.h"
#include "http/front.h"

struct quic_conn;

/* What its endpoint lets a peer open from the start (quic_server_conf). */
enum { H3_PEER_BIDI = LIMIT_H2_STREAMS, H3_PEER_UNI = 8 /* RFC 9114 6.2: three at least */ };

/* Takes q (also when it fails), whose handshake is complete and agreed on "h3". Trailers, informational responses, WebSocket by extended CONNECT (RFC 9220).
 * conf->tls is true, whatever it says. NOMEM, LIMIT (the visitor lets us open no streams). */
int h3_front_new(struct quic_conn *q, const struct front_conf *conf, struct front **out);

#endif
