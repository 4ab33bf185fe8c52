/* WebSocket frames and the opening handshake, against the examples of RFC 6455. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <beam/beam.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/base64.h"
#include "wire/h1.h"
#include "wire/ws.h"

static void test_base64(void **state) {
  (void)state;
  static const char *const rows[][2] = {/* RFC 4648 section 10 */
                                        {"", ""},
                                        {"f", "Zg=="},
                                        {"fo", "Zm8="},
                                        {"foo", "Zm9v"},
                                        {"foob", "Zm9vYg=="},
                                        {"fooba", "Zm9vYmE="},
                                        {"foobar", "Zm9vYmFy"}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char out[BASE64_SIZE(6)];
    base64_encode(out, rows[i][0], strlen(rows[i][0]));
    assert_string_equal(out, rows[i][1]);
  }
  char all[BASE64_SIZE(3)];
  base64_encode(all, "\xfb\xff\xfe", 3);
  assert_string_equal(all, "+//+");
}

/* --- headers --- */

struct row {
  const char *hex;
  struct ws_frame f;
  long n; /* of the header, or a negative error */
};

static const struct row rows[] = {
    /* RFC 6455 section 5.7 */
    {"810548656c6c6f", {true, false, WS_TEXT, {0}, 5}, 2},
    {"818537fa213d7f9f4d5158", {true, true, WS_TEXT, {0x37, 0xfa, 0x21, 0x3d}, 5}, 6},
    {"010348656c", {false, false, WS_TEXT, {0}, 3}, 2},
    {"80026c6f", {true, false, WS_CONTINUATION, {0}, 2}, 2},
    {"890548656c6c6f", {true, false, WS_PING, {0}, 5}, 2},
    {"8a8537fa213d7f9f4d5158", {true, true, WS_PONG, {0x37, 0xfa, 0x21, 0x3d}, 5}, 6},
    {"827e0100", {true, false, WS_BINARY, {0}, 256}, 4},
    {"827f0000000000010000", {true, false, WS_BINARY, {0}, 65536}, 10},
    /* edges */
    {"827d", {true, false, WS_BINARY, {0}, 125}, 2},
    {"827e007e", {true, false, WS_BINARY, {0}, 126}, 4},
    {"827effff", {true, false, WS_BINARY, {0}, 65535}, 4},
    {"827f7fffffffffffffff", {true, false, WS_BINARY, {0}, INT64_MAX}, 10},
    {"82ff7fffffffffffffff01020304", {true, true, WS_BINARY, {1, 2, 3, 4}, INT64_MAX}, 14},
    {"887d", {true, false, WS_CLOSE, {0}, 125}, 2},
    /* wrong */
    {"827e007d", {0}, BEAM_ERR_PROTOCOL},             /* not in its shortest form */
    {"827f000000000000ffff", {0}, BEAM_ERR_PROTOCOL}, /* the same */
    {"827f8000000000000000", {0}, BEAM_ERR_PROTOCOL}, /* top bit */
    {"c200", {0}, BEAM_ERR_PROTOCOL},                 /* RSV1, RSV2, RSV3 */
    {"a200", {0}, BEAM_ERR_PROTOCOL},
    {"9200", {0}, BEAM_ERR_PROTOCOL},
    {"8300", {0}, BEAM_ERR_PROTOCOL}, /* reserved opcodes */
    {"8700", {0}, BEAM_ERR_PROTOCOL},
    {"8b00", {0}, BEAM_ERR_PROTOCOL},
    {"8f00", {0}, BEAM_ERR_PROTOCOL},
    {"0900", {0}, BEAM_ERR_PROTOCOL}, /* control frames in pieces, or too long */
    {"0800", {0}, BEAM_ERR_PROTOCOL},
    {"897e0080", {0}, BEAM_ERR_PROTOCOL},
    {"887f0000000000010000", {0}, BEAM_ERR_PROTOCOL},
};

