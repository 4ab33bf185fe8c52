/* opens.c: cold opens: from beam_tunnel_open() to a visitor's first whole answer, again and again.
 *
 *   opens --relay ADDR:PORT --ca FILE --local PORT --dir DIR [--count 100] [--at-once 16] [--within MS] [--allow FAILURES] [--transport T]
 *         [--proxy URL] [--token T] [--netns FILE] [--log FILE]
 *
 * Cold: each open has a data directory of its own, empty: a new device key, no pinned CA, no remembered transport, hence a new name and a
 * new certificate at the relay; the library keeps no ticket and no address from one tunnel to the next. All tunnels live on one loop. The
 * visitor is GnuTLS and knows nothing of libbeam: a new TCP connection, a full handshake checked against --ca, one GET of /open/NUMBER whose
 * answer must be whole and show that path (examples/site does). --netns: the visitors' network namespace, when it is not the tunnels'.
 *
 * It prints one line of JSON; the exit status is 0 when at most --allow opens failed or took longer than --within.
 */
#include <beam/tunnel.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <gnutls/gnutls.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
  AT_ONCE_MAX = 256,
  PATIENCE_MS = 20000, /* what is too late is waited for: how late tells why */
  ANSWER_BYTES = 65536,
  SHOWN = 12 /* failures told of by name */
};

static struct {
  const char *relay, *ca, *dir, *transport, *proxy, *token, *netns;
  struct sockaddr_in to; /* the relay, for visitors */
  unsigned local, count, at_once, within, allow;
} conf = {.count = 100, .at_once = 16, .within = 5000};

static beam_loop *loop;
static gnutls_certificate_credentials_t trust;

/* One open. Guarded by its lock: written on the loop's thread until `done`, read by the worker. */
struct open {
  unsigned number;
  char data[512];
  beam_tunnel *tunnel;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool active, over, closed; /* over: it will not be active any more; closed: by us, nobody knows it now */
  char name[256], transport[16], why[320];
};

/* What became of them, in the order of their ends. */
static struct {
  pthread_mutex_t lock;
  unsigned next, ended, good, late, failed, shown;
  double *up_ms, *ms; /* of those that were served, late or not */
  unsigned served, over_quic, over_h2, over_ws;
} sum = {.lock = PTHREAD_MUTEX_INITIALIZER};

static double now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void die(const char *what, const char *more) {
  fprintf(stderr, "opens: %s%s%s\n", what, more ? ": " : "", more ? more : "");
  exit(2);
}

/* ---- the tunnel, on the loop's thread ------------------------------------------------------------------------------ */

static void on_state(void *user, beam_tunnel *t, const struct beam_tunnel_info *info,
                     const struct beam_error *error) {
  (void)t;
  struct open *o = user;
  pthread_mutex_lock(&o->lock);
  if (error)
    snprintf(o->why, sizeof o->why, "%.300s", error->what);
  if (info->state == BEAM_TUNNEL_ACTIVE) {
    snprintf(o->name, sizeof o->name, "%s", info->name);
    snprintf(o->transport, sizeof o->transport, "%s", info->transport);
    o->active = true;
  }
  o->over = o->over || info->state == BEAM_TUNNEL_CLOSED;
  pthread_cond_signal(&o->changed);
  pthread_mutex_unlock(&o->lock);
}

static void open_it(void *arg) {
  struct open *o = arg;
  struct beam_error error = BEAM_ERROR_INIT;
  struct beam_tunnel_config c = BEAM_TUNNEL_CONFIG_INIT;
  c.relay = conf.relay;
  c.relay_ca = conf.ca;
  c.token = conf.token;
  c.local_host = "127.0.0.1";
  c.local_port = (uint16_t)conf.local;
  c.data_dir = o->data;
  c.transport = conf.transport;
  c.proxy = conf.proxy;
  c.on_state = on_state;
  c.user = o;
  if (beam_tunnel_open(loop, &c, &o->tunnel, &error) == 0)
    return;
  pthread_mutex_lock(&o->lock);
  snprintf(o->why, sizeof o->why, "%.300s", error.what);
  o->over = true;
  pthread_cond_signal(&o->changed);
  pthread_mutex_unlock(&o->lock);
}

