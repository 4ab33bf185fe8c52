#include "http/h1_body.h"

#include <beam/beam.h>
#include <event2/buffer.h>
#include <string.h>

#include "base/limits.h"
#include "io/block.h"

/* --- in --- */

void h1_in_start(struct h1_in *in, enum http_body kind, uint64_t length) {
  memset(in, 0, sizeof *in);
  in->kind = kind;
  if (kind == HTTP_BODY_LENGTH)
    in->left = length;
  if (kind == HTTP_BODY_CHUNKED)
    h1_chunked_init(&in->chunked);
}

static size_t front_piece(struct evbuffer *b, const char **p) {
  struct evbuffer_iovec v;
  if (evbuffer_peek(b, -1, NULL, &v, 1) < 1)
    v = (struct evbuffer_iovec){"", 0};
  *p = v.iov_base;
  return v.iov_len;
}

static enum h1_pump trailers(struct http_end *e, const char *p, size_t n) {
  struct http_head t;
  if (h1_parse_trailers(p, n, &t))
    return H1_PUMP_BAD;
  if (e)
    http_send_trailers(e, &t);
  http_head_free(&t);
  return H1_PUMP_FULL; /* any but BAD */
}

/* Eat framing until data or the end comes. END, BAD, WAIT; FULL: in->left data bytes are next. */
static enum h1_pump framing(struct h1_in *in, struct stream *s, struct http_end *e) {
  const char *p;
  size_t n = front_piece(stream_input(s), &p), used, data;
  for (;;) {
    switch (h1_chunked_next(&in->chunked, p, n, &used, &data)) {
    case H1_CHUNK_DATA:
      in->left = in->chunked.left;
      stream_consume(s, used);
      return H1_PUMP_FULL;
    case H1_CHUNK_TRAILERS:
      if (trailers(e, p + used, data) == H1_PUMP_BAD)
        return H1_PUMP_BAD;
      used += data;
      break;
    case H1_CHUNK_END:
      stream_consume(s, used);
      return H1_PUMP_END;
    case H1_CHUNK_BAD:
      return H1_PUMP_BAD;
    case H1_CHUNK_MORE:
      if (used)
        break;
      size_t all = stream_waiting(s) < LIMIT_HEAD_BYTES ? stream_waiting(s) : LIMIT_HEAD_BYTES;
      if (n >= all)
        return H1_PUMP_WAIT;
      n = all; /* the trailers lie across two pieces */
      if (!(p = (const char *)evbuffer_pullup(stream_input(s), (ev_ssize_t)n)))
        return H1_PUMP_BAD;
      continue;
    }
    stream_consume(s, used);
    n = front_piece(stream_input(s), &p);
  }
}

/* How many bytes of s are body now; 0 and *what when none are. */
static size_t ready(struct h1_in *in, struct stream *s, struct http_end *e, enum h1_pump *what) {
  size_t waiting = stream_waiting(s);
  *what = H1_PUMP_WAIT;
  switch (in->kind) {
  case HTTP_BODY_NONE:
    *what = H1_PUMP_END;
    return 0;
  case HTTP_BODY_LENGTH:
    if (!in->left)
      *what = H1_PUMP_END;
    break;
  case HTTP_BODY_CHUNKED:
    if (!in->left && (*what = framing(in, s, e)) != H1_PUMP_FULL)
      break;
    *what = H1_PUMP_WAIT;
    waiting = stream_waiting(s);
    break;
  case HTTP_BODY_CLOSE:
  case HTTP_BODY_UPGRADE:
    if (stream_at_end(s))
      *what = H1_PUMP_END;
    else if (!waiting && stream_dead(s))
      *what = H1_PUMP_CUT;
    return waiting;
  }
  if (*what == H1_PUMP_WAIT && (!waiting || !in->left)) {
    if (stream_dead(s) || s->in_ended)
      *what = H1_PUMP_CUT;
    return 0;
  }
  if (*what != H1_PUMP_WAIT)
    return 0;
  return waiting < in->left ? waiting : (size_t)in->left;
}

enum h1_pump h1_in_pump(struct h1_in *in, struct stream *s, struct http_end *e) {
  for (;;) {
    enum h1_pump what;
    if (e && !e->peer)
      return H1_PUMP_GONE;
    size_t n = ready(in, s, e, &what);
    if (!n)
      return what;
    size_t room = e ? http_room(e) : n;
    size_t took = n < room ? n : room;
    if (e) {
      took = http_send_body(e, stream_input(s), took);
      stream_credit(s, took);
    } else {
      stream_consume(s, took);
    }
    if (!took)
      return e && !e->peer ? H1_PUMP_GONE : H1_PUMP_FULL;
    in->passed += took;
    if (in->kind == HTTP_BODY_LENGTH || in->kind == HTTP_BODY_CHUNKED)
      in->left -= took;
    if (in->kind == HTTP_BODY_CHUNKED)
      h1_chunked_ate(&in->chunked, took);
  }
}

