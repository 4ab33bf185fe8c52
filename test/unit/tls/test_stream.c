/* TLS streams between two ends of ours, over memory on a virtual clock: handshakes, the stream contract, resumption, faults. */
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
#include "ends.h"
#include "tls/keys.h"
#include "tls/stream.h"

static struct pki_cert ca, other_ca, leaf, second, client_leaf, expired;
static struct tls_cert *leaf_cert, *second_cert, *client_cert, *expired_cert, *bare_cert /* without its CA */,
    *forged_cert;
static const char *const h2_h1[] = {"h2", "http/1.1", NULL}, *const h1[] = {"http/1.1", NULL},
                         *const beam[] = {"beam/1", NULL}, *const odd[] = {"odd", NULL};

static int make_pki(void **state) {
  (void)state;
  pki_ca(&ca, "Test CA");
  pki_ca(&other_ca, "Other CA");
  pki_leaf(&ca, "Test CA", &leaf, "shop.test", "127.0.0.1", PKI_SERVER);
  pki_leaf(&ca, "Test CA", &second, "second.test", NULL, PKI_SERVER);
  pki_leaf(&ca, "Test CA", &client_leaf, NULL, NULL, PKI_CLIENT);
  pki_leaf(&ca, "Test CA", &expired, "expired.test", NULL, PKI_SERVER | PKI_EXPIRED);
  leaf_cert = pki_tls_cert(&leaf);
  second_cert = pki_tls_cert(&second);
  client_cert = pki_tls_cert(&client_leaf);
  expired_cert = pki_tls_cert(&expired);
  struct pki_cert bare = leaf;
  *strstr(strstr(bare.pem, "-----END") + 1, "-----BEGIN") = 0;
  bare_cert = pki_tls_cert(&bare);
  /* Issued by somebody who calls himself like our CA, and shows ours behind it. */
  struct pki_cert impostor, forged;
  pki_ca(&impostor, "Test CA");
  pki_leaf(&impostor, "Test CA", &forged, "forged.test", NULL, PKI_SERVER);
  char *behind = strstr(strstr(forged.pem, "-----END") + 1, "-----BEGIN");
  snprintf(behind, sizeof forged.pem - (size_t)(behind - forged.pem), "%s", ca.pem);
  forged_cert = pki_tls_cert(&forged);
  pki_free(&impostor);
  pki_free(&forged);
  return 0;
}

static int free_pki(void **state) {
  (void)state;
  tls_cert_unref(leaf_cert);
  tls_cert_unref(second_cert);
  tls_cert_unref(client_cert);
  tls_cert_unref(expired_cert);
  tls_cert_unref(bare_cert);
  tls_cert_unref(forged_cert);
  struct pki_cert *all[] = {&ca, &other_ca, &leaf, &second, &client_leaf, &expired};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    pki_free(all[i]);
  return 0;
}

static struct tls_cert *choose(void *user, const char *sni) {
  (void)user;
  return !strcmp(sni, "shop.test") || !*sni ? tls_cert_ref(leaf_cert)
         : !strcmp(sni, "second.test")      ? tls_cert_ref(second_cert)
         : !strcmp(sni, "expired.test")     ? tls_cert_ref(expired_cert)
         : !strcmp(sni, "bare.test")        ? tls_cert_ref(bare_cert)
         : !strcmp(sni, "forged.test")      ? tls_cert_ref(forged_cert)
                                            : NULL;
}

static struct tls_context *server_with(const struct tls_server_config *given) {
  struct tls_server_config c = *given;
  struct tls_context *out = NULL;
  c.choose = choose;
  assert_int_equal(tls_server_context(&c, &out), 0);
  return out;
}

static struct tls_context *client_with(const struct tls_client_config *given) {
  struct tls_client_config c = *given;
  struct tls_context *out = NULL;
  if (c.trust == TLS_TRUST_CA && !c.ca) {
    c.ca = ca.pem;
    c.ca_n = strlen(ca.pem);
  }
  if (!c.server_name && !c.name_any)
    c.server_name = "shop.test";
  assert_int_equal(tls_client_context(&c, &out), 0);
  return out;
}

enum { V13, V12, VERSIONS };

/* Both sides as a visitor and a relay would have them. */
static void open_plain(struct world *w, int version, size_t step) {
  struct tls_context *s = server_with(&(struct tls_server_config){.alpn = h2_h1});
  struct tls_context *c = client_with(&(struct tls_client_config){.alpn = h1});
  if (version == V12)
    mbedtls_ssl_conf_max_tls_version(&c->conf, MBEDTLS_SSL_VERSION_TLS1_2);
  world_open(w, c, s, step);
  tls_context_unref(c);
  tls_context_unref(s);
  world_run(w);
  assert_int_equal(w->client.err, 0);
  assert_int_equal(w->server.err, 0);
}

