/* filter.h: something between a front and an upstream that looks at heads on their way, and may make another body of the response's.
 *
 *   front ══ [above | filter | below] ══ upstream
 *
 * Unless it encodes, it holds no bytes and has no time of its own: room, body, stop and want go straight through, so back-pressure is what it was. It is freed when
 * both messages are complete or the exchange has failed.
 *
 * One that encodes takes LIMIT_ENCODE_STEP bytes at once, and only when the front has taken everything made before; so it holds what one step makes. What the upstream
 * said in one go is flushed after it. All that share a `share` take LIMIT_ENCODE_TURN bytes a turn of the loop between them: then others have theirs.
 */
#ifndef HTTP_FILTER_H
#define HTTP_FILTER_H

#include "http/exchange.h"
#include "io/loop.h"

struct http_filter;

/* What the next step of an encoder is for. */
enum encode_what { ENCODE_MORE, ENCODE_FLUSH, ENCODE_END };

/* Beside 0, 1 and errors, of `request` and `response`: the filter answers by itself. */
enum {
  FILTER_ANSWER = 2, /* the upstream is let go */
  FILTER_ANSWER_FETCH =
      3, /* of `request` alone: *out goes on to the upstream, and what comes back ends here */
};

struct http_filter_ops {
  /* The request's head; may be NULL. As `response`. */
  int (*request)(struct http_filter *f, const struct http_head *in, struct http_head *out);
  /* The response's final head. 0: as it is; 1: *out goes instead (it is freed after that, in may be borrowed by it); a beam_err: the response is bad. */
  int (*response)(struct http_filter *f, const struct http_head *in, struct http_head *out);
  /* Off the stack, after FILTER_ANSWER*: http_answer(front). */
  void (*answer)(struct http_filter *f, struct http_end *front);
  /* The next n bytes of the response's body, in `from`; they pass after it. from NULL: they did not, and no more is told. May be NULL. */
  void (*response_body)(struct http_filter *f, struct evbuffer *from, size_t n);
  /* The response is complete. May be NULL. */
  void (*response_end)(struct http_filter *f, bool trailers);
  /* n bytes of the request's body want to pass; may be NULL. A page: they do not, and the exchange ends with it. */
  enum page (*request_body)(struct http_filter *f, size_t n);
  /* The response's body, once http_filter_encode() was called from `response`: takes n bytes and puts what becomes of them, if anything yet, into out. With FLUSH
   * and END n is 0: out gets what was held back. NOMEM, INTERNAL. */
  int (*encode)(struct http_filter *f, const void *p, size_t n, enum encode_what what, struct evbuffer *out);
  void (*free)(struct http_filter *f);
};

/* What may be encoded in this turn of the loop; zeroed at first. Its owner calls encode_share_fini() when nobody uses it any more. */
struct encode_share {
  struct loop_task reset;
  size_t spent;
};
void encode_share_fini(struct encode_share *s);

struct http_filter {
  struct http_end above, below;
  const struct http_filter_ops *ops;
  struct loop *loop;
  struct loop_task step;
  bool req_ended, resp_ended;
  bool body_follows;         /* for `request` and `response`: the head is not all */
  bool answers, sink;        /* FILTER_ANSWER until it has; FILTER_ANSWER_FETCH */
  bool trailers;             /* of the response have passed */
  struct encoding *encoding; /* NULL: the body passes as it is */
  enum page failed;          /* why it ends off everybody's stack; what the front reads about it */
};

/* Joins front, f and upstream. f is zeroed but for what the maker of it keeps behind it; it belongs to the exchange from now on. */
void http_filter_join(struct loop *l, struct http_filter *f, const struct http_filter_ops *ops,
                      struct http_end *front, struct http_end *upstream);

/* From `response` alone, when a body follows. NOMEM. */
int http_filter_encode(struct http_filter *f, struct encode_share *share);

#endif
