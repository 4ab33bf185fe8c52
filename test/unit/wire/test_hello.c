/* The first bytes of a connection: ClientHello cut at every byte and split over records in every way, HTTP, garbage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/limits.h"
#include "base/str.h"
#include "wire/hello.h"

/* --- writing ClientHellos --- */

struct bytes {
  uint8_t p[70000];
  size_t n;
};

static void put(struct bytes *b, const void *p, size_t n) {
  assert_true(b->n + n <= sizeof b->p);
  memcpy(b->p + b->n, p, n);
  b->n += n;
}

static void put_u8(struct bytes *b, unsigned v) {
  put(b, &(uint8_t){(uint8_t)v}, 1);
}

static void put_u16(struct bytes *b, size_t v) {
  put_u8(b, (unsigned)(v >> 8) & 255);
  put_u8(b, (unsigned)v & 255);
}

static void put_ext(struct bytes *b, unsigned type, const void *p, size_t n) {
  put_u16(b, type);
  put_u16(b, n);
  put(b, p, n);
}

static void put_sni(struct bytes *b, const char *name) {
  size_t n = strlen(name);
  put_u16(b, 0);
  put_u16(b, n + 5);
  put_u16(b, n + 3);
  put_u8(b, 0);
  put_u16(b, n);
  put(b, name, n);
}

/* Extensions -> the ClientHello message with its handshake header; session: bytes of legacy_session_id. */
static void make_hello(struct bytes *out, const struct bytes *ext, size_t session) {
  static const uint8_t zero[256];
  size_t body = 2 + 32 + 1 + session + 2 + 4 + 2 + (ext ? 2 + ext->n : 0);
  out->n = 0;
  put_u8(out, 1);
  put_u8(out, (unsigned)(body >> 16));
  put_u16(out, body & 0xffff);
  put_u16(out, 0x0303);
  put(out, zero, 32);
  put_u8(out, (unsigned)session);
  put(out, zero, session);
  put_u16(out, 4);
  put_u16(out, 0x1301);
  put_u16(out, 0x1302);
  put_u8(out, 1);
  put_u8(out, 0);
  if (ext) {
    put_u16(out, ext->n);
    put(out, ext->p, ext->n);
  }
}

/* Records of at most `part` bytes. */
static void wrap(struct bytes *out, const struct bytes *message, size_t part) {
  out->n = 0;
  for (size_t at = 0; at < message->n; at += part) {
    size_t n = message->n - at < part ? message->n - at : part;
    put_u8(out, 22);
    put_u16(out, 0x0301);
    put_u16(out, n);
    put(out, message->p + at, n);
  }
}

static enum sniff_what sniff_exact(const void *p, size_t n, struct sniff *out) {
  uint8_t *copy = malloc(n ? n : 1); /* so that one byte too far is seen */
  assert_non_null(copy);
  memcpy(copy, p, n);
  enum sniff_what what = sniff(copy, n, out);
  free(copy);
  return what;
}

static enum sniff_what sniff_ext(const struct bytes *ext, struct sniff *out) {
  static struct bytes message, wire;
  make_hello(&message, ext, 32);
  wrap(&wire, &message, 16384);
  return sniff_exact(wire.p, wire.n, out);
}

static void usual(struct bytes *ext) {
  ext->n = 0;
  put_ext(ext, 0x0a0a, "", 0); /* GREASE */
  put_sni(ext, "Shop.Tunnel.Test");
  put_ext(ext, 10, "\0\2\0\35", 4);
  put_ext(ext, 16, "\0\14\2h2\10http/1.1", 14);
  put_ext(ext, 43, "\4\3\4\3\3", 5);
}

/* --- tests --- */

static void is_usual(const struct sniff *s) {
  assert_string_equal(s->sni, "shop.tunnel.test");
  assert_int_equal(s->alpn, SNIFF_ALPN_H1 | SNIFF_ALPN_H2);
  assert_true(s->tls13);
}

static void reads_at_every_split(void **state) {
  (void)state;
  static struct bytes ext, message, wire;
  usual(&ext);
  make_hello(&message, &ext, 32);
  for (size_t part = 1; part <= message.n; part++) {
    struct sniff s;
    wrap(&wire, &message, part);
    assert_int_equal(sniff_exact(wire.p, wire.n, &s), SNIFF_TLS);
    is_usual(&s);
    for (size_t n = 0; n < wire.n; n++) { /* cut at every byte it is only not yet whole */
      assert_int_equal(sniff_exact(wire.p, n, &s), SNIFF_MORE);
      assert_string_equal(s.sni, "");
    }
    put(&wire, "\x14\3\3\0\1\1garbage", 13); /* what follows is not looked at */
    assert_int_equal(sniff_exact(wire.p, wire.n, &s), SNIFF_TLS);
    is_usual(&s);
  }
}

