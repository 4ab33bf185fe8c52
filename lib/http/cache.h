/* cache.h: a shared HTTP cache in memory (RFC 9111) for what the service says is public; a filter beside it.
 *
 *   front ══ ... ══ [cache] ══ upstream        miss: passes, and is kept on its way        hit: the cache answers, the upstream is let go
 *                                              stale, allowed: the cache answers, and what the upstream says is kept
 */
#ifndef HTTP_CACHE_H
#define HTTP_CACHE_H

#include "http/exchange.h"
#include "io/loop.h"

struct cache;

int cache_new(uint64_t bytes, struct cache **out); /* NOMEM */
/* Kept by reference: by its owner, and by exchanges and answers under way. */
struct cache *cache_ref(struct cache *c);
void cache_unref(struct cache *c); /* NULL is accepted */

/* front is joined, its head not sent. `request` is the visitor's head, as it came: its address is what things are kept under. NOMEM (nothing changed). */
int cache_join(struct cache *c, struct loop *l, struct http_end *front, const struct http_head *request);

/* Forget what is kept of this path and what is under it ("/a": "/a", "/a?b", "/a/b"); NULL: everything. Returns how many. */
size_t cache_purge(struct cache *c, const char *path);

struct cache_counts {
  uint64_t hits, stale, misses, bypassed, revalidated,
      evicted;               /* stale: of the hits; revalidated: 304 brought them back */
  uint64_t bytes, responses; /* now */
};
void cache_count(const struct cache *c, struct cache_counts *out);

#endif
