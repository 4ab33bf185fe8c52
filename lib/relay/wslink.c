/* wslink.c: the upgraded exchange as a stream.
 *
 *   front ══ exchange ══ [end | stream] ── ws_stream ── visitor_link ── TLS ── link
 *
 *   body, end of the request ──► readable, at end          stream_move, finish ──► body, end of the response
 *   OPEN ── owner closes(0), the visitor has not ended yet ──► ORPHAN: what comes is dropped ── end, abort or LIMIT_SOCK_LINGER_MS ──► freed
 */
#include "relay/wslink.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "http/answer.h"
#include "io/block.h"
#include "link/ws.h"
#include "relay/visitor.h"
#include "wire/h1.h"
#include "wire/ws.h"

struct upgraded {
  struct stream s;
  struct http_end end;
  struct loop_timer linger;
  bool orphan;
};

static struct upgraded *of_end(struct http_end *e) {
  return (struct upgraded *)((char *)e - offsetof(struct upgraded, end));
}

static void up_free(struct upgraded *u) {
  timer_stop(&u->linger);
  stream_fini(&u->s);
  free(u);
}

/* --- the exchange's end --- */

static void on_fields(struct http_end *e, const struct http_head *h) {
  (void)e, (void)h;
}

static void on_head(struct http_end *e, const struct http_head *h, bool more) {
  (void)e, (void)h, (void)more; /* it was looked at before the answer */
}

static size_t on_room(struct http_end *e) {
  struct upgraded *u = of_end(e);
  size_t held = evbuffer_get_length(u->s.in);
  return u->orphan ? LIMIT_SOCK_MIN : held < LIMIT_SOCK_MIN ? LIMIT_SOCK_MIN - held : 0;
}

static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  struct upgraded *u = of_end(e);
  if (u->orphan)
    return evbuffer_drain(from, n) ? 0 : n;
  n = buffer_move(u->s.in, from, n);
  if (n)
    stream_tell_readable(&u->s);
  return n;
}

static void on_end(struct http_end *e) {
  struct upgraded *u = of_end(e);
  if (u->orphan) {
    http_done(e);
    up_free(u);
    return;
  }
  u->s.in_ended = 1;
  stream_tell_readable(&u->s);
}

static void on_none(struct http_end *e) {
  (void)e;
}

static void on_abort(struct http_end *e, enum page page) {
  struct upgraded *u = of_end(e);
  (void)page;
  if (u->orphan)
    up_free(u);
  else
    stream_tell_closed(&u->s, BEAM_ERR_RESET);
}

static void on_want(struct http_end *e) {
  struct upgraded *u = of_end(e);
  if (!u->orphan)
    stream_tell_writable(&u->s);
}

static const struct http_end_ops end_ops = {.kind = "wslink",
                                            .head = on_head,
                                            .info = on_fields,
                                            .room = on_room,
                                            .body = on_body,
                                            .trailers = on_fields,
                                            .end = on_end,
                                            .stop = on_none,
                                            .abort = on_abort,
                                            .want = on_want};

/* --- the stream --- */

static void consumed(struct stream *s, size_t n) {
  (void)n;
  http_send_want(&((struct upgraded *)s)->end);
}

static size_t room(struct stream *s) {
  return http_room(&((struct upgraded *)s)->end);
}

static size_t move(struct stream *s, struct evbuffer *from, size_t n) {
  struct upgraded *u = (struct upgraded *)s;
  size_t took = 0, r, k;
  while (took < n && (r = http_room(&u->end)) > 0) { /* only who was told "none" is told of more */
    k = http_send_body(&u->end, from, n - took < r ? n - took : r);
    took += k;
    if (!k)
      break;
  }
  if (s->want_room && http_room(&u->end))
    stream_tell_writable(s);
  return took;
}

static void finish(struct stream *s) {
  http_send_end(&((struct upgraded *)s)->end);
}

static void lingered(void *arg) {
  struct upgraded *u = arg;
  http_send_abort(&u->end, PAGE_TRUNCATED);
  up_free(u);
}

static void close_up(struct stream *s, int reason) {
  struct upgraded *u = (struct upgraded *)s;
  if (!reason && u->end.peer && !s->in_ended && !timer_start(&u->linger, LIMIT_SOCK_LINGER_MS)) {
    u->orphan = true;
    evbuffer_drain(s->in, evbuffer_get_length(s->in));
    http_send_want(&u->end);
    return;
  }
  if (!reason && s->in_ended)
    http_done(&u->end);
  else
    http_send_abort(&u->end, PAGE_TRUNCATED);
  up_free(u);
}

static const struct stream_ops stream_ops = {"upgraded", consumed, room, move, finish, close_up};

/* --- requests --- */

static bool is_link(struct span target) {
  static const char path[] = WS_PATH;
  size_t n = sizeof path - 1;
  return target.n >= n && !memcmp(target.p, path, n) && (target.n == n || target.p[n] == '?');
}

bool wslink_asked(const struct http_head *h) {
  return is_link(h->target);
}

bool wslink_was(const struct http_record *r) {
  return is_link(r->target);
}

/* Whoever is no agent learns what this address is for. */
static void decline(struct worker *w, struct http_end *front, const struct http_head *h) {
  static const char text[] = "This address takes links of beam/1 over WebSocket.\n";
  struct http_field fields[] = {{SPAN("Content-Type"), SPAN("text/plain")},
                                {SPAN("Content-Length"), SPAN("51")},
                                {SPAN("Cache-Control"), SPAN("no-store")},
                                {SPAN("Sec-WebSocket-Version"), SPAN("13")}};
  _Static_assert(sizeof text - 1 == 51, "Content-Length");
  struct http_head head = {
      .status = 400, .minor = 1, .reason = span_of(http_reason(400)), .fields = fields, .fields_n = 4};
  http_answer(w->loop, front, h, &head, text, sizeof text - 1);
}

static void grant(struct upgraded *u, struct span key) {
  char accept[WS_ACCEPT_SIZE];
  ws_accept_make(accept, key.p);
  struct http_field fields[] = {{SPAN("Upgrade"), SPAN("websocket")},
                                {SPAN("Sec-WebSocket-Accept"), span_of(accept)},
                                {SPAN("Sec-WebSocket-Protocol"), SPAN(WS_PROTOCOL)}};
  struct http_head head = {
      .status = 101, .minor = 1, .reason = span_of(http_reason(101)), .fields = fields, .fields_n = 3};
  http_send_head(&u->end, &head, true);
}

void wslink_request(const struct visit *v, struct http_end *front, const struct http_head *h, bool more) {
  struct worker *w = v->w;
  struct span key;
  if (!more || ws_request_check(h, WS_PROTOCOL, &key)) {
    decline(w, front, h);
    return;
  }
  struct upgraded *u = calloc(1, sizeof *u);
  if (!u || stream_init(&u->s, &stream_ops, w->loop)) {
    free(u);
    page_answer(w->loop, front, h, PAGE_OVERLOADED, NULL);
    return;
  }
  u->end.ops = &end_ops;
  timer_init(&u->linger, w->loop, lingered, u);
  http_join(front, &u->end);
  grant(u, key);
  struct stream *ws;
  if (!ws_stream(&u->s, WS_SERVER, &ws))
    visitor_link(w, ws, v->peer, v->port);
}
