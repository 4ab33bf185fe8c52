#include "rig.h"

#include "obs/metrics.h"

#define HOST "Host: t.test\r\n"
#define GET "GET / HTTP/1.1\r\n" HOST "\r\n"
#define OK "HTTP/1.1 200 OK\r\n"
#define OK1 OK "Content-Length: 1\r\n\r\na"

/* --- what is no request --- */

static void malformed(void **state) {
  (void)state;
  static const struct {
    const char *request, *status, *code;
  } table[] = {
      {"hello\r\n\r\n", "400 Bad Request", "BEAM-4001"},
      {"GET / HTTP/1.1\r\n\r\n", "400 Bad Request", "BEAM-4002"},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400 Bad Request", "BEAM-4002"},
      {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400 Bad Request", "BEAM-4002"},
      {"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request", "BEAM-4002"},
      {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505 HTTP Version Not Supported", "BEAM-5051"},
      {"GET / HTTP/1.1\nHost: a\n\n", "400 Bad Request", "BEAM-4004"},
      {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400 Bad Request", "BEAM-4005"},
      {"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "400 Bad Request", "BEAM-4005"},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "400 Bad Request",
       "BEAM-4007"},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
       "400 Bad Request", "BEAM-4007"},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\nx", "400 Bad Request",
       "BEAM-4008"},
      {"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx", "400 Bad Request", "BEAM-4008"},
      {"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\nx",
       "400 Bad Request", "BEAM-4009"},
      {"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "501 Not Implemented", "BEAM-5011"},
  };
  for (size_t i = 0; i < ROWS(table); i++) {
    char want[64];
    struct rig *r = rig_new(DIRECT);
    peer_say(&r->visitor, table[i].request);
    rig_run(r);
    const char *got = peer_text(&r->visitor);
    str_fmt(want, sizeof want, "HTTP/1.1 %s\r\n", table[i].status);
    assert_memory_equal(got, want, strlen(want));
    str_fmt(want, sizeof want, "\r\nBeam-Error: %s\r\n", table[i].code);
    assert_non_null(strstr(got, want));
    assert_non_null(strstr(got, "\r\nConnection: close\r\n"));
    assert_true(r->visitor.ended);
    assert_null(r->front);
    assert_int_equal(r->dials, 0);
    assert_int_equal(r->records, 1);
    assert_int_equal(r->last.status, strtol(table[i].status, NULL, 10));
    rig_free(r);
  }
}

static char *filled(size_t n) {
  char *p = malloc(n + 1);
  assert_non_null(p);
  memset(p, 'x', n);
  p[n] = 0;
  return p;
}

static void too_large(void **state) {
  (void)state;
  struct rig *r = rig_new(DIRECT);
  char *much = filled(LIMIT_HEAD_BYTES);
  peer_say(&r->visitor, "GET / HTTP/1.1\r\n" HOST "X: ");
  peer_say(&r->visitor, much);
  rig_run(r);
  assert_non_null(strstr(peer_text(&r->visitor), "HTTP/1.1 431 "));
  assert_true(r->visitor.ended);
  rig_free(r);

  r = rig_new(DIRECT);
  peer_say(&r->visitor, "GET / HTTP/1.1\r\n" HOST);
  for (unsigned i = 0; i < LIMIT_HEAD_FIELDS; i++)
    peer_say(&r->visitor, "A: b\r\n");
  peer_say(&r->visitor, "\r\n");
  rig_run(r);
  assert_non_null(strstr(peer_text(&r->visitor), "HTTP/1.1 431 "));
  rig_free(r);

  for (enum rig_way way = DIRECT; way <= FRAMES; way++) { /* the largest head that passes */
    r = rig_new(way);
    size_t n = strlen("GET / HTTP/1.1\r\n" HOST "X: \r\n\r\n");
    much[LIMIT_HEAD_BYTES - n] = 0;
    peer_say(&r->visitor, "GET / HTTP/1.1\r\n" HOST "X: ");
    peer_say(&r->visitor, much);
    peer_say(&r->visitor, "\r\n\r\n");
    rig_run(r);
    assert_int_equal(peer_length(&r->service[0]), LIMIT_HEAD_BYTES);
    rig_free(r);
  }
  free(much);
}

static void end_inside_a_head(void **state) {
  (void)state;
  struct rig *r = rig_new(DIRECT);
  peer_finish(&r->visitor);
  rig_run(r);
  assert_true(r->visitor.ended);
  assert_int_equal(peer_length(&r->visitor), 0);
  assert_int_equal(r->records, 0);
  rig_free(r);
  r = rig_new(DIRECT);
  peer_say(&r->visitor, "GET / HT");
  peer_finish(&r->visitor);
  rig_run(r);
  assert_non_null(strstr(peer_text(&r->visitor), "HTTP/1.1 400 "));
  rig_free(r);
}

/* --- time --- */

static void slow_head(void **state) {
  (void)state;
  struct rig *r = rig_new(DIRECT); /* silent from the start */
  rig_wait(r, LIMIT_HEAD_MS - 1);
  assert_non_null(r->front);
  rig_wait(r, 1);
  assert_null(r->front);
  assert_int_equal(peer_length(&r->visitor), 0);
  rig_free(r);

  r = rig_new(DIRECT); /* drip by drip: the time counts from the connection's start */
  for (unsigned i = 0; i < 9; i++) {
    peer_say(&r->visitor, "G");
    rig_wait(r, 1000);
  }
  assert_non_null(r->front);
  rig_wait(r, LIMIT_HEAD_MS - 9000);
  assert_null(r->front);
  assert_non_null(strstr(peer_text(&r->visitor), "HTTP/1.1 408 "));
  assert_true(r->visitor.ended);
  rig_free(r);
}

/* Before the answer begins a body must come; how fast is the visitor's affair only while the service is who waits. */
static void slow_body(void **state) {
  (void)state;
  static const struct {
    const char *head;
    unsigned bytes, every_ms; /* what comes */
    bool begun, stuck;        /* the answer has; the service takes nothing */
    bool ends;
  } table[] = {
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999\r\n\r\n", 1, 1000, false, false, true},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999\r\n\r\n", 0, 1000, false, false, true},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999\r\n\r\n", 240, 1000, false, false, false},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999\r\n\r\n", 3600, 15000, false, false, false},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999\r\n\r\n", 1, 1000, true, false, false},
      {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999\r\n\r\n", 0, 1000, false, true, false},
      {"POST / HTTP/1.1\r\n" HOST "Content-Type: application/grpc+proto\r\nContent-Length: 99999\r\n\r\n", 1,
       1000, false, false, false},
      {"POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 99999\r\n\r\n", 0, 1000, false,
       false, false},
      {"GET / HTTP/1.1\r\n" HOST "Connection: upgrade\r\nUpgrade: x\r\n\r\n", 0, 1000, false, false, false},
      {GET, 0, 1000, false, false, false},
  };
  static char some[65536];
  memset(some, 'x', sizeof some);
  for (enum rig_way way = DIRECT; way <= FRAMES; way++)
    for (size_t i = 0; i < ROWS(table); i++) {
      struct rig *r = rig_new(way);
      peer_say(&r->visitor, table[i].head);
      rig_run(r);
      if (table[i].begun)
        peer_say(&r->service[0], OK "Content-Length: 5\r\n\r\n");
      r->service[0].slow = table[i].stuck;
      size_t n = 1;
      for (int k = 0; table[i].stuck && n && k < 50; k++) {
        n = stream_write(r->visitor.s, some, sizeof some);
        rig_run(r);
      }
      for (unsigned ms = 0; ms < 60000 && r->front; ms += table[i].every_ms) {
        if (table[i].bytes)
          peer_put(&r->visitor, some, table[i].bytes);
        rig_wait(r, table[i].every_ms);
      }
      if (table[i].ends != !r->front)
        fail_msg("row %zu, way %d: %s", i, way, r->front ? "lives" : peer_text(&r->visitor));
      if (table[i].ends) {
        assert_non_null(strstr(peer_text(&r->visitor), "HTTP/1.1 408 "));
        assert_non_null(strstr(peer_text(&r->visitor), "Beam-Error: BEAM-4082"));
        assert_true(r->service[0].dead);
      }
      rig_free(r);
    }
}

/* A response that nobody takes is given up in the end; one that is taken slowly is not. */
static void nobody_takes_it(void **state) {
  (void)state;
  static char block[16384];
  for (int slowly = 0; slowly < 2; slowly++) {
    struct rig *r = rig_new(DIRECT);
    int64_t stalled = metric_read(METRIC_STALLED);
    peer_say(&r->visitor, GET);
    rig_run(r);
    r->visitor.slow = true;
    peer_say(&r->service[0], OK "Content-Length: 99999999\r\n\r\n");
    for (unsigned ms = 0; ms < 2 * LIMIT_STALL_MS && r->front; ms += 60000) {
      for (size_t n = 1; n;) {
        n = stream_write(r->service[0].s, block, sizeof block);
        rig_run(r);
      }
      if (slowly) {
        peer_read(&r->visitor);
        evbuffer_drain(r->visitor.got, peer_length(&r->visitor));
      }
      rig_wait(r, 60000);
    }
    assert_int_equal(r->front != NULL, slowly);
    assert_int_equal(metric_read(METRIC_STALLED) - stalled, !slowly);
    rig_free(r);
  }
}

/* Whoever is short of memory asks who stalls, and ends it. */
static void shed(void **state) {
  (void)state;
  static char block[16384];
  struct rig *r = rig_new(FRAMES);
  assert_int_equal(front_stalled(r->front), 0);
  peer_say(&r->visitor, GET);
  rig_wait(r, 5000);
  assert_int_equal(front_stalled(r->front), 0); /* it is the service that takes its time */
  r->visitor.slow = true;
  peer_say(&r->service[0], OK "Content-Length: 99999999\r\n\r\n");
  for (size_t n = 1; n;) {
    n = stream_write(r->service[0].s, block, sizeof block);
    rig_run(r);
  }
  rig_wait(r, 1500);
  assert_true(front_stalled(r->front) >= 1500 && front_stalled(r->front) < 2000);
  peer_read(&r->visitor);
  rig_run(r);
  assert_true(front_stalled(r->front) < 100);
  rig_wait(r, 2000);
  front_shed(r->front);
  assert_int_equal(front_stalled(r->front), 0); /* once */
  rig_run(r);
  assert_null(r->front);
  assert_true(r->visitor.dead);
  assert_true(r->service[0].dead);
  rig_free(r);
}

static void keep_alive_time(void **state) {
  (void)state;
  struct rig *r = rig_new(DIRECT);
  rig_wait(r, LIMIT_HEAD_MS - 1);
  peer_say(&r->visitor, GET);
  rig_wait(r, 20000);
  assert_non_null(r->front); /* no timer while the service thinks */
  peer_say(&r->service[0], OK1);
  rig_run(r);
  assert_int_equal(r->last.total_ms, 20000);
  rig_wait(r, LIMIT_KEEPALIVE_MS - 1);
  assert_non_null(r->front);
  peer_say(&r->visitor, "G");
  rig_wait(r, LIMIT_HEAD_MS - 1); /* from the first byte of the next head */
  assert_non_null(r->front);
  rig_wait(r, 1);
  assert_null(r->front);
  rig_free(r);

  r = rig_new(DIRECT);
  peer_say(&r->visitor, GET);
  rig_run(r);
  peer_say(&r->service[0], OK1);
  rig_run(r);
  rig_wait(r, LIMIT_KEEPALIVE_MS);
  assert_null(r->front);
  assert_true(r->visitor.ended);
  assert_string_equal(peer_text(&r->visitor), OK1);
  rig_free(r);
}

/* --- several on one connection --- */

static void pipelined(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct rig *r = rig_new(way);
    peer_say(&r->visitor, "GET /1 HTTP/1.1\r\n" HOST "\r\nPOST /2 HTTP/1.1\r\n" HOST
                          "Content-Length: 2\r\n\r\nhiGET /3 HTTP/1.1\r\n" HOST "\r\n");
    rig_run(r);
    assert_string_equal(peer_since(&r->service[0]), "GET /1 HTTP/1.1\r\n" HOST "\r\n");
    peer_say(&r->service[0], OK1);
    rig_run(r);
    assert_string_equal(peer_since(&r->service[0]),
                        "POST /2 HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi");
    peer_say(&r->service[0], OK "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    rig_run(r);
    assert_string_equal(peer_since(&r->service[0]), "GET /3 HTTP/1.1\r\n" HOST "\r\n");
    peer_say(&r->service[0], OK1);
    rig_run(r);
    assert_string_equal(peer_text(&r->visitor), OK1 OK "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" OK1);
    assert_int_equal(r->dials, 1); /* the service's connection was kept */
    assert_int_equal(r->records, 3);
    assert_non_null(r->front);
    rig_free(r);
  }
}

static void a_thousand_pages(void **state) {
  (void)state;
  struct rig *r = rig_new(DIRECT);
  r->answer_with = PAGE_NO_TUNNEL;
  for (unsigned i = 0; i < 1000; i++)
    peer_say(&r->visitor, GET);
  for (unsigned i = 0; i < 100 && r->records < 1000; i++) {
    rig_run(r);
    evbuffer_drain(r->visitor.got, peer_length(&r->visitor));
  }
  assert_int_equal(r->records, 1000);
  assert_non_null(r->front);
  rig_free(r);
}

/* --- half-close --- */

static void reply_after_half_close(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct rig *r = rig_new(way);
    peer_say(&r->visitor, "POST / HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi");
    peer_finish(&r->visitor);
    rig_run(r);
    assert_non_null(strstr(peer_text(&r->service[0]), "\r\n\r\nhi"));
    rig_wait(r, 3000);
    peer_say(&r->service[0], OK1);
    rig_run(r);
    assert_string_equal(peer_text(&r->visitor), OK1);
    assert_true(r->visitor.ended);
    assert_null(r->front);
    rig_free(r);
  }
}

