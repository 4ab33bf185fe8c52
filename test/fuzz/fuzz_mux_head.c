/* Fields as HPACK or QPACK unpack them become a head of HTTP/1, or a page; or trailers. nghttp2 and nghttp3 check much of this before: here nobody does.
 * Byte 0: bit 0 trailers. Then each field: length of the name, length of the value, both. */
#include "fuzz.h"
#include "http/mux.h"
#include "wire/host.h"

static void back_again(const struct http_head *h, uint16_t status) {
  struct http_field fields[MUX_FIELDS];
  size_t n;
  char *text;
  if (mux_head_fields(h, status, fields, &n, &text))
    return;
  for (size_t i = status != 0; i < n; i++) {
    MUST(http_name_ok(fields[i].name) && http_value_ok(fields[i].value));
    for (size_t k = 0; k < fields[i].name.n; k++)
      MUST(fields[i].name.p[k] < 'A' || fields[i].name.p[k] > 'Z');
    MUST(!span_eq(fields[i].name, SPAN("connection")) && !span_eq(fields[i].name, SPAN("transfer-encoding")));
  }
  free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  struct mux_head m = {0};
  struct http_head h;
  char *key = NULL, host[HOST_MAX];
  uint16_t port;
  if (!n)
    return 0;
  bool trailers = p[0] & 1;
  for (size_t at = 1; at + 2 <= n;) {
    size_t name_n = p[at], value_n = p[at + 1];
    at += 2;
    if (name_n > n - at)
      name_n = n - at;
    if (value_n > n - at - name_n)
      value_n = n - at - name_n;
    mux_head_add(&m, (struct span){(const char *)p + at, name_n},
                 (struct span){(const char *)p + at + name_n, value_n});
    at += name_n + value_n;
  }
  enum page page = trailers ? mux_head_trailers(&m, &h) : mux_head_request(&m, true, &h, &key);
  if (!page) {
    must_be_clean(&h);
    back_again(&h, trailers ? 0 : 200);
    if (!trailers)
      MUST(h.method.n && http_target_ok(h.method, h.target) && host_parse(h.authority, host, &port));
  } else {
    MUST(page_find((unsigned)page));
    MUST(!h.block);
  }
  http_head_free(&h);
  mux_head_clear(&m);
  free(key);
  return 0;
}
