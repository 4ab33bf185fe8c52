/* cache.c: what is kept.
 *
 *   places (hash by address) ──► entries of it (variants by Vary)        all entries, least recently used first, for making room
 *
 * An entry out of the store lives on while somebody answers from it. Bytes are charged while they are in the store or being gathered.
 */
#include "http/cache.h"

#include <stdlib.h>
#include <string.h>
#define HASH_NONFATAL_OOM 1 /* an add that failed leaves hh.tbl NULL */
#include <uthash.h>
#include <utlist.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/random.h"
#include "base/str.h"
#include "http/cache_store.h"

struct place {
  uint8_t key[HASH_BYTES]; /* of the address, salted: so that nobody chooses ones which fall together */
  struct entry *entries;   /* newest first */
  char *path;              /* for purging */
  UT_hash_handle hh;
};

struct cache {
  unsigned refs;
  uint64_t most;
  uint8_t salt[16];
  struct place *places;
  struct entry *used; /* least recently first */
  struct cache_counts counts;
};

int cache_new(uint64_t bytes, struct cache **out) {
  *out = calloc(1, sizeof **out);
  if (!*out)
    return BEAM_ERR_NOMEM;
  (*out)->refs = 1;
  (*out)->most = bytes;
  random_bytes((*out)->salt, sizeof(*out)->salt);
  return 0;
}

struct cache *cache_ref(struct cache *c) {
  c->refs++;
  return c;
}

struct cache_counts *cache_counts_of(struct cache *c) {
  return &c->counts;
}

void cache_count(const struct cache *c, struct cache_counts *out) {
  *out = c->counts;
}

/* --- entries --- */

void entry_unref(struct entry *e) {
  if (!e || --e->refs)
    return;
  http_head_free(&e->head);
  free(e->vary);
  free(e->body);
  free(e);
}

static void place_free(struct cache *c, struct place *p) {
  HASH_DEL(c->places, p);
  free(p->path);
  free(p);
}

void cache_drop(struct cache *c, struct entry *e) {
  struct place *p = e->place;
  if (!p)
    return;
  DL_DELETE2(p->entries, e, newer, older);
  DL_DELETE2(c->used, e, prev, next);
  c->counts.bytes -= e->charged;
  c->counts.responses--;
  e->place = NULL;
  if (!p->entries)
    place_free(c, p);
  entry_unref(e);
}

void cache_unref(struct cache *c) {
  if (!c || --c->refs)
    return;
  while (c->used)
    cache_drop(c, c->used);
  free(c);
}

bool cache_charge(struct cache *c, uint64_t n) {
  uint64_t most = c->most / 8 < LIMIT_CACHE_OBJECT ? c->most / 8 : LIMIT_CACHE_OBJECT;
  if (n > most)
    return false;
  while (c->counts.bytes + n > c->most && c->used) {
    c->counts.evicted++;
    cache_drop(c, c->used);
  }
  if (c->counts.bytes + n > c->most)
    return false;
  c->counts.bytes += n;
  return true;
}

void cache_release(struct cache *c, uint64_t n) {
  c->counts.bytes -= n;
}

/* --- looking --- */

void cache_key(const struct cache *c, const struct http_head *request, uint8_t out[HASH_BYTES]) {
  struct hash h;
  hash_begin(&h);
  hash_add(&h, c->salt, sizeof c->salt);
  hash_field(&h, request->scheme.p, request->scheme.n);
  hash_field(&h, request->authority.p, request->authority.n);
  hash_field(&h, request->target.p, request->target.n);
  hash_end(&h, out);
}

