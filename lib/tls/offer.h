/* offer.h: which cipher suites a ClientHello offers, before mbedTLS sees it. mbedTLS takes the first of the client's TLS 1.3 suites that it has; to
 * take the first of ours instead it is given a shorter list when the client offers what we prefer. */
#ifndef TLS_OFFER_H
#define TLS_OFFER_H

#include <stddef.h>
#include <stdint.h>

enum { OFFER_PEEK = 512 }; /* the suites of any real client lie well within the first bytes */

enum offer { OFFER_MORE, OFFER_YES, OFFER_NO };
/* Does the connection that begins with these bytes offer `suite`? MORE: cannot be said yet, feed more. NO also for what is no ClientHello, cut into
 * small records, or has its suites beyond OFFER_PEEK: then the client's order counts. */
enum offer offer_has(const uint8_t *p, size_t n, uint16_t suite);

#endif
