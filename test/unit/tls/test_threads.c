/* One set of certificates, contexts and ticket keys under several workers at once: for ThreadSanitizer, and for what resumes on another worker. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <beam/beam.h>
#include <cmocka.h>

#include "ends.h"

enum { THREADS = 3, ROUNDS = 25 };

static struct pki_cert ca, leaf;
static struct tls_cert *cert;
static struct tls_tickets *tickets;
static struct tls_context *server, *client;

static struct tls_cert *choose(void *user, const char *sni) {
  (void)user;
  (void)sni;
  return tls_cert_ref(cert);
}

struct worker {
  pthread_t thread;
  int good, resumed;
};

static void *work(void *arg) {
  struct worker *k = arg;
  for (int i = 0; i < ROUNDS; i++) {
    struct world w;
    uint8_t blob[TLS_TICKETS_BLOB];
    world_open(&w, client, server, 100000);
    world_run(&w);
    if (!w.client.err && !w.server.err) {
      stream_write(w.server.s, "hello", 5);
      world_run(&w);
      k->good += w.client.got == 5;
      k->resumed += w.server.info.resumed;
    }
    world_close(&w);
    tls_tickets_export(tickets, blob);
    if (i % 8 == 7)
      tls_tickets_import(tickets, blob, sizeof blob);
  }
  return NULL;
}

static void workers_share(void **state) {
  (void)state;
  struct worker workers[THREADS] = {0};
  pki_ca(&ca, "Test CA");
  pki_leaf(&ca, "Test CA", &leaf, "shop.test", NULL, PKI_SERVER);
  cert = pki_tls_cert(&leaf);
  assert_int_equal(tls_tickets_new(&tickets), 0);
  assert_int_equal(
      tls_server_context(&(struct tls_server_config){.choose = choose, .tickets = tickets}, &server), 0);
  assert_int_equal(tls_client_context(
                       &(struct tls_client_config){
                           .server_name = "shop.test", .ca = ca.pem, .ca_n = strlen(ca.pem), .resume = true},
                       &client),
                   0);
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
  int resumed = 0;
  for (int i = 0; i < THREADS; i++) {
    pthread_join(workers[i].thread, NULL);
    assert_int_equal(workers[i].good, ROUNDS);
    resumed += workers[i].resumed;
  }
  assert_true(resumed >= ROUNDS); /* one client's tickets go round all workers */
  tls_context_unref(server);
  tls_context_unref(client);
  tls_tickets_unref(tickets);
  tls_cert_unref(cert);
  pki_free(&ca);
  pki_free(&leaf);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(workers_share)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
