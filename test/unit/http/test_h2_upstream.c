/* The local service over HTTP/2: a visitor over HTTP/2, front, frames between, and a scripted service. */
#include "h2_service.h"
#include "io/budget.h"

#define GET ":method: GET\n:scheme: https\n:authority: t.test\n:path: /x?y\n"
#define POST ":method: POST\n:scheme: https\n:authority: t.test\n:path: /\n"
#define GRPC POST "content-type: application/grpc+proto\nte: trailers\n"
#define OK ":status: 200\n"

static struct h2_client *begin(enum rig_way way) {
  struct h2_client *c = h2_client_new(way);
  rig_over2(c->r, true);
  return c;
}

static void end(struct h2_client *c, struct h2_service *s) {
  if (s)
    h2_service_free(s);
  h2_client_free(c);
}

/* --- what passes --- */

static void plain(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct h2_client *c = begin(way);
    struct h2_answer *a = h2_client_ask(c, GET "x-a: 1\ncookie: a=1\ncookie: b=2\nte: trailers\n", NULL);
    struct h2_service *s = h2_service_new(c, 0, 0);
    struct h2_call *k = &s->calls[0];
    assert_int_equal(s->calls_n, 1);
    const char *want = ":method: GET\n:scheme: http\n:authority: t.test\n:path: /x?y\nx-a: 1\n";
    assert_memory_equal(k->fields, want, strlen(want));
    assert_true(h2_call_has(k, "cookie: a=1; b=2"));
    assert_null(strstr(k->fields, "te:"));
    assert_null(strstr(k->fields, "host"));
    assert_true(k->ended);
    h2_service_info(s, k, ":status: 103\nlink: </a>\n");
    assert_true(h2_client_has(a, "103"));
    k->trailers = "x-end: yes\n";
    h2_service_say(s, k, OK "x-b: Two\nset-cookie: a=1\nset-cookie: b=2\n", "hel", true);
    assert_int_equal(a->status, 200);
    assert_true(h2_client_has(a, "x-b: Two") && h2_client_has(a, "set-cookie: b=2"));
    assert_int_equal(evbuffer_get_length(a->body), 3); /* at once, not when it is whole */
    h2_service_data(s, k, "lo", false);
    assert_string_equal(h2_client_body(a), "hello");
    assert_true(a->ended && a->closed && !a->code && h2_client_has(a, "x-end: yes"));
    assert_true(k->closed && !k->code);
    assert_int_equal(c->r->records, 1);
    assert_int_equal(c->r->last.body_out, 5);
    a = h2_client_get(c, "/again"); /* over the same connection */
    h2_service_run(s);
    assert_int_equal(s->calls_n, 2);
    h2_service_say(s, &s->calls[1], ":status: 204\n", NULL, false);
    assert_int_equal(a->status, 204);
    assert_true(a->ended && a->closed);
    assert_int_equal(c->r->dials, 1);
    end(c, s);
  }
}

static void bodies_and_trailers(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct h2_client *c = begin(way);
    struct h2_answer *a = h2_client_ask(c, POST, "");
    struct h2_service *s = h2_service_new(c, 0, 0);
    struct h2_call *k = &s->calls[0];
    h2_client_data(c, a, "one", false);
    h2_service_run(s);
    assert_int_equal(evbuffer_get_length(k->body), 3);
    h2_client_data(c, a, "two", false);
    h2_client_trailers(c, a, "x-sum: 7\n");
    h2_service_run(s);
    assert_int_equal(evbuffer_get_length(k->body), 6);
    assert_true(k->ended && h2_call_has(k, "x-sum: 7"));
    h2_service_say(s, k, OK "content-length: 0\n", NULL, false);
    assert_true(a->ended && a->closed && !a->code);
    end(c, s);
  }
}

