/* stream.c: the stream contract over an engine that turns plaintext into records and back.
 *
 *   lower's input ──fill──► s.in ──► owner          as much as LIMIT_TLS_IN; the rest stays with the lower stream, which then stops reading
 *   owner ──move──► pending ──seal──► out ──► lower  at the turn's end: one batch of records, one write
 *
 *            close_notify received        stream_finish: close_notify sent
 *   OPEN ─────────────────────────► IN ENDED / OUT ENDED
 *     │ fault: alert sent, lower closed in order      lower ended without close_notify: TRUNCATED      lower reset: its reason
 *     ▼
 *   DEAD ──stream_close──► freed                   stream_close(0) with bytes still to leave: ORPHAN ──drained or LIMIT_SOCK_DRAIN_MS──► freed
 */
#include "tls/stream.h"

#include <beam/beam.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/limits.h"
#include "io/block.h"

/* Room kept in the lower stream for what TLS says by itself: a KeyUpdate, an alert, close_notify. */
enum { SPARE = 128 };
/* A lower stream with hardly any room still takes this much at a time; the rest waits in out. */
enum { LEAST = 1024 };

static void destroy(struct tls_stream *t, int reason) {
  resume_end(t);
  if (t->engine)
    t->engine->free(t);
  task_cancel(&t->flush);
  task_cancel(&t->fill);
  timer_stop(&t->drain);
  stream_close(t->lower, reason);
  if (t->pending)
    evbuffer_free(t->pending);
  if (t->out)
    evbuffer_free(t->out);
  stream_fini(&t->s);
  tls_context_unref(t->ctx);
  sodium_memzero(t->exporter, sizeof t->exporter);
  free(t);
}

static size_t waiting_to_leave(const struct tls_stream *t) {
  return evbuffer_get_length(t->pending) + evbuffer_get_length(t->out);
}

/* --- faults --- */

/* The connection is over. What is in out (an alert, at the end) is still sent: the lower stream is closed in order. */
static void fault(struct tls_stream *t, int err) {
  struct stream *lower = t->lower;
  if (!lower || t->s.dead)
    return;
  evbuffer_drain(t->pending, evbuffer_get_length(t->pending));
  tls_bio_flush(lower, t->out);
  t->lower = t->s.below = NULL;
  stream_close(lower, stream_dead(lower) ? err : 0);
  stream_tell_closed(&t->s, err);
}

/* --- sending --- */

static void tell_room(struct tls_stream *t) {
  if (t->s.want_room && !t->orphan && stream_room(&t->s))
    stream_tell_writable(&t->s);
}

/* Seal all and give it to the lower stream. */
static int send_all(struct tls_stream *t) {
  int err = t->failed ? t->failed : t->engine->seal(t, true);
  if (!err && t->s.out_ended && !t->said_bye) {
    err = t->engine->say_bye(t);
    t->said_bye = 1;
  }
  if (err)
    return err;
  tls_bio_flush(t->lower, t->out);
  if (t->said_bye && !t->finished && !evbuffer_get_length(t->out)) {
    t->finished = 1;
    stream_finish(t->lower);
  }
  return 0;
}

static void flush(void *arg) {
  struct tls_stream *t = arg;
  if (!t->lower || t->s.dead)
    return;
  int err = send_all(t);
  if (t->orphan) {
    if (err || !waiting_to_leave(t))
      destroy(t, err);
    return;
  }
  if (err)
    fault(t, err);
  else
    tell_room(t);
}

static size_t room(struct stream *s) {
  struct tls_stream *t = (struct tls_stream *)s;
  size_t held = waiting_to_leave(t), below = stream_room(t->lower);
  size_t added = t->engine->overhead(t, below) + SPARE;
  size_t fits = below > added ? below - added : 0;
  if (fits > LIMIT_TLS_OUT)
    fits = LIMIT_TLS_OUT;
  if (held < fits)
    return fits - held;
  if (!held && below)
    return LEAST;
  return 0; /* the flush that is due tells when there is more */
}

static size_t move(struct stream *s, struct evbuffer *from, size_t n) {
  struct tls_stream *t = (struct tls_stream *)s;
  size_t r = t->lower ? room(s) : 0;
  n = r ? buffer_move(t->pending, from, n < r ? n : r) : 0;
  if (!n)
    return 0;
  /* What was just written is still in the processor's cache: seal whole records now, the rest at the turn's end. */
  if (evbuffer_get_length(t->pending) >= BLOCK_BYTES && !t->failed)
    t->failed = t->engine->seal(t, false);
  loop_turn_end(s->loop, &t->flush);
  return n;
}

static void finish(struct stream *s) {
  struct tls_stream *t = (struct tls_stream *)s;
  if (t->lower)
    loop_turn_end(s->loop, &t->flush);
}

/* --- receiving --- */

