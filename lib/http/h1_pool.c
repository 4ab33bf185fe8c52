#include "http/h1_pool.h"

#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

/* --- idle connections --- */

static void unlink_conn(struct conn *c) {
  if (!c->link)
    return;
  *c->link = c->next;
  if (c->next)
    c->next->link = c->link;
  c->link = NULL;
  c->pool->idle_n--;
}

int conn_new(struct h1_pool *p, struct stream *s, struct conn **out) {
  struct conn *c = calloc(1, sizeof *c);
  if (!c || h1_out_init(&c->out, s)) {
    free(c);
    stream_close(s, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  c->pool = p;
  c->s = s;
  *out = c;
  return 0;
}

void conn_close(struct conn *c, int reason) {
  if (!c)
    return;
  unlink_conn(c);
  h1_out_fini(&c->out);
  stream_close(c->s, reason);
  free(c);
}

/* An idle connection has nothing to say: whatever it says, bytes or end, it is of no more use. */
static void idle_readable(void *user) {
  conn_close(user, 0);
}

static void idle_closed(void *user, int reason) {
  conn_close(user, reason);
}

static const struct stream_events idle_events = {idle_readable, NULL, idle_closed};

struct conn *pool_take(struct h1_pool *p) {
  for (struct conn *c; (c = p->idle);) {
    if (!stream_waiting(c->s) && !c->s->in_ended && !stream_dead(c->s) && c->until > loop_now(p->conf.loop)) {
      unlink_conn(c);
      c->reused = true;
      return c;
    }
    conn_close(c, 0);
  }
  return NULL;
}

void pool_keep(struct conn *c, uint64_t ms) {
  struct h1_pool *p = c->pool;
  if (!ms || p->idle_n >= LIMIT_UPSTREAM_IDLE || stream_waiting(c->s) || c->s->in_ended ||
      stream_dead(c->s) || (!timer_set(&p->sweep) && timer_start(&p->sweep, LIMIT_UPSTREAM_IDLE_MS / 4))) {
    conn_close(c, 0);
    return;
  }
  c->until = loop_now(p->conf.loop) + ms;
  c->next = p->idle;
  c->link = &p->idle;
  if (c->next)
    c->next->link = &c->next;
  p->idle = c;
  p->idle_n++;
  stream_own(c->s, &idle_events, c);
}

static void on_sweep(void *arg) {
  struct h1_pool *p = arg;
  uint64_t now = loop_now(p->conf.loop);
  for (struct conn *c = p->idle, *next; c; c = next) {
    next = c->next;
    if (c->until <= now)
      conn_close(c, 0);
  }
  if (p->idle && timer_start(&p->sweep, LIMIT_UPSTREAM_IDLE_MS / 4))
    while (p->idle)
      conn_close(p->idle, 0);
}

/* --- life --- */

int h1_pool_new(const struct h1_pool_conf *conf, struct h1_pool **out) {
  struct h1_pool *p = calloc(1, sizeof *p);
  if (!p)
    return BEAM_ERR_NOMEM;
  p->conf = *conf;
  p->conf.host = str_dup(conf->host);
  http_dialer_net_init(&p->plain, conf->net, conf->loop, p->conf.host, conf->port);
  if (!p->conf.dialer)
    p->conf.dialer = &p->plain.d;
  p->scratch = evbuffer_new();
  timer_init(&p->sweep, conf->loop, on_sweep, p);
  gate_init(&p->gate, conf->loop);
  if (!p->conf.host || !p->scratch) {
    h1_pool_free(p);
    return BEAM_ERR_NOMEM;
  }
  *out = p;
  return 0;
}

void h1_pool_give(struct h1_pool *p, struct stream *s) {
  struct conn *c;
  if (!conn_new(p, s, &c))
    pool_keep(c, LIMIT_UPSTREAM_IDLE_MS);
}

void h1_pool_free(struct h1_pool *p) {
  if (!p)
    return;
  while (p->requests)
    request_fail(p->requests, PAGE_INTERNAL);
  while (p->idle)
    conn_close(p->idle, 0);
  timer_stop(&p->sweep);
  gate_fini(&p->gate);
  if (p->scratch)
    evbuffer_free(p->scratch);
  free((char *)p->conf.host);
  free(p);
}