static void grpc(void **state) {
  (void)state;
  struct h2_client *c = begin(FRAMES);
  struct h2_answer *a = h2_client_ask(c, GRPC, "");
  struct h2_service *s = h2_service_new(c, 0, 0);
  struct h2_call *k = &s->calls[0];
  assert_true(h2_call_has(k, "te: trailers") && h2_call_has(k, "content-type: application/grpc+proto"));
  h2_service_say(s, k, OK "content-type: application/grpc+proto\n", "", true);
  assert_int_equal(a->status, 200);
  for (size_t i = 1; i <= 5; i++) { /* one message for one */
    h2_client_data(c, a, "ask", false);
    h2_service_run(s);
    assert_int_equal(evbuffer_get_length(k->body), 3 * i);
    h2_service_data(s, k, "tell", true);
    assert_int_equal(evbuffer_get_length(a->body), 4 * i);
  }
  h2_client_wait(c, 60000); /* a day is made of these */
  for (int i = 0; i < 30; i++) {
    h2_client_wait(c, 20000);
    h2_service_run(s);
  }
  assert_false(a->closed || k->closed);
  k->trailers = "grpc-status: 0\n";
  h2_service_data(s, k, "", false); /* it ends while the visitor could go on */
  assert_true(a->ended && h2_client_has(a, "grpc-status: 0"));
  h2_service_run(s);
  assert_true(k->closed);
  assert_int_equal(k->code, NGHTTP2_NO_ERROR);
  end(c, s);

  c = begin(FRAMES); /* a service that does not answer for an hour */
  a = h2_client_ask(c, GRPC, "");
  s = h2_service_new(c, 0, 0);
  for (int i = 0; i < 180; i++) {
    h2_client_wait(c, 20000);
    h2_service_run(s);
  }
  assert_false(a->closed || s->calls[0].closed);
  h2_client_reset(c, a);
  h2_service_run(s);
  assert_true(s->calls[0].closed);
  assert_int_equal(s->calls[0].code, NGHTTP2_CANCEL);
  end(c, s);
}

/* The service goes in the middle of an answer: a status tells, after all that came before. */
static void grpc_cut(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++)
    for (int how = 0; how < 3; how++) {
      struct h2_client *c = begin(way);
      struct h2_answer *a = h2_client_ask(c, GRPC, "");
      struct h2_service *s = h2_service_new(c, 0, 0);
      h2_service_say(s, &s->calls[0], OK "content-type: application/grpc\n", "part", true);
      if (how == 0)
        h2_service_reset(s, &s->calls[0], NGHTTP2_INTERNAL_ERROR);
      else if (how == 1)
        peer_reset(&c->r->service[0]);
      else
        peer_finish(&c->r->service[0]);
      h2_client_run(c);
      assert_true(a->ended && a->closed && !a->code);
      assert_true(h2_client_has(a, "grpc-status: 14") && h2_client_has(a, "beam-error: BEAM-5029"));
      assert_string_equal(h2_client_body(a), "part");
      assert_int_equal(c->r->last.failed, PAGE_TRUNCATED);
      end(c, s);
    }
}

/* What Beam says to gRPC is a status. */
static void grpc_pages(void **state) {
  (void)state;
  struct h2_client *c = begin(FRAMES);
  c->r->dial_err = BEAM_ERR_REFUSED;
  struct h2_answer *a = h2_client_ask(c, GRPC, "");
  assert_int_equal(a->status, 200);
  assert_true(a->ended && h2_client_has(a, "grpc-status: 14") && h2_client_has(a, "beam-error: BEAM-5021") &&
              h2_client_has(a, "content-type: application/grpc"));
  a = h2_client_ask(c, POST "content-type: application/grpc-web+proto\n", "x");
  assert_int_equal(a->status, 502);
  c->r->answer_with = PAGE_NO_TUNNEL;
  end(c, NULL);
  c = h2_client_new(DIRECT);
  c->r->answer_with = PAGE_NO_TUNNEL;
  a = h2_client_ask(c, GRPC, "");
  assert_true(a->ended && h2_client_has(a, "grpc-status: 12"));
  h2_client_free(c);
}

/* --- who does not read --- */

static void held_up(void **state) {
  (void)state;
  static char big[1 << 20];
  memset(big, 'x', sizeof big - 1);
  size_t before = budget_left(&budget_pool);
  struct h2_client *c = begin(DIRECT);
  struct h2_answer *a = h2_client_ask(c, POST, "");
  struct h2_service *s = h2_service_new(c, 0, 0);
  s->manual = true; /* the service takes nothing more than its first window */
  h2_client_data(c, a, big, true);
  h2_service_run(s);
  size_t there = evbuffer_get_length(s->calls[0].body);
  assert_int_equal(there, 65535);
  assert_true(h2_client_unsent(c, a) > sizeof big / 2);
  s->manual = false; /* now it does */
  nghttp2_session_consume(s->ng, s->calls[0].id, there);
  h2_service_run(s);
  assert_int_equal(evbuffer_get_length(s->calls[0].body), sizeof big - 1);

  c->manual = true; /* the visitor takes nothing */
  struct h2_answer *b = h2_client_get(c, "/");
  h2_service_run(s);
  h2_service_say(s, &s->calls[1], OK, big, false);
  size_t left = evbuffer_get_length(s->calls[1].out);
  assert_true(left > sizeof big / 2);
  struct h2_answer *d = h2_client_get(c, "/other"); /* another one is not held up */
  h2_service_run(s);
  h2_service_say(s, &s->calls[2], OK, "small", false);
  assert_true(d->ended || evbuffer_get_length(d->body) == 0); /* the visitor's own window may be used up */
  h2_client_reset(c, b);
  h2_service_run(s);
  assert_true(s->calls[1].closed);
  assert_int_equal(s->calls[1].code, NGHTTP2_CANCEL);
  end(c, s);
  assert_int_equal(budget_left(&budget_pool), before);
}

