/* quic_talk.c: QUIC connections of beam/1 on standard input and output, so that a test can say on them whatever it likes, and be any wrong peer.
 *
 *   quic_talk connect ADDRESS PORT            quic_talk listen CHAIN.pem KEY.pem
 *
 * A line a command, a line an event; C is a connection's number from 0 on, S a stream's number (RFC 9000 section 2.1), bytes are in hexadecimal.
 *   in:   open C · write C S BYTES [TIMES] · fin C S · reset C S REASON · pause C S · datagram C BYTES TIMES · close C
 *   out:  port N · ready C EXPORTER · opened C S · stream C S · data C S BYTES · fin C S · dead C S REASON · closed C REASON
 * REASON is a beam_err. Nothing is checked of the peer but that it is one. It ends with standard input.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "quic/quic.h"

enum { CONNS = 4096, STREAMS = 8192, LINE = 1 << 20 };

struct talk;
struct conn {
  struct quic_conn *c;
  unsigned number;
};
struct talk {
  struct stream *s;
  struct conn *conn;
  int64_t id;
  struct evbuffer *out; /* written by the test, and not taken yet */
  bool finish, paused, ended;
};

static struct loop *loop;
static struct conn conns[CONNS];
static unsigned conns_n, talks_n;
static struct talk *talks[STREAMS];
static struct tls_cert *cert;

static void die(const char *what) {
  fprintf(stderr, "quic_talk: %s\n", what);
  exit(2);
}

/* --- streams --- */

static void on_readable(void *user) {
  static const char digits[] = "0123456789abcdef";
  struct talk *t = user;
  size_t n = stream_waiting(t->s);
  if (t->paused)
    return;
  if (n) {
    const uint8_t *p = evbuffer_pullup(stream_input(t->s), -1);
    printf("data %u %lld ", t->conn->number, (long long)t->id);
    for (size_t i = 0; i < n; i++) {
      putchar(digits[p[i] >> 4]);
      putchar(digits[p[i] & 15]);
    }
    putchar('\n');
    stream_consume(t->s, n);
  }
  if (stream_at_end(t->s) && !t->ended) {
    t->ended = true;
    printf("fin %u %lld\n", t->conn->number, (long long)t->id);
  }
}

static void push(void *user) {
  struct talk *t = user;
  stream_move(t->s, t->out, evbuffer_get_length(t->out));
  if (t->finish && !evbuffer_get_length(t->out))
    stream_finish(t->s);
}

static void forget(struct talk *t, int reason) {
  for (unsigned i = 0; i < talks_n; i++)
    if (talks[i] == t)
      talks[i] = talks[--talks_n];
  stream_close(t->s, reason);
  evbuffer_free(t->out);
  free(t);
}

static void on_dead(void *user, int reason) {
  struct talk *t = user;
  printf("dead %u %lld %d\n", t->conn->number, (long long)t->id, reason);
  forget(t, reason);
}

static const struct stream_events stream_events = {on_readable, push, on_dead};

static struct talk *take(struct conn *c, struct stream *s) {
  struct talk *t = talks_n < STREAMS ? calloc(1, sizeof *t) : NULL;
  if (!t || !(t->out = evbuffer_new()))
    die("too many streams");
  t->s = s;
  t->conn = c;
  t->id = quic_stream_id(s);
  talks[talks_n++] = t;
  stream_own(s, &stream_events, t);
  return t;
}

/* --- connections --- */

static void on_ready(void *user) {
  struct conn *c = user;
  uint8_t exporter[TLS_EXPORT_BYTES];
  quic_conn_exporter(c->c, exporter);
  printf("ready %u ", c->number);
  for (size_t i = 0; i < sizeof exporter; i++)
    printf("%02x", exporter[i]);
  putchar('\n');
}

static void on_stream(void *user, struct stream *s, bool bidi) {
  (void)bidi;
  printf("stream %u %lld\n", ((struct conn *)user)->number, (long long)take(user, s)->id);
}

static void on_closed(void *user, int reason) {
  struct conn *c = user;
  printf("closed %u %d\n", c->number, reason);
  quic_conn_close(c->c, reason);
  c->c = NULL;
}

static void on_datagram(void *user, const uint8_t *p, size_t n) {
  (void)user, (void)p, (void)n;
}

static const struct quic_conn_events conn_events = {
    .ready = on_ready, .stream = on_stream, .datagram = on_datagram, .closed = on_closed};

static struct conn *own(struct quic_conn *q) {
  if (conns_n == CONNS)
    die("too many connections");
  struct conn *c = &conns[conns_n];
  *c = (struct conn){q, conns_n++};
  quic_conn_own(q, &conn_events, c);
  return c;
}

static void on_accept(void *user, struct quic_conn *q) {
  (void)user;
  own(q);
}

static struct tls_cert *choose(void *user, const char *sni, const char *alpn) {
  (void)user, (void)sni, (void)alpn;
  return tls_cert_ref(cert);
}