/* The lower stream is at its end, or has nothing whole left. */
static void look_at_end(struct tls_stream *t) {
  if (t->peer_closed && !t->s.in_ended) {
    t->s.in_ended = 1;
    stream_tell_readable(&t->s);
  } else if (!t->peer_closed && t->lower->in_ended && evbuffer_get_length(t->s.in) < LIMIT_TLS_IN) {
    fault(t, BEAM_ERR_TRUNCATED); /* all that was whole is decrypted */
  }
}

static void read_up_to(struct tls_stream *t, size_t ceiling) {
  size_t before = evbuffer_get_length(t->s.in);
  int err = t->peer_closed ? 0 : t->engine->fill(t, ceiling);
  if (evbuffer_get_length(t->s.in) > before)
    stream_tell_readable(&t->s);
  if (t->peer_closed) /* whatever comes now means nothing */
    stream_consume(t->lower, stream_waiting(t->lower));
  if (err)
    fault(t, err);
  else
    look_at_end(t);
}

static void fill(void *arg) {
  struct tls_stream *t = arg;
  if (!t->lower || t->s.dead || t->orphan)
    return;
  read_up_to(t, LIMIT_TLS_IN);
}

static void consumed(struct stream *s, size_t n) {
  struct tls_stream *t = (struct tls_stream *)s;
  (void)n;
  if (t->lower && (stream_waiting(t->lower) || t->lower->in_ended) &&
      evbuffer_get_length(s->in) < LIMIT_TLS_IN)
    loop_soon(s->loop, &t->fill);
}

/* --- what the lower stream tells --- */

static void on_readable(void *user) {
  struct tls_stream *t = user;
  if (t->orphan)
    stream_consume(t->lower, stream_waiting(t->lower));
  else
    fill(t);
}

static void on_writable(void *user) {
  flush(user);
}

static void on_closed(void *user, int reason) {
  struct tls_stream *t = user;
  if (t->orphan) {
    destroy(t, reason);
    return;
  }
  if (t->s.dead)
    return;
  /* What came before the end is the owner's, ceiling or not: the lower stream's own ceiling bounds it. */
  read_up_to(t, SIZE_MAX);
  if (!t->s.dead)
    fault(t, reason);
}

static const struct stream_events below = {on_readable, on_writable, on_closed};

/* --- life --- */

static void drained_too_slowly(void *arg) {
  destroy(arg, BEAM_ERR_TIMEOUT);
}

static void end_of_loop(void *arg) {
  destroy(arg, BEAM_ERR_CLOSED);
}

static void close_tls(struct stream *s, int reason) {
  struct tls_stream *t = (struct tls_stream *)s;
  int err = reason;
  if (!reason && t->lower && !s->dead)
    err = send_all(t);
  if (err || !t->lower || stream_dead(t->lower) || !waiting_to_leave(t)) {
    destroy(t, err);
    return;
  }
  if (timer_start(&t->drain, LIMIT_SOCK_DRAIN_MS)) {
    destroy(t, BEAM_ERR_NOMEM);
    return;
  }
  t->orphan = 1;
  resume_end(t);
  task_cancel(&t->fill);
  evbuffer_drain(s->in, evbuffer_get_length(s->in));
  task_cancel(&t->flush);
  task_init(&t->flush, end_of_loop, t);
  loop_at_free(s->loop, &t->flush);
}

static const struct stream_ops ops = {"tls", consumed, room, move, finish, close_tls};

int tls_stream_new(struct stream *lower, struct evbuffer *out, const struct tls_engine *engine,
                   struct tls_stream **res) {
  struct tls_stream *t = calloc(1, sizeof *t);
  if (!t) {
    stream_close(lower, BEAM_ERR_NOMEM);
    evbuffer_free(out);
    return BEAM_ERR_NOMEM;
  }
  int err = stream_init(&t->s, &ops, lower->loop);
  t->s.via = lower->via;
  t->lower = t->s.below = lower;
  t->out = out;
  t->pending = evbuffer_new();
  task_init(&t->flush, flush, t);
  task_init(&t->fill, fill, t);
  timer_init(&t->drain, lower->loop, drained_too_slowly, t);
  if (err || !t->pending) {
    destroy(t, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  t->engine = engine;
  *res = t;
  return 0;
}

void tls_stream_start(struct tls_stream *t) {
  stream_own(t->lower, &below, t);
  if (evbuffer_get_length(t->out))
    loop_turn_end(t->s.loop, &t->flush);
}

int tls_exporter(struct stream *s, uint8_t out[TLS_EXPORT_BYTES]) {
  const struct tls_stream *t = (const struct tls_stream *)s;
  if (s->ops != &ops || !t->has_export)
    return BEAM_ERR_UNSUPPORTED;
  for (size_t i = 0; i < TLS_EXPORT_BYTES; i++)
    out[i] = t->exporter[i];
  return 0;
}
