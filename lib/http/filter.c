#include "http/filter.h"

#include <stddef.h>

#include "base/log.h"

static struct http_filter *of_above(struct http_end *e) {
  return (struct http_filter *)((char *)e - offsetof(struct http_filter, above));
}

static struct http_filter *of_below(struct http_end *e) {
  return (struct http_filter *)((char *)e - offsetof(struct http_filter, below));
}

/* Off everybody's stack: nobody calls us any more. */
static void step(void *arg) {
  struct http_filter *f = arg;
  if (f->failed) {
    http_send_abort(&f->below, PAGE_VISITOR_GONE);
    http_send_abort(&f->above, f->failed);
  }
  http_done(&f->above);
  http_done(&f->below);
  f->ops->free(f);
}

static void over(struct http_filter *f) {
  loop_soon(f->loop, &f->step);
}

static void maybe_over(struct http_filter *f) {
  if (f->req_ended && f->resp_ended)
    over(f);
}

static void fail(struct http_filter *f, enum page page) {
  if (!f->failed)
    f->failed = page;
  over(f);
}

/* --- the request: the front speaks to `above` --- */

static void req_head(struct http_end *e, const struct http_head *h, bool more) {
  struct http_filter *f = of_above(e);
  struct http_head out = {0};
  int what = f->ops->request ? f->ops->request(f, h, &out) : 0;
  if (what < 0) {
    fail(f, PAGE_INTERNAL);
    return;
  }
  f->req_ended = !more;
  http_send_head(&f->below, what ? &out : h, more);
  http_head_free(&out);
}

static size_t req_room(struct http_end *e) {
  struct http_filter *f = of_above(e);
  return f->failed ? 0 : http_room(&f->below);
}

static size_t req_body(struct http_end *e, struct evbuffer *from, size_t n) {
  struct http_filter *f = of_above(e);
  enum page page = f->ops->request_body ? f->ops->request_body(f, n) : PAGE_NONE;
  if (page || f->failed) {
    fail(f, page);
    return 0;
  }
  return http_send_body(&f->below, from, n);
}

static void req_trailers(struct http_end *e, const struct http_head *h) {
  http_send_trailers(&of_above(e)->below, h);
}

static void req_end(struct http_end *e) {
  struct http_filter *f = of_above(e);
  f->req_ended = true;
  http_send_end(&f->below);
  maybe_over(f);
}

static void req_abort(struct http_end *e, enum page page) {
  struct http_filter *f = of_above(e);
  http_send_abort(&f->below, page);
  over(f);
}

static void req_want(struct http_end *e) {
  http_send_want(&of_above(e)->below);
}

static const struct http_end_ops above_ops = {"filter",     req_head, NULL, req_room,  req_body,
                                              req_trailers, req_end,  NULL, req_abort, req_want};

/* --- the response: the upstream speaks to `below` --- */

static void resp_head(struct http_end *e, const struct http_head *h, bool more) {
  struct http_filter *f = of_below(e);
  struct http_head out = {0};
  int what = f->ops->response(f, h, &out);
  if (what < 0) {
    log_limited(BEAM_LOG_WARN, "http", "response head refused: %s", beam_strerror(what));
    fail(f, PAGE_LOCAL_BAD);
    return;
  }
  f->resp_ended = !more;
  http_send_head(&f->above, what ? &out : h, more);
  http_head_free(&out);
  maybe_over(f);
}

static void resp_info(struct http_end *e, const struct http_head *h) {
  http_send_info(&of_below(e)->above, h);
}

static size_t resp_room(struct http_end *e) {
  return http_room(&of_below(e)->above);
}

static size_t resp_body(struct http_end *e, struct evbuffer *from, size_t n) {
  return http_send_body(&of_below(e)->above, from, n);
}

static void resp_trailers(struct http_end *e, const struct http_head *h) {
  http_send_trailers(&of_below(e)->above, h);
}

static void resp_end(struct http_end *e) {
  struct http_filter *f = of_below(e);
  f->resp_ended = true;
  http_send_end(&f->above);
  maybe_over(f);
}

static void resp_stop(struct http_end *e) {
  struct http_filter *f = of_below(e);
  f->req_ended = true;
  http_send_stop(&f->above);
  maybe_over(f);
}

static void resp_abort(struct http_end *e, enum page page) {
  struct http_filter *f = of_below(e);
  http_send_abort(&f->above, page);
  over(f);
}

static void resp_want(struct http_end *e) {
  http_send_want(&of_below(e)->above);
}

static const struct http_end_ops below_ops = {"filter",      resp_head, resp_info, resp_room,  resp_body,
                                              resp_trailers, resp_end,  resp_stop, resp_abort, resp_want};

void http_filter_join(struct loop *l, struct http_filter *f, const struct http_filter_ops *ops,
                      struct http_end *front, struct http_end *upstream) {
  f->ops = ops;
  f->loop = l;
  f->above.ops = &above_ops;
  f->below.ops = &below_ops;
  task_init(&f->step, step, f);
  http_join(front, &f->above);
  http_join(&f->below, upstream);
}