/* The ClientHello of RFC 8448 section 3. */
static void reads_the_published_trace(void **state) {
  (void)state;
  static const char hex[] =
      "010000c00303cb34ecb1e78163ba1c38c6dacb196a6dffa21a8d9912ec18a2ef6283024dece7000006130113"
      "031302010000910000000b0009000006736572766572ff01000100000a00140012001d001700180019010001"
      "0101020103010400230000003300260024001d002099381de560e4bd43d23d8e435a7dbafeb3c06e51c13cae"
      "4d5413691e529aaf2c002b0003020304000d0020001e04030503060302030804080508060401050106010201"
      "0402050206020202002d00020101001c00024001";
  uint8_t wire[5 + sizeof hex / 2] = {22, 3, 1, 0, sizeof hex / 2};
  assert_true(hex_decode(wire + 5, sizeof hex / 2, SPAN(hex)));
  struct sniff s;
  assert_int_equal(sniff_exact(wire, sizeof wire, &s), SNIFF_TLS);
  assert_string_equal(s.sni, "server");
  assert_int_equal(s.alpn, 0);
  assert_true(s.tls13);
}

/* Wrong lengths anywhere inside must never be read past, nor cut short to something else that is believed whole. */
static void survives_every_wrong_byte(void **state) {
  (void)state;
  static struct bytes ext, message, wire;
  static const uint8_t values[] = {0, 1, 2, 3, 5, 16, 22, 32, 43, 64, 65, 127, 128, 254, 255};
  usual(&ext);
  make_hello(&message, &ext, 32);
  wrap(&wire, &message, 16384);
  for (size_t i = 0; i < wire.n; i++)
    for (size_t k = 0; k < sizeof values; k++) {
      uint8_t old = wire.p[i];
      struct sniff s;
      wire.p[i] = values[k];
      enum sniff_what what = sniff_exact(wire.p, wire.n, &s);
      if (what == SNIFF_TLS)
        assert_true(strlen(s.sni) < 254 &&
                    strspn(s.sni, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == strlen(s.sni));
      else
        assert_string_equal(s.sni, "");
      wire.p[i] = old;
    }
}

static void reads_names_and_protocols(void **state) {
  (void)state;
  static struct bytes ext, message, wire;
  struct sniff s;
  make_hello(&message, NULL, 0); /* no extensions at all: TLS 1.2 permits it */
  wrap(&wire, &message, 16384);
  assert_int_equal(sniff_exact(wire.p, wire.n, &s), SNIFF_TLS);
  assert_string_equal(s.sni, "");
  assert_int_equal(s.alpn, 0);
  assert_false(s.tls13);

  static const struct {
    const char *name;
    enum sniff_what want;
    const char *sni;
  } names[] = {
      {"a.test", SNIFF_TLS, "a.test"},
      {"A.TEST.", SNIFF_TLS, "a.test"},
      {"my_app.localhost", SNIFF_TLS, "my_app.localhost"},
      {"127.0.0.1", SNIFF_TLS, ""},
      {"a b", SNIFF_GARBAGE, ""},
      {"a..b", SNIFF_GARBAGE, ""},
      {"", SNIFF_GARBAGE, ""},
      {"::1", SNIFF_GARBAGE, ""},
      {"a.test:443", SNIFF_GARBAGE, ""},
      {"a\r\nb", SNIFF_GARBAGE, ""},
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    ext.n = 0;
    put_sni(&ext, names[i].name);
    assert_int_equal(sniff_ext(&ext, &s), names[i].want);
    assert_string_equal(s.sni, names[i].sni);
  }
  char long_name[301];
  for (size_t i = 0; i < 300; i++)
    long_name[i] = i % 50 == 49 ? '.' : 'a';
  long_name[300] = 0;
  ext.n = 0;
  put_sni(&ext, long_name);
  assert_int_equal(sniff_ext(&ext, &s), SNIFF_GARBAGE);
  long_name[253] = 0;
  ext.n = 0;
  put_sni(&ext, long_name);
  assert_int_equal(sniff_ext(&ext, &s), SNIFF_TLS);
  assert_string_equal(s.sni, long_name);

  static const struct {
    const char *list;
    size_t n;
    enum sniff_what want;
    unsigned alpn;
  } protocols[] = {
      {"\0\7\6beam/1", 9, SNIFF_TLS, SNIFF_ALPN_BEAM},
      {"\0\13\12acme-tls/1", 13, SNIFF_TLS, SNIFF_ALPN_ACME},
      {"\0\3\2h3", 5, SNIFF_TLS, SNIFF_ALPN_OTHER},
      {"\0\6\2h2\2h3", 8, SNIFF_TLS, SNIFF_ALPN_H2 | SNIFF_ALPN_OTHER},
      {"\0\0", 2, SNIFF_GARBAGE, 0},
      {"\0\1\0", 3, SNIFF_GARBAGE, 0},
      {"\0\4\2h2\0", 6, SNIFF_GARBAGE, 0},
      {"\0\3\3h2", 5, SNIFF_GARBAGE, 0},
      {"\0\4\2h2", 5, SNIFF_GARBAGE, 0},
      {"\0\2\2h2", 5, SNIFF_GARBAGE, 0},
      {"", 0, SNIFF_GARBAGE, 0},
  };
  for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++) {
    ext.n = 0;
    put_ext(&ext, 16, protocols[i].list, protocols[i].n);
    assert_int_equal(sniff_ext(&ext, &s), protocols[i].want);
    assert_int_equal(s.alpn, protocols[i].alpn);
  }
}

