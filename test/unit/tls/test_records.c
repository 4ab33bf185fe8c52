/* The record layer against the trace of RFC 8448 section 3, against itself, and against everything a peer must not do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <beam/beam.h>
#include <cmocka.h>

#include "base/limits.h"
#include "base/random.h"
#include "base/str.h"
#include "tls/keys.h"
#include "tls/records.h"

/* --- RFC 8448, section 3: secrets, derived keys and whole records --- */

static const char client_secret_hex[] = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
static const char server_secret_hex[] = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
static const char ticket_record_hex[] =
    "17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d41d6af8f6b580dcf3d11d63c758db289a0159"
    "40252f55713e061dc13e078891a38efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1b6c0d4a3d03f75e09c30ba1e"
    "62972ac46f75f7b981be63439b2999ce13064615139891d5e4c5b406f16e3fc181a77ca475840025db2f0a77f81b5ab05b94"
    "c01346755f69232c86519d86cbeeac87aac347d143f9605d64f650db4d023e70e952ca49fe5137121c74bc2697687e248746"
    "d6df353005f3bce18696129c8153556b3b6c6779b37bf15985684f";
static const char client_data_hex[] =
    "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b6297"
    "4e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
static const char server_data_hex[] =
    "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8fcc4"
    "9c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";
static const char client_alert_hex[] = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
static const char server_alert_hex[] = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";

static size_t unhex(const char *hex, uint8_t *out) {
  size_t n = strlen(hex) / 2;
  assert_true(hex_decode(out, n, span_of(hex)));
  return n;
}

