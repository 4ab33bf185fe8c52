#include "h2_client.h"

/* What a stream has to send: a buffer of its own; `open` while more may come. */
struct source {
  struct evbuffer *b;
  bool open, trailers;
};
static struct source sources[H2_CLIENT_STREAMS];

static struct h2_answer *find(struct h2_client *c, int32_t id) {
  for (unsigned i = 0; i < c->answers_n; i++)
    if (c->answers[i].id == id)
      return &c->answers[i];
  return NULL;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *user) {
  (void)ng, (void)flags;
  struct h2_answer *a = find(user, frame->hd.stream_id);
  if (!a)
    return 0;
  size_t n = strlen(a->fields);
  if (name_n == 7 && !memcmp(name, ":status", 7)) {
    int status = atoi((const char *)value);
    if (status >= 200)
      a->status = status;
    else
      snprintf(a->fields + n, sizeof a->fields - n, "%d\n", status);
    return 0;
  }
  snprintf(a->fields + n, sizeof a->fields - n, "%.*s: %.*s\n", (int)name_n, name, (int)value_n, value);
  return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *user) {
  (void)flags;
  struct h2_client *c = user;
  struct h2_answer *a = find(c, id);
  if (a)
    evbuffer_add(a->body, p, n);
  if (!c->manual)
    nghttp2_session_consume(ng, id, n);
  return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user) {
  (void)ng;
  struct h2_client *c = user;
  struct h2_answer *a = find(c, frame->hd.stream_id);
  if (a && (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
      frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
    a->ended = true;
  if (frame->hd.type == NGHTTP2_GOAWAY) {
    c->goaway = true;
    c->goaway_code = frame->goaway.error_code;
  }
  c->pings += frame->hd.type == NGHTTP2_PING && !(frame->hd.flags & NGHTTP2_FLAG_ACK);
  return 0;
}

static int on_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user) {
  (void)ng;
  struct h2_answer *a = find(user, id);
  if (a) {
    a->closed = true;
    a->code = code;
  }
  return 0;
}

struct h2_client *h2_client_new(enum rig_way way) {
  struct h2_client *c = calloc(1, sizeof *c);
  nghttp2_session_callbacks *cb;
  nghttp2_option *option;
  assert_non_null(c);
  c->r = rig_new_with(way, h2_front_new);
  assert_int_equal(nghttp2_session_callbacks_new(&cb), 0);
  assert_int_equal(nghttp2_option_new(&option), 0);
  nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
  nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_max_send_header_block_length(option, 1 << 20);
  assert_int_equal(nghttp2_session_client_new2(&c->ng, cb, c, option), 0);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(cb);
  nghttp2_submit_settings(c->ng, NGHTTP2_FLAG_NONE, NULL, 0);
  h2_client_run(c);
  return c;
}

void h2_client_free(struct h2_client *c) {
  for (unsigned i = 0; i < c->answers_n; i++) {
    evbuffer_free(c->answers[i].body);
    if (sources[i].b)
      evbuffer_free(sources[i].b);
    sources[i].b = NULL;
  }
  nghttp2_session_del(c->ng);
  rig_free(c->r);
  free(c);
}

static bool exchange(struct h2_client *c) {
  struct peer *v = &c->r->visitor;
  const uint8_t *p;
  ssize_t n;
  bool any = false;
  while (c->ng && v->s && !v->dead && stream_room(v->s) > 20000 &&
         (n = nghttp2_session_mem_send(c->ng, &p)) > 0) {
    peer_put(v, p, (size_t)n);
    any = true;
  }
  size_t got = evbuffer_get_length(v->got);
  if (got && c->ng) {
    nghttp2_session_mem_recv(c->ng, evbuffer_pullup(v->got, -1), got);
    evbuffer_drain(v->got, got);
    any = true;
  }
  return any;
}

void h2_client_run(struct h2_client *c) {
  do
    rig_run(c->r);
  while (exchange(c));
}

/* In steps, so that the visitor answers PINGs meanwhile. */
void h2_client_wait(struct h2_client *c, uint64_t ms) {
  h2_client_run(c);
  for (uint64_t step; ms; ms -= step) {
    step = ms < 5000 ? ms : 5000;
    rig_wait(c->r, step);
    h2_client_run(c);
  }
}

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

static ssize_t read_source(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t max, uint32_t *flags,
                           nghttp2_data_source *from, void *user) {
  (void)ng, (void)id, (void)user;
  struct source *s = from->ptr;
  int n = evbuffer_remove(s->b, buf, max);
  if (n <= 0 && s->open)
    return NGHTTP2_ERR_DEFERRED;
  if (!s->open && !evbuffer_get_length(s->b)) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (s->trailers)
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    evbuffer_free(s->b);
    s->b = NULL;
  }
  return n > 0 ? n : 0;
}

