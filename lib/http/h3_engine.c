/* h3_engine.c: nghttp3 for a visitor's connection: what is sent, and what its callbacks note. Nothing here calls a handler or an exchange's peer. */
#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "http/h3_conn.h"
#include "io/block.h"

static struct h3_conn *conn_of(const struct mux_request *r) {
  return (struct h3_conn *)r->c;
}

/* --- receiving --- */

static int broken(struct h3_conn *c, int reason) {
  h3_conn_kill(c, reason);
  return NGHTTP3_ERR_CALLBACK_FAILURE;
}

static int on_begin(nghttp3_conn *ng, int64_t id, void *user, void *stream) {
  struct h3_conn *c = user;
  mux_head_clear(&c->head);
  return stream ? 0 : nghttp3_conn_set_stream_user_data(ng, id, h3_stream_find(c, id));
}

static int on_field(nghttp3_conn *ng, int64_t id, int32_t token, nghttp3_rcbuf *name, nghttp3_rcbuf *value,
                    uint8_t flags, void *user, void *stream) {
  (void)ng, (void)id, (void)token, (void)flags, (void)stream;
  struct h3_conn *c = user;
  nghttp3_vec n = nghttp3_rcbuf_get_buf(name), v = nghttp3_rcbuf_get_buf(value);
  mux_head_add(&c->head, (struct span){(const char *)n.base, n.len},
               (struct span){(const char *)v.base, v.len});
  return 0;
}

static int on_head(nghttp3_conn *ng, int64_t id, int fin, void *user, void *stream) {
  (void)ng, (void)id;
  struct h3_conn *c = user;
  struct h3_stream *st = stream;
  if (st && st->request)
    mux_request_head(&st->request->r, &c->head, fin);
  mux_head_clear(&c->head);
  return 0;
}

static int on_trailers(nghttp3_conn *ng, int64_t id, int fin, void *user, void *stream) {
  (void)ng, (void)id, (void)fin;
  struct h3_conn *c = user;
  struct h3_stream *st = stream;
  if (!st || !st->request)
    return 0;
  struct mux_request *r = &st->request->r;
  http_head_free(&r->trailers);
  if (mux_head_trailers(&c->head, &r->trailers))
    return NGHTTP3_ERR_CALLBACK_FAILURE;
  r->has_trailers = r->trailers.fields_n > 0;
  return 0;
}

static int on_data(nghttp3_conn *ng, int64_t id, const uint8_t *p, size_t n, void *user, void *stream) {
  (void)ng, (void)id;
  struct h3_conn *c = user;
  struct h3_stream *st = stream;
  if (!st || !st->request || st->request->r.req_closed)
    return 0;
  int err = mux_request_received(&st->request->r, p, n);
  return err ? broken(c, err) : 0;
}

static int on_end(nghttp3_conn *ng, int64_t id, void *user, void *stream) {
  (void)ng, (void)id, (void)user;
  struct h3_stream *st = stream;
  if (st && st->request)
    mux_request_ended(&st->request->r);
  return 0;
}

/* A message that may not be (RFC 9114 4.1.2): its stream goes, the connection does not. */
static int on_reset(nghttp3_conn *ng, int64_t id, uint64_t code, void *user, void *stream) {
  (void)ng, (void)id, (void)code, (void)user;
  struct h3_stream *st = stream;
  if (st && st->request) {
    st->request->malformed = true;
    st->request->r.gone = 1;
    mux_request_soon(&st->request->r);
  }
  return 0;
}

long h3_engine_feed(struct h3_stream *st, const uint8_t *p, size_t n, bool end) {
  struct h3_conn *c = st->c;
  nghttp3_ssize used = nghttp3_conn_read_stream(c->ng, st->id, p, n, end);
  if (c->kill)
    return c->kill;
  if (used >= 0)
    return 0;
  log_limited(BEAM_LOG_DEBUG, "http", "http3 visitor: %s", nghttp3_strerror((int)used));
  return used == NGHTTP3_ERR_NOMEM ? BEAM_ERR_NOMEM : BEAM_ERR_PROTOCOL;
}

/* --- sending --- */

static int fields_of(const struct http_head *h, uint16_t status, nghttp3_nv nv[MUX_FIELDS], size_t *n,
                     char **text) {
  struct http_field f[MUX_FIELDS];
  int err = mux_head_fields(h, status, f, n, text);
  for (size_t i = 0; !err && i < *n; i++)
    nv[i] = (nghttp3_nv){(uint8_t *)f[i].name.p, (uint8_t *)f[i].value.p, f[i].name.n, f[i].value.n,
                         NGHTTP3_NV_FLAG_NONE};
  return err;
}

