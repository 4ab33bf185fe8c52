/* cache_store.h: between cache.c, which keeps, and cache_filter.c, which asks and gathers. Inside http/ only. */
#ifndef HTTP_CACHE_STORE_H
#define HTTP_CACHE_STORE_H

#include "base/hash.h"
#include "http/cache.h"
#include "http/cache_rules.h"

struct entry {
  unsigned refs;
  struct http_head head;
  char *body;
  size_t body_n;
  char *vary; /* the request's fields that it varies with */
  size_t vary_n;
  struct cache_terms terms;
  uint64_t made_ms;            /* when it was as old as terms.age_s */
  uint64_t charged;            /* bytes of the cache */
  bool asked;                  /* somebody asks the service for a newer one */
  struct place *place;         /* NULL: not in the store (any more) */
  struct entry *newer, *older; /* of the place */
  struct entry *prev, *next;   /* of all */
};

void entry_unref(struct entry *e);

struct cache_counts *cache_counts_of(struct cache *c);
void cache_key(const struct cache *c, const struct http_head *request, uint8_t out[HASH_BYTES]);
/* Borrowed: take a reference to keep it beyond the event. */
struct entry *cache_find(struct cache *c, const uint8_t key[HASH_BYTES], const struct http_head *request);
/* n bytes more, for which others go. False: there is no room for so much. */
bool cache_charge(struct cache *c, uint64_t n);
void cache_release(struct cache *c, uint64_t n);
/* e->charged is charged already, and belongs to the store from now on. False: no memory. */
bool cache_insert(struct cache *c, const uint8_t key[HASH_BYTES], const struct http_head *request,
                  struct entry *e);
void cache_drop(struct cache *c, struct entry *e); /* nothing when it is not in the store */
void cache_invalidate(struct cache *c, const uint8_t key[HASH_BYTES]);

#endif