static void close_it(void *arg) {
  struct open *o = arg;
  beam_tunnel_close(o->tunnel);
  pthread_mutex_lock(&o->lock);
  o->closed = true;
  pthread_cond_signal(&o->changed);
  pthread_mutex_unlock(&o->lock);
}

static void *run_loop(void *arg) {
  (void)arg;
  beam_loop_run(loop);
  return NULL;
}

/* ---- the visitor, on a worker's thread ----------------------------------------------------------------------------- */

/* NULL, or what went wrong. */
static const char *converse(gnutls_session_t s, const struct open *o, char *answer) {
  int r;
  while ((r = gnutls_handshake(s)) < 0)
    if (gnutls_error_is_fatal(r) || r == GNUTLS_E_TIMEDOUT)
      return gnutls_strerror(r);
  char request[512], wanted[32];
  snprintf(request, sizeof request, "GET /?open=%u HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
           o->number, o->name);
  if (gnutls_record_send(s, request, strlen(request)) < 0)
    return "the request was not taken";
  size_t n = 0;
  ssize_t got;
  while ((got = gnutls_record_recv(s, answer + n, ANSWER_BYTES - 1 - n)) != 0) {
    if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED)
      continue;
    if (got < 0) /* a connection that just ends is an answer cut short */
      return gnutls_strerror((int)got);
    n += (size_t)got;
  }
  answer[n] = 0;
  snprintf(wanted, sizeof wanted, "GET /?open=%u ", o->number);
  if (strncmp(answer, "HTTP/1.1 200 ", 13)) {
    answer[strcspn(answer, "\r\n")] = 0;
    return answer[0] ? answer : "no answer";
  }
  return strstr(answer, wanted) && strstr(answer, "</html>") ? NULL : "not the answer to this request";
}

static const char *visit(const struct open *o, char *answer, double ms) {
  const char *why = "cannot connect";
  unsigned left = ms > 1 ? (unsigned)ms : 1;
  struct timeval tv = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
  gnutls_session_t s = NULL;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return "no socket";
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);          /* connect() goes by it, too */
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* as browsers do */
  if (connect(fd, (const struct sockaddr *)&conf.to, sizeof conf.to) == 0 &&
      gnutls_init(&s, GNUTLS_CLIENT) == 0) {
    gnutls_set_default_priority(s);
    gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, trust);
    gnutls_server_name_set(s, GNUTLS_NAME_DNS, o->name, strlen(o->name));
    gnutls_session_set_verify_cert(s, o->name, 0);
    gnutls_handshake_set_timeout(s, left);
    gnutls_record_set_timeout(s, left);
    gnutls_transport_set_int(s, fd);
    why = converse(s, o, answer);
    gnutls_deinit(s);
  }
  close(fd);
  return why;
}

/* ---- one open after the other -------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
  (void)st;
  (void)type;
  (void)at;
  return remove(path);
}

/* False: not within PATIENCE_MS, or never. */
static bool wait_active(struct open *o, double begun) {
  double end = begun + PATIENCE_MS;
  struct timespec ts = {.tv_sec = (time_t)(end / 1e3),
                        .tv_nsec = (long)((end - 1e3 * (time_t)(end / 1e3)) * 1e6)};
  pthread_mutex_lock(&o->lock);
  while (!o->active && !o->over)
    if (pthread_cond_timedwait(&o->changed, &o->lock, &ts))
      break;
  bool active = o->active && !o->over;
  pthread_mutex_unlock(&o->lock);
  return active;
}

static void wait_closed(struct open *o) {
  if (beam_loop_post(loop, close_it, o))
    die("out of memory", NULL);
  pthread_mutex_lock(&o->lock);
  while (!o->closed)
    pthread_cond_wait(&o->changed, &o->lock);
  pthread_mutex_unlock(&o->lock);
}

