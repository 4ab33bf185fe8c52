/* h2_engine.c: nghttp2 for a visitor's connection: what is sent, and what its callbacks note. Nothing here calls a handler or an exchange's peer. */
#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "http/h2_conn.h"
#include "io/block.h"
#include "io/budget.h"

/* A block of fields may unpack to this before the connection goes: one byte on the wire can stand for 4 KiB. */
enum { BLOCK_MAX = 16 * LIMIT_HEAD_BYTES };
/* A window that was used up within this time was too small: it should hold what comes in about so long. */
enum { WINDOW_MS = 250 };

static struct h2_conn *conn_of(const struct mux_request *r) {
  return (struct h2_conn *)r->c;
}

/* Fails the call of the engine that is under way. */
static int broken(struct h2_conn *c, int reason) {
  h2_conn_kill(c, reason);
  return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static struct h2_request *request_of(struct h2_conn *c, int32_t id) {
  return nghttp2_session_get_stream_user_data(c->ng, id);
}

/* --- sending --- */

static ssize_t read_length(nghttp2_session *ng, uint8_t type, int32_t id, int32_t conn_window, int32_t window,
                           uint32_t frame_max, void *user) {
  (void)ng, (void)type, (void)id, (void)user;
  ssize_t n = H2_CONN_FRAME_DATA;
  if (n > conn_window)
    n = conn_window;
  if (n > window)
    n = window;
  return n > (ssize_t)frame_max ? (ssize_t)frame_max : n;
}

static int fields_of(const struct http_head *h, uint16_t status, nghttp2_nv nv[MUX_FIELDS], size_t *n,
                     char **text) {
  struct http_field f[MUX_FIELDS];
  int err = mux_head_fields(h, status, f, n, text);
  for (size_t i = 0; !err && i < *n; i++)
    nv[i] = (nghttp2_nv){(uint8_t *)f[i].name.p, (uint8_t *)f[i].value.p, f[i].name.n, f[i].value.n,
                         NGHTTP2_NV_FLAG_NONE};
  return err;
}

static int submit_trailers(struct h2_conn *c, struct mux_request *r) {
  nghttp2_nv nv[MUX_FIELDS];
  size_t n;
  char *text;
  int err = fields_of(&r->out_trailers, 0, nv, &n, &text);
  if (!err && nghttp2_submit_trailer(c->ng, (int32_t)r->id, nv, n))
    err = BEAM_ERR_NOMEM;
  free(text);
  return err;
}

static ssize_t read_data(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t max, uint32_t *flags,
                         nghttp2_data_source *source, void *user) {
  (void)ng, (void)buf, (void)source;
  struct h2_conn *c = user;
  struct h2_request *hr = request_of(c, id);
  if (!hr)
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  struct mux_request *r = &hr->r;
  if (evbuffer_get_length(c->out) >= c->room)
    return NGHTTP2_ERR_PAUSE; /* the stream below is full */
  size_t n = evbuffer_get_length(r->out);
  bool ends = r->resp_done && n <= max;
  if (n > max)
    n = max;
  if (!n && !ends) {
    hr->deferred = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (ends)
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  if (ends && r->has_out_trailers) {
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    if (submit_trailers(c, r))
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  return (ssize_t)n;
}

static int send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t n,
                     nghttp2_data_source *source, void *user) {
  (void)ng, (void)source;
  struct h2_conn *c = user;
  struct h2_request *r = request_of(c, frame->hd.stream_id);
  if (!r)
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  if (buffer_put(c->out, head, 9) || buffer_move(c->out, r->r.out, n) != n)
    return broken(c, BEAM_ERR_NOMEM);
  return 0;
}

static int on_frame_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *user) {
  (void)ng;
  struct h2_conn *c = user;
  uint8_t type = frame->hd.type;
  /* A reset that the visitor made us send costs as much as one it sends. */
  if (type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR && !h2_conn_spend(c))
    return 0;
  if (type != NGHTTP2_DATA && type != NGHTTP2_HEADERS)
    return 0;
  struct h2_request *r = request_of(c, frame->hd.stream_id);
  if (!r)
    return 0;
  if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
    r->r.fin_sent = 1;
  mux_request_sent(&r->r);
  return 0;
}

static int submit(struct mux_request *r, const struct http_head *h, bool final, bool more) {
  struct h2_conn *c = conn_of(r);
  nghttp2_nv nv[MUX_FIELDS];
  nghttp2_data_provider body = {.read_callback = read_data};
  size_t n;
  char *text;
  int rv = 0, err = fields_of(h, h->status, nv, &n, &text);
  if (!err && final)
    rv = nghttp2_submit_response(c->ng, (int32_t)r->id, nv, n, more ? &body : NULL);
  else if (!err)
    rv = nghttp2_submit_headers(c->ng, NGHTTP2_FLAG_NONE, (int32_t)r->id, NULL, nv, n, NULL);
  free(text);
  h2_conn_flush_soon(c);
  return err ? err : rv < 0 ? BEAM_ERR_NOMEM : 0;
}

static int respond(struct mux_request *r, const struct http_head *h, bool more) {
  return submit(r, h, true, more);
}

/* Of a visitor that does not read, none are missed. */
static int inform(struct mux_request *r, const struct http_head *h) {
  return evbuffer_get_length(conn_of(r)->out) > LIMIT_HEAD_BYTES ? 0 : submit(r, h, false, true);
}

static void reset(struct h2_conn *c, int32_t id, uint32_t code) {
  if (nghttp2_submit_rst_stream(c->ng, NGHTTP2_FLAG_NONE, id, code))
    h2_conn_kill(c, BEAM_ERR_NOMEM);
  h2_conn_flush_soon(c);
}

/* ENOUGH: RFC 9113 8.1. */
static void reset_request(struct mux_request *r, enum mux_reset how) {
  reset(conn_of(r), (int32_t)r->id, how == MUX_RESET_ENOUGH ? NGHTTP2_NO_ERROR : NGHTTP2_INTERNAL_ERROR);
}

static void wake(struct mux_request *r) {
  struct h2_request *hr = (struct h2_request *)r;
  struct h2_conn *c = conn_of(r);
  if (hr->deferred && r->id >= 0) {
    hr->deferred = false;
    nghttp2_session_resume_data(c->ng, (int32_t)r->id);
  }
  h2_conn_flush_soon(c);
}

/* --- credit --- */

static size_t credit(struct mux_request *r) {
  int32_t n = r->id < 0 ? 0 : nghttp2_session_get_stream_remote_window_size(conn_of(r)->ng, (int32_t)r->id);
  return n > 0 ? (size_t)n : 0;
}

/* The connection's credit goes back on receipt as long as little waits: one upload that nobody takes does not stop the others. Beyond that it is
 * owed until bytes are taken. */
static int received(struct h2_conn *c, size_t n) {
  if (c->m.waiting > LIMIT_H2_WAITING) {
    c->owed += n;
    return 0;
  }
  return nghttp2_session_consume_connection(c->ng, n);
}

/* An upload that comes fast gets a larger window, out of what the pool can spare. */
static void widen(struct h2_request *hr, size_t n) {
  struct mux_request *r = &hr->r;
  uint64_t now = loop_now(r->c->loop);
  hr->drained += n;
  if (hr->drained < hr->window)
    return;
  if (now - hr->since < WINDOW_MS && hr->window < LIMIT_STREAM_WINDOW_MAX && !evbuffer_get_length(r->in) &&
      budget_take(&budget_pool, hr->window, LIMIT_POOL_SPARE)) {
    hr->window *= 2;
    if (nghttp2_session_set_local_window_size(conn_of(r)->ng, NGHTTP2_FLAG_NONE, (int32_t)r->id,
                                              (int32_t)hr->window))
      h2_conn_kill(conn_of(r), BEAM_ERR_NOMEM);
  }
  hr->drained = 0;
  hr->since = now;
}

static void took(struct mux_request *r, size_t n) {
  struct h2_conn *c = conn_of(r);
  size_t back = n < c->owed ? n : c->owed;
  c->owed -= back;
  if (back && nghttp2_session_consume_connection(c->ng, back))
    h2_conn_kill(c, BEAM_ERR_NOMEM);
  if (n && r->id >= 0) {
    if (nghttp2_session_consume_stream(c->ng, (int32_t)r->id, n) == NGHTTP2_ERR_NOMEM)
      h2_conn_kill(c, BEAM_ERR_NOMEM);
    widen((struct h2_request *)r, n);
  }
  if (nghttp2_session_want_write(c->ng))
    h2_conn_flush_soon(c);
}

const struct mux_engine h2_engine = {respond, inform, wake, reset_request, took, credit};

/* --- receiving --- */

static void fini(struct mux_request *r) {
  struct h2_request *hr = (struct h2_request *)r;
  if (r->id >= 0)
    nghttp2_session_set_stream_user_data(conn_of(r)->ng, (int32_t)r->id, NULL);
  budget_give(&budget_pool, hr->window - LIMIT_STREAM_WINDOW_MIN);
  hr->window = LIMIT_STREAM_WINDOW_MIN;
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *user) {
  (void)ng;
  struct h2_conn *c = user;
  int32_t id = frame->hd.stream_id;
  mux_head_clear(&c->head);
  c->block = 0;
  c->block_since = loop_now(c->m.loop);
  c->head_id = 0;
  if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
    c->head_id = request_of(c, id) ? id : 0;
    return 0;
  }
  if (h2_conn_full(c)) {
    reset(c, id, NGHTTP2_REFUSED_STREAM); /* nothing was done: it may be tried again */
    return 0;
  }
  struct h2_request *r = (struct h2_request *)mux_request_new(&c->m, id, sizeof *r);
  if (!r)
    return broken(c, BEAM_ERR_NOMEM);
  r->r.fini = fini;
  r->window = LIMIT_STREAM_WINDOW_MIN;
  r->since = loop_now(c->m.loop);
  nghttp2_session_set_stream_user_data(c->ng, id, r);
  c->head_id = id;
  return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *user) {
  (void)ng, (void)flags;
  struct h2_conn *c = user;
  c->block += name_n + value_n + 1;
  if (c->block > BLOCK_MAX)
    return broken(c, BEAM_ERR_LIMIT);
  if (c->head_id == frame->hd.stream_id)
    mux_head_add(&c->head, (struct span){(const char *)name, name_n},
                 (struct span){(const char *)value, value_n});
  return 0;
}

