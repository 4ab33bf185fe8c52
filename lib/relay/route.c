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
  unsigned worker; /* of the last change */
  uint64_t session, generation, since_ms;
  struct route_stats *stats;
  char owner[ROUTE_OWNER];
  bool grouped;
  uint8_t group[ROUTE_GROUP];
  struct route_record record;
  struct route_member members[LIMIT_LINKS_PER_NAME];
  unsigned members_n;
  unsigned turn; /* of this worker's choices */
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

struct route_load *route_load_new(void) {
  struct route_load *l = calloc(1, sizeof *l);
  if (l)
    atomic_store(&l->refs, 1);
  return l;
}

struct route_load *route_load_ref(struct route_load *l) {
  if (l)
    atomic_fetch_add(&l->refs, 1);
  return l;
}

void route_load_unref(struct route_load *l) {
  if (l && atomic_fetch_sub(&l->refs, 1) == 1)
    free(l);
}

static struct route_view view_of(const struct route *r) {
  return (struct route_view){.state = r->state,
                             .kind = r->kind,
                             .worker = r->worker,
                             .session = r->session,
                             .since_ms = r->since_ms,
                             .stats = r->stats,
                             .owner = r->owner,
                             .record = &r->record,
                             .members_n = r->members_n,
                             .members = r->members};
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

/* --- links of a route --- */

static void remove_member(struct route *r, unsigned i) {
  route_load_unref(r->members[i].load);
  r->members_n--;
  memmove(&r->members[i], &r->members[i + 1], (r->members_n - i) * sizeof r->members[0]);
}

static void lose(struct route *r, unsigned i, int how, uint64_t but, struct route_effect *did) {
  const struct route_member *m = &r->members[i];
  if (did && m->session != but) {
    did->lost[did->lost_n].worker = m->worker;
    did->lost[did->lost_n].session = m->session;
    did->lost[did->lost_n++].how = how;
  }
  remove_member(r, i);
}

static void lose_all(struct route *r, int how, uint64_t but, struct route_effect *did) {
  while (r->members_n)
    lose(r, r->members_n - 1, how, but, did);
}

static int member_by_lane(const struct route *r, unsigned lane) {
  for (unsigned i = 0; i < r->members_n; i++)
    if (r->members[i].lane == lane)
      return (int)i;
  return -1;
}

static int member_by_session(const struct route *r, uint64_t session) {
  for (unsigned i = 0; i < r->members_n; i++)
    if (r->members[i].session == session)
      return (int)i;
  return -1;
}

/* --- changes --- */

static bool may_join(const struct route *r, const struct route_change *c) {
  return r->state == ROUTE_LIVE && r->grouped && c->grouped && r->kind == c->kind &&
         !strcmp(r->owner, c->owner) && !memcmp(r->group, c->group, ROUTE_GROUP);
}

static void go_live(struct route *r, struct route_change *c, uint64_t now_ms, struct route_effect *did) {
  bool joins = may_join(r, c);
  int old = joins ? member_by_lane(r, c->lane) : -1;
  did->joined = joins;
  if (!joins) {
    lose_all(r, ROUTE_SUPERSEDED, c->session, did);
    r->since_ms = now_ms;
    r->record = c->record;
    r->grouped = c->grouped;
    memcpy(r->group, c->group, sizeof r->group);
    str_copy(r->owner, sizeof r->owner, c->owner);
  } else if (old >= 0) {
    lose(r, (unsigned)old, ROUTE_REPLACED, c->session, did);
  }
  if (r->members_n == LIMIT_LINKS_PER_NAME) /* more lanes than there are numbers: session.c refuses those */
    lose(r, 0, ROUTE_REPLACED, c->session, did);
  r->members[r->members_n++] = (struct route_member){c->worker, c->lane, c->session, c->load};
  c->load = NULL;
  r->state = ROUTE_LIVE;
}

static void leave(struct route *r, const struct route_change *c, unsigned i, uint64_t now_ms,
                  struct route_effect *did) {
  lose(r, i, ROUTE_ENDED, c->session, did);
  if (c->state == ROUTE_GONE)
    lose_all(r, ROUTE_ENDED, c->session, did);
  if (r->members_n)
    return;
  r->state = c->state;
  r->since_ms = now_ms;
}

bool route_apply(struct route_table *t, struct route_change *c, uint64_t now_ms, struct route_effect *did) {
  struct route_effect unused;
  struct route *r;
  did = did ? did : &unused;
  memset(did, 0, sizeof *did);
  HASH_FIND_STR(t->by_name, c->name, r);
  did->was = r != NULL;
  did->was_live = r && r->state == ROUTE_LIVE;
  bool stale = r && c->generation <= r->generation, live = c->state == ROUTE_LIVE;
  int own = r && !live ? member_by_session(r, c->session) : -1;
  if (stale || (!live && own < 0) || (!r && !(r = add(t, c->name)))) {
    route_stats_unref(c->stats);
    route_load_unref(c->load);
    return false;
  }
  if (c->stats) {
    route_stats_unref(r->stats);
    r->stats = c->stats;
  }
  if (live)
    go_live(r, c, now_ms, did);
  else
    leave(r, c, (unsigned)own, now_ms, did);
  route_load_unref(c->load);
  r->kind = c->kind;
  r->worker = c->worker;
  r->session = c->session;
  r->generation = c->generation;
  return true;
}

/* --- the choice --- */

/* Less than this is a small request's, and says nothing about the next moment. */
enum { LOAD_STEP = 16 * 1024 };

/* Is a better than b? */
static int compare(const struct route_member *a, const struct route_member *b, unsigned here) {
  uint64_t x = a->load ? atomic_load(&a->load->bytes) / LOAD_STEP : 0;
  uint64_t y = b->load ? atomic_load(&b->load->bytes) / LOAD_STEP : 0;
  if (x != y)
    return x < y ? 1 : -1;
  unsigned s = a->load ? atomic_load(&a->load->streams) : 0;
  unsigned u = b->load ? atomic_load(&b->load->streams) : 0;
  if (s != u)
    return s < u ? 1 : -1;
  return (a->worker == here) - (b->worker == here);
}

int route_choose(struct route_table *t, const char *name, unsigned here, bool only_here, unsigned tried) {
  struct route *r;
  HASH_FIND_STR(t->by_name, name, r);
  if (!r || r->state != ROUTE_LIVE)
    return -1;
  int best = -1;
  unsigned first = r->turn++ % r->members_n;
  for (unsigned k = 0; k < r->members_n; k++) {
    unsigned i = (first + k) % r->members_n;
    const struct route_member *m = &r->members[i];
    if (tried & 1u << i || (only_here && m->worker != here) || (m->load && atomic_load(&m->load->draining)))
      continue;
    if (best < 0 || compare(m, &r->members[best], here) > 0)
      best = (int)i;
  }
  return best;
}

bool route_has_worker(const struct route_view *v, unsigned worker) {
  for (unsigned i = 0; i < v->members_n; i++)
    if (v->members[i].worker == worker)
      return true;
  return false;
}

static void drop(struct route_table *t, struct route *r) {
  HASH_DEL(t->by_name, r);
  route_stats_unref(r->stats);
  lose_all(r, ROUTE_ENDED, 0, NULL);
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
