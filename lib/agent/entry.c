#include "agent/entry.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/limits.h"
#include "base/log.h"
#include "http/pages.h"
#include "io/pipe.h"

enum {
  FIRST_ID = 1000, /* below are the numbers of BINDs */
  GATHER_MS = 20,  /* connections of one moment are asked for together: messages have a rate */
  WAIT_MS = 15000, /* an outage of seconds is bridged, then a refusal is the better answer */
  WAITING_MAX = 512,
};

struct caller {
  struct caller *prev, *next;
  struct entry *e;
  struct stream *s;  /* until it is piped */
  struct pipe *pipe; /* then */
  struct loop_timer timer;
  bool piped;
  uint32_t id, batch; /* 0: not asked for yet */
  uint64_t started;
};

struct entry {
  struct entry_conf conf;
  struct listener *listeners[2];
  struct caller *callers;
  unsigned waiting;
  struct loop_timer gather;
  uint32_t next_id;
};

static void caller_free(struct caller *c) {
  c->e->waiting -= !c->piped;
  DL_DELETE(c->e->callers, c);
  timer_stop(&c->timer);
  free(c);
}

static void tell(struct caller *c, int reason, uint64_t in, uint64_t out) {
  struct entry *e = c->e;
  struct http_record r = {.method = SPAN("TCP"),
                          .started_ms = c->started,
                          .total_ms = loop_now(e->conf.loop) - c->started,
                          .body_in = in,
                          .body_out = out,
                          .failed = !reason    ? PAGE_NONE
                                    : c->piped ? PAGE_TRUNCATED
                                               : PAGE_NO_LINK};
  e->conf.finished(e->conf.user, &r);
}

static void caller_end(struct caller *c, int reason) {
  struct stream *s = c->s;
  c->s = NULL;
  if (c->pipe)
    pipe_abort(c->pipe, reason);
  else
    tell(c, reason, 0, 0);
  caller_free(c);
  stream_close(s, reason);
}

static void on_done(void *user, const struct pipe_result *r) {
  struct caller *c = user;
  tell(c, r->reason, r->a_to_b, r->b_to_a);
  caller_free(c);
}

static void on_late(void *arg) {
  caller_end(arg, BEAM_ERR_TIMEOUT);
}

/* --- asking --- */

static void gather_soon(struct entry *e) {
  if (!timer_set(&e->gather) && timer_start(&e->gather, GATHER_MS))
    log_limited(BEAM_LOG_ERROR, "entry", "out of memory");
}

static void on_gather(void *arg) {
  struct entry *e = arg;
  struct caller *c;
  uint32_t first = e->next_id, n = 0;
  DL_FOREACH(e->callers, c) {
    if (c->piped || c->batch || n == LIMIT_CONNECTS)
      continue;
    c->batch = first;
    c->id = first + n++;
  }
  if (!n)
    return;
  e->next_id = first + n < first ? FIRST_ID : first + n;
  if (!e->conf.ask(e->conf.user, first, n)) {
    gather_soon(e); /* there may be more of them */
    return;
  }
  DL_FOREACH(e->callers, c) { /* entry_link() comes back to them */
    if (c->batch == first)
      c->batch = c->id = 0;
  }
}

void entry_link(struct entry *e) {
  struct caller *c;
  DL_FOREACH(e->callers, c) {
    c->batch = c->id = 0;
  }
  gather_soon(e);
}

void entry_refused(struct entry *e, uint32_t id, int reason) {
  struct caller *c, *next;
  DL_FOREACH_SAFE(e->callers, c, next) {
    if (!c->piped && c->batch == id && id)
      caller_end(c, reason);
  }
}

void entry_serve(struct entry *e, struct stream *s, const beam_StreamOpen *open) {
  struct caller *c;
  DL_FOREACH(e->callers, c) {
    if (!c->piped && c->id && c->id == open->connect)
      break;
  }
  if (!c) {
    stream_close(s, BEAM_ERR_REFUSED); /* it gave up, or the relay asks for what nobody wanted */
    return;
  }
  struct stream *from = c->s;
  timer_stop(&c->timer);
  c->s = NULL;
  c->piped = true;
  e->waiting--;
  if (pipe_start(from, s, on_done, c, &c->pipe))
    caller_free(c);
}

/* --- the port --- */

static void on_readable(void *user) {
  (void)user; /* waits in the stream for the other end */
}
static void on_closed(void *user, int reason) {
  caller_end(user, reason);
}
static const struct stream_events events = {on_readable, NULL, on_closed};

static void on_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  (void)peer;
  struct entry *e = user;
  struct caller *c = e->waiting < WAITING_MAX ? calloc(1, sizeof *c) : NULL;
  if (!c) {
    log_limited(BEAM_LOG_WARN, "entry", "too many connections wait: refused");
    stream_close(s, BEAM_ERR_LIMIT);
    return;
  }
  c->e = e;
  c->s = s;
  c->started = loop_now(e->conf.loop);
  e->waiting++;
  DL_APPEND(e->callers, c);
  stream_own(s, &events, c);
  timer_init(&c->timer, e->conf.loop, on_late, c);
  if (timer_start(&c->timer, WAIT_MS))
    caller_end(c, BEAM_ERR_NOMEM);
  else
    gather_soon(e);
}

/* A machine without IPv6 has its one address. */
int entry_open(const struct entry_conf *conf, struct entry **out) {
  struct entry *e = calloc(1, sizeof *e);
  if (!e)
    return BEAM_ERR_NOMEM;
  e->conf = *conf;
  e->next_id = FIRST_ID;
  timer_init(&e->gather, conf->loop, on_gather, e);
  bool both = !strcmp(conf->host, "localhost");
  e->conf.host = NULL;
  int err = net_listen(conf->net, conf->loop, both ? "127.0.0.1" : conf->host, conf->port, NULL, on_accept, e,
                       &e->listeners[0]);
  if (!err && both &&
      net_listen(conf->net, conf->loop, "::1", conf->port, NULL, on_accept, e, &e->listeners[1]))
    log_debug("entry", "not on ::1");
  if (err) {
    entry_close(e);
    return err;
  }
  *out = e;
  return 0;
}

void entry_close(struct entry *e) {
  if (!e)
    return;
  timer_stop(&e->gather);
  for (int i = 0; i < 2; i++)
    if (e->listeners[i])
      net_listener_close(e->conf.net, e->listeners[i]);
  struct caller *c, *next;
  DL_FOREACH_SAFE(e->callers, c, next) {
    struct stream *s = c->s;
    if (c->pipe)
      pipe_abort(c->pipe, BEAM_ERR_CLOSED);
    caller_free(c);
    stream_close(s, BEAM_ERR_CLOSED);
  }
  free(e);
}
