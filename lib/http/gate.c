#include "http/gate.h"

#include <utlist.h>

#include "base/limits.h"

static void let_in(struct gate *g, struct gate_pass *p) {
  p->place = GATE_INSIDE;
  p->since = loop_now(g->timer.loop);
  DL_APPEND(g->inside, p);
  g->inside_n++;
}

static void let_out(struct gate *g, struct gate_pass *p) {
  p->place = GATE_OUT;
  DL_DELETE(g->inside, p);
  g->inside_n--;
}

static void next_in(struct gate *g) {
  struct gate_pass *p = g->waiting;
  DL_DELETE(g->waiting, p);
  let_in(g, p);
  loop_soon(g->timer.loop, p->step);
}

/* Until the first of those inside has been there long enough. Without memory for a timer nobody waits. */
static bool watch(struct gate *g) {
  if (!g->inside)
    return false;
  uint64_t been = loop_now(g->timer.loop) - g->inside->since;
  uint64_t left = been < LIMIT_UPSTREAM_BURST_MS ? LIMIT_UPSTREAM_BURST_MS - been : 0;
  return timer_set(&g->timer) || !timer_start(&g->timer, left);
}

static void move_up(struct gate *g) {
  while (g->waiting && (g->inside_n < LIMIT_UPSTREAM_BURST || !watch(g)))
    next_in(g);
  if (!g->waiting)
    timer_stop(&g->timer);
}

static void on_timer(void *arg) {
  struct gate *g = arg;
  uint64_t now = loop_now(g->timer.loop);
  while (g->inside && now - g->inside->since >= LIMIT_UPSTREAM_BURST_MS)
    let_out(g, g->inside);
  move_up(g);
}

void gate_init(struct gate *g, struct loop *l) {
  *g = (struct gate){0};
  timer_init(&g->timer, l, on_timer, g);
}

void gate_fini(struct gate *g) {
  timer_stop(&g->timer);
}

bool gate_enter(struct gate *g, struct gate_pass *p, struct loop_task *step) {
  p->step = step;
  if (g->inside_n < LIMIT_UPSTREAM_BURST || !watch(g)) {
    let_in(g, p);
    return true;
  }
  p->place = GATE_WAITING;
  DL_APPEND(g->waiting, p);
  return false;
}

void gate_leave(struct gate *g, struct gate_pass *p) {
  if (p->place == GATE_WAITING)
    DL_DELETE(g->waiting, p);
  else if (p->place == GATE_INSIDE)
    let_out(g, p);
  p->place = GATE_OUT;
  move_up(g);
}
