/* quic_bench: one QUIC stream, memory to memory over loopback: two threads, a loop each, the server sends. Also datagrams and handshakes.
 *
 *   quic_bench [MB] [streams] [bbr|cubic]
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "identity/ca.h"
#include "quic/quic.h"

enum { STREAMS_MAX = 64, BLOCK = 64 * 1024 };

static const char *const alpn[] = {"beam/1", NULL};
static size_t total = 1000u << 20;
static unsigned streams = 1;
static bool cubic;
static struct tls_cert *cert;
static struct sockaddr_storage addr;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t listening = PTHREAD_COND_INITIALIZER;
static struct loop *server_loop;
static struct quic_endpoint *endpoint;

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- the server writes --- */

struct source {
  struct stream *s;
  size_t left;
};
static struct source source[STREAMS_MAX];
static struct quic_conn *server_conn;

static void pour(void *user) {
  static char block[BLOCK];
  struct source *o = user;
  size_t room;
  while (o->left && (room = stream_room(o->s)) > 0) {
    size_t n = room < sizeof block ? room : sizeof block;
    n = stream_write(o->s, block, n < o->left ? n : o->left);
    o->left -= n;
  }
  if (!o->left)
    stream_finish(o->s);
}
static void ignore(void *user) {
  (void)user;
}
static void gone(void *user, int reason) {
  (void)user, (void)reason;
}
static const struct stream_events source_events = {ignore, pour, gone};

static void server_ready(void *user) {
  (void)user;
  for (unsigned i = 0; i < streams; i++) {
    if (quic_conn_open(server_conn, true, &source[i].s))
      abort();
    source[i].left = total / streams;
    stream_own(source[i].s, &source_events, &source[i]);
    pour(&source[i]);
  }
}

static void server_closed(void *user, int reason) {
  (void)user, (void)reason;
  struct quic_conn_info info;
  quic_conn_info(server_conn, &info);
  for (unsigned i = 0; i < streams; i++)
    stream_close(source[i].s, BEAM_ERR_RESET);
  quic_conn_close(server_conn, BEAM_ERR_CLOSED);
  fprintf(stderr, "  sender's thread %.2f s of CPU\n", cpu());
  loop_stop(server_loop);
}
static const struct quic_conn_events server_events = {.ready = server_ready, .closed = server_closed};

static struct tls_cert *choose(void *user, const char *sni, const char *which) {
  (void)user, (void)sni, (void)which;
  return tls_cert_ref(cert);
}
static void accepted(void *user, struct quic_conn *c) {
  (void)user;
  server_conn = c;
  quic_conn_own(c, &server_events, NULL);
}

static void *serve(void *unused) {
  struct quic_server_conf conf = {
      .alpn = alpn, .choose = choose, .accept = accepted, .peer_bidi = 100, .cubic = cubic};
  if (loop_new(&server_loop) || quic_endpoint_server(server_loop, "127.0.0.1", 0, false, &conf, &endpoint))
    abort();
  pthread_mutex_lock(&lock);
  struct sockaddr_in *v4 = (struct sockaddr_in *)&addr;
  v4->sin_family = AF_INET;
  v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  v4->sin_port = htons(quic_endpoint_port(endpoint));
  pthread_cond_signal(&listening);
  pthread_mutex_unlock(&lock);
  loop_run(server_loop);
  quic_endpoint_close(endpoint);
  loop_free(server_loop);
  return unused;
}

/* --- the client reads --- */

static struct loop *client_loop;
static struct quic_conn *client_conn;
static struct stream *sink[STREAMS_MAX];
static unsigned sinks, ended;
static size_t got;
static double began, first;

static void drink(void *user) {
  struct stream *s = user;
  if (!first)
    first = seconds();
  size_t n = stream_waiting(s);
  got += n;
  stream_consume(s, n);
  if (stream_at_end(s) && ++ended == streams) {
    struct quic_conn_info info;
    double t = seconds() - first;
    quic_conn_info(client_conn, &info);
    printf("%u stream%s  %7.0f MB/s   (handshake %.1f ms, rtt %u us, packets of %zu)\n", streams,
           streams == 1 ? "" : "s", (double)got / t / 1e6, (first - began) * 1e3, info.rtt_us, info.payload);
    for (unsigned i = 0; i < sinks; i++)
      stream_close(sink[i], 0);
    quic_conn_close(client_conn, 0);
    fprintf(stderr, "  receiver's thread %.2f s of CPU\n", cpu());
    loop_stop(client_loop);
  }
}
static const struct stream_events sink_events = {drink, NULL, gone};

static void opened(void *user, struct stream *s, bool bidi) {
  (void)user, (void)bidi;
  sink[sinks++] = s;
  stream_own(s, &sink_events, s);
}
static void client_closed(void *user, int reason) {
  (void)user;
  printf("closed: %d\n", reason);
  exit(1);
}
static const struct quic_conn_events client_events = {
    .ready = ignore, .stream = opened, .closed = client_closed};

int main(int argc, char **argv) {
  struct beam_error e = BEAM_ERROR_INIT;
  static const char *const names[] = {"127.0.0.1"};
  struct ca *ca;
  struct cert *leaf;
  pthread_t thread;
  if (argc > 1)
    total = (size_t)strtoul(argv[1], NULL, 10) << 20;
  if (argc > 2)
    streams = (unsigned)strtoul(argv[2], NULL, 10);
  if (argc > 3)
    cubic = !strcmp(argv[3], "cubic");
  if (!streams || streams > STREAMS_MAX)
    return 2;
  if (ca_ephemeral(&ca, &e) || ca_issue(ca, names, 1, CA_LINK, 1, &leaf, &e) ||
      tls_cert_new(leaf->chain, strlen(leaf->chain), leaf->key.p, leaf->key.n, &cert))
    return 1;
  pthread_mutex_lock(&lock);
  pthread_create(&thread, NULL, serve, NULL);
  while (!addr.ss_family)
    pthread_cond_wait(&listening, &lock);
  pthread_mutex_unlock(&lock);
  struct quic_client_conf conf = {
      .tls = {.alpn = alpn, .trust = TLS_TRUST_ANY, .link = true}, .peer_bidi = 100, .cubic = cubic};
  began = seconds();
  if (loop_new(&client_loop) || quic_connect(client_loop, &addr, &conf, &client_conn))
    return 1;
  quic_conn_own(client_conn, &client_events, NULL);
  loop_run(client_loop);
  for (int i = 0; i < 20; i++)
    loop_turn(client_loop, 10); /* the last words leave */
  pthread_join(thread, NULL);
  loop_free(client_loop);
  tls_cert_unref(cert);
  cert_unref(leaf);
  ca_free(ca);
  return 0;
}
