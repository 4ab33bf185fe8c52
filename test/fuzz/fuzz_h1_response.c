/* HTTP/1 response heads, from whatever the local service is; the first byte picks the method that was asked with. */
#include "h1.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  if (!n)
    return 0;
  struct span methods[] = {SPAN("GET"), SPAN("HEAD"), SPAN("CONNECT")}, method = methods[*p % 3];
  struct h1_message m, again;
  p++, n--;
  long length = head_length((const char *)p, n);
  if (length > 0)
    n = (size_t)length;
  if (h1_parse_response((const char *)p, n, method, &m) != H1_OK) {
    MUST(!m.head.block && !m.head.fields_n && !m.head.status);
    return 0;
  }
  must_be_clean(&m.head);
  MUST(m.head.status >= 100 && m.head.status <= 999);
  MUST((m.body == HTTP_BODY_LENGTH) == (m.length > 0));
  MUST(!m.keep_alive || (m.body != HTTP_BODY_CLOSE && m.body != HTTP_BODY_UPGRADE));
  must_cross_a_link(&m.head);
  struct evbuffer *b = must_be_written(&m.head);
  enum h1_fault fault =
      h1_parse_response((const char *)evbuffer_pullup(b, -1), evbuffer_get_length(b), method, &again);
  if (evbuffer_get_length(b) <= LIMIT_HEAD_BYTES) {
    MUST(fault == H1_OK);
    must_be_same_head(&again.head, &m.head);
    MUST(again.body == m.body && again.length == m.length);
  }
  http_head_free(&again.head);
  evbuffer_free(b);
  http_head_free(&m.head);
  return 0;
}
