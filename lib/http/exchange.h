/* exchange.h: one HTTP request and its response, independent of version.
 *
 * An exchange is two joined *ends*. The front end is where the request came from (an h1 visitor, a link's stream at the agent); the upstream end is where
 * the response comes from (a link's stream at the relay, the local service at the agent, an error page). Both directions are the same calls:
 *
 *     front ── head, body*, trailers?, end ──►  upstream          (the request)
 *     front ◄── info*, head, body*, trailers?, end ── upstream    (the response)
 *     front ◄── stop ── upstream                                  "send me no more body; my response goes on"
 *     either ── abort ──►                                         "this exchange has failed, page code P": both ends are detached
 *
 * Stop closes the request: after it the front sends neither body nor trailers nor end, and both sides count the request as ended.
 *
 * Body bytes are pulled by room: send no more than http_room(e); after it was 0, the peer calls want() once it has room again.
 * A request that asks for an upgrade is sent with more = true. A response head with status 101 turns both bodies into the upgraded connection's
 * bytes; `end` is then half-close. Any other final response refuses the upgrade: the front then ends its request, which has no body.
 * The length of a body is the Content-Length field of its head, if any; nothing else in a head says how it is framed.
 *
 * Lifetimes: each end frees itself when its own side is finished: when it has sent its `end` and received the peer's `end` (or aborted). The order of the
 * last two does not matter; http_done() detaches. After abort() an end must not touch its peer: e->peer is NULL already. Calls into a peer are direct (not
 * queued), so an implementation must expect its own ops to be called while it is inside a call to its peer: after any http_* call that may reach the peer,
 * check e->peer (NULL: the exchange is over) and never free yourself while you are on your own stack: count your entries and free when the last one leaves.
 * An op itself does not call its peer back (it notes and queues a task), so that two ends never call each other in circles.
 */
#ifndef HTTP_EXCHANGE_H
#define HTTP_EXCHANGE_H

#include <event2/buffer.h>
#include <stdbool.h>
#include <stddef.h>

#include "http/pages.h"
#include "wire/http.h"

struct http_end;

struct http_end_ops {
  const char *kind;
  void (*head)(
      struct http_end *e, const struct http_head *h,
      bool
          more); /* borrowed for the call; more: body, trailers or an upgrade follow; else this was all (no end() comes) */
  void (*info)(struct http_end *e, const struct http_head *h); /* 1xx but 101; NULL in upstreams */
  size_t (*room)(struct http_end *e); /* body bytes it would take now; answering 0 promises want() later */
  size_t (*body)(struct http_end *e, struct evbuffer *from,
                 size_t n); /* takes up to n bytes off `from`; n <= room is all taken */
  void (*trailers)(struct http_end *e, const struct http_head *h); /* fields only */
  void (*end)(struct http_end *e);                                 /* the message is complete */
  void (*stop)(struct http_end *e); /* the peer wants no more of our body; NULL in upstreams */
  void (*abort)(struct http_end *e, enum page page); /* the peer failed; already detached */
  void (*want)(struct http_end *e);                  /* the peer has room again */
};

struct http_end {
  const struct http_end_ops *ops;
  struct http_end *peer; /* NULL before http_join and after the exchange is over */
};

void http_join(struct http_end *front, struct http_end *upstream);

/* From e to its peer; each is a no-op when there is no peer any more. */
void http_send_head(struct http_end *e, const struct http_head *h, bool more);
void http_send_info(struct http_end *e, const struct http_head *h);
size_t http_room(struct http_end *e);
size_t http_send_body(struct http_end *e, struct evbuffer *from, size_t n);
void http_send_trailers(struct http_end *e, const struct http_head *h);
void http_send_end(struct http_end *e);
void http_send_stop(struct http_end *e);
void http_send_want(struct http_end *e);
void http_send_abort(struct http_end *e, enum page page); /* detaches both, then tells the peer */
void http_done(struct http_end *e);                       /* both messages are complete: detach quietly */

/* The Content-Length of a head: 0 and *out; NOT_FOUND: it has none; INVALID: more than one, or not a number. */
int http_length(const struct http_head *h, uint64_t *out);

/* What one exchange was, for logs. Borrowed for the call. */
struct http_record {
  struct span method, authority, target;
  uint16_t status;
  uint64_t started_ms, ttfb_ms, total_ms;
  uint64_t body_in, body_out; /* request, response */
  enum page failed;           /* 0, or why it was aborted */
};

/* Who decides what a request becomes. Called once per request by a front, from the task queue's stack: it must http_join(front, some upstream) and pass the head on
 * with http_send_head(front, head, more), or answer with page_answer(loop, front, head, page, detail). `user` and `conn` are what the front was made with. */
struct http_handler {
  void (*request)(void *user, struct http_end *front, struct http_head *h, bool more);
  /* Optional: an exchange ended: for request lines and counters. status 0: none was sent. */
  void (*finished)(void *user, const struct http_record *r);
  void *user;
  /* Optional, frames_front only: that front is freed; nothing of it uses the handler any more. Once for each frames_front() that succeeded. */
  void (*gone)(void *user);
};

/* The record in the making; for fronts. */
struct http_track {
  struct http_head head; /* owned: the request's; empty when it could not be parsed */
  uint64_t started_ms, head_ms;
  uint64_t body_in, body_out;
  uint16_t status;
  enum page failed;
  bool open;
};
void http_track_begin(struct http_track *t, struct http_head *taken,
                      uint64_t now); /* taken (may be NULL) is moved in and zeroed */
void http_track_status(struct http_track *t, uint16_t status, uint64_t now);
void http_track_end(struct http_track *t, const struct http_handler *handler,
                    uint64_t now); /* reports and frees; no-op when not open */

#endif