/* --- slots --- */

static void slots(void **state) {
  (void)state;
  struct h2_client *c = begin(FRAMES);
  struct h2_answer *a[5];
  struct h2_service *s[3];
  a[0] = h2_client_get(c, "/0");
  s[0] = h2_service_new(c, 0, 2);
  for (int i = 1; i < 5; i++)
    a[i] = h2_client_get(c, "/more");
  assert_int_equal(c->r->dials, 2); /* two there, three wait for the next connection */
  s[1] = h2_service_new(c, 1, 2);
  h2_run(c, s, 2);
  /* The second one said that it takes two after all three had gone out: what it refuses goes to a third. */
  for (unsigned i = 0; i < s[1]->calls_n; i++)
    assert_true(i < 3);
  h2_run(c, s, 2);
  unsigned seen = s[0]->calls_n;
  for (unsigned i = 0; i < s[1]->calls_n; i++)
    seen += !s[1]->calls[i].closed;
  unsigned n = 2;
  if (c->r->dials == 3) {
    s[n++] = h2_service_new(c, 2, 2);
    h2_run(c, s, n);
    seen += s[2]->calls_n;
  }
  assert_int_equal(seen, 5);
  for (unsigned i = 0; i < n; i++)
    for (unsigned k = 0; k < s[i]->calls_n; k++)
      if (!s[i]->calls[k].closed)
        h2_service_say(s[i], &s[i]->calls[k], OK, "ok", false);
  h2_run(c, s, n);
  for (int i = 0; i < 5; i++)
    assert_string_equal(h2_client_body(a[i]), "ok");
  for (unsigned i = 1; i < n; i++)
    h2_service_free(s[i]);
  end(c, s[0]);
}

/* Full, and no further connection to be had: it is asked for once a second, and whoever waits gets the next slot. */
static void no_more_connections(void **state) {
  (void)state;
  struct h2_client *c = begin(FRAMES);
  struct h2_answer *a = h2_client_get(c, "/0");
  struct h2_service *s = h2_service_new(c, 0, 1);
  c->r->dial_err = BEAM_ERR_REFUSED;
  struct h2_answer *b = h2_client_get(c, "/1");
  struct h2_answer *d = h2_client_get(c, "/2");
  h2_service_run(s);
  assert_false(b->closed || d->closed);
  h2_service_say(s, &s->calls[0], OK, "a", false);
  assert_true(a->ended);
  assert_int_equal(s->calls_n, 2);
  h2_service_say(s, &s->calls[1], OK, "b", false);
  assert_string_equal(h2_client_body(b), "b");
  struct h2_answer *e = h2_client_get(c, "/3");
  h2_service_run(s);
  assert_int_equal(s->calls_n, 3);
  c->r->dial_err = 0; /* it takes them again */
  assert_int_equal(c->r->dials, 1);
  h2_client_wait(c, 1000);
  assert_int_equal(c->r->dials, 2);
  struct h2_service *t = h2_service_new(c, 1, 1);
  h2_service_say(t, &t->calls[0], OK, "e", false);
  assert_string_equal(h2_client_body(e), "e");
  h2_service_say(s, &s->calls[2], OK, "d", false);
  assert_string_equal(h2_client_body(d), "d");
  h2_service_free(t);
  end(c, s);
}

/* --- what was not processed --- */

