/* link.h: an authenticated connection that carries many streams and one control channel. Agent to relay, worker to worker: the same thing.
 * Whoever holds a link never asks which transport it is.
 */
#ifndef LINK_LINK_H
#define LINK_LINK_H

#include <sys/socket.h>

#include "io/stream.h"
#include "wire/control.h"

struct link;

struct link_events {
  void (*ready)(void *user); /* control and streams may be used; once, from the task queue */
  /* The peer opened a data stream: the callee owns it. Bytes may not have arrived yet. */
  void (*stream)(void *user, struct stream *s);
  void (*control)(void *user, const beam_Control *m); /* one message, borrowed */
  /* Once; every stream was told closed() before or is being told. Then link_close() it. */
  void (*closed)(void *user, int reason);
  /* Optional; once: open nothing new here and get another link (the peer said so, or stream ids run out). */
  void (*draining)(void *user);
};

/* Sits between a transport and the link's owner and sees every event first (greet.h).
 * True: swallowed; false: goes on to the owner. */
struct link_guard {
  bool (*ready)(struct link_guard *g);
  bool (*stream)(struct link_guard *g, struct stream *s); /* true: the guard closed it */
  bool (*control)(struct link_guard *g, const beam_Control *m);
  bool (*closed)(struct link_guard *g, int reason);
  void (*free)(struct link_guard *g); /* the link is being closed by its owner */
};

/* What has become of the way to the peer after this machine's network changed. */
enum link_way {
  LINK_WAY_SAME, /* the change does not touch it */
  LINK_WAY_DOUBT, /* nobody here can tell, or it moved to our new address: whether that works, the peer's answer says */
  LINK_WAY_LEFT, /* its address is not the one that leads to the peer any more: get another link */
};

struct link_ops {
  const char *transport; /* "h2", "ws", "quic", "mem", "local" */
  int (*open)(struct link *k, struct stream **out);
  int (*send)(struct link *k, const beam_Control *m);
  void (*drain)(struct link *k);
  void (*close)(struct link *k, int reason);
  enum link_way (*network_changed)(struct link *k); /* NULL: it crosses no network */
  size_t (*queued)(struct link *k); /* optional: bytes of streams that were written and have not left */
};

struct link {
  const struct link_ops *ops;
  struct loop *loop;
  const struct link_events *ev;
  void *user;
  struct link_guard *guard; /* NULL: none */
  /* Channel binding for HELLO: the TLS exporter "EXPORTER-beam-1" (zeros on in-process links, which need none). */
  uint8_t exporter[32];
  unsigned streams; /* open now: the load a chooser looks at */
  uint64_t moved;   /* bytes that went over it both ways, so far */
  uint64_t heard;   /* loop_now() when the last bytes came from the peer, of whatever kind: it lives */
  bool ready;       /* ready() was told */
  bool draining;    /* link_open() answers DRAINING; streams that are open go on */
};

static inline void link_own(struct link *k, const struct link_events *ev, void *user) {
  k->ev = ev;
  k->user = user;
}
/* Open a data stream towards the peer (relay to agent; both ways on local links). It may be written at once.
 * AGAIN before ready; LIMIT: LIMIT_LINK_STREAMS or the peer's own limit reached; NOMEM: the window pool is used up;
 * CLOSED; DRAINING; UNSUPPORTED: this side opens none. */
static inline int link_open(struct link *k, struct stream **out) {
  return k->ops->open(k, out);
}
/* Queue a control message. AGAIN before ready; CLOSED; LIMIT when the peer does not read (64 KiB waiting): the caller
 * closes the link. */
static inline int link_send(struct link *k, const beam_Control *m) {
  return k->ops->send(k, m);
}
/* Open nothing new; streams go on; the peer is told (its draining()). */
static inline void link_drain(struct link *k) {
  k->ops->drain(k);
}
/* This machine's network changed: QUIC moves to the new address if ours is another one now, TCP cannot. */
static inline enum link_way link_network_changed(struct link *k) {
  return k->ops->network_changed ? k->ops->network_changed(k) : LINK_WAY_SAME;
}
/* Bytes that wait to leave, for the choice between links. Looks at every stream: not for each packet. */
static inline size_t link_queued(struct link *k) {
  return k->ops->queued ? k->ops->queued(k) : 0;
}
/* Free. Streams still open are told closed(reason or RESET) and stay their owners' to close. Control messages sent
 * before still leave, unless reason says that the peer is gone (TIMEOUT, RESET). No callback comes after it. */
void link_close(struct link *k, int reason);

enum link_role { LINK_AGENT, LINK_RELAY };

/* beam/1 over an established TLS stream (takes it, also when it fails): HTTP/2 with reversed roles, the relay being the
 * HTTP/2 client (h2.h). NOMEM. */
int link_h2_new(struct stream *tls, enum link_role role, const uint8_t exporter[32], struct link **out);
#ifndef BEAM_NO_QUIC
struct quic_conn;
/* beam/1 over a QUIC connection that is ready, or is going to be (takes it, also when it fails). At the relay: what accept() gave. NOMEM. */
int link_quic_new(struct quic_conn *c, enum link_role role, struct link **out);
/* Agent, once it was greeted: what resumes the session (quic_conn_session()), borrowed. NOT_FOUND: not over QUIC, or the relay gave none. */
int link_quic_session(struct link *k, const uint8_t **p, size_t *n);
#endif
/* Two joined links on one loop, for tests and the sim. Either side opens streams. NOMEM. */
int link_mem_pair(struct loop *l, struct link **relay, struct link **agent);
/* Two joined links on two loops (threads): worker to worker. Call on a's thread; b is handed over on its own loop by
 * given(user, b). Either side opens streams. NOMEM, CLOSED. */
int link_local_pair(struct loop *a, struct loop *b, struct link **out,
                    void (*given)(void *user, struct link *b), void *user);

/* --- for transports: tell the guard, then the owner. From the task queue only; each may close the link: touch it no
 * more after the call. --- */
void link_tell_ready(struct link *k);
void link_tell_stream(struct link *k, struct stream *s); /* nobody takes it: closed with REFUSED */
void link_tell_control(struct link *k, const beam_Control *m);
void link_tell_closed(struct link *k, int reason);
void link_tell_draining(struct link *k);
/* For network_changed(): our address against what the routes say now. DOUBT when they lead nowhere. */
enum link_way link_way_of(const struct sockaddr_storage *local, const struct sockaddr_storage *peer);

#endif
