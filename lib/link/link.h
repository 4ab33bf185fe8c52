/* link.h: an authenticated connection that carries many streams and one control channel. Agent to relay, worker to worker: the same thing.
 * Whoever holds a link never asks which transport it is.
 */
#ifndef LINK_LINK_H
#define LINK_LINK_H

#include "io/stream.h"
#include "wire/control.h"

struct link;

struct link_events {
  void (*ready)(void *user);                            /* control and streams may be used; once. (Transports that are ready at once say so from the next turn) */
  void (*stream)(void *user, struct stream *s);         /* the peer opened a data stream: the callee owns it. Bytes may not have arrived yet */
  void (*control)(void *user, const beam_Control *m);   /* one message, borrowed */
  void (*closed)(void *user, int reason);               /* once; every stream was told closed() before or is being told. Then link_close() it */
};

struct link_ops {
  const char *transport; /* "h2", "ws", "quic", "mem", "local" */
  int (*open)(struct link *k, struct stream **out);
  int (*send)(struct link *k, const beam_Control *m);
  void (*drain)(struct link *k);
  void (*close)(struct link *k, int reason);
};

struct link {
  const struct link_ops *ops;
  struct loop *loop;
  const struct link_events *ev;
  void *user;
  uint8_t exporter[32]; /* channel binding for HELLO: TLS exporter "EXPORTER-beam-1" (zero on in-process links, which need none) */
  unsigned streams;     /* open now: the load a chooser looks at */
};

static inline void link_own(struct link *k, const struct link_events *ev, void *user) {
  k->ev = ev;
  k->user = user;
}
/* Open a data stream towards the peer (relay to agent; both ways on local links). It may be written at once. AGAIN before ready; LIMIT: LIMIT_LINK_STREAMS or the peer's
 * own limit reached; CLOSED, DRAINING. */
static inline int link_open(struct link *k, struct stream **out) { return k->ops->open(k, out); }
/* Queue a control message. LIMIT when the peer does not read (64 KiB waiting): the caller closes the link. */
static inline int link_send(struct link *k, const beam_Control *m) { return k->ops->send(k, m); }
/* Open nothing new; streams go on. */
static inline void link_drain(struct link *k) { k->ops->drain(k); }
/* Free. Streams still open are told closed(reason or RESET) and stay their owners' to close. reason 0: after what was written has drained. No callback comes after it. */
static inline void link_close(struct link *k, int reason) {
  if (k)
    k->ops->close(k, reason);
}

enum link_role { LINK_AGENT, LINK_RELAY };

/* beam/1 over an established TLS stream (takes it, also when it fails): HTTP/2 with reversed roles; the relay is the HTTP/2 client. */
int link_h2_new(struct stream *tls, enum link_role role, const uint8_t exporter[32], struct link **out);
/* Two joined links on one loop, for tests and the sim. */
int link_mem_pair(struct loop *l, struct link **relay, struct link **agent);
/* Two joined links on two loops (threads): worker to worker. Call on a's thread; b is handed over on its own loop by given(user, b). Either side opens streams. */
int link_local_pair(struct loop *a, struct loop *b, struct link **out, void (*given)(void *user, struct link *b), void *user);

#endif
