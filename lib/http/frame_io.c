#include "http/frame_io.h"

#include <beam/beam.h>
#include <event2/buffer.h>
#include <string.h>

#include "io/block.h"

int frame_io_init(struct frame_io *io, struct stream *s) {
  memset(io, 0, sizeof *io);
  io->s = s;
  io->pend = evbuffer_new();
  return io->pend ? 0 : BEAM_ERR_NOMEM;
}

void frame_io_fini(struct frame_io *io) {
  if (io->pend)
    evbuffer_free(io->pend);
  if (io->hold)
    evbuffer_free(io->hold);
  http_head_free(&io->head);
  io->pend = io->hold = NULL;
}

/* --- reading --- */

static bool ended(struct frame_io *io) {
  return io->s->in_ended || stream_dead(io->s);
}

/* A frame's header, left in the stream. >0: it is whole. */
static long peek(struct frame_io *io, struct frame *f) {
  uint8_t p[FRAME_HEADER];
  ev_ssize_t n = evbuffer_copyout(stream_input(io->s), p, sizeof p);
  return n > 0 ? frame_decode(p, (size_t)n, f) : 0;
}

/* The payload of the frame being read, in one piece; NULL: not all of it is here, or *bad. It is taken off the stream as it comes,
 * because the stream's window may be smaller. */
static const uint8_t *payload(struct frame_io *io, bool *bad) {
  struct evbuffer *in = stream_input(io->s);
  size_t n = io->frame.length, held = io->hold ? evbuffer_get_length(io->hold) : 0;
  const uint8_t *p = NULL;
  *bad = false;
  if (!held && evbuffer_get_length(in) >= n) {
    p = evbuffer_pullup(in, (ev_ssize_t)n);
    *bad = !p;
    return p;
  }
  if (!io->hold && !(io->hold = evbuffer_new())) {
    *bad = true;
    return NULL;
  }
  stream_take(io->s, io->hold, n - held);
  if (evbuffer_get_length(io->hold) < n)
    return NULL;
  p = evbuffer_pullup(io->hold, -1);
  *bad = !p;
  return p;
}

static void payload_done(struct frame_io *io) {
  if (io->hold && evbuffer_get_length(io->hold))
    evbuffer_drain(io->hold, io->frame.length);
  else
    stream_consume(io->s, io->frame.length);
  io->in_frame = false;
}

static bool kind_fits(enum frame_type type, const struct http_head *h) {
  switch (type) {
  case FRAME_INFO:
    return h->status >= 100 && h->status < 200 && h->status != 101;
  case FRAME_TRAILERS:
    return !h->status && !h->method.n;
  default:
    return h->method.n || h->status == 101 || h->status >= 200;
  }
}

/* HEAD, INFO, TRAILERS, ERROR. */
static enum frame_what read_payload(struct frame_io *io) {
  bool bad;
  const uint8_t *p = payload(io, &bad);
  if (!p)
    return bad ? FIO_BAD : ended(io) ? FIO_CUT : FIO_WAIT;
  if (io->frame.type == FRAME_ERROR) {
    io->code = (uint16_t)(p[0] << 8 | p[1]);
    payload_done(io);
    return FIO_ERROR;
  }
  http_head_free(&io->head);
  int err = frame_head_decode(p, io->frame.length, &io->head);
  payload_done(io);
  if (err || !kind_fits(io->frame.type, &io->head))
    return FIO_BAD;
  if (io->frame.type == FRAME_HEAD)
    io->have_head = true;
  return io->frame.type == FRAME_INFO ? FIO_INFO : io->frame.type == FRAME_TRAILERS ? FIO_TRAILERS : FIO_HEAD;
}

/* The frame behind HEAD says whether the message goes on. */
static enum frame_what head_event(struct frame_io *io) {
  struct frame f;
  long n = peek(io, &f);
  if (n < 0)
    return FIO_BAD;
  if (!n)
    return ended(io) ? FIO_CUT : FIO_WAIT;
  if (f.type != FRAME_END && f.type != FRAME_DATA && f.type != FRAME_ERROR)
    return FIO_BAD;
  io->more = f.type != FRAME_END;
  if (!io->more) {
    stream_consume(io->s, FRAME_HEADER);
    io->got_end = true;
  }
  io->have_head = false;
  io->got_head = io->after_head = true;
  return FIO_HEAD;
}