/* --- handshakes --- */

static void agrees_on_everything(void **state) {
  (void)state;
  for (int v = 0; v < VERSIONS; v++) {
    struct world w;
    uint8_t fp[32], a[TLS_EXPORT_BYTES] = {0}, b[TLS_EXPORT_BYTES] = {1};
    open_plain(&w, v, 4096);
    for (int i = 0; i < 2; i++) {
      struct end *e = i ? &w.server : &w.client;
      assert_int_equal(e->info.version, v == V13 ? TLS_1_3 : TLS_1_2);
      assert_string_equal(e->info.alpn, "http/1.1");
      assert_false(e->info.resumed);
      if (v == V13 && aead_aes_is_fast())
        assert_int_equal(e->info.cipher, TLS_AES_256_GCM_SHA384);
    }
    assert_string_equal(w.server.info.sni, "shop.test");
    assert_false(w.server.info.has_peer);
    assert_true(w.client.info.has_peer);
    tls_cert_fingerprint(leaf_cert, fp);
    assert_memory_equal(w.client.info.peer_sha256, fp, 32);
    assert_memory_equal(w.client.info.ca_sha256, ca.sha256, 32);
    int want = v == V13 ? 0 : BEAM_ERR_UNSUPPORTED;
    assert_int_equal(tls_exporter(w.client.s, a), want);
    assert_int_equal(tls_exporter(w.server.s, b), want);
    if (!want)
      assert_memory_equal(a, b, sizeof a);
    world_close(&w);
  }
}

struct refusal {
  const char *what;
  struct tls_server_config server;
  struct tls_client_config client;
  int client_err, server_err;
};

static int deny(void *user, const struct tls_peer *peer) {
  (void)user;
  assert_true(peer->count >= 1);
  return BEAM_ERR_DENIED;
}

static int pin(void *user, const struct tls_peer *peer) {
  const struct pki_cert *want = user;
  return memcmp(peer->ca_sha256, want->sha256, 32) != 0 ? BEAM_ERR_UNTRUSTED : 0;
}

static int must_not_be_asked(void *user, const struct tls_peer *peer) {
  (void)user;
  (void)peer;
  fail_msg("verify was called for a chain that is not sound");
  return 0;
}

/* 1 means: any error; TLS 1.3 lets a client finish before the server has judged it, so it may even be 0: -1000. */
enum { ANY = 1, WHATEVER = -1000 };

