/* answers.h: what the relay says itself: the redirect to https, the state of a tunnel as JSON, the control host's page. Error pages are http/pages.h. */
#ifndef RELAY_ANSWERS_H
#define RELAY_ANSWERS_H

#include "http/exchange.h"
#include "relay/relay.h"

/* 308 to the same target on https. `host` is validated (wire/host.h). */
void answer_redirect(struct worker *w, struct http_end *front, const struct http_head *h, const char *host);
/* GET /_beam, /_beam/stats of a tunnel's name. */
void answer_state(struct worker *w, struct http_end *front, const struct http_head *h, const char *name,
                  const struct route_view *route);
/* The control host: the relay's own numbers. */
void answer_control(struct worker *w, struct http_end *front, const struct http_head *h);

#endif