static void goes_again(void **state) {
  (void)state;
  struct h2_client *c = begin(FRAMES);
  struct h2_answer *a = h2_client_ask(c, POST, "");
  struct h2_service *s = h2_service_new(c, 0, 0);
  h2_service_reset(s, &s->calls[0], NGHTTP2_REFUSED_STREAM);
  assert_int_equal(s->calls_n, 2); /* nothing of the body was sent: also a POST */
  h2_client_data(c, a, "body", true);
  h2_service_run(s);
  assert_int_equal(evbuffer_get_length(s->calls[1].body), 4);
  h2_service_say(s, &s->calls[1], OK, "done", false);
  assert_string_equal(h2_client_body(a), "done");

  a = h2_client_get(c, "/refused"); /* not for ever */
  h2_service_run(s);
  for (unsigned i = 0; i < LIMIT_H2_UP_TRIES; i++) {
    assert_int_equal(s->calls_n, 3 + i);
    h2_service_reset(s, &s->calls[2 + i], NGHTTP2_REFUSED_STREAM);
  }
  assert_int_equal(s->calls_n, 2 + LIMIT_H2_UP_TRIES);
  assert_int_equal(a->status, 502);
  assert_true(h2_client_has(a, "beam-error: BEAM-5022"));

  a = h2_client_ask(c, POST, "begun"); /* its body is gone */
  h2_service_run(s);
  h2_service_reset(s, &s->calls[s->calls_n - 1], NGHTTP2_REFUSED_STREAM);
  assert_int_equal(a->status, 502);

  a = h2_client_get(c, "/goaway");
  h2_service_run(s);
  uint32_t last = (uint32_t)s->calls[s->calls_n - 1].id - 2;
  nghttp2_submit_goaway(s->ng, NGHTTP2_FLAG_NONE, (int32_t)last, NGHTTP2_NO_ERROR, NULL, 0);
  h2_service_run(s);
  assert_int_equal(c->r->dials, 2);
  struct h2_service *t = h2_service_new(c, 1, 0);
  assert_int_equal(t->calls_n, 1);
  h2_service_say(t, &t->calls[0], OK, "there", false);
  assert_string_equal(h2_client_body(a), "there");
  h2_service_free(t);
  end(c, s);
}

/* A connection that closes: a request that may be repeated goes out again if the connection had answered before. */
static void closes(void **state) {
  (void)state;
  struct h2_client *c = begin(FRAMES);
  struct h2_answer *a = h2_client_get(c, "/1");
  struct h2_service *s = h2_service_new(c, 0, 0);
  peer_reset(&c->r->service[0]);
  h2_client_run(c);
  assert_true(h2_client_has(a, "beam-error: BEAM-5022"));
  h2_service_free(s);

  a = h2_client_get(c, "/2");
  s = h2_service_new(c, 1, 0);
  h2_service_say(s, &s->calls[0], OK, "two", false);
  a = h2_client_get(c, "/3");
  struct h2_answer *b = h2_client_ask(c, POST, "body");
  h2_service_run(s);
  peer_reset(&c->r->service[1]);
  h2_client_run(c);
  assert_true(h2_client_has(b, "beam-error: BEAM-5022"));
  assert_int_equal(c->r->dials, 3);
  h2_service_free(s);
  s = h2_service_new(c, 2, 0);
  h2_service_say(s, &s->calls[0], OK, "three", true);
  peer_reset(&c->r->service[2]); /* in the middle of the response: the visitor sees that it is cut */
  h2_client_run(c);
  assert_true(a->closed && !a->ended && a->code);
  end(c, s);
}

static void resets(void **state) {
  (void)state;
  static const struct {
    uint32_t code;
    const char *page;
  } table[] = {{NGHTTP2_INTERNAL_ERROR, "beam-error: BEAM-5022"},
               {NGHTTP2_CANCEL, "beam-error: BEAM-5022"},
               {NGHTTP2_NO_ERROR, "beam-error: BEAM-5022"},
               {NGHTTP2_PROTOCOL_ERROR, "beam-error: BEAM-5023"}};
  for (size_t i = 0; i < ROWS(table); i++) {
    struct h2_client *c = begin(FRAMES);
    struct h2_answer *a = h2_client_get(c, "/");
    struct h2_service *s = h2_service_new(c, 0, 0);
    h2_service_reset(s, &s->calls[0], table[i].code);
    assert_int_equal(a->status, 502);
    assert_true(h2_client_has(a, table[i].page));
    assert_int_equal(s->calls_n, 1);
    a = h2_client_get(c, "/cut");
    h2_service_run(s);
    h2_service_say(s, &s->calls[1], OK, "part", true);
    h2_service_reset(s, &s->calls[1], table[i].code);
    assert_true(a->closed && !a->ended && a->code);
    assert_int_equal(c->r->dials, 1);
    end(c, s);
  }
}

/* The answer is complete before the request is: the service is told that nothing more comes, in order. */
static void early_answer(void **state) {
  (void)state;
  struct h2_client *c = begin(FRAMES);
  struct h2_answer *a = h2_client_ask(c, POST, "");
  struct h2_service *s = h2_service_new(c, 0, 0);
  h2_client_data(c, a, "some", false);
  h2_service_run(s);
  h2_service_say(s, &s->calls[0], ":status: 413\n", "no", false);
  assert_int_equal(a->status, 413);
  assert_true(a->ended);
  assert_true(s->calls[0].closed);
  assert_int_equal(s->calls[0].code, NGHTTP2_NO_ERROR);
  end(c, s);
}

