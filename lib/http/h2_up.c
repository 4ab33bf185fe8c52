/* h2_up.c: one connection to the local service over HTTP/2: nghttp2, what it reports, the stream below, time, floods.
 *
 * No PING of ours: a service on this machine that goes is noticed by the kernel, and gRPC servers end connections of clients that ask too often.
 */
#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "http/h2_up.h"
#include "io/block.h"

enum {
  FRAME_DATA = 16 * 1024,
  BLOCK_MAX = 16 * LIMIT_HEAD_BYTES, /* a block of fields may unpack to this */
  TICK_MS = 5000,
  /* Of all streams together: the windows of streams are what bounds, so that none waits for another. */
  CONN_WINDOW = LIMIT_H2_UP_STREAMS * LIMIT_STREAM_WINDOW_MIN,
};

static void flush_soon(struct h2_up *c) {
  if (!c->dead)
    loop_turn_end(c->loop, &c->flush);
}

static void kill(struct h2_up *c, int reason) {
  if (!c->kill)
    c->kill = reason;
  flush_soon(c);
}

static int broken(struct h2_up *c, int reason) {
  kill(c, reason);
  return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static struct h2_req *request_of(struct h2_up *c, int32_t id) {
  return nghttp2_session_get_stream_user_data(c->ng, id);
}

/* --- life --- */

static void leave(struct h2_up *c) {
  if (--c->depth || !c->dead)
    return;
  mux_head_clear(&c->head);
  nghttp2_session_del(c->ng);
  evbuffer_free(c->out);
  free(c);
}

static enum page page_of(const struct h2_up *c, int reason) {
  if (reason == BEAM_ERR_NOMEM)
    return PAGE_OVERLOADED;
  if (!c->saw_settings)
    return PAGE_LOCAL_H2; /* whatever that was, it was not HTTP/2 */
  return reason == BEAM_ERR_PROTOCOL || reason == BEAM_ERR_LIMIT ? PAGE_LOCAL_BAD : PAGE_LOCAL_CLOSED;
}

/* Requests learn of it by their steps; those that may go again wait in the pool then. */
static void die(struct h2_up *c, int reason) {
  if (c->dead)
    return;
  c->dead = 1;
  struct h2_pool *p = c->pool;
  timer_stop(&c->timer);
  task_cancel(&c->flush);
  DL_DELETE(p->ups, c);
  p->ups_n--;
  while (c->requests) {
    nghttp2_session_set_stream_user_data(c->ng, c->requests->id, NULL);
    h2_req_lost(c->requests, page_of(c, reason));
  }
  if (!c->s->dead && evbuffer_get_length(c->out))
    stream_move(c->s, c->out, evbuffer_get_length(c->out)); /* last words */
  stream_close(c->s, reason == BEAM_ERR_CLOSED ? 0 : reason);
  loop_soon(c->loop, &p->kick);
  c->pool = NULL;
}

void h2_up_close(struct h2_up *c, int reason) {
  c->depth++;
  die(c, reason);
  leave(c);
}

/* --- floods: as with visitors (h2_front.c), frames that move nothing have an allowance --- */

static void spend(struct h2_up *c) {
  uint64_t t = loop_now(c->loop), more = (t - c->tokens_at) * LIMIT_H2_GLITCHES_S / 1000;
  if (more) {
    c->tokens = c->tokens + more < LIMIT_H2_GLITCHES ? c->tokens + (unsigned)more : LIMIT_H2_GLITCHES;
    c->tokens_at = t;
  }
  if (c->tokens) {
    c->tokens--;
    return;
  }
  log_limited(BEAM_LOG_WARN, "http", "local service: a flood of http2 frames that move nothing");
  kill(c, BEAM_ERR_LIMIT);
}

/* --- the stream below --- */

static int fill(struct h2_up *c) {
  while (evbuffer_get_length(c->out) < c->room) {
    const uint8_t *p;
    ssize_t n = nghttp2_session_mem_send(c->ng, &p);
    if (n <= 0)
      return n < 0 ? BEAM_ERR_PROTOCOL : 0;
    if (buffer_put(c->out, p, (size_t)n))
      return BEAM_ERR_NOMEM;
  }
  return 0;
}

static bool push_down(struct h2_up *c) {
  size_t n = evbuffer_get_length(c->out);
  return !n || stream_move(c->s, c->out, n) == n;
}

static bool is_over(struct h2_up *c) {
  if (evbuffer_get_length(c->out) || nghttp2_session_want_write(c->ng))
    return false;
  return (c->going && !c->requests) || !nghttp2_session_want_read(c->ng);
}

static void work(struct h2_up *c) {
  bool more = !c->dead && !c->kill;
  while (more && push_down(c) && (c->room = stream_room(c->s)) > 0) {
    int err = fill(c);
    if (err)
      kill(c, err);
    more = !err && evbuffer_get_length(c->out) > 0;
  }
  if (c->kill)
    die(c, c->kill);
  else if (!c->dead && is_over(c))
    die(c, BEAM_ERR_CLOSED);
}

static void on_flush(void *arg) {
  struct h2_up *c = arg;
  c->depth++;
  work(c);
  leave(c);
}

static void feed(struct h2_up *c) {
  struct evbuffer *in = stream_input(c->s);
  struct evbuffer_iovec v[16];
  while (evbuffer_get_length(in) && !c->kill) {
    int pieces = evbuffer_peek(in, -1, NULL, v, 16);
    size_t used = 0;
    for (int i = 0; i < pieces && i < 16; i++) {
      ssize_t n = c->kill ? 0 : nghttp2_session_mem_recv(c->ng, v[i].iov_base, v[i].iov_len);
      if (!c->kill && n != (ssize_t)v[i].iov_len)
        kill(c, n == NGHTTP2_ERR_NOMEM ? BEAM_ERR_NOMEM : BEAM_ERR_PROTOCOL);
      used += v[i].iov_len;
    }
    stream_consume(c->s, used);
  }
}

static void on_readable(void *user) {
  struct h2_up *c = user;
  c->depth++;
  feed(c);
  if (stream_at_end(c->s) && !c->kill)
    c->kill = c->requests ? BEAM_ERR_RESET : BEAM_ERR_CLOSED;
  flush_soon(c);
  leave(c);
}

static void on_writable(void *user) {
  on_flush(user);
}

static void on_closed(void *user, int reason) {
  struct h2_up *c = user;
  c->depth++;
  die(c, reason == BEAM_ERR_CLOSED ? BEAM_ERR_RESET : reason);
  leave(c);
}

static const struct stream_events events = {on_readable, on_writable, on_closed};

/* --- time --- */

static void go(struct h2_up *c) {
  c->going = 1;
  nghttp2_session_terminate_session(c->ng, NGHTTP2_NO_ERROR);
  flush_soon(c);
}

static void on_timer(void *arg) {
  struct h2_up *c = arg;
  uint64_t t = loop_now(c->loop);
  c->depth++;
  if ((c->block_since && t - c->block_since >= LIMIT_HEAD_MS) ||
      (!c->saw_settings && t - c->idle_since >= LIMIT_HEAD_MS))
    kill(c, BEAM_ERR_PROTOCOL);
  else if (!c->requests && !c->going && t - c->idle_since >= LIMIT_KEEPALIVE_MS)
    go(c);
  if (timer_start(&c->timer, TICK_MS))
    kill(c, BEAM_ERR_NOMEM);
  leave(c);
}

/* --- sending --- */

static ssize_t read_length(nghttp2_session *ng, uint8_t type, int32_t id, int32_t conn_window, int32_t window,
                           uint32_t frame_max, void *user) {
  (void)ng, (void)type, (void)id, (void)user;
  ssize_t n = FRAME_DATA;
  if (n > conn_window)
    n = conn_window;
  if (n > window)
    n = window;
  return n > (ssize_t)frame_max ? (ssize_t)frame_max : n;
}

static int submit_trailers(struct h2_up *c, struct h2_req *r) {
  struct http_field f[MUX_FIELDS];
  nghttp2_nv nv[MUX_FIELDS];
  size_t n;
  char *text;
  int err = mux_head_fields(&r->trailers, 0, f, &n, &text);
  for (size_t i = 0; !err && i < n; i++)
    nv[i] = (nghttp2_nv){(uint8_t *)f[i].name.p, (uint8_t *)f[i].value.p, f[i].name.n, f[i].value.n, 0};
  if (!err && nghttp2_submit_trailer(c->ng, r->id, nv, n))
    err = BEAM_ERR_NOMEM;
  free(text);
  return err;
}

static ssize_t read_data(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t max, uint32_t *flags,
                         nghttp2_data_source *source, void *user) {
  (void)ng, (void)buf, (void)source;
  struct h2_up *c = user;
  struct h2_req *r = request_of(c, id);
  if (!r)
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  if (evbuffer_get_length(c->out) >= c->room)
    return NGHTTP2_ERR_PAUSE; /* the stream below is full */
  size_t n = evbuffer_get_length(r->out);
  bool ends = r->req_closed && n <= max;
  if (n > max)
    n = max;
  if (!n && !ends) {
    r->deferred = 1;
    return NGHTTP2_ERR_DEFERRED;
  }
  *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (ends)
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  if (ends && r->has_trailers) {
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    if (submit_trailers(c, r))
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  return (ssize_t)n;
}

static int send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t n,
                     nghttp2_data_source *source, void *user) {
  (void)ng, (void)source;
  struct h2_up *c = user;
  struct h2_req *r = request_of(c, frame->hd.stream_id);
  if (!r)
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  r->begun |= n > 0;
  if (buffer_put(c->out, head, 9) || buffer_move(c->out, r->out, n) != n)
    return broken(c, BEAM_ERR_NOMEM);
  return 0;
}

static int on_frame_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *user) {
  (void)ng;
  struct h2_req *r = frame->hd.type == NGHTTP2_DATA ? request_of(user, frame->hd.stream_id) : NULL;
  if (r)
    h2_req_sent(r);
  return 0;
}

