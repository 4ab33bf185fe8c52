/* HTTP/1 request heads: what is taken is clean, unambiguous, and survives being written and read again. */
#include "h1.h"

static void must_be_framed(const struct h1_message *m) {
  const struct http_field *length = http_field_find(&m->head, "content-length");
  const struct http_field *coding = http_field_find(&m->head, "transfer-encoding");
  MUST(!(length && coding));
  MUST((m->body == HTTP_BODY_CHUNKED) == (coding != NULL));
  MUST((m->body == HTTP_BODY_LENGTH) == (m->length > 0));
  MUST(m->body != HTTP_BODY_LENGTH || length);
  MUST(!m->upgrade || m->body == HTTP_BODY_NONE);
  MUST(m->head.minor == 0 || http_field_find(&m->head, "host"));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  struct h1_message m, again;
  long length = head_length((const char *)p, n);
  if (length > 0)
    n = (size_t)length; /* else: a caller's mistake, which must do no harm either */
  if (h1_parse_request((const char *)p, n, &m) != H1_OK) {
    MUST(!m.head.block && !m.head.fields_n && !m.head.method.n);
    return 0;
  }
  must_be_clean(&m.head);
  must_be_framed(&m);
  must_cross_a_link(&m.head);
  MUST(http_target_ok(m.head.method, m.head.target));
  struct evbuffer *b = must_be_written(&m.head);
  enum h1_fault fault =
      h1_parse_request((const char *)evbuffer_pullup(b, -1), evbuffer_get_length(b), &again);
  if (m.head.minor == 1 && evbuffer_get_length(b) <= LIMIT_HEAD_BYTES) { /* from 1.0 to 1.1 means change */
    MUST(fault == H1_OK);
    must_be_same_head(&again.head, &m.head);
    MUST(again.body == m.body && again.length == m.length && again.keep_alive == m.keep_alive);
    MUST(again.upgrade == m.upgrade && again.expect_100 == m.expect_100);
  }
  http_head_free(&again.head);
  evbuffer_free(b);
  http_head_free(&m.head);
  return 0;
}
