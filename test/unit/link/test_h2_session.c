/* An agent, or a relay, whose other side is not Beam: frames made by hand. */
#include "contract.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "io/mem.h"
#include "link/h2.h"

enum {
  DATA = 0,
  HEADERS = 1,
  RST = 3,
  SETTINGS = 4,
  PUSH = 5,
  PING = 6,
  GOAWAY = 7,
  WINDOW = 8,
  CONTINUATION = 9
};
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

/* One end is the link under test, the other a stream that this file writes to. */
struct rig {
  struct loop *l;
  struct side side;
  struct tap *peer;
};

static void on_ready(void *user) {
  ((struct side *)user)->ready++;
}

enum { KEEP = 1 }; /* side.refuse: own the stream and read nothing */
static struct tap *kept[LIMIT_LINK_STREAMS + 1];
static unsigned kept_n;

static void on_stream(void *user, struct stream *s) {
  struct side *side = user;
  side->streams++;
  if (side->refuse != KEEP) {
    stream_close(s, side->refuse);
    return;
  }
  assert_true(kept_n <= LIMIT_LINK_STREAMS);
  kept[kept_n++] = tap_new(s, false);
}
static void on_control(void *user, const beam_Control *m) {
  (void)m;
  ((struct side *)user)->controls++;
}
static void on_closed(void *user, int reason) {
  struct side *side = user;
  side->closed++;
  side->reason = reason;
}
static void on_draining(void *user) {
  ((struct side *)user)->draining++;
}
static const struct link_events events = {on_ready, on_stream, on_control, on_closed, on_draining};

static void rig_make(struct rig *g, enum link_role role) {
  static const uint8_t exporter[32];
  struct stream *a, *b;
  memset(g, 0, sizeof *g);
  assert_int_equal(loop_new_virtual(&g->l), 0);
  assert_int_equal(mem_pair(g->l, &a, &b), 0);
  assert_int_equal(link_h2_new(a, role, exporter, &g->side.k), 0);
  link_own(g->side.k, &events, &g->side);
  g->peer = tap_new(b, true);
  loop_run_for(g->l, 0);
}

static void rig_free(struct rig *g) {
  while (kept_n)
    tap_free(kept[--kept_n], 0);
  if (g->side.k)
    link_close(g->side.k, g->side.reason);
  loop_run_for(g->l, 0);
  tap_free(g->peer, 0);
  loop_run_for(g->l, H2_CLOSE_MS + 1);
  loop_free(g->l);
}

static void put(struct rig *g, const void *p, size_t n) {
  assert_int_equal(stream_write(g->peer->s, p, n), n);
}