static void wrong_lengths(void **state) {
  (void)state;
  struct h2_client *c = begin(DIRECT);
  struct h2_answer *a = h2_client_ask(c, POST "content-length: 5\n", "");
  struct h2_service *s = h2_service_new(c, 0, 0);
  assert_true(h2_call_has(&s->calls[0], "content-length: 5"));
  h2_client_data(c, a, "123", true); /* the visitor's front sees to it */
  h2_service_run(s);
  assert_true(s->calls[0].closed && !s->calls[0].ended);
  end(c, s);
}

/* --- WebSocket, RFC 8441 --- */

#define CONNECT ":method: CONNECT\n:protocol: websocket\n:scheme: https\n:authority: t.test\n:path: /ws\n"

static struct h2_service *takes_websocket(struct h2_client *c) {
  nghttp2_settings_entry takes = {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1};
  h2_client_get(c, "/page");
  struct h2_service *s = h2_service_new(c, 0, 0);
  nghttp2_submit_settings(s->ng, NGHTTP2_FLAG_NONE, &takes, 1);
  h2_service_say(s, &s->calls[0], OK, "page", false);
  return s;
}

static void websocket(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct h2_client *c = begin(way);
    struct h2_service *s = takes_websocket(c);
    struct h2_answer *a = h2_client_ask(c, CONNECT "sec-websocket-version: 13\n", "");
    h2_service_run(s);
    struct h2_call *k = &s->calls[1];
    assert_true(h2_call_has(k, ":method: CONNECT") && h2_call_has(k, ":protocol: websocket"));
    assert_true(h2_call_has(k, ":path: /ws") && h2_call_has(k, "sec-websocket-version: 13"));
    assert_null(strstr(k->fields, "key"));
    assert_null(strstr(k->fields, "upgrade"));
    h2_client_data(c, a, "early", false); /* not before it is granted */
    h2_service_run(s);
    assert_int_equal(evbuffer_get_length(k->body), 0);
    h2_service_say(s, k, OK "sec-websocket-protocol: chat\n", "from", true);
    assert_int_equal(a->status, 200);
    assert_true(h2_client_has(a, "sec-websocket-protocol: chat"));
    assert_null(strstr(a->fields, "accept"));
    assert_string_equal(h2_client_body(a), "from");
    h2_client_data(c, a, " and on", false);
    h2_service_run(s);
    assert_int_equal(evbuffer_get_length(k->body), 12);
    h2_service_data(s, k, "more", false); /* its half is over, the visitor's is not */
    assert_true(a->ended && !k->closed);
    h2_client_data(c, a, "!", true);
    h2_service_run(s);
    assert_int_equal(evbuffer_get_length(k->body), 13);
    assert_true(k->ended && k->closed && !k->code && a->closed && !a->code);
    assert_int_equal(c->r->dials, 1);
    end(c, s);
  }
}

static void websocket_refused(void **state) {
  (void)state;
  struct h2_client *c = begin(FRAMES);
  struct h2_service *s = takes_websocket(c);
  struct h2_answer *a = h2_client_ask(c, CONNECT, "");
  h2_service_run(s);
  h2_service_say(s, &s->calls[1], ":status: 403\n", "no", false);
  assert_int_equal(a->status, 403);
  assert_true(a->ended && a->closed);
  h2_service_run(s);
  assert_true(s->calls[1].closed);

  a = h2_client_ask(c, CONNECT, ""); /* cut after it was granted, and after its own half was over */
  h2_service_run(s);
  h2_service_say(s, &s->calls[2], OK, "x", true);
  h2_service_reset(s, &s->calls[2], NGHTTP2_INTERNAL_ERROR);
  assert_true(a->closed && !a->ended && a->code);
  a = h2_client_ask(c, CONNECT, "");
  h2_service_run(s);
  h2_service_say(s, &s->calls[3], OK, "x", false);
  h2_service_reset(s, &s->calls[3], NGHTTP2_CANCEL);
  h2_client_data(c, a, "who hears this?", false);
  assert_true(a->closed);
  end(c, s);

  c = begin(FRAMES); /* a service that does not take it gets HTTP/1.1 */
  a = h2_client_get(c, "/page");
  s = h2_service_new(c, 0, 0);
  h2_service_say(s, &s->calls[0], OK, "page", false);
  a = h2_client_ask(c, CONNECT "sec-websocket-version: 13\n", "");
  assert_int_equal(c->r->dials, 2);
  assert_memory_equal(peer_text(&c->r->service[1]), "GET /ws HTTP/1.1\r\n", 18);
  end(c, s);
}

/* --- time --- */