static void half_close_inside_a_body(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct rig *r = rig_new(way);
    peer_say(&r->visitor, "POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nhi");
    rig_run(r);
    peer_finish(&r->visitor);
    rig_run(r);
    assert_non_null(strstr(peer_text(&r->visitor), "Beam-Error: BEAM-4003"));
    assert_true(r->visitor.ended);
    assert_true(r->service[0].dead); /* it must not take the half for the whole */
    rig_free(r);
  }
}

/* --- upgrade --- */

#define WS                                                                                                   \
  "GET /ws HTTP/1.1\r\n" HOST                                                                                \
  "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n"
#define SWITCH "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"

static void upgraded(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++)
    for (int visitor_first = 0; visitor_first < 2; visitor_first++) {
      struct rig *r = rig_new(way);
      peer_say(&r->visitor, WS "early");
      rig_run(r);
      assert_string_equal(peer_since(&r->service[0]),
                          "GET /ws HTTP/1.1\r\n" HOST "Upgrade: websocket\r\nSec-WebSocket-Key: a\r\n"
                          "Connection: upgrade\r\n\r\n");
      peer_say(&r->service[0],
               "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello");
      rig_run(r);
      assert_string_equal(peer_since(&r->visitor), SWITCH "hello");
      assert_string_equal(peer_since(&r->service[0]), "early");
      peer_say(&r->visitor, "ping");
      peer_say(&r->service[0], "pong");
      rig_run(r);
      assert_string_equal(peer_since(&r->visitor), "pong");
      assert_string_equal(peer_since(&r->service[0]), "ping");
      struct peer *first = visitor_first ? &r->visitor : &r->service[0];
      struct peer *second = visitor_first ? &r->service[0] : &r->visitor;
      peer_finish(first);
      rig_run(r);
      assert_true(second->ended);
      assert_non_null(r->front);
      peer_say(second, "last words");
      peer_finish(second);
      rig_run(r);
      assert_string_equal(peer_since(first), "last words");
      assert_true(first->ended);
      assert_null(r->front);
      assert_int_equal(r->last.failed, 0);
      rig_free(r);
    }
}