static void rfc8448_key_schedule(void **state) {
  (void)state;
  static const struct {
    const char *secret, *label, *want;
  } rows[] = {
      {client_secret_hex, "key", "17422dda596ed5d9acd890e3c63f5051"},
      {client_secret_hex, "iv", "5b78923dee08579033e523d9"},
      {server_secret_hex, "key", "9f02283b6c9c07efc26bb9f2ac92e356"},
      {server_secret_hex, "iv", "cf782b88dd83549aadf1e984"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    uint8_t secret[32], want[32], got[32];
    unhex(rows[i].secret, secret);
    size_t n = unhex(rows[i].want, want);
    assert_int_equal(expand_label(TLS_AES_128_GCM_SHA256, secret, rows[i].label, got, n), 0);
    assert_memory_equal(got, want, n);
  }
}

static void rfc8448_setup(struct records *r, bool client) {
  uint8_t cs[32], ss[32];
  unhex(client_secret_hex, cs);
  unhex(server_secret_hex, ss);
  struct records_setup setup = {.suite = TLS_AES_128_GCM_SHA256,
                                .client = client,
                                .client_secret = cs,
                                .server_secret = ss,
                                .tx_seq = client ? 0 : 1, /* the ticket went out already */
                                .max_out = RECORD_PLAIN_MAX};
  assert_int_equal(records_init(r, &setup), 0);
}

static void expect_open(struct records *r, const char *hex, int want, const uint8_t *data, size_t data_n) {
  uint8_t rec[512], out[512];
  size_t n = unhex(hex, rec), whole = 0, len = 0;
  assert_int_equal(records_length(r, rec, &whole), 0);
  assert_int_equal(whole, n);
  assert_int_equal(records_open(r, 1000, rec, n, out, &len), want);
  if (want == RECORD_DATA) {
    assert_int_equal(len, data_n);
    assert_memory_equal(out, data, data_n);
  }
}

static void expect_sealed(struct records *r, uint8_t type, const uint8_t *data, size_t n, const char *hex) {
  uint8_t rec[512], want[512];
  memcpy(rec + RECORD_HEADER, data, n);
  assert_int_equal(records_seal(r, type, rec, n), 0);
  assert_int_equal(n + RECORD_OVERHEAD, unhex(hex, want));
  assert_memory_equal(rec, want, n + RECORD_OVERHEAD);
}

static void rfc8448_records(void **state) {
  (void)state;
  struct records client, server;
  uint8_t data[50], want[64], alert[RECORD_ALERT_BYTES];
  for (size_t i = 0; i < sizeof data; i++)
    data[i] = (uint8_t)i;
  rfc8448_setup(&client, true);
  rfc8448_setup(&server, false);
  expect_sealed(&client, RECORD_DATA_TYPE, data, sizeof data, client_data_hex);
  expect_sealed(&server, RECORD_DATA_TYPE, data, sizeof data, server_data_hex);
  assert_int_equal(records_alert(&client, ALERT_CLOSE_NOTIFY, alert), 0);
  assert_int_equal(unhex(client_alert_hex, want), sizeof alert);
  assert_memory_equal(alert, want, sizeof alert);
  expect_open(&client, ticket_record_hex, RECORD_TICKET, NULL, 0);
  expect_open(&client, server_data_hex, RECORD_DATA, data, sizeof data);
  expect_open(&client, server_alert_hex, RECORD_CLOSED, NULL, 0);
  expect_open(&server, client_data_hex, RECORD_DATA, data, sizeof data);
  expect_open(&server, client_alert_hex, RECORD_CLOSED, NULL, 0);
  records_wipe(&client);
  records_wipe(&server);
}

/* --- two ends of our own --- */

struct ends {
  struct records client, server;
};

static void make_ends(struct ends *e, uint16_t suite) {
  uint8_t cs[SECRET_MAX], ss[SECRET_MAX];
  random_bytes(cs, sizeof cs);
  random_bytes(ss, sizeof ss);
  struct records_setup setup = {suite, true, cs, ss, 0, 0, RECORD_PLAIN_MAX};
  assert_int_equal(records_init(&e->client, &setup), 0);
  setup.client = false;
  assert_int_equal(records_init(&e->server, &setup), 0);
}

static void wipe_ends(struct ends *e) {
  records_wipe(&e->client);
  records_wipe(&e->server);
}

static uint8_t rec[RECORD_MAX + 64], out[RECORD_MAX + 64];

/* Seal n bytes of `p` plus `pad` zeros after the type. */
static size_t seal_padded(struct records *r, uint8_t type, const void *p, size_t n, size_t pad) {
  if (n)
    memcpy(rec + RECORD_HEADER, p, n);
  if (!pad) {
    assert_int_equal(records_seal(r, type, rec, n), 0);
    return n + RECORD_OVERHEAD;
  }
  rec[RECORD_HEADER + n] = type; /* the last byte that seal adds as the type is then a zero */
  memset(rec + RECORD_HEADER + n + 1, 0, pad);
  assert_int_equal(records_seal(r, 0, rec, n + pad), 0);
  return n + pad + RECORD_OVERHEAD;
}

static int pass(struct records *from, struct records *to, uint64_t now, uint8_t type, const void *p, size_t n,
                size_t pad) {
  size_t len = 0, whole = 0, total = seal_padded(from, type, p, n, pad);
  assert_int_equal(records_length(to, rec, &whole), 0);
  assert_int_equal(whole, total);
  int what = records_open(to, now, rec, total, out, &len);
  if (what == RECORD_DATA) {
    assert_int_equal(len, n);
    assert_memory_equal(out, p, n);
  }
  return what;
}

static const uint16_t suites[] = {TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384,
                                  TLS_CHACHA20_POLY1305_SHA256};

static const uint8_t ask[5] = {24, 0, 0, 1, 1}, tell[5] = {24, 0, 0, 1, 0};

/* `from` rolls its sending keys the way a foreign peer does, with or without asking for ours. */
static int peer_updates(struct records *from, struct records *to, uint64_t now, bool asking) {
  int what = pass(from, to, now, RECORD_HANDSHAKE, asking ? ask : tell, 5, 0);
  assert_int_equal(half_roll(&from->tx, from->suite), 0);
  return what;
}

static void both_ways_with_updates(void **state) {
  (void)state;
  static uint8_t data[RECORD_PLAIN_MAX];
  random_bytes(data, sizeof data);
  for (size_t s = 0; s < 3; s++) {
    struct ends e;
    make_ends(&e, suites[s]);
    uint64_t now = 5000;
    for (int round = 0; round < 40; round++, now += LIMIT_KEY_UPDATE_MS) {
      size_t n = round == 39 ? sizeof data : 1 + random_below(sizeof data - 40);
      bool asking = round & 1;
      uint8_t was[SECRET_MAX];
      assert_int_equal(pass(&e.client, &e.server, now, RECORD_DATA_TYPE, data, n, 0), RECORD_DATA);
      assert_int_equal(pass(&e.server, &e.client, now, RECORD_DATA_TYPE, data, n, round < 39 ? 17 : 0),
                       RECORD_DATA);
      memcpy(was, e.server.rx.secret, sizeof was);
      assert_int_equal(peer_updates(&e.client, &e.server, now, asking), RECORD_NOTHING);
      assert_memory_not_equal(was, e.server.rx.secret, 32);
      assert_int_equal(records_update_due(&e.server), asking);
      if (!asking)
        continue;
      size_t len;
      assert_int_equal(records_key_update(&e.server, rec), 0);
      assert_false(records_update_due(&e.server));
      assert_int_equal(records_open(&e.client, now, rec, RECORD_UPDATE_BYTES, out, &len), RECORD_NOTHING);
      assert_false(records_update_due(&e.client)); /* no ping-pong */
    }
    wipe_ends(&e);
  }
}

static void update_before_keys_wear_out(void **state) {
  (void)state;
  struct ends e;
  make_ends(&e, TLS_AES_256_GCM_SHA384);
  e.client.tx.seq = e.server.rx.seq = LIMIT_KEY_RECORDS - 1;
  assert_int_equal(pass(&e.client, &e.server, 1, RECORD_DATA_TYPE, "x", 1, 0), RECORD_DATA);
  assert_true(records_update_due(&e.client));
  size_t len;
  assert_int_equal(records_key_update(&e.client, rec), 0);
  assert_int_equal(records_open(&e.server, 1, rec, RECORD_UPDATE_BYTES, out, &len), RECORD_NOTHING);
  assert_int_equal(e.client.tx.seq, 0);
  assert_int_equal(pass(&e.client, &e.server, 1, RECORD_DATA_TYPE, "y", 1, 0), RECORD_DATA);
  wipe_ends(&e);
}

static void updates_are_rationed(void **state) {
  (void)state;
  struct ends e;
  make_ends(&e, TLS_AES_128_GCM_SHA256);
  for (unsigned i = 0; i < LIMIT_KEY_UPDATE_BURST; i++)
    assert_int_equal(peer_updates(&e.client, &e.server, 7000, false), RECORD_NOTHING);
  for (unsigned i = 1; i < 50; i++) /* once a second for as long as it likes */
    assert_int_equal(peer_updates(&e.client, &e.server, 7000 + i * LIMIT_KEY_UPDATE_MS, false),
                     RECORD_NOTHING);
  assert_int_equal(peer_updates(&e.client, &e.server, 7000 + 49 * LIMIT_KEY_UPDATE_MS + 999, false),
                   BEAM_ERR_PROTOCOL);
  assert_int_equal(e.server.alert, ALERT_UNEXPECTED_MESSAGE);
  wipe_ends(&e);
}

/* --- what a peer may do --- */

static void tickets_are_taken_in_any_shape(void **state) {
  (void)state;
  uint8_t ticket[300] = {4, 0, 1, 40};
  struct ends e;
  make_ends(&e, TLS_AES_128_GCM_SHA256);
  for (size_t cut = 1; cut < sizeof ticket; cut++) { /* over two records, cut everywhere */
    assert_int_equal(pass(&e.server, &e.client, 1, RECORD_HANDSHAKE, ticket, cut, cut & 7), RECORD_NOTHING);
    assert_int_equal(pass(&e.server, &e.client, 1, RECORD_HANDSHAKE, ticket + cut, sizeof ticket - cut, 0),
                     RECORD_TICKET);
    assert_int_equal(pass(&e.server, &e.client, 1, RECORD_DATA_TYPE, "x", 1, 0), RECORD_DATA);
  }
  uint8_t three[sizeof ticket * 2 + 5]; /* two tickets and a KeyUpdate in one record */
  memcpy(three, ticket, sizeof ticket);
  memcpy(three + sizeof ticket, ticket, sizeof ticket);
  memcpy(three + 2 * sizeof ticket, tell, sizeof tell);
  assert_int_equal(pass(&e.server, &e.client, 1, RECORD_HANDSHAKE, three, sizeof three, 3), RECORD_TICKET);
  assert_int_equal(half_roll(&e.server.tx, e.server.suite), 0);
  assert_int_equal(pass(&e.server, &e.client, 1, RECORD_DATA_TYPE, "x", 1, 0), RECORD_DATA);
  wipe_ends(&e);
}

static void an_update_may_be_fragmented(void **state) {
  (void)state;
  for (size_t cut = 1; cut < 5; cut++) {
    struct ends e;
    make_ends(&e, TLS_AES_128_GCM_SHA256);
    assert_int_equal(pass(&e.client, &e.server, 1, RECORD_HANDSHAKE, ask, cut, 0), RECORD_NOTHING);
    assert_int_equal(pass(&e.client, &e.server, 1, RECORD_HANDSHAKE, ask + cut, 5 - cut, 0), RECORD_NOTHING);
    assert_int_equal(half_roll(&e.client.tx, e.client.suite), 0);
    assert_true(records_update_due(&e.server));
    assert_int_equal(pass(&e.client, &e.server, 1, RECORD_DATA_TYPE, "x", 1, 0), RECORD_DATA);
    wipe_ends(&e);
  }
}

static void alerts_and_empty_records(void **state) {
  (void)state;
  struct ends e;
  make_ends(&e, TLS_CHACHA20_POLY1305_SHA256);
  assert_int_equal(pass(&e.client, &e.server, 1, RECORD_ALERT, (uint8_t[]){1, ALERT_USER_CANCELED}, 2, 0),
                   RECORD_NOTHING);
  for (int round = 0; round < 3; round++) {
    unsigned already = round ? 0 : 1;
    for (unsigned i = already; i < LIMIT_EMPTY_RECORDS; i++)
      assert_int_equal(pass(&e.client, &e.server, 1, RECORD_DATA_TYPE, "", 0, i), RECORD_NOTHING);
    assert_int_equal(pass(&e.client, &e.server, 1, RECORD_DATA_TYPE, "x", 1, 0), RECORD_DATA);
  }
  assert_int_equal(pass(&e.server, &e.client, 1, RECORD_ALERT, (uint8_t[]){2, 49}, 2, 0), RECORD_ALERTED);
  assert_int_equal(e.client.alert, 49);
  assert_int_equal(pass(&e.client, &e.server, 1, RECORD_ALERT, (uint8_t[]){1, 0}, 2, 5), RECORD_CLOSED);
  wipe_ends(&e);
}

/* --- what it must not: each line is one connection; the last record of it is fatal, with this alert --- */

struct step {
  uint8_t type;
  uint8_t n, pad;
  uint8_t bytes[16];
};

static void fatal_contents(void **state) {
  (void)state;
  static const struct {
    const char *what;
    bool to_client;
    uint8_t alert;
    struct step step[2];
  } rows[] = {
      {"all zeros", false, ALERT_UNEXPECTED_MESSAGE, {{0, 0, 9, {0}}}},
      {"only the type, and it is zero", false, ALERT_UNEXPECTED_MESSAGE, {{0, 0, 0, {0}}}},
      {"ChangeCipherSpec inside", false, ALERT_UNEXPECTED_MESSAGE, {{RECORD_CHANGE_CIPHER_SPEC, 1, 0, {1}}}},
      {"unknown type", false, ALERT_UNEXPECTED_MESSAGE, {{24, 1, 0, {1}}}},
      {"empty handshake record", true, ALERT_UNEXPECTED_MESSAGE, {{RECORD_HANDSHAKE, 0, 0, {0}}}},
      {"ticket to a server", false, ALERT_UNEXPECTED_MESSAGE, {{RECORD_HANDSHAKE, 8, 0, {4, 0, 0, 4}}}},
      {"ClientHello after the handshake",
       false,
       ALERT_UNEXPECTED_MESSAGE,
       {{RECORD_HANDSHAKE, 8, 0, {1, 0, 0, 4}}}},
      {"CertificateRequest after the handshake",
       true,
       ALERT_UNEXPECTED_MESSAGE,
       {{RECORD_HANDSHAKE, 8, 0, {13, 0, 0, 4}}}},
      {"HelloRequest of old", true, ALERT_UNEXPECTED_MESSAGE, {{RECORD_HANDSHAKE, 4, 0, {0}}}},
      {"empty ticket", true, ALERT_DECODE_ERROR, {{RECORD_HANDSHAKE, 4, 0, {4, 0, 0, 0}}}},
      {"endless ticket", true, ALERT_DECODE_ERROR, {{RECORD_HANDSHAKE, 8, 0, {4, 255, 0, 0}}}},
      {"KeyUpdate without value", false, ALERT_DECODE_ERROR, {{RECORD_HANDSHAKE, 4, 0, {24, 0, 0, 0}}}},
      {"KeyUpdate of two bytes", false, ALERT_DECODE_ERROR, {{RECORD_HANDSHAKE, 6, 0, {24, 0, 0, 2}}}},
      {"KeyUpdate of value 2", false, ALERT_ILLEGAL_PARAMETER, {{RECORD_HANDSHAKE, 5, 0, {24, 0, 0, 1, 2}}}},
      {"KeyUpdate followed by another",
       false,
       ALERT_UNEXPECTED_MESSAGE,
       {{RECORD_HANDSHAKE, 10, 0, {24, 0, 0, 1, 0, 24, 0, 0, 1, 0}}}},
      {"KeyUpdate followed by a fragment",
       true,
       ALERT_UNEXPECTED_MESSAGE,
       {{RECORD_HANDSHAKE, 6, 0, {24, 0, 0, 1, 0, 4}}}},
      {"data between fragments",
       true,
       ALERT_UNEXPECTED_MESSAGE,
       {{RECORD_HANDSHAKE, 8, 0, {4, 0, 0, 9}}, {RECORD_DATA_TYPE, 1, 0, {7}}}},
      {"empty data between fragments",
       true,
       ALERT_UNEXPECTED_MESSAGE,
       {{RECORD_HANDSHAKE, 1, 0, {24}}, {RECORD_DATA_TYPE, 0, 0, {0}}}},
      {"alert between fragments",
       false,
       ALERT_UNEXPECTED_MESSAGE,
       {{RECORD_HANDSHAKE, 2, 0, {24, 0}}, {RECORD_ALERT, 2, 0, {1, 0}}}},
      {"alert of one byte", false, ALERT_DECODE_ERROR, {{RECORD_ALERT, 1, 0, {1}}}},
      {"empty alert", false, ALERT_DECODE_ERROR, {{RECORD_ALERT, 0, 0, {0}}}},
      {"two alerts in a record", false, ALERT_DECODE_ERROR, {{RECORD_ALERT, 4, 0, {1, 90, 1, 0}}}},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct ends e;
    make_ends(&e, TLS_AES_256_GCM_SHA384);
    struct records *from = rows[i].to_client ? &e.server : &e.client,
                   *to = rows[i].to_client ? &e.client : &e.server;
    int last = rows[i].step[1].type ? 1 : 0, what = 0;
    for (int s = 0; s <= last; s++) {
      const struct step *st = &rows[i].step[s];
      what = pass(from, to, 1, st->type, st->bytes, st->n, st->pad);
      if (s < last)
        assert_int_equal(what, RECORD_NOTHING);
    }
    if (what != BEAM_ERR_PROTOCOL || to->alert != rows[i].alert)
      fail_msg("%s: %d, alert %d", rows[i].what, what, to->alert);
    wipe_ends(&e);
  }
}

static void fatal_headers(void **state) {
  (void)state;
  static const struct {
    uint8_t head[RECORD_HEADER];
    uint8_t alert;
  } rows[] = {
      {{RECORD_CHANGE_CIPHER_SPEC, 3, 3, 0, 1}, ALERT_UNEXPECTED_MESSAGE}, /* late */
      {{RECORD_ALERT, 3, 3, 0, 2}, ALERT_UNEXPECTED_MESSAGE},              /* plain */
      {{RECORD_HANDSHAKE, 3, 3, 0, 40}, ALERT_UNEXPECTED_MESSAGE},
      {{'G', 'E', 'T', ' ', '/'}, ALERT_UNEXPECTED_MESSAGE},
      {{RECORD_DATA_TYPE, 3, 3, 0x41, 0x01}, ALERT_RECORD_OVERFLOW}, /* 2^14 + 257 */
      {{RECORD_DATA_TYPE, 3, 3, 0xff, 0xff}, ALERT_RECORD_OVERFLOW},
      {{RECORD_DATA_TYPE, 3, 3, 0, 16}, ALERT_UNEXPECTED_MESSAGE}, /* a tag and no type */
      {{RECORD_DATA_TYPE, 3, 3, 0, 15}, ALERT_BAD_RECORD_MAC},
      {{RECORD_DATA_TYPE, 3, 3, 0, 0}, ALERT_BAD_RECORD_MAC},
  };
  struct ends e;
  make_ends(&e, TLS_AES_128_GCM_SHA256);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    size_t whole;
    assert_int_equal(records_length(&e.client, rows[i].head, &whole), BEAM_ERR_PROTOCOL);
    assert_int_equal(e.client.alert, rows[i].alert);
  }
  size_t whole;
  assert_int_equal(records_length(&e.client, (uint8_t[]){RECORD_DATA_TYPE, 3, 3, 0x41, 0}, &whole), 0);
  assert_int_equal(whole, RECORD_MAX);
  wipe_ends(&e);
}

