/* records13.c: the TLS 1.3 engine of a stream: our own records between evbuffers. Plaintext and records are built in 64 KiB blocks. */
#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "io/block.h"
#include "tls/stream.h"

/* One record whose bytes lie in two chunks of the input is put together here. */
static _Thread_local uint8_t joined[RECORD_MAX];

/* --- receiving --- */

struct filling { /* a block of plaintext being filled */
  uint8_t *block;
  size_t n;
};

static int hand_over(struct tls_stream *t, struct filling *f) {
  uint8_t *block = f->block;
  size_t n = f->n;
  *f = (struct filling){0};
  if (block && n)
    return block_append(t->s.in, block, n);
  block_put(block);
  return 0;
}

static int need(struct tls_stream *t, struct filling *f, size_t n) {
  int err = f->block && BLOCK_BYTES - f->n < n ? hand_over(t, f) : 0;
  if (!err && !f->block && !(f->block = block_get()))
    err = BEAM_ERR_NOMEM;
  return err;
}

/* The next whole record, contiguous; NULL: not yet (*err 0), or the peer broke the rules. */
static const uint8_t *next_record(struct tls_stream *t, size_t *n, int *err) {
  struct evbuffer *in = stream_input(t->lower);
  struct evbuffer_iovec v;
  uint8_t head[RECORD_HEADER];
  *err = 0;
  if (evbuffer_copyout(in, head, sizeof head) != sizeof head)
    return NULL;
  if ((*err = records_length(t->records, head, n)) || evbuffer_get_length(in) < *n)
    return NULL;
  if (evbuffer_peek(in, -1, NULL, &v, 1) >= 1 && v.iov_len >= *n)
    return v.iov_base;
  if (evbuffer_copyout(in, joined, *n) == (ev_ssize_t)*n)
    return joined;
  *err = BEAM_ERR_INTERNAL;
  return NULL;
}

/* What a record meant for the stream. */
static int react(struct tls_stream *t, int what) {
  if (what == RECORD_CLOSED) {
    t->peer_closed = 1;
  } else if (what == RECORD_ALERTED) {
    log_limited(BEAM_LOG_INFO, "tls", "peer sent alert=%u", t->records->alert);
    return BEAM_ERR_RESET;
  }
  if (t->records->answer)
    loop_turn_end(t->s.loop, &t->flush);
  return 0;
}

static int open_one(struct tls_stream *t, struct filling *f, const uint8_t *record, size_t n) {
  int err = need(t, f, n - RECORD_HEADER - AEAD_TAG);
  if (err)
    return err;
  size_t len = 0;
  int what = records_open(t->records, loop_now(t->s.loop), record, n, f->block + f->n, &len);
  if (what < 0)
    return what;
  if (t->resume)
    resume_record(t, what, record, n);
  f->n += len;
  return react(t, what);
}

static int fill(struct tls_stream *t, size_t ceiling) {
  struct filling f = {0};
  size_t n = 0, taken = 0;
  int err = 0;
  while (!err && !t->peer_closed && evbuffer_get_length(t->s.in) + f.n < ceiling) {
    const uint8_t *record = next_record(t, &n, &err);
    if (!record)
      break;
    err = open_one(t, &f, record, n);
    evbuffer_drain(stream_input(t->lower), n);
    taken += n;
  }
  int err2 = hand_over(t, &f);
  stream_credit(t->lower, taken);
  if (err == BEAM_ERR_PROTOCOL) {
    uint8_t alert[RECORD_ALERT_BYTES];
    log_limited(BEAM_LOG_INFO, "tls", "peer broke the record protocol, sending alert=%u", t->records->alert);
    if (!records_alert(t->records, t->records->alert, alert))
      evbuffer_add(t->out, alert, sizeof alert);
  }
  return err ? err : err2;
}

/* --- sending --- */

static int update_keys(struct tls_stream *t) {
  uint8_t record[RECORD_UPDATE_BYTES];
  int err = records_key_update(t->records, record);
  return err ? err : buffer_put(t->out, record, sizeof record) ? BEAM_ERR_NOMEM : 0;
}

/* Fill one block with records. */
static int seal_block(struct tls_stream *t, bool all) {
  struct records *r = t->records;
  uint8_t *block = block_get();
  size_t used = 0, left;
  int err = block ? 0 : BEAM_ERR_NOMEM;
  while (!err && (left = evbuffer_get_length(t->pending)) && !records_update_due(r)) {
    size_t n = left < r->max_out ? left : r->max_out, space = BLOCK_BYTES - used;
    if ((!all && left < r->max_out) || space < n / 2 + RECORD_OVERHEAD)
      break;
    if (n > space - RECORD_OVERHEAD) /* cut one to fill the block, but not by more than half */
      n = space - RECORD_OVERHEAD;
    if (evbuffer_remove(t->pending, block + used + RECORD_HEADER, n) != (int)n)
      err = BEAM_ERR_INTERNAL;
    else
      err = records_seal(r, RECORD_DATA_TYPE, block + used, n);
    used += n + RECORD_OVERHEAD;
  }
  if (!err && used)
    return block_append(t->out, block, used);
  block_put(block);
  return err;
}

static int seal(struct tls_stream *t, bool all) {
  size_t least = all ? 1 : t->records->max_out;
  int err = 0;
  if (records_update_due(t->records))
    err = update_keys(t);
  while (!err && evbuffer_get_length(t->pending) >= least) {
    err = seal_block(t, all);
    if (!err && records_update_due(t->records))
      err = update_keys(t);
  }
  return err;
}

static int say_bye(struct tls_stream *t) {
  uint8_t record[RECORD_ALERT_BYTES];
  int err = records_alert(t->records, ALERT_CLOSE_NOTIFY, record);
  return err ? err : buffer_put(t->out, record, sizeof record) ? BEAM_ERR_NOMEM : 0;
}

/* A block may end in a record cut to half its size: count with that. */
static size_t overhead(struct tls_stream *t, size_t n) {
  size_t least = t->records->max_out / 2 + 1;
  return (n / (least + RECORD_OVERHEAD) + 1) * RECORD_OVERHEAD;
}

static void release(struct tls_stream *t) {
  if (t->records)
    records_wipe(t->records);
  free(t->records);
}

const struct tls_engine tls_engine_13 = {fill, seal, say_bye, overhead, release};