static size_t from_hex(uint8_t *out, const char *hex) {
  size_t n = strlen(hex) / 2;
  assert_true(hex_decode(out, n, span_of(hex)));
  return n;
}

static void test_headers(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    uint8_t in[32], out[WS_HEADER_MAX];
    size_t n = from_hex(in, rows[i].hex);
    struct ws_frame f;
    assert_int_equal(ws_frame_decode(in, n, &f), rows[i].n);
    for (size_t cut = 0; cut < n;
         cut++) { /* every truncation: the same, or more is needed; a fault may be seen early */
      uint8_t *exact = malloc(cut ? cut : 1);
      memcpy(exact, in, cut);
      long got = ws_frame_decode(exact, cut, &f);
      if (rows[i].n > 0)
        assert_int_equal(got, cut < (size_t)rows[i].n ? 0 : rows[i].n);
      else
        assert_true(got == 0 || got == rows[i].n);
      free(exact);
    }
    if (rows[i].n < 0)
      continue;
    assert_int_equal(ws_frame_decode(in, n, &f), rows[i].n);
    assert_int_equal(f.fin, rows[i].f.fin);
    assert_int_equal(f.masked, rows[i].f.masked);
    assert_int_equal(f.op, rows[i].f.op);
    assert_memory_equal(f.mask, rows[i].f.mask, 4);
    assert_true(f.length == rows[i].f.length);
    assert_int_equal(ws_frame_encode(out, &f), rows[i].n);
    assert_memory_equal(out, in, (size_t)rows[i].n);
  }
}

static void test_masks(void **state) {
  (void)state;
  uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d}, hello[5] = {0x7f, 0x9f, 0x4d, 0x51, 0x58};
  ws_mask(hello, hello, 5, mask, 0);
  assert_memory_equal(hello, "Hello", 5);
  uint8_t plain[100], slow[100], fast[100];
  for (size_t at = 0; at < 9; at++)
    for (size_t n = 0; n <= sizeof plain; n++) { /* every alignment and length, in two pieces */
      for (size_t i = 0; i < n; i++) {
        plain[i] = (uint8_t)(i * 7 + n);
        slow[i] = plain[i] ^ mask[(at + i) & 3];
      }
      size_t first = n / 3;
      ws_mask(fast, plain, first, mask, at);
      ws_mask(fast + first, plain + first, n - first, mask, at + first);
      assert_memory_equal(fast, slow, n);
    }
}

/* --- the reader --- */

struct seen {
  char text[256]; /* data as it came, "{9:...}" for control frames */
  uint16_t code;
};

/* Feed bytes in pieces of `step`; what was not eaten comes again. */
static void read_all(struct seen *out, const uint8_t *p, size_t n, bool masked, size_t step, uint64_t max) {
  struct ws_reader r;
  ws_reader_init(&r, masked, max);
  memset(out, 0, sizeof *out);
  size_t given = 0, at = 0, len = 0;
  while (given < n) {
    given = given + step < n ? given + step : n;
    for (;;) {
      size_t used;
      uint64_t data;
      uint8_t *exact = malloc(given - at + 1);
      memcpy(exact, p + at, given - at);
      enum ws_what what = ws_reader_next(&r, exact, given - at, &used, &data);
      free(exact);
      assert_true(used <= given - at);
      at += used;
      if (what == WS_WHAT_BAD) {
        out->code = r.code;
        return;
      }
      if (what == WS_WHAT_MORE)
        break;
      uint64_t take = data < given - at ? data : given - at;
      if (what == WS_WHAT_CONTROL) {
        assert_int_equal(take, data);
        len += (size_t)snprintf(out->text + len, sizeof out->text - len, "{%u:", r.f.op);
      } else if (!take) {
        break;
      }
      assert_true(len + take + 2 < sizeof out->text);
      ws_reader_unmask(&r, out->text + len, p + at, (size_t)take);
      len += (size_t)take;
      ws_reader_ate(&r, take);
      at += (size_t)take;
      if (what == WS_WHAT_CONTROL)
        out->text[len++] = '}';
    }
  }
}

