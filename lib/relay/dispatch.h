/* dispatch.h: what becomes of a visitor's request: a page of ours, a redirect, or a stream to the agent that has the name. */
#ifndef RELAY_DISPATCH_H
#define RELAY_DISPATCH_H

#include "http/exchange.h"
#include "relay/relay.h"

/* Who asks. Borrowed for the call. */
struct visit {
  struct worker *w;
  bool tls;
  const char *addr;      /* "203.0.113.9" */
  const char *addr_port; /* "203.0.113.9:51234" */
  const char *local;     /* our address that was reached */
  const char *sni;
  struct cert *cert; /* what was shown, NULL on plain http */
  char *
      covered; /* 256 bytes the connection keeps: the host last found to be covered (looking it up parses the certificate) */
  const struct sockaddr_storage *peer;
  uint16_t port; /* ours */
  struct admit_guest *guest;
};

void dispatch_request(const struct visit *v, struct http_end *front, struct http_head *h, bool more);
void dispatch_finished(struct worker *w, const struct http_record *r);
/* The route of this name changed: requests that wait for it go on, or are refused. */
void dispatch_wake(struct worker *w, const char *name);
void dispatch_close(struct worker *w); /* refuse all that wait */

/* A stream towards whoever has the route, StreamOpen already written by the caller's `open`. 0; AGAIN: no link now; LIMIT. */
int dispatch_stream(struct worker *w, const struct route_view *route, const beam_StreamOpen *open,
                    struct stream **out);

#endif