/* GOAWAY overtook it. */
static int on_frame_not_sent(nghttp2_session *ng, const nghttp2_frame *frame, int code, void *user) {
  (void)ng, (void)code;
  struct h2_up *c = user;
  struct h2_req *r = frame->hd.type == NGHTTP2_HEADERS ? request_of(c, frame->hd.stream_id) : NULL;
  if (!r)
    return 0;
  nghttp2_session_set_stream_user_data(c->ng, frame->hd.stream_id, NULL);
  c->going = 1;
  h2_req_over(r, NGHTTP2_REFUSED_STREAM);
  c->requests_n--;
  return 0;
}

bool h2_up_has_slot(const struct h2_up *c) {
  uint32_t most = nghttp2_session_get_remote_settings(c->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
  return !c->going && !c->kill && c->requests_n < LIMIT_H2_UP_STREAMS && c->requests_n < most &&
         nghttp2_session_check_request_allowed(c->ng);
}

bool h2_up_connects(const struct h2_up *c) {
  return nghttp2_session_get_remote_settings(c->ng, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
}

enum { ADDED = 6 };

static int request_fields(const struct h2_up *c, const struct h2_req *r, nghttp2_nv nv[MUX_FIELDS + ADDED],
                          size_t *n, char **text) {
  const struct http_head *h = &r->head;
  struct http_field all[MUX_FIELDS + ADDED] = {
      {SPAN(":protocol"), SPAN("websocket")},
      {SPAN(":method"), r->connect ? SPAN("CONNECT") : h->method},
      {SPAN(":scheme"), c->pool->conf.tls ? SPAN("https") : SPAN("http")},
      {SPAN(":authority"), h->authority},
      {SPAN(":path"), h->target}};
  enum { PSEUDO = 5 };
  size_t rest;
  int err = mux_head_fields(h, 0, all + PSEUDO, &rest, text);
  *n = 0;
  for (size_t i = r->connect ? 0 : 1; !err && i < rest + PSEUDO; i++)
    if (!span_eq(all[i].name, SPAN("host")) &&
        !(r->connect && span_eq(all[i].name, SPAN("sec-websocket-key"))))
      nv[(*n)++] =
          (nghttp2_nv){(uint8_t *)all[i].name.p, (uint8_t *)all[i].value.p, all[i].name.n, all[i].value.n, 0};
  if (!err && r->grpc) /* a hop's own word, so it did not come with the head; a gRPC server asks for it */
    nv[(*n)++] = (nghttp2_nv){(uint8_t *)"te", (uint8_t *)"trailers", 2, 8, 0};
  return err;
}

int h2_up_begin(struct h2_up *c, struct h2_req *r) {
  nghttp2_nv nv[MUX_FIELDS + ADDED];
  nghttp2_data_provider body = {.read_callback = read_data};
  size_t n;
  char *text;
  int err = request_fields(c, r, nv, &n, &text);
  int32_t id = err ? 0 : nghttp2_submit_request(c->ng, NULL, nv, n, r->more ? &body : NULL, r);
  free(text);
  if (err)
    return err;
  if (id < 0) {
    c->going |= id != NGHTTP2_ERR_NOMEM; /* its numbers are used up */
    return id == NGHTTP2_ERR_NOMEM ? BEAM_ERR_NOMEM : BEAM_ERR_LIMIT;
  }
  r->c = c;
  r->id = id;
  r->tries++;
  r->reused = c->answered;
  r->deferred = 0;
  h2_req_list(r, &c->requests);
  c->requests_n++;
  if (!r->req_closed) {
    r->wake = 1;
    h2_req_soon(r);
  }
  flush_soon(c);
  return 0;
}

void h2_up_wake(struct h2_req *r) {
  if (!r->c)
    return;
  if (r->deferred) {
    r->deferred = 0;
    nghttp2_session_resume_data(r->c->ng, r->id);
  }
  flush_soon(r->c);
}

static void took_off(struct h2_up *c) {
  c->requests_n--;
  c->idle_since = loop_now(c->loop);
  if (c->pool && c->pool->waiting)
    loop_soon(c->loop, &c->pool->kick);
}

void h2_up_reset(struct h2_req *r, uint32_t code) {
  struct h2_up *c = r->c;
  r->c = NULL;
  h2_req_list(r, NULL);
  nghttp2_session_set_stream_user_data(c->ng, r->id, NULL);
  if (nghttp2_submit_rst_stream(c->ng, NGHTTP2_FLAG_NONE, r->id, code))
    kill(c, BEAM_ERR_NOMEM);
  took_off(c);
  flush_soon(c);
}

void h2_up_took(struct h2_req *r, size_t n) {
  if (nghttp2_session_consume_stream(r->c->ng, r->id, n) == NGHTTP2_ERR_NOMEM)
    kill(r->c, BEAM_ERR_NOMEM);
  if (nghttp2_session_want_write(r->c->ng))
    flush_soon(r->c);
}

size_t h2_up_credit(const struct h2_req *r) {
  int32_t n = r->c ? nghttp2_session_get_stream_remote_window_size(r->c->ng, r->id) : 0;
  return n > 0 ? (size_t)n : 0;
}

/* --- receiving --- */

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *user) {
  (void)ng;
  struct h2_up *c = user;
  mux_head_clear(&c->head);
  c->block = 0;
  c->block_since = loop_now(c->loop);
  c->head_id = request_of(c, frame->hd.stream_id) ? frame->hd.stream_id : 0;
  return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *user) {
  (void)ng, (void)flags;
  struct h2_up *c = user;
  c->block += name_n + value_n + 1;
  if (c->block > BLOCK_MAX)
    return broken(c, BEAM_ERR_LIMIT);
  if (c->head_id && c->head_id == frame->hd.stream_id)
    mux_head_add(&c->head, (struct span){(const char *)name, name_n},
                 (struct span){(const char *)value, value_n});
  return 0;
}

/* Left out, as the engine would, it would be another response than the service gave. */
static int on_invalid_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                             size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user) {
  (void)ng, (void)frame, (void)name, (void)name_n, (void)value, (void)value_n, (void)flags, (void)user;
  log_limited(BEAM_LOG_WARN, "http", "local service: response refused why=\"a field that may not be\"");
  return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void on_headers(struct h2_up *c, const nghttp2_frame *frame) {
  struct h2_req *r = c->head_id == frame->hd.stream_id ? request_of(c, frame->hd.stream_id) : NULL;
  c->head_id = 0;
  c->block_since = 0;
  if (!r) {
    mux_head_clear(&c->head);
    return;
  }
  c->answered = 1;
  enum page page = h2_req_headers(r, &c->head, frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
  if (!page)
    return;
  log_limited(BEAM_LOG_WARN, "http", "local service: response refused why=\"its head\"");
  r->failing = page == PAGE_OVERLOADED ? page : PAGE_LOCAL_BAD;
}

/* What the engine passes over in silence. */
static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *hd, void *user) {
  (void)ng;
  if (hd->type == NGHTTP2_PRIORITY || hd->type > NGHTTP2_CONTINUATION)
    spend(user);
  return 0;
}

static void on_window(struct h2_up *c, int32_t id) {
  struct h2_req *r = id ? request_of(c, id) : NULL;
  if (r)
    h2_req_sent(r); /* the ceiling rose */
  flush_soon(c);
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user) {
  (void)ng;
  struct h2_up *c = user;
  struct h2_req *r;
  switch (frame->hd.type) {
  case NGHTTP2_HEADERS:
    on_headers(c, frame);
    break;
  case NGHTTP2_DATA:
    r = request_of(c, frame->hd.stream_id);
    if (r && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
      h2_req_ended(r);
    else if (!frame->hd.length)
      spend(c);
    break;
  case NGHTTP2_WINDOW_UPDATE:
    on_window(c, frame->hd.stream_id);
    break;
  case NGHTTP2_SETTINGS:
    c->saw_settings = 1;
    spend(c);
    loop_soon(c->loop, &c->pool->kick); /* perhaps there are more slots now */
    break;
  case NGHTTP2_PING:
    spend(c);
    break;
  case NGHTTP2_GOAWAY:
    c->going = 1;
    loop_soon(c->loop, &c->pool->kick);
    break;
  default:
    break;
  }
  flush_soon(c);
  return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *user) {
  (void)flags;
  struct h2_up *c = user;
  struct h2_req *r = request_of(c, id);
  if (nghttp2_session_consume_connection(ng, n) == NGHTTP2_ERR_NOMEM || (r && h2_req_data(r, p, n)))
    return broken(c, BEAM_ERR_NOMEM);
  return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user) {
  struct h2_up *c = user;
  struct h2_req *r = request_of(c, id);
  if (c->head_id == id)
    c->head_id = 0;
  if (!r)
    return 0;
  nghttp2_session_set_stream_user_data(ng, id, NULL);
  h2_req_over(r, code);
  took_off(c);
  return 0;
}

static int on_error(nghttp2_session *ng, int code, const char *text, size_t n, void *user) {
  (void)ng, (void)code, (void)user;
  log_limited(BEAM_LOG_DEBUG, "http", "local service over http2: %.*s", (int)n, text);
  return 0;
}

/* --- making one --- */

static int settings(struct h2_up *c) {
  nghttp2_settings_entry ours[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                   {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, LIMIT_STREAM_WINDOW_MIN},
                                   {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, LIMIT_HEAD_BYTES}};
  if (nghttp2_submit_settings(c->ng, NGHTTP2_FLAG_NONE, ours, sizeof ours / sizeof *ours))
    return BEAM_ERR_NOMEM;
  return nghttp2_session_set_local_window_size(c->ng, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW) ? BEAM_ERR_NOMEM : 0;
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
  nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_not_sent);
  nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
  nghttp2_session_callbacks_set_data_source_read_length_callback(cb, read_length);
  nghttp2_session_callbacks_set_error_callback2(cb, on_error);
}

static int engine_new(struct h2_up *c) {
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
  nghttp2_option_set_peer_max_concurrent_streams(option, LIMIT_H2_UP_STREAMS); /* until it says */
  int err = nghttp2_session_client_new2(&c->ng, cb, c, option);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(cb);
  return err ? BEAM_ERR_NOMEM : settings(c);
}

int h2_up_new(struct h2_pool *p, struct stream *s) {
  struct h2_up *c = calloc(1, sizeof *c);
  if (!c) {
    stream_close(s, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  c->pool = p;
  c->loop = s->loop;
  c->s = s;
  c->idle_since = c->tokens_at = loop_now(c->loop);
  c->tokens = LIMIT_H2_GLITCHES;
  task_init(&c->flush, on_flush, c);
  timer_init(&c->timer, c->loop, on_timer, c);
  c->out = evbuffer_new();
  if (!c->out || engine_new(c) || timer_start(&c->timer, TICK_MS)) {
    nghttp2_session_del(c->ng);
    if (c->out)
      evbuffer_free(c->out);
    free(c);
    stream_close(s, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  DL_APPEND(p->ups, c);
  p->ups_n++;
  stream_own(s, &events, c);
  flush_soon(c);
  return 0;
}
