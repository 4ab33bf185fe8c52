/* The chunked coding: whole, cut in two and byte by byte it must come to the same; the first byte says where to cut. */
#include <event2/buffer.h>

#include "fuzz.h"
#include "wire/h1.h"

struct result {
  enum h1_chunk_what what;
  size_t eaten, trailers_n;
  struct evbuffer *body;
};

static void must_keep_trailers(const char *p, size_t n) {
  struct http_head h;
  if (h1_parse_trailers(p, n, &h) == H1_OK) {
    must_be_clean(&h);
    http_head_free(&h);
  }
}

static struct result feed(const char *p, size_t n, size_t cut, size_t step) {
  struct result r = {.body = evbuffer_new()};
  struct h1_chunked c;
  h1_chunked_init(&c);
  for (size_t have = cut;;) {
    size_t used, data;
    r.what = h1_chunked_next(&c, p + r.eaten, have - r.eaten, &used, &data);
    MUST(used + data <= have - r.eaten);
    MUST((r.what == H1_CHUNK_DATA || r.what == H1_CHUNK_TRAILERS) == (data > 0));
    if (r.what == H1_CHUNK_DATA) {
      MUST(evbuffer_add(r.body, p + r.eaten + used, data) == 0);
      h1_chunked_ate(&c, data);
    } else if (r.what == H1_CHUNK_TRAILERS) {
      r.trailers_n = data;
      must_keep_trailers(p + r.eaten + used, data);
    }
    r.eaten += used + data;
    if (r.what == H1_CHUNK_END || r.what == H1_CHUNK_BAD)
      return r;
    if (r.what == H1_CHUNK_MORE) {
      if (have == n)
        return r;
      have = have + step < n ? have + step : n;
    }
  }
}

static void must_be_same(const struct result *a, const struct result *b) {
  size_t n = evbuffer_get_length(a->body);
  MUST(a->what == b->what && a->trailers_n == b->trailers_n && n == evbuffer_get_length(b->body));
  MUST(a->what == H1_CHUNK_BAD || a->eaten == b->eaten);
  MUST(!n || !memcmp(evbuffer_pullup(a->body, -1), evbuffer_pullup(b->body, -1), n));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  if (!n)
    return 0;
  const char *text = (const char *)p + 1;
  n--;
  size_t cut = *p < n ? *p : n;
  struct result whole = feed(text, n, n, 1), two = feed(text, n, cut, n), bytes = feed(text, n, 0, 1);
  must_be_same(&whole, &two);
  must_be_same(&whole, &bytes);
  evbuffer_free(whole.body);
  evbuffer_free(two.body);
  evbuffer_free(bytes.body);
  return 0;
}
