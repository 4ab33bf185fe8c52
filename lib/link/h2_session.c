/* The HTTP/2 engine of a link: what is sent, and what its callbacks note. Nothing here calls the link's owner. */
#include <string.h>

#include "base/log.h"
#include "io/block.h"
#include "link/h2.h"

/* Fails the call of the engine that is under way; the link dies with `reason`. */
static int broken(struct h2 *h, int reason) {
  h2_die(h, reason);
  return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static struct h2_stream *stream_of(struct h2 *h, int32_t id) {
  return nghttp2_session_get_stream_user_data(h->ng, id);
}

/* --- sending --- */

static struct evbuffer *queue_of(struct h2 *h, int32_t id, struct h2_stream **st) {
  *st = NULL;
  if (id == h->control_id)
    return h->control_out;
  *st = stream_of(h, id);
  return *st ? (*st)->out : NULL;
}

static ssize_t read_length(nghttp2_session *ng, uint8_t type, int32_t id, int32_t link_window, int32_t window,
                           uint32_t frame_max, void *user) {
  (void)ng, (void)type, (void)id, (void)user;
  ssize_t n = H2_FRAME_DATA;
  if (n > link_window)
    n = link_window;
  if (n > window)
    n = window;
  return n > (ssize_t)frame_max ? (ssize_t)frame_max : n;
}

static ssize_t read_data(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t max, uint32_t *flags,
                         nghttp2_data_source *source, void *user) {
  (void)ng, (void)buf, (void)source;
  struct h2 *h = user;
  struct h2_stream *st;
  struct evbuffer *q = queue_of(h, id, &st);
  if (!q)
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  if (evbuffer_get_length(h->out) >= h->room)
    return NGHTTP2_ERR_PAUSE; /* the lower stream is full */
  size_t n = evbuffer_get_length(q);
  bool ends = st && st->s.out_ended && n <= max;
  if (n > max)
    n = max;
  if (!n && !ends) {
    if (st)
      st->deferred = 1;
    else
      h->control_deferred = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (ends)
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  return (ssize_t)n;
}

static int send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t n,
                     nghttp2_data_source *source, void *user) {
  (void)ng, (void)source;
  struct h2 *h = user;
  struct h2_stream *st;
  struct evbuffer *q = queue_of(h, frame->hd.stream_id, &st);
  if (!q)
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  if (buffer_put(h->out, head, 9) || buffer_move(h->out, q, n) != n)
    return broken(h, BEAM_ERR_NOMEM);
  return 0;
}

static int on_frame_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *user) {
  (void)ng;
  struct h2 *h = user;
  if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR)
    h2_die(h, h2_reason_of(frame->goaway.error_code)); /* the engine gave up on the peer and told it so */
  if (frame->hd.type != NGHTTP2_DATA || frame->hd.stream_id == h->control_id)
    return 0;
  struct h2_stream *st = stream_of(h, frame->hd.stream_id);
  if (!st)
    return 0;
  if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
    st->fin_sent = 1;
  h2_stream_sent(st);
  return 0;
}

void h2_session_resume(struct h2 *h, int32_t id) {
  nghttp2_session_resume_data(h->ng, id); /* fails only for streams that are gone */
}

ssize_t h2_session_send(struct h2 *h, const uint8_t **p) {
  return nghttp2_session_mem_send(h->ng, p);
}

/* --- opening --- */

#define NV(name, value)                                                                                      \
  {                                                                                                          \
    (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, sizeof(value) - 1,                              \
        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE                                         \
  }

int h2_session_open(struct h2 *h, struct h2_stream *st) {
  static const nghttp2_nv control[] = {NV(":method", "CONNECT"), NV(":protocol", "beam-control"),
                                       NV(":scheme", "https"), NV(":authority", "beam"), NV(":path", "/")};
  static const nghttp2_nv data[] = {NV(":method", "CONNECT"), NV(":protocol", "beam-stream"),
                                    NV(":scheme", "https"), NV(":authority", "beam"), NV(":path", "/")};
  nghttp2_data_provider bytes = {.read_callback = read_data};
  nghttp2_priority_spec first;
  nghttp2_priority_spec_init(&first, 0, NGHTTP2_MAX_WEIGHT, 0);
  int32_t id = nghttp2_submit_request(h->ng, st ? NULL : &first, st ? data : control, 5, &bytes, st);
  if (id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE)
    return BEAM_ERR_DRAINING;
  if (id < 0)
    return BEAM_ERR_NOMEM;
  if (st) {
    st->id = id;
    h->live++;
  } else {
    h->control_id = id;
  }
  h2_flush_soon(h);
  return 0;
}

static int answer(struct h2 *h, int32_t id) {
  static const nghttp2_nv ok[] = {NV(":status", "200")};
  nghttp2_data_provider bytes = {.read_callback = read_data};
  h2_flush_soon(h);
  return nghttp2_submit_response(h->ng, id, ok, 1, &bytes) ? broken(h, BEAM_ERR_NOMEM) : 0;
}

static int refuse(struct h2 *h, int32_t id, uint32_t code) {
  h2_flush_soon(h);
  return nghttp2_submit_rst_stream(h->ng, NGHTTP2_FLAG_NONE, id, code) ? broken(h, BEAM_ERR_NOMEM) : 0;
}

/* --- receiving: requests, at the agent --- */

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *user) {
  (void)ng, (void)frame;
  ((struct h2 *)user)->asked = H2_UNKNOWN;
  return 0;
}