static void upgraded_and_reset(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++)
    for (int visitor = 0; visitor < 2; visitor++) {
      struct rig *r = rig_new(way);
      peer_say(&r->visitor, WS);
      rig_run(r);
      peer_say(&r->service[0], SWITCH);
      rig_run(r);
      peer_reset(visitor ? &r->visitor : &r->service[0]);
      rig_run(r);
      assert_true(visitor ? r->service[0].dead : r->visitor.dead);
      assert_null(r->front);
      rig_free(r);
    }
}

/* The service says it is done, then that it does not listen either. */
static void upgraded_half_closed_and_reset(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct rig *r = rig_new(way);
    peer_say(&r->visitor, WS);
    rig_run(r);
    peer_say(&r->service[0], SWITCH);
    peer_finish(&r->service[0]);
    rig_run(r);
    assert_true(r->visitor.ended);
    peer_say(&r->visitor, "more");
    rig_run(r);
    assert_string_equal(strstr(peer_text(&r->service[0]), "\r\n\r\n"), "\r\n\r\nmore");
    peer_reset(&r->service[0]);
    rig_run(r);
    assert_null(r->front); /* it got its whole half; what it says is no longer wanted */
    assert_int_equal(r->gone, way == FRAMES);
    rig_free(r);
  }
}