static void note(const struct open *o, const char *why, double up, double took) {
  pthread_mutex_lock(&sum.lock);
  sum.over_quic += !strcmp(o->transport, "quic");
  sum.over_h2 += !strcmp(o->transport, "h2");
  sum.over_ws += !strcmp(o->transport, "ws");
  if (!why) {
    sum.up_ms[sum.served] = up;
    sum.ms[sum.served++] = took;
  }
  bool late = !why && took > conf.within;
  sum.failed += why != NULL;
  sum.late += late;
  sum.good += !why && !late;
  if ((why || late) && sum.shown++ < SHOWN)
    fprintf(stderr, "open %u: %s after %.0f ms, tunnel up after %.0f over %s%s%s\n", o->number,
            why ? why : "served late", took, up, o->transport[0] ? o->transport : "nothing",
            o->why[0] ? "; it said: " : "", o->why);
  if (++sum.ended % 1000 == 0)
    fprintf(stderr, "opens: %u of %u, %u failed, %u late\n", sum.ended, conf.count, sum.failed, sum.late);
  pthread_mutex_unlock(&sum.lock);
}

static void one(unsigned number, char *answer) {
  struct open o = {.number = number, .lock = PTHREAD_MUTEX_INITIALIZER};
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&o.changed, &monotonic);
  snprintf(o.data, sizeof o.data, "%s/%u", conf.dir, number);
  if (mkdir(o.data, 0700))
    die("cannot make", o.data);
  double begun = now_ms(), up = 0;
  if (beam_loop_post(loop, open_it, &o))
    die("out of memory", NULL);
  const char *why = "the tunnel was not up";
  if (wait_active(&o, begun)) {
    up = now_ms() - begun;
    why = visit(&o, answer, PATIENCE_MS - up);
  }
  double took = now_ms() - begun;
  wait_closed(&o);
  note(&o, why, up, took);
  nftw(o.data, remove_one, 8, FTW_DEPTH | FTW_PHYS);
  pthread_cond_destroy(&o.changed);
}