static bool is(const uint8_t *p, size_t n, const char *text) {
  return n == strlen(text) && !memcmp(p, text, n);
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *user) {
  (void)ng, (void)flags;
  struct h2 *h = user;
  /* The engine permits :protocol only with CONNECT. */
  if (frame->headers.cat == NGHTTP2_HCAT_REQUEST && is(name, name_n, ":protocol"))
    h->asked = is(value, value_n, "beam-control")  ? H2_CONTROL
               : is(value, value_n, "beam-stream") ? H2_STREAM
                                                   : H2_UNKNOWN;
  return 0;
}

static void on_end(struct h2 *h, int32_t id) {
  if (id == h->control_id) {
    h2_die(h, BEAM_ERR_CLOSED);
    return;
  }
  struct h2_stream *st = stream_of(h, id);
  if (!st || st->s.in_ended)
    return;
  st->s.in_ended = 1;
  if (!st->orphan)
    stream_tell_readable(&st->s);
}

static int on_request(struct h2 *h, const nghttp2_frame *frame) {
  int32_t id = frame->hd.stream_id;
  bool first = !h->control_id;
  if (first != (h->asked == H2_CONTROL) && h->asked != H2_UNKNOWN)
    return broken(h, BEAM_ERR_PROTOCOL); /* a second control stream, or none before a data stream */
  if (first && h->asked == H2_UNKNOWN)
    return broken(h, BEAM_ERR_PROTOCOL);
  if (first) {
    h->control_id = id;
    h2_window_measure(h);
    h->tell_ready = 1;
    h2_tell_soon(h);
    return answer(h, id);
  }
  h->live++;
  if (h->asked == H2_UNKNOWN)
    return refuse(h, id, NGHTTP2_PROTOCOL_ERROR);
  if (h->closing)
    return refuse(h, id, NGHTTP2_REFUSED_STREAM);
  if (h->live > LIMIT_LINK_STREAMS || !h2_window_fits())
    return refuse(h, id, h2_code_of(BEAM_ERR_LIMIT));
  struct h2_stream *st;
  if (h2_stream_new(h, &st))
    return refuse(h, id, h2_code_of(BEAM_ERR_LIMIT));
  st->id = id;
  nghttp2_session_set_stream_user_data(h->ng, id, st);
  h2_stream_fresh(st);
  if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
    on_end(h, id);
  return answer(h, id);
}

/* --- receiving: the rest --- */

static int on_settings(struct h2 *h) {
  if (h->saw_settings)
    return 0;
  h->saw_settings = 1;
  if (h->role == LINK_AGENT)
    return 0;
  if (nghttp2_session_get_remote_settings(h->ng, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) != 1)
    return broken(h, BEAM_ERR_UNSUPPORTED);
  if (h2_session_open(h, NULL))
    return broken(h, BEAM_ERR_NOMEM);
  h2_window_measure(h);
  h->tell_ready = 1;
  h2_tell_soon(h);
  return 0;
}

static int on_reset(struct h2 *h) {
  uint64_t second = loop_now(h->k.loop) / 1000;
  if (second != h->reset_second) {
    h->reset_second = second;
    h->resets = 0;
  }
  return ++h->resets > LIMIT_LINK_RESETS ? broken(h, BEAM_ERR_LIMIT) : 0;
}