static void unasked_upgrade(void **state) {
  (void)state;
  struct rig *r = rig_new(FRAMES);
  peer_say(&r->visitor, GET);
  rig_run(r);
  peer_say(&r->service[0], SWITCH);
  rig_run(r);
  assert_non_null(strstr(peer_text(&r->visitor), "Beam-Error: BEAM-5023"));
  rig_free(r);
}

/* --- Expect --- */

static void continued(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct rig *r = rig_new(way);
    peer_say(&r->visitor,
             "PUT / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    rig_run(r);
    assert_non_null(strstr(peer_since(&r->service[0]), "Expect: 100-continue\r\n"));
    assert_int_equal(peer_length(&r->visitor), 0); /* it is the service that decides */
    peer_say(&r->service[0], "HTTP/1.1 100 Continue\r\n\r\n");
    rig_run(r);
    assert_string_equal(peer_since(&r->visitor), "HTTP/1.1 100 Continue\r\n\r\n");
    peer_say(&r->visitor, "2\r\nhi\r\n0\r\n\r\n");
    rig_run(r);
    assert_string_equal(peer_since(&r->service[0]), "2\r\nhi\r\n0\r\n\r\n");
    peer_say(&r->service[0], OK1);
    rig_run(r);
    assert_string_equal(peer_since(&r->visitor), OK1);
    assert_non_null(r->front);
    rig_free(r);
  }
}

