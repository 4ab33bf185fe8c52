#include <stdlib.h>

#include "link/local.h"

enum { CONTROLS_MAX = 256 };

void queue_init(struct queue *q) {
  q->first = NULL;
  q->tail = &q->first;
}

void queue_push(struct queue *q, struct msg *m) {
  m->next = NULL;
  *q->tail = m;
  q->tail = &m->next;
}

static void queue_append(struct queue *q, struct queue *more) {
  if (!more->first)
    return;
  *q->tail = more->first;
  q->tail = more->tail;
  queue_init(more);
}

void msg_free(struct msg *m) {
  if (m->data)
    evbuffer_free(m->data);
  free(m->control);
  free(m);
}

void queue_free(struct queue *q) {
  for (struct msg *m = q->first, *next; m; m = next) {
    next = m->next;
    msg_free(m);
  }
  queue_init(q);
}

struct bridge *bridge_new(struct loop *a, struct loop *b, void (*deliver)(struct bridge *b, int me)) {
  struct bridge *g = calloc(1, sizeof *g);
  if (!g)
    return NULL;
  pthread_mutex_init(&g->lock, NULL);
  atomic_init(&g->refs, 1);
  queue_init(&g->box[0].q);
  queue_init(&g->box[1].q);
  g->loop[0] = a;
  g->loop[1] = b;
  g->deliver = deliver;
  return g;
}

void bridge_ref(struct bridge *b) {
  atomic_fetch_add(&b->refs, 1);
}

void bridge_unref(void *bridge) {
  struct bridge *b = bridge;
  if (atomic_fetch_sub(&b->refs, 1) != 1)
    return;
  queue_free(&b->box[0].q);
  queue_free(&b->box[1].q);
  pthread_mutex_destroy(&b->lock);
  free(b);
}

/* The post holds a reference while it is under way; a loop that is freed first gives it back (loop_post_or). */
static void deliver0(void *arg) {
  ((struct bridge *)arg)->deliver(arg, 0);
  bridge_unref(arg);
}
static void deliver1(void *arg) {
  ((struct bridge *)arg)->deliver(arg, 1);
  bridge_unref(arg);
}

int bridge_send(struct bridge *b, int to, struct queue *out) {
  struct box *box = &b->box[to];
  int err = 0;
  pthread_mutex_lock(
      &b->lock); /* also while posting: the loop is freed only after its end has closed the box */
  if (box->closed)
    queue_free(out);
  queue_append(&box->q, out);
  if (box->q.first && !box->posted && !box->closed) {
    bridge_ref(b);
    err = loop_post_or(b->loop[to], to ? deliver1 : deliver0, bridge_unref, b);
    if (err)
      atomic_fetch_sub(&b->refs, 1); /* never the last: the caller holds one */
    box->posted = !err;
  }
  pthread_mutex_unlock(&b->lock);
  return err;
}

void bridge_take(struct bridge *b, int me, struct queue *into) {
  pthread_mutex_lock(&b->lock);
  b->box[me].posted = false;
  queue_append(into, &b->box[me].q);
  pthread_mutex_unlock(&b->lock);
}

void bridge_close(struct bridge *b, int me) {
  pthread_mutex_lock(&b->lock);
  b->box[me].closed = true;
  pthread_mutex_unlock(&b->lock);
}

bool bridge_control_begin(struct bridge *b, int to) {
  pthread_mutex_lock(&b->lock);
  bool fits = b->box[to].controls < CONTROLS_MAX;
  b->box[to].controls += fits;
  pthread_mutex_unlock(&b->lock);
  return fits;
}

void bridge_control_end(struct bridge *b, int me) {
  pthread_mutex_lock(&b->lock);
  b->box[me].controls--;
  pthread_mutex_unlock(&b->lock);
}
