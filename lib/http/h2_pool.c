/* h2_pool.c: which connection a request gets: the first with a free slot, else one that is dialled, one at a time. */
#include <beam/beam.h>
#include <stdlib.h>
#include <utlist.h>

#include "base/log.h"
#include "http/h1_upstream.h"
#include "http/h2_up.h"
#include "wire/ws.h"

/* A service that chose HTTP/1.1 is asked again after so long: it may have been restarted as another one. */
enum { ASK_AGAIN_MS = 60000 };
/* A service that takes no further connection is asked for one so often, while requests wait for a slot on those it has. */
enum { PAUSE_MS = 1000 };

static struct h2_up *find_slot(struct h2_pool *p) {
  struct h2_up *c;
  DL_FOREACH(p->ups, c) {
    if (h2_up_has_slot(c))
      return c;
  }
  return NULL;
}

/* Nobody is there. Whoever waits for a slot of a connection that lives goes on waiting. */
static void dial_failed(struct h2_pool *p, enum page page) {
  while (p->waiting && !p->ups)
    h2_req_fail(p->waiting, page);
  if (p->waiting && timer_start(&p->pause, PAUSE_MS))
    while (p->waiting)
      h2_req_fail(p->waiting, PAGE_OVERLOADED);
}

static void on_dial(void *user, struct stream *s, int err) {
  struct h2_pool *p = user;
  bool h2 = p->conf.dialer->h2;
  p->dial = NULL;
  if (err) {
    dial_failed(p, http_dial_page(err));
  } else if (h2) {
    if (h2_up_new(p, s))
      dial_failed(p, PAGE_OVERLOADED);
  } else {
    p->h1_until = loop_now(p->conf.loop) + ASK_AGAIN_MS;
    h1_pool_give(p->conf.h1, s);
    while (p->waiting)
      h2_req_to_h1(p->waiting);
  }
  h2_pool_kick(p);
}

static void dial(struct h2_pool *p) {
  struct http_dialer *d = p->conf.dialer;
  int err = d->dial(d, p->conf.prior ? HTTP_DIAL_2 : HTTP_DIAL_1 | HTTP_DIAL_2, on_dial, p, &p->dial);
  if (!err)
    return;
  p->dial = NULL;
  if (p->ups && !timer_start(&p->pause, PAUSE_MS))
    return;
  struct h2_req *r;
  DL_FOREACH(p->waiting, r) { /* off their peers' stacks */
    if (!r->failing)
      r->failing = http_dial_page(err);
    h2_req_soon(r);
  }
}

void h2_pool_kick(struct h2_pool *p) {
  struct h2_up *c;
  while (p->waiting && (c = find_slot(p))) {
    struct h2_req *r = p->waiting;
    int err = h2_up_begin(c, r);
    if (err && err != BEAM_ERR_LIMIT) {
      r->failing = err == BEAM_ERR_NOMEM ? PAGE_OVERLOADED : PAGE_INTERNAL;
      h2_req_soon(r);
      break;
    }
  }
  bool pauses = p->ups && timer_set(&p->pause);
  if (p->waiting && !p->dial && !pauses && p->ups_n < LIMIT_H2_UP_CONNS)
    dial(p);
}

static void on_kick(void *arg) {
  h2_pool_kick(arg);
}

/* WebSocket without a connection of its own, where the service said that it takes this. */
static bool connect_now(struct h2_req *r) {
  const struct http_field *to = http_field_find(&r->head, "upgrade");
  struct h2_up *c;
  r->connect = 0;
  const struct http_field *key = http_field_find(&r->head, "sec-websocket-key");
  if (!to || !span_ieq(to->value, SPAN("websocket")) || !key || key->value.n != WS_KEY_SIZE - 1)
    return false;
  DL_FOREACH(r->pool->ups, c) {
    if (!h2_up_has_slot(c) || !h2_up_connects(c))
      continue;
    r->connect = 1;
    if (!h2_up_begin(c, r))
      return true;
    r->connect = 0;
  }
  return false;
}

void h2_pool_wait(struct h2_req *r) {
  struct h2_pool *p = r->pool;
  if (r->asks && connect_now(r))
    return;
  if (p->conf.h1 && (r->asks || p->h1_until > loop_now(p->conf.loop))) {
    h2_req_to_h1(r);
    return;
  }
  h2_req_list(r, &p->waiting);
  if (!p->waiting->next) /* others wait already: their turn first */
    h2_pool_kick(p);
  else
    loop_soon(p->conf.loop, &p->kick);
}

int h2_pool_new(const struct h2_pool_conf *conf, struct h2_pool **out) {
  struct h2_pool *p = calloc(1, sizeof *p);
  if (!p)
    return BEAM_ERR_NOMEM;
  p->conf = *conf;
  task_init(&p->kick, on_kick, p);
  timer_init(&p->pause, conf->loop, on_kick, p);
  *out = p;
  return 0;
}

void h2_pool_free(struct h2_pool *p) {
  if (!p)
    return;
  if (p->dial)
    p->conf.dialer->cancel(p->conf.dialer, p->dial);
  while (p->apart)
    h2_req_fail(p->apart, PAGE_INTERNAL);
  while (p->waiting)
    h2_req_fail(p->waiting, PAGE_INTERNAL);
  while (p->ups) {
    while (p->ups->requests)
      h2_req_fail(p->ups->requests, PAGE_INTERNAL);
    h2_up_close(p->ups, BEAM_ERR_CLOSED);
  }
  task_cancel(&p->kick);
  timer_stop(&p->pause);
  free(p);
}