/* --- both directions at once --- */

static void echo_while_uploading(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct rig *r = rig_new(way);
    peer_say(&r->visitor, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    rig_run(r);
    peer_since(&r->service[0]);
    peer_say(&r->service[0], OK "Transfer-Encoding: chunked\r\n\r\n");
    rig_run(r);
    assert_string_equal(peer_since(&r->visitor),
                        OK "Transfer-Encoding: chunked\r\n\r\n"); /* the head waits for nothing */
    for (unsigned i = 0; i < 3; i++) {
      peer_say(&r->visitor, "1\r\nq\r\n");
      rig_run(r);
      assert_string_equal(peer_since(&r->service[0]), "1\r\nq\r\n");
      peer_say(&r->service[0], "1\r\na\r\n");
      rig_run(r);
      assert_string_equal(peer_since(&r->visitor), "1\r\na\r\n");
    }
    peer_say(&r->service[0], "0\r\n\r\n"); /* the answer ends before the question */
    rig_run(r);
    assert_string_equal(peer_since(&r->visitor), "0\r\n\r\n");
    assert_null(r->front);
    assert_true(r->service[0].dead);
    rig_free(r);
  }
}

static void bad_chunks(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct rig *r = rig_new(way);
    peer_say(&r->visitor, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n");
    rig_run(r);
    assert_non_null(strstr(peer_text(&r->visitor), "Beam-Error: BEAM-4003"));
    assert_true(r->visitor.ended);
    assert_true(r->service[0].dead || !r->dials);
    rig_free(r);
  }
}

