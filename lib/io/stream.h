/* stream.h: an ordered byte channel with back-pressure, half-close and reset. The heart of Beam: every transport is one of these.
 *
 *             peer finished                     stream_finish
 *   OPEN ──────────────────► IN ENDED     OPEN ─────────────────► OUT ENDED       both ended: stream_close(s, 0) frees in order
 *     │ peer reset, error                                                         at any time: stream_close(s, reason) aborts
 *     ▼
 *   DEAD: the owner is told once by closed(), then must stream_close() it
 *
 * Owner: a stream has one. Giving a stream away is passing the pointer; the receiver calls stream_own().
 * Reading: the owner looks at stream_input() and takes bytes with stream_take() or stream_consume(). Taking them is what gives credit back
 *   to the sender, so take only what can be passed on: use stream_room() of the stream you pass to.
 * Writing: stream_write() and stream_move() take what fits under the ceiling and say how much. After a short count writable() comes once
 *   there is room. There is no unbounded append.
 * Callbacks come from the loop's task queue, never from inside a call of the owner's. After stream_close() none comes.
 *   A callback may do anything, stream_close() included.
 */
#ifndef IO_STREAM_H
#define IO_STREAM_H

#include <event2/buffer.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "io/loop.h"

struct stream;

struct stream_events {
  /* Bytes wait that were not there before, or the peer finished (stream_at_end). */
  void (*readable)(void *user);
  /* There is room again after a short count; may be NULL when the owner never writes. */
  void (*writable)(void *user);
  /* Aborted by the peer or the transport: reason is a beam_err. Bytes already received were announced before. */
  void (*closed)(void *user, int reason);
};

/* What a kind of stream implements. None of these may call the owner back; they use stream_tell_*. */
struct stream_ops {
  /* "sock", "tls", "h2", "mem": for logs */
  const char *kind;
  /* The owner took n bytes from s->in: give credit back, read on. */
  void (*consumed)(struct stream *s, size_t n);
  /* Bytes that move would take now. */
  size_t (*room)(struct stream *s);
  /* Take up to n bytes off `from`, the count; n <= room is all taken. */
  size_t (*move)(struct stream *s, struct evbuffer *from, size_t n);
  /* Called once: half-close after what was written. */
  void (*finish)(struct stream *s);
  /* Free. reason 0: let written bytes drain first; else abort now. */
  void (*close)(struct stream *s, int reason);
};

/* Datagrams beside a stream, where what carries it has them (RFC 9221, a QUIC link's): they may be lost and overtake the stream's bytes. */
struct stream_datagrams {
  size_t (*max)(struct stream *s); /* the largest that can be sent now; 0: none */
  int (*send)(struct stream *s, const uint8_t *p, size_t n);
  void (*listen)(struct stream *s, bool on); /* the owner wants them */
};

struct stream {
  const struct stream_ops *ops;
  struct loop *loop;
  const char *
      via; /* what carries it, where that is worth a word: "ws"; else NULL. A kind made of a stream copies that stream's */
  struct stream
      *below; /* what a kind made of a stream keeps its bytes on; NULL: nothing, or nothing any more */
  struct evbuffer *in; /* received and not taken */
  const struct stream_events *ev;
  void *user;
  const struct stream_datagrams *datagrams; /* NULL: there are none */
  void (*on_datagram)(void *user, const uint8_t *p, size_t n);
  struct loop_task tell;
  int reason;            /* why it died */
  unsigned in_ended : 1; /* the peer finished: nothing comes after what is in `in` */
  unsigned out_ended : 1;
  unsigned dead : 1;
  unsigned want_room : 1; /* the owner got a short count and waits for writable() */
  unsigned tell_read : 1, tell_write : 1, tell_closed : 1;
};

/* --- for owners --- */

/* Become the owner (NULL ev: nobody is). readable() follows if bytes or an end wait already, closed() if it is dead. */
void stream_own(struct stream *s, const struct stream_events *ev, void *user);
static inline struct evbuffer *stream_input(struct stream *s) {
  return s->in;
}
static inline size_t stream_waiting(struct stream *s) {
  return evbuffer_get_length(s->in);
}
/* Everything was taken and nothing more will come: the peer's half-close. */
static inline bool stream_at_end(struct stream *s) {
  return s->in_ended && !evbuffer_get_length(s->in);
}
static inline bool stream_dead(struct stream *s) {
  return s->dead;
}
/* Drop n bytes (n <= waiting) and give credit back. */
void stream_consume(struct stream *s, size_t n);
/* Move up to max bytes into `to`; the count. */
size_t stream_take(struct stream *s, struct evbuffer *to, size_t max);
/* Give credit back for bytes the owner removed from stream_input() by itself. */
void stream_credit(struct stream *s, size_t n);
/* 0 when finished or dead. Asking and getting 0 counts as a short count: writable() will come. */
size_t stream_room(struct stream *s);
/* Copy what fits; the count. Dead or finished: takes nothing. */
size_t stream_write(struct stream *s, const void *p, size_t n);
/* Move what fits, large amounts without copying; the count. */
size_t stream_move(struct stream *s, struct evbuffer *from, size_t max);
/* Half-close; idempotent. */
void stream_finish(struct stream *s);
/* Datagrams beside it: the largest that can be sent now, 0: none. */
size_t stream_datagram_max(struct stream *s);
/* 0: on its way, and it may be lost. AGAIN: no room, it is lost; TOO_LARGE; UNSUPPORTED: there are none here; CLOSED. */
int stream_datagram(struct stream *s, const uint8_t *p, size_t n);
/* From now on, until the stream has another owner, fn(user, ...) gets those of the peer, borrowed; like the events, from the task queue. */
void stream_on_datagram(struct stream *s, void (*fn)(void *user, const uint8_t *p, size_t n));
/* Free. reason 0: in order (finishes, drains what was written; incoming bytes are ignored); a beam_err: abort, the peer
 * sees a reset. A dead stream is always aborted. NULL is accepted. */
void stream_close(struct stream *s, int reason);

/* --- for kinds of stream --- */

/* Makes s->in; NOMEM. */
int stream_init(struct stream *s, const struct stream_ops *ops, struct loop *loop);
/* Frees s->in, cancels notifications; the kind frees its own memory. */
void stream_fini(struct stream *s);
/* Bytes were added to s->in, or in_ended was set. */
void stream_tell_readable(struct stream *s);
/* Room came back; told only if the owner waits for it. */
void stream_tell_writable(struct stream *s);
/* Marks it dead; once. */
void stream_tell_closed(struct stream *s, int reason);

#endif