long h1_head_waiting(struct stream *s, size_t *scanned, const char **p) {
  size_t all = stream_waiting(s), n = front_piece(stream_input(s), p);
  long len = n ? h1_head_length(*p, n, scanned) : 0;
  if (!len && n < all) {
    size_t most = LIMIT_HEAD_BYTES + 1; /* never pull up a whole body that lies behind */
    n = all < most ? all : most;
    *p = (const char *)evbuffer_pullup(stream_input(s), (ev_ssize_t)n);
    len = *p ? h1_head_length(*p, n, scanned) : BEAM_ERR_TOO_LARGE;
  }
  /* A stream whose window is no larger than the limit brings no byte more. */
  return !len && all >= LIMIT_HEAD_BYTES ? BEAM_ERR_TOO_LARGE : len;
}

/* --- out --- */

int h1_out_init(struct h1_out *o, struct stream *s) {
  memset(o, 0, sizeof *o);
  o->s = s;
  o->pend = evbuffer_new();
  return o->pend ? 0 : BEAM_ERR_NOMEM;
}

void h1_out_fini(struct h1_out *o) {
  if (o->pend)
    evbuffer_free(o->pend);
  o->pend = NULL;
}

void h1_out_start(struct h1_out *o, enum http_body kind, uint64_t length) {
  o->kind = kind;
  o->left = length;
  o->passed = 0;
  o->last = false;
}

bool h1_out_flush(struct h1_out *o) {
  size_t n = evbuffer_get_length(o->pend);
  if (n && (stream_dead(o->s) || o->s->out_ended))
    evbuffer_drain(o->pend, n);
  else if (n && !stream_move(o->s, o->pend, n) && stream_room(o->s))
    o->err = BEAM_ERR_NOMEM; /* there was room: nothing else can be in the way */
  return !evbuffer_get_length(o->pend);
}

size_t h1_out_room(struct h1_out *o) {
  if (o->kind == HTTP_BODY_NONE)
    return LIMIT_HEAD_BYTES; /* the body of an answer to HEAD: read and dropped */
  return h1_out_flush(o) ? stream_room(o->s) : 0;
}

static size_t chunk(struct h1_out *o, struct evbuffer *from, size_t n) {
  if (h1_write_chunk_head(o->pend, n) || buffer_move(o->pend, from, n) != n ||
      buffer_put(o->pend, "\r\n", 2)) {
    o->err = BEAM_ERR_NOMEM;
    return 0;
  }
  h1_out_flush(o);
  return n;
}

size_t h1_out_body(struct h1_out *o, struct evbuffer *from, size_t n) {
  if (o->kind == HTTP_BODY_NONE) {
    evbuffer_drain(from, n);
    return n;
  }
  if (o->kind == HTTP_BODY_LENGTH && n > o->left) {
    o->err = BEAM_ERR_TOO_LARGE;
    n = (size_t)o->left;
  }
  if (!n || o->err || o->last)
    return 0;
  if (o->kind == HTTP_BODY_CHUNKED) {
    n = chunk(o, from, n);
  } else if (evbuffer_get_length(o->pend)) { /* with its head, in one go */
    if ((n = buffer_move(o->pend, from, n)))
      h1_out_flush(o);
  } else if (!(n = stream_move(o->s, from, n)) && stream_room(o->s)) {
    o->err = BEAM_ERR_NOMEM;
  }
  o->passed += n;
  if (o->kind == HTTP_BODY_LENGTH)
    o->left -= n;
  return n;
}

void h1_out_trailers(struct h1_out *o, const struct http_head *h) {
  if (o->kind != HTTP_BODY_CHUNKED || o->last)
    return;
  o->last = true;
  if (h1_write_last_chunk(o->pend, h))
    o->err = BEAM_ERR_NOMEM;
}

int h1_out_end(struct h1_out *o) {
  if (o->kind == HTTP_BODY_LENGTH && o->left)
    return BEAM_ERR_TRUNCATED;
  h1_out_trailers(o, NULL);
  h1_out_flush(o);
  return 0;
}
