#include "agent/race.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"

enum {
  NEXT_MS = 300, /* a round trip around the world, and some: QUIC that gets through has answered */
  WS_MS = 1000,  /* costs two handshakes: only when the others seem not to get through */
};

enum state { ABSENT, WAITS, RUNS, FAILED };

struct lap {
  struct race *race;
  enum uplink_transport transport;
  enum state state;
  struct uplink *up;
  struct loop_timer timer; /* until it starts */
  uint64_t since;
  int err;
  struct beam_error why;
};

struct race {
  struct race_conf conf;
  race_cb cb;
  void *user;
  struct lap laps[UPLINK_TRANSPORTS]; /* by rank */
  enum uplink_transport order[UPLINK_TRANSPORTS];
  unsigned n; /* of order */
};

const struct race_runner race_uplinks = {uplink_start, uplink_cancel};

static void run(struct lap *p);

static void release(struct race *r) {
  for (unsigned i = 0; i < UPLINK_TRANSPORTS; i++) {
    timer_stop(&r->laps[i].timer);
    if (r->laps[i].up)
      r->conf.runner->cancel(r->laps[i].up);
  }
  free(r);
}

void race_cancel(struct race *r) {
  if (r)
    release(r);
}

/* --- the outcome --- */

static void describe(const struct lap *p, char *out, size_t cap) {
  uint64_t ms = loop_now(p->race->conf.uplink.loop) - p->since;
  if (p->state == FAILED)
    str_fmt(out, cap, "%s: %s", uplink_name(p->transport), p->why.what);
  else if (p->state == RUNS)
    str_fmt(out, cap, "%s: no answer in %llu ms", uplink_name(p->transport), (unsigned long long)ms);
  else
    str_fmt(out, cap, "%s: another one was faster", uplink_name(p->transport));
}

static void reasons(struct race *r, enum uplink_transport upto, char out[RACE_REASON]) {
  char one[RACE_REASON];
  size_t n = 0;
  out[0] = 0;
  for (unsigned i = 0; i < upto; i++) {
    if (r->laps[i].state == ABSENT)
      continue;
    describe(&r->laps[i], one, sizeof one);
    str_fmt(out + n, RACE_REASON - n, "%s%s", n ? "; " : "", one);
    n = strlen(out);
  }
}

static void finish(struct race *r, struct lap *p, const struct uplink_result *up) {
  struct race_result out = {.uplink = *up, .transport = p->transport};
  race_cb cb = r->cb;
  void *user = r->user;
  reasons(r, up->err ? UPLINK_TRANSPORTS : p->transport, out.reason);
  release(r);
  cb(user, &out);
}

/* Somebody else's certificate says more than silence; else the one that was started first speaks for all, but WebSocket, which is the most roundabout. */
static struct lap *spokesman(struct race *r) {
  struct lap *best = &r->laps[r->order[0]];
  for (unsigned i = 0; i < r->n; i++) {
    struct lap *p = &r->laps[r->order[i]];
    if (p->err == BEAM_ERR_UNTRUSTED)
      return p;
    if (best->transport == UPLINK_WS || (best->err == BEAM_ERR_TIMEOUT && p->transport == UPLINK_H2))
      best = p;
  }
  return best;
}

static bool is_over(struct race *r) {
  for (unsigned i = 0; i < r->n; i++)
    if (r->laps[r->order[i]].state != FAILED)
      return false;
  return true;
}

/* --- laps --- */

static void failed(struct lap *p, const struct uplink_result *up) {
  struct race *r = p->race;
  bool idle = true;
  struct lap *next = NULL;
  p->state = FAILED;
  p->err = up->err;
  p->why = up->why;
  log_debug("agent", "no link transport=%s what=\"%s\"", uplink_name(p->transport), up->why.what);
  if (up->said || is_over(r)) {
    struct lap *who = up->said ? p : spokesman(r);
    struct uplink_result out = *up;
    out.err = who->err;
    out.why = who->why;
    finish(r, who, &out);
    return;
  }
  for (unsigned i = r->n; i-- > 0;) {
    struct lap *q = &r->laps[r->order[i]];
    idle = idle && q->state != RUNS;
    next = q->state == WAITS ? q : next;
  }
  if (idle && next)
    run(next);
}

static void on_uplink(void *user, const struct uplink_result *up) {
  struct lap *p = user;
  p->up = NULL;
  if (up->err)
    failed(p, up);
  else
    finish(p->race, p, up);
}

static void run(struct lap *p) {
  struct race *r = p->race;
  timer_stop(&p->timer);
  p->state = RUNS;
  p->since = loop_now(r->conf.uplink.loop);
  struct uplink_conf c = r->conf.uplink;
  c.transport = p->transport;
  int err = r->conf.runner->start(&c, on_uplink, p, &p->up);
  if (!err)
    return;
  struct uplink_result up = {.err = err, .why = BEAM_ERROR_INIT};
  err_set(&up.why, err, NULL, "cannot dial the relay: %s", beam_strerror(err));
  failed(p, &up);
}

static void on_time(void *arg) {
  run(arg);
}

/* --- the start --- */

/* The order, and when each starts; the first by a timer too, so that no outcome comes from inside race_start. */
static int set_up(struct race *r) {
  uint64_t at = 0;
  unsigned left = r->conf.allowed;
  if (left & 1u << r->conf.first)
    r->order[r->n++] = r->conf.first;
  for (unsigned t = 0; t < UPLINK_TRANSPORTS; t++)
    if (left & 1u << t && !(r->n && r->order[0] == t))
      r->order[r->n++] = (enum uplink_transport)t;
  for (unsigned i = 0; i < r->n; i++) {
    struct lap *p = &r->laps[r->order[i]];
    bool ws = p->transport == UPLINK_WS;
    p->state = WAITS;
    if (i && !ws)
      at += NEXT_MS;
    int err = timer_start(&p->timer, i && ws ? WS_MS : at);
    if (err)
      return err;
  }
  return 0;
}

int race_start(const struct race_conf *conf, race_cb cb, void *user, struct race **out) {
  struct race *r = calloc(1, sizeof *r);
  if (!r)
    return BEAM_ERR_NOMEM;
  r->conf = *conf;
  r->cb = cb;
  r->user = user;
  for (unsigned t = 0; t < UPLINK_TRANSPORTS; t++) {
    struct lap *p = &r->laps[t];
    p->race = r;
    p->transport = (enum uplink_transport)t;
    p->why = (struct beam_error)BEAM_ERROR_INIT;
    timer_init(&p->timer, conf->uplink.loop, on_time, p);
  }
  int err = set_up(r);
  if (!err && !r->n)
    err = BEAM_ERR_UNSUPPORTED;
  if (err) {
    release(r);
    return err;
  }
  *out = r;
  return 0;
}