static void refuses_malformed_hellos(void **state) {
  (void)state;
  static struct bytes ext, message, wire;
  struct sniff s;
  static const struct {
    unsigned type;
    const char *p;
    size_t n;
  } bad[] = {
      {0, "", 0},                     /* an empty server_name is the server's answer, not a question */
      {0, "\0\0", 2},                 /* no name in the list */
      {0, "\0\4\1\0\1a", 6},          /* not a host_name */
      {0, "\0\4\0\0\2a", 6},          /* longer than the list */
      {0, "\0\4\0\0\1a!", 7},         /* something behind the list */
      {0, "\0\10\0\0\1a\0\0\1b", 10}, /* two names */
      {43, "", 0},
      {43, "\0", 1},
      {43, "\3\3\4\3", 4},
      {43, "\4\3\4", 3},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    ext.n = 0;
    put_ext(&ext, bad[i].type, bad[i].p, bad[i].n);
    if (sniff_ext(&ext, &s) != SNIFF_GARBAGE)
      fail_msg("row %zu", i);
  }
  usual(&ext); /* each extension once */
  put_sni(&ext, "other.test");
  assert_int_equal(sniff_ext(&ext, &s), SNIFF_GARBAGE);
  usual(&ext);
  put_ext(&ext, 16, "\0\3\2h2", 5);
  assert_int_equal(sniff_ext(&ext, &s), SNIFF_GARBAGE);
  usual(&ext);
  put_ext(&ext, 43, "\2\3\4", 3);
  assert_int_equal(sniff_ext(&ext, &s), SNIFF_GARBAGE);
  usual(&ext);
  make_hello(&message, &ext, 33);
  wrap(&wire, &message, 16384);
  assert_int_equal(sniff_exact(wire.p, wire.n, &s), SNIFF_GARBAGE);
  make_hello(&message, &ext, 32);
  put_u8(&message, 0); /* a byte behind the extensions, counted in */
  message.p[3]++;
  wrap(&wire, &message, 16384);
  assert_int_equal(sniff_exact(wire.p, wire.n, &s), SNIFF_GARBAGE);
}

static void limits_hellos(void **state) {
  (void)state;
  static struct bytes ext, message, wire;
  static uint8_t filler[20000];
  struct sniff s;
  ext.n = 0;
  put_sni(&ext, "a.test");
  make_hello(&message, &ext, 0);
  size_t pad = LIMIT_CLIENT_HELLO - 5 - message.n - 4;
  put_ext(&ext, 21, filler, pad);
  make_hello(&message, &ext, 0);
  wrap(&wire, &message, 16384);
  assert_int_equal(wire.n, LIMIT_CLIENT_HELLO);
  assert_int_equal(sniff_exact(wire.p, wire.n, &s), SNIFF_TLS);
  assert_int_equal(sniff_exact(wire.p, wire.n - 1, &s), SNIFF_MORE);
  wrap(&wire, &message, 8192); /* one record header more is one limit too many */
  assert_int_equal(sniff_exact(wire.p, LIMIT_CLIENT_HELLO - 1, &s), SNIFF_MORE);
  assert_int_equal(sniff_exact(wire.p, LIMIT_CLIENT_HELLO, &s), SNIFF_GARBAGE);
  assert_int_equal(sniff_exact(wire.p, wire.n, &s), SNIFF_GARBAGE);
  /* A message that says it is longer is refused at its first bytes. */
  assert_int_equal(sniff_exact("\x16\3\1\0\4\1\0\x40\0", 9, &s), SNIFF_GARBAGE);
  assert_int_equal(sniff_exact("\x16\3\1\0\4\1\0\x3f\xfc", 9, &s), SNIFF_MORE);
}

