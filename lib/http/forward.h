/* forward.h: what a proxy changes in heads: hop-by-hop fields out (RFC 9110 7.6.1), X-Forwarded-* in, Host to the local target. */
#ifndef HTTP_FORWARD_H
#define HTTP_FORWARD_H

#include "wire/http.h"

struct forward_facts {
  const char *visitor; /* bare address */
  const char *proto;   /* "https" or "http" */
  const char *host;    /* the authority the visitor asked for */
};
/* All three: *out borrows the text of `in` (and of facts, host_header) and owns only its array of fields: use it while those live, then http_head_free(out). NOMEM. */

/* Relay: visitor's request -> what crosses the link: hop-by-hop and Connection-named fields removed (Upgrade alone is kept; whoever writes HTTP/1 says
 * Connection for it), incoming Forwarded, X-Forwarded-*, X-Real-IP, Beam-* replaced by ours. Host goes too: the authority of a head is the one truth. */
int forward_request(const struct http_head *in, const struct forward_facts *facts, struct http_head *out);
/* Agent: link -> local service: Host becomes `host_header` (NULL keeps the visitor's). */
int forward_to_local(const struct http_head *in, const char *host_header, struct http_head *out);
/* Response on its way back, either side: hop-by-hop out. */
int forward_response(const struct http_head *in, struct http_head *out);

/* For writers: copy the fields that may cross a hop into `out` (room for in->fields_n; may be in->fields itself). Gone are Connection, what it names, Keep-Alive,
 * Proxy-Connection, TE, Transfer-Encoding, and Upgrade unless kept. Host, Content-Length, Authorization, Cookie, Origin and Content-Type stay whatever Connection names. */
size_t forward_filter(const struct http_head *in, struct http_field *out, bool keep_upgrade);

#endif
