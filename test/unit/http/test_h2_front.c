#include "h2_client.h"

#include "io/budget.h"
#include "wire/ws.h"

#define GET ":method: GET\n:scheme: https\n:authority: t.test\n:path: /\n"
#define POST ":method: POST\n:scheme: https\n:authority: t.test\n:path: /\n"
#define OK "HTTP/1.1 200 OK\r\n"

static struct peer *service(struct h2_client *c, unsigned i) {
  return &c->r->service[i];
}

static void serve(struct h2_client *c, unsigned i, const char *text) {
  peer_say(service(c, i), text);
  h2_client_run(c);
}

static size_t get_block(uint8_t *block) {
  size_t n = h2_raw_field(block, ":method", "GET");
  n += h2_raw_field(block + n, ":scheme", "https");
  n += h2_raw_field(block + n, ":authority", "t.test");
  n += h2_raw_field(block + n, ":path", "/");
  return n;
}

/* --- requests and responses --- */

static void plain(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct h2_client *c = h2_client_new(way);
    struct h2_answer *a = h2_client_ask(c, GET "x-a: 1\ncookie: a=1\ncookie: b=2\nte: trailers\n", NULL);
    const char *got = peer_text(service(c, 0));
    assert_memory_equal(got, "GET / HTTP/1.1\r\nHost: t.test\r\n", 30);
    assert_non_null(strstr(got, "\r\nx-a: 1\r\n"));
    assert_non_null(strstr(got, "\r\ncookie: a=1; b=2\r\n"));
    assert_null(strstr(got, "te:"));
    serve(c, 0, OK "Content-Length: 5\r\nX-B: Two\r\nConnection: keep-alive, X-C\r\nX-C: 1\r\n\r\nhello");
    assert_int_equal(a->status, 200);
    assert_true(h2_client_has(a, "x-b: Two"));
    assert_true(h2_client_has(a, "content-length: 5"));
    assert_null(strstr(a->fields, "connection"));
    assert_null(strstr(a->fields, "x-c"));
    assert_string_equal(h2_client_body(a), "hello");
    assert_true(a->ended && a->closed);
    assert_int_equal(a->code, 0);
    assert_int_equal(c->r->records, 1);
    assert_int_equal(c->r->last.status, 200);
    assert_int_equal(c->r->last.body_out, 5);
    h2_client_free(c);
  }
}

static void side_by_side(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(FRAMES);
  struct h2_answer *a[3];
  for (int i = 0; i < 3; i++)
    a[i] = h2_client_get(c, i == 0 ? "/0" : i == 1 ? "/1" : "/2");
  assert_int_equal(c->r->dials, 3);
  serve(c, 2, OK "Content-Length: 1\r\n\r\nc");
  assert_string_equal(h2_client_body(a[2]), "c");
  assert_false(a[0]->ended || a[1]->ended);
  serve(c, 0, OK "Content-Length: 1\r\n\r\na");
  serve(c, 1, OK "Content-Length: 1\r\n\r\nb");
  assert_string_equal(h2_client_body(a[0]), "a");
  assert_string_equal(h2_client_body(a[1]), "b");
  assert_int_equal(c->r->records, 3);
  h2_client_free(c);
}

static void bodies_and_trailers(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct h2_client *c = h2_client_new(way);
    struct h2_answer *a = h2_client_ask(c, POST "trailer: x-sum\n", "");
    h2_client_data(c, a, "one", false);
    assert_non_null(strstr(peer_text(service(c, 0)), "\r\n3\r\none\r\n"));
    h2_client_data(c, a, "two", false);
    h2_client_trailers(c, a, "x-sum: 7\n");
    assert_non_null(strstr(peer_text(service(c, 0)), "\r\n3\r\ntwo\r\n0\r\nx-sum: 7\r\n\r\n"));
    serve(c, 0, OK "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
    assert_int_equal(evbuffer_get_length(a->body), 2); /* at once, not when it is whole */
    serve(c, 0, "0\r\nX-End: yes\r\n\r\n");
    assert_true(a->ended && a->closed);
    assert_true(h2_client_has(a, "x-end: yes"));
    assert_null(strstr(a->fields, "transfer-encoding"));
    assert_int_equal(c->r->last.body_in, 6);
    h2_client_free(c);
  }
}

