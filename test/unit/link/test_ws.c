/* A stream through WebSocket: the contract of streams, the upgrade, and what a peer may do wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/limits.h"
#include "base/str.h"
#include "io/mem.h"
#include "io/net.h"
#include "link/ws.h"
#include "wire/ws.h"

#include "../stream_contract.h"

static int make_mem(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  (void)extra;
  struct stream *low[2];
  return mem_pair(l, &low[0], &low[1]) || ws_stream(low[0], WS_CLIENT, a) || ws_stream(low[1], WS_SERVER, b);
}

static int make_server_first(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  return make_mem(l, b, a, extra);
}

static void on_accept(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  (void)peer;
  *(struct stream **)user = s;
}

static void on_dial(void *user, struct stream *s, int err) {
  assert_int_equal(err, 0);
  *(struct stream **)user = s;
}

static int make_tcp(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  (void)extra;
  struct listener *ls;
  struct dial *d;
  struct stream *low[2] = {0};
  if (net_listen(&net_sockets, l, "127.0.0.1", 0, NULL, on_accept, &low[1], &ls) ||
      net_dial(&net_sockets, l, "127.0.0.1", net_listener_port(&net_sockets, ls), 5000, on_dial, &low[0], &d))
    return BEAM_ERR_SYSTEM;
  while (!low[0] || !low[1])
    loop_turn(l, 1000);
  net_listener_close(&net_sockets, ls);
  return ws_stream(low[0], WS_CLIENT, a) || ws_stream(low[1], WS_SERVER, b);
}

/* --- one end of ours, and a peer that is a script --- */

struct script {
  struct loop *l;
  struct stream *wire;     /* the peer's end, bare */
  struct contract_end end; /* ours */
};

static void wire_readable(void *user) {
  (void)user;
}
static void wire_closed(void *user, int reason) {
  *(int *)user = reason;
}
static int wire_reason;
static const struct stream_events wire_events = {wire_readable, NULL, wire_closed};

static void script_open(struct script *s, enum ws_role role) {
  struct stream *low, *ours;
  memset(s, 0, sizeof *s);
  wire_reason = 0;
  assert_int_equal(loop_new_virtual(&s->l), 0);
  assert_int_equal(mem_pair(s->l, &low, &s->wire), 0);
  assert_int_equal(ws_stream(low, role, &ours), 0);
  stream_own(s->wire, &wire_events, &wire_reason);
  s->end.s = ours;
  s->end.take = true;
  assert_non_null(s->end.got = evbuffer_new());
  stream_own(ours, &contract_events, &s->end);
}

static void script_close(struct script *s) {
  if (s->end.s)
    contract_close(&s->end, BEAM_ERR_CLOSED);
  loop_run_for(s->l, 10);
  if (s->wire)
    stream_close(s->wire, BEAM_ERR_CLOSED);
  loop_run_for(s->l, 10);
  evbuffer_free(s->end.got);
  loop_free(s->l);
}

static void say(struct script *s, const char *hex) {
  uint8_t bytes[512];
  size_t n = strlen(hex) / 2;
  assert_true(hex_decode(bytes, n, span_of(hex)));
  assert_int_equal(stream_write(s->wire, bytes, n), n);
  loop_run_for(s->l, 1);
}

/* What came over the wire, as hex. */
static const char *heard(struct script *s) {
  static char text[1024];
  uint8_t bytes[500];
  loop_run_for(s->l, 1);
  size_t n = stream_waiting(s->wire);
  assert_true(n < sizeof bytes);
  evbuffer_copyout(stream_input(s->wire), bytes, n);
  stream_consume(s->wire, n);
  hex_encode(text, bytes, n);
  return text;
}

