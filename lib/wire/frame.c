#include "wire/frame.h"

#include <beam/beam.h>
#include <event2/buffer.h>
#include <string.h>

#include "base/limits.h"
#include "wire/chars.h"
#include "wire/host.h"

enum kind { KIND_REQUEST = 0, KIND_RESPONSE = 1, KIND_TRAILERS = 2 };
enum { FIELDS_MAX = LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS };

/* --- frame headers --- */

static bool length_permitted(enum frame_type type, size_t n) {
  switch (type) {
  case FRAME_HEAD:
  case FRAME_INFO:
  case FRAME_TRAILERS:
    return n >= 1 && n <= FRAME_HEAD_MAX;
  case FRAME_DATA:
    return n <= FRAME_DATA_MAX;
  case FRAME_END:
  case FRAME_STOP:
    return n == 0;
  case FRAME_ERROR:
    return n == 2;
  }
  return false;
}

long frame_decode(const uint8_t *p, size_t n, struct frame *out) {
  if (n && (p[0] < FRAME_HEAD || p[0] > FRAME_ERROR))
    return BEAM_ERR_PROTOCOL;
  if (n < FRAME_HEADER)
    return 0;
  out->type = (enum frame_type)p[0];
  out->length = (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
  return length_permitted(out->type, out->length) ? FRAME_HEADER : BEAM_ERR_PROTOCOL;
}

void frame_encode(uint8_t p[FRAME_HEADER], enum frame_type type, size_t length) {
  p[0] = (uint8_t)type;
  p[1] = (uint8_t)(length >> 16);
  p[2] = (uint8_t)(length >> 8);
  p[3] = (uint8_t)length;
}

/* --- reading a head --- */

struct reader {
  const uint8_t *p, *end;
};

static bool read_u16(struct reader *r, uint16_t *v) {
  if (r->end - r->p < 2)
    return false;
  *v = (uint16_t)(r->p[0] << 8 | r->p[1]);
  r->p += 2;
  return true;
}

static bool read_text(struct reader *r, struct span *s) {
  uint16_t n;
  if (!read_u16(r, &n) || (size_t)(r->end - r->p) < n)
    return false;
  *s = (struct span){(const char *)r->p, n};
  r->p += n;
  return true;
}

static bool authority_ok(struct span a) {
  char host[HOST_MAX];
  uint16_t port;
  return !a.n || host_parse(a, host, &port);
}

static bool scheme_ok(struct span s) {
  return !s.n || span_eq(s, SPAN("https")) || span_eq(s, SPAN("http"));
}

static bool read_request(struct reader *r, struct http_head *h) {
  return read_text(r, &h->method) && read_text(r, &h->scheme) && read_text(r, &h->authority) &&
         read_text(r, &h->target) && http_name_ok(h->method) && scheme_ok(h->scheme) &&
         authority_ok(h->authority) && http_target_ok(h->method, h->target);
}

static bool read_response(struct reader *r, struct http_head *h) {
  return read_u16(r, &h->status) && h->status >= 100 && h->status <= 999 && read_text(r, &h->reason) &&
         http_value_ok(h->reason);
}

/* What h1_parse_trailers() refuses must not come in by the other door. */
static bool trailer_ok(struct span name) {
  return !span_ieq(name, SPAN("content-length")) && !span_ieq(name, SPAN("transfer-encoding")) &&
         !span_ieq(name, SPAN("host"));
}

static bool read_fields(struct reader *r, struct http_head *h, bool trailers) {
  while (r->p < r->end) {
    struct http_field *f = &h->fields[h->fields_n];
    if (h->fields_n == FIELDS_MAX || !read_text(r, &f->name) || !read_text(r, &f->value) ||
        !http_name_ok(f->name) || !http_value_ok(f->value) || (trailers && !trailer_ok(f->name)))
      return false;
    h->fields_n++;
  }
  return true;
}

int frame_head_decode(const uint8_t *p, size_t n, struct http_head *out) {
  struct http_field fields[FIELDS_MAX];
  struct http_head h = {.minor = 1, .fields = fields};
  memset(out, 0, sizeof *out);
  if (!n || n > FRAME_HEAD_MAX || p[0] > KIND_TRAILERS)
    return BEAM_ERR_PROTOCOL;
  struct reader r = {p + 1, p + n};
  if ((p[0] == KIND_REQUEST && !read_request(&r, &h)) || (p[0] == KIND_RESPONSE && !read_response(&r, &h)) ||
      !read_fields(&r, &h, p[0] == KIND_TRAILERS))
    return BEAM_ERR_PROTOCOL;
  int err = http_head_own(&h);
  if (!err)
    *out = h;
  return err;
}

/* --- writing a head --- */

static uint8_t *write_u16(uint8_t *p, size_t v) {
  p[0] = (uint8_t)(v >> 8);
  p[1] = (uint8_t)v;
  return p + 2;
}

static uint8_t *write_text(uint8_t *p, struct span s) {
  p = write_u16(p, s.n);
  if (s.n)
    memcpy(p, s.p, s.n);
  return p + s.n;
}

static enum kind kind_of(enum frame_type type, const struct http_head *h) {
  if (type == FRAME_TRAILERS)
    return KIND_TRAILERS;
  return h->status ? KIND_RESPONSE : KIND_REQUEST;
}

/* 0: one of its texts does not fit. */
static size_t head_size(enum kind kind, const struct http_head *h) {
  size_t n = 1, longest = 0;
  if (kind == KIND_REQUEST) {
    n += 8 + h->method.n + h->scheme.n + h->authority.n + h->target.n;
    longest = h->method.n | h->scheme.n | h->authority.n | h->target.n;
  } else if (kind == KIND_RESPONSE) {
    n += 4 + h->reason.n;
    longest = h->reason.n;
  }
  for (size_t i = 0; i < h->fields_n; i++) {
    n += 4 + h->fields[i].name.n + h->fields[i].value.n;
    longest |= h->fields[i].name.n | h->fields[i].value.n;
  }
  return longest > UINT16_MAX || n > FRAME_HEAD_MAX || h->fields_n > FIELDS_MAX ? 0 : n;
}

int frame_head_write(struct evbuffer *out, enum frame_type type, const struct http_head *h) {
  enum kind kind = kind_of(type, h);
  size_t n = head_size(kind, h);
  if (!n)
    return BEAM_ERR_TOO_LARGE;
  struct evbuffer_iovec v;
  if (evbuffer_reserve_space(out, (ev_ssize_t)(FRAME_HEADER + n), &v, 1) < 1)
    return BEAM_ERR_NOMEM;
  uint8_t *p = v.iov_base;
  frame_encode(p, type, n);
  p += FRAME_HEADER;
  *p++ = (uint8_t)kind;
  if (kind == KIND_REQUEST) {
    p = write_text(p, h->method);
    p = write_text(p, h->scheme);
    p = write_text(p, h->authority);
    p = write_text(p, h->target);
  } else if (kind == KIND_RESPONSE) {
    p = write_u16(p, h->status);
    p = write_text(p, h->reason);
  }
  for (size_t i = 0; i < h->fields_n; i++) {
    p = write_text(p, h->fields[i].name);
    p = write_text(p, h->fields[i].value);
  }
  v.iov_len = FRAME_HEADER + n;
  return evbuffer_commit_space(out, &v, 1) ? BEAM_ERR_NOMEM : 0;
}