/* A field that may not be: the engine would leave it out, and what is behind us would see another request than the visitor sent. */
static int on_invalid_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                             size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user) {
  (void)ng, (void)frame, (void)name, (void)name_n, (void)value, (void)value_n, (void)flags, (void)user;
  return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_headers(struct h2_conn *c, const nghttp2_frame *frame) {
  struct h2_request *hr = request_of(c, frame->hd.stream_id);
  bool ours = c->head_id == frame->hd.stream_id, end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
  c->head_id = 0;
  c->block_since = 0;
  if (!hr || !ours) {
    mux_head_clear(&c->head);
    return 0;
  }
  struct mux_request *r = &hr->r;
  if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
    mux_request_head(r, &c->head, end);
    return 0;
  }
  http_head_free(&r->trailers);
  if (mux_head_trailers(&c->head, &r->trailers))
    reset(c, frame->hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
  r->has_trailers = r->trailers.fields_n > 0;
  if (end)
    mux_request_ended(r);
  return 0;
}

/* What the engine passes over in silence. */
static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *hd, void *user) {
  if (hd->type == NGHTTP2_PRIORITY && hd->stream_id == 0)
    nghttp2_session_terminate_session(ng, NGHTTP2_PROTOCOL_ERROR); /* RFC 9113 6.3 */
  if (hd->type == NGHTTP2_PRIORITY || hd->type > NGHTTP2_CONTINUATION)
    h2_conn_spend(user);
  return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user) {
  (void)ng;
  struct h2_conn *c = user;
  struct h2_request *r;
  switch (frame->hd.type) {
  case NGHTTP2_HEADERS:
    return on_headers(c, frame);
  case NGHTTP2_DATA:
    r = request_of(c, frame->hd.stream_id);
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
      if (r)
        mux_request_ended(&r->r);
    } else if (frame->hd.length == 0) {
      h2_conn_spend(c);
    }
    return 0;
  case NGHTTP2_WINDOW_UPDATE:
    r = frame->hd.stream_id ? request_of(c, frame->hd.stream_id) : NULL;
    if (r)
      mux_request_sent(&r->r); /* the ceiling rose */
    h2_conn_flush_soon(c);
    return 0;
  case NGHTTP2_SETTINGS:
    c->saw_settings = 1;
    h2_conn_spend(c);
    return 0;
  case NGHTTP2_PING:
    if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
      h2_conn_spend(c);
    return 0;
  case NGHTTP2_RST_STREAM:
    h2_conn_spend(c);
    return 0;
  default:
    return 0;
  }
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *user) {
  (void)flags;
  struct h2_conn *c = user;
  struct h2_request *r = request_of(c, id);
  bool taken = !r || r->r.req_closed;
  if (taken ? nghttp2_session_consume_connection(ng, n) : received(c, n))
    return broken(c, BEAM_ERR_NOMEM);
  if (taken)
    return nghttp2_session_consume_stream(ng, id, n) == NGHTTP2_ERR_NOMEM ? broken(c, BEAM_ERR_NOMEM) : 0;
  if (evbuffer_get_length(r->r.in) + n > 2 * (size_t)r->window)
    return 0; /* more than its credit: the engine is about to reset it */
  int err = mux_request_received(&r->r, p, n);
  return err ? broken(c, err) : 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user) {
  struct h2_conn *c = user;
  struct h2_request *r = request_of(c, id);
  if (c->head_id == id)
    c->head_id = 0;
  if (!r)
    return 0;
  nghttp2_session_set_stream_user_data(ng, id, NULL);
  mux_request_over(&r->r, code == NGHTTP2_NO_ERROR);
  return 0;
}