static void test_frames_on_the_wire(void **state) {
  (void)state;
  struct script s;
  script_open(&s, WS_CLIENT);
  say(&s, "8205");
  assert_int_equal(s.end.readable, 0); /* a header is no news */
  say(&s, "48656c6c6f02016189000001628000");
  assert_int_equal(evbuffer_get_length(s.end.got), 6 + 1);
  assert_memory_equal(evbuffer_pullup(s.end.got, 7), "Helloab", 7);
  /* the pong and what we write are masked, with a new mask each */
  const char *pong = heard(&s);
  assert_memory_equal(pong, "8a80", 4);
  assert_int_equal(strlen(pong), 2 * 6);
  char first[64];
  assert_int_equal(stream_write(s.end.s, "hi", 2), 2);
  snprintf(first, sizeof first, "%s", heard(&s));
  assert_memory_equal(first, "8282", 4);
  assert_int_equal(strlen(first), 2 * 8);
  assert_int_equal(stream_write(s.end.s, "hi", 2), 2);
  assert_string_not_equal(first, heard(&s));
  script_close(&s);
  script_open(&s, WS_SERVER);
  assert_int_equal(stream_write(s.end.s, "hi", 2), 2);
  assert_string_equal(heard(&s), "82026869");
  say(&s, "828537fa213d7f9f4d5158");
  assert_memory_equal(evbuffer_pullup(s.end.got, 5), "Hello", 5);
  say(&s, "8983010203047070707a");
  script_close(&s);
}

/* Each ends in a close frame with its code, and the stream is dead with PROTOCOL. */
static void test_faults(void **state) {
  (void)state;
  static const struct {
    const char *hex, *code;
    enum ws_role role;
  } cases[] = {
      {"820161", "880203ea", WS_SERVER},                       /* not masked */
      {"818001020304", "880203eb", WS_SERVER},                 /* text */
      {"c28001020304", "880203ea", WS_SERVER},                 /* reserved bit */
      {"808001020304", "880203ea", WS_SERVER},                 /* continues nothing */
      {"898901020304", "", WS_SERVER},                         /* not whole: no fault yet */
      {"89fe00800102030400", "880203ea", WS_SERVER},           /* long ping */
      {"888101020304ff", "880203ea", WS_SERVER},               /* close code of one byte */
      {"8882010203040203", "880203ea", WS_SERVER},             /* 0x0301: no code */
      {"82ff000000000010000101020304", "880203f1", WS_SERVER}, /* 1 MiB and a byte */
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct script s;
    script_open(&s, cases[i].role);
    say(&s, cases[i].hex);
    assert_string_equal(heard(&s), cases[i].code);
    assert_int_equal(s.end.reason, cases[i].code[0] ? BEAM_ERR_PROTOCOL : 0);
    assert_int_equal(s.wire->in_ended, cases[i].code[0] != 0);
    script_close(&s);
  }
}

static void test_an_end_without_close_is_a_truncation(void **state) {
  (void)state;
  for (int what = 0; what < 4; what++) {
    struct script s;
    script_open(&s, WS_CLIENT);
    if (what == 1)
      say(&s, "82"); /* within a header */
    if (what == 2)
      say(&s, "820561"); /* within a payload */
    if (what == 3)
      say(&s, "020161"); /* within a message */
    stream_finish(s.wire);
    loop_run_for(s.l, 1);
    assert_int_equal(s.end.reason, BEAM_ERR_TRUNCATED);
    assert_int_equal(evbuffer_get_length(s.end.got), what < 2 ? 0 : 1);
    script_close(&s);
  }
}

static void test_close_frames(void **state) {
  (void)state;
  struct script s;
  /* the peer first: we still may talk, then say ours, then the connection ends */
  script_open(&s, WS_SERVER);
  say(&s, "88800102030482800102030482");
  assert_true(stream_at_end(s.end.s)); /* what comes after a close means nothing */
  assert_int_equal(stream_write(s.end.s, "x", 1), 1);
  assert_string_equal(heard(&s), "820178");
  assert_false(s.wire->in_ended);
  stream_finish(s.end.s);
  assert_string_equal(heard(&s), "880203e8");
  assert_true(s.wire->in_ended);
  assert_int_equal(s.end.closed, 0);
  script_close(&s);
  /* we first: what comes until the peer's close is ours */
  script_open(&s, WS_SERVER);
  stream_finish(s.end.s);
  assert_string_equal(heard(&s), "880203e8");
  assert_false(s.wire->in_ended);
  say(&s, "898001020304"); /* no pong after our close */
  say(&s, "8281000000007a");
  assert_string_equal(heard(&s), "");
  assert_int_equal(evbuffer_get_length(s.end.got), 1);
  say(&s, "888000000000");
  assert_true(stream_at_end(s.end.s));
  assert_true(s.wire->in_ended);
  script_close(&s);
}