/* May this frame come now? */
static bool in_order(const struct frame_io *io, const struct frame *f) {
  if (f->type == FRAME_STOP || f->type == FRAME_ERROR)
    return true;
  if (io->got_end)
    return false;
  if (f->type == FRAME_HEAD || f->type == FRAME_INFO)
    return !io->got_head;
  return io->got_head && (f->type != FRAME_DATA || f->length || io->after_head);
}

/* Into the next frame; FIO_HEAD: it has a payload to read. */
static enum frame_what enter_frame(struct frame_io *io) {
  struct frame f;
  long n = peek(io, &f);
  if (n < 0)
    return FIO_BAD;
  if (!n)
    return ended(io) ? FIO_CUT : FIO_WAIT;
  if (!in_order(io, &f))
    return FIO_BAD;
  stream_consume(io->s, FRAME_HEADER);
  io->after_head = false;
  io->frame = f;
  io->left = f.type == FRAME_DATA ? f.length : 0;
  if (f.type == FRAME_END)
    io->got_end = true;
  io->in_frame = f.type != FRAME_END && f.type != FRAME_STOP && f.type != FRAME_DATA;
  return f.type == FRAME_END ? FIO_END : f.type == FRAME_STOP ? FIO_STOP : FIO_HEAD;
}

/* Data of the current frame. FIO_END: all of it went. */
static enum frame_what pass(struct frame_io *io, struct http_end *e) {
  while (io->left) {
    size_t n = stream_waiting(io->s);
    if (e && !e->peer)
      return FIO_GONE;
    if (!n)
      return ended(io) ? FIO_CUT : FIO_WAIT;
    if (n > io->left)
      n = io->left;
    size_t room = e ? http_room(e) : n;
    if (n > room)
      n = room;
    if (e) {
      n = http_send_body(e, stream_input(io->s), n);
      stream_credit(io->s, n);
    } else {
      stream_consume(io->s, n);
    }
    if (!n)
      return e && !e->peer ? FIO_GONE : FIO_FULL;
    io->left -= n;
    io->passed += n;
  }
  return FIO_END;
}

enum frame_what frame_io_next(struct frame_io *io, struct http_end *e) {
  for (;;) {
    enum frame_what what;
    if (io->left && (what = pass(io, e)) != FIO_END)
      return what;
    if (io->have_head)
      return head_event(io);
    if (!io->in_frame && (what = enter_frame(io)) != FIO_HEAD)
      return what;
    if (!io->in_frame)
      continue; /* DATA */
    what = read_payload(io);
    if (what != FIO_HEAD)
      return what;
  }
}

/* --- writing --- */

bool frame_io_flush(struct frame_io *io) {
  size_t n = evbuffer_get_length(io->pend);
  if (n && (stream_dead(io->s) || io->s->out_ended))
    evbuffer_drain(io->pend, n);
  else if (n && !stream_move(io->s, io->pend, n) && stream_room(io->s))
    io->err = true; /* there was room: nothing else can be in the way */
  return !evbuffer_get_length(io->pend);
}

int frame_io_head(struct frame_io *io, enum frame_type type, const struct http_head *h) {
  return frame_head_write(io->pend, type, h);
}

static void header(struct frame_io *io, enum frame_type type, size_t n) {
  uint8_t p[FRAME_HEADER];
  frame_encode(p, type, n);
  if (buffer_put(io->pend, p, sizeof p))
    io->err = true;
}

void frame_io_mark(struct frame_io *io, enum frame_type type) {
  header(io, type, 0);
}

void frame_io_error(struct frame_io *io, enum page page) {
  uint8_t code[2] = {(uint8_t)((unsigned)page >> 8), (uint8_t)page};
  header(io, FRAME_ERROR, sizeof code);
  if (buffer_put(io->pend, code, sizeof code))
    io->err = true;
}

size_t frame_io_room(struct frame_io *io) {
  return !io->err && frame_io_flush(io) ? stream_room(io->s) : 0;
}

size_t frame_io_body(struct frame_io *io, struct evbuffer *from, size_t n) {
  size_t took = 0;
  while (took < n && !io->err) {
    size_t part = n - took < FRAME_DATA_MAX ? n - took : FRAME_DATA_MAX;
    header(io, FRAME_DATA, part);
    if (io->err || buffer_move(io->pend, from, part) != part)
      io->err = true;
    else
      took += part;
  }
  io->written += took;
  frame_io_flush(io);
  return took;
}