static void *work(void *arg) {
  (void)arg;
  int fd = conf.netns ? open(conf.netns, O_RDONLY | O_CLOEXEC) : -1;
  if (conf.netns && (fd < 0 || setns(fd, CLONE_NEWNET)))
    die("cannot enter", conf.netns);
  if (fd >= 0)
    close(fd);
  char *answer = malloc(ANSWER_BYTES);
  if (!answer)
    die("out of memory", NULL);
  for (;;) {
    pthread_mutex_lock(&sum.lock);
    unsigned number = sum.next < conf.count ? ++sum.next : 0;
    pthread_mutex_unlock(&sum.lock);
    if (!number)
      break;
    one(number, answer);
  }
  free(answer);
  return NULL;
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

static void log_line(void *user, enum beam_log_level level, const char *line) {
  fprintf(user, "%.1f %d %s\n", now_ms(), level, line);
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double at(const double *sorted, double share) {
  unsigned i = (unsigned)(share * sum.served);
  return sum.served ? sorted[i < sum.served ? i : sum.served - 1] : 0;
}

static int report(double took) {
  qsort(sum.up_ms, sum.served, sizeof *sum.up_ms, by_size);
  qsort(sum.ms, sum.served, sizeof *sum.ms, by_size);
  printf("{\"opens\":%u,\"at_once\":%u,\"seconds\":%.1f,\"good\":%u,\"late\":%u,\"failed\":%u,\"quic\":%u,"
         "\"h2\":%u,\"ws\":%u,"
         "\"up_ms\":{\"p50\":%.0f,\"p99\":%.0f,\"max\":%.0f},\"served_ms\":{\"p50\":%.0f,\"p99\":%.0f,"
         "\"p999\":%.0f,\"max\":%.0f}}\n",
         conf.count, conf.at_once, took / 1e3, sum.good, sum.late, sum.failed, sum.over_quic, sum.over_h2,
         sum.over_ws, at(sum.up_ms, 0.5), at(sum.up_ms, 0.99), at(sum.up_ms, 1), at(sum.ms, 0.5),
         at(sum.ms, 0.99), at(sum.ms, 0.999), at(sum.ms, 1));
  return conf.count - sum.good <= conf.allow ? 0 : 1;
}

static unsigned number(const char *name, const char *text, unsigned most) {
  char *end;
  unsigned long n = strtoul(text, &end, 10);
  if (*end || end == text || n > most)
    die("not a number that is possible here", name);
  return (unsigned)n;
}

static void read_option(const char *name, const char *value) {
  if (!strcmp(name, "--relay"))
    conf.relay = value;
  else if (!strcmp(name, "--ca"))
    conf.ca = value;
  else if (!strcmp(name, "--dir"))
    conf.dir = value;
  else if (!strcmp(name, "--transport"))
    conf.transport = value;
  else if (!strcmp(name, "--proxy"))
    conf.proxy = value;
  else if (!strcmp(name, "--token"))
    conf.token = value;
  else if (!strcmp(name, "--netns"))
    conf.netns = value;
  else if (!strcmp(name, "--local"))
    conf.local = number(name, value, 65535);
  else if (!strcmp(name, "--count"))
    conf.count = number(name, value, 1000000);
  else if (!strcmp(name, "--at-once"))
    conf.at_once = number(name, value, AT_ONCE_MAX);
  else if (!strcmp(name, "--within"))
    conf.within = number(name, value, PATIENCE_MS);
  else if (!strcmp(name, "--allow"))
    conf.allow = number(name, value, 1000000);
  else if (!strcmp(name, "--log")) {
    FILE *f = fopen(value, "w");
    if (!f)
      die("cannot write", value);
    beam_log_to(log_line, f, BEAM_LOG_DEBUG);
  } else
    die("unknown option", name);
}

static void prepare(void) {
  if (!conf.relay || !conf.ca || !conf.dir || !conf.local || !conf.count || !conf.at_once)
    die("--relay, --ca, --local and --dir are needed", NULL);
  char host[64];
  unsigned port;
  conf.to.sin_family = AF_INET;
  if (sscanf(conf.relay, "%63[0-9.]:%u", host, &port) != 2 || port > 65535 ||
      inet_pton(AF_INET, host, &conf.to.sin_addr) != 1)
    die("--relay must be ADDRESS:PORT", conf.relay);
  conf.to.sin_port = htons((uint16_t)port);
  sum.up_ms = calloc(conf.count, sizeof *sum.up_ms);
  sum.ms = calloc(conf.count, sizeof *sum.ms);
  if (!sum.up_ms || !sum.ms || beam_loop_new(&loop) != 0)
    die("out of memory", NULL);
  if (gnutls_certificate_allocate_credentials(&trust) ||
      gnutls_certificate_set_x509_trust_file(trust, conf.ca, GNUTLS_X509_FMT_PEM) < 1)
    die("no certificate in", conf.ca);
}

int main(int argc, char **argv) {
  if (argc % 2 == 0)
    die("each option has a value", argv[argc - 1]);
  for (int i = 1; i + 1 < argc; i += 2)
    read_option(argv[i], argv[i + 1]);
  prepare();
  pthread_t threads[AT_ONCE_MAX], loop_thread;
  double begun = now_ms();
  if (pthread_create(&loop_thread, NULL, run_loop, NULL))
    die("no thread", NULL);
  for (unsigned i = 0; i < conf.at_once; i++)
    if (pthread_create(&threads[i], NULL, work, NULL))
      die("no thread", NULL);
  for (unsigned i = 0; i < conf.at_once; i++)
    pthread_join(threads[i], NULL);
  double took = now_ms() - begun;
  beam_loop_stop(loop);
  pthread_join(loop_thread, NULL);
  beam_loop_free(loop);
  gnutls_certificate_free_credentials(trust);
  int status = report(took);
  free(sum.up_ms);
  free(sum.ms);
  return status;
}