/* Plaintext of 2^14 bytes and any padding that fits is right; a byte more of plaintext and padding together is not. */
static void over_long_plaintext(void **state) {
  (void)state;
  static uint8_t data[RECORD_PLAIN_MAX + 32];
  memset(data, 'a', sizeof data);
  static const struct {
    size_t n, pad;
    int want;
  } rows[] = {{RECORD_PLAIN_MAX, 0, RECORD_DATA},
              {RECORD_PLAIN_MAX - 9, 9, RECORD_DATA},
              {RECORD_PLAIN_MAX - 9, 10, BEAM_ERR_PROTOCOL},
              {RECORD_PLAIN_MAX + 1, 0, BEAM_ERR_PROTOCOL},
              {RECORD_PLAIN_MAX + 32, 0, BEAM_ERR_PROTOCOL}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct ends e;
    make_ends(&e, TLS_AES_256_GCM_SHA384);
    assert_int_equal(pass(&e.client, &e.server, 1, RECORD_DATA_TYPE, data, rows[i].n, rows[i].pad),
                     rows[i].want);
    if (rows[i].want < 0)
      assert_int_equal(e.server.alert, ALERT_RECORD_OVERFLOW);
    wipe_ends(&e);
  }
}

static void every_flipped_byte_is_noticed(void **state) {
  (void)state;
  for (size_t at = 1; at < 20 + RECORD_OVERHEAD; at++) {
    struct ends e;
    size_t len;
    make_ends(&e, suites[at % 3]);
    size_t n = seal_padded(&e.client, RECORD_DATA_TYPE, "twenty bytes of data", 20, 0);
    rec[at] ^= 0x40;
    assert_int_equal(records_open(&e.server, 1, rec, n, out, &len), BEAM_ERR_PROTOCOL);
    assert_int_equal(e.server.alert, ALERT_BAD_RECORD_MAC);
    wipe_ends(&e);
  }
}