static int on_goaway(struct h2 *h, uint32_t code) {
  if (code != NGHTTP2_NO_ERROR)
    return broken(h, h2_reason_of(code));
  h->bye_heard = 1;
  h->tell_draining = 1;
  h2_tell_soon(h);
  return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user) {
  (void)ng;
  struct h2 *h = user;
  struct h2_stream *st;
  switch (frame->hd.type) {
  case NGHTTP2_SETTINGS:
    return frame->hd.flags & NGHTTP2_FLAG_ACK ? 0 : on_settings(h);
  case NGHTTP2_HEADERS:
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
      return on_request(h, frame);
    /* fall through */
  case NGHTTP2_DATA:
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
      on_end(h, frame->hd.stream_id);
    return 0;
  case NGHTTP2_WINDOW_UPDATE:
    st = frame->hd.stream_id ? stream_of(h, frame->hd.stream_id) : NULL;
    if (st)
      h2_stream_sent(st); /* the ceiling rose */
    h2_flush_soon(h);
    return 0;
  case NGHTTP2_RST_STREAM:
    return on_reset(h);
  case NGHTTP2_PING:
    if (frame->hd.flags & NGHTTP2_FLAG_ACK && h->pinging) {
      h->pinging = 0;
      h->rtt_at = loop_now(h->k.loop);
      h->rtt = (uint32_t)(h->rtt_at - h->pinged_at);
    }
    return 0;
  case NGHTTP2_GOAWAY:
    return on_goaway(h, frame->goaway.error_code);
  default:
    return 0;
  }
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *user) {
  (void)flags;
  struct h2 *h = user;
  if (nghttp2_session_consume_connection(ng, n))
    return broken(h, BEAM_ERR_NOMEM);
  if (id == h->control_id) {
    if (evbuffer_add(h->control_in, p, n))
      return broken(h, BEAM_ERR_NOMEM);
    h2_tell_soon(h);
    return 0;
  }
  struct h2_stream *st = stream_of(h, id);
  if (!st || st->orphan)
    return nghttp2_session_consume_stream(ng, id, n) == NGHTTP2_ERR_NOMEM ? broken(h, BEAM_ERR_NOMEM) : 0;
  if (stream_waiting(&st->s) + n > st->window + st->owed)
    return 0; /* more than its credit: the engine is about to reset it, and hands on what came in the meantime */
  if (evbuffer_add(st->s.in, p, n))
    return broken(h, BEAM_ERR_NOMEM);
  h2_window_received(st);
  stream_tell_readable(&st->s);
  return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user) {
  (void)ng;
  struct h2 *h = user;
  if (id == h->control_id) {
    h2_die(h, code ? h2_reason_of(code) : BEAM_ERR_CLOSED);
    return 0;
  }
  if (h->live)
    h->live--;
  struct h2_stream *st = stream_of(h, id);
  if (st) {
    nghttp2_session_set_stream_user_data(h->ng, id, NULL);
    h2_stream_ended(st, code);
  }
  return 0;
}

static int on_error(nghttp2_session *ng, int code, const char *text, size_t n, void *user) {
  (void)ng, (void)code;
  struct h2 *h = user;
  log_limited(BEAM_LOG_INFO, "link", "http2 error role=%s what=\"%.*s\"",
              h->role == LINK_AGENT ? "agent" : "relay", (int)n, text);
  return 0;
}

int h2_session_feed(struct h2 *h, const uint8_t *p, size_t n) {
  ssize_t used = nghttp2_session_mem_recv(h->ng, p, n);
  if (h->dead)
    return h->closed;
  if (used == (ssize_t)n)
    return 0;
  return used == NGHTTP2_ERR_NOMEM     ? BEAM_ERR_NOMEM
         : used == NGHTTP2_ERR_FLOODED ? BEAM_ERR_LIMIT
                                       : BEAM_ERR_PROTOCOL;
}

/* --- life --- */

void h2_session_drain(struct h2 *h) {
  if (h->role == LINK_AGENT)
    nghttp2_submit_shutdown_notice(h->ng);
  else
    nghttp2_submit_goaway(h->ng, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
  h2_flush_soon(h);
}

void h2_session_bye(struct h2 *h) {
  h->bye_said = 1;
  nghttp2_session_terminate_session(h->ng, h->bye);
}

static int settings(struct h2 *h) {
  nghttp2_settings_entry agent[] = {{NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
                                    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, LIMIT_LINK_STREAMS + 1},
                                    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, LIMIT_STREAM_WINDOW_MIN},
                                    {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, H2_FRAME_MAX}};
  nghttp2_settings_entry relay[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0},
                                    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, LIMIT_STREAM_WINDOW_MIN},
                                    {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, H2_FRAME_MAX}};
  if (nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, h->role == LINK_AGENT ? agent : relay, 4))
    return BEAM_ERR_NOMEM;
  return nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0, H2_LINK_WINDOW) ? BEAM_ERR_NOMEM
                                                                                            : 0;
}

static void set_callbacks(nghttp2_session_callbacks *cb) {
  nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
  nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
  nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
  nghttp2_session_callbacks_set_data_source_read_length_callback(cb, read_length);
  nghttp2_session_callbacks_set_error_callback2(cb, on_error);
}

int h2_session_new(struct h2 *h) {
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
  nghttp2_option_set_peer_max_concurrent_streams(option, LIMIT_LINK_STREAMS + 1);
  /* Each aborted visitor is a reset: on_reset has the limit. */
  nghttp2_option_set_stream_reset_rate_limit(option, 2 * LIMIT_LINK_RESETS, 2 * LIMIT_LINK_RESETS);
  int err = h->role == LINK_AGENT ? nghttp2_session_server_new2(&h->ng, cb, h, option)
                                  : nghttp2_session_client_new2(&h->ng, cb, h, option);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(cb);
  return err ? BEAM_ERR_NOMEM : settings(h);
}