static void time_limits(void **state) {
  (void)state;
  struct h2_client *c = begin(FRAMES);
  struct h2_answer *a = h2_client_get(c, "/");
  struct h2_service *s = h2_service_new(c, 0, 0);
  h2_client_wait(c, LIMIT_UPSTREAM_HEAD_MS - 1);
  assert_false(a->closed);
  h2_client_wait(c, 1);
  h2_service_run(s);
  assert_int_equal(a->status, 504);
  assert_int_equal(s->calls[0].code, NGHTTP2_CANCEL);
  h2_client_wait(c, LIMIT_KEEPALIVE_MS + 10000); /* idle: it says so and goes */
  h2_service_run(s);
  assert_true(s->goaway && c->r->service[0].ended);
  end(c, s);

  c = begin(FRAMES); /* a service that says nothing at all */
  a = h2_client_get(c, "/");
  h2_client_wait(c, LIMIT_HEAD_MS + 10000);
  assert_true(h2_client_has(a, "beam-error: BEAM-5027"));
  end(c, NULL);
}

/* --- what is not HTTP/2, or wrong --- */

static void no_http2(void **state) {
  (void)state;
  static const char *const says[] = {"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "SSH-2.0-x\r\n",
                                     ""};
  for (size_t i = 0; i < ROWS(says); i++) {
    struct h2_client *c = begin(FRAMES);
    struct h2_answer *a = h2_client_get(c, "/");
    struct h2_answer *g = h2_client_ask(c, GRPC, "");
    peer_say(&c->r->service[0], says[i]);
    h2_client_run(c);
    peer_finish(&c->r->service[0]);
    h2_client_run(c);
    assert_true(h2_client_has(a, "beam-error: BEAM-5027"));
    assert_true(h2_client_has(g, "grpc-status: 14"));
    assert_non_null(strstr(g->fields, "BEAM-5027"));
    end(c, NULL);
  }
}

/* Heads that may not be: the request gets a page, the connection goes on. */
static void bad_heads(void **state) {
  (void)state;
  static char many[8000], big[70000], info[64];
  for (int i = 0; i < 140; i++)
    snprintf(many + strlen(many), sizeof many - strlen(many), "x-%d: 1\n", i);
  snprintf(many + strlen(many), sizeof many - strlen(many), "x: 1\n");
  memset(big, 'x', sizeof big - 2);
  memcpy(big, "x-big: ", 7);
  big[sizeof big - 2] = '\n';
  snprintf(info, sizeof info, ":status: 103\nx: 1\n");
  const char *const rows[] = {"x: no status\n",          ":status: 101\n",
                              ":status: 20\n",           ":status: 2000\n",
                              ":status: abc\n",          ":status: 200\n:status: 200\n",
                              "x: 1\n:status: 200\n",    ":status: 200\n:path: /\n",
                              OK "connection: close\n",  OK "transfer-encoding: chunked\n",
                              OK "upgrade: x\n",         OK "a b: 1\n",
                              OK "x: a\x01\n",           OK "content-length: 1\ncontent-length: 2\n",
                              OK "content-length: -1\n", OK "content-length: 9\n"};
  for (size_t i = 0; i < ROWS(rows) + 2; i++) {
    char text[80000];
    snprintf(text, sizeof text, "%s%s", i < ROWS(rows) ? rows[i] : OK,
             i == ROWS(rows)  ? many
             : i > ROWS(rows) ? big
                              : "");
    struct h2_client *c = begin(FRAMES);
    struct h2_answer *a = h2_client_get(c, "/");
    struct h2_service *s = h2_service_new(c, 0, 0);
    struct h2_answer *b = h2_client_get(c, "/other");
    h2_service_run(s);
    h2_service_say(s, &s->calls[0], text, "body", false);
    h2_client_run(c);
    if (a->status != 502 && !(a->closed && !a->ended))
      fail_msg("row %zu passed: %d", i, a->status);
    if (c->r->service[0].ended)
      assert_true(b->closed); /* one that nghttp2 takes for an error of the connection */
    end(c, s);
  }
  struct h2_client *c = begin(FRAMES);
  struct h2_answer *a = h2_client_get(c, "/");
  struct h2_service *s = h2_service_new(c, 0, 0);
  for (unsigned i = 0; i <= LIMIT_UPSTREAM_INFOS; i++)
    h2_service_info(s, &s->calls[0], info);
  assert_true(h2_client_has(a, "beam-error: BEAM-5023"));
  assert_int_equal(s->calls[0].code, NGHTTP2_CANCEL);
  end(c, s);
}

