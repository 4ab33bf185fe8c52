/* rewrite.h: the tunnel's own origin in heads, there and back: a service behind a rewritten Host must see itself in Origin and Referer, and the visitor must
 * not be sent to the service's own address. Also: cookies that would reach other people's names.
 */
#ifndef HTTP_REWRITE_H
#define HTTP_REWRITE_H

#include "http/exchange.h"
#include "io/loop.h"

/* What the visitor sees, and what the local service thinks it is: "https://shop.tunnel.test:8443", "http://localhost:3000". */
struct rewrite_origins {
  char public_origin[300], local_origin[300];
};
void rewrite_origins(struct rewrite_origins *o, struct span scheme, struct span authority,
                     const char *local_origin);

/* Request: Origin and Referer of the tunnel become the local service's. With that Origin so does X-Forwarded-Host: what guards forms compares Origin with either that
 * or Host (Next.js, Rails; Django), so both must say the same; without it X-Forwarded-Host goes on telling where the visitor is. Changes the fields in place; their
 * new text is in *text (freed by the caller). NOMEM. */
int rewrite_request(const struct rewrite_origins *o, struct http_head *h, char **text);

/* Response, for http_filter: Location, Content-Location, Access-Control-Allow-Origin and the domain of cookies come back as the visitor's. */
int rewrite_response(const struct rewrite_origins *o, const struct http_head *in, struct http_head *out);
/* Join front and upstream with that between them. NOMEM (nothing is joined). */
int rewrite_join(struct loop *l, const struct rewrite_origins *o, struct http_end *front,
                 struct http_end *upstream);

/* What the relay makes of a tunnel's response. A Set-Cookie whose Domain is `base` or above it would go to everybody's names: such a field is left out. Alt-Svc is
 * the relay's to say: the tunnel's goes, `alt` comes ("h3=\":443\"; ma=86400"; "": none). */
struct rewrite_edge {
  const char *base; /* borrowed for the exchange's life */
  char alt[40];
  void (*over)(struct rewrite_edge *e); /* the exchange is over; may be NULL. Not after a join that failed */
  void *held[2];                        /* for that */
};
int rewrite_edge(const struct rewrite_edge *e, const struct http_head *in, struct http_head *out);
/* Join front and upstream with that between them. NOMEM (nothing is joined). */
int rewrite_edge_join(struct loop *l, const struct rewrite_edge *e, struct http_end *front,
                      struct http_end *upstream);

#endif