#define LIT(s) (s), sizeof(s) - 1

static void tells_protocols_apart(void **state) {
  (void)state;
  static const struct {
    const char *p;
    size_t n;
    enum sniff_what want;
  } table[] = {
      {LIT(""), SNIFF_MORE},
      {LIT("G"), SNIFF_MORE},
      {LIT("GET"), SNIFF_MORE},
      {LIT("GET "), SNIFF_HTTP1},
      {LIT("GET / HTTP/1.1\r\n"), SNIFF_HTTP1},
      {LIT("M-SEARCH *"), SNIFF_HTTP1},
      {LIT("propfind /"), SNIFF_HTTP1},
      {LIT("\r"), SNIFF_MORE},
      {LIT("\r\n"), SNIFF_MORE},
      {LIT("\r\n\r\nGET /"), SNIFF_HTTP1},
      {LIT("\r\n\r\n\r"), SNIFF_GARBAGE},
      {LIT("\rGET /"), SNIFF_GARBAGE},
      {LIT("\n"), SNIFF_GARBAGE},
      {LIT(" GET /"), SNIFF_GARBAGE},
      {LIT("GET\t/"), SNIFF_GARBAGE},
      {LIT("GET\r\n"), SNIFF_GARBAGE},
      {LIT("PRI"), SNIFF_MORE},
      {LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), SNIFF_MORE},
      {LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), SNIFF_HTTP2},
      {LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4"), SNIFF_HTTP2},
      {LIT("PRI * HTTP/2.0\r\n\r\nXX"), SNIFF_HTTP1}, /* its parser will refuse the version */
      {LIT("PRIVATE /"), SNIFF_HTTP1},
      {LIT("SSH-2.0-x\r\n"), SNIFF_GARBAGE},
      {LIT("\0"), SNIFF_GARBAGE},
      {LIT("\x80\x2e\1\3\1"), SNIFF_GARBAGE},   /* SSL 2 */
      {LIT("\x15\3\1\0\2\2\0"), SNIFF_GARBAGE}, /* an alert first */
      {LIT("\x17\3\3"), SNIFF_GARBAGE},
      {LIT("\x16"), SNIFF_MORE},
      {LIT("\x16\3"), SNIFF_MORE},
      {LIT("\x16\2"), SNIFF_GARBAGE},
      {LIT("\x16\3\5"), SNIFF_GARBAGE},
      {LIT("\x16\3\1\0\0"), SNIFF_GARBAGE},   /* an empty record */
      {LIT("\x16\3\1\x40\1"), SNIFF_GARBAGE}, /* over 2^14 */
      {LIT("\x16\3\1\x40\0"), SNIFF_MORE},
      {LIT("\x16\3\1\0\1\1"), SNIFF_MORE},
      {LIT("\x16\3\1\0\1\2"), SNIFF_GARBAGE},     /* a ServerHello */
      {LIT("\x16\3\1\0\1\1\x15"), SNIFF_GARBAGE}, /* an alert inside the message */
      {LIT("\x16\3\1\0\4\1\0\0\0"), SNIFF_GARBAGE},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    struct sniff s;
    enum sniff_what what = sniff_exact(table[i].p, table[i].n, &s);
    if (what != table[i].want)
      fail_msg("row %zu: %d", i, what);
  }
  struct sniff s;
  char method[64];
  memset(method, 'A', sizeof method);
  assert_int_equal(sniff_exact(method, 32, &s), SNIFF_MORE);
  assert_int_equal(sniff_exact(method, 33, &s), SNIFF_GARBAGE);
  method[32] = ' ';
  assert_int_equal(sniff_exact(method, 33, &s), SNIFF_HTTP1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_at_every_split),      cmocka_unit_test(reads_the_published_trace),
      cmocka_unit_test(survives_every_wrong_byte), cmocka_unit_test(reads_names_and_protocols),
      cmocka_unit_test(refuses_malformed_hellos),  cmocka_unit_test(limits_hellos),
      cmocka_unit_test(tells_protocols_apart),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
