#include "rig.h"

#define HOST "Host: t.test\r\n"
#define GET "GET / HTTP/1.1\r\n" HOST "\r\n"
#define POST "POST / HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi"
#define OK "HTTP/1.1 200 OK\r\n"
#define OK1 OK "Content-Length: 1\r\n\r\na"

static void assert_page(struct rig *r, const char *code) {
  char want[64];
  str_fmt(want, sizeof want, "\r\nBeam-Error: %s\r\n", code);
  assert_non_null(strstr(peer_text(&r->visitor), want));
  assert_int_equal(r->last.failed, strtol(code + 5, NULL, 10));
  evbuffer_drain(r->visitor.got, peer_length(&r->visitor));
}

/* --- no connection --- */

static void dial_fails(void **state) {
  (void)state;
  static const struct {
    int err;
    const char *code;
  } table[] = {
      {BEAM_ERR_REFUSED, "BEAM-5021"},
      {BEAM_ERR_UNREACHABLE, "BEAM-5021"},
      {BEAM_ERR_TIMEOUT, "BEAM-5041"},
      {BEAM_ERR_SYSTEM, "BEAM-5032"},
  };
  for (enum rig_way way = DIRECT; way <= FRAMES; way++)
    for (size_t i = 0; i < ROWS(table); i++) {
      struct rig *r = rig_new(way);
      r->dial_err = table[i].err;
      peer_say(&r->visitor, GET);
      rig_run(r);
      assert_page(r, table[i].code);
      assert_non_null(r->front);
      r->dial_err = 0; /* the app was started: the same connection goes on */
      peer_say(&r->visitor, GET);
      rig_run(r);
      peer_say(&r->service[0], OK1);
      rig_run(r);
      assert_string_equal(peer_text(&r->visitor), OK1);
      rig_free(r);
    }
}

static void dial_hangs(void **state) {
  (void)state;
  struct rig *r = rig_new(FRAMES);
  r->dial_err = BEAM_AGAIN;
  peer_say(&r->visitor, POST);
  rig_wait(r, LIMIT_UPSTREAM_DIAL_MS - 1);
  assert_int_equal(r->records, 0);
  rig_wait(r, 1);
  assert_page(r, "BEAM-5041");
  rig_free(r);
  for (int pool = 0; pool < 2; pool++) { /* given up while it dials */
    r = rig_new(FRAMES);
    r->dial_err = BEAM_AGAIN;
    peer_say(&r->visitor, GET);
    rig_run(r);
    if (!pool)
      peer_reset(&r->visitor);
    rig_run(r);
    assert_int_equal(r->front == NULL, !pool);
    rig_free(r);
  }
}

/* --- a service that fails --- */