/* The engine of the service would not say these. */
static void bad_names(void **state) {
  (void)state;
  static const char *const names[] = {"X-Upper", "x y", "x\x01", "", ":odd", "te", "keep-alive"};
  for (size_t i = 0; i < ROWS(names); i++) {
    uint8_t block[64];
    size_t n = h2_raw_field(block, ":status", "200");
    n += h2_raw_field(block + n, names[i], "gzip");
    struct h2_client *c = begin(FRAMES);
    struct h2_answer *a = h2_client_get(c, "/");
    struct h2_service *s = h2_service_new(c, 0, 0);
    h2_service_raw(s, 1, 5, s->calls[0].id, block, n);
    h2_client_run(c);
    if (a->status != 502)
      fail_msg("\"%s\" passed: %d", names[i], a->status);
    end(c, s);
  }
}

/* Frames that move nothing, or that may not come: the connection goes, whoever waits is told. */
static void floods(void **state) {
  (void)state;
  static const struct {
    unsigned type, flags, id, n, times;
  } table[] = {
      {6, 0, 0, 8, LIMIT_H2_GLITCHES + 2}, /* PING */
      {4, 0, 0, 0, LIMIT_H2_GLITCHES + 2}, /* SETTINGS */
      {2, 0, 1, 5, LIMIT_H2_GLITCHES + 2}, /* PRIORITY */
      {0, 0, 1, 0, LIMIT_H2_GLITCHES + 2}, /* empty DATA */
      {0, 0, 7, 1, 1},                     /* DATA of no stream */
      {5, 4, 1, 5, 1},                     /* PUSH_PROMISE */
      {8, 0, 0, 4, 1},                     /* WINDOW_UPDATE by 0 */
      {9, 4, 1, 1, 1},                     /* CONTINUATION of nothing */
      {6, 0, 0, 7, 1},                     /* PING of seven bytes */
      {1, 4, 2, 1, 1},                     /* HEADERS of the service's own */
  };
  static const uint8_t zeros[16];
  for (size_t i = 0; i < ROWS(table); i++) {
    struct h2_client *c = begin(FRAMES);
    struct h2_answer *a = h2_client_get(c, "/");
    struct h2_service *s = h2_service_new(c, 0, 0);
    if (table[i].type == 0 && table[i].id == 1)
      h2_service_say(s, &s->calls[0], OK, "x", true);
    for (unsigned k = 0; k < table[i].times; k++) {
      h2_service_raw(s, table[i].type, table[i].flags, (int32_t)table[i].id, zeros, table[i].n);
      if (k % 200 == 199) {
        rig_run(c->r);
        evbuffer_drain(c->r->service[0].got, peer_length(&c->r->service[0]));
      }
    }
    h2_client_run(c);
    if (!c->r->service[0].ended && !c->r->service[0].dead)
      fail_msg("row %zu: it goes on", i);
    assert_true(a->closed);
    assert_true(!a->ended || h2_client_has(a, "beam-error: BEAM-5023") ||
                h2_client_has(a, "beam-error: BEAM-5022"));
    evbuffer_drain(c->r->service[0].got, peer_length(&c->r->service[0]));
    end(c, s);
  }
}

/* A good response that ends anywhere: never taken for a whole one. */
static void every_truncation(void **state) {
  (void)state;
  static const uint8_t all[] = {0, 0, 0, 4, 0, 0, 0, 0, 0,                           /* SETTINGS */
                                0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88,                     /* HEADERS: 200 */
                                0, 0, 5, 0, 0, 0, 0, 0, 1, 'h',  'e', 'l', 'l', 'o', /* DATA */
                                0, 0, 6, 1, 5, 0, 0, 0, 1, 0,    1,   'x', 1,   'y', /* trailers: x: y */
                                0};
  for (size_t n = 0; n < sizeof all; n++)
    for (int how = 0; how < 2; how++) {
      size_t whole = 9 + 10 + 14 + 9 + 6 - 1;
      struct h2_client *c = begin(DIRECT);
      struct h2_answer *a = h2_client_get(c, "/");
      uint8_t copy[sizeof all];
      memcpy(copy, all, sizeof all);
      copy[9 + 10 + 14 + 2] = 5; /* the block is five bytes long */
      if (n)
        peer_put(&c->r->service[0], copy, n);
      h2_client_run(c);
      if (how)
        peer_reset(&c->r->service[0]);
      else
        peer_finish(&c->r->service[0]);
      h2_client_run(c);
      assert_true(a->closed);
      if (n < whole)
        assert_true(a->status == 502 || (a->status == 200 && !a->ended && a->code));
      else
        assert_true(a->status == 200 && a->ended);
      end(c, NULL);
    }
}

/* --- the service chooses --- */

