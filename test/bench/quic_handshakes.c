/* quic_handshakes: what a handshake costs both ends together, full and resumed, over loopback on one thread.
 *
 *   quic_handshakes [COUNT]
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "identity/ca.h"
#include "quic/quic.h"

static const char *const alpn[] = {"beam/1", NULL};
static struct tls_cert *cert;
static struct loop *l;
static unsigned ready;
static bool failed;

static double cpu(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void on_ready(void *user) {
  (void)user;
  ready++;
}
static void on_stream(void *user, struct stream *s, bool bidi) {
  (void)user, (void)bidi;
  stream_close(s, BEAM_ERR_REFUSED);
}
static void on_closed(void *user, int reason) {
  (void)reason;
  failed = ready < 2;
  quic_conn_close(*(struct quic_conn **)user, BEAM_ERR_CLOSED);
  *(struct quic_conn **)user = NULL;
}
static const struct quic_conn_events events = {.ready = on_ready, .stream = on_stream, .closed = on_closed};

static struct quic_conn *server_conn;
static struct tls_cert *choose(void *user, const char *sni, const char *which) {
  (void)user, (void)sni, (void)which;
  return tls_cert_ref(cert);
}
static void accepted(void *user, struct quic_conn *c) {
  (void)user;
  server_conn = c;
  quic_conn_own(c, &events, &server_conn);
}

static int trust(void *user, const struct tls_peer *peer) {
  (void)user, (void)peer;
  return 0;
}

/* One connection from the first packet to the ticket; the session into out. */
static size_t meet(const struct sockaddr_storage *addr, const uint8_t *session, size_t n, uint8_t *out,
                   size_t cap) {
  struct quic_client_conf conf = {
      .tls = {.alpn = alpn, .trust = TLS_TRUST_CHAIN, .verify = trust, .link = true},
      .peer_bidi = 100,
      .session = session,
      .session_n = n,
      .early = (const uint8_t *)"offer",
      .early_n = 5};
  struct quic_conn *c;
  const uint8_t *p;
  size_t got = 0;
  ready = 0;
  if (quic_connect(l, addr, &conf, &c))
    abort();
  quic_conn_own(c, &events, &c);
  while (!failed && (ready < 2 || quic_conn_session(c, &p, &got)))
    loop_turn(l, 10);
  struct quic_conn_info info;
  quic_conn_info(c, &info);
  if (failed || got > cap || info.resumed != (n > 0))
    abort();
  memcpy(out, p, got);
  quic_conn_close(c, BEAM_ERR_CLOSED);
  while (server_conn)
    loop_turn(l, 10);
  return got;
}

int main(int argc, char **argv) {
  static const char *const names[] = {"127.0.0.1"};
  static uint8_t session[2][16384];
  struct beam_error e = BEAM_ERROR_INIT;
  struct ca *ca;
  struct cert *leaf;
  struct quic_endpoint *endpoint;
  int count = argc > 1 ? atoi(argv[1]) : 200;
  struct quic_server_conf conf = {
      .alpn = alpn, .choose = choose, .accept = accepted, .peer_bidi = 100, .tickets = "beam/1"};
  if (ca_ephemeral(&ca, &e) || ca_issue(ca, names, 1, CA_LINK, 1, &leaf, &e) ||
      tls_cert_new(leaf->chain, strlen(leaf->chain), leaf->key.p, leaf->key.n, &cert) || loop_new(&l) ||
      quic_endpoint_server(l, "127.0.0.1", 0, false, &conf, &endpoint))
    return 1;
  struct sockaddr_storage addr = {.ss_family = AF_INET};
  ((struct sockaddr_in *)&addr)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ((struct sockaddr_in *)&addr)->sin_port = htons(quic_endpoint_port(endpoint));
  size_t n = meet(&addr, NULL, 0, session[0], sizeof session[0]);
  double full = cpu();
  for (int i = 0; i < count; i++)
    n = meet(&addr, NULL, 0, session[0], sizeof session[0]);
  full = cpu() - full;
  double resumed = cpu();
  for (int i = 0; i < count; i++)
    n = meet(&addr, session[i % 2], n, session[(i + 1) % 2], sizeof session[0]);
  resumed = cpu() - resumed;
  printf("handshake, CPU of both ends: full %.2f ms, resumed %.2f ms (%.2fx), session of %zu bytes\n",
         full / count * 1e3, resumed / count * 1e3, resumed / full, n);
  quic_endpoint_close(endpoint);
  loop_free(l);
  tls_cert_unref(cert);
  cert_unref(leaf);
  ca_free(ca);
  return 0;
}
