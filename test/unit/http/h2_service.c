#include "h2_service.h"

static struct h2_call *find(struct h2_service *s, int32_t id) {
  for (unsigned i = 0; i < s->calls_n; i++)
    if (s->calls[i].id == id)
      return &s->calls[i];
  return NULL;
}

static int on_begin(nghttp2_session *ng, const nghttp2_frame *frame, void *user) {
  (void)ng;
  struct h2_service *s = user;
  if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
    return 0;
  assert_true(s->calls_n < H2_SERVICE_CALLS);
  struct h2_call *k = &s->calls[s->calls_n++];
  k->id = frame->hd.stream_id;
  k->body = evbuffer_new();
  k->out = evbuffer_new();
  return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *user) {
  (void)ng, (void)flags;
  struct h2_call *k = find(user, frame->hd.stream_id);
  size_t n = k ? strlen(k->fields) : 0;
  if (k)
    snprintf(k->fields + n, sizeof k->fields - n, "%.*s: %.*s\n", (int)name_n, name, (int)value_n, value);
  return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *user) {
  (void)flags;
  struct h2_service *s = user;
  struct h2_call *k = find(s, id);
  if (k)
    evbuffer_add(k->body, p, n);
  if (!s->manual)
    nghttp2_session_consume(ng, id, n);
  return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user) {
  (void)ng;
  struct h2_service *s = user;
  struct h2_call *k = find(s, frame->hd.stream_id);
  if (k && (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS))
    k->ended |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  s->goaway |= frame->hd.type == NGHTTP2_GOAWAY;
  return 0;
}

static int on_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user) {
  (void)ng;
  struct h2_call *k = find(user, id);
  if (k) {
    k->closed = true;
    k->code = code;
  }
  return 0;
}

struct h2_service *h2_service_new(struct h2_client *c, unsigned index, unsigned most) {
  struct h2_service *s = calloc(1, sizeof *s);
  nghttp2_session_callbacks *cb;
  nghttp2_option *option;
  nghttp2_settings_entry ours = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, most};
  assert_non_null(s);
  assert_true(index < c->r->dials);
  s->c = c;
  s->index = index;
  assert_int_equal(nghttp2_session_callbacks_new(&cb), 0);
  assert_int_equal(nghttp2_option_new(&option), 0);
  nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin);
  nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
  nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_http_messaging(option, 1); /* it may say what is wrong */
  nghttp2_option_set_max_send_header_block_length(option, 1 << 20);
  assert_int_equal(nghttp2_session_server_new2(&s->ng, cb, s, option), 0);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(cb);
  nghttp2_submit_settings(s->ng, NGHTTP2_FLAG_NONE, &ours, most ? 1 : 0);
  h2_service_run(s);
  return s;
}

void h2_service_free(struct h2_service *s) {
  for (unsigned i = 0; i < s->calls_n; i++) {
    evbuffer_free(s->calls[i].body);
    evbuffer_free(s->calls[i].out);
  }
  nghttp2_session_del(s->ng);
  free(s);
}

static bool exchange(struct h2_service *s) {
  struct peer *p = &s->c->r->service[s->index];
  const uint8_t *bytes;
  ssize_t n;
  bool any = false;
  while (p->s && !p->dead && !p->s->out_ended && stream_room(p->s) > 20000 &&
         (n = nghttp2_session_mem_send(s->ng, &bytes)) > 0) {
    peer_put(p, bytes, (size_t)n);
    any = true;
  }
  size_t got = peer_length(p);
  if (got) {
    assert_int_equal(nghttp2_session_mem_recv(s->ng, evbuffer_pullup(p->got, -1), got), got);
    evbuffer_drain(p->got, got);
    any = true;
  }
  return any;
}

void h2_run(struct h2_client *c, struct h2_service *const *all, unsigned n) {
  for (bool any = true; any;) {
    h2_client_run(c);
    any = false;
    for (unsigned i = 0; i < n; i++)
      any |= exchange(all[i]);
  }
}

void h2_service_run(struct h2_service *s) {
  h2_run(s->c, &s, 1);
}

/* --- what it says --- */

static size_t split(const char *text, nghttp2_nv *nv, size_t max) {
  size_t n = 0;
  while (*text) {
    const char *end = strchr(text, '\n'), *colon = strstr(text + 1, ": ");
    assert_true(n < max && end && colon && colon < end);
    nv[n++] = (nghttp2_nv){(uint8_t *)text, (uint8_t *)colon + 2, (size_t)(colon - text),
                           (size_t)(end - colon - 2), NGHTTP2_NV_FLAG_NONE};
    text = end + 1;
  }
  return n;
}

static ssize_t read_out(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t max, uint32_t *flags,
                        nghttp2_data_source *from, void *user) {
  (void)user;
  struct h2_call *k = from->ptr;
  int n = evbuffer_remove(k->out, buf, max);
  if (n <= 0 && k->open)
    return NGHTTP2_ERR_DEFERRED;
  if (!k->open && !evbuffer_get_length(k->out)) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (k->trailers) {
      nghttp2_nv nv[16];
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      nghttp2_submit_trailer(ng, id, nv, split(k->trailers, nv, 16));
    }
  }
  return n > 0 ? n : 0;
}

void h2_service_say(struct h2_service *s, struct h2_call *k, const char *text, const char *body, bool open) {
  nghttp2_nv nv[300];
  nghttp2_data_provider from = {.source.ptr = k, .read_callback = read_out};
  if (body)
    evbuffer_add(k->out, body, strlen(body));
  k->open = open;
  assert_int_equal(nghttp2_submit_response(s->ng, k->id, nv, split(text, nv, 300), body ? &from : NULL), 0);
  h2_service_run(s);
}

void h2_service_info(struct h2_service *s, struct h2_call *k, const char *text) {
  nghttp2_nv nv[16];
  nghttp2_submit_headers(s->ng, NGHTTP2_FLAG_NONE, k->id, NULL, nv, split(text, nv, 16), NULL);
  h2_service_run(s);
}

void h2_service_data(struct h2_service *s, struct h2_call *k, const char *text, bool open) {
  evbuffer_add(k->out, text, strlen(text));
  k->open = open;
  nghttp2_session_resume_data(s->ng, k->id);
  h2_service_run(s);
}

void h2_service_reset(struct h2_service *s, struct h2_call *k, uint32_t code) {
  nghttp2_submit_rst_stream(s->ng, NGHTTP2_FLAG_NONE, k->id, code);
  h2_service_run(s);
}

void h2_service_raw(struct h2_service *s, unsigned type, unsigned flags, int32_t id, const void *payload,
                    size_t n) {
  struct peer *p = &s->c->r->service[s->index];
  uint8_t head[9] = {(uint8_t)(n >> 16),  (uint8_t)(n >> 8),  (uint8_t)n,
                     (uint8_t)type,       (uint8_t)flags,     (uint8_t)(id >> 24),
                     (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
  if (!p->s || p->dead || stream_room(p->s) < n + 9)
    return;
  peer_put(p, head, 9);
  if (n)
    peer_put(p, payload, n);
}

bool h2_call_has(struct h2_call *k, const char *line) {
  size_t n = strlen(line);
  for (const char *p = k->fields; (p = strstr(p, line)); p += n)
    if ((p == k->fields || p[-1] == '\n') && p[n] == '\n')
      return true;
  return false;
}