/* The request's values of the fields that Vary of the response names, as one text. NULL: too many, or no memory. */
static char *vary_text(const struct http_head *request, const struct http_head *response, size_t *n) {
  enum { MOST = 8192 };
  char text[MOST];
  *n = 0;
  for (size_t i = 0; i < response->fields_n; i++) {
    struct span list = response->fields[i].value;
    if (!span_ieq(response->fields[i].name, SPAN("vary")))
      continue;
    while (list.n) {
      const char *comma = memchr(list.p, ',', list.n);
      struct span name = {list.p, comma ? (size_t)(comma - list.p) : list.n};
      list = (struct span){list.p + name.n + (comma != NULL), list.n - name.n - (comma != NULL)};
      while (name.n && *name.p == ' ')
        name.p++, name.n--;
      while (name.n && name.p[name.n - 1] == ' ')
        name.n--;
      if (name.n && !cache_joined(request, name, text, sizeof text, n))
        return NULL;
    }
  }
  char *copy = malloc(*n + 1);
  if (copy)
    memcpy(copy, text, *n);
  return copy;
}

static bool varies_so(const struct entry *e, const struct http_head *request) {
  size_t n;
  char *text = vary_text(request, &e->head, &n);
  bool yes = text && n == e->vary_n && !memcmp(text, e->vary, n);
  free(text);
  return yes;
}

struct entry *cache_find(struct cache *c, const uint8_t key[HASH_BYTES], const struct http_head *request) {
  struct place *p;
  struct entry *e;
  HASH_FIND(hh, c->places, key, HASH_BYTES, p);
  if (!p)
    return NULL;
  DL_FOREACH2(p->entries, e, older) {
    if (!varies_so(e, request))
      continue;
    DL_DELETE2(c->used, e, prev, next);
    DL_APPEND2(c->used, e, prev, next);
    return e;
  }
  return NULL;
}

/* --- keeping --- */

static struct place *place_of(struct cache *c, const uint8_t key[HASH_BYTES], struct span target) {
  struct place *p;
  HASH_FIND(hh, c->places, key, HASH_BYTES, p);
  if (p)
    return p;
  if (!(p = calloc(1, sizeof *p)))
    return NULL;
  memcpy(p->key, key, HASH_BYTES);
  p->path = span_dup(target);
  if (p->path)
    HASH_ADD(hh, c->places, key, HASH_BYTES, p);
  if (p->path && p->hh.tbl)
    return p;
  free(p->path);
  free(p);
  return NULL;
}

static void make_way(struct cache *c, struct place *p, struct entry *e, const struct http_head *request) {
  struct entry *o, *next, *last = NULL;
  unsigned n = 0;
  DL_FOREACH_SAFE2(p->entries, o, next, older) {
    if (o == e)
      continue;
    if (varies_so(o, request)) {
      cache_drop(c, o);
      continue;
    }
    last = o;
    n++;
  }
  if (n >= LIMIT_CACHE_VARIANTS)
    cache_drop(c, last);
}

bool cache_insert(struct cache *c, const uint8_t key[HASH_BYTES], const struct http_head *request,
                  struct entry *e) {
  e->vary = vary_text(request, &e->head, &e->vary_n);
  struct place *p = e->vary ? place_of(c, key, request->target) : NULL;
  if (!p)
    return false;
  e->refs++;
  e->place = p;
  DL_PREPEND2(p->entries, e, newer, older);
  DL_APPEND2(c->used, e, prev, next);
  c->counts.responses++;
  make_way(c, p, e, request); /* e is in it: the place stays */
  return true;
}

void cache_invalidate(struct cache *c, const uint8_t key[HASH_BYTES]) {
  struct place *p;
  HASH_FIND(hh, c->places, key, HASH_BYTES, p);
  for (struct entry *e = p ? p->entries : NULL, *next; e; e = next) {
    next = e->older;
    cache_drop(c, e);
  }
}

static bool is_under(const char *target, const char *path) {
  size_t n = strlen(path);
  return !strncmp(target, path, n) &&
         (!target[n] || target[n] == '?' || target[n] == '/' || (n && path[n - 1] == '/'));
}

size_t cache_purge(struct cache *c, const char *path) {
  size_t n = 0;
  struct entry *e = c->used, *next;
  for (; e; e = next) {
    next = e->next;
    if (path && !is_under(e->place->path, path))
      continue;
    cache_drop(c, e);
    n++;
  }
  return n;
}