static void test_reader(void **state) {
  (void)state;
  static const struct {
    const char *hex, *text;
    bool masked;
    uint64_t max;
    uint16_t code;
  } cases[] = {
      {"820548656c6c6f", "Hello", false, 100, 0},
      {"828537fa213d7f9f4d5158", "Hello", true, 100, 0},
      {"020348656c80026c6f", "Hello", false, 100, 0},               /* fragments */
      {"020348656c8902686980026c6f", "Hel{9:hi}lo", false, 100, 0}, /* a ping between them */
      {"82008200820161", "a", false, 100, 0},                       /* empty messages */
      {"02000000000080016182016b", "ak", false, 100, 0},            /* empty fragments */
      {"8900820161880203e8", "{9:}a{8:\x03\xe8}", false, 100, 0},
      {"8a0161", "{10:a}", false, 100, 0},
      {"828537fa213d7f9f4d5158", "", false, 100, WS_CODE_PROTOCOL}, /* masked from a server */
      {"820548656c6c6f", "", true, 100, WS_CODE_PROTOCOL},          /* bare from a client */
      {"8900", "", true, 100, WS_CODE_PROTOCOL},                    /* a control frame too */
      {"810161", "", false, 100, WS_CODE_UNSUPPORTED},              /* text */
      {"800161", "", false, 100, WS_CODE_PROTOCOL},                 /* nothing to continue */
      {"020161820162", "a", false, 100, WS_CODE_PROTOCOL},          /* a new message inside another */
      {"820161800161", "a", false, 100, WS_CODE_PROTOCOL},          /* it was whole */
      {"820661", "", false, 5, WS_CODE_TOO_LARGE},                  /* seen at the header */
      {"0203616263800362", "abc", false, 5, WS_CODE_TOO_LARGE},     /* over several frames */
      {"820561616161618205626262626282056363636363", "aaaaabbbbbccccc", false, 5, 0},
      {"8b00", "", false, 100, WS_CODE_PROTOCOL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint8_t in[64];
    size_t n = from_hex(in, cases[i].hex);
    for (size_t step = 1; step <= n; step++) {
      struct seen s;
      read_all(&s, in, n, cases[i].masked, step, cases[i].max);
      assert_string_equal(s.text, cases[i].text);
      assert_int_equal(s.code, cases[i].code);
    }
  }
}

static void test_close_codes(void **state) {
  (void)state;
  static const struct {
    const char *hex;
    int want;
  } cases[] = {{"", WS_CODE_NONE},
               {"03", BEAM_ERR_PROTOCOL},
               {"03e8", 1000},
               {"03e86279", 1000},
               {"03e7", BEAM_ERR_PROTOCOL},
               {"03ec", BEAM_ERR_PROTOCOL},
               {"03ed", BEAM_ERR_PROTOCOL},
               {"03ee", BEAM_ERR_PROTOCOL},
               {"03f6", 1014},
               {"03f7", BEAM_ERR_PROTOCOL},
               {"0bb8", 3000},
               {"1387", 4999},
               {"1388", BEAM_ERR_PROTOCOL}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint8_t in[8];
    size_t n = from_hex(in, cases[i].hex);
    assert_int_equal(ws_close_code(in, n), cases[i].want);
  }
}

/* --- the upgrade --- */

static void test_accept(void **state) {
  (void)state;
  char accept[WS_ACCEPT_SIZE], key[WS_KEY_SIZE];
  ws_key_make(key, (const uint8_t *)"the sample nonce"); /* RFC 6455 1.3 */
  assert_string_equal(key, "dGhlIHNhbXBsZSBub25jZQ==");
  ws_accept_make(accept, key);
  assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define REST                                                                                                 \
  "Host: a\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
#define PROTO "Sec-WebSocket-Protocol: chat, beam.1\r\n"

static void test_requests(void **state) {
  (void)state;
  static const struct {
    const char *head;
    int want;
  } cases[] = {
      {"GET /x HTTP/1.1\r\n" REST KEY PROTO, 0},
      {"POST /x HTTP/1.1\r\n" REST KEY PROTO, BEAM_ERR_UNSUPPORTED},
      {"GET /x HTTP/1.1\r\nHost: a\r\n", BEAM_ERR_UNSUPPORTED},
      {"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\nSec-WebSocket-Version: "
       "13\r\n" KEY PROTO,
       BEAM_ERR_UNSUPPORTED},
      {"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: "
       "8\r\n" KEY PROTO,
       BEAM_ERR_UNSUPPORTED},
      {"GET /x HTTP/1.1\r\n" REST "Sec-WebSocket-Version: 13\r\n" KEY PROTO, BEAM_ERR_UNSUPPORTED},
      {"GET /x HTTP/1.1\r\n" REST PROTO, BEAM_ERR_INVALID},
      {"GET /x HTTP/1.1\r\n" REST KEY, BEAM_ERR_INVALID},
      {"GET /x HTTP/1.1\r\n" REST KEY KEY PROTO, BEAM_ERR_INVALID},
      {"GET /x HTTP/1.1\r\n" REST KEY "Sec-WebSocket-Protocol: chat\r\n", BEAM_ERR_INVALID},
      {"GET /x HTTP/1.1\r\n" REST "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n" PROTO, BEAM_ERR_INVALID},
      {"GET /x HTTP/1.1\r\n" REST "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n" PROTO, BEAM_ERR_INVALID},
      {"GET /x HTTP/1.1\r\n" REST "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ?==\r\n" PROTO, BEAM_ERR_INVALID},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[1024];
    struct h1_message m;
    struct span key = {0};
    assert_true(str_fmt(text, sizeof text, "%s\r\n", cases[i].head));
    assert_int_equal(h1_parse_request(text, strlen(text), &m), H1_OK);
    assert_int_equal(ws_request_check(&m.head, "beam.1", &key), cases[i].want);
    if (!cases[i].want)
      assert_true(span_eq(key, SPAN("dGhlIHNhbXBsZSBub25jZQ==")));
    http_head_free(&m.head);
  }
}

#define GRANT "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
#define ACCEPT "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

static void test_responses(void **state) {
  (void)state;
  static const struct {
    const char *head;
    int want;
  } cases[] = {
      {GRANT ACCEPT "Sec-WebSocket-Protocol: beam.1\r\n", 0},
      {GRANT ACCEPT, BEAM_ERR_PROTOCOL},
      {GRANT "Sec-WebSocket-Protocol: beam.1\r\n", BEAM_ERR_PROTOCOL},
      {GRANT ACCEPT "Sec-WebSocket-Protocol: chat\r\n", BEAM_ERR_PROTOCOL},
      {GRANT "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: beam.1\r\n",
       BEAM_ERR_PROTOCOL},
      {GRANT ACCEPT "Sec-WebSocket-Protocol: beam.1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
       BEAM_ERR_PROTOCOL},
      {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n" ACCEPT
       "Sec-WebSocket-Protocol: beam.1\r\n",
       BEAM_ERR_PROTOCOL},
      {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n", BEAM_ERR_REFUSED},
      {"HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" ACCEPT
       "Sec-WebSocket-Protocol: beam.1\r\n",
       BEAM_ERR_REFUSED},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[1024];
    struct h1_message m;
    assert_true(str_fmt(text, sizeof text, "%s\r\n", cases[i].head));
    assert_int_equal(h1_parse_response(text, strlen(text), SPAN("GET"), &m), H1_OK);
    assert_int_equal(ws_response_check(&m.head, "dGhlIHNhbXBsZSBub25jZQ==", "beam.1"), cases[i].want);
    http_head_free(&m.head);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_base64),   cmocka_unit_test(test_headers),     cmocka_unit_test(test_masks),
      cmocka_unit_test(test_reader),   cmocka_unit_test(test_close_codes), cmocka_unit_test(test_accept),
      cmocka_unit_test(test_requests), cmocka_unit_test(test_responses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