static int submit_trailers(struct h3_conn *c, struct mux_request *r) {
  nghttp3_nv nv[MUX_FIELDS];
  size_t n;
  char *text;
  int err = fields_of(&r->out_trailers, 0, nv, &n, &text);
  if (!err && nghttp3_conn_submit_trailers(c->ng, r->id, nv, n))
    err = BEAM_ERR_NOMEM;
  free(text);
  return err;
}

/* One block at a time: nghttp3 points at it until it is acknowledged, which here is when the QUIC stream has taken it. */
static nghttp3_ssize read_data(nghttp3_conn *ng, int64_t id, nghttp3_vec *vec, size_t cap, uint32_t *flags,
                               void *user, void *stream) {
  (void)ng, (void)id, (void)cap;
  struct h3_conn *c = user;
  struct h3_stream *st = stream;
  struct h3_request *hr = st ? st->request : NULL;
  if (!hr || hr->block_n)
    return NGHTTP3_ERR_WOULDBLOCK;
  struct mux_request *r = &hr->r;
  size_t n = evbuffer_get_length(r->out);
  bool ends = r->resp_done && n <= BLOCK_BYTES;
  if (!n && !ends)
    return NGHTTP3_ERR_WOULDBLOCK;
  if (n > BLOCK_BYTES)
    n = BLOCK_BYTES;
  if (n && !hr->block && !(hr->block = block_get()))
    return broken(c, BEAM_ERR_NOMEM);
  if (n)
    evbuffer_remove(r->out, hr->block, n);
  hr->block_n = n;
  hr->block_acked = 0;
  if (ends)
    *flags |= NGHTTP3_DATA_FLAG_EOF;
  if (ends && r->has_out_trailers) {
    *flags |= NGHTTP3_DATA_FLAG_NO_END_STREAM;
    if (submit_trailers(c, r))
      return broken(c, BEAM_ERR_NOMEM);
  }
  vec[0] = (nghttp3_vec){hr->block, n};
  mux_request_sent(r);
  return n ? 1 : 0;
}

static int on_acked(nghttp3_conn *ng, int64_t id, uint64_t n, void *user, void *stream) {
  (void)ng, (void)id, (void)user;
  struct h3_stream *st = stream;
  struct h3_request *hr = st ? st->request : NULL;
  if (!hr)
    return 0;
  hr->block_acked += (size_t)n;
  if (hr->block_acked < hr->block_n)
    return 0;
  hr->block_n = hr->block_acked = 0;
  if (!evbuffer_get_length(hr->r.out)) {
    block_put(hr->block);
    hr->block = NULL;
  }
  return 0;
}

static int submit(struct mux_request *r, const struct http_head *h, bool final, bool more) {
  struct h3_conn *c = conn_of(r);
  nghttp3_nv nv[MUX_FIELDS];
  nghttp3_data_reader body = {read_data};
  size_t n;
  char *text;
  int rv = 0, err = fields_of(h, h->status, nv, &n, &text);
  if (!err && final)
    rv = nghttp3_conn_submit_response(c->ng, r->id, nv, n, more ? &body : NULL);
  else if (!err)
    rv = nghttp3_conn_submit_info(c->ng, r->id, nv, n);
  free(text);
  h3_conn_flush_soon(c);
  return err ? err : rv ? BEAM_ERR_NOMEM : 0;
}

static int respond(struct mux_request *r, const struct http_head *h, bool more) {
  return submit(r, h, true, more);
}

static int inform(struct mux_request *r, const struct http_head *h) {
  return submit(r, h, false, true);
}

static struct h3_stream *stream_of(struct mux_request *r) {
  return ((struct h3_request *)r)->st;
}

static void wake(struct mux_request *r) {
  if (r->id >= 0)
    nghttp3_conn_resume_stream(conn_of(r)->ng, r->id);
  h3_conn_flush_soon(conn_of(r));
}

static void reset(struct mux_request *r, enum mux_reset how) {
  struct h3_stream *st = stream_of(r);
  if (!st)
    return;
  h3_stream_close(st, how == MUX_RESET_ENOUGH ? 0 : BEAM_ERR_INTERNAL);
}

