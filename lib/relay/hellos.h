/* hellos.h: TLS handshakes begin a few in each turn of the loop, and when more wait, the newest first.
 *
 *   ask ─ fewer than HELLOS_A_TURN begun in this turn, nobody waits ─► begin() at once
 *     └── else it waits ──► the next turns: the newest first
 *
 * A thousand agents that lost their relay say hello in the same second, and a handshake costs milliseconds. Were all begun together, all would end together, when their peers had
 * given up on them; in the order of their coming, each would be begun when its peer is about to. So those under way end first, and then whoever has the most patience left.
 */
#ifndef RELAY_HELLOS_H
#define RELAY_HELLOS_H

#include "io/loop.h"

enum { HELLOS_A_TURN = 8 }; /* 25 ms: what anybody else on this loop waits for them */

struct hello {
  struct hello *prev, *next;
  void (*begin)(void *user);
  void *user;
  bool waits;
};

struct hellos {
  struct loop *loop;
  struct hello *first; /* the newest */
  struct loop_timer turn;
  unsigned begun; /* in this turn */
};

void hellos_init(struct hellos *h, struct loop *l);
/* begin() comes from inside this, or in a later turn. */
void hellos_ask(struct hellos *h, struct hello *p, void (*begin)(void *user), void *user);
void hellos_leave(struct hellos *h, struct hello *p); /* no begin() comes; no-op when none was due */
void hellos_close(struct hellos *h);                  /* nobody waits any more */

#endif