/* Replay, loss and reordering all end in a sequence number that does not fit. */
static void records_come_once_and_in_order(void **state) {
  (void)state;
  struct ends e;
  size_t len;
  make_ends(&e, TLS_CHACHA20_POLY1305_SHA256);
  size_t n = seal_padded(&e.client, RECORD_DATA_TYPE, "x", 1, 0);
  assert_int_equal(records_open(&e.server, 1, rec, n, out, &len), RECORD_DATA);
  assert_int_equal(records_open(&e.server, 1, rec, n, out, &len), BEAM_ERR_PROTOCOL);
  wipe_ends(&e);
  make_ends(&e, TLS_CHACHA20_POLY1305_SHA256);
  seal_padded(&e.client, RECORD_DATA_TYPE, "lost", 4, 0);
  assert_int_equal(pass(&e.client, &e.server, 1, RECORD_DATA_TYPE, "x", 1, 0), BEAM_ERR_PROTOCOL);
  wipe_ends(&e);
}

static void idle_records_run_out(void **state) {
  (void)state;
  struct ends e;
  make_ends(&e, TLS_AES_128_GCM_SHA256);
  for (unsigned i = 0; i < LIMIT_EMPTY_RECORDS; i++)
    assert_int_equal(pass(&e.client, &e.server, 1, RECORD_DATA_TYPE, "", 0, 0), RECORD_NOTHING);
  assert_int_equal(pass(&e.client, &e.server, 1, RECORD_DATA_TYPE, "", 0, 0), BEAM_ERR_PROTOCOL);
  assert_int_equal(e.server.alert, ALERT_UNEXPECTED_MESSAGE);
  wipe_ends(&e);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rfc8448_key_schedule),
      cmocka_unit_test(rfc8448_records),
      cmocka_unit_test(both_ways_with_updates),
      cmocka_unit_test(update_before_keys_wear_out),
      cmocka_unit_test(updates_are_rationed),
      cmocka_unit_test(tickets_are_taken_in_any_shape),
      cmocka_unit_test(an_update_may_be_fragmented),
      cmocka_unit_test(alerts_and_empty_records),
      cmocka_unit_test(fatal_contents),
      cmocka_unit_test(fatal_headers),
      cmocka_unit_test(over_long_plaintext),
      cmocka_unit_test(every_flipped_byte_is_noticed),
      cmocka_unit_test(records_come_once_and_in_order),
      cmocka_unit_test(idle_records_run_out),
  };
  if (base_init())
    return 1;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