/* --- commands --- */

static size_t bytes_of(const char *hex, uint8_t *out) {
  size_t n = 0;
  for (unsigned b; isxdigit((unsigned char)*hex) && sscanf(hex, "%2x", &b) == 1; hex += 2)
    out[n++] = (uint8_t)b;
  return n;
}

static struct talk *find(unsigned c, long long id) {
  for (unsigned i = 0; i < talks_n; i++)
    if (talks[i]->conn->number == c && talks[i]->id == id)
      return talks[i];
  return NULL;
}

static void on_a_stream(const char *what, struct talk *t, const char *rest) {
  static uint8_t bytes[LINE];
  unsigned times = 1;
  if (!strcmp(what, "write")) {
    size_t n = bytes_of(rest, bytes);
    const char *space = strchr(rest, ' ');
    if (space)
      times = (unsigned)atoi(space);
    while (times--)
      evbuffer_add(t->out, bytes, n);
    push(t);
  } else if (!strcmp(what, "fin")) {
    t->finish = true;
    push(t);
  } else if (!strcmp(what, "reset")) {
    forget(t, atoi(rest));
  } else if (!strcmp(what, "pause")) {
    t->paused = true;
  } else {
    die(what);
  }
}

static void obey(char *line) {
  static uint8_t bytes[LINE];
  char what[16];
  unsigned c, times = 1;
  long long id;
  int at = 0;
  struct stream *s;
  if (sscanf(line, "%15s %u %n", what, &c, &at) < 2 || c >= conns_n)
    die(line);
  if (!conns[c].c)
    return; /* it has ended in the meantime */
  const char *rest = line + at;
  if (!strcmp(what, "open")) {
    if (quic_conn_open(conns[c].c, true, &s))
      die("no stream may be opened");
    printf("opened %u %lld\n", c, (long long)take(&conns[c], s)->id);
  } else if (!strcmp(what, "close")) {
    quic_conn_close(conns[c].c, 0);
    conns[c].c = NULL;
  } else if (!strcmp(what, "datagram")) {
    size_t n = bytes_of(rest, bytes);
    const char *space = strchr(rest, ' ');
    times = space ? (unsigned)atoi(space) : 1;
    while (times--)
      quic_conn_datagram(conns[c].c, bytes, n);
  } else if (sscanf(rest, "%lld %n", &id, &at) == 1) {
    struct talk *t = find(c, id);
    if (t)
      on_a_stream(what, t, rest + at);
  }
}

static void on_line(void *arg) {
  obey(arg);
  free(arg);
}

static void *read_lines(void *arg) {
  static char line[2 * LINE];
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    char *copy = strdup(line);
    if (!copy || loop_post(loop, on_line, copy))
      die("out of memory");
  }
  exit(0);
  return arg;
}

/* --- the whole --- */

static const char *const alpn[] = {"beam/1", NULL};

static void dial(const char *address, const char *port) {
  struct sockaddr_storage to = {0};
  struct sockaddr_in *v4 = (struct sockaddr_in *)&to;
  struct quic_conn *q;
  struct quic_client_conf c = {.tls = {.alpn = alpn,
                                       .server_name = "relay.test",
                                       .name_any = true,
                                       .trust = TLS_TRUST_ANY,

                                       .link = true},
                               .peer_bidi = LIMIT_LINK_STREAMS};
  v4->sin_family = AF_INET;
  v4->sin_port = htons((uint16_t)atoi(port));
  if (inet_pton(AF_INET, address, &v4->sin_addr) != 1 || quic_connect(loop, &to, &c, &q))
    die("cannot connect");
  own(q);
}

static void serve(const char *chain_file, const char *key_file) {
  static struct quic_server_conf c;
  struct quic_endpoint *e;
  char *chain, *key;
  size_t chain_n, key_n;
  if (file_read(chain_file, 1 << 16, &chain, &chain_n, NULL) ||
      file_read(key_file, 1 << 16, &key, &key_n, NULL) || tls_cert_new(chain, chain_n, key, key_n, &cert))
    die("cannot read the certificate");
  c = (struct quic_server_conf){.alpn = alpn, .choose = choose, .accept = on_accept, .peer_bidi = 1};
  if (quic_endpoint_server(loop, "127.0.0.1", 0, false, &c, &e))
    die("cannot listen");
  printf("port %u\n", quic_endpoint_port(e));
}

int main(int argc, char **argv) {
  pthread_t reader;
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc != 4 || loop_new(&loop))
    die("quic_talk connect ADDRESS PORT, or listen CHAIN KEY");
  if (!strcmp(argv[1], "connect"))
    dial(argv[2], argv[3]);
  else
    serve(argv[2], argv[3]);
  if (pthread_create(&reader, NULL, read_lines, NULL))
    die("no thread");
  return loop_run(loop) ? 1 : 0;
}
