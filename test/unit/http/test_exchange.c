#include "rig.h"

struct recorder {
  struct http_end end;
  char calls[64];
  enum page page;
};

static void note(struct http_end *e, char c) {
  struct recorder *r = (struct recorder *)e;
  size_t n = strlen(r->calls);
  assert_true(n < sizeof r->calls - 1);
  r->calls[n] = c;
}
static void on_head(struct http_end *e, const struct http_head *h, bool more) {
  (void)h;
  note(e, more ? 'H' : 'h');
}
static void on_info(struct http_end *e, const struct http_head *h) {
  (void)h;
  note(e, 'i');
}
static size_t on_room(struct http_end *e) {
  note(e, 'r');
  return 7;
}
static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  note(e, 'b');
  evbuffer_drain(from, n);
  return n;
}
static void on_trailers(struct http_end *e, const struct http_head *h) {
  (void)h;
  note(e, 't');
}
static void on_end(struct http_end *e) {
  note(e, 'e');
}
static void on_stop(struct http_end *e) {
  note(e, 's');
}
static void on_abort(struct http_end *e, enum page page) {
  assert_null(e->peer); /* detached before it is told */
  ((struct recorder *)e)->page = page;
  note(e, 'a');
}
static void on_want(struct http_end *e) {
  note(e, 'w');
}

static const struct http_end_ops front_ops = {"front",     on_head, on_info, on_room,  on_body,
                                              on_trailers, on_end,  on_stop, on_abort, on_want};
static const struct http_end_ops up_ops = {"upstream",  on_head, NULL, on_room,  on_body,
                                           on_trailers, on_end,  NULL, on_abort, on_want};

static void say_all(struct http_end *e, struct evbuffer *b) {
  struct http_head h = {.status = 200};
  http_send_head(e, &h, true);
  http_send_head(e, &h, false);
  http_send_info(e, &h);
  http_room(e);
  http_send_body(e, b, 1);
  http_send_body(e, b, 0); /* nothing to say */
  http_send_trailers(e, &h);
  http_send_end(e);
  http_send_stop(e);
  http_send_want(e);
}

static void calls(void **state) {
  (void)state;
  struct recorder front = {.end = {&front_ops, NULL}}, up = {.end = {&up_ops, NULL}};
  struct evbuffer *b = evbuffer_new();
  evbuffer_add(b, "1234", 4);
  say_all(&up.end, b); /* alone: no-ops */
  assert_int_equal(evbuffer_get_length(b), 4);
  assert_int_equal(http_room(&up.end), 0);
  http_join(&front.end, &up.end);
  say_all(&up.end, b);
  assert_string_equal(front.calls, "Hhirbtesw");
  assert_string_equal(up.calls, "");
  say_all(&front.end, b); /* an upstream knows neither info nor stop */
  assert_string_equal(up.calls, "Hhrbtew");
  http_done(&up.end);
  assert_null(front.end.peer);
  assert_null(up.end.peer);
  http_join(&front.end, &up.end);
  http_send_abort(&up.end, PAGE_LOCAL_BAD);
  assert_int_equal(front.page, PAGE_LOCAL_BAD);
  assert_null(up.end.peer);
  http_send_abort(&up.end, PAGE_LOCAL_BAD);
  assert_string_equal(front.calls, "Hhirbteswa");
  evbuffer_free(b);
}

static void lengths(void **state) {
  (void)state;
  static const struct {
    const char *values[2];
    int want;
    uint64_t n;
  } table[] = {
      {{NULL}, BEAM_ERR_NOT_FOUND, 0},
      {{"0"}, 0, 0},
      {{"9223372036854775807"}, 0, INT64_MAX},
      {{"9223372036854775808"}, BEAM_ERR_INVALID, 0},
      {{""}, BEAM_ERR_INVALID, 0},
      {{"+1"}, BEAM_ERR_INVALID, 0},
      {{"1, 1"}, BEAM_ERR_INVALID, 0},
      {{"1", "1"}, BEAM_ERR_INVALID, 0},
      {{"0x1"}, BEAM_ERR_INVALID, 0},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct http_field f[2] = {{SPAN("content-LENGTH"), span_of(table[i].values[0])},
                              {SPAN("Content-Length"), span_of(table[i].values[1])}};
    struct http_head h = {.fields = f,
                          .fields_n = (table[i].values[0] != NULL) + (table[i].values[1] != NULL)};
    uint64_t n = 0;
    assert_int_equal(http_length(&h, &n), table[i].want);
    if (!table[i].want)
      assert_int_equal(n, table[i].n);
  }
}

static void finished(void *user, const struct http_record *rec) {
  *(struct http_record *)user = *rec;
}

static void tracked(void **state) {
  (void)state;
  struct http_record rec = {0};
  struct http_handler handler = {.finished = finished, .user = &rec}, silent = {0};
  struct http_head h = {.method = SPAN("GET")}, copy;
  struct http_track t;
  assert_int_equal(http_head_copy(&copy, &h), 0);
  http_track_begin(&t, &copy, 100);
  assert_null(copy.block);
  http_track_status(&t, 404, 130);
  t.body_out = 5;
  http_track_end(&t, &handler, 150);
  assert_int_equal(rec.status, 404);
  assert_int_equal(rec.ttfb_ms, 30);
  assert_int_equal(rec.total_ms, 50);
  assert_int_equal(rec.body_out, 5);
  assert_int_equal(rec.method.n, 3);
  rec.status = 0;
  http_track_end(&t, &handler, 160); /* once */
  assert_int_equal(rec.status, 0);
  http_track_begin(&t, NULL, 100);
  http_track_end(&t, &silent, 150);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(calls),
      cmocka_unit_test(lengths),
      cmocka_unit_test(tracked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
