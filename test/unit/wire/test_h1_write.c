/* HTTP/1.1 written: heads, chunks, trailers, reasons. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <beam/beam.h>
#include <event2/buffer.h>
#include <event2/event.h>

#include "base/limits.h"
#include "wire/frame.h"
#include "wire/h1.h"

static struct evbuffer *buffer;

/* libevent's memory, which can be told to run out. */
static bool empty;

static void *give(size_t n) {
  return empty ? NULL : malloc(n);
}

static void *grow(void *p, size_t n) {
  return empty ? NULL : realloc(p, n);
}

static int make_buffer(void **state) {
  (void)state;
  event_set_mem_functions(give, grow, free);
  buffer = evbuffer_new();
  return buffer ? 0 : -1;
}

static int free_buffer(void **state) {
  (void)state;
  evbuffer_free(buffer);
  return 0;
}

static void written(const char *want) {
  size_t n = evbuffer_get_length(buffer);
  assert_int_equal(n, strlen(want));
  assert_memory_equal(evbuffer_pullup(buffer, -1), want, n);
  evbuffer_drain(buffer, n);
}

static struct http_field fields[] = {
    {SPAN("Host"), SPAN("a.test")},
    {SPAN("x-empty"), {NULL, 0}},
};

static void writes_heads(void **state) {
  (void)state;
  struct http_head h = {.method = SPAN("GET"), .target = SPAN("/x?y"), .fields = fields, .fields_n = 2};
  assert_int_equal(h1_write_head(buffer, &h), 0);
  written("GET /x?y HTTP/1.1\r\nHost: a.test\r\nx-empty: \r\n\r\n");
  h = (struct http_head){.status = 200, .reason = SPAN("OK"), .fields = fields, .fields_n = 1};
  assert_int_equal(h1_write_head(buffer, &h), 0);
  written("HTTP/1.1 200 OK\r\nHost: a.test\r\n\r\n");
  h = (struct http_head){.status = 999};
  assert_int_equal(h1_write_head(buffer, &h), 0);
  written("HTTP/1.1 999 \r\n\r\n");
  h = (struct http_head){.status = 103, .minor = 0}; /* we speak 1.1 whatever the sender spoke */
  assert_int_equal(h1_write_head(buffer, &h), 0);
  written("HTTP/1.1 103 \r\n\r\n");
}

static void writes_chunks(void **state) {
  (void)state;
  static const struct {
    size_t n;
    const char *want;
  } table[] = {{1, "1\r\n"},
               {9, "9\r\n"},
               {10, "a\r\n"},
               {16, "10\r\n"},
               {65536, "10000\r\n"},
               {0xfffffffff, "fffffffff\r\n"},
               {SIZE_MAX, "ffffffffffffffff\r\n"}};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    assert_int_equal(h1_write_chunk_head(buffer, table[i].n), 0);
    written(table[i].want);
  }
  assert_int_equal(h1_write_last_chunk(buffer, NULL), 0);
  written("0\r\n\r\n");
  struct http_head none = {0}, two = {.fields = fields, .fields_n = 2};
  assert_int_equal(h1_write_last_chunk(buffer, &none), 0);
  written("0\r\n\r\n");
  assert_int_equal(h1_write_last_chunk(buffer, &two), 0);
  written("0\r\nHost: a.test\r\nx-empty: \r\n\r\n");
}

/* What is written is what was read, and the buffer takes a full head in one piece. */
static void writes_what_was_read(void **state) {
  (void)state;
  static char text[LIMIT_HEAD_BYTES];
  static const char start[] = "GET /a HTTP/1.1\r\nHost: a.test\r\nBig: ";
  memset(text, 'x', sizeof text);
  memcpy(text, start, sizeof start - 1);
  memcpy(text + sizeof text - 4, "\r\n\r\n", 4);
  struct h1_message m;
  assert_int_equal(h1_parse_request(text, sizeof text, &m), H1_OK);
  assert_int_equal(evbuffer_add(buffer, "before ", 7), 0);
  assert_int_equal(h1_write_head(buffer, &m.head), 0);
  assert_int_equal(evbuffer_get_length(buffer), sizeof text + 7);
  assert_memory_equal(evbuffer_pullup(buffer, -1) + 7, text, sizeof text);
  evbuffer_drain(buffer, sizeof text + 7);
  http_head_free(&m.head);
}

static void says_when_memory_is_short(void **state) {
  (void)state;
  static char big[5000];
  memset(big, 'x', sizeof big);
  struct http_field field = {SPAN("a"), {big, sizeof big}};
  struct http_head h = {.status = 200, .fields = &field, .fields_n = 1};
  empty = true;
  assert_int_equal(h1_write_head(buffer, &h), BEAM_ERR_NOMEM);
  assert_int_equal(h1_write_last_chunk(buffer, &h), BEAM_ERR_NOMEM);
  assert_int_equal(frame_head_write(buffer, FRAME_HEAD, &h), BEAM_ERR_NOMEM);
  assert_int_equal(evbuffer_get_length(buffer), 0); /* nothing half-written */
  empty = false;
  assert_int_equal(h1_write_head(buffer, &h), 0);
  evbuffer_drain(buffer, evbuffer_get_length(buffer));
}

static void knows_reasons(void **state) {
  (void)state;
  static const struct {
    uint16_t status;
    const char *want;
  } table[] = {{100, "Continue"},
               {101, "Switching Protocols"},
               {200, "OK"},
               {204, "No Content"},
               {308, "Permanent Redirect"},
               {404, "Not Found"},
               {421, "Misdirected Request"},
               {502, "Bad Gateway"},
               {511, "Network Authentication Required"},
               {99, ""},
               {418, ""},
               {512, ""},
               {0, ""},
               {65535, ""}};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    assert_string_equal(http_reason(table[i].status), table[i].want);
  unsigned known = 0; /* each row of the table must be found: it is searched in halves */
  for (unsigned s = 0; s < 1000; s++)
    known += *http_reason((uint16_t)s) != 0;
  assert_int_equal(known, 60);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(writes_heads),         cmocka_unit_test(writes_chunks),
      cmocka_unit_test(writes_what_was_read), cmocka_unit_test(says_when_memory_is_short),
      cmocka_unit_test(knows_reasons),
  };
  return cmocka_run_group_tests(tests, make_buffer, free_buffer);
}
