/* local.h: the bridge that the two ends of a local link share: the one thing that both threads touch. */
#ifndef LINK_LOCAL_H
#define LINK_LOCAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "link/link.h"

enum msg_kind {
  MSG_OPEN,
  MSG_DATA,
  MSG_END,
  MSG_RESET,
  MSG_GONE,
  MSG_CREDIT,
  MSG_CONTROL,
  MSG_DRAIN,
  MSG_CLOSE
};

struct msg {
  struct msg *next;
  enum msg_kind kind;
  uint32_t id; /* of the stream */
  uint32_t n;  /* credit */
  int reason;
  struct evbuffer *data;
  beam_Control *control;
};

struct queue {
  struct msg *first, **tail;
};

void queue_init(struct queue *q);
void queue_push(struct queue *q, struct msg *m);
void queue_free(struct queue *q); /* frees what is in it */
void msg_free(struct msg *m);

struct local;

/* Freed with the last reference: one for each end, one for each post under way. Any thread. */
struct bridge {
  pthread_mutex_t lock;
  _Atomic int refs;
  struct box {
    struct queue q;
    unsigned controls; /* control messages in it, or being delivered */
    bool posted;       /* a post is on its way to the loop */
    bool closed;       /* nobody reads any more: nothing is posted to that loop, which may be gone */
  } box[2];            /* under lock */
  struct loop *loop[2];
  struct local *end[2]; /* each only on its loop's thread */
  void (*deliver)(struct bridge *b, int me);
};

/* With one reference, the caller's. deliver(b, me) comes on loop `me` when its box has something. NULL: out of memory. */
struct bridge *bridge_new(struct loop *a, struct loop *b, void (*deliver)(struct bridge *b, int me));
void bridge_ref(struct bridge *b);
void bridge_unref(void *bridge);

/* Put all of `out` into the other end's box and wake its loop. 0; CLOSED: that loop is gone; NOMEM, LIMIT: in the box, but nobody was woken:
 * call again. A box that is closed swallows. */
int bridge_send(struct bridge *b, int to, struct queue *out);
void bridge_take(struct bridge *b, int me, struct queue *into);
/* Nothing is posted to loop `me` from now on. */
void bridge_close(struct bridge *b, int me);
/* Count a control message on its way to `to`; false: CONTROLS_MAX are. And one that was delivered. */
bool bridge_control_begin(struct bridge *b, int to);
void bridge_control_end(struct bridge *b, int me);

#endif