static void bad_answers(void **state) {
  (void)state;
  static const struct {
    const char *answer, *code;
    bool ends;
  } table[] = {
      {"", "BEAM-5022", true},
      {"HTTP/1.1 200 OK\r\nContent-", "BEAM-5022", true},
      {"HTTP/1.1 103 Early Hints\r\n\r\n", "BEAM-5022", true},
      {"SSH-2.0-OpenSSH_9.2\r\n\r\n", "BEAM-5023", false},
      {"HTTP/2.0 200 OK\r\n\r\n", "BEAM-5023", false},
      {"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "BEAM-5023", false},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "BEAM-5023", false},
      {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "BEAM-5023", false},
      {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "BEAM-5023", false},
  };
  for (enum rig_way way = DIRECT; way <= FRAMES; way++)
    for (size_t i = 0; i < ROWS(table); i++) {
      struct rig *r = rig_new(way);
      peer_say(&r->visitor, GET);
      rig_run(r);
      peer_say(&r->service[0], table[i].answer);
      if (table[i].ends)
        peer_finish(&r->service[0]);
      rig_run(r);
      assert_page(r, table[i].code);
      assert_true(r->service[0].dead);
      assert_non_null(r->front);
      rig_free(r);
    }
}

static void large_head(void **state) {
  (void)state;
  char *much = malloc(LIMIT_HEAD_BYTES + 1);
  memset(much, 'x', LIMIT_HEAD_BYTES);
  much[LIMIT_HEAD_BYTES] = 0;
  struct rig *r = rig_new(FRAMES);
  peer_say(&r->visitor, GET);
  rig_run(r);
  peer_say(&r->service[0], OK "X: ");
  peer_say(&r->service[0], much);
  rig_run(r);
  assert_page(r, "BEAM-5023");
  rig_free(r);
  free(much);
}

static void endless_infos(void **state) {
  (void)state;
  struct rig *r = rig_new(FRAMES);
  peer_say(&r->visitor, GET);
  rig_run(r);
  for (unsigned i = 0; i <= LIMIT_UPSTREAM_INFOS; i++)
    peer_say(&r->service[0], "HTTP/1.1 102 Processing\r\n\r\n");
  rig_run(r);
  assert_page(r, "BEAM-5023");
  rig_free(r);
}

static void silent_service(void **state) {
  (void)state;
  struct rig *r = rig_new(DIRECT);
  peer_say(&r->visitor, GET);
  rig_wait(r, LIMIT_UPSTREAM_HEAD_MS - 1);
  assert_int_equal(r->records, 0);
  rig_wait(r, 1);
  assert_page(r, "BEAM-5041");
  assert_true(r->service[0].dead);
  rig_free(r);

  r = rig_new(DIRECT); /* a slow upload is no silence; a slow body neither */
  peer_say(&r->visitor,
           "POST / HTTP/1.1\r\n" HOST "Content-Type: application/grpc\r\nContent-Length: 10\r\n\r\n");
  for (unsigned i = 0; i < 10; i++) {
    rig_wait(r, LIMIT_UPSTREAM_HEAD_MS - 1);
    peer_say(&r->visitor, "x");
  }
  rig_wait(r, LIMIT_UPSTREAM_HEAD_MS - 1);
  assert_int_equal(r->records, 0);
  peer_say(&r->service[0], OK "Content-Length: 1\r\n\r\n");
  rig_wait(r, 10 * LIMIT_UPSTREAM_HEAD_MS);
  peer_say(&r->service[0], "a");
  rig_run(r);
  assert_int_equal(r->last.status, 200);
  assert_int_equal(r->last.failed, 0);
  rig_free(r);
}

/* It answers an upload it does not want, and resets: the answer counts. */
static void answer_before_reset(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct rig *r = rig_new(way);
    peer_say(&r->visitor, "POST / HTTP/1.1\r\n" HOST "Content-Length: 100\r\n\r\nabc");
    rig_run(r);
    peer_say(&r->service[0], "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
    peer_reset(&r->service[0]);
    rig_run(r);
    assert_string_equal(peer_text(&r->visitor),
                        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
    assert_true(r->visitor.ended);
    rig_free(r);
  }
}

/* The same, with a visitor so slow that the body still waits on our side when the reset comes. */
static void reset_behind_a_slow_visitor(void **state) {
  (void)state;
  static char block[LIMIT_MEM_PIPE];
  struct rig *r = rig_new(DIRECT);
  peer_say(&r->visitor, GET);
  rig_run(r);
  r->visitor.slow = true;
  peer_say(&r->service[0], OK "Content-Length: 400000\r\n\r\n");
  size_t sent = 0;
  for (unsigned i = 0; i < 8; i++) {
    rig_run(r);
    sent += stream_write(r->service[0].s, block, 400000 - sent < sizeof block ? 400000 - sent : sizeof block);
  }
  assert_int_equal(sent, 400000);
  peer_reset(&r->service[0]);
  rig_run(r);
  assert_non_null(r->front);
  r->visitor.slow = false;
  peer_read(&r->visitor);
  rig_run(r);
  assert_int_equal(r->records, 1);
  assert_int_equal(r->last.failed, 0);
  assert_int_equal(r->last.body_out, 400000);
  rig_free(r);
}

/* --- the pool --- */

static void say_and_answer(struct rig *r, const char *request, unsigned service, const char *answer) {
  peer_say(&r->visitor, request);
  rig_run(r);
  peer_say(&r->service[service], answer);
  rig_run(r);
}

static void reused(void **state) {
  (void)state;
  struct rig *r = rig_new(DIRECT);
  for (unsigned i = 0; i < 5; i++) {
    say_and_answer(r, i % 2 ? POST : GET, 0, OK1);
    rig_wait(r, LIMIT_UPSTREAM_IDLE_MS - 1);
  }
  assert_int_equal(r->dials, 1);
  rig_wait(r, 1 + LIMIT_UPSTREAM_IDLE_MS / 4);
  assert_true(r->service[0].ended);
  say_and_answer(r, GET, 1, OK1);
  assert_int_equal(r->dials, 2);
  assert_int_equal(r->records, 6);
  rig_free(r);
}

static void announced_time(void **state) {
  (void)state;
  static const struct {
    const char *answer;
    unsigned wait;
    unsigned dials;
  } table[] = {
      {OK "Keep-Alive: timeout=2, max=9\r\nContent-Length: 0\r\n\r\n", 999, 1},
      {OK "Keep-Alive: timeout=2, max=9\r\nContent-Length: 0\r\n\r\n", 1000, 2},
      {OK "Keep-Alive: max=9, timeout=1\r\nContent-Length: 0\r\n\r\n", 500, 2},
      {OK "Keep-Alive: timeout=0\r\nContent-Length: 0\r\n\r\n", 0, 2},
      {OK "Keep-Alive: timeout=x\r\nContent-Length: 0\r\n\r\n", 0, 2},
      {OK "Keep-Alive: timeout=3600\r\nContent-Length: 0\r\n\r\n", LIMIT_UPSTREAM_IDLE_MS, 2},
      {OK "Connection: close\r\nContent-Length: 0\r\n\r\n", 0, 2},
      {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 0, 2},
      {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", 0, 1},
      {OK "Content-Length: 0\r\n\r\nleft over", 0, 2},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct rig *r = rig_new(DIRECT);
    say_and_answer(r, GET, 0, table[i].answer);
    rig_wait(r, table[i].wait);
    peer_say(&r->visitor, GET);
    rig_run(r);
    assert_int_equal(r->dials, table[i].dials);
    rig_free(r);
  }
}

/* An idle connection that the service closed is not used; one it closes just then is made good where that is safe. */
static void stale(void **state) {
  (void)state;
  static const struct {
    const char *request;
    bool again;
  } table[] = {
      {GET, true},
      {"DELETE / HTTP/1.1\r\n" HOST "\r\n", true},
      {"HEAD / HTTP/1.1\r\n" HOST "\r\n", true},
      {"PATCH / HTTP/1.1\r\n" HOST "\r\n", false},
      {POST, false},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", false},
      {"PUT / HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi", false},
  };
  for (size_t i = 0; i < ROWS(table); i++)
    for (int resets = 0; resets < 2; resets++) {
      struct rig *r = rig_new(DIRECT);
      say_and_answer(r, GET, 0, OK1);
      peer_since(&r->service[0]);
      peer_since(&r->visitor);
      peer_say(&r->visitor, table[i].request);
      rig_run(r);
      assert_string_equal(peer_since(&r->service[0]), table[i].request);
      if (resets)
        peer_reset(&r->service[0]);
      else
        peer_finish(&r->service[0]);
      rig_run(r);
      if (table[i].again) {
        assert_int_equal(r->dials, 2);
        assert_string_equal(peer_text(&r->service[1]), table[i].request);
        peer_finish(&r->service[1]); /* but only once */
        rig_run(r);
      }
      assert_int_equal(r->dials, 1 + table[i].again);
      assert_page(r, "BEAM-5022");
      rig_free(r);
    }
  struct rig *r = rig_new(DIRECT);
  say_and_answer(r, GET, 0, OK1);
  peer_finish(&r->service[0]);
  rig_run(r);
  say_and_answer(r, POST, 1, OK1);
  assert_int_equal(r->dials, 2);
  assert_int_equal(r->last.status, 200);
  rig_free(r);
}

/* Not after anything came: then the service has begun to act. */
static void not_again_after_a_byte(void **state) {
  (void)state;
  static const char *const answers[] = {"H", "HTTP/1.1 103 Early Hints\r\n\r\n"};
  for (size_t i = 0; i < ROWS(answers); i++) {
    struct rig *r = rig_new(DIRECT);
    say_and_answer(r, GET, 0, OK1);
    say_and_answer(r, GET, 0, answers[i]);
    peer_finish(&r->service[0]);
    rig_run(r);
    assert_int_equal(r->dials, 1);
    assert_page(r, "BEAM-5022");
    rig_free(r);
  }
}

/* --- bodies against their length --- */

struct scripted {
  struct http_end end;
  enum page aborted;
};
static void no_head(struct http_end *e, const struct http_head *h, bool more) {
  (void)e, (void)h, (void)more;
}
static size_t no_room(struct http_end *e) {
  (void)e;
  return 0;
}
static size_t no_body(struct http_end *e, struct evbuffer *b, size_t n) {
  (void)e, (void)b, (void)n;
  return 0;
}
static void no_fields(struct http_end *e, const struct http_head *h) {
  (void)e, (void)h;
}
static void nothing(struct http_end *e) {
  (void)e;
}
static void aborted(struct http_end *e, enum page page) {
  ((struct scripted *)e)->aborted = page;
}
static const struct http_end_ops scripted_ops = {"scripted", no_head, no_fields, no_room, no_body,
                                                 no_fields,  nothing, nothing,   aborted, nothing};

/* Fronts that break the rules (a hostile relay): the service must not see a body that ends where it should not. */
static void hostile_front(void **state) {
  (void)state;
  static const struct {
    const char *length;
    bool more;
    const char *body;
    bool end;
    enum page page;
  } table[] = {
      {"5", true, "abc", true, PAGE_BAD_BODY}, {"5", true, "abcdef", false, PAGE_BAD_BODY},
      {"x", true, "", false, PAGE_BAD_BODY},   {"-1", true, "", false, PAGE_BAD_BODY},
      {"5", false, "", false, PAGE_BAD_BODY},  {"5", true, "abcde", true, 0},
      {NULL, true, "abcde", true, 0},          {"0", false, "", false, 0},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct rig *r = rig_new(DIRECT);
    struct scripted front = {{&scripted_ops, NULL}, 0};
    struct http_end *up;
    struct http_field field = {SPAN("Content-Length"), span_of(table[i].length)};
    struct http_head h = {.minor = 1,
                          .method = SPAN("POST"),
                          .authority = SPAN("t.test"),
                          .target = SPAN("/"),
                          .fields = &field,
                          .fields_n = table[i].length != NULL};
    struct evbuffer *body = evbuffer_new();
    assert_int_equal(h1_pool_request(r->pool, &up), 0);
    http_join(&front.end, up);
    http_send_head(&front.end, &h, table[i].more);
    rig_run(r);
    evbuffer_add(body, table[i].body, strlen(table[i].body));
    http_send_body(&front.end, body, evbuffer_get_length(body));
    if (table[i].end)
      http_send_end(&front.end);
    rig_run(r);
    assert_int_equal(front.aborted, table[i].page);
    if (table[i].page)
      assert_true(!r->dials || r->service[0].dead);
    http_send_abort(&front.end, PAGE_VISITOR_GONE);
    evbuffer_free(body);
    rig_free(r);
  }
}

/* --- bursts --- */

enum { BURST = LIMIT_UPSTREAM_BURST };

/* As many as go at once, on their way to a service that does not accept; one more behind them, which would be accepted. */
static struct rig *burst(struct scripted front[BURST + 1]) {
  struct rig *r = rig_new(DIRECT);
  struct http_head h = {.minor = 1, .method = SPAN("GET"), .authority = SPAN("t.test"), .target = SPAN("/")};
  r->dial_err = BEAM_AGAIN;
  for (unsigned i = 0; i <= BURST; i++) {
    struct http_end *up;
    front[i] = (struct scripted){{&scripted_ops, NULL}, 0};
    assert_int_equal(h1_pool_request(r->pool, &up), 0);
    http_join(&front[i].end, up);
    if (i == BURST)
      r->dial_err = 0;
    http_send_head(&front[i].end, &h, false);
  }
  rig_run(r);
  assert_int_equal(r->dials, 0);
  return r;
}

static void burst_end(struct rig *r, struct scripted front[BURST + 1]) {
  for (unsigned i = 0; i <= BURST; i++)
    if (front[i].end.peer)
      http_send_abort(&front[i].end, PAGE_VISITOR_GONE);
  rig_free(r);
}

static void waits_its_turn(void **state) {
  (void)state;
  static struct scripted front[BURST + 1];
  struct rig *r = burst(front);
  http_send_abort(&front[3].end, PAGE_VISITOR_GONE); /* one is done */
  rig_run(r);
  assert_int_equal(r->dials, 1);
  burst_end(r, front);
  r = burst(front);
  rig_wait(r, LIMIT_UPSTREAM_BURST_MS - 1);
  assert_int_equal(r->dials, 0);
  rig_wait(r, 1); /* they are slow */
  assert_int_equal(r->dials, 1);
  burst_end(r, front);
  r = burst(front);
  http_send_abort(&front[BURST].end, PAGE_VISITOR_GONE); /* tired of waiting */
  rig_wait(r, 2 * LIMIT_UPSTREAM_BURST_MS);
  assert_int_equal(r->dials, 0);
  burst_end(r, front);
  r = burst(front); /* the pool goes while it waits */
  h1_pool_free(r->pool);
  r->pool = NULL;
  for (unsigned i = 0; i <= BURST; i++)
    assert_int_equal(front[i].aborted, PAGE_INTERNAL);
  rig_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(dial_fails),
      cmocka_unit_test(dial_hangs),
      cmocka_unit_test(bad_answers),
      cmocka_unit_test(large_head),
      cmocka_unit_test(endless_infos),
      cmocka_unit_test(silent_service),
      cmocka_unit_test(answer_before_reset),
      cmocka_unit_test(reset_behind_a_slow_visitor),
      cmocka_unit_test(reused),
      cmocka_unit_test(announced_time),
      cmocka_unit_test(stale),
      cmocka_unit_test(not_again_after_a_byte),
      cmocka_unit_test(hostile_front),
      cmocka_unit_test(waits_its_turn),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