struct h2_answer *h2_client_ask(struct h2_client *c, const char *text, const char *body) {
  nghttp2_nv nv[200];
  size_t n = split(text, nv, 200);
  assert_true(c->answers_n < H2_CLIENT_STREAMS);
  struct source *s = &sources[c->answers_n];
  struct h2_answer *a = &c->answers[c->answers_n++];
  nghttp2_data_provider provider = {.source.ptr = s, .read_callback = read_source};
  a->body = evbuffer_new();
  if (body) {
    *s = (struct source){evbuffer_new(), !*body, false};
    evbuffer_add(s->b, body, strlen(body));
  }
  a->id = nghttp2_submit_request(c->ng, NULL, nv, n, body ? &provider : NULL, NULL);
  assert_true(a->id > 0);
  h2_client_run(c);
  return a;
}

struct h2_answer *h2_client_get(struct h2_client *c, const char *path) {
  char text[256];
  snprintf(text, sizeof text, ":method: GET\n:scheme: https\n:authority: t.test\n:path: %s\n", path);
  return h2_client_ask(c, text, NULL);
}

void h2_client_data(struct h2_client *c, struct h2_answer *a, const char *text, bool end) {
  struct source *s = &sources[a - c->answers];
  evbuffer_add(s->b, text, strlen(text));
  s->open = !end;
  nghttp2_session_resume_data(c->ng, a->id);
  h2_client_run(c);
}

size_t h2_client_unsent(struct h2_client *c, struct h2_answer *a) {
  struct source *s = &sources[a - c->answers];
  return s->b ? evbuffer_get_length(s->b) : 0;
}

void h2_client_trailers(struct h2_client *c, struct h2_answer *a, const char *text) {
  nghttp2_nv nv[16];
  struct source *s = &sources[a - c->answers];
  s->trailers = true;
  s->open = false;
  nghttp2_session_resume_data(c->ng, a->id);
  h2_client_run(c);
  assert_int_equal(nghttp2_submit_trailer(c->ng, a->id, nv, split(text, nv, 16)), 0);
  h2_client_run(c);
}

void h2_client_reset(struct h2_client *c, struct h2_answer *a) {
  nghttp2_submit_rst_stream(c->ng, NGHTTP2_FLAG_NONE, a->id, NGHTTP2_CANCEL);
  h2_client_run(c);
}

const char *h2_client_body(struct h2_answer *a) {
  evbuffer_add(a->body, "", 1);
  const char *text = (const char *)evbuffer_pullup(a->body, -1);
  return text;
}

bool h2_client_has(struct h2_answer *a, const char *line) {
  size_t n = strlen(line);
  for (const char *p = a->fields; (p = strstr(p, line)); p += n)
    if ((p == a->fields || p[-1] == '\n') && p[n] == '\n')
      return true;
  return false;
}

void h2_raw(struct h2_client *c, unsigned type, unsigned flags, int32_t id, const void *payload, size_t n) {
  uint8_t head[9] = {(uint8_t)(n >> 16),  (uint8_t)(n >> 8),  (uint8_t)n,
                     (uint8_t)type,       (uint8_t)flags,     (uint8_t)(id >> 24),
                     (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
  if (!c->r->visitor.s || c->r->visitor.dead || stream_room(c->r->visitor.s) < n + 9)
    return;
  peer_put(&c->r->visitor, head, 9);
  if (n)
    peer_put(&c->r->visitor, payload, n);
}

size_t h2_raw_field(uint8_t *out, const char *name, const char *value) {
  size_t a = strlen(name), b = strlen(value);
  assert_true(a < 127 && b < 127);
  out[0] = 0;
  out[1] = (uint8_t)a;
  memcpy(out + 2, name, a);
  out[2 + a] = (uint8_t)b;
  memcpy(out + 3 + a, value, b);
  return 3 + a + b;
}
