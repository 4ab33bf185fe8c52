#include "relay/route.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uthash.h>

#include "base/str.h"

struct route {
  char name[ROUTE_NAME];
  enum route_state state;
  enum route_kind kind;
  unsigned worker;
  uint64_t session, generation, since_ms;
  struct route_stats *stats;
  char owner[ROUTE_OWNER];
  UT_hash_handle hh;
};

struct route_stats *route_stats_new(void) {
  struct route_stats *s = calloc(1, sizeof *s);
  if (!s)
    return NULL;
  atomic_store(&s->refs, 1);
  s->created_at = (uint64_t)time(NULL);
  return s;
}

struct route_stats *route_stats_ref(struct route_stats *s) {
  if (s)
    atomic_fetch_add(&s->refs, 1);
  return s;
}

void route_stats_unref(struct route_stats *s) {
  if (s && atomic_fetch_sub(&s->refs, 1) == 1)
    free(s);
}

static struct route_view view_of(const struct route *r) {
  return (struct route_view){r->state, r->kind, r->worker, r->session, r->since_ms, r->stats, r->owner};
}

bool route_find(struct route_table *t, const char *name, struct route_view *out) {
  struct route *r;
  HASH_FIND_STR(t->by_name, name, r);
  if (r)
    *out = view_of(r);
  return r != NULL;
}

static struct route *add(struct route_table *t, const char *name) {
  struct route *r = calloc(1, sizeof *r);
  if (!r)
    return NULL;
  str_copy(r->name, sizeof r->name, name);
  HASH_ADD_STR(t->by_name, name, r);
  return r;
}

bool route_apply(struct route_table *t, struct route_change *c, uint64_t now_ms, bool *was,
                 struct route_view *before) {
  struct route *r;
  HASH_FIND_STR(t->by_name, c->name, r);
  if (was)
    *was = r != NULL;
  if (r && before) {
    *before = view_of(r);
    before->stats = NULL;
    before->owner = NULL;
  }
  bool stale = r && c->generation <= r->generation;
  bool foreign = c->state != ROUTE_LIVE && (!r || r->session != c->session);
  if (stale || foreign || (!r && !(r = add(t, c->name)))) {
    route_stats_unref(c->stats);
    return false;
  }
  if (c->stats) {
    route_stats_unref(r->stats);
    r->stats = c->stats;
  }
  r->state = c->state;
  r->kind = c->kind;
  r->worker = c->worker;
  r->session = c->session;
  r->generation = c->generation;
  r->since_ms = now_ms;
  if (c->state == ROUTE_LIVE)
    str_copy(r->owner, sizeof r->owner, c->owner);
  return true;
}

static void drop(struct route_table *t, struct route *r) {
  HASH_DEL(t->by_name, r);
  route_stats_unref(r->stats);
  free(r);
}

void route_sweep(struct route_table *t, uint64_t now_ms, uint64_t max_age_ms, unsigned most,
                 route_forgotten cb, void *user) {
  struct route *r, *next;
  unsigned n = 0;
  HASH_ITER(hh, t->by_name, r, next) {
    n += r->state != ROUTE_LIVE;
  }
  if (n > most)
    max_age_ms = max_age_ms * most / n;
  HASH_ITER(hh, t->by_name, r, next) {
    if (r->state == ROUTE_LIVE || now_ms - r->since_ms < max_age_ms)
      continue;
    if (cb)
      cb(user, r->name, r->worker);
    drop(t, r);
  }
}

void route_each(struct route_table *t, void (*cb)(void *user, const char *name, const struct route_view *v),
                void *user) {
  struct route *r, *next;
  HASH_ITER(hh, t->by_name, r, next) {
    struct route_view v = view_of(r);
    cb(user, r->name, &v);
  }
}

void route_clear(struct route_table *t) {
  struct route *r, *next;
  HASH_ITER(hh, t->by_name, r, next) {
    drop(t, r);
  }
}