static void took(struct mux_request *r, size_t n) {
  (void)n;
  if (stream_of(r))
    h3_stream_feed_soon(stream_of(r));
}

static size_t credit(struct mux_request *r) {
  struct h3_stream *st = stream_of(r);
  return st && stream_room(st->s) ? LIMIT_SOCK_OUT : 0;
}

const struct mux_engine h3_engine = {respond, inform, wake, reset, took, credit};

/* What nghttp3 gave for one stream, into it. The count that was taken. */
static size_t put(struct h3_stream *st, const nghttp3_vec *vec, nghttp3_ssize vecs) {
  size_t sum = 0;
  for (nghttp3_ssize i = 0; i < vecs; i++) {
    size_t n = stream_write(st->s, vec[i].base, vec[i].len);
    sum += n;
    if (n < vec[i].len)
      break;
  }
  return sum;
}

static void sent(struct h3_stream *st) {
  stream_finish(st->s);
  if (!st->request)
    return;
  st->request->r.fin_sent = 1;
  mux_request_sent(&st->request->r);
}

/* The stream nghttp3 wants to send on next. False: not a stream of ours any more. */
static bool send_one(struct h3_conn *c, int64_t id, const nghttp3_vec *vec, nghttp3_ssize vecs, int fin) {
  struct h3_stream *st = h3_stream_find(c, id);
  size_t all = nghttp3_vec_len(vec, (size_t)vecs), n = st ? put(st, vec, vecs) : 0;
  if (!st)
    return false;
  if (nghttp3_conn_add_write_offset(c->ng, id, n) || (n && nghttp3_conn_add_ack_offset(c->ng, id, n))) {
    h3_conn_kill(c, BEAM_ERR_INTERNAL);
    return true;
  }
  struct h3_request *hr = st->request;
  /* It may have asked for more while the last piece of a block still waited, and was told that there is none. */
  if (hr && !hr->block_n && (evbuffer_get_length(hr->r.out) || hr->r.resp_done))
    nghttp3_conn_resume_stream(c->ng, id);
  if (n < all)
    nghttp3_conn_block_stream(c->ng, id); /* writable() comes */
  else if (fin)
    sent(st);
  return true;
}

int h3_engine_write(struct h3_conn *c) {
  while (!c->kill) {
    nghttp3_vec vec[16];
    int64_t id;
    int fin = 0;
    nghttp3_ssize n = nghttp3_conn_writev_stream(c->ng, &id, &fin, vec, 16);
    if (n < 0)
      return n == NGHTTP3_ERR_NOMEM ? BEAM_ERR_NOMEM : BEAM_ERR_INTERNAL;
    if (id < 0)
      return 0;
    if (!send_one(c, id, vec, n, fin))
      nghttp3_conn_shutdown_stream_write(c->ng, id);
  }
  return c->kill;
}

/* --- life --- */

int h3_engine_new(struct h3_conn *c) {
  nghttp3_callbacks cb = {.acked_stream_data = on_acked,
                          .recv_data = on_data,
                          .begin_headers = on_begin,
                          .recv_header = on_field,
                          .end_headers = on_head,
                          .begin_trailers = on_begin,
                          .recv_trailer = on_field,
                          .end_trailers = on_trailers,
                          .end_stream = on_end,
                          .reset_stream = on_reset};
  nghttp3_settings s;
  nghttp3_settings_default(&s);
  s.max_field_section_size = LIMIT_HEAD_BYTES;
  s.qpack_max_dtable_capacity = LIMIT_H3_TABLE;
  s.qpack_encoder_max_dtable_capacity = LIMIT_H3_TABLE;
  s.qpack_blocked_streams =
      0; /* a field section never waits for another stream: nothing is kept for those that do */
  s.enable_connect_protocol = 1;
  if (nghttp3_conn_server_new(&c->ng, &cb, &s, NULL, c))
    return BEAM_ERR_NOMEM;
  nghttp3_conn_set_max_client_streams_bidi(c->ng, LIMIT_H2_STREAMS);
  return 0;
}

int h3_engine_bind(struct h3_conn *c, int64_t control, int64_t encoder, int64_t decoder) {
  return nghttp3_conn_bind_control_stream(c->ng, control) ||
                 nghttp3_conn_bind_qpack_streams(c->ng, encoder, decoder)
             ? BEAM_ERR_NOMEM
             : 0;
}
