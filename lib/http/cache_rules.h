/* cache_rules.h: what RFC 9111 says a shared cache may do with a request and its response. Pure; where the standard leaves a choice, README.md says ours. */
#ifndef HTTP_CACHE_RULES_H
#define HTTP_CACHE_RULES_H

#include "wire/http.h"

enum cache_wish {
  CACHE_BYPASS,  /* neither answered from the cache nor kept */
  CACHE_USE,     /* what is fresh will do */
  CACHE_REFRESH, /* the visitor wants the service to be asked */
};
enum cache_wish cache_wish_of(const struct http_head *request, bool more);
/* A method that changes something: what is kept of this address is no longer true (RFC 9111 4.4). */
bool cache_is_unsafe(struct span method);

struct cache_terms {
  bool keep;        /* it may be kept */
  bool strict;      /* must-revalidate, proxy-revalidate: never stale */
  uint32_t fresh_s; /* from when it was made */
  uint32_t stale_s; /* after that: while somebody asks the service (stale-while-revalidate, RFC 5861) */
  uint32_t age_s;   /* it came with */
};
void cache_terms_of(bool get, const struct http_head *response,
                    struct cache_terms *out); /* get: what was asked with */

/* Does a conditional request match what is kept? Then 304 is the answer (RFC 9110 13.1.2, 13.1.3; of dates only the same one). */
bool cache_not_modified(const struct http_head *request, const struct http_head *kept);

/* All values of a request's fields `name`, as one text, into out (cap bytes). False: it does not fit. */
bool cache_joined(const struct http_head *request, struct span name, char *out, size_t cap, size_t *n);

#endif