/* --- bodies larger than any buffer, and who does not read --- */

static void large(struct rig *r, struct peer *from, struct peer *to, size_t total) {
  static char block[16384];
  size_t sent = 0, got = 0;
  memset(block, 'b', sizeof block);
  while (sent < total || got < total) {
    size_t n = sent < total
                   ? stream_write(from->s, block, total - sent < sizeof block ? total - sent : sizeof block)
                   : 0;
    sent += n;
    rig_run(r);
    got += peer_length(to);
    evbuffer_drain(to->got, peer_length(to));
  }
  assert_int_equal(got, total);
}

static void large_bodies(void **state) {
  (void)state;
  enum { TOTAL = 20 * 1024 * 1024 };
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    char head[128];
    struct rig *r = rig_new(way);
    str_fmt(head, sizeof head, "POST / HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n", TOTAL);
    peer_say(&r->visitor, head);
    rig_run(r);
    peer_since(&r->service[0]);
    large(r, &r->visitor, &r->service[0], TOTAL);
    str_fmt(head, sizeof head, OK "Content-Length: %d\r\n\r\n", TOTAL);
    peer_say(&r->service[0], head);
    rig_run(r);
    peer_since(&r->visitor);
    large(r, &r->service[0], &r->visitor, TOTAL);
    assert_int_equal(r->last.body_in, TOTAL);
    assert_int_equal(r->last.body_out, TOTAL);
    assert_non_null(r->front);
    rig_free(r);
  }
}

/* The service can push no more than the ceilings of the streams in between; nothing else grows. */
static void visitor_does_not_read(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++)
    for (int chunked = 0; chunked < 2; chunked++) {
      static char block[16384];
      struct rig *r = rig_new(way);
      peer_say(&r->visitor, GET);
      rig_run(r);
      r->visitor.slow = true;
      peer_say(&r->service[0], chunked ? OK "Transfer-Encoding: chunked\r\n\r\n1000000\r\n"
                                       : OK "Content-Length: 16777216\r\n\r\n");
      size_t sent = 0, n;
      do {
        rig_run(r);
        sent += n = stream_write(r->service[0].s, block, sizeof block);
      } while (n);
      assert_true(sent <= (way == FRAMES ? 3 : 2) * LIMIT_MEM_PIPE + 65536);
      r->visitor.slow = false;
      peer_read(&r->visitor);
      while (sent < 16777216) {
        rig_run(r);
        evbuffer_drain(r->visitor.got, peer_length(&r->visitor));
        n = 16777216 - sent < sizeof block ? 16777216 - sent : sizeof block;
        sent += stream_write(r->service[0].s, block, n);
      }
      rig_run(r);
      if (chunked)
        peer_say(&r->service[0], "\r\n0\r\n\r\n");
      rig_run(r);
      assert_int_equal(r->records, 1);
      assert_int_equal(r->last.body_out, 16777216);
      rig_free(r);
    }
}

/* --- drain, abort, handlers that do nothing --- */

static void drained(void **state) {
  (void)state;
  struct rig *r = rig_new(DIRECT);
  front_drain(r->front);
  rig_run(r);
  assert_null(r->front);
  assert_true(r->visitor.ended);
  rig_free(r);
  r = rig_new(DIRECT);
  peer_say(&r->visitor, GET);
  rig_run(r);
  front_drain(r->front);
  rig_run(r);
  assert_non_null(r->front);
  peer_say(&r->service[0], OK1);
  rig_run(r);
  assert_string_equal(peer_text(&r->visitor), OK "Content-Length: 1\r\nConnection: close\r\n\r\na");
  assert_null(r->front);
  rig_free(r);
}

