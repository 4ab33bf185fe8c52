/* Frames by hand, against both ends: hostile agents, hostile relays, small windows, lost links. */
#include "rig.h"

#include "wire/frame.h"

#define HOST "Host: t.test\r\n"
#define GET "GET / HTTP/1.1\r\n" HOST "\r\n"
#define POST "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"

/* --- writing frames --- */

static const struct http_head ok = {.status = 200, .minor = 1, .reason = {"OK", 2}};
static const struct http_head hints = {.status = 103, .minor = 1};
static const struct http_head switching = {.status = 101, .minor = 1};
static const struct http_head request = {
    .minor = 1, .method = {"GET", 3}, .scheme = {"https", 5}, .authority = {"t.test", 6}, .target = {"/", 1}};
static const struct http_head none = {.minor = 1};

static void add_head(struct evbuffer *b, enum frame_type type, const struct http_head *h) {
  assert_int_equal(frame_head_write(b, type, h), 0);
}

static void add(struct evbuffer *b, enum frame_type type, const char *payload) {
  uint8_t p[FRAME_HEADER];
  frame_encode(p, type, strlen(payload));
  evbuffer_add(b, p, sizeof p);
  evbuffer_add(b, payload, strlen(payload));
}

/* One letter a frame: H head, h request head, I info, D data "abc", d empty data, T trailers, E end, S stop, X error 5022, U head 101, i info with status 200,
 * t trailers with a status, ? unknown type, B head that is no head. */
static void add_script(struct evbuffer *b, const char *script) {
  static const struct http_field length = {{"Content-Length", 14}, {"3", 1}};
  struct http_head with_length = ok;
  with_length.fields = (struct http_field *)&length;
  with_length.fields_n = 1;
  for (; *script; script++)
    switch (*script) {
    case 'H':
      add_head(b, FRAME_HEAD, &ok);
      break;
    case 'L':
      add_head(b, FRAME_HEAD, &with_length);
      break;
    case 'h':
      add_head(b, FRAME_HEAD, &request);
      break;
    case 'U':
      add_head(b, FRAME_HEAD, &switching);
      break;
    case 'I':
      add_head(b, FRAME_INFO, &hints);
      break;
    case 'i':
      add_head(b, FRAME_INFO, &ok);
      break;
    case 'D':
      add(b, FRAME_DATA, "abc");
      break;
    case 'd':
      add(b, FRAME_DATA, "");
      break;
    case 'T':
      add_head(b, FRAME_TRAILERS, &none);
      break;
    case 'E':
      add(b, FRAME_END, "");
      break;
    case 'S':
      add(b, FRAME_STOP, "");
      break;
    case 'X':
      add(b, FRAME_ERROR, "\x13\x9e");
      break;
    case 'B':
      add(b, FRAME_HEAD, "\x01?");
      break;
    default:
      evbuffer_add(b, "\xff\0\0\0", 4);
    }
}

static void say_script(struct peer *p, const char *script) {
  struct evbuffer *b = evbuffer_new();
  add_script(b, script);
  size_t n = evbuffer_get_length(b);
  assert_int_equal(stream_move(p->s, b, n), n);
  evbuffer_free(b);
}

/* The letters of what a peer got. */
static const char *read_script(struct peer *p) {
  static char letters[64];
  size_t n = 0;
  uint8_t head[FRAME_HEADER];
  while (n < sizeof letters - 1 && evbuffer_copyout(p->got, head, sizeof head) == sizeof head) {
    struct frame f;
    assert_int_equal(frame_decode(head, sizeof head, &f), FRAME_HEADER);
    letters[n] = "?HIDTESX"[f.type];
    if (f.type == FRAME_DATA && !f.length)
      letters[n] = 'd';
    n++;
    evbuffer_drain(p->got, FRAME_HEADER + f.length);
  }
  letters[n] = 0;
  return letters;
}

/* --- what the agent may say, and what the visitor then gets --- */

