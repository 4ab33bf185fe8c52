/* rate.h: how often one visitor may do something: a bucket for each address (IPv6 by the /64 that one subscriber has), as its theoretical arrival time (GCRA). */
#ifndef HTTP_RATE_H
#define HTTP_RATE_H

#include <beam/beam.h>
#include <stdint.h>

#include "base/str.h"

struct rate;

/* "100/m": so many a second (s), minute (m) or hour (h), all of them at once if the visitor likes. INVALID, NOMEM. */
int rate_new(const char *text, struct rate **out, struct beam_error *err);
/* n in so many seconds. NULL: no memory. */
struct rate *rate_of(uint64_t n, uint64_t seconds);
void rate_free(struct rate *r); /* NULL is accepted */
/* One more request of this visitor ("203.0.113.9:51234"; those whose address cannot be read share one bucket). 0: it may; else the seconds after which it may again. */
unsigned rate_take(struct rate *r, const char *visitor, uint64_t now_ms);
/* What rate_take() would say. Takes nothing, remembers nobody. */
unsigned rate_wait(const struct rate *r, const char *visitor, uint64_t now_ms);
/* Visitors that are remembered. */
size_t rate_rows(const struct rate *r);

#endif
