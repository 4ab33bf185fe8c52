/* h2.h: the parts of the HTTP/2 link that its files share. PROTOCOL.md section 2 is what it speaks.
 *
 *   link_h2_new ─► SETTINGS exchanged, control open ─► READY ─┬─ GOAWAY either way ─► draining
 *                                                             ├─ lower stream ends, protocol broken, ... ─► DEAD: closed() was told, waits for link_close
 *                                                             └─ link_close ─► CLOSING: last words and streams closed in order drain (no owner any more) ─► freed
 *
 * h2.c: life, what the owner is told, the lower stream.  h2_session.c: the HTTP/2 engine and what it reports.
 * h2_stream.c: a stream of the link.  h2_window.c: how large its window is.
 *
 * The engine's callbacks never call the owner: they note what happened, and `tell` delivers it from the task queue.
 */
#ifndef LINK_H2_H
#define LINK_H2_H

#include <nghttp2/nghttp2.h>

#include "base/limits.h"
#include "link/link.h"

enum {
  H2_LINK_WINDOW =
      64 * 1024 * 1024,       /* connection window: never the one that limits, credit goes back on receipt */
  H2_FRAME_MAX = 64 * 1024,   /* largest frame we take */
  H2_FRAME_DATA = 16 * 1024,  /* largest DATA payload we send: the most a small stream waits for a bulk one */
  H2_CONTROL_OUT = 64 * 1024, /* control messages that wait */
  H2_ID_LAST = INT32_MAX - (1 << 21), /* ids go up by two: 2^20 are left, time to rotate */
  H2_CLOSE_MS = 5000,                 /* last words drain at most so long */
  H2_ERROR_BASE = 0x00bea000          /* our own error codes: base + -beam_err */
};

/* What a stream with an HTTP/2 id is for. */
enum h2_kind { H2_UNKNOWN, H2_CONTROL, H2_STREAM };

struct h2_stream {
  struct stream s;
  struct h2 *link; /* NULL once the link is gone */
  struct h2_stream *prev, *next;
  struct h2_stream *fresh; /* next one that the owner of the link has not been told of */
  int32_t id;              /* 0: HTTP/2 is done with it */
  struct evbuffer *out;    /* written and not sent */
  size_t queued;           /* of out, charged to the pool: what is beyond LIMIT_SOCK_MIN */

  /* h2_window.c */
  uint32_t window; /* what the peer may send ahead */
  uint32_t owed;   /* shrunk by so much, but the peer still has that credit */
  uint32_t credit; /* taken by the owner, and the peer was not told yet */
  size_t held;     /* of s.in, charged to the pool */
  size_t drained;  /* taken by the owner since `since` */
  uint64_t since;  /* ms */

  unsigned is_fresh : 1;
  unsigned deferred : 1; /* the engine waits for resume_data */
  unsigned fin_sent : 1; /* END_STREAM has left */
  unsigned orphan : 1;   /* closed in order by its owner: drains, then is freed */
  unsigned mute : 1;     /* the peer reads no more: what is written goes nowhere */
};

struct h2 {
  struct link k;
  enum link_role role;
  struct stream *low; /* TLS */
  nghttp2_session *ng;
  struct evbuffer *out; /* frames that the lower stream has not taken yet */
  struct loop_task flush, tell;
  struct loop_task over; /* closing, when the loop ends before the last words have left */
  struct h2_stream *streams;
  struct h2_stream *fresh, **fresh_tail;
  unsigned live;    /* streams by HTTP/2's count, without control */
  unsigned orphans; /* of `streams`, without owner */

  int32_t control_id;
  struct evbuffer *control_in, *control_out;
  bool control_deferred;

  bool *gone;         /* set when the link is closed while `tell` runs */
  int closed;         /* reason to tell */
  uint32_t bye;       /* error code of our GOAWAY */
  size_t room;        /* of the lower stream, while flushing */
  enum h2_kind asked; /* what the header block being received asks for */

  uint64_t reset_second;
  unsigned resets;

  struct loop_timer timer; /* windows; when closing: H2_CLOSE_MS */
  uint64_t pinged_at;
  uint32_t rtt; /* ms */
  uint64_t rtt_at;

  unsigned saw_settings : 1;
  unsigned tell_ready : 1, tell_draining : 1, tell_closed : 1;
  unsigned dead : 1;
  unsigned closing : 1;
  unsigned bye_said : 1;
  unsigned bye_heard : 1; /* the peer's GOAWAY without error */
  unsigned pinging : 1;
};

/* h2.c */
void h2_flush_soon(struct h2 *h);
void h2_tell_soon(struct h2 *h);
void h2_die(struct h2 *h, int reason);
uint32_t h2_code_of(int reason);
int h2_reason_of(uint32_t code);

/* h2_session.c */
int h2_session_new(struct h2 *h);
int h2_session_feed(struct h2 *h, const uint8_t *p, size_t n); /* 0, or why the link dies */
int h2_session_open(struct h2 *h, struct h2_stream *st); /* relay: CONNECT; st NULL: the control stream */
ssize_t h2_session_send(struct h2 *h,
                        const uint8_t **p); /* frames to send: bytes at *p; 0: none now; negative: broken */
void h2_session_drain(struct h2 *h);
void h2_session_bye(struct h2 *h);
void h2_session_resume(struct h2 *h, int32_t id);

/* h2_stream.c */
int h2_stream_new(struct h2 *h, struct h2_stream **out);
void h2_stream_free(struct h2_stream *st);
void h2_stream_ended(struct h2_stream *st, uint32_t code); /* HTTP/2 is done with it */
void h2_stream_abandon(struct h2_stream *st, int reason);  /* the link is gone */
void h2_stream_sent(struct h2_stream *st);                 /* bytes or the end left */
size_t h2_stream_ceiling(const struct h2_stream *st);
void h2_stream_fresh(struct h2_stream *st);
void h2_stream_stale(struct h2_stream *st); /* not fresh any more */

/* h2_window.c */
bool h2_window_fits(void);            /* the pool has room for another stream */
void h2_window_measure(struct h2 *h); /* ask for a round trip, unless one is fresh */
void h2_window_init(struct h2_stream *st);
void h2_window_received(struct h2_stream *st);          /* s.in changed */
void h2_window_drained(struct h2_stream *st, size_t n); /* the owner took n */
void h2_window_over(struct h2_stream *st);              /* nothing more will come */
void h2_window_fini(struct h2_stream *st);
void h2_window_trim(struct h2 *h); /* timer: shrink what is idle */

#endif