static void agents(void **state) {
  (void)state;
  static const struct {
    const char *script, *visitor;
    int page;
    enum { STAYS, CLOSES, RESETS } then;
  } table[] = {
      {"HE", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, STAYS},
      {"HdDE", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 0, STAYS},
      {"HDE", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 0, STAYS},
      {"LDE", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 0, STAYS},
      {"IHE", "HTTP/1.1 103 \r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, STAYS},
      {"HDTE", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 0, STAYS},
      {"SHE", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, STAYS},
      {"HESS", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, STAYS},
      /* errors are pages before the head, truncations after it */
      {"X", NULL, 5022, STAYS},
      {"IX", NULL, 5022, STAYS},
      {"HDX", NULL, PAGE_TRUNCATED, RESETS},
      /* against a length */
      {"LDDE", NULL, PAGE_TRUNCATED, RESETS},
      {"LdE", NULL, PAGE_TRUNCATED, RESETS},
      {"LE", NULL, PAGE_LOCAL_BAD, STAYS},
      /* against the protocol */
      {"?", NULL, PAGE_INTERNAL, STAYS},
      {"B", NULL, PAGE_INTERNAL, STAYS},
      {"h", NULL, PAGE_LINK_LOST, STAYS},
      {"hE", NULL, PAGE_INTERNAL, STAYS},
      {"D", NULL, PAGE_INTERNAL, STAYS},
      {"d", NULL, PAGE_INTERNAL, STAYS},
      {"E", NULL, PAGE_INTERNAL, STAYS},
      {"T", NULL, PAGE_INTERNAL, STAYS},
      {"i", NULL, PAGE_INTERNAL, STAYS},
      {"HI", NULL, PAGE_INTERNAL, STAYS},
      {"HH", NULL, PAGE_INTERNAL, STAYS},
      {"HT", NULL, PAGE_INTERNAL, STAYS},
      {"U", NULL, PAGE_LINK_LOST, STAYS}, /* waits for the frame behind it, and the link ends */
      {"Ud", NULL, PAGE_LOCAL_BAD, STAYS},
      {"HDd", NULL, PAGE_TRUNCATED, RESETS},
      {"HDH", NULL, PAGE_TRUNCATED, RESETS},
      {"HDI", NULL, PAGE_TRUNCATED, RESETS},
      {"HDh", NULL, PAGE_TRUNCATED, RESETS},
      /* the link is lost */
      {"", NULL, PAGE_LINK_LOST, STAYS},
      {"I", NULL, PAGE_LINK_LOST, STAYS},
      {"H", NULL, PAGE_LINK_LOST, STAYS},
      {"Hd", NULL, PAGE_TRUNCATED, RESETS},
      {"HDT", NULL, PAGE_TRUNCATED, RESETS},
  };
  for (size_t i = 0; i < ROWS(table); i++)
    for (int reset = 0; reset < 2; reset++) {
      struct peer agent;
      struct rig *r = rig_new(FRAMES);
      r->link_tap = &agent;
      peer_say(&r->visitor, GET);
      rig_run(r);
      assert_string_equal(read_script(&agent), "HE");
      assert_true(agent.ended);
      say_script(&agent, table[i].script);
      rig_run(r);
      if (reset)
        peer_reset(&agent);
      else
        peer_finish(&agent);
      rig_run(r);
      assert_int_equal(r->records, 1);
      assert_int_equal(r->last.failed, table[i].page);
      if (table[i].visitor)
        assert_string_equal(peer_text(&r->visitor), table[i].visitor);
      assert_int_equal(r->front != NULL, table[i].then == STAYS);
      assert_int_equal(r->visitor.dead, table[i].then == RESETS);
      peer_free(&agent);
      rig_free(r);
    }
}

static void stop_ends_the_upload(void **state) {
  (void)state;
  struct peer agent;
  struct rig *r = rig_new(FRAMES);
  r->link_tap = &agent;
  peer_say(&r->visitor, "POST / HTTP/1.1\r\n" HOST "Content-Length: 100\r\n\r\nhello");
  rig_run(r);
  assert_string_equal(read_script(&agent), "HdD");
  say_script(&agent, "S");
  rig_run(r);
  assert_string_equal(read_script(&agent), "E");
  assert_true(agent.ended);
  say_script(&agent, "LDE");
  rig_run(r);
  assert_string_equal(peer_text(&r->visitor),
                      "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
  assert_null(r->front);
  peer_free(&agent);
  rig_free(r);
}

/* An answer without STOP while the upload goes on: it goes on to its end. */
static void upload_outlives_the_answer(void **state) {
  (void)state;
  struct peer agent;
  struct rig *r = rig_new(FRAMES);
  r->link_tap = &agent;
  peer_say(&r->visitor, "POST / HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nhello");
  rig_run(r);
  say_script(&agent, "LDE");
  rig_run(r);
  assert_int_equal(r->records, 0);
  peer_say(&r->visitor, "world");
  rig_run(r);
  assert_string_equal(read_script(&agent), "HdDDE");
  assert_int_equal(r->records, 1);
  assert_int_equal(r->last.body_in, 10);
  assert_non_null(r->front);
  peer_free(&agent);
  rig_free(r);
}

/* What an agent says went wrong is shown only where an agent can know it. */
static void told_pages(void **state) {
  (void)state;
  static const struct {
    unsigned code, shown;
  } table[] = {{PAGE_LOCAL_REFUSED, PAGE_LOCAL_REFUSED},
               {PAGE_LOCAL_TIMEOUT, PAGE_LOCAL_TIMEOUT},
               {PAGE_BAD_BODY, PAGE_BAD_BODY},
               {PAGE_NO_TUNNEL, PAGE_INTERNAL},
               {PAGE_VISITOR_GONE, PAGE_INTERNAL},
               {0, PAGE_INTERNAL},
               {9999, PAGE_INTERNAL}};
  for (size_t i = 0; i < ROWS(table); i++) {
    struct peer agent;
    struct rig *r = rig_new(FRAMES);
    r->link_tap = &agent;
    peer_say(&r->visitor, GET);
    rig_run(r);
    uint8_t frame[FRAME_HEADER + 2] = {FRAME_ERROR,           0, 0, 2, (uint8_t)(table[i].code >> 8),
                                       (uint8_t)table[i].code};
    peer_put(&agent, frame, sizeof frame);
    rig_run(r);
    assert_int_equal(r->last.failed, table[i].shown);
    peer_free(&agent);
    rig_free(r);
  }
}

static void info_flood(void **state) {
  (void)state;
  struct peer agent;
  struct rig *r = rig_new(FRAMES);
  r->link_tap = &agent;
  peer_say(&r->visitor, GET);
  rig_run(r);
  for (unsigned i = 0; i <= LIMIT_UPSTREAM_INFOS; i++)
    say_script(&agent, "I");
  rig_run(r);
  assert_int_equal(r->last.failed, PAGE_INTERNAL);
  peer_free(&agent);
  rig_free(r);
}

/* --- what the relay may say, and what the service then sees --- */

static void relays(void **state) {
  (void)state;
  static const struct {
    const char *script;
    unsigned requests; /* given to the handler */
    bool dead;         /* the agent aborts at once */
  } table[] = {
      {"hE", 1, false}, {"hdE", 1, false}, {"hDE", 1, false}, {"hDTE", 1, false}, {"h", 0, false},
      {"", 0, false},   {"?", 0, true},    {"B", 0, true},    {"D", 0, true},     {"d", 0, true},
      {"E", 0, true},   {"I", 0, true},    {"H", 0, false},   {"hI", 0, true},    {"hT", 0, true},
      {"hh", 0, true},  {"hDh", 1, true},  {"hDd", 1, true},  {"hDI", 1, true},   {"hS", 0, true},
      {"hDS", 1, true}, {"hDX", 1, true},  {"X", 0, true},    {"HE", 0, true},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct peer relay;
    struct stream *s;
    struct rig *r = rig_new(DIRECT);
    assert_int_equal(peer_pair(r->loop, &relay, &s), 0);
    assert_int_equal(frames_front(s, &r->agent), 0);
    say_script(&relay, table[i].script);
    rig_run(r);
    assert_int_equal(r->heads, table[i].requests);
    assert_int_equal(relay.dead, table[i].dead);
    assert_int_equal(r->gone, table[i].dead);
    if (!table[i].dead)
      peer_reset(&relay); /* the visitor left */
    rig_run(r);
    assert_int_equal(r->gone, 1);
    for (unsigned k = 0; k < r->dials; k++)
      assert_true(r->service[k].dead);
    peer_free(&relay);
    rig_free(r);
  }
}

/* A request that the relay cuts with FIN instead of END must not look whole to the service. */
static void cut_by_the_relay(void **state) {
  (void)state;
  struct peer relay;
  struct stream *s;
  struct rig *r = rig_new(DIRECT);
  assert_int_equal(peer_pair(r->loop, &relay, &s), 0);
  assert_int_equal(frames_front(s, &r->agent), 0);
  say_script(&relay, "hD");
  peer_finish(&relay);
  rig_run(r);
  assert_int_equal(r->gone, 1);
  assert_true(!r->dials || r->service[0].dead);
  peer_free(&relay);
  rig_free(r);
}

static void answer_of_the_agent(void **state) {
  (void)state;
  static const struct {
    const char *answer, *script;
    bool ends;
  } table[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HE", false},
      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", "HdDE", false},
      {"HTTP/1.1 204 No Content\r\n\r\n", "HE", false},
      {"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "IHE", false},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: 1\r\n\r\n", "HdDTE", false},
      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", "HdDX", true},
      {"", "X", true},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct peer relay;
    struct stream *s;
    struct rig *r = rig_new(DIRECT);
    assert_int_equal(peer_pair(r->loop, &relay, &s), 0);
    assert_int_equal(frames_front(s, &r->agent), 0);
    say_script(&relay, "hE");
    peer_finish(&relay);
    rig_run(r);
    assert_string_equal(peer_text(&r->service[0]), GET);
    peer_say(&r->service[0], table[i].answer);
    if (table[i].ends)
      peer_finish(&r->service[0]);
    rig_run(r);
    assert_string_equal(read_script(&relay), table[i].script);
    assert_true(relay.ended);
    assert_int_equal(r->gone, 1);
    peer_free(&relay);
    rig_free(r);
  }
}

/* After STOP whatever is still under way is dropped, not an error. */
static void late_upload_is_dropped(void **state) {
  (void)state;
  struct peer relay;
  struct stream *s;
  struct rig *r = rig_new(DIRECT);
  assert_int_equal(peer_pair(r->loop, &relay, &s), 0);
  assert_int_equal(frames_front(s, &r->agent), 0);
  say_script(&relay, "hD");
  rig_run(r);
  peer_say(&r->service[0], "HTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\n\r\n");
  rig_run(r);
  assert_string_equal(read_script(&relay), "Hd");
  say_script(&relay, "D");
  rig_run(r);
  peer_say(&r->service[0], "x");
  rig_run(r);
  assert_string_equal(read_script(&relay), "DSE");
  assert_true(relay.ended);
  say_script(&relay, "DDDDDDE");
  rig_run(r);
  assert_false(relay.dead);
  peer_free(&relay);
  rig_free(r);
}

/* --- every byte on its own --- */

static void byte_by_byte(void **state) {
  (void)state;
  struct peer agent;
  struct rig *r = rig_new(FRAMES);
  struct evbuffer *b = evbuffer_new();
  r->link_tap = &agent;
  peer_say(&r->visitor, GET);
  rig_run(r);
  add_script(b, "SIHDDTE");
  for (char c; evbuffer_remove(b, &c, 1) == 1;) {
    peer_put(&agent, &c, 1);
    rig_run(r);
  }
  assert_string_equal(peer_text(&r->visitor),
                      "HTTP/1.1 103 \r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                      "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n");
  assert_non_null(r->front);
  evbuffer_free(b);
  peer_free(&agent);
  rig_free(r);
}

/* A head larger than the stream's window: bytes are taken as they come. */
static void head_larger_than_the_window(void **state) {
  (void)state;
  enum { BIG = 60000 };
  static char big[BIG];
  struct http_field field = {SPAN("X"), {big, BIG}};
  struct http_head h = ok;
  struct peer agent;
  struct rig *r = rig_new(FRAMES);
  struct evbuffer *b = evbuffer_new();
  memset(big, 'x', sizeof big);
  h.fields = &field;
  h.fields_n = 1;
  r->link_tap = &agent;
  peer_say(&r->visitor, GET);
  rig_run(r);
  add_head(b, FRAME_HEAD, &h);
  add(b, FRAME_END, "");
  while (evbuffer_get_length(b)) {
    stream_move(agent.s, b, 1000);
    rig_run(r);
    assert_true(stream_room(agent.s) == LIMIT_MEM_PIPE); /* nothing stays in the stream */
  }
  assert_true(peer_length(&r->visitor) > BIG);
  assert_non_null(r->front);
  evbuffer_free(b);
  peer_free(&agent);
  rig_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(agents),
      cmocka_unit_test(stop_ends_the_upload),
      cmocka_unit_test(upload_outlives_the_answer),
      cmocka_unit_test(told_pages),
      cmocka_unit_test(info_flood),
      cmocka_unit_test(relays),
      cmocka_unit_test(cut_by_the_relay),
      cmocka_unit_test(answer_of_the_agent),
      cmocka_unit_test(late_upload_is_dropped),
      cmocka_unit_test(byte_by_byte),
      cmocka_unit_test(head_larger_than_the_window),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
