/* frames.h: an exchange over a link's stream, as the frames of wire/frame.h: upstream end at the relay, front end at the agent. */
#ifndef HTTP_FRAMES_H
#define HTTP_FRAMES_H

#include "http/exchange.h"
#include "io/stream.h"

/* Relay: an upstream end that sends what its front says over s (StreamOpen was written already) and brings the response back. Takes s. When the stream dies before a
 * response head: the front gets PAGE_LINK_LOST; after: PAGE_TRUNCATED. NOMEM. */
int frames_upstream(struct stream *s, struct http_end **out);
/* Agent: reads the request off s (StreamOpen was consumed already) and calls the handler; the response goes back. Takes s, also when it fails. */
int frames_front(struct stream *s, const struct http_handler *handler);

#endif