static void who_is_let_in(void **state) {
  (void)state;
  const void *ca_pem = ca.pem, *other_pem = other_ca.pem;
  size_t ca_n = strlen(ca.pem), other_n = strlen(other_ca.pem);
  const struct refusal rows[] = {
      {"right name", {0}, {.server_name = "second.test"}, 0, 0},
      {"name in capitals", {0}, {.server_name = "SHOP.test"}, 0, 0},
      {"address", {0}, {.server_name = "127.0.0.1"}, 0, 0},
      {"wrong address", {0}, {.server_name = "127.0.0.2"}, BEAM_ERR_UNTRUSTED, ANY},
      {"unknown name", {0}, {.server_name = "nobody.test"}, ANY, ANY},
      {"expired", {0}, {.server_name = "expired.test"}, BEAM_ERR_UNTRUSTED, ANY},
      {"other CA",
       {0},
       {.ca = other_pem, .ca_n = other_n, .verify = must_not_be_asked},
       BEAM_ERR_UNTRUSTED,
       ANY},
      {"verify denies", {0}, {.verify = deny}, BEAM_ERR_DENIED, ANY},
      {"any name", {0}, {.name_any = true}, 0, 0},
      {"trust any, expired", {0}, {.trust = TLS_TRUST_ANY, .server_name = "expired.test"}, 0, 0},
      {"trust any, denied", {0}, {.trust = TLS_TRUST_ANY, .verify = deny}, BEAM_ERR_DENIED, ANY},
      {"pin", {0}, {.trust = TLS_TRUST_CHAIN, .verify = pin, .user = &ca}, 0, 0},
      {"pin, name does not count",
       {.link = true},
       {.trust = TLS_TRUST_CHAIN, .verify = pin, .user = &ca, .name_any = true, .link = true},
       0,
       0},
      {"other pin",
       {0},
       {.trust = TLS_TRUST_CHAIN, .verify = pin, .user = &other_ca},
       BEAM_ERR_UNTRUSTED,
       ANY},
      {"pin, expired",
       {0},
       {.trust = TLS_TRUST_CHAIN, .verify = must_not_be_asked, .server_name = "expired.test"},
       BEAM_ERR_UNTRUSTED,
       ANY},
      {"pin, but the chain stops short of it",
       {0},
       {.trust = TLS_TRUST_CHAIN, .verify = must_not_be_asked, .server_name = "bare.test"},
       BEAM_ERR_UNTRUSTED,
       ANY},
      {"forged, CA",
       {0},
       {.verify = must_not_be_asked, .server_name = "forged.test"},
       BEAM_ERR_UNTRUSTED,
       ANY},
      {"forged, pin",
       {0},
       {.trust = TLS_TRUST_CHAIN, .verify = must_not_be_asked, .server_name = "forged.test"},
       BEAM_ERR_UNTRUSTED,
       ANY},
      {"no common ALPN", {.alpn = h1}, {.alpn = odd}, ANY, BEAM_ERR_PROTOCOL},
      {"server without ALPN", {0}, {.alpn = h1}, 0, 0},
      {"server without ALPN, required",
       {0},
       {.alpn = h1, .alpn_required = true},
       BEAM_ERR_PROTOCOL,
       WHATEVER},
      {"client certificate",
       {.client_cert = TLS_CLIENT_CERT_REQUIRED, .ca = ca_pem, .ca_n = ca_n},
       {.cert = client_cert},
       0,
       0},
      {"client certificate missing",
       {.client_cert = TLS_CLIENT_CERT_REQUIRED, .ca = ca_pem, .ca_n = ca_n},
       {0},
       WHATEVER,
       BEAM_ERR_UNTRUSTED},
      {"client certificate optional",
       {.client_cert = TLS_CLIENT_CERT_OPTIONAL, .ca = ca_pem, .ca_n = ca_n},
       {0},
       0,
       0},
      {"client certificate optional but bad",
       {.client_cert = TLS_CLIENT_CERT_OPTIONAL,
        .ca = other_pem,
        .ca_n = other_n,
        .verify = must_not_be_asked},
       {.cert = client_cert},
       WHATEVER,
       BEAM_ERR_UNTRUSTED},
      {"client certificate of a server",
       {.client_cert = TLS_CLIENT_CERT_OPTIONAL, .ca = ca_pem, .ca_n = ca_n},
       {.cert = leaf_cert},
       WHATEVER,
       BEAM_ERR_UNTRUSTED},
      {"client certificate denied",
       {.client_cert = TLS_CLIENT_CERT_REQUIRED, .ca = ca_pem, .ca_n = ca_n, .verify = deny},
       {.cert = client_cert},
       WHATEVER,
       BEAM_ERR_DENIED},
      {"link", {.link = true, .alpn = beam}, {.link = true, .alpn = beam, .alpn_required = true}, 0, 0},
      {"link against an edge", {.link = true}, {0}, 0, 0},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (int v = 0; v < VERSIONS; v++) {
      const struct refusal *r = &rows[i];
      if (v == V12 && (r->server.link || r->client.link))
        continue;
      struct tls_context *s = server_with(&r->server), *c = client_with(&r->client);
      if (v == V12)
        mbedtls_ssl_conf_max_tls_version(&c->conf, MBEDTLS_SSL_VERSION_TLS1_2);
      struct world w;
      world_open(&w, c, s, 100000);
      world_run(&w);
      int got[2] = {w.client.err, w.server.err}, want[2] = {r->client_err, r->server_err};
      for (int k = 0; k < 2; k++)
        if (want[k] == WHATEVER ? got[k] == 1 : want[k] == ANY ? got[k] >= 0 : got[k] != want[k])
          fail_msg("%s, TLS 1.%d: %s got %d, wanted %d", r->what, v == V13 ? 3 : 2, k ? "server" : "client",
                   got[k], want[k]);
      world_close(&w);
      tls_context_unref(c);
      tls_context_unref(s);
    }
}

static void link_and_client_certificate_are_seen(void **state) {
  (void)state;
  struct world w;
  uint8_t fp[32];
  struct tls_context *s = server_with(&(struct tls_server_config){.link = true,
                                                                  .alpn = beam,
                                                                  .client_cert = TLS_CLIENT_CERT_REQUIRED,
                                                                  .ca = ca.pem,
                                                                  .ca_n = strlen(ca.pem)});
  struct tls_context *c = client_with(&(struct tls_client_config){
      .link = true, .alpn = beam, .trust = TLS_TRUST_CHAIN, .verify = pin, .user = &ca, .cert = client_cert});
  world_open(&w, c, s, 1000);
  world_run(&w);
  assert_int_equal(w.server.err, 0);
  assert_int_equal(w.server.info.cipher, TLS_AES_256_GCM_SHA384);
  assert_string_equal(w.server.info.alpn, "beam/1");
  assert_true(w.server.info.has_peer);
  tls_cert_fingerprint(client_cert, fp);
  assert_memory_equal(w.server.info.peer_sha256, fp, 32);
  assert_memory_equal(w.server.info.ca_sha256, ca.sha256, 32);
  world_close(&w);
  tls_context_unref(c);
  tls_context_unref(s);
}

static void bad_settings(void **state) {
  (void)state;
  struct tls_context *out;
  struct tls_cert *cert;
  assert_int_equal(tls_client_context(&(struct tls_client_config){.trust = TLS_TRUST_CHAIN}, &out),
                   BEAM_ERR_INVALID);
  assert_int_equal(tls_server_context(&(struct tls_server_config){0}, &out), BEAM_ERR_INVALID);
  assert_int_equal(
      tls_server_context(
          &(struct tls_server_config){.choose = choose, .client_cert = TLS_CLIENT_CERT_REQUIRED}, &out),
      BEAM_ERR_INVALID);
  assert_int_equal(tls_client_context(&(struct tls_client_config){.server_name = "x"}, &out),
                   BEAM_ERR_INVALID);
  assert_int_equal(
      tls_client_context(&(struct tls_client_config){.ca = "rubbish", .ca_n = 7, .server_name = "x"}, &out),
      BEAM_ERR_INVALID);
  assert_int_equal(
      tls_client_context(&(struct tls_client_config){.ca = ca.pem, .ca_n = strlen(ca.pem)}, &out),
      BEAM_ERR_INVALID);
  assert_int_equal(tls_cert_new(leaf.pem, strlen(leaf.pem), second.key_pem, strlen(second.key_pem), &cert),
                   BEAM_ERR_INVALID);
  assert_int_equal(tls_cert_new(leaf.pem, 100, leaf.key_pem, strlen(leaf.key_pem), &cert), BEAM_ERR_INVALID);
  assert_int_equal(tls_cert_new("", 0, "", 0, &cert), BEAM_ERR_INVALID);
}

static void nobody_answers(void **state) {
  (void)state;
  struct tls_context *s = server_with(&(struct tls_server_config){0});
  struct world w;
  memset(&w, 0, sizeof w);
  struct tls_context *c = client_with(&(struct tls_client_config){0});
  world_open(&w, c, s, 0); /* a wire that carries nothing */
  loop_run_for(w.l, LIMIT_HANDSHAKE_MS - 1);
  assert_int_equal(w.server.err, 1);
  loop_run_for(w.l, 1);
  assert_int_equal(w.server.err, BEAM_ERR_TIMEOUT);
  assert_int_equal(w.client.err, BEAM_ERR_TIMEOUT);
  world_close(&w);
  for (size_t step = 1; step < 1000; step += 37) { /* cancelled at every stage */
    world_open(&w, c, s, step);
    loop_turn_end(w.l, &w.w.task);
    w.w.cut_after = step;
    world_run(&w);
    assert_int_not_equal(w.client.err, 0);
    world_close(&w);
  }
  tls_context_unref(c);
  tls_context_unref(s);
}

static void a_handshake_cut_anywhere_is_a_truncation(void **state) {
  (void)state;
  struct tls_context *s = server_with(&(struct tls_server_config){.alpn = h1}),
                     *c = client_with(&(struct tls_client_config){.alpn = h1});
  struct world w;
  world_open(&w, c, s, 100000);
  world_run(&w);
  assert_int_equal(w.client.err, 0);
  size_t all = w.w.carried[1];
  world_close(&w);
  for (size_t at = 1; at < all; at += 61) {
    world_open(&w, c, s, 100000);
    w.w.cut_after = at;
    world_run(&w);
    assert_int_equal(w.client.err, BEAM_ERR_TRUNCATED);
    world_close(&w);
  }
  tls_context_unref(c);
  tls_context_unref(s);
}

/* --- data --- */

/* Push `total` pseudo-random bytes into s as it takes them. */
static uint64_t push(struct world *w, struct end *from, size_t total) {
  static unsigned char data[300000];
  struct evbuffer *b = evbuffer_new();
  uint64_t hash = 0;
  size_t sent = 0;
  random_bytes(data, sizeof data);
  while (sent < total) {
    size_t want = total - sent < sizeof data ? total - sent : sizeof data;
    evbuffer_add(b, data, want);
    while (evbuffer_get_length(b)) {
      size_t n = stream_move(from->s, b, evbuffer_get_length(b));
      if (!n || random_below(3) == 0)
        world_run(w);
      assert_int_equal(from->closed, 0);
    }
    hash = end_hash(hash, data, want);
    sent += want;
  }
  world_run(w);
  evbuffer_free(b);
  return hash;
}

static void bulk_both_ways(void **state) {
  (void)state;
  static const size_t steps[] = {1 << 20, 16384 + 21, 5000};
  for (int v = 0; v < VERSIONS; v++)
    for (size_t i = 0; i < 3; i++) {
      struct world w;
      open_plain(&w, v, steps[i]);
      for (int round = 0; round < 3; round++) {
        uint64_t up = push(&w, &w.client, 3000000), down = push(&w, &w.server, 3000000);
        assert_int_equal(w.server.got, (round + 1) * 3000000);
        assert_int_equal(w.client.got, (round + 1) * 3000000);
        assert_true(round || w.server.hash == up);
        assert_true(round || w.client.hash == down);
      }
      world_close(&w);
    }
}

static void one_byte_at_a_time(void **state) {
  (void)state;
  for (int v = 0; v < VERSIONS; v++) {
    struct world w;
    open_plain(&w, v, 1);
    uint64_t up = push(&w, &w.client, 40000), down = push(&w, &w.server, 40000);
    assert_true(w.server.hash == up && w.server.got == 40000);
    assert_true(w.client.hash == down && w.client.got == 40000);
    stream_finish(w.client.s);
    world_run(&w);
    assert_true(w.server.at_end);
    world_close(&w);
  }
}

static void small_writes_of_a_turn_leave_as_one_record(void **state) {
  (void)state;
  struct world w;
  open_plain(&w, V13, 1 << 20);
  size_t before = w.w.carried[0];
  for (int i = 0; i < 100; i++)
    assert_int_equal(stream_write(w.client.s, "ten bytes.", 10), 10);
  world_run(&w);
  assert_int_equal(w.w.carried[0] - before, 1000 + RECORD_OVERHEAD);
  assert_int_equal(w.server.got, 1000);
  stream_write(w.client.s, "bye", 3);
  stream_finish(w.client.s);
  before = w.w.carried[0];
  world_run(&w);
  assert_int_equal(w.w.carried[0] - before, 3 + RECORD_OVERHEAD + RECORD_ALERT_BYTES);
  world_close(&w);
}

static void half_close_and_reply(void **state) {
  (void)state;
  for (int v = 0; v < VERSIONS; v++) {
    struct world w;
    open_plain(&w, v, 4096);
    stream_write(w.client.s, "question", 8);
    stream_finish(w.client.s);
    assert_int_equal(stream_write(w.client.s, "late", 4), 0);
    world_run(&w);
    assert_true(w.server.at_end);
    assert_string_equal(w.server.last, "question");
    assert_int_equal(w.server.closed, 0);
    uint64_t reply = push(&w, &w.server, 1000000);
    assert_true(w.client.hash == reply && w.client.got == 1000000);
    assert_false(w.client.at_end);
    stream_close(w.server.s, 0);
    w.server.s = NULL;
    world_run(&w);
    assert_true(w.client.at_end);
    assert_int_equal(w.client.closed, 0);
    world_close(&w);
  }
}

/* stream_close(0) with the wire full: everything still arrives, then the end. */
static void close_drains(void **state) {
  (void)state;
  for (int v = 0; v < VERSIONS; v++) {
    struct world w;
    static unsigned char data[2000];
    open_plain(&w, v, 1000);
    w.client.hold = true;
    size_t sent = 0;
    for (size_t n; (n = stream_write(w.server.s, data, sizeof data)); sent += n)
      world_run(&w);
    assert_true(sent > 100000);
    assert_true(sent <
                4u * LIMIT_MEM_PIPE + LIMIT_TLS_OUT + LIMIT_TLS_IN); /* back-pressure reaches the writer */
    stream_close(w.server.s, 0);
    w.server.s = NULL;
    world_run(&w);
    assert_false(w.client.at_end);
    w.client.hold = false;
    end_events.readable(&w.client);
    world_run(&w);
    assert_int_equal(w.client.got, sent);
    assert_true(w.client.at_end);
    world_close(&w);
  }
}

static void writer_hears_of_room(void **state) {
  (void)state;
  for (int v = 0; v < VERSIONS; v++) {
    struct world w;
    static unsigned char data[70000];
    open_plain(&w, v, 1 << 20);
    w.client.hold = true;
    while (stream_write(w.server.s, data, sizeof data) == sizeof data)
      world_run(&w);
    w.server.writable = false;
    world_run(&w);
    while (stream_write(w.server.s, data, sizeof data))
      world_run(&w);
    w.server.writable = false;
    world_run(&w);
    assert_false(w.server.writable);
    w.client.hold = false;
    end_events.readable(&w.client);
    world_run(&w);
    assert_true(w.server.writable);
    assert_true(stream_write(w.server.s, "x", 1) == 1);
    world_close(&w);
  }
}

static void reset_crosses(void **state) {
  (void)state;
  for (int v = 0; v < VERSIONS; v++) {
    struct world w;
    open_plain(&w, v, 4096);
    stream_write(w.client.s, "before", 6);
    world_run(&w);
    stream_close(w.client.s, BEAM_ERR_LOCAL);
    w.client.s = NULL;
    world_run(&w);
    assert_int_equal(w.server.closed, BEAM_ERR_RESET);
    assert_false(w.server.at_end);
    assert_string_equal(w.server.last, "before");
    world_close(&w);
  }
}

static void end_without_close_notify_is_a_truncation(void **state) {
  (void)state;
  for (int v = 0; v < VERSIONS; v++)
    for (size_t keep = 0; keep < 60; keep += 1) {
      struct world w;
      open_plain(&w, v, 1 << 20);
      w.w.cut_after = w.w.carried[1] + 122 + keep; /* after a record of 100 bytes and into the next */
      stream_write(w.server.s,
                   "01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678"
                   "90123456789",
                   100);
      world_run(&w);
      stream_write(w.server.s, "more than what is let through, and then close_notify too", 56);
      stream_finish(w.server.s);
      world_run(&w);
      assert_true(w.client.got == 100 || w.client.got == 156 || (v == V12 && !w.client.got));
      assert_int_equal(w.client.closed, BEAM_ERR_TRUNCATED);
      assert_false(w.client.at_end);
      world_close(&w);
    }
}

/* --- resumption --- */

static void connect_again(struct tls_context *c, struct tls_context *s, bool want_resumed) {
  struct world w;
  world_open(&w, c, s, 100000);
  world_run(&w);
  assert_int_equal(w.client.err, 0);
  assert_int_equal(w.server.err, 0);
  assert_int_equal(w.client.info.resumed, want_resumed);
  assert_int_equal(w.server.info.resumed, want_resumed);
  assert_string_equal(w.server.info.sni, "shop.test");
  assert_string_equal(w.server.info.alpn, "http/1.1");
  uint64_t down = push(&w, &w.server, 50000), up = push(&w, &w.client, 50000);
  assert_true(w.client.hash == down && w.server.hash == up);
  stream_finish(w.client.s);
  stream_finish(w.server.s);
  world_run(&w);
  assert_true(w.client.at_end && w.server.at_end);
  world_close(&w);
}

static void resumes(void **state) {
  (void)state;
  for (int v = 0; v < VERSIONS; v++) {
    struct tls_tickets *keys, *restarted, *stranger;
    uint8_t blob[TLS_TICKETS_BLOB];
    assert_int_equal(tls_tickets_new(&keys), 0);
    assert_int_equal(tls_tickets_new(&restarted), 0);
    assert_int_equal(tls_tickets_new(&stranger), 0);
    struct tls_context *s = server_with(&(struct tls_server_config){.alpn = h1, .tickets = keys});
    struct tls_context *c = client_with(&(struct tls_client_config){.alpn = h1, .resume = true});
    if (v == V12)
      mbedtls_ssl_conf_max_tls_version(&c->conf, MBEDTLS_SSL_VERSION_TLS1_2);
    connect_again(c, s, false);
    connect_again(c, s, true);
    connect_again(c, s, true);
    /* The server starts anew with the keys it kept. */
    tls_tickets_export(keys, blob);
    assert_int_equal(tls_tickets_import(restarted, blob, sizeof blob), 0);
    tls_context_unref(s);
    s = server_with(&(struct tls_server_config){.alpn = h1, .tickets = restarted});
    connect_again(c, s, true);
    /* With other keys the ticket is worth nothing, and that is no error. */
    tls_context_unref(s);
    s = server_with(&(struct tls_server_config){.alpn = h1, .tickets = stranger});
    connect_again(c, s, false);
    connect_again(c, s, true);
    tls_context_unref(s);
    tls_context_unref(c);
    tls_tickets_unref(keys);
    tls_tickets_unref(restarted);
    tls_tickets_unref(stranger);
  }
}

static void a_client_does_not_wait_for_a_ticket_for_ever(void **state) {
  (void)state;
  struct tls_context *s = server_with(&(struct tls_server_config){.alpn = h1}); /* gives none */
  struct tls_context *c = client_with(&(struct tls_client_config){.alpn = h1, .resume = true});
  struct world w;
  world_open(&w, c, s, 100000);
  world_run(&w);
  struct tls_stream *t = (struct tls_stream *)w.client.s;
  assert_non_null(t->resume);
  loop_run_for(w.l, LIMIT_TICKET_WAIT_MS - 1);
  assert_non_null(t->resume);
  loop_run_for(w.l, 1);
  assert_null(t->resume);
  uint64_t down = push(&w, &w.server, 1000);
  assert_true(w.client.hash == down);
  world_close(&w);
  world_open(&w, c, s, 100000); /* data ends the waiting too */
  world_run(&w);
  t = (struct tls_stream *)w.client.s;
  assert_non_null(t->resume);
  push(&w, &w.server, 1);
  assert_null(t->resume);
  world_close(&w);
  tls_context_unref(c);
  tls_context_unref(s);
}

static void ticket_keys_age(void **state) {
  (void)state;
  enum { CURRENT = 8, BORN = 8 + 8 + 32, PREVIOUS = 8 + 48 };
  struct tls_tickets *t;
  uint8_t blob[TLS_TICKETS_BLOB], after[TLS_TICKETS_BLOB];
  assert_int_equal(tls_tickets_new(&t), 0);
  tls_tickets_export(t, blob);
  uint64_t epoch = tls_tickets_epoch(t);
  assert_int_equal(tls_tickets_import(t, blob, sizeof blob - 1), BEAM_ERR_INVALID);
  blob[0] ^= 1;
  assert_int_equal(tls_tickets_import(t, blob, sizeof blob), BEAM_ERR_INVALID);
  blob[0] ^= 1;
  assert_int_equal(tls_tickets_epoch(t), epoch);
  uint64_t born = 0;
  for (int i = 0; i < 8; i++)
    born = born << 8 | blob[BORN + i];
  static const struct {
    int64_t back;
    bool is_current, is_previous;
  } rows[] = {
      {60, true, false},                         /* young: seals on */
      {LIMIT_TICKET_ROTATE_S + 60, false, true}, /* only opens */
      {2 * LIMIT_TICKET_ROTATE_S + 60, false, false},
      {-3600, false, false}, /* from the future */
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    uint64_t when = born - (uint64_t)rows[i].back;
    uint8_t aged[TLS_TICKETS_BLOB];
    struct tls_tickets *u;
    memcpy(aged, blob, sizeof aged);
    for (int k = 0; k < 8; k++)
      aged[BORN + k] = (uint8_t)(when >> (56 - 8 * k));
    assert_int_equal(tls_tickets_new(&u), 0);
    assert_int_equal(tls_tickets_import(u, aged, sizeof aged), 0);
    tls_tickets_export(u, after);
    assert_int_equal(!memcmp(after + CURRENT, blob + CURRENT, 40), rows[i].is_current);
    assert_int_equal(!memcmp(after + PREVIOUS, blob + CURRENT, 40), rows[i].is_previous);
    tls_tickets_unref(u);
  }
  tls_tickets_unref(t);
}

/* --- KeyUpdate and faults, from a peer made of our own parts --- */

static struct tls_stream *inside(struct end *e) {
  return (struct tls_stream *)e->s;
}

/* Put raw bytes on the wire behind e's back. */
static void put_raw(struct world *w, struct end *e, const void *p, size_t n) {
  assert_int_equal(stream_write(inside(e)->lower, p, n), n);
  world_run(w);
}

static void put_record(struct world *w, struct end *e, uint8_t type, const void *p, size_t n) {
  uint8_t rec[RECORD_MAX];
  memcpy(rec + RECORD_HEADER, p, n);
  assert_int_equal(records_seal(inside(e)->records, type, rec, n), 0);
  put_raw(w, e, rec, n + RECORD_OVERHEAD);
}

static void keys_change_both_ways(void **state) {
  (void)state;
  struct world w;
  open_plain(&w, V13, 777);
  static const uint8_t ask[5] = {24, 0, 0, 1, 1};
  for (int round = 0; round < 30; round++) {
    struct end *from = round & 1 ? &w.server : &w.client, *to = round & 1 ? &w.client : &w.server;
    uint8_t was[SECRET_MAX];
    memcpy(was, inside(to)->records->tx.secret, sizeof was);
    put_record(&w, from, RECORD_HANDSHAKE, ask, sizeof ask);
    half_roll(&inside(from)->records->tx, inside(from)->records->suite);
    world_run(&w);
    assert_memory_not_equal(was, inside(to)->records->tx.secret, 32); /* answered at once */
    size_t got[2] = {w.client.got, w.server.got};
    push(&w, &w.client, 20000);
    push(&w, &w.server, 20000);
    assert_int_equal(w.client.got - got[0], 20000);
    assert_int_equal(w.server.got - got[1], 20000);
    loop_run_for(w.l, 2 * LIMIT_KEY_UPDATE_MS);
  }
  /* Worn keys are renewed in the middle of bulk data. */
  inside(&w.server)->records->tx.seq = inside(&w.client)->records->rx.seq = LIMIT_KEY_RECORDS - 5;
  w.client.hash = w.client.got = 0;
  uint64_t down = push(&w, &w.server, 1000000);
  assert_true(w.client.got == 1000000 && w.client.hash == down);
  assert_true(inside(&w.server)->records->tx.seq < 1000);
  world_close(&w);
}

static void faults_end_the_stream_with_an_alert(void **state) {
  (void)state;
  static const struct {
    const char *what;
    bool raw;
    uint8_t type;
    uint8_t n;
    uint8_t bytes[8];
  } rows[] = {
      {"late ChangeCipherSpec", true, 0, 6, {RECORD_CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1}},
      {"plain HTTP", true, 0, 5, {'G', 'E', 'T', ' ', '/'}},
      {"over-long", true, 0, 5, {RECORD_DATA_TYPE, 3, 3, 0x41, 1}},
      {"not authentic", true, 0, 5 + 3, {RECORD_DATA_TYPE, 3, 3, 0, 3, 1, 2, 3}},
      {"zeros", false, 0, 4, {0}},
      {"ClientHello", false, RECORD_HANDSHAKE, 5, {1, 0, 0, 1, 0}},
      {"KeyUpdate and more", false, RECORD_HANDSHAKE, 6, {24, 0, 0, 1, 0, 24}},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct world w;
    open_plain(&w, V13, 1 << 20);
    stream_write(w.client.s, "good", 4);
    world_run(&w);
    if (rows[i].raw)
      put_raw(&w, &w.client, rows[i].bytes, rows[i].n);
    else
      put_record(&w, &w.client, rows[i].type, rows[i].bytes, rows[i].n);
    if (w.server.closed != BEAM_ERR_PROTOCOL || strcmp((char *)w.server.last, "good"))
      fail_msg("%s: server %d", rows[i].what, w.server.closed);
    if (w.client.closed != BEAM_ERR_RESET) /* the alert arrived, sealed and in order */
      fail_msg("%s: client %d", rows[i].what, w.client.closed);
    world_close(&w);
  }
}

static void data_after_close_notify_means_nothing(void **state) {
  (void)state;
  struct world w;
  open_plain(&w, V13, 1 << 20);
  struct records *r = inside(&w.client)->records;
  uint8_t rec[200];
  memcpy(rec + RECORD_ALERT_BYTES + RECORD_HEADER, "ghost", 5);
  assert_int_equal(records_alert(r, ALERT_CLOSE_NOTIFY, rec), 0);
  assert_int_equal(records_seal(r, RECORD_DATA_TYPE, rec + RECORD_ALERT_BYTES, 5), 0);
  put_raw(&w, &w.client, rec, RECORD_ALERT_BYTES + 5 + RECORD_OVERHEAD);
  put_raw(&w, &w.client, "rubbish that is not even a record", 33);
  assert_true(w.server.at_end);
  assert_int_equal(w.server.got, 0);
  assert_int_equal(w.server.closed, 0);
  assert_int_equal(stream_waiting(inside(&w.server)->lower), 0); /* nor does it stay */
  world_close(&w);
}

static void no_tls_at_all(void **state) {
  (void)state;
  static const char *const first[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\xff\xff",
                                      "\x16\x03\x01\x00\x05hello", "\x80\x2e\x01\x00\x02",
                                      "\x15\x03\x01\x00\x02\x02\x28"};
  struct tls_context *s = server_with(&(struct tls_server_config){0});
  for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
    struct world w;
    struct tls_context *c = client_with(&(struct tls_client_config){0});
    world_open(&w, c, s, 0);
    tls_context_unref(c);
    w.w.step = 1000;
    struct stream *near = w.w.far[1]; /* speak towards the server in the client's place */
    stream_write(near, first[i], i == 0 ? 28 : i == 2 ? 10 : i == 4 ? 7 : 5);
    stream_finish(near);
    loop_run_for(w.l, 1);
    assert_true(w.server.err < 0 && w.server.err != BEAM_ERR_TIMEOUT);
    world_close(&w);
  }
  tls_context_unref(s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(agrees_on_everything),
      cmocka_unit_test(who_is_let_in),
      cmocka_unit_test(link_and_client_certificate_are_seen),
      cmocka_unit_test(bad_settings),
      cmocka_unit_test(nobody_answers),
      cmocka_unit_test(a_handshake_cut_anywhere_is_a_truncation),
      cmocka_unit_test(bulk_both_ways),
      cmocka_unit_test(one_byte_at_a_time),
      cmocka_unit_test(small_writes_of_a_turn_leave_as_one_record),
      cmocka_unit_test(half_close_and_reply),
      cmocka_unit_test(close_drains),
      cmocka_unit_test(writer_hears_of_room),
      cmocka_unit_test(reset_crosses),
      cmocka_unit_test(end_without_close_notify_is_a_truncation),
      cmocka_unit_test(resumes),
      cmocka_unit_test(a_client_does_not_wait_for_a_ticket_for_ever),
      cmocka_unit_test(ticket_keys_age),
      cmocka_unit_test(keys_change_both_ways),
      cmocka_unit_test(faults_end_the_stream_with_an_alert),
      cmocka_unit_test(data_after_close_notify_means_nothing),
      cmocka_unit_test(no_tls_at_all),
  };
  return cmocka_run_group_tests(tests, make_pki, free_pki);
}