/* A peer that pings without reading the answers costs one pong. */
static void test_ping_flood(void **state) {
  (void)state;
  struct script s;
  script_open(&s, WS_SERVER);
  for (int i = 0; i < 200000; i++) {
    uint8_t ping[] = {0x89, 0x82, 0, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i};
    if (stream_write(s.wire, ping, sizeof ping) < sizeof ping)
      break; /* it does not read on for ever, either: what it holds is bounded */
    if (i % 64 == 0)
      loop_run_for(s.l, 1);
  }
  loop_run_for(s.l, 10);
  assert_true(stream_waiting(s.wire) <= LIMIT_MEM_PIPE);
  stream_consume(s.wire, stream_waiting(s.wire));
  loop_run_for(s.l, 10);
  assert_true(stream_waiting(s.wire) <= 4096);
  assert_int_equal(s.end.closed, 0);
  script_close(&s);
}

/* --- the upgrade --- */

struct asked {
  int done, err;
  unsigned status;
  struct stream *s;
};

static void on_upgraded(void *user, int err, struct stream *s, unsigned status) {
  struct asked *a = user;
  a->done++;
  a->err = err;
  a->status = status;
  a->s = s;
  if (s)
    stream_own(s, NULL, NULL);
}

/* The request's key, answered. */
static void grant(struct script *s, char *out, size_t cap, const char *rest) {
  char text[2048], key[WS_KEY_SIZE] = "", accept[WS_ACCEPT_SIZE];
  size_t n = stream_waiting(s->wire);
  assert_in_range(n, 1, sizeof text - 1);
  evbuffer_copyout(stream_input(s->wire), text, n);
  text[n] = 0;
  stream_consume(s->wire, n);
  assert_memory_equal(text, "GET /_beam/link HTTP/1.1\r\nHost: relay.test:8443\r\n", 49);
  assert_non_null(strstr(text, "\r\nSec-WebSocket-Protocol: beam.1\r\n"));
  const char *at = strstr(text, "Sec-WebSocket-Key: ");
  assert_non_null(at);
  memcpy(key, at + 19, 24);
  ws_accept_make(accept, key);
  assert_true(str_fmt(out, cap,
                      "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                      "Sec-WebSocket-Protocol: beam.1\r\nSec-WebSocket-Accept: %s\r\n\r\n%s",
                      accept, rest));
}

static void ask(struct script *s, struct asked *a, struct ws_upgrade **u) {
  struct stream *low;
  memset(s, 0, sizeof *s);
  memset(a, 0, sizeof *a);
  assert_int_equal(loop_new_virtual(&s->l), 0);
  assert_int_equal(mem_pair(s->l, &low, &s->wire), 0);
  stream_own(s->wire, &wire_events, &wire_reason);
  assert_int_equal(ws_connect(low, "relay.test:8443", on_upgraded, a, u), 0);
  assert_int_equal(a->done, 0);
  loop_run_for(s->l, 1);
}

static void answered(struct script *s) {
  stream_close(s->wire, BEAM_ERR_CLOSED);
  loop_run_for(s->l, 10);
  loop_free(s->l);
}

static void test_upgrade(void **state) {
  (void)state;
  char text[512];
  struct script s;
  struct asked a;
  struct ws_upgrade *u;
  size_t n = sizeof text; /* the answer in every pair of pieces, with a frame in the same packet */
  for (size_t cut = 0; cut <= n; cut++) {
    ask(&s, &a, &u);
    grant(&s, text, sizeof text, "\x82\x02hi");
    n = strlen(text);
    assert_int_equal(stream_write(s.wire, text, cut), cut);
    loop_run_for(s.l, 1);
    assert_int_equal(a.done, cut >= n - 4);
    assert_int_equal(stream_write(s.wire, text + cut, n - cut), n - cut);
    loop_run_for(s.l, 1);
    assert_int_equal(a.done, 1);
    assert_int_equal(a.err, 0);
    assert_int_equal(stream_waiting(a.s), 2);
    stream_close(a.s, BEAM_ERR_CLOSED);
    answered(&s);
  }
}

