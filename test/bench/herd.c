/* herd.c: many tunnels in one process, for those who ask what becomes of a relay whose agents all come at once.
 *
 *   herd RELAY CA DIR COUNT [TRANSPORT [FIRST]]     (token in BEAM_TOKEN)
 *
 * Says a line of JSON when all tunnels are up, and again when all of them were lost once and are up again:
 * `{"event":"all","ms":M,"seconds":[N,N,...]}`: M ms after the first was lost (or the start), and how many came up in each second of them.
 * Names and devices are numbered from FIRST, a multiple of 50. Ends with standard input. Needs a descriptor for each tunnel and some for all.
 */
#include <beam/beam.h>
#include <beam/tunnel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
  A_DEVICE = 50,
  AT_A_TIME = 16,
  SECONDS = 600
}; /* tunnels of one device: a relay lets each have 64 names */

static beam_loop *loop;
static unsigned count, up_n, lost_n;
static unsigned opened, first;
static char **args;
static struct cow {
  beam_tunnel *tunnel;
  bool up, lost;
} * herd;
static double since;
static unsigned seconds[SECONDS];

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static void say_all(double ms) {
  printf("{\"event\":\"all\",\"ms\":%.0f,\"seconds\":[", ms);
  for (unsigned i = 0; i <= (unsigned)(ms / 1000) && i < SECONDS; i++)
    printf(i ? ",%u" : "%u", seconds[i]);
  printf("]}\n");
}

static void open_more(void);

static void on_state(void *user, beam_tunnel *t, const struct beam_tunnel_info *info,
                     const struct beam_error *error) {
  (void)t;
  struct cow *me = user;
  bool is = info->state == BEAM_TUNNEL_ACTIVE;
  if (info->state == BEAM_TUNNEL_CLOSED) {
    fprintf(stderr, "herd: closed: %s\n", error ? error->what : "?");
    exit(1);
  }
  if (me->up == is)
    return;
  if (!is && !lost_n) {
    since = now_ms();
    memset(seconds, 0, sizeof seconds);
  }
  lost_n += !is && !me->lost;
  me->lost = me->lost || !is;
  me->up = is;
  up_n += is ? 1 : -1u;
  open_more();
  double ms = now_ms() - since;
  if (is && ms / 1000 < SECONDS)
    seconds[(unsigned)(ms / 1000)]++;
  if (up_n < count || lost_n < count)
    return;
  say_all(ms);
  lost_n = 0;
  for (unsigned i = 0; i < count; i++)
    herd[i].lost = false;
}

static void *wait_for_the_end(void *arg) {
  char c;
  while (read(STDIN_FILENO, &c, 1) > 0)
    ;
  beam_loop_stop(loop);
  return arg;
}

static void open_one(unsigned i) {
  char dir[512], name[32];
  struct beam_error e = BEAM_ERROR_INIT;
  struct beam_tunnel_config c = BEAM_TUNNEL_CONFIG_INIT;
  snprintf(dir, sizeof dir, "%s/%u", args[3], (first + i) / A_DEVICE);
  snprintf(name, sizeof name, "herd-%u", first + i);
  mkdir(dir, 0700);
  c.relay = args[1];
  c.relay_ca = args[2];
  c.data_dir = dir;
  c.name = name;         /* or one device's would be one and the same */
  c.transport = args[5]; /* NULL: the best */
  c.token = getenv("BEAM_TOKEN");
  c.proxy = "";
  c.local_port = 9;
  c.on_state = on_state;
  c.user = &herd[i];
  herd[i].lost = true;
  if (beam_tunnel_open(loop, &c, &herd[i].tunnel, &e)) {
    fprintf(stderr, "herd: %s\n", e.what);
    exit(1);
  }
}

/* The start is not what is looked at: a few at a time. */
static void open_more(void) {
  while (opened < count && opened - up_n < AT_A_TIME)
    open_one(opened++);
}

int main(int argc, char **argv) {
  pthread_t thread;
  if (argc < 5 || argc > 7 || (count = (unsigned)atoi(argv[4])) < 1) {
    fprintf(stderr, "herd RELAY CA DIR COUNT [TRANSPORT [FIRST]]\n");
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  args = argv;
  first = argc > 6 ? (unsigned)atoi(argv[6]) : 0;
  herd = calloc(count, sizeof *herd);
  lost_n = count;
  if (!herd || beam_loop_new(&loop) || pthread_create(&thread, NULL, wait_for_the_end, NULL))
    return 1;
  since = now_ms();
  open_more();
  beam_loop_run(loop);
  for (unsigned i = 0; i < count; i++)
    beam_tunnel_close(herd[i].tunnel);
  beam_loop_free(loop);
  free(herd);
  return 0;
}
