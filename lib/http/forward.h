/* forward.h: what a proxy changes in heads: hop-by-hop fields out (RFC 9110 7.6.1), X-Forwarded-* in, Host to the local target. */
#ifndef HTTP_FORWARD_H
#define HTTP_FORWARD_H

#include "wire/http.h"

struct forward_facts {
  const char *visitor; /* bare address */
  const char *proto;   /* "https" or "http" */
  const char *host;    /* the authority the visitor asked for */
};
/* Relay: visitor's request -> what crosses the link: hop-by-hop and Connection-named fields removed (Upgrade kept as a pair when it is a websocket or other upgrade), incoming
 * Forwarded, X-Forwarded-*, X-Real-IP, Beam-* replaced by ours. */
int forward_request(const struct http_head *in, const struct forward_facts *facts, struct http_head *out);
/* Agent: link -> local service: Host becomes `host_header` (NULL keeps the visitor's). */
int forward_to_local(const struct http_head *in, const char *host_header, struct http_head *out);
/* Response on its way back, either side: hop-by-hop out. */
int forward_response(const struct http_head *in, struct http_head *out);

#endif