static void test_upgrade_refused(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int err;
    unsigned status;
  } cases[] = {
      {"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", BEAM_ERR_REFUSED, 404},
      {"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 502 Bad Gateway\r\n\r\n", BEAM_ERR_REFUSED, 502},
      {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: "
       "websocket\r\nSec-WebSocket-Protocol: beam.1\r\n"
       "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
       BEAM_ERR_PROTOCOL, 101},
      {"SSH-2.0-OpenSSH_9.2\r\n\r\n", BEAM_ERR_PROTOCOL, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct script s;
    struct asked a;
    struct ws_upgrade *u;
    ask(&s, &a, &u);
    assert_int_equal(stream_write(s.wire, cases[i].text, strlen(cases[i].text)), strlen(cases[i].text));
    loop_run_for(s.l, 1);
    assert_int_equal(a.done, 1);
    assert_int_equal(a.err, cases[i].err);
    assert_int_equal(a.status, cases[i].status);
    assert_null(a.s);
    answered(&s);
  }
}

static void test_upgrade_ends(void **state) {
  (void)state;
  for (int what = 0; what < 5; what++) {
    struct script s;
    struct asked a;
    struct ws_upgrade *u;
    char *big;
    ask(&s, &a, &u);
    switch (what) {
    case 0:
      stream_finish(s.wire);
      loop_run_for(s.l, 1);
      assert_int_equal(a.err, BEAM_ERR_TRUNCATED);
      break;
    case 1: /* nothing comes */
      loop_run_for(s.l, LIMIT_HANDSHAKE_MS - 2);
      assert_int_equal(a.done, 0);
      loop_run_for(s.l, 2);
      assert_int_equal(a.err, BEAM_ERR_TIMEOUT);
      break;
    case 2:
      stream_close(s.wire, BEAM_ERR_RESET);
      s.wire = NULL;
      loop_run_for(s.l, 1);
      assert_int_equal(a.err, BEAM_ERR_RESET);
      break;
    case 3: /* a head without an end */
      big = malloc(LIMIT_HEAD_BYTES + 1);
      memset(big, 'x', LIMIT_HEAD_BYTES + 1);
      assert_int_equal(stream_write(s.wire, big, LIMIT_HEAD_BYTES + 1), LIMIT_HEAD_BYTES + 1);
      free(big);
      loop_run_for(s.l, 1);
      assert_int_equal(a.err, BEAM_ERR_TOO_LARGE);
      break;
    default:
      ws_cancel(u);
      loop_run_for(s.l, 1);
      assert_int_equal(a.done, 0);
      assert_int_equal(wire_reason, BEAM_ERR_RESET);
    }
    assert_int_equal(a.done, what < 4);
    if (s.wire)
      stream_close(s.wire, BEAM_ERR_CLOSED);
    loop_run_for(s.l, 10);
    loop_free(s.l);
  }
}

int main(void) {
  /* a window in memory, and what each end holds of its own */
  const size_t holds = LIMIT_MEM_PIPE + LIMIT_WS_IN + 2 * LIMIT_SOCK_OUT;
  const struct contract_kind kinds[] = {
      {.name = "ws", .virtual_clock = true, .holds = holds, .make = make_mem},
      {.name = "ws, from the server", .virtual_clock = true, .holds = holds, .make = make_server_first},
      {.name = "ws over tcp", .make = make_tcp},
  };
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_frames_on_the_wire),
      cmocka_unit_test(test_faults),
      cmocka_unit_test(test_an_end_without_close_is_a_truncation),
      cmocka_unit_test(test_close_frames),
      cmocka_unit_test(test_ping_flood),
      cmocka_unit_test(test_upgrade),
      cmocka_unit_test(test_upgrade_refused),
      cmocka_unit_test(test_upgrade_ends),
  };
  int failed = 0;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    failed += contract_run(&kinds[i]);
  return failed + cmocka_run_group_tests_name("ws by hand", tests, NULL, NULL);
}
