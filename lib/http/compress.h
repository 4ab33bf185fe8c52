/* compress.h: text that the service sends plain goes over the link, and to the visitor, in Brotli or gzip. A filter beside the service; README.md says when it keeps out. */
#ifndef HTTP_COMPRESS_H
#define HTTP_COMPRESS_H

#include "http/filter.h"

enum coding { CODING_NONE, CODING_GZIP, CODING_BROTLI };

/* What the request says about it. */
struct compress_facts {
  bool gzip, brotli; /* the visitor takes it ... */
  bool gzip_first;   /* ... and this rather */
  bool forbidden; /* Cache-Control: no-transform, or asked by another site in the visitor's name (BREACH) */
};
void compress_ask(struct compress_facts *f, const struct http_head *request);

/* May a response with this head be encoded at all, for whoever takes it? Such a one varies with Accept-Encoding. */
bool compress_fits(const struct http_head *response);
/* Which coding it gets, before memory is looked at. */
enum coding compress_choose(const struct compress_facts *f, const struct http_head *response);
/* The head that goes instead: CODING_NONE: only with Vary. 0 as it is; 1 *out; NOMEM. */
int compress_head(enum coding coding, const struct http_head *in, struct http_head *out);

/* front is joined, the request's head not sent: compress what comes back. `share` outlives the exchange. NOMEM (nothing changed). */
int compress_join(struct loop *l, struct encode_share *share, struct http_end *front,
                  const struct http_head *request, void (*gone)(void *owner), void *owner);

/* What encoders keep now. */
size_t compress_memory(void);

#endif