static int on_error(nghttp2_session *ng, int code, const char *text, size_t n, void *user) {
  (void)ng, (void)code, (void)user;
  log_limited(BEAM_LOG_DEBUG, "http", "http2 visitor: %.*s", (int)n, text);
  return 0;
}

int h2_engine_feed(struct h2_conn *c, const uint8_t *p, size_t n) {
  ssize_t used = nghttp2_session_mem_recv(c->ng, p, n);
  if (c->kill)
    return c->kill;
  if (used == (ssize_t)n)
    return 0;
  return used == NGHTTP2_ERR_NOMEM     ? BEAM_ERR_NOMEM
         : used == NGHTTP2_ERR_FLOODED ? BEAM_ERR_LIMIT
                                       : BEAM_ERR_PROTOCOL;
}

/* --- life --- */

static int settings(struct h2_conn *c) {
  nghttp2_settings_entry ours[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, LIMIT_H2_STREAMS},
                                   {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, LIMIT_STREAM_WINDOW_MIN},
                                   {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, LIMIT_HEAD_BYTES},
                                   {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
                                   {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1}};
  if (nghttp2_submit_settings(c->ng, NGHTTP2_FLAG_NONE, ours, sizeof ours / sizeof *ours))
    return BEAM_ERR_NOMEM;
  return nghttp2_session_set_local_window_size(c->ng, NGHTTP2_FLAG_NONE, 0, LIMIT_H2_CONN_WINDOW)
             ? BEAM_ERR_NOMEM
             : 0;
}

static void set_callbacks(nghttp2_session_callbacks *cb) {
  nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
  nghttp2_session_callbacks_set_on_invalid_header_callback(cb, on_invalid_header);
  nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
  nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
  nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
  nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
  nghttp2_session_callbacks_set_data_source_read_length_callback(cb, read_length);
  nghttp2_session_callbacks_set_error_callback2(cb, on_error);
}

int h2_engine_new(struct h2_conn *c) {
  nghttp2_session_callbacks *cb = NULL;
  nghttp2_option *option = NULL;
  if (nghttp2_session_callbacks_new(&cb))
    return BEAM_ERR_NOMEM;
  if (nghttp2_option_new(&option)) {
    nghttp2_session_callbacks_del(cb);
    return BEAM_ERR_NOMEM;
  }
  set_callbacks(cb);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  int err = nghttp2_session_server_new2(&c->ng, cb, c, option);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(cb);
  return err ? BEAM_ERR_NOMEM : settings(c);
}
