/* link_bench.c: what an h2 link carries with both ends on one thread: bulk on 1 and 8 streams, and tiny streams a second. First over a
 * pair in memory, then over TLS in memory, then over TLS on a socket pair: the differences are what TLS and the kernel cost.
 *
 *   make build/test/bench/link_bench && build/test/bench/link_bench
 */
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/limits.h"
#include "identity/ca.h"
#include "io/mem.h"
#include "io/net.h"
#include "link/link.h"
#include "tls/tls.h"

static double seconds(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static struct loop *loop;
static struct link *relay, *agent;
static uint64_t received, finished;

/* --- the receiving side: takes everything; a request of one byte is answered --- */

struct sink {
  struct stream *s;
  bool answer;
};

static void sink_readable(void *user) {
  struct sink *k = user;
  size_t n = stream_waiting(k->s);
  received += n;
  stream_consume(k->s, n);
  if (!stream_at_end(k->s))
    return;
  if (k->answer)
    stream_write(k->s, "pong", 4);
  else
    finished++;
  stream_close(k->s, 0);
  free(k);
}

static void sink_closed(void *user, int reason) {
  struct sink *k = user;
  stream_close(k->s, reason);
  free(k);
}

static const struct stream_events sink_events = {sink_readable, NULL, sink_closed};

static void sink_new(struct stream *s, bool answer) {
  struct sink *k = calloc(1, sizeof *k);
  if (!k)
    abort();
  k->s = s;
  k->answer = answer;
  stream_own(s, &sink_events, k);
}

static bool answering;

static void on_stream(void *user, struct stream *s) {
  (void)user;
  sink_new(s, answering);
}

static const struct link_events agent_events = {.stream = on_stream};
static const struct link_events relay_events = {0};

/* --- bulk --- */

struct source {
  struct stream *s;
  uint64_t left;
  struct evbuffer *block;
};

static char bulk[256 * 1024];

static void source_write(void *user) {
  struct source *k = user;
  for (size_t room; k->left && (room = stream_room(k->s)) > 0;) {
    size_t n = room < sizeof bulk ? room : sizeof bulk;
    if (n > k->left)
      n = k->left;
    evbuffer_add_reference(k->block, bulk, n, NULL, NULL);
    k->left -= stream_move(k->s, k->block, n);
  }
  if (!k->left)
    stream_finish(k->s);
}

static void ignore(void *user) {
  (void)user;
}
static void die(void *user, int reason) {
  (void)user;
  fprintf(stderr, "stream died: %d\n", reason);
  exit(1);
}
static const struct stream_events source_events = {ignore, source_write, die};

static void run_bulk(unsigned streams, uint64_t total) {
  struct source *k = calloc(streams, sizeof *k);
  if (!k)
    abort();
  answering = false;
  received = finished = 0;
  double from = seconds();
  for (unsigned i = 0; i < streams; i++) {
    k[i].left = total / streams;
    k[i].block = evbuffer_new();
    if (link_open(relay, &k[i].s))
      abort();
    stream_own(k[i].s, &source_events, &k[i]);
    source_write(&k[i]);
  }
  while (finished < streams)
    loop_turn(loop, 0);
  double t = seconds() - from;
  printf("bulk %u streams: %.0f MB in %.3f s, %.0f MB/s\n", streams, (double)received / 1e6, t,
         (double)received / 1e6 / t);
  for (unsigned i = 0; i < streams; i++) {
    stream_close(k[i].s, 0);
    evbuffer_free(k[i].block);
  }
  free(k);
}

/* --- tiny: open, one byte, half-close, four bytes back, end --- */

static unsigned tiny_open, tiny_left, tiny_done;

struct tiny {
  struct stream *s;
};
static void tiny_new(void);

static void tiny_readable(void *user) {
  struct tiny *k = user;
  stream_consume(k->s, stream_waiting(k->s));
  if (!stream_at_end(k->s))
    return;
  stream_close(k->s, 0);
  free(k);
  tiny_open--;
  tiny_done++;
  tiny_new();
}
static const struct stream_events tiny_events = {tiny_readable, NULL, die};

static void tiny_new(void) {
  if (!tiny_left)
    return;
  tiny_left--;
  struct tiny *k = calloc(1, sizeof *k);
  if (!k || link_open(relay, &k->s))
    abort();
  tiny_open++;
  stream_own(k->s, &tiny_events, k);
  stream_write(k->s, "?", 1);
  stream_finish(k->s);
}

static void run_tiny(unsigned at_once, unsigned total) {
  answering = true;
  tiny_left = total;
  tiny_done = 0;
  double from = seconds();
  for (unsigned i = 0; i < at_once; i++)
    tiny_new();
  while (tiny_done < total)
    loop_turn(loop, 0);
  printf("tiny %u at once: %.0f streams/s\n", at_once, total / (seconds() - from));
}

/* --- what carries the link --- */

static struct tls_cert *cert;
static struct tls_context *server, *client;

static struct tls_cert *choose(void *user, const char *sni) {
  (void)user, (void)sni;
  return tls_cert_ref(cert);
}

static void contexts(void) {
  static const char *const alpn[] = {"beam/1", NULL};
  const char *name = "beam-relay";
  struct ca *ca;
  struct cert *c;
  if (ca_ephemeral(&ca, NULL) || ca_issue(ca, &name, 1, CA_LINK, 24, &c, NULL) ||
      tls_cert_new(c->chain, strlen(c->chain), c->key.p, c->key.n, &cert))
    abort();
  struct tls_server_config sc = {.alpn = alpn, .choose = choose, .link = true};
  struct tls_client_config cc = {.alpn = alpn, .trust = TLS_TRUST_ANY, .name_any = true, .link = true};
  if (tls_server_context(&sc, &server) || tls_client_context(&cc, &client))
    abort();
  cert_unref(c);
  ca_free(ca);
}

static void secured(void *user, int err, struct stream *s, const struct tls_info *info) {
  (void)info;
  uint8_t exporter[32];
  if (err || tls_exporter(s, exporter))
    die(NULL, err);
  if (link_h2_new(s, user ? LINK_RELAY : LINK_AGENT, exporter, user ? &relay : &agent))
    abort();
}

static void connect_links(bool tls, bool sockets) {
  static const uint8_t exporter[32];
  struct stream *a, *b;
  int fd[2];
  relay = agent = NULL;
  if (sockets ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) || sock_stream(loop, fd[0], &a) ||
                    sock_stream(loop, fd[1], &b)
              : mem_pair(loop, &a, &b))
    abort();
  if (tls && (tls_accept(a, server, secured, loop, NULL) || tls_connect(b, client, secured, NULL, NULL)))
    abort();
  if (!tls && (link_h2_new(a, LINK_RELAY, exporter, &relay) || link_h2_new(b, LINK_AGENT, exporter, &agent)))
    abort();
  while (!relay || !agent || !relay->ready || !agent->ready) {
    loop_turn(loop, 1);
    if (agent)
      link_own(agent, &agent_events, NULL);
    if (relay)
      link_own(relay, &relay_events, NULL);
  }
}

int main(void) {
  static const char *const names[] = {"memory", "tls in memory", "tls on a socket pair"};
  if (loop_new(&loop))
    return 1;
  contexts();
  for (int i = 0; i < 3; i++) {
    printf("-- %s\n", names[i]);
    connect_links(i > 0, i > 1);
    run_bulk(1, 2000000000);
    run_bulk(8, 2000000000);
    run_tiny(1, 20000);
    run_tiny(64, 100000);
    run_tiny(1000, 100000);
    link_close(relay, 0);
    link_close(agent, 0);
    for (int j = 0; j < 10; j++)
      loop_turn(loop, 1);
  }
  tls_context_unref(server);
  tls_context_unref(client);
  tls_cert_unref(cert);
  loop_free(loop);
  return 0;
}