static void frame(struct rig *g, unsigned type, unsigned flags, uint32_t id, const void *p, size_t n) {
  uint8_t h[9] = {(uint8_t)(n >> 16),  (uint8_t)(n >> 8),   (uint8_t)n,         (uint8_t)type, (uint8_t)flags,
                  (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
  put(g, h, sizeof h);
  if (n)
    put(g, p, n);
}

static void u32(struct rig *g, unsigned type, uint32_t id, uint32_t v) {
  uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
  frame(g, type, 0, id, b, 4);
}

/* HPACK, literals without indexing and without Huffman. */
static size_t field(uint8_t *p, const char *name, const char *value) {
  size_t n = strlen(name), v = strlen(value), at = 0;
  p[at++] = 0;
  p[at++] = (uint8_t)n;
  memcpy(p + at, name, n);
  at += n;
  p[at++] = (uint8_t)v;
  memcpy(p + at, value, v);
  return at + v;
}

static void connect_to(struct rig *g, uint32_t id, const char *protocol, unsigned flags) {
  uint8_t b[256];
  size_t n = field(b, ":method", "CONNECT");
  if (protocol)
    n += field(b + n, ":protocol", protocol);
  n += field(b + n, ":scheme", "https");
  n += field(b + n, ":authority", "beam");
  n += field(b + n, ":path", "/");
  frame(g, HEADERS, END_HEADERS | flags, id, b, n);
}

static void preface(struct rig *g) {
  put(g, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
  frame(g, SETTINGS, 0, 0, NULL, 0);
  frame(g, SETTINGS, ACK, 0, NULL, 0);
}

/* What a relay sends until the agent is ready. */
static void greet(struct rig *g) {
  preface(g);
  connect_to(g, 1, "beam-control", 0);
  loop_run_for(g->l, 0);
  assert_int_equal(g->side.ready, 1);
  assert_int_equal(g->side.closed, 0);
  evbuffer_drain(g->peer->got, evbuffer_get_length(g->peer->got));
}

/* The error code in the last frame of that type which the link sent, or -1. */
static int64_t code_sent(struct rig *g, unsigned type, uint32_t id) {
  const uint8_t *p = evbuffer_pullup(g->peer->got, -1);
  size_t n = evbuffer_get_length(g->peer->got);
  int64_t code = -1;
  for (size_t at = 0; at + 9 <= n;) {
    size_t len = (size_t)p[at] << 16 | (size_t)p[at + 1] << 8 | p[at + 2];
    uint32_t of =
        (uint32_t)p[at + 5] << 24 | (uint32_t)p[at + 6] << 16 | (uint32_t)p[at + 7] << 8 | p[at + 8];
    size_t off = type == GOAWAY ? 4 : 0;
    if (p[at + 3] == type && of == id && at + 9 + off + 4 <= n) {
      const uint8_t *c = p + at + 9 + off;
      code = (int64_t)((uint32_t)c[0] << 24 | (uint32_t)c[1] << 16 | (uint32_t)c[2] << 8 | c[3]);
    }
    at += 9 + len;
  }
  return code;
}

/* --- at the agent --- */

static void bad_preface(struct rig *g) {
  put(g, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
}
static void no_control_first(struct rig *g) {
  preface(g);
  connect_to(g, 1, "beam-stream", 0);
}
static void get_first(struct rig *g) {
  uint8_t b[128];
  preface(g);
  size_t n = field(b, ":method", "GET");
  n += field(b + n, ":scheme", "https");
  n += field(b + n, ":authority", "beam");
  n += field(b + n, ":path", "/");
  frame(g, HEADERS, END_HEADERS | END_STREAM, 1, b, n);
}
static void second_control(struct rig *g) {
  greet(g);
  connect_to(g, 3, "beam-control", 0);
}
static void control_ends(struct rig *g) {
  greet(g);
  frame(g, DATA, END_STREAM, 1, NULL, 0);
}
static void control_reset(struct rig *g) {
  greet(g);
  u32(g, RST, 1, NGHTTP2_CANCEL);
}
static void control_malformed(struct rig *g) {
  greet(g);
  frame(g, DATA, 0, 1, "\x04\xff\xff\xff\xff", 5);
}
static void control_too_large(struct rig *g) {
  greet(g);
  frame(g, DATA, 0, 1, "\xff\xff\x7f", 3);
}
static void control_critical(struct rig *g) { /* field 15 (critical) true, field 100 of a newer version */
  greet(g);
  frame(g, DATA, 0, 1, "\x06\x78\x01\xa2\x06\x01x", 7);
}
static void many_streams(struct rig *g);
static void too_many_streams(struct rig *g) {
  greet(g);
  many_streams(g);
  connect_to(g, 20001, "beam-stream", 0);
}
static void even_id(struct rig *g) {
  greet(g);
  connect_to(g, 2, "beam-stream", 0);
}
static void data_on_idle(struct rig *g) {
  greet(g);
  frame(g, DATA, 0, 77, "x", 1);
}
static void push_promise(struct rig *g) {
  greet(g);
  uint8_t b[64] = {0, 0, 0, 2};
  frame(g, PUSH, END_HEADERS, 1, b, 4 + field(b + 4, ":method", "GET"));
}
static void bad_hpack(struct rig *g) {
  greet(g);
  frame(g, HEADERS, END_HEADERS, 3, "\xff\xff\xff\xff\xff\xff\xff", 7);
}
static void frame_too_large(struct rig *g) {
  static uint8_t big[H2_FRAME_MAX + 1];
  greet(g);
  connect_to(g, 3, "beam-stream", 0);
  frame(g, DATA, 0, 3, big, sizeof big);
}
static void lone_continuation(struct rig *g) {
  greet(g);
  frame(g, CONTINUATION, END_HEADERS, 1, "", 0);
}
static void zero_window_update(struct rig *g) {
  greet(g);
  u32(g, WINDOW, 0, 0);
}
static void window_overflow(struct rig *g) {
  greet(g);
  u32(g, WINDOW, 0, 0x7fffffff);
}
static void reset_flood(struct rig *g) {
  greet(g);
  for (uint32_t i = 0; i <= LIMIT_LINK_RESETS; i++) {
    connect_to(g, 3 + 2 * i, "beam-stream", 0);
    u32(g, RST, 3 + 2 * i, NGHTTP2_CANCEL);
    if (i % 100 == 0)
      loop_run_for(g->l, 0);
  }
}
static void ping_flood(struct rig *g) {
  greet(g);
  g->peer->auto_read = false; /* answers pile up */
  for (unsigned i = 0; i < 100000 && !g->side.closed; i++) {
    frame(g, PING, 0, 0, "12345678", 8);
    if (i % 100 == 0)
      loop_run_for(g->l, 0);
  }
}
static void settings_flood(struct rig *g) {
  greet(g);
  g->peer->auto_read = false;
  for (unsigned i = 0; i < 100000 && !g->side.closed; i++) {
    frame(g, SETTINGS, 0, 0, NULL, 0);
    if (i % 100 == 0)
      loop_run_for(g->l, 0);
  }
}
static void goaway_error(struct rig *g) {
  uint8_t b[8] = {0, 0, 0, 0, 0, 0xbe, 0xa0, 17};
  greet(g);
  frame(g, GOAWAY, 0, 0, b, sizeof b);
}
static void goaway_then_end(struct rig *g) {
  uint8_t b[8] = {0};
  greet(g);
  frame(g, GOAWAY, 0, 0, b, sizeof b);
  stream_finish(g->peer->s);
}
static void just_end(struct rig *g) {
  greet(g);
  stream_finish(g->peer->s);
}
static void end_at_once(struct rig *g) {
  stream_finish(g->peer->s);
}
static void end_in_preface(struct rig *g) {
  put(g, "PRI * HTTP/2.0\r\n", 16);
  stream_finish(g->peer->s);
}

static void test_peers_that_break_the_protocol(void **state) {
  (void)state;
  static const struct {
    const char *what;
    void (*act)(struct rig *g);
    int reason;
    int64_t said; /* in our GOAWAY; -1: none */
  } rows[] = {
      {"bad preface", bad_preface, BEAM_ERR_PROTOCOL, -2},
      {"no control first", no_control_first, BEAM_ERR_PROTOCOL, NGHTTP2_PROTOCOL_ERROR},
      {"GET first", get_first, BEAM_ERR_PROTOCOL, NGHTTP2_PROTOCOL_ERROR},
      {"second control", second_control, BEAM_ERR_PROTOCOL, NGHTTP2_PROTOCOL_ERROR},
      {"control ends", control_ends, BEAM_ERR_CLOSED, NGHTTP2_NO_ERROR},
      {"control reset", control_reset, BEAM_ERR_RESET, -1},
      {"control malformed", control_malformed, BEAM_ERR_PROTOCOL, NGHTTP2_PROTOCOL_ERROR},
      {"control too large", control_too_large, BEAM_ERR_TOO_LARGE, H2_ERROR_BASE + 22},
      {"control critical", control_critical, BEAM_ERR_UNSUPPORTED, H2_ERROR_BASE + 23},
      {"too many streams", too_many_streams, BEAM_ERR_PROTOCOL, NGHTTP2_PROTOCOL_ERROR},
      {"even id", even_id, BEAM_ERR_PROTOCOL, NGHTTP2_PROTOCOL_ERROR},
      {"data on idle", data_on_idle, BEAM_ERR_PROTOCOL, NGHTTP2_PROTOCOL_ERROR},
      {"push promise", push_promise, BEAM_ERR_PROTOCOL, NGHTTP2_PROTOCOL_ERROR},
      {"bad hpack", bad_hpack, BEAM_ERR_PROTOCOL, NGHTTP2_COMPRESSION_ERROR},
      {"frame too large", frame_too_large, BEAM_ERR_PROTOCOL, NGHTTP2_FRAME_SIZE_ERROR},
      {"lone continuation", lone_continuation, BEAM_ERR_PROTOCOL, NGHTTP2_PROTOCOL_ERROR},
      {"zero window update", zero_window_update, BEAM_ERR_PROTOCOL, NGHTTP2_PROTOCOL_ERROR},
      {"window overflow", window_overflow, BEAM_ERR_PROTOCOL, NGHTTP2_FLOW_CONTROL_ERROR},
      {"reset flood", reset_flood, BEAM_ERR_LIMIT, H2_ERROR_BASE + 17},
      {"ping flood", ping_flood, BEAM_ERR_LIMIT, -2},
      {"settings flood", settings_flood, BEAM_ERR_LIMIT, -2},
      {"goaway error", goaway_error, BEAM_ERR_LIMIT, -2},
      {"goaway then end", goaway_then_end, BEAM_ERR_CLOSED, -2},
      {"just end", just_end, BEAM_ERR_RESET, -1},
      {"end at once", end_at_once, BEAM_ERR_RESET, -1},
      {"end in preface", end_in_preface, BEAM_ERR_RESET, -1},
  };
  for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct rig g;
    rig_make(&g, LINK_AGENT);
    rows[i].act(&g);
    loop_run_for(g.l, 0);
    if (g.side.closed != 1 || g.side.reason != rows[i].reason)
      print_error("%s: closed %u reason %d\n", rows[i].what, g.side.closed, g.side.reason);
    assert_int_equal(g.side.closed, 1);
    assert_int_equal(g.side.reason, rows[i].reason);
    link_close(g.side.k, g.side.reason);
    g.side.k = NULL;
    loop_run_for(g.l, 0);
    if (rows[i].said != -2) {
      if (code_sent(&g, GOAWAY, 0) != rows[i].said)
        print_error("%s: said %lld\n", rows[i].what, (long long)code_sent(&g, GOAWAY, 0));
      assert_int_equal(code_sent(&g, GOAWAY, 0), rows[i].said);
    }
    rig_free(&g);
  }
}

/* Strange, but no reason to part: the next stream works. */
static void unknown_frames(struct rig *g) {
  frame(g, 0xbe, 0xff, 0, "what is this", 12);
  frame(g, 0x77, 0, 1, NULL, 0);
  frame(g, 2, 0, 1, "\0\0\0\0\x10", 5); /* PRIORITY */
}
static void unknown_protocol(struct rig *g) {
  connect_to(g, 3, "websocket", 0);
  loop_run_for(g->l, 0);
  assert_int_equal(code_sent(g, RST, 3), NGHTTP2_PROTOCOL_ERROR);
}
static void plain_connect(struct rig *g) {
  uint8_t b[64];
  size_t n = field(b, ":method", "CONNECT");
  n += field(b + n, ":authority", "10.0.0.1:22");
  frame(g, HEADERS, END_HEADERS, 3, b, n);
  loop_run_for(g->l, 0);
  assert_int_equal(code_sent(g, RST, 3), NGHTTP2_PROTOCOL_ERROR);
}
static void plain_get(struct rig *g) {
  uint8_t b[128];
  size_t n = field(b, ":method", "GET");
  n += field(b + n, ":scheme", "https");
  n += field(b + n, ":authority", "beam");
  n += field(b + n, ":path", "/");
  frame(g, HEADERS, END_HEADERS | END_STREAM, 3, b, n);
  loop_run_for(g->l, 0);
  assert_int_equal(code_sent(g, RST, 3), NGHTTP2_PROTOCOL_ERROR);
}
static void open_and_reset(struct rig *g) {
  connect_to(g, 3, "beam-stream", 0);
  u32(g, RST, 3, NGHTTP2_CANCEL);
  loop_run_for(g->l, 0);
  assert_int_equal(g->side.streams, 0); /* nobody is bothered with it */
  assert_int_equal(g->side.k->streams, 0);
}
static void data_after_reset(struct rig *g) {
  g->side.refuse = BEAM_ERR_REFUSED;
  connect_to(g, 3, "beam-stream", 0);
  loop_run_for(g->l, 0);
  assert_int_equal(code_sent(g, RST, 3), NGHTTP2_REFUSED_STREAM);
  frame(g, DATA, 0, 3, "on its way", 10);
  u32(g, WINDOW, 3, 100);
  frame(g, DATA, END_STREAM, 3, NULL, 0);
}
static void trailers(struct rig *g) {
  uint8_t b[32];
  connect_to(g, 3, "beam-stream", 0);
  frame(g, HEADERS, END_HEADERS | END_STREAM, 3, b, field(b, "x", "y"));
}
static void padding(struct rig *g) {
  connect_to(g, 3, "beam-stream", 0);
  frame(g, DATA, 8, 3, "\x05hello\0\0\0\0\0", 11);
}
static void id_goes_back(struct rig *g) { /* 5 was never opened, and cannot be any more */
  connect_to(g, 9, "beam-stream", 0);
  loop_run_for(g->l, 0);
  connect_to(g, 5, "beam-stream", 0);
  loop_run_for(g->l, 0);
  assert_int_equal(g->side.streams, 1);
}
static void control_unknown_kind(struct rig *g) {
  frame(g, DATA, 0, 1, "\x04\xa2\x06\x01x", 5);
  loop_run_for(g->l, 0);
  assert_int_equal(g->side.controls, 1); /* of no known kind: the greeting swallows it */
  g->side.controls = 0;
}
static void many_streams(struct rig *g) {
  g->side.refuse = KEEP;
  for (uint32_t i = 0; i < LIMIT_LINK_STREAMS; i++) {
    connect_to(g, 101 + 2 * i, "beam-stream", 0);
    if (i % 100 == 0)
      loop_run_for(g->l, 0);
  }
  loop_run_for(g->l, 0);
  assert_int_equal(g->side.streams, LIMIT_LINK_STREAMS);
}
static void many_streams_reset(struct rig *g) {
  many_streams(g);
  for (uint32_t i = 0; i < LIMIT_LINK_STREAMS; i++)
    u32(g, RST, 101 + 2 * i, NGHTTP2_CANCEL);
  loop_run_for(g->l, 0);
  assert_int_equal(((struct h2 *)g->side.k)->live, 0);
  g->side.refuse = 0;
}

static void test_strange_but_harmless(void **state) {
  (void)state;
  static void (*const acts[])(struct rig *
                              g) = {unknown_frames, unknown_protocol,     plain_connect,     plain_get,
                                    open_and_reset, data_after_reset,     trailers,          id_goes_back,
                                    padding,        control_unknown_kind, many_streams_reset};
  for (unsigned i = 0; i < sizeof acts / sizeof *acts; i++) {
    struct rig g;
    rig_make(&g, LINK_AGENT);
    greet(&g);
    acts[i](&g);
    loop_run_for(g.l, 0);
    unsigned before = g.side.streams;
    connect_to(&g, 99999, "beam-stream", 0);
    frame(&g, DATA, 0, 1, "\x02\x4a\x00", 3); /* a PING */
    loop_run_for(g.l, 0);
    assert_int_equal(g.side.closed, 0);
    assert_int_equal(g.side.streams, before + 1);
    assert_int_equal(g.side.controls, 1);
    rig_free(&g);
  }
}

static void test_peer_that_ignores_the_window(void **state) {
  (void)state;
  static uint8_t big[H2_FRAME_MAX];
  struct rig g;
  rig_make(&g, LINK_AGENT);
  greet(&g);
  g.side.refuse = KEEP;
  connect_to(&g, 3, "beam-stream", 0);
  loop_run_for(g.l, 0);
  assert_int_equal(kept_n, 1);
  for (int i = 0; i < 2; i++)
    frame(&g, DATA, 0, 3, big, sizeof big);
  loop_run_for(g.l, 0);
  assert_true(stream_waiting(kept[0]->s) <= LIMIT_STREAM_WINDOW_MIN);
  /* whether the stream or the link is ended is the engine's choice; the bytes are not kept */
  assert_true(code_sent(&g, RST, 3) == NGHTTP2_FLOW_CONTROL_ERROR ||
              code_sent(&g, GOAWAY, 0) == NGHTTP2_FLOW_CONTROL_ERROR);
  rig_free(&g);
}

/* --- at the relay --- */

static void agent_settings(struct rig *g, unsigned connect, uint32_t streams) {
  uint8_t b[12] = {0, 8, 0, 0, 0, (uint8_t)connect, 0, 3, 0, 0, (uint8_t)(streams >> 8), (uint8_t)streams};
  frame(g, SETTINGS, 0, 0, b, sizeof b);
}

static void no_connect_setting(struct rig *g) {
  agent_settings(g, 0, 100);
}
static void agent_opens(struct rig *g) {
  agent_settings(g, 1, 100);
  connect_to(g, 2, "beam-stream", 0);
}
static void agent_opens_odd(struct rig *g) {
  agent_settings(g, 1, 100);
  loop_run_for(g->l, 0);
  connect_to(g, 7, "beam-stream", 0);
}
static void answer_without_status(struct rig *g) {
  uint8_t b[32];
  agent_settings(g, 1, 100);
  loop_run_for(g->l, 0);
  frame(g, HEADERS, END_HEADERS, 1, b, field(b, "x", "y"));
}
static void data_before_answer(struct rig *g) {
  agent_settings(g, 1, 100);
  loop_run_for(g->l, 0);
  frame(g, DATA, 0, 1, "\x02\x4a\x00", 3);
}
static void control_refused(struct rig *g) {
  uint8_t b[32];
  agent_settings(g, 1, 100);
  loop_run_for(g->l, 0);
  frame(g, HEADERS, END_HEADERS | END_STREAM, 1, b, field(b, ":status", "200"));
}

static void test_agents_that_break_the_protocol(void **state) {
  (void)state;
  static const struct {
    const char *what;
    void (*act)(struct rig *g);
    int reason;
  } rows[] = {
      {"no connect setting", no_connect_setting, BEAM_ERR_UNSUPPORTED},
      {"agent opens", agent_opens, BEAM_ERR_PROTOCOL},
      {"agent opens, odd", agent_opens_odd, BEAM_ERR_PROTOCOL},
      {"no status", answer_without_status, BEAM_ERR_PROTOCOL},
      {"data before answer", data_before_answer, BEAM_ERR_PROTOCOL},
      {"control ends", control_refused, BEAM_ERR_CLOSED},
      {"bad preface", bad_preface, BEAM_ERR_PROTOCOL},
      {"end at once", end_at_once, BEAM_ERR_RESET},
  };
  for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct rig g;
    rig_make(&g, LINK_RELAY);
    rows[i].act(&g);
    loop_run_for(g.l, 0);
    if (g.side.closed != 1 || g.side.reason != rows[i].reason)
      print_error("%s: closed %u reason %d\n", rows[i].what, g.side.closed, g.side.reason);
    assert_int_equal(g.side.closed, 1);
    assert_int_equal(g.side.reason, rows[i].reason);
    rig_free(&g);
  }
}

static void test_relay_waits_for_settings(void **state) {
  (void)state;
  struct rig g;
  struct stream *s;
  rig_make(&g, LINK_RELAY);
  loop_run_for(g.l, 1000);
  assert_int_equal(g.side.ready, 0);
  assert_int_equal(link_open(g.side.k, &s), BEAM_AGAIN);
  size_t before = evbuffer_get_length(g.peer->got);
  agent_settings(&g, 1, 3);
  loop_run_for(g.l, 0);
  assert_int_equal(g.side.ready, 1);
  assert_true(evbuffer_get_length(g.peer->got) > before);
  /* and keeps to the agent's limit: control and two streams */
  struct stream *two[2];
  assert_int_equal(link_open(g.side.k, &two[0]), 0);
  assert_int_equal(link_open(g.side.k, &two[1]), 0);
  assert_int_equal(link_open(g.side.k, &s), BEAM_ERR_LIMIT);
  stream_close(two[0], 0);
  stream_close(two[1], BEAM_ERR_RESET);
  loop_run_for(g.l, 0);
  rig_free(&g);
}

/* --- a whole conversation, cut after each byte, and fed byte by byte --- */

static size_t record(uint8_t *out, size_t cap) {
  struct rig g;
  rig_make(&g, LINK_AGENT);
  struct stream *a, *b; /* what the rig writes goes here instead */
  assert_int_equal(mem_pair(g.l, &a, &b), 0);
  struct stream *real = g.peer->s;
  g.peer->s = a;
  preface(&g);
  connect_to(&g, 1, "beam-control", 0);
  frame(&g, DATA, 0, 1, "\x02\x4a\x00", 3);
  connect_to(&g, 3, "beam-stream", 0);
  frame(&g, DATA, 0, 3, "hello", 5);
  frame(&g, WINDOW, 0, 0, "\0\1\0\0", 4);
  frame(&g, DATA, END_STREAM, 3, "world", 5);
  connect_to(&g, 5, "beam-stream", END_STREAM);
  u32(&g, RST, 5, NGHTTP2_CANCEL);
  frame(&g, PING, 0, 0, "abcdefgh", 8);
  size_t n = stream_waiting(b);
  assert_true(n <= cap);
  evbuffer_copyout(stream_input(b), out, n);
  stream_close(a, 0);
  stream_close(b, 0);
  g.peer->s = real;
  rig_free(&g);
  return n;
}

static void test_every_truncation(void **state) {
  (void)state;
  uint8_t all[2048];
  size_t n = record(all, sizeof all);
  for (size_t cut = 0; cut <= n; cut++) {
    struct rig g;
    rig_make(&g, LINK_AGENT);
    if (cut)
      put(&g, all, cut);
    stream_finish(g.peer->s);
    loop_run_for(g.l, 0);
    assert_int_equal(g.side.closed, 1);
    assert_int_equal(g.side.reason, BEAM_ERR_RESET);
    rig_free(&g);
  }
}

static void test_byte_by_byte(void **state) {
  (void)state;
  uint8_t all[2048];
  size_t n = record(all, sizeof all);
  struct rig g;
  rig_make(&g, LINK_AGENT);
  for (size_t i = 0; i < n; i++) {
    put(&g, all + i, 1);
    loop_run_for(g.l, 0);
  }
  assert_int_equal(g.side.closed, 0);
  assert_int_equal(g.side.controls, 1);
  assert_int_equal(g.side.streams, 2);
  rig_free(&g);
}

static void test_every_flipped_bit(void **state) {
  (void)state;
  uint8_t all[2048];
  size_t n = record(all, sizeof all);
  for (size_t bit = 0; bit < 8 * n; bit++) {
    struct rig g;
    rig_make(&g, LINK_AGENT);
    all[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    put(&g, all, n);
    all[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    loop_run_for(g.l, 0);
    stream_finish(g.peer->s);
    loop_run_for(g.l, 0);
    assert_int_equal(g.side.closed, 1); /* it ends, with one reason; the sanitizers say the rest */
    rig_free(&g);
  }
}

static void test_error_codes(void **state) {
  (void)state;
  for (int e = BEAM_ERR_NOMEM; e >= BEAM_ERR_INTERNAL; e--)
    assert_int_equal(h2_reason_of(h2_code_of(e)), e == BEAM_ERR_CLOSED ? BEAM_ERR_RESET : e);
  static const struct {
    uint32_t code;
    int reason;
  } rows[] = {{NGHTTP2_FLOW_CONTROL_ERROR, BEAM_ERR_PROTOCOL},
              {NGHTTP2_ENHANCE_YOUR_CALM, BEAM_ERR_LIMIT},
              {NGHTTP2_HTTP_1_1_REQUIRED, BEAM_ERR_RESET},
              {H2_ERROR_BASE, BEAM_ERR_RESET},
              {H2_ERROR_BASE + 1, BEAM_ERR_RESET},
              {H2_ERROR_BASE + 28, BEAM_ERR_RESET},
              {UINT32_MAX, BEAM_ERR_RESET},
              {0x80000000u, BEAM_ERR_RESET}};
  for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
    assert_int_equal(h2_reason_of(rows[i].code), rows[i].reason);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_peers_that_break_the_protocol),
      cmocka_unit_test(test_strange_but_harmless),
      cmocka_unit_test(test_peer_that_ignores_the_window),
      cmocka_unit_test(test_agents_that_break_the_protocol),
      cmocka_unit_test(test_relay_waits_for_settings),
      cmocka_unit_test(test_every_truncation),
      cmocka_unit_test(test_byte_by_byte),
      cmocka_unit_test(test_every_flipped_bit),
      cmocka_unit_test(test_error_codes),
  };
  return cmocka_run_group_tests_name("h2 session", tests, NULL, NULL);
}
