/* stream.h: the TLS stream, whichever engine turns its bytes; for the files of tls/ only. See stream.c. */
#ifndef TLS_STREAM_H
#define TLS_STREAM_H

#include "tls/context.h"
#include "tls/records.h"

struct tls_stream;
struct resume;

/* mbedTLS's view of a stream (bio.c). */
struct tls_bio {
  struct stream *lower;
  struct evbuffer *out;
};

/* What an engine does with bytes: records13.c is our own (TLS 1.3), records12.c is mbedTLS (TLS 1.2). */
struct tls_engine {
  /* Decrypt what waits in the lower stream into s.in, up to `ceiling` bytes there. Sets peer_closed. 0, or an error after which nothing more is read. */
  int (*fill)(struct tls_stream *t, size_t ceiling);
  /* Encrypt from pending into out; with `all` everything, else whole records only. 0 or an error. */
  int (*seal)(struct tls_stream *t, bool all);
  int (*say_bye)(struct tls_stream *t); /* close_notify into out */
  size_t (*overhead)(struct tls_stream *t,
                     size_t n); /* at most this many bytes are added to n bytes of plaintext */
  void (*free)(struct tls_stream *t);
};

struct tls_stream {
  struct stream s;
  struct stream *lower;     /* NULL once closed */
  struct evbuffer *pending; /* plaintext written and not sealed */
  struct evbuffer *out;     /* sealed and not taken by the lower stream */
  struct loop_task flush, fill;
  const struct tls_engine *engine;
  unsigned peer_closed : 1; /* close_notify came */
  unsigned said_bye : 1;    /* ours is in out, or beyond */
  unsigned finished : 1;    /* the lower stream was finished */
  unsigned orphan : 1;      /* no owner any more: what was written drains, then it is freed */
  unsigned has_export : 1;
  uint8_t exporter[TLS_EXPORT_BYTES];
  struct loop_timer drain;
  int failed;               /* why sealing failed, told at the turn's end; 0 */
  struct records *records;  /* TLS 1.3; else NULL */
  mbedtls_ssl_context *ssl; /* TLS 1.2; else NULL: */
  struct tls_bio bio;
  unsigned char refusals;  /* answers that reading made mbedTLS write */
  struct tls_context *ctx; /* which mbedTLS needs for as long as it lives */
  struct resume *resume;   /* a client that waits for its first ticket; else NULL */
};

/* A stream over `lower`, which it takes (also when it fails: then closed); `out` (taken too) holds what the handshake could not write yet. */
int tls_stream_new(struct stream *lower, struct evbuffer *out, const struct tls_engine *engine,
                   struct tls_stream **res);
void tls_stream_start(struct tls_stream *t); /* once the engine is set up: from here on it reads */

extern const struct tls_engine tls_engine_13, tls_engine_12;

/* --- bio.c --- */
int tls_bio_send(void *bio, const unsigned char *p, size_t n);
int tls_bio_recv(void *bio, unsigned char *p, size_t n);
/* Give what waits in out to lower. */
void tls_bio_flush(struct stream *lower, struct evbuffer *out);

/* --- resume.c --- */
/* Takes ssl and a reference of ctx; t->resume is set unless out of memory. */
void resume_wait(struct tls_stream *t, mbedtls_ssl_context *ssl, struct tls_context *ctx);
/* A record was opened: what it was, and its bytes. Ends the waiting when there is nothing more to learn. */
void resume_record(struct tls_stream *t, int what, const uint8_t *record, size_t n);
void resume_end(struct tls_stream *t); /* no-op when it does not wait */
/* Keep ssl's session in ctx for the next connection. */
void resume_keep(struct tls_context *ctx, mbedtls_ssl_context *ssl);

#endif
