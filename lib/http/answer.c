#include "http/answer.h"

#include <stdlib.h>

#include "base/str.h"

struct answer {
  struct http_end end;
  struct evbuffer *body; /* what the front has not taken yet */
  struct loop *loop;
  struct loop_task step; /* sends what is left, then frees */
  bool sent;             /* our end() went out, or the exchange is over */
};

/* A body that somebody else keeps. */
struct borrowed {
  void (*release)(void *arg);
  void *arg;
};

static void answer_free(struct answer *a) {
  task_cancel(&a->step);
  http_done(&a->end);
  evbuffer_free(a->body);
  free(a);
}

static void step(void *arg) {
  struct answer *a = arg;
  while (!a->sent && a->end.peer) {
    size_t left = evbuffer_get_length(a->body), room = left ? http_room(&a->end) : 0;
    if (!left) {
      a->sent = true;
      http_send_end(&a->end);
    } else if (!room || !http_send_body(&a->end, a->body, left < room ? left : room)) {
      return; /* want() brings us back */
    }
  }
  answer_free(a);
}

static void on_head(struct http_end *e, const struct http_head *h, bool more) {
  (void)e, (void)h, (void)more;
}
static void on_fields(struct http_end *e, const struct http_head *h) {
  (void)e, (void)h;
}
static size_t on_room(struct http_end *e) {
  (void)e;
  return 1 << 20; /* stop was sent: what still comes is dropped */
}
static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  (void)e;
  evbuffer_drain(from, n);
  return n;
}
static void on_none(struct http_end *e) {
  (void)e;
}
static void on_want(struct http_end *e) {
  struct answer *a = (struct answer *)e;
  loop_soon(a->loop, &a->step);
}
static void on_abort(struct http_end *e, enum page page) {
  (void)page;
  answer_free((struct answer *)e); /* no front aborts from inside an op: we are not on the stack */
}

static const struct http_end_ops ops = {.kind = "answer",
                                        .head = on_head,
                                        .info = on_fields,
                                        .room = on_room,
                                        .body = on_body,
                                        .trailers = on_fields,
                                        .end = on_none,
                                        .stop = on_none,
                                        .abort = on_abort,
                                        .want = on_want};

static void released(const void *data, size_t n, void *arg) {
  struct borrowed *b = arg;
  (void)data, (void)n;
  b->release(b->arg);
  free(b);
}

/* The body of the answer: copied, or borrowed. */
static bool fill(struct evbuffer *to, const void *body, size_t n, struct borrowed *b) {
  if (!b)
    return !evbuffer_add(to, body, n);
  struct borrowed *own = malloc(sizeof *own);
  if (!own)
    return false;
  *own = *b;
  if (evbuffer_add_reference(to, body, n, released, own)) {
    free(own);
    return false;
  }
  b->release = NULL; /* it is the buffer's now */
  return true;
}

static void start(struct loop *l, struct http_end *front, const struct http_head *request,
                  const struct http_head *head, const void *body, size_t n, struct borrowed *b) {
  bool no_body = !n || span_eq(request->method, SPAN("HEAD"));
  struct answer *a = calloc(1, sizeof *a);
  if (a)
    a->body = evbuffer_new();
  if (!a || !a->body || (!no_body && !fill(a->body, body, n, b))) {
    if (a && a->body)
      evbuffer_free(a->body);
    free(a);
    static const struct http_end_ops none = {.kind = "none", .abort = NULL};
    struct http_end nobody = {&none, NULL}; /* an end to abort from */
    http_join(front, &nobody);
    http_send_abort(&nobody, PAGE_INTERNAL);
    return;
  }
  a->end.ops = &ops;
  a->loop = l;
  a->sent = no_body;
  task_init(&a->step, step, a);
  http_join(front, &a->end);
  loop_soon(l, &a->step);
  http_send_stop(&a->end);
  http_send_head(&a->end, head, !no_body);
}

void http_answer(struct loop *l, struct http_end *front, const struct http_head *request,
                 const struct http_head *head, const void *body, size_t n) {
  start(l, front, request, head, body, n, NULL);
}

void http_answer_with(struct loop *l, struct http_end *front, const struct http_head *request,
                      const struct http_head *head, const void *body, size_t n, void (*release)(void *arg),
                      void *arg) {
  struct borrowed b = {release, arg};
  start(l, front, request, head, body, n, &b);
  if (b.release)
    release(arg);
}
