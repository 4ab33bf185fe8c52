/* tls_bench.c: how fast bytes go through TLS on one core: the AEADs alone, then one stream between two ends of ours over memory.
 * Both ends share the core, so one end alone does about twice the stream's figure. Prints MB/s. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <beam/beam.h>
#include <malloc.h>

#include "base/random.h"
#include "io/mem.h"
#include "tls/aead.h"
#include "tls/tls.h"

static double seconds(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void bench_aead(enum aead_kind kind, const char *name, const struct aead_ops *lib) {
  static uint8_t buf[16401 + AEAD_TAG], plain[16401 + AEAD_TAG];
  uint8_t key[AEAD_KEY_MAX] = {1}, nonce[AEAD_NONCE] = {2}, ad[5] = {3};
  struct aead *a;
  if (aead_new(kind, key, lib, &a))
    return;
  double start = seconds(), sealed, opened;
  enum { N = 20000 };
  for (int i = 0; i < N; i++)
    aead_seal(a, nonce, ad, sizeof ad, buf, 16385, buf);
  sealed = seconds() - start;
  aead_seal(a, nonce, ad, sizeof ad, plain, 16385, buf);
  start = seconds();
  for (int i = 0; i < N; i++)
    aead_open(a, nonce, ad, sizeof ad, buf, 16385 + AEAD_TAG, plain);
  opened = seconds() - start;
  printf("%-20s %-8s seal %6.0f  open %6.0f MB/s\n", name, lib->name, N * 16384 / sealed / 1e6,
         N * 16384 / opened / 1e6);
  aead_free(a);
}

struct sink {
  struct stream *s;
  size_t got;
};
static struct sink ends[2];
static struct tls_cert *cert;

static void on_readable(void *user) {
  struct sink *k = user;
  size_t n = stream_waiting(k->s);
  k->got += n;
  stream_consume(k->s, n);
}
static void on_writable(void *user) {
  (void)user;
}
static void on_closed(void *user, int reason) {
  (void)user;
  fprintf(stderr, "closed: %d\n", reason);
  exit(1);
}
static const struct stream_events events = {on_readable, on_writable, on_closed};

static void on_done(void *user, int err, struct stream *s, const struct tls_info *info) {
  struct sink *k = user;
  if (err) {
    fprintf(stderr, "handshake: %d\n", err);
    exit(1);
  }
  if (k == ends)
    printf("%-20s ", info->cipher_name);
  k->s = s;
  stream_own(s, &events, k);
}

static struct tls_cert *choose(void *user, const char *sni) {
  (void)user;
  (void)sni;
  return tls_cert_ref(cert);
}

static void *read_file(const char *path, size_t *n) {
  FILE *f = fopen(path, "rb");
  char *p = malloc(65536);
  if (!f || !p)
    exit(2);
  *n = fread(p, 1, 65536, f);
  fclose(f);
  return p;
}

static void handshakes(struct tls_context *c, struct tls_context *s, int n, const char *what) {
  double start = seconds();
  struct loop *l;
  loop_new_virtual(&l);
  printf("\n");
  for (int i = 0; i < n; i++) {
    struct stream *a, *b;
    mem_pair(l, &a, &b);
    tls_accept(b, s, on_done, &ends[1], NULL);
    tls_connect(a, c, on_done, &ends[1], NULL);
    ends[1].s = NULL;
    loop_run_for(l, 0);
  }
  printf("%s: %.2f ms a handshake, both sides\n", what, (seconds() - start) * 1e3 / n);
}

static void bulk(struct tls_context *c, struct tls_context *s) {
  struct loop *l;
  struct stream *a, *b;
  loop_new_virtual(&l);
  mem_pair(l, &a, &b);
  tls_accept(b, s, on_done, &ends[1], NULL);
  tls_connect(a, c, on_done, &ends[0], NULL);
  loop_run_for(l, 0);
  static char data[256 * 1024];
  struct evbuffer *buf = evbuffer_new();
  enum { TOTAL = 2000000000 };
  double start = seconds();
  ends[1].got = 0;
  while (ends[1].got < TOTAL) {
    if (evbuffer_get_length(buf) < sizeof data)
      evbuffer_add_reference(buf, data, sizeof data, NULL, NULL);
    stream_move(ends[0].s, buf, sizeof data);
    loop_run_for(l, 0);
  }
  printf("one stream through both ends: %.0f MB/s\n", (double)ends[1].got / (seconds() - start) / 1e6);
  stream_close(ends[0].s, BEAM_ERR_CLOSED);
  stream_close(ends[1].s, BEAM_ERR_CLOSED);
  evbuffer_free(buf);
  loop_free(l);
}

/* A request and its answer, 1 KiB each: what small records cost. */
static void ping_pong(struct tls_context *c, struct tls_context *s) {
  enum { N = 200000 };
  struct loop *l;
  struct stream *a, *b;
  static char data[1024];
  loop_new_virtual(&l);
  mem_pair(l, &a, &b);
  tls_accept(b, s, on_done, &ends[1], NULL);
  tls_connect(a, c, on_done, &ends[0], NULL);
  loop_run_for(l, 0);
  double start = seconds();
  for (int i = 0; i < N; i++) {
    stream_write(ends[0].s, data, sizeof data);
    loop_run_for(l, 0);
    stream_write(ends[1].s, data, sizeof data);
    loop_run_for(l, 0);
  }
  printf("1 KiB there and back: %.2f us\n", (seconds() - start) * 1e6 / N);
  stream_close(ends[0].s, BEAM_ERR_CLOSED);
  stream_close(ends[1].s, BEAM_ERR_CLOSED);
  loop_free(l);
}