/* The last request is the one under way, else the next; an idle connection waits for it. */
static void last_request(void **state) {
  (void)state;
  for (int busy = 0; busy < 2; busy++) {
    struct rig *r = rig_new(DIRECT);
    if (busy)
      peer_say(&r->visitor, GET);
    rig_run(r);
    assert_int_equal(front_busy(r->front), busy);
    front_last(r->front);
    rig_run(r);
    assert_non_null(r->front);
    if (!busy)
      peer_say(&r->visitor, GET);
    rig_run(r);
    peer_say(&r->service[0], OK1);
    rig_run(r);
    assert_string_equal(peer_text(&r->visitor), OK "Content-Length: 1\r\nConnection: close\r\n\r\na");
    assert_null(r->front);
    rig_free(r);
  }
}

static void handler_fails(void **state) {
  (void)state;
  struct rig *r = rig_new(DIRECT);
  r->ignore = true;
  peer_say(&r->visitor, GET);
  rig_run(r);
  assert_non_null(strstr(peer_text(&r->visitor), "Beam-Error: BEAM-5001"));
  assert_non_null(r->front); /* the next may do better */
  rig_free(r);
}

static void page_for_an_upload(void **state) {
  (void)state;
  for (enum rig_way way = DIRECT; way <= FRAMES; way++) {
    struct rig *r = rig_new(way);
    r->answer_with = PAGE_NO_TUNNEL;
    peer_say(&r->visitor, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\nabc");
    rig_run(r);
    assert_non_null(strstr(peer_text(&r->visitor), "HTTP/1.1 404 "));
    assert_non_null(strstr(peer_text(&r->visitor), "</html>"));
    assert_true(r->visitor.ended);
    assert_int_equal(r->gone, way == FRAMES);
    rig_free(r);
  }
}

static void record(void **state) {
  (void)state;
  struct rig *r = rig_new(DIRECT);
  peer_say(&r->visitor, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc");
  rig_wait(r, 30);
  peer_say(&r->service[0], "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n");
  rig_wait(r, 12);
  assert_int_equal(r->records, 0);
  peer_say(&r->service[0], "ab");
  rig_run(r);
  assert_int_equal(r->records, 1);
  assert_string_equal(r->last_method, "POST");
  assert_int_equal(r->last.status, 201);
  assert_int_equal(r->last.ttfb_ms, 30);
  assert_int_equal(r->last.total_ms, 42);
  assert_int_equal(r->last.body_in, 3);
  assert_int_equal(r->last.body_out, 2);
  rig_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(malformed),
      cmocka_unit_test(too_large),
      cmocka_unit_test(end_inside_a_head),
      cmocka_unit_test(slow_head),
      cmocka_unit_test(slow_body),
      cmocka_unit_test(nobody_takes_it),
      cmocka_unit_test(shed),
      cmocka_unit_test(keep_alive_time),
      cmocka_unit_test(pipelined),
      cmocka_unit_test(a_thousand_pages),
      cmocka_unit_test(reply_after_half_close),
      cmocka_unit_test(half_close_inside_a_body),
      cmocka_unit_test(upgraded),
      cmocka_unit_test(upgraded_and_reset),
      cmocka_unit_test(upgraded_half_closed_and_reset),
      cmocka_unit_test(unasked_upgrade),
      cmocka_unit_test(continued),
      cmocka_unit_test(echo_while_uploading),
      cmocka_unit_test(bad_chunks),
      cmocka_unit_test(large_bodies),
      cmocka_unit_test(visitor_does_not_read),
      cmocka_unit_test(drained),
      cmocka_unit_test(last_request),
      cmocka_unit_test(handler_fails),
      cmocka_unit_test(page_for_an_upload),
      cmocka_unit_test(record),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
