#include "http/exchange.h"

#include <beam/beam.h>
#include <string.h>

void http_join(struct http_end *front, struct http_end *upstream) {
  front->peer = upstream;
  upstream->peer = front;
}

void http_send_head(struct http_end *e, const struct http_head *h, bool more) {
  if (e->peer)
    e->peer->ops->head(e->peer, h, more);
}

void http_send_info(struct http_end *e, const struct http_head *h) {
  if (e->peer && e->peer->ops->info)
    e->peer->ops->info(e->peer, h);
}

size_t http_room(struct http_end *e) {
  return e->peer ? e->peer->ops->room(e->peer) : 0;
}

size_t http_send_body(struct http_end *e, struct evbuffer *from, size_t n) {
  return e->peer && n ? e->peer->ops->body(e->peer, from, n) : 0;
}

void http_send_trailers(struct http_end *e, const struct http_head *h) {
  if (e->peer)
    e->peer->ops->trailers(e->peer, h);
}

void http_send_end(struct http_end *e) {
  if (e->peer)
    e->peer->ops->end(e->peer);
}

void http_send_stop(struct http_end *e) {
  if (e->peer && e->peer->ops->stop)
    e->peer->ops->stop(e->peer);
}

void http_send_want(struct http_end *e) {
  if (e->peer)
    e->peer->ops->want(e->peer);
}

void http_done(struct http_end *e) {
  if (e->peer)
    e->peer->peer = NULL;
  e->peer = NULL;
}

void http_send_abort(struct http_end *e, enum page page) {
  struct http_end *peer = e->peer;
  http_done(e);
  if (peer)
    peer->ops->abort(peer, page);
}

int http_length(const struct http_head *h, uint64_t *out) {
  const struct http_field *found = NULL;
  for (size_t i = 0; i < h->fields_n; i++) {
    if (!span_ieq(h->fields[i].name, SPAN("content-length")))
      continue;
    if (found)
      return BEAM_ERR_INVALID;
    found = &h->fields[i];
  }
  if (!found)
    return BEAM_ERR_NOT_FOUND;
  return str_u64(found->value, INT64_MAX, out) ? 0 : BEAM_ERR_INVALID;
}

void http_track_begin(struct http_track *t, struct http_head *taken, uint64_t now) {
  memset(t, 0, sizeof *t);
  if (taken) {
    t->head = *taken;
    memset(taken, 0, sizeof *taken);
  }
  t->started_ms = t->head_ms = now;
  t->open = true;
}

void http_track_status(struct http_track *t, uint16_t status, uint64_t now) {
  t->status = status;
  t->head_ms = now;
}

void http_track_end(struct http_track *t, const struct http_handler *handler, uint64_t now) {
  if (!t->open)
    return;
  t->open = false;
  if (handler->finished) {
    struct http_record r = {.method = t->head.method,
                            .authority = t->head.authority,
                            .target = t->head.target,
                            .status = t->status,
                            .started_ms = t->started_ms,
                            .ttfb_ms = t->head_ms - t->started_ms,
                            .total_ms = now - t->started_ms,
                            .body_in = t->body_in,
                            .body_out = t->body_out,
                            .failed = t->failed};
    handler->finished(handler->user, &r);
  }
  http_head_free(&t->head);
}