static void idle(struct tls_context *c, struct tls_context *s) {
  enum { N = 500 };
  struct loop *l;
  loop_new_virtual(&l);
  struct stream *a[2 * N], *b[2 * N];
  for (int i = 0; i < 2 * N; i++)
    mem_pair(l, &a[i], &b[i]);
  size_t before = mallinfo2().uordblks;
  for (int i = 0; i < N; i++) {
    tls_accept(b[i], s, on_done, &ends[1], NULL);
    tls_connect(a[i], c, on_done, &ends[1], NULL);
    loop_run_for(l, 0);
  }
  printf("idle TLS 1.3 stream: %zu bytes\n", (mallinfo2().uordblks - before) / 2 / N);
}

static void aeads(void) {
#ifndef BEAM_NO_GNUTLS
  bench_aead(AEAD_AES_128_GCM, "AES-128-GCM", &aead_gnutls);
  bench_aead(AEAD_AES_256_GCM, "AES-256-GCM", &aead_gnutls);
#endif
  bench_aead(AEAD_AES_256_GCM, "AES-256-GCM", &aead_sodium);
  bench_aead(AEAD_AES_256_GCM, "AES-256-GCM", &aead_mbedtls);
  bench_aead(AEAD_CHACHA20_POLY1305, "ChaCha20-Poly1305", &aead_sodium);
}

/* Without a third argument, everything. */
static bool wanted(int argc, char **argv, const char *what) {
  return argc < 4 || !strcmp(argv[3], what);
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: %s CERT.pem KEY.pem [aead|bulk|small|handshake|idle]\n", argv[0]);
    return 2;
  }
  tls_init();
  size_t cn, kn;
  void *cp = read_file(argv[1], &cn), *kp = read_file(argv[2], &kn);
  if (tls_cert_new(cp, cn, kp, kn, &cert))
    return 2;
  struct tls_context *s, *c, *ls, *lc;
  if (tls_server_context(&(struct tls_server_config){.choose = choose}, &s) ||
      tls_client_context(&(struct tls_client_config){.trust = TLS_TRUST_ANY}, &c) ||
      tls_server_context(&(struct tls_server_config){.choose = choose, .link = true}, &ls) ||
      tls_client_context(&(struct tls_client_config){.trust = TLS_TRUST_ANY, .link = true}, &lc))
    return 2;
  if (wanted(argc, argv, "aead"))
    aeads();
  for (int i = 0; i < 3 && wanted(argc, argv, "bulk"); i++)
    bulk(c, s);
  if (wanted(argc, argv, "small"))
    ping_pong(c, s);
  if (wanted(argc, argv, "handshake")) {
    handshakes(c, s, 100, "visitors (X25519)");
    handshakes(lc, ls, 100, "links (P-256)");
  }
  if (wanted(argc, argv, "idle"))
    idle(c, s);
  return 0;
}