static void chooses(void **state) {
  (void)state;
  struct h2_client *c = h2_client_new(FRAMES);
  rig_over2(c->r, false);
  c->r->chose_h1 = true;
  struct h2_answer *a = h2_client_get(c, "/one"), *g = h2_client_ask(c, GRPC, "");
  struct h2_answer *p = h2_client_ask(c, POST, "body");
  assert_true(c->r->dials >= 1);
  assert_non_null(strstr(g->fields, "BEAM-5027"));
  assert_memory_equal(peer_text(&c->r->service[0]), "GET /one HTTP/1.1\r\n", 19);
  peer_say(&c->r->service[0], "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
  h2_client_run(c);
  assert_string_equal(h2_client_body(a), "one");
  assert_non_null(strstr(peer_text(&c->r->service[1]), "\r\n4\r\nbody\r\n"));
  peer_say(&c->r->service[1], "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo");
  h2_client_run(c);
  assert_string_equal(h2_client_body(p), "two");
  c->r->chose_h1 = false; /* another program: asked again after a minute */
  h2_client_wait(c, 61000);
  a = h2_client_get(c, "/two");
  struct h2_service *s = h2_service_new(c, c->r->dials - 1, 0);
  assert_true(h2_call_has(&s->calls[0], ":path: /two"));
  assert_true(h2_call_has(&s->calls[0], ":scheme: https"));
  h2_service_say(s, &s->calls[0], OK, "2", false);
  assert_string_equal(h2_client_body(a), "2");
  end(c, s);
}

static void dial_fails(void **state) {
  (void)state;
  static const struct {
    int err;
    const char *page;
  } table[] = {{BEAM_ERR_REFUSED, "beam-error: BEAM-5021"},
               {BEAM_ERR_TIMEOUT, "beam-error: BEAM-5041"},
               {BEAM_ERR_UNTRUSTED, "beam-error: BEAM-5025"},
               {BEAM_ERR_TLS, "beam-error: BEAM-5026"}};
  for (int prior = 0; prior < 2; prior++)
    for (size_t i = 0; i < ROWS(table); i++) {
      struct h2_client *c = h2_client_new(FRAMES);
      rig_over2(c->r, prior);
      c->r->dial_err = table[i].err;
      struct h2_answer *a = h2_client_get(c, "/");
      assert_true(h2_client_has(a, table[i].page));
      c->r->dial_err = 0; /* it was started */
      a = h2_client_get(c, "/");
      struct h2_service *s = h2_service_new(c, 0, 0);
      h2_service_say(s, &s->calls[0], OK, "hi", false);
      assert_string_equal(h2_client_body(a), "hi");
      end(c, s);
    }
}

/* The pool goes, and the visitor: at every point of an exchange. */
static void goes_away(void **state) {
  (void)state;
  for (int when = 0; when < 4; when++)
    for (int who = 0; who < 2; who++) {
      struct h2_client *c = begin(FRAMES);
      c->r->dial_err = when ? 0 : BEAM_AGAIN;
      struct h2_answer *a = h2_client_ask(c, POST, "");
      struct h2_service *s = when > 1 ? h2_service_new(c, 0, 0) : NULL;
      if (when == 3)
        h2_service_say(s, &s->calls[0], OK, "part", true);
      if (who) {
        h2_pool_free(c->r->pool2);
        c->r->pool2 = NULL;
        h2_client_run(c);
        assert_true(a->closed);
      } else {
        h2_client_reset(c, a);
        if (s)
          h2_service_run(s);
        if (when > 1)
          assert_int_equal(s->calls[0].code, NGHTTP2_CANCEL);
      }
      end(c, s);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(plain),
      cmocka_unit_test(bodies_and_trailers),
      cmocka_unit_test(grpc),
      cmocka_unit_test(grpc_pages),
      cmocka_unit_test(grpc_cut),
      cmocka_unit_test(held_up),
      cmocka_unit_test(slots),
      cmocka_unit_test(no_more_connections),
      cmocka_unit_test(goes_again),
      cmocka_unit_test(closes),
      cmocka_unit_test(resets),
      cmocka_unit_test(early_answer),
      cmocka_unit_test(wrong_lengths),
      cmocka_unit_test(websocket),
      cmocka_unit_test(websocket_refused),
      cmocka_unit_test(time_limits),
      cmocka_unit_test(no_http2),
      cmocka_unit_test(bad_heads),
      cmocka_unit_test(floods),
      cmocka_unit_test(bad_names),
      cmocka_unit_test(every_truncation),
      cmocka_unit_test(chooses),
      cmocka_unit_test(dial_fails),
      cmocka_unit_test(goes_away),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
