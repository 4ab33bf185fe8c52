/* h1_front.h: an HTTP/1.1 server connection: parses requests off a stream, answers them in order. */
#ifndef HTTP_H1_FRONT_H
#define HTTP_H1_FRONT_H

#include "http/front.h"

/* Takes s (also when it fails). Keep-alive, pipelining answered in order, Expect, upgrade; limits of LIMIT_HEAD_*. NOMEM. */
int h1_front_new(struct stream *s, const struct front_conf *conf, struct front **out);

#endif
