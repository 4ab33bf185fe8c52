/* cors.h: pages of other origins may read this tunnel (the Fetch standard, section 3.2), though the local service says nothing about it. */
#ifndef HTTP_CORS_H
#define HTTP_CORS_H

#include <beam/beam.h>

#include "http/exchange.h"
#include "io/loop.h"

struct cors;

/* "*", or origins with commas between ("https://app.example.com"). INVALID, LIMIT, NOMEM. */
int cors_new(const char *origins, struct cors **out, struct beam_error *err);
void cors_free(struct cors *c); /* NULL is accepted */

/* For the answer to a request of this Origin: whom to name in Access-Control-Allow-Origin. Empty: nobody. Borrows c. */
struct span cors_allows(const struct cors *c, const struct http_head *request);
/* The fields that say so, CORS_FIELDS at most, into `out`; how many they are. Answers of a list of origins vary with it, also for an origin that is not on it. */
enum { CORS_FIELDS = 3 };
size_t cors_fields(const struct cors *c, struct span allowed, struct http_field *out);
/* A field that ours stand for. */
bool cors_replaces(struct span name);

bool cors_is_preflight(const struct http_head *request);
/* Answers it: browsers send no credentials with it, so neither --auth nor the service could. */
void cors_preflight(const struct cors *c, struct loop *l, struct http_end *front,
                    const struct http_head *request);

#endif
