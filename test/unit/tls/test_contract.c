/* TLS streams through the contract that every stream keeps: both versions, over memory and over real sockets, and on top of each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>

#include "base/limits.h"
#include "io/mem.h"
#include "io/net.h"
#include "pki.h"
#include "tls/context.h"
#include "tls/tls.h"

#include "../stream_contract.h"

static struct pki_cert ca, leaf;
static struct tls_cert *cert;

static struct tls_cert *choose(void *user, const char *sni) {
  (void)user;
  (void)sni;
  return tls_cert_ref(cert);
}

static void on_done(void *user, int err, struct stream *s, const struct tls_info *info) {
  (void)info;
  assert_int_equal(err, 0);
  stream_own(s, NULL, NULL);
  *(struct stream **)user = s;
}

/* Takes both lower streams; *a is the client. */
static int wrap(struct loop *l, int version, struct stream **a, struct stream **b) {
  struct tls_context *client, *server;
  struct stream *lower_a = *a, *lower_b = *b;
  *a = *b = NULL;
  const struct tls_server_config sc = {.choose = choose};
  const struct tls_client_config cc = {
      .server_name = "shop.test", .ca = ca.pem, .ca_n = strlen(ca.pem), .trust = TLS_TRUST_CA};
  assert_int_equal(tls_server_context(&sc, &server), 0);
  assert_int_equal(tls_client_context(&cc, &client), 0);
  if (version == TLS_1_2)
    mbedtls_ssl_conf_max_tls_version(&client->conf, MBEDTLS_SSL_VERSION_TLS1_2);
  assert_int_equal(tls_accept(lower_b, server, on_done, b, NULL), 0);
  assert_int_equal(tls_connect(lower_a, client, on_done, a, NULL), 0);
  for (int i = 0; i < 10000 && (!*a || !*b); i++) {
    if (loop_is_virtual(l))
      loop_run_for(l, 1);
    else
      loop_turn(l, 10);
  }
  tls_context_unref(client);
  tls_context_unref(server);
  return *a && *b ? 0 : BEAM_ERR_TIMEOUT;
}

static int make_13(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  (void)extra;
  return mem_pair(l, a, b) || wrap(l, TLS_1_3, a, b);
}

static int make_12(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  (void)extra;
  return mem_pair(l, a, b) || wrap(l, TLS_1_2, a, b);
}

/* The server's end is `a`: the contract's tests are not all symmetric. */
static int make_server_first(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  return make_13(l, b, a, extra);
}

static int make_twice(struct loop *l, struct stream **a, struct stream **b, void **extra) {
  return make_13(l, a, b, extra) || wrap(l, TLS_1_3, a, b);
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
  struct listener *ls;
  struct dial *d;
  (void)extra;
  *a = *b = NULL;
  if (net_listen(&net_sockets, l, "127.0.0.1", 0, NULL, on_accept, b, &ls) ||
      net_dial(&net_sockets, l, "127.0.0.1", net_listener_port(&net_sockets, ls), 5000, on_dial, a, &d))
    return BEAM_ERR_SYSTEM;
  while (!*a || !*b)
    loop_turn(l, 1000);
  net_listener_close(&net_sockets, ls);
  return wrap(l, TLS_1_3, a, b);
}

int main(void) {
  /* a window in memory, what each TLS end holds of its own, and the records' overhead */
  const size_t holds = LIMIT_MEM_PIPE + 2 * LIMIT_SOCK_OUT;
  const struct contract_kind kinds[] = {
      {.name = "tls 1.3", .virtual_clock = true, .holds = holds, .make = make_13},
      {.name = "tls 1.3, from the server", .virtual_clock = true, .holds = holds, .make = make_server_first},
      {.name = "tls 1.2", .virtual_clock = true, .holds = holds, .make = make_12},
      {.name = "tls in tls", .virtual_clock = true, .holds = 2 * holds, .make = make_twice},
      {.name = "tls over tcp", .make = make_tcp},
  };
  int failed = 0;
  pki_ca(&ca, "Test CA");
  pki_leaf(&ca, "Test CA", &leaf, "shop.test", NULL, PKI_SERVER);
  cert = pki_tls_cert(&leaf);
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    failed += contract_run(&kinds[i]);
  tls_cert_unref(cert);
  pki_free(&leaf);
  pki_free(&ca);
  return failed;
}
