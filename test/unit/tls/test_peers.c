/* Real peers on loopback: OpenSSL's and GnuTLS's programs against our two ends. Says what it skips where a program is absent. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <beam/beam.h>
#include <cmocka.h>

#include "base/random.h"
#include "base/str.h"
#include "io/net.h"
#include "pki.h"
#include "tls/keys.h"
#include "tls/stream.h"

static char dir[] = "/tmp/tls-peers-XXXXXX";
static struct pki_cert ca, leaf, client_leaf;
static struct tls_cert *leaf_cert, *client_cert;
static struct loop *l;

/* --- files and certificates --- */

static const char *file(const char *name) {
  static char paths[4][64];
  static int at;
  char *p = paths[at++ & 3];
  snprintf(p, sizeof paths[0], "%s/%s", dir, name);
  return p;
}

static void write_file(const char *name, const void *p, size_t n) {
  FILE *f = fopen(file(name), "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(p, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
}

static int set_up(void **state) {
  (void)state;
  signal(SIGPIPE, SIG_IGN);
  assert_non_null(mkdtemp(dir));
  pki_ca(&ca, "Test CA");
  pki_leaf(&ca, "Test CA", &leaf, "shop.test", "127.0.0.1", PKI_SERVER);
  pki_leaf(&ca, "Test CA", &client_leaf, NULL, NULL, PKI_CLIENT);
  leaf_cert = pki_tls_cert(&leaf);
  client_cert = pki_tls_cert(&client_leaf);
  write_file("ca.pem", ca.pem, strlen(ca.pem));
  write_file("leaf.pem", leaf.pem, strlen(leaf.pem));
  write_file("leaf.key", leaf.key_pem, strlen(leaf.key_pem));
  assert_int_equal(loop_new(&l), 0);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  static const char *const names[] = {"ca.pem", "leaf.pem", "leaf.key", "bulk", "session"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    unlink(file(names[i]));
  rmdir(dir);
  tls_cert_unref(leaf_cert);
  tls_cert_unref(client_cert);
  pki_free(&ca);
  pki_free(&leaf);
  pki_free(&client_leaf);
  loop_free(l);
  return 0;
}

/* --- waiting for conditions --- */

static uint64_t now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- the foreign program --- */

struct program {
  pid_t pid;
  int in, out;      /* its stdin and stdout */
  char text[65536]; /* the first of what it printed */
  size_t printed;   /* all of it */
};

static bool installed(const char *name) {
  char path[256];
  for (const char *d = getenv("PATH"); d && *d; d = strchr(d, ':') ? strchr(d, ':') + 1 : "") {
    snprintf(path, sizeof path, "%.*s/%s", (int)strcspn(d, ":"), d, name);
    if (!access(path, X_OK))
      return true;
  }
  printf("skipped: no %s here\n", name);
  return false;
}

static void start(struct program *p, const char *input_file, char *const argv[]) {
  int in[2], out[2];
  memset(p, 0, sizeof *p);
  assert_int_equal(pipe2(in, O_CLOEXEC), 0);
  assert_int_equal(pipe2(out, O_CLOEXEC), 0);
  p->pid = fork();
  assert_true(p->pid >= 0);
  if (!p->pid) {
    int from = input_file ? open(input_file, O_RDONLY) : in[0];
    dup2(from, 0);
    dup2(out[1], 1);
    dup2(out[1], 2);
    execvp(argv[0], argv);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  p->in = in[1];
  p->out = out[0];
  fcntl(p->out, F_SETFL, O_NONBLOCK);
  fcntl(p->out, F_SETPIPE_SZ, 1 << 20); /* fewer turns for bulk; refusal does not matter */
}

static void say(struct program *p, const char *text) {
  assert_int_equal(write(p->in, text, strlen(text)), (ssize_t)strlen(text));
}

static int count(const char *text, const char *what) {
  int n = 0;
  for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
    n++;
  return n;
}

static void listen_to(struct program *p) {
  char buf[65536];
  ssize_t n;
  while ((n = read(p->out, buf, sizeof buf)) > 0) {
    if (p->printed < sizeof p->text - 1) {
      size_t fits = sizeof p->text - 1 - p->printed;
      memcpy(p->text + p->printed, buf, (size_t)n < fits ? (size_t)n : fits);
    }
    p->printed += (size_t)n;
  }
}

static void stop(struct program *p) {
  if (p->in >= 0)
    close(p->in);
  close(p->out);
  kill(p->pid, SIGKILL);
  waitpid(p->pid, NULL, 0);
}

#define UNTIL(p, condition)                                                                                  \
  do {                                                                                                       \
    uint64_t deadline_ = now_ms() + 30000;                                                                   \
    for (listen_to(p); !(condition); listen_to(p)) {                                                         \
      if (now_ms() > deadline_)                                                                              \
        fail_msg("never: %s; the peer said: %s", #condition, (p)->text);                                     \
      loop_turn(l, 5);                                                                                       \
    }                                                                                                        \
  } while (0)

/* A command to OpenSSL's programs must come in a read of its own: wait until it was heard. */
static void command(struct program *p, const char *text, const char *answer) {
  int before = count(p->text, answer);
  say(p, text);
  UNTIL(p, count(p->text, answer) > before);
}

/* --- our end --- */

struct end {
  struct tls *shaking;
  struct stream *s;
  struct tls_info info;
  int err, closed;
  bool at_end, echo, dump;
  size_t got, dumped, to_dump;
  char last[256];
};

static void dump_more(struct end *e) {
  static char data[50000];
  while (e->dump && e->dumped < e->to_dump) {
    size_t left = e->to_dump - e->dumped,
           n = stream_write(e->s, data, left < sizeof data ? left : sizeof data);
    e->dumped += n;
    if (!n)
      return;
  }
  if (e->dump) {
    e->dump = false;
    stream_finish(e->s);
  }
}

static void on_readable(void *user) {
  struct end *e = user;
  size_t n, room;
  while ((n = stream_waiting(e->s))) {
    if (e->echo && (room = stream_room(e->s)) < n)
      n = room;
    if (!n)
      return;
    e->got += n;
    size_t keep = n < sizeof e->last - 1 ? n : sizeof e->last - 1;
    evbuffer_copyout(stream_input(e->s), e->last, keep);
    e->last[keep] = 0;
    if (e->echo) {
      assert_int_equal(stream_move(e->s, stream_input(e->s), n), n);
      stream_credit(e->s, n);
    } else {
      stream_consume(e->s, n);
    }
  }
  e->at_end = stream_at_end(e->s);
}

static void on_writable(void *user) {
  struct end *e = user;
  if (e->dump)
    dump_more(e);
  else
    on_readable(e);
}

static void on_closed(void *user, int reason) {
  struct end *e = user;
  e->closed = reason;
}

static const struct stream_events events = {on_readable, on_writable, on_closed};

static void on_done(void *user, int err, struct stream *s, const struct tls_info *info) {
  struct end *e = user;
  e->shaking = NULL;
  e->err = err;
  e->s = s;
  if (err)
    return;
  e->info = *info;
  stream_own(s, &events, e);
  if (e->dump)
    dump_more(e);
}

static void end_close(struct end *e) {
  if (e->shaking)
    tls_cancel(e->shaking);
  stream_close(e->s, BEAM_ERR_CLOSED);
}

static struct tls_cert *choose(void *user, const char *sni) {
  (void)user;
  (void)sni;
  return tls_cert_ref(leaf_cert);
}

static int listener(char *address, size_t cap, uint16_t *port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(fd, 8), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
  *port = ntohs(a.sin_port);
  snprintf(address, cap, "127.0.0.1:%u", *port);
  return fd;
}

/* Wait for the program to connect and shake hands. */
static void serve(struct program *p, int fd, struct tls_context *ctx, struct end *e) {
  struct stream *lower;
  int conn = -1;
  e->err = 1;
  UNTIL(p, (conn = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
  assert_int_equal(sock_stream(l, conn, &lower), 0);
  assert_int_equal(tls_accept(lower, ctx, on_done, e, &e->shaking), 0);
  UNTIL(p, e->err != 1);
}

static void dial(struct program *p, uint16_t port, struct tls_context *ctx, struct end *e) {
  struct sockaddr_in a = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct stream *lower;
  int fd = -1, bad = 1;
  for (uint64_t deadline = now_ms() + 20000; bad && now_ms() < deadline;) { /* until it listens */
    if (fd >= 0)
      close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bad = connect(fd, (struct sockaddr *)&a, sizeof a);
    if (bad)
      loop_turn(l, 10);
  }
  assert_int_equal(bad, 0);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  e->err = 1;
  assert_int_equal(sock_stream(l, fd, &lower), 0);
  assert_int_equal(tls_connect(lower, ctx, on_done, e, &e->shaking), 0);
  UNTIL(p, e->err != 1);
}

static struct tls_context *server(struct tls_tickets *tickets) {
  static const char *const alpn[] = {"h2", "http/1.1", NULL};
  struct tls_context *ctx = NULL;
  assert_int_equal(tls_server_context(
                       &(struct tls_server_config){.alpn = alpn, .choose = choose, .tickets = tickets}, &ctx),
                   0);
  return ctx;
}

static struct tls_context *client(bool resume) {
  struct tls_context *ctx = NULL;
  assert_int_equal(tls_client_context(&(struct tls_client_config){.server_name = "shop.test",
                                                                  .ca = ca.pem,
                                                                  .ca_n = strlen(ca.pem),
                                                                  .cert = client_cert,
                                                                  .resume = resume},
                                      &ctx),
                   0);
  return ctx;
}

/* --- OpenSSL's client --- */

enum { BULK = 20000000 };

static void openssl_client(void **state) {
  (void)state;
  static const struct {
    const char *what, *opt[4];
    uint16_t version, cipher;
  } rows[] = {
      {"as it comes", {0}, TLS_1_3, 0},
      {"AES-128", {"-ciphersuites", "TLS_AES_128_GCM_SHA256"}, TLS_1_3, TLS_AES_128_GCM_SHA256},
      {"AES-256", {"-ciphersuites", "TLS_AES_256_GCM_SHA384"}, TLS_1_3, TLS_AES_256_GCM_SHA384},
      {"ChaCha20", {"-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"}, TLS_1_3, TLS_CHACHA20_POLY1305_SHA256},
      {"our order counts",
       {"-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"},
       TLS_1_3,
       1},
      {"P-256", {"-groups", "P-256"}, TLS_1_3, 0},
      {"HelloRetryRequest", {"-groups", "P-521:X25519"}, TLS_1_3, 0},
      {"padding", {"-record_padding", "300"}, TLS_1_3, 0},
      {"small records", {"-max_send_frag", "512"}, TLS_1_3, 0},
      {"TLS 1.2", {"-tls1_2"}, TLS_1_2, 0},
      {"TLS 1.2, ChaCha20", {"-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"}, TLS_1_2, 0xcca9},
      {"TLS 1.2, P-256", {"-tls1_2", "-groups", "P-256"}, TLS_1_2, 0},
  };
  if (!installed("openssl"))
    skip();
  struct tls_tickets *tickets;
  assert_int_equal(tls_tickets_new(&tickets), 0);
  struct tls_context *ctx = server(tickets);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char address[32];
    uint16_t port;
    struct program p;
    struct end e = {.echo = true};
    int fd = listener(address, sizeof address, &port);
    char *argv[24] = {"openssl",
                      "s_client",
                      "-connect",
                      address,
                      "-servername",
                      "shop.test",
                      "-verify_return_error",
                      "-CAfile",
                      (char *)file("ca.pem"),
                      "-alpn",
                      "http/1.1"};
    int n = 11;
    for (int k = 0; k < 4 && rows[i].opt[k]; k++)
      argv[n++] = (char *)rows[i].opt[k];
    argv[n] = NULL;
    start(&p, NULL, argv);
    serve(&p, fd, ctx, &e);
    if (e.err)
      fail_msg("%s: %d; %s", rows[i].what, e.err, p.text);
    assert_int_equal(e.info.version, rows[i].version);
    uint16_t cipher = rows[i].cipher != 1  ? rows[i].cipher
                      : aead_aes_is_fast() ? TLS_AES_256_GCM_SHA384
                                           : TLS_CHACHA20_POLY1305_SHA256;
    assert_true(!cipher || e.info.cipher == cipher);
    assert_string_equal(e.info.sni, "shop.test");
    assert_string_equal(e.info.alpn, "http/1.1");
    say(&p, "first line\n");
    UNTIL(&p, strstr(p.text, "\nfirst line\n"));
    for (int round = 0; round < 2 && rows[i].version == TLS_1_3; round++) {
      char line[32], echoed[32];
      uint8_t was[SECRET_MAX];
      struct records *r = ((struct tls_stream *)e.s)->records;
      memcpy(was, r->tx.secret, sizeof was);
      command(&p, "k\n", "KEYUPDATE"); /* its own keys */
      snprintf(line, sizeof line, "after k %d\n", round);
      snprintf(echoed, sizeof echoed, "\nafter k %d\n", round);
      say(&p, line);
      UNTIL(&p, strstr(p.text, echoed));
      assert_memory_equal(was, r->tx.secret, 32);
      command(&p, "K\n", "KEYUPDATE"); /* both */
      snprintf(line, sizeof line, "after K %d\n", round);
      snprintf(echoed, sizeof echoed, "\nafter K %d\n", round);
      say(&p, line);
      UNTIL(&p, strstr(p.text, echoed));
      assert_memory_not_equal(was, r->tx.secret, 32);
    }
    if (rows[i].version == TLS_1_3) { /* and ours, between two lines */
      struct records *r = ((struct tls_stream *)e.s)->records;
      r->answer = true;
      say(&p, "after ours\n");
      UNTIL(&p, strstr(p.text, "\nafter ours\n"));
    }
    say(&p, "Q\n");
    UNTIL(&p, e.at_end || e.closed);
    assert_int_equal(e.closed, 0);
    end_close(&e);
    stop(&p);
    close(fd);
  }
  tls_context_unref(ctx);
  tls_tickets_unref(tickets);
}

static void openssl_client_bulk(void **state) {
  (void)state;
  if (!installed("openssl"))
    skip();
  static char data[BULK];
  write_file("bulk", data, sizeof data);
  struct tls_context *ctx = server(NULL);
  for (int v = 0; v < 2; v++) {
    char address[32];
    uint16_t port;
    struct program p;
    int fd = listener(address, sizeof address, &port);
    char *argv[] = {"openssl", "s_client", "-connect", address, "-quiet", v ? "-tls1_2" : "-tls1_3", NULL};
    struct end down = {.dump = true, .to_dump = BULK}, up = {0};
    start(&p, NULL, argv);
    serve(&p, fd, ctx, &down);
    assert_int_equal(down.err, 0);
    UNTIL(&p, p.printed >= BULK); /* what it prints of the certificate comes on top */
    end_close(&down);
    stop(&p);
    start(&p, file("bulk"), argv);
    serve(&p, fd, ctx, &up);
    assert_int_equal(up.err, 0);
    UNTIL(&p, up.got == BULK);
    end_close(&up);
    stop(&p);
    close(fd);
  }
  tls_context_unref(ctx);
}

static void openssl_client_resumes(void **state) {
  (void)state;
  if (!installed("openssl"))
    skip();
  for (int v = 0; v < 2; v++) {
    struct tls_tickets *tickets, *restarted;
    uint8_t blob[TLS_TICKETS_BLOB];
    assert_int_equal(tls_tickets_new(&tickets), 0);
    assert_int_equal(tls_tickets_new(&restarted), 0);
    tls_tickets_export(tickets, blob);
    assert_int_equal(tls_tickets_import(restarted, blob, sizeof blob), 0);
    for (int round = 0; round < 3; round++) { /* the third meets a server that was started anew */
      struct tls_context *ctx = server(round == 2 ? restarted : tickets);
      char address[32];
      uint16_t port;
      struct program p;
      struct end e = {.echo = true};
      int fd = listener(address, sizeof address, &port);
      char *argv[] = {"openssl",
                      "s_client",
                      "-connect",
                      address,
                      v ? "-tls1_2" : "-tls1_3",
                      "-servername",
                      "shop.test",
                      "-sess_out",
                      (char *)file("session"),
                      round ? "-sess_in" : NULL,
                      round ? (char *)file("session") : NULL,
                      NULL};
      start(&p, NULL, argv);
      serve(&p, fd, ctx, &e);
      assert_int_equal(e.err, 0);
      assert_int_equal(e.info.resumed, round > 0);
      assert_string_equal(e.info.sni, "shop.test");
      say(&p, "numbers fit\n");
      UNTIL(&p, strstr(p.text, "\nnumbers fit\n"));
      say(&p, "Q\n");
      UNTIL(&p, e.at_end || e.closed);
      stream_close(e.s, 0); /* it waits for our close_notify, and writes the session when it ends */
      UNTIL(&p, waitpid(p.pid, NULL, WNOHANG) != 0);
      stop(&p);
      close(fd);
      tls_context_unref(ctx);
    }
    tls_tickets_unref(tickets);
    tls_tickets_unref(restarted);
  }
}

static void a_killed_client_is_a_truncation(void **state) {
  (void)state;
  if (!installed("openssl"))
    skip();
  struct tls_context *ctx = server(NULL);
  for (int v = 0; v < 2; v++) {
    char address[32];
    uint16_t port;
    struct program p;
    struct end e = {0};
    int fd = listener(address, sizeof address, &port);
    char *argv[] = {"openssl", "s_client", "-connect", address, v ? "-tls1_2" : "-tls1_3", NULL};
    start(&p, NULL, argv);
    serve(&p, fd, ctx, &e);
    assert_int_equal(e.err, 0);
    say(&p, "half a\n");
    UNTIL(&p, e.got == 7);
    kill(p.pid, SIGKILL);
    UNTIL(&p, e.closed);
    assert_int_equal(e.closed, BEAM_ERR_TRUNCATED);
    assert_false(e.at_end);
    end_close(&e);
    stop(&p);
    close(fd);
  }
  tls_context_unref(ctx);
}

static void old_and_weak_clients_are_refused(void **state) {
  (void)state;
  static const char *const opts[][3] = {{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"},
                                        {"-tls1_2", "-cipher", "AES128-GCM-SHA256"},
                                        {"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"}};
  if (!installed("openssl"))
    skip();
  struct tls_context *ctx = server(NULL);
  for (size_t i = 0; i < 3; i++) {
    char address[32];
    uint16_t port;
    struct program p;
    struct end e = {0};
    int fd = listener(address, sizeof address, &port);
    char *argv[] = {"openssl",          "s_client",         "-connect",         address,
                    (char *)opts[i][0], (char *)opts[i][1], (char *)opts[i][2], NULL};
    start(&p, NULL, argv);
    serve(&p, fd, ctx, &e);
    assert_true(e.err < 0);
    UNTIL(&p, strstr(p.text, "alert")); /* told why */
    stop(&p);
    close(fd);
  }
  tls_context_unref(ctx);
}

/* TLS 1.2: a wish to renegotiate is refused, and nothing else happens. */
static void no_renegotiation(void **state) {
  (void)state;
  if (!installed("openssl"))
    skip();
  struct tls_context *ctx = server(NULL);
  char address[32];
  uint16_t port;
  struct program p;
  struct end e = {.echo = true};
  int fd = listener(address, sizeof address, &port);
  char *argv[] = {"openssl", "s_client", "-connect", address, "-tls1_2", NULL};
  start(&p, NULL, argv);
  serve(&p, fd, ctx, &e);
  assert_int_equal(e.err, 0);
  command(&p, "R\n", "RENEGOTIATING");
  UNTIL(&p, strstr(p.text, "no renegotiation")); /* our alert; OpenSSL gives up then */
  UNTIL(&p, e.closed || e.at_end);
  end_close(&e);
  stop(&p);
  close(fd);
  tls_context_unref(ctx);
}

/* --- OpenSSL's server --- */

static uint16_t free_port(void) {
  char address[32];
  uint16_t port;
  close(listener(address, sizeof address, &port));
  return port;
}

static void openssl_server(void **state) {
  (void)state;
  static const struct {
    const char *what, *opt[3];
    uint16_t version;
    bool mutual;
  } rows[] = {
      {"as it comes", {0}, TLS_1_3, false},
      {"client certificate", {"-Verify", "3", "-verify_return_error"}, TLS_1_3, true},
      {"ChaCha20", {"-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"}, TLS_1_3, false},
      {"AES-128, padding", {"-record_padding", "100"}, TLS_1_3, false},
      {"HelloRetryRequest", {"-groups", "P-384"}, TLS_1_3, false},
      {"no tickets", {"-num_tickets", "0"}, TLS_1_3, false},
      {"TLS 1.2", {"-tls1_2"}, TLS_1_2, false},
  };
  if (!installed("openssl"))
    skip();
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct tls_context *ctx = client(true);
    struct program p;
    char port_text[8];
    uint16_t port = free_port();
    snprintf(port_text, sizeof port_text, "%u", port);
    char *argv[24] = {"openssl",  "s_server",
                      "-accept",  port_text,
                      "-cert",    (char *)file("leaf.pem"),
                      "-key",     (char *)file("leaf.key"),
                      "-CAfile",  (char *)file("ca.pem"),
                      "-naccept", "2"};
    int n = 12;
    for (int k = 0; k < 3 && rows[i].opt[k]; k++)
      argv[n++] = (char *)rows[i].opt[k];
    start(&p, NULL, argv);
    for (int round = 0; round < 2; round++) {
      struct end e = {0};
      char line[32];
      dial(&p, port, ctx, &e);
      if (e.err)
        fail_msg("%s: %d; %s", rows[i].what, e.err, p.text);
      assert_int_equal(e.info.version, rows[i].version);
      assert_int_equal(e.info.resumed, round && strcmp(rows[i].what, "no tickets") != 0);
      snprintf(line, sizeof line, "here %d\n", round);
      assert_int_equal(stream_write(e.s, line, strlen(line)), strlen(line));
      UNTIL(&p, strstr(p.text, line));
      if (rows[i].version == TLS_1_3) {
        struct records *r = ((struct tls_stream *)e.s)->records;
        for (int both = 0; both < 2; both++) {
          uint8_t rx[SECRET_MAX], tx[SECRET_MAX];
          memcpy(rx, r->rx.secret, sizeof rx);
          memcpy(tx, r->tx.secret, sizeof tx);
          say(&p, both ? "K\n" : "k\n");
          UNTIL(&p, memcmp(rx, r->rx.secret, 32) != 0);
          say(&p, both ? "two\n" : "one\n");
          UNTIL(&p, !strcmp(e.last, both ? "two\n" : "one\n"));
          assert_int_equal(memcmp(tx, r->tx.secret, 32) != 0, both);
        }
        snprintf(line, sizeof line, "there %d\n", round);
        assert_int_equal(stream_write(e.s, line, strlen(line)), strlen(line));
        UNTIL(&p, strstr(p.text, line));
      }
      assert_true(!rows[i].mutual || strstr(p.text, "depth=0") != NULL);
      stream_finish(e.s);
      UNTIL(&p, e.at_end);
      end_close(&e);
    }
    stop(&p);
    tls_context_unref(ctx);
  }
}

/* --- GnuTLS --- */

static void gnutls_client(void **state) {
  (void)state;
  static const char *const priorities[] = {"NORMAL", "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM",
                                           "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305",
                                           "NORMAL:-VERS-ALL:+VERS-TLS1.2"};
  if (!installed("gnutls-cli"))
    skip();
  struct tls_tickets *tickets;
  assert_int_equal(tls_tickets_new(&tickets), 0);
  struct tls_context *ctx = server(tickets);
  for (size_t i = 0; i < 5; i++) {
    char address[32], port_text[8];
    uint16_t port;
    struct program p;
    struct end e = {.echo = true};
    int fd = listener(address, sizeof address, &port);
    snprintf(port_text, sizeof port_text, "%u", port);
    char *argv[] = {"gnutls-cli",
                    "--port",
                    port_text,
                    "127.0.0.1",
                    "--x509cafile",
                    (char *)file("ca.pem"),
                    "--sni-hostname",
                    "shop.test",
                    "--verify-hostname",
                    "shop.test",
                    "--inline-commands",
                    "--priority",
                    (char *)priorities[i % 4],
                    i == 4 ? "--recordsize=2000" : NULL,
                    NULL};
    start(&p, NULL, argv);
    serve(&p, fd, ctx, &e);
    if (e.err)
      fail_msg("%s: %d; %s", priorities[i % 4], e.err, p.text);
    assert_int_equal(e.info.version, i == 3 ? TLS_1_2 : TLS_1_3);
    UNTIL(&p, strstr(p.text, "Handshake was completed"));
    say(&p, "first line\n");
    UNTIL(&p, strstr(p.text, "\nfirst line\n"));
    if (i != 3) {
      struct records *r = ((struct tls_stream *)e.s)->records;
      uint8_t was[SECRET_MAX];
      memcpy(was, r->tx.secret, sizeof was);
      say(&p, "^rekey^\n");
      UNTIL(&p, memcmp(was, r->tx.secret, 32) != 0);
      say(&p, "after rekey\n");
      UNTIL(&p, strstr(p.text, "\nafter rekey\n"));
      assert_true(i != 4 || r->max_out < 2000);
    }
    static char data[5000]; /* several records where the peer wants small ones */
    memset(data, 'x', sizeof data);
    size_t before = p.printed;
    assert_int_equal(stream_write(e.s, data, sizeof data), sizeof data);
    UNTIL(&p, p.printed >= before + sizeof data);
    close(p.in); /* its end: close_notify */
    p.in = -1;
    UNTIL(&p, e.at_end || e.closed);
    assert_int_equal(e.closed, 0);
    end_close(&e);
    stop(&p);
    close(fd);
  }
  tls_context_unref(ctx);
  tls_tickets_unref(tickets);
}

static void gnutls_server(void **state) {
  (void)state;
  if (!installed("gnutls-serv"))
    skip();
  struct program p;
  char port_text[8];
  uint16_t port = free_port();
  snprintf(port_text, sizeof port_text, "%u", port);
  char *argv[] = {"gnutls-serv",
                  "--echo",
                  "--port",
                  port_text,
                  "--x509certfile",
                  (char *)file("leaf.pem"),
                  "--x509keyfile",
                  (char *)file("leaf.key"),
                  "--disable-client-cert",
                  "--noticket",
                  NULL};
  for (int tickets = 0; tickets < 2; tickets++) {
    struct tls_context *ctx = client(true);
    argv[9] = tickets ? NULL : "--noticket";
    start(&p, NULL, argv);
    for (int round = 0; round < 2; round++) {
      struct end e = {0};
      dial(&p, port, ctx, &e);
      if (e.err)
        fail_msg("%d; %s", e.err, p.text);
      assert_int_equal(e.info.version, TLS_1_3);
      assert_int_equal(e.info.resumed, round && tickets);
      assert_int_equal(stream_write(e.s, "to and fro\n", 11), 11);
      UNTIL(&p, e.got == 11);
      assert_string_equal(e.last, "to and fro\n");
      stream_finish(e.s);
      UNTIL(&p, e.at_end || e.closed);
      end_close(&e);
    }
    stop(&p);
    tls_context_unref(ctx);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(openssl_client),
      cmocka_unit_test(openssl_client_bulk),
      cmocka_unit_test(openssl_client_resumes),
      cmocka_unit_test(a_killed_client_is_a_truncation),
      cmocka_unit_test(old_and_weak_clients_are_refused),
      cmocka_unit_test(no_renegotiation),
      cmocka_unit_test(openssl_server),
      cmocka_unit_test(gnutls_client),
      cmocka_unit_test(gnutls_server),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