static void no_body(void **state) {
  (void)state;
  static const struct {
    const char *ask, *answer;
    int status;
  } table[] = {
      {":method: HEAD\n:scheme: https\n:authority: t.test\n:path: /\n", OK "Content-Length: 5\r\n\r\n", 200},
      {GET, "HTTP/1.1 204 No Content\r\n\r\n", 204},
      {GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304},
      {GET, OK "Content-Length: 0\r\n\r\n", 200},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct h2_client *c = h2_client_new(FRAMES);
    struct h2_answer *a = h2_client_ask(c, table[i].ask, NULL);
    serve(c, 0, table[i].answer);
    assert_int_equal(a->status, table[i].status);
    assert_true(a->ended && a->closed && !a->code);
    assert_int_equal(evbuffer_get_length(a->body), 0);
    h2_client_free(c);
  }
}

static void early_hints(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(FRAMES);
  struct h2_answer *a = h2_client_get(c, "/");
  serve(c, 0, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
  assert_string_equal(a->fields, "103\nlink: </a.css>; rel=preload\n");
  serve(c, 0, OK "Content-Length: 0\r\n\r\n");
  assert_int_equal(a->status, 200);
  h2_client_free(c);
}

/* The service answers before it read everything: the visitor is told to send no more of it. */
static void early_answer(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(FRAMES);
  struct h2_answer *a = h2_client_ask(c, POST, "");
  h2_client_data(c, a, "much", false);
  serve(c, 0, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
  assert_int_equal(a->status, 413);
  assert_true(a->ended && a->closed);
  assert_int_equal(a->code, NGHTTP2_NO_ERROR);
  assert_int_equal(c->r->records, 1);
  h2_client_free(c);
}

static void truncated(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(FRAMES);
  struct h2_answer *a = h2_client_get(c, "/");
  serve(c, 0, OK "Content-Length: 5\r\n\r\nhel");
  peer_reset(service(c, 0));
  h2_client_run(c);
  assert_true(a->closed && !a->ended);
  assert_int_equal(a->code, NGHTTP2_INTERNAL_ERROR);
  assert_int_equal(c->r->last.failed, PAGE_TRUNCATED);
  struct h2_answer *b = h2_client_get(c, "/"); /* the connection goes on */
  serve(c, 1, OK "Content-Length: 1\r\n\r\nb");
  assert_string_equal(h2_client_body(b), "b");
  h2_client_free(c);
}

static void a_page(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(FRAMES);
  c->r->dial_err = BEAM_ERR_REFUSED;
  struct h2_answer *a = h2_client_ask(c, GET "accept: application/json\n", NULL);
  assert_int_equal(a->status, 502);
  assert_true(h2_client_has(a, "beam-error: BEAM-5021"));
  assert_non_null(strstr(h2_client_body(a), "BEAM-5021"));
  assert_true(a->ended && a->closed);
  h2_client_free(c);
}

/* --- WebSocket, RFC 8441 --- */

#define CONNECT ":method: CONNECT\n:protocol: websocket\n:scheme: https\n:authority: t.test\n:path: /ws\n"

static void key_of(struct h2_client *c, char accept[WS_ACCEPT_SIZE]) {
  char key[WS_KEY_SIZE] = "";
  const char *p = strstr(peer_text(service(c, 0)), "Sec-WebSocket-Key: ");
  assert_non_null(p);
  memcpy(key, p + 19, 24);
  ws_accept_make(accept, key);
}

static void websocket(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct h2_client *c = h2_client_new(way);
    char accept[WS_ACCEPT_SIZE], text[256];
    assert_int_equal(nghttp2_session_get_remote_settings(c->ng, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL), 1);
    struct h2_answer *a = h2_client_ask(c, CONNECT "sec-websocket-version: 13\n", "");
    const char *got = peer_text(service(c, 0));
    assert_memory_equal(got, "GET /ws HTTP/1.1\r\n", 18);
    assert_non_null(strstr(got, "Upgrade: websocket\r\n"));
    assert_non_null(strstr(got, "Connection: upgrade\r\n"));
    key_of(c, accept);
    snprintf(text, sizeof text,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: chat\r\n\r\nfrom",
             accept);
    serve(c, 0, text);
    assert_int_equal(a->status, 200);
    assert_true(h2_client_has(a, "sec-websocket-protocol: chat"));
    assert_null(strstr(a->fields, "accept"));
    assert_null(strstr(a->fields, "upgrade"));
    assert_int_equal(evbuffer_get_length(a->body), 4);
    peer_since(service(c, 0));
    h2_client_data(c, a, "to", false);
    assert_string_equal(peer_text(service(c, 0)), "to");
    h2_client_data(c, a, "last", true);
    assert_true(service(c, 0)->ended);
    serve(c, 0, "more");
    peer_finish(service(c, 0));
    h2_client_run(c);
    assert_true(a->ended && a->closed && !a->code);
    assert_string_equal(h2_client_body(a), "frommore");
    h2_client_free(c);
  }
}

static void websocket_refused(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(FRAMES);
  struct h2_answer *a = h2_client_ask(c, CONNECT, "");
  serve(c, 0, "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
  assert_int_equal(a->status, 403);
  assert_true(a->ended);
  struct h2_answer *b = h2_client_ask(c, CONNECT, ""); /* granted to somebody else's key */
  serve(c, 1,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
  assert_int_equal(b->status, 502);
  h2_client_free(c);
}

/* --- back-pressure --- */

static void a_stalled_upload(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(DIRECT);
  size_t used = budget_pool.cap - budget_left(&budget_pool);
  char *much = calloc(1, 4000001);
  memset(much, 'x', 4000000);
  struct h2_answer *a = h2_client_ask(c, POST, "");
  peer_read(service(c, 0));
  service(c, 0)->slow = true;
  h2_client_data(c, a, much, false);
  h2_client_wait(c, 100);
  /* The service's side took what it could; the rest stays with the visitor. */
  assert_true(h2_client_unsent(c, a) > 2000000);
  struct h2_answer *b = h2_client_ask(c, POST, "abc"); /* others go on */
  assert_non_null(strstr(peer_text(service(c, 1)), "abc"));
  serve(c, 1, OK "Content-Length: 1\r\n\r\nb");
  assert_true(b->ended);
  h2_client_reset(c, a);
  h2_client_run(c);
  assert_true(budget_pool.cap - budget_left(&budget_pool) <= used);
  h2_client_free(c);
  free(much);
}

static void a_visitor_that_does_not_read(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(DIRECT);
  char *much = malloc(600001);
  memset(much, 'x', 600000);
  much[600000] = 0;
  c->manual = true;
  struct h2_answer *a = h2_client_get(c, "/");
  peer_say(service(c, 0), OK "Content-Length: 600000\r\n\r\n");
  size_t sent = 0;
  for (int i = 0; i < 50; i++) {
    size_t room = stream_room(service(c, 0)->s), n = 600000 - sent < room ? 600000 - sent : room;
    peer_put(service(c, 0), much, n);
    sent += n;
    h2_client_run(c);
  }
  assert_true(sent < 600000); /* the service was held up */
  assert_int_equal(evbuffer_get_length(a->body), 65535);
  h2_client_wait(c, LIMIT_STALL_MS - 10000);
  assert_false(a->closed);
  h2_client_wait(c, 20000);
  assert_true(a->closed); /* not for ever */
  free(much);
  h2_client_free(c);
}

static void shed(void **state) {
  (void)state;
  static char much[200001];
  struct h2_client *c = h2_client_new(DIRECT);
  memset(much, 'x', sizeof much - 1);
  c->manual = true;
  struct h2_answer *a = h2_client_get(c, "/");
  h2_client_wait(c, 3000);
  assert_int_equal(front_stalled(c->r->front), 0);
  serve(c, 0, OK "Content-Length: 200000\r\n\r\n");
  serve(c, 0, much);
  struct h2_answer *b = h2_client_get(c, "/");
  h2_client_wait(c, 1500);
  assert_true(front_stalled(c->r->front) >= 1500 && front_stalled(c->r->front) < 2000);
  front_shed(c->r->front);
  assert_int_equal(front_stalled(c->r->front), 0);
  h2_client_run(c);
  assert_true(a->closed && !a->ended);
  assert_false(b->closed); /* the connection and its other requests go on */
  assert_non_null(c->r->front);
  h2_client_free(c);
}

static void a_slow_body(void **state) {
  (void)state;
  static const struct {
    const char *head, *step;
    bool begun, ends;
  } table[] = {
      {POST, "x", false, true},
      {POST "content-length: 9999\n", "x", false, true},
      {POST, "0123456789012345678901234567890123456789012345678901234567890123456789", false,
       false}, /* a fifth of a second */
      {POST "content-type: application/grpc\n", "x", false, false},
      {POST "expect: 100-continue\n", "x", false, false},
      {POST, "x", true, false},
      {CONNECT, "x", false, false},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct h2_client *c = h2_client_new(FRAMES);
    struct h2_answer *a = h2_client_ask(c, table[i].head, "");
    if (table[i].begun)
      serve(c, 0, OK "Content-Length: 5\r\n\r\n");
    for (int k = 0; k < 200; k++) {
      h2_client_data(c, a, table[i].step, false);
      h2_client_wait(c, 250);
    }
    if (table[i].ends != (a->status == 408) || table[i].ends != h2_client_has(a, "beam-error: BEAM-4082"))
      fail_msg("row %zu: status %d", i, a->status);
    assert_non_null(c->r->front);
    h2_client_free(c);
  }
}

/* --- ends --- */

static void reset_by_the_visitor(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(FRAMES);
  struct h2_answer *a = h2_client_get(c, "/");
  h2_client_reset(c, a);
  h2_client_wait(c, 1);
  assert_true(service(c, 0)->dead || service(c, 0)->ended);
  assert_int_equal(c->r->records, 1);
  assert_int_equal(c->r->last.failed, PAGE_VISITOR_GONE);
  assert_false(front_busy(c->r->front));
  h2_client_free(c);
}

static void the_visitor_goes(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(FRAMES);
  h2_client_get(c, "/1");
  h2_client_get(c, "/2");
  peer_reset(&c->r->visitor);
  rig_wait(c->r, 1);
  assert_null(c->r->front);
  assert_int_equal(c->r->records, 2);
  for (unsigned i = 0; i < 2; i++)
    assert_true(service(c, i)->dead || service(c, i)->ended);
  h2_client_free(c);
}

static void drained(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(FRAMES);
  struct h2_answer *a = h2_client_get(c, "/1");
  front_drain(c->r->front);
  struct h2_answer *b = h2_client_get(c, "/2"); /* is on its way: still answered */
  assert_true(c->goaway && !c->goaway_code);
  h2_client_wait(c, 1001);
  assert_int_equal(c->r->heads, 2);
  serve(c, 1, OK "Content-Length: 1\r\n\r\nb");
  assert_true(b->ended);
  assert_non_null(c->r->front);
  serve(c, 0, OK "Content-Length: 1\r\n\r\na");
  h2_client_wait(c, 1);
  assert_true(a->ended);
  assert_null(c->r->front);
  assert_true(c->r->visitor.ended);
  h2_client_free(c);
}

static void times(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(FRAMES); /* idle */
  h2_client_wait(c, LIMIT_KEEPALIVE_MS - 1);
  assert_non_null(c->r->front);
  h2_client_wait(c, 10000);
  assert_true(c->goaway);
  assert_null(c->r->front);
  h2_client_free(c);

  c = h2_client_new(FRAMES); /* waits for an answer, and lives */
  struct h2_answer *a = h2_client_get(c, "/");
  for (int i = 0; i < 10; i++)
    h2_client_wait(c, 5000);
  assert_non_null(c->r->front);
  assert_true(c->pings >= 1);
  assert_false(a->closed);
  c->r->visitor.slow = true; /* ... and now it does not */
  rig_wait(c->r, LIMIT_H2_PING_MS + LIMIT_H2_PONG_MS + 10001);
  assert_null(c->r->front);
  h2_client_free(c);

  struct rig *r = rig_new_with(DIRECT, h2_front_new); /* says nothing */
  rig_wait(r, LIMIT_HEAD_MS + 5001);
  assert_null(r->front);
  rig_free(r);
}

/* --- what is no HTTP/2 --- */

static struct h2_client *by_hand(void) {
  struct h2_client *c = calloc(1, sizeof *c);
  c->r = rig_new_with(DIRECT, h2_front_new);
  peer_say(&c->r->visitor, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  h2_raw(c, 4, 0, 0, NULL, 0);
  return c;
}

/* The code of the first RST_STREAM for stream 1 in what came, or -1; *status: of its answer when that is a literal we know. */
static long reset_code(struct h2_client *c, bool *goaway, bool *headers) {
  struct evbuffer *b = c->r->visitor.got;
  const uint8_t *p = evbuffer_pullup(b, -1);
  size_t n = evbuffer_get_length(b);
  long code = -1;
  *goaway = *headers = false;
  while (n >= 9) {
    size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
    if (n < 9 + len)
      break;
    if (p[3] == 3 && p[8] == 1 && code < 0)
      code = (long)p[9] << 24 | (long)p[10] << 16 | (long)p[11] << 8 | p[12];
    *goaway = *goaway || p[3] == 7;
    *headers = *headers || (p[3] == 1 && p[8] == 1);
    p += 9 + len;
    n -= 9 + len;
  }
  return code;
}

enum { RESET, GOAWAY, PAGE };

static void malformed(void **state) {
  (void)state;
#define M ":method", "GET"
#define S ":scheme", "https"
#define A ":authority", "t.test"
#define P ":path", "/"
  static const struct {
    const char *fields[16];
    int then;
  } table[] = {
      {{M, S, A, P, "X-Upper", "1"}, RESET},
      {{M, S, A, P, "connection", "close"}, RESET},
      {{M, S, A, P, "keep-alive", "1"}, RESET},
      {{M, S, A, P, "proxy-connection", "1"}, RESET},
      {{M, S, A, P, "transfer-encoding", "chunked"}, RESET},
      {{M, S, A, P, "upgrade", "x"}, RESET},
      {{M, S, A, P, "te", "gzip"}, RESET},
      {{M, S, A, P, "a", "b\r\nc: d"}, RESET},
      {{M, S, A, P, "a", "b\nc"}, RESET},
      {{M, S, A, P, "a b", "c"}, RESET},
      {{M, S, A, P, "a:b", "c"}, RESET},
      {{M, S, A, P, "", "c"}, RESET},
      {{M, S, A, P, "a", " b"}, RESET},
      {{M, S, A, P, "a", "b\t"}, RESET},
      {{M, S, A, P, "content-length", "1", "content-length", "1"}, RESET},
      {{M, S, A, P, "content-length", "+1"}, RESET},
      {{M, S, A, P, "content-length", "1, 1"}, RESET},
      {{M, S, A, P, "content-length", "5"}, RESET}, /* and no body */
      {{M, S, A}, RESET},
      {{M, A, P}, RESET},
      {{S, A, P}, RESET},
      {{M, M, S, A, P}, RESET},
      {{M, S, A, P, P}, RESET},
      {{M, S, A, P, ":status", "200"}, RESET},
      {{M, S, A, P, ":other", "x"}, RESET},
      {{M, S, A, "a", "b", P}, RESET},
      {{M, S, A, ":path", ""}, RESET},
      {{M, S, A, ":path", "x"}, RESET},
      {{":method", "CONNECT", S, A, P}, RESET},
      {{M, S, A, P, ":protocol", "websocket"}, RESET},
      {{":method", "G T", S, A, P}, RESET},
      {{M, S, A, ":path", "/a b"}, RESET},
      {{M, S, P}, RESET},
      {{M, S, A, P, "host", "other.test"}, PAGE},
      {{M, S, ":authority", "a/b", P}, RESET},
      {{":method", "CONNECT", ":authority", "t.test:1"}, PAGE},
      {{":method", "CONNECT", ":protocol", "other", S, A, P}, PAGE},
      {{M, S, A, ":path", "*"}, RESET},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct h2_client *c = by_hand();
    uint8_t block[1024];
    size_t n = 0;
    for (size_t k = 0; k < 16 && table[i].fields[k]; k += 2)
      n += h2_raw_field(block + n, table[i].fields[k], table[i].fields[k + 1]);
    h2_raw(c, 1, 5, 1, block, n);
    rig_run(c->r);
    bool goaway, headers;
    long code = reset_code(c, &goaway, &headers);
    if (table[i].then == RESET ? code != NGHTTP2_PROTOCOL_ERROR && !headers : !headers)
      fail_msg("row %zu: reset %ld, goaway %d, headers %d", i, code, goaway, headers);
    assert_int_equal(c->r->dials, 0); /* nothing of it came through */
    h2_client_free(c);
  }
}

static void broken_frames(void **state) {
  (void)state;
  static const struct {
    unsigned type, flags;
    int32_t id;
    const char *payload;
    size_t n;
  } table[] = {
      {0, 0, 0, "x", 1},                    /* DATA on the connection */
      {0, 0, 1, "x", 1},                    /* ... of a stream that is idle */
      {1, 4, 0, "", 0},                     /* HEADERS on the connection */
      {1, 4, 2, "\x82", 1},                 /* ... of a server's stream */
      {1, 4, 1, "\xff\xff\xff\xff", 4},     /* HPACK that is none */
      {9, 4, 1, "", 0},                     /* CONTINUATION of nothing */
      {5, 4, 1, "\0\0\0\2", 4},             /* PUSH_PROMISE */
      {4, 0, 1, "", 0},                     /* SETTINGS on a stream */
      {4, 0, 0, "x", 1},                    /* ... of a wrong length */
      {4, 1, 0, "\0\1\0\0\0\0", 6},         /* ... an acknowledgement with content */
      {4, 0, 0, "\0\4\xff\xff\xff\xff", 6}, /* ... a window too large */
      {6, 0, 0, "short", 5},                /* PING of a wrong length */
      {6, 0, 1, "12345678", 8},             /* ... on a stream */
      {3, 0, 0, "\0\0\0\0", 4},             /* RST_STREAM on the connection */
      {3, 0, 1, "\0\0\0\0", 4},             /* ... of a stream that is idle */
      {8, 0, 0, "\0\0\0\0", 4},             /* WINDOW_UPDATE of nothing */
      {8, 0, 0, "\x7f\xff\xff\xff", 4},     /* ... beyond 2^31 */
      {8, 0, 1, "\0\0\0\1", 4},             /* ... of a stream that is idle */
      {7, 0, 1, "\0\0\0\0\0\0\0\0", 8},     /* GOAWAY on a stream */
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    struct h2_client *c = by_hand();
    h2_raw(c, table[i].type, table[i].flags, table[i].id, table[i].payload, table[i].n);
    rig_wait(c->r, 1);
    bool goaway, headers;
    reset_code(c, &goaway, &headers);
    if (!goaway || c->r->front)
      fail_msg("row %zu: goaway %d, front %s", i, goaway, c->r->front ? "lives" : "gone");
    h2_client_free(c);
  }
  struct rig *r = rig_new_with(DIRECT, h2_front_new); /* not even the preface */
  peer_say(&r->visitor, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  rig_run(r);
  assert_null(r->front);
  rig_free(r);
}

/* --- limits --- */

static void too_large(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(DIRECT);
  char *text = malloc(80000);
  size_t n = (size_t)sprintf(text, "%s", GET "x: ");
  memset(text + n, 'x', 66000);
  memcpy(text + n + 66000, "\n", 2);
  struct h2_answer *a = h2_client_ask(c, text, NULL);
  assert_int_equal(a->status, 431);
  n = (size_t)sprintf(text, "%s", GET);
  for (int i = 0; i < 140; i++)
    n += (size_t)sprintf(text + n, "x-%d: y\n", i);
  struct h2_answer *b = h2_client_ask(c, text, NULL);
  assert_int_equal(b->status, 431);
  assert_int_equal(c->r->dials, 0);
  h2_client_free(c);
  free(text);
}

/* One byte a field, 4,000 bytes unpacked: the connection goes before that costs anything. */
static void an_hpack_bomb(void **state) {
  (void)state;
  struct h2_client *c = by_hand();
  static uint8_t block[16000];
  size_t n = 0;
  block[n++] = 0x40; /* literal, indexed from now on */
  block[n++] = 1;
  block[n++] = 'a';
  block[n++] = 0x7f; /* 127 + (3900 - 127) */
  block[n++] = (3900 - 127) % 128 | 0x80;
  block[n++] = (3900 - 127) / 128;
  memset(block + n, 'x', 3900);
  n += 3900;
  memset(block + n, 0xbe, 10000); /* index 62, again and again: 39 MB */
  n += 10000;
  h2_raw(c, 1, 4, 1, block, n);
  rig_wait(c->r, 1);
  assert_null(c->r->front);
  h2_client_free(c);
}

static void a_hundred_at_once(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(DIRECT);
  c->r->dial_err = BEAM_AGAIN; /* nobody is answered */
  struct h2_answer *a = NULL;
  for (unsigned i = 0; i < LIMIT_H2_STREAMS; i++)
    a = h2_client_get(c, "/");
  assert_false(a->closed);
  assert_int_equal(c->r->heads, LIMIT_H2_STREAMS);
  h2_client_reset(c, a); /* its slot is free again only later: what it began behind us goes on */
  struct h2_answer *next = h2_client_get(c, "/");
  assert_int_equal(next->code, NGHTTP2_REFUSED_STREAM);
  h2_client_wait(c, 1000);
  h2_client_get(c, "/");
  assert_int_equal(c->r->heads, LIMIT_H2_STREAMS + 1);
  h2_client_free(c);

  c = by_hand(); /* one that does not keep to it */
  c->r->dial_err = BEAM_AGAIN;
  uint8_t block[256];
  size_t n = get_block(block);
  for (int32_t i = 0; i < 150; i++)
    h2_raw(c, 1, 5, 2 * i + 1, block, n);
  rig_run(c->r);
  assert_int_equal(c->r->heads, LIMIT_H2_STREAMS);
  h2_client_free(c);
}

static void floods(void **state) {
  (void)state;
  static const struct {
    unsigned type, flags;
    const char *payload;
    size_t n;
  } table[] = {{6, 0, "12345678", 8}, {4, 0, "", 0}, {2, 0, "\0\0\0\0\0", 5}, {0, 0, "", 0}};
  for (size_t i = 0; i < ROWS(table); i++) {
    struct h2_client *c = by_hand();
    uint8_t block[256];
    h2_raw(c, 1, 4, 1, block, get_block(block));
    int32_t id = table[i].type == 0 || table[i].type == 2 ? 1 : 0;
    for (int k = 0; k < 3000 && c->r->front; k++) {
      h2_raw(c, table[i].type, table[i].flags, id, table[i].payload, table[i].n);
      if (k % 100 == 0)
        rig_run(c->r);
    }
    rig_wait(c->r, 1);
    if (c->r->front)
      fail_msg("row %zu: still there", i);
    h2_client_free(c);
  }
}

static void rapid_reset(void **state) {
  (void)state;
  struct h2_client *c = by_hand();
  uint8_t block[256];
  size_t n = get_block(block);
  c->r->dial_err = BEAM_AGAIN;
  for (int32_t id = 1; id < 6000 && c->r->front; id += 2) {
    h2_raw(c, 1, 5, id, block, n);
    h2_raw(c, 3, 0, id, "\0\0\0\10", 4);
    if (id % 100 == 1)
      rig_run(c->r);
  }
  rig_wait(c->r, 1);
  assert_null(c->r->front);
  assert_true(c->r->heads <= LIMIT_H2_STREAMS); /* within one second */
  h2_client_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(plain),
      cmocka_unit_test(side_by_side),
      cmocka_unit_test(bodies_and_trailers),
      cmocka_unit_test(no_body),
      cmocka_unit_test(early_hints),
      cmocka_unit_test(early_answer),
      cmocka_unit_test(truncated),
      cmocka_unit_test(a_page),
      cmocka_unit_test(websocket),
      cmocka_unit_test(websocket_refused),
      cmocka_unit_test(a_stalled_upload),
      cmocka_unit_test(a_visitor_that_does_not_read),
      cmocka_unit_test(shed),
      cmocka_unit_test(a_slow_body),
      cmocka_unit_test(reset_by_the_visitor),
      cmocka_unit_test(the_visitor_goes),
      cmocka_unit_test(drained),
      cmocka_unit_test(times),
      cmocka_unit_test(malformed),
      cmocka_unit_test(broken_frames),
      cmocka_unit_test(too_large),
      cmocka_unit_test(an_hpack_bomb),
      cmocka_unit_test(a_hundred_at_once),
      cmocka_unit_test(floods),
      cmocka_unit_test(rapid_reset),
  };
  if (getenv("ONE"))
    cmocka_set_test_filter(getenv("ONE"));
  return cmocka_run_group_tests(tests, NULL, NULL);
}
