/* Allocations of a connection's life fail, one at a time: nothing crashes, nothing leaks, and what is delivered is right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <beam/beam.h>
#include <cmocka.h>

#include "ends.h"
#include "io/mem.h"
#include "tls/context.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INTERPOSE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define INTERPOSE 0
#endif
#endif
#ifndef INTERPOSE
#define INTERPOSE 1
#endif

static long fail_at; /* 0: never; else the allocation that fails */
static long count, live;

#if INTERPOSE
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);
void *malloc(size_t n);
void *calloc(size_t n, size_t m);
void *realloc(void *p, size_t n);
void free(void *p);

static bool fails(void) {
  return fail_at && ++count == fail_at;
}

void *malloc(size_t n) {
  void *p = fails() ? NULL : __libc_malloc(n);
  live += p != NULL;
  return p;
}
void *calloc(size_t n, size_t m) {
  void *p = fails() ? NULL : __libc_calloc(n, m);
  live += p != NULL;
  return p;
}
void *realloc(void *old, size_t n) {
  if (fails())
    return NULL;
  void *p = __libc_realloc(old, n);
  live += !old && p;
  return p;
}
void free(void *p) {
  live -= p != NULL;
  __libc_free(p);
}
#endif

static struct pki_cert ca, leaf;
static struct tls_cert *cert;
static struct tls_tickets *tickets;
static struct tls_context *server, *client;

static struct tls_cert *choose(void *user, const char *sni) {
  (void)user;
  (void)sni;
  return tls_cert_ref(cert);
}

static unsigned char data[100000];

/* False: fewer allocations than that. */
static bool life(long n, bool data_only) {
  struct world w;
  world_open(&w, client, server, 100000);
  count = 0;
  fail_at = data_only ? 0 : n;
  world_run(&w);
  fail_at = data_only ? n : fail_at;
  struct end *ends[2] = {&w.client, &w.server};
  size_t sent[2] = {0};
  for (int turn = 0; turn < 6; turn++)
    for (int i = 0; i < 2; i++) {
      if (!ends[i]->s)
        continue;
      if (turn == 5)
        stream_finish(ends[i]->s);
      else
        sent[i] += stream_write(ends[i]->s, data + sent[i], sizeof data / 5);
      world_run(&w);
    }
  fail_at = 0;
  bool more = count >= n;
  for (int i = 0; i < 2; i++) {
    assert_true(ends[i]->got <= sent[!i]);
    assert_true(ends[i]->hash == end_hash(0, data, ends[i]->got));
    assert_true(!ends[i]->at_end || ends[i]->got == sent[!i]);
    assert_true(more || (ends[i]->at_end && ends[i]->got == sizeof data));
  }
  world_close(&w);
  return more;
}

static void forget_session(void) {
  mbedtls_ssl_session_free(&client->session);
  mbedtls_ssl_session_init(&client->session);
  client->has_session = false;
}

static void allocations_fail(void **state) {
  (void)state;
#if !INTERPOSE
  print_message("skipped: a sanitizer owns malloc\n");
#endif
  for (int v = 0; INTERPOSE && v < 4; v++) { /* TLS 1.3, 1.2; all of it, only the data */
    bool data_only = v & 2;
    mbedtls_ssl_conf_max_tls_version(&client->conf,
                                     v & 1 ? MBEDTLS_SSL_VERSION_TLS1_2 : MBEDTLS_SSL_VERSION_TLS1_3);
    life(1000000, data_only); /* what is made once stays */
    life(1000000, data_only);
    forget_session();
    long before = live, n = 1, tried = 0;
    /* A handshake makes thousands for its big numbers: the first ones all, then samples. */
    for (bool more = true; more; n += data_only || n < 100 ? 1 : n / 25) {
      more = life(n, data_only);
      forget_session();
      assert_int_equal(live, before);
      tried++;
    }
    assert_true(tried > 20);
  }
}

static void beginning_fails(void **state) {
  (void)state;
  struct loop *l;
  assert_int_equal(loop_new_virtual(&l), 0);
  for (int side = 0; INTERPOSE && side < 2; side++)
    for (long n = 1, err = -1; err; n++) {
      struct stream *a, *b;
      struct tls *t = NULL;
      assert_int_equal(mem_pair(l, &a, &b), 0);
      long before = live;
      count = 0;
      fail_at = n;
      err = side ? tls_accept(a, server, NULL, NULL, &t) : tls_connect(a, client, NULL, NULL, &t);
      fail_at = 0;
      assert_true(!err || err == BEAM_ERR_NOMEM);
      if (!err)
        tls_cancel(t);
      assert_true(live < before); /* a went in any case */
      stream_close(b, BEAM_ERR_CLOSED);
    }
  loop_free(l);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(allocations_fail), cmocka_unit_test(beginning_fails)};
  for (size_t i = 0; i < sizeof data; i++)
    data[i] = (unsigned char)(i * 7 + i / 251);
  pki_ca(&ca, "Test CA");
  pki_leaf(&ca, "Test CA", &leaf, "shop.test", NULL, PKI_SERVER);
  cert = pki_tls_cert(&leaf);
  if (tls_tickets_new(&tickets) ||
      tls_server_context(&(struct tls_server_config){.choose = choose, .tickets = tickets}, &server) ||
      tls_client_context(
          &(struct tls_client_config){
              .server_name = "shop.test", .ca = ca.pem, .ca_n = strlen(ca.pem), .resume = true},
          &client))
    return 1;
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  tls_context_unref(server);
  tls_context_unref(client);
  tls_tickets_unref(tickets);
  tls_cert_unref(cert);
  pki_free(&ca);
  pki_free(&leaf);
  return failed;
}
