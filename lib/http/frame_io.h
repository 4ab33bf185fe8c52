/* frame_io.h: exchange frames on a stream, both ways, the same for relay and agent. Inside http/ only. */
#ifndef HTTP_FRAME_IO_H
#define HTTP_FRAME_IO_H

#include "http/exchange.h"
#include "io/stream.h"
#include "wire/frame.h"

enum frame_what {
  FIO_WAIT,     /* for bytes */
  FIO_FULL,     /* data waits, and the exchange has no room: it will say want() */
  FIO_HEAD,     /* io->head, io->more. The caller frees the head of these three */
  FIO_INFO,     /* io->head */
  FIO_TRAILERS, /* io->head */
  FIO_END,
  FIO_STOP,
  FIO_ERROR, /* io->code */
  FIO_BAD,   /* against the protocol */
  FIO_CUT,   /* the stream ended or died */
  FIO_GONE,  /* the exchange is over */
};

struct frame_io {
  struct stream *s;
  struct evbuffer *pend; /* written and not taken by s: a head and some framing at most */
  struct evbuffer *hold; /* a HEAD that came in pieces; made when it is needed */
  struct frame frame;    /* being read */
  size_t left;           /* of its data */
  bool in_frame;
  bool have_head;  /* decoded, waits for the frame after it */
  bool after_head; /* an empty DATA may come */
  bool got_head, got_end;
  bool more;
  bool err; /* out of memory while writing */
  struct http_head head;
  uint16_t code;
  uint64_t passed, written; /* body bytes in and out */
};

int frame_io_init(struct frame_io *io, struct stream *s); /* NOMEM */
void frame_io_fini(struct frame_io *io);

/* The next event. Data is passed on to e's peer on the way; dropped when e is NULL. */
enum frame_what frame_io_next(struct frame_io *io, struct http_end *e);

bool frame_io_flush(struct frame_io *io); /* true: nothing pends. False: writable() comes */
int frame_io_head(struct frame_io *io, enum frame_type type,
                  const struct http_head *h); /* NOMEM, TOO_LARGE; not flushed */
void frame_io_mark(struct frame_io *io,
                   enum frame_type type); /* END, STOP, or the empty DATA after HEAD; not flushed */
void frame_io_error(struct frame_io *io, enum page page);
size_t frame_io_room(struct frame_io *io);
size_t frame_io_body(struct frame_io *io, struct evbuffer *from, size_t n);

#endif
