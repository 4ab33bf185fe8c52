#include "relay/hellos.h"

#include <utlist.h>

static void on_turn(void *arg) {
  struct hellos *h = arg;
  h->begun = 0;
  while (h->first && h->begun < HELLOS_A_TURN) {
    struct hello *p = h->first;
    hellos_leave(h, p);
    h->begun++;
    p->begin(p->user);
  }
  if (h->begun)
    timer_start(&h->turn, 0); /* as below: its place in the heap is there */
}

void hellos_init(struct hellos *h, struct loop *l) {
  h->loop = l;
  h->first = NULL;
  h->begun = 0;
  timer_init(&h->turn, l, on_turn, h);
}

void hellos_ask(struct hellos *h, struct hello *p, void (*begin)(void *user), void *user) {
  p->begin = begin;
  p->user = user;
  bool counts = timer_set(&h->turn) || !timer_start(&h->turn, 0);
  if (!counts ||
      (h->begun < HELLOS_A_TURN && !h->first)) { /* out of memory: no order, but nobody is forgotten */
    h->begun++;
    begin(user);
    return;
  }
  p->waits = true;
  DL_PREPEND(h->first, p);
}

void hellos_leave(struct hellos *h, struct hello *p) {
  if (!p->waits)
    return;
  p->waits = false;
  DL_DELETE(h->first, p);
}

void hellos_close(struct hellos *h) {
  timer_stop(&h->turn);
}
