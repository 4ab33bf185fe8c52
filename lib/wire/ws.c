#include "wire/ws.h"

#include <beam/beam.h>
#include <string.h>

/* --- headers --- */

static bool is_control(uint8_t op) {
  return op & 8;
}

long ws_frame_decode(const uint8_t *p, size_t n, struct ws_frame *out) {
  if (!n)
    return 0;
  uint8_t op = p[0] & 15;
  if (p[0] & 0x70 || (op > WS_BINARY && op < WS_CLOSE) || op > WS_PONG)
    return BEAM_ERR_PROTOCOL;
  if (n < 2)
    return 0;
  struct ws_frame f = {.fin = p[0] & 0x80, .masked = p[1] & 0x80, .op = op, .length = p[1] & 0x7f};
  if (is_control(op) && (!f.fin || f.length > WS_CONTROL_MAX))
    return BEAM_ERR_PROTOCOL;
  size_t wide = f.length == 126 ? 2 : f.length == 127 ? 8 : 0, at = 2 + wide;
  if (n < at + (f.masked ? 4 : 0))
    return 0;
  if (wide) {
    f.length = 0;
    for (size_t i = 0; i < wide; i++)
      f.length = f.length << 8 | p[2 + i];
    if (f.length >> 63 || f.length <= (wide == 2 ? 125u : 0xffffu))
      return BEAM_ERR_PROTOCOL;
  }
  if (f.masked)
    memcpy(f.mask, p + at, 4);
  *out = f;
  return (long)(at + (f.masked ? 4 : 0));
}

size_t ws_frame_encode(uint8_t out[WS_HEADER_MAX], const struct ws_frame *f) {
  size_t wide = f->length > 0xffff ? 8 : f->length > 125 ? 2 : 0, at = 2 + wide;
  out[0] = (uint8_t)((f->fin ? 0x80 : 0) | f->op);
  out[1] = (uint8_t)((f->masked ? 0x80 : 0) | (wide == 8 ? 127 : wide == 2 ? 126 : f->length));
  for (size_t i = 0; i < wide; i++)
    out[2 + i] = (uint8_t)(f->length >> 8 * (wide - 1 - i));
  if (!f->masked)
    return at;
  memcpy(out + at, f->mask, 4);
  return at + 4;
}

void ws_mask(void *dst, const void *src, size_t n, const uint8_t mask[4], uint64_t at) {
  uint8_t turned[8], *to = dst;
  const uint8_t *from = src;
  for (size_t i = 0; i < 8; i++)
    turned[i] = mask[(at + i) & 3];
  uint64_t wide, word;
  memcpy(&wide, turned, 8);
  for (; n >= 8; n -= 8, to += 8, from += 8) {
    memcpy(&word, from, 8);
    word ^= wide;
    memcpy(to, &word, 8);
  }
  for (size_t i = 0; i < n; i++)
    to[i] = from[i] ^ turned[i];
}

/* --- one direction --- */

void ws_reader_init(struct ws_reader *r, bool masked, uint64_t max_message) {
  *r = (struct ws_reader){.masked = masked, .max = max_message};
}

static enum ws_what bad(struct ws_reader *r, uint16_t code) {
  r->code = code;
  return WS_WHAT_BAD;
}

/* A header was read: may this frame come now? 0, or the code to close with. */
static uint16_t fault_of(struct ws_reader *r) {
  const struct ws_frame *f = &r->f;
  if (f->masked != r->masked)
    return WS_CODE_PROTOCOL;
  if (is_control(f->op))
    return 0;
  if ((f->op == WS_CONTINUATION) != r->in_message)
    return WS_CODE_PROTOCOL;
  if (f->op == WS_TEXT)
    return WS_CODE_UNSUPPORTED;
  if (f->op != WS_CONTINUATION)
    r->message = 0;
  if (f->length > r->max - r->message)
    return WS_CODE_TOO_LARGE;
  r->message += f->length;
  r->in_message = !f->fin;
  return 0;
}

enum ws_what ws_reader_next(struct ws_reader *r, const uint8_t *p, size_t n, size_t *used, uint64_t *data) {
  *used = 0;
  *data = 0;
  if (r->code)
    return WS_WHAT_BAD;
  while (!r->in_frame || (r->at == r->f.length && !is_control(r->f.op))) {
    r->in_frame = false;
    long got = ws_frame_decode(p + *used, n - *used, &r->f);
    if (got < 0)
      return bad(r, WS_CODE_PROTOCOL);
    if (got == 0)
      return WS_WHAT_MORE;
    *used += (size_t)got;
    r->at = 0;
    r->in_frame = true;
    uint16_t code = fault_of(r);
    if (code)
      return bad(r, code);
  }
  *data = r->f.length - r->at;
  if (!is_control(r->f.op))
    return WS_WHAT_DATA;
  return n - *used < *data ? WS_WHAT_MORE : WS_WHAT_CONTROL;
}

void ws_reader_ate(struct ws_reader *r, uint64_t n) {
  r->at += n;
  if (r->at == r->f.length)
    r->in_frame = false;
}

void ws_reader_unmask(const struct ws_reader *r, void *dst, const void *src, size_t n) {
  if (r->f.masked)
    ws_mask(dst, src, n, r->f.mask, r->at);
  else if (n && dst != src)
    memcpy(dst, src, n);
}

int ws_close_code(const uint8_t *p, size_t n) {
  if (!n)
    return WS_CODE_NONE;
  int code = n < 2 ? 0 : p[0] << 8 | p[1];
  bool named = code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
  return named || (code >= 3000 && code <= 4999) ? code : BEAM_ERR_PROTOCOL;
}
