/* filter.h: something between a front and an upstream that looks at heads on their way, and passes everything else on as it comes.
 *
 *   front ══ [above | filter | below] ══ upstream
 *
 * It holds no bytes and has no time of its own: room, body, stop and want go straight through, so back-pressure is what it was. It is freed when both messages
 * are complete or the exchange has failed.
 */
#ifndef HTTP_FILTER_H
#define HTTP_FILTER_H

#include "http/exchange.h"
#include "io/loop.h"

struct http_filter;

struct http_filter_ops {
  /* The request's head; may be NULL. As `response`. */
  int (*request)(struct http_filter *f, const struct http_head *in, struct http_head *out);
  /* The response's final head. 0: as it is; 1: *out goes instead (it is freed after that, in may be borrowed by it); a beam_err: the response is bad. */
  int (*response)(struct http_filter *f, const struct http_head *in, struct http_head *out);
  /* n bytes of the request's body want to pass; may be NULL. A page: they do not, and the exchange ends with it. */
  enum page (*request_body)(struct http_filter *f, size_t n);
  void (*free)(struct http_filter *f);
};

struct http_filter {
  struct http_end above, below;
  const struct http_filter_ops *ops;
  struct loop *loop;
  struct loop_task step;
  bool req_ended, resp_ended;
  enum page failed; /* why it ends off everybody's stack; what the front reads about it */
};

/* Joins front, f and upstream. f is zeroed but for what the maker of it keeps behind it; it belongs to the exchange from now on. */
void http_filter_join(struct loop *l, struct http_filter *f, const struct http_filter_ops *ops,
                      struct http_end *front, struct http_end *upstream);

#endif
