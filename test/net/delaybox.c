/* delaybox.c: a wire between two network namespaces, as slow, narrow, lossy and broken as it is told to be.
 *
 *   delaybox [--seed N] [--mtu BYTES]
 *
 * Makes two namespaces, A (192.0.2.1) and B (192.0.2.2), each with one TUN device, and carries IP packets between them. TCP's handshakes, loss recovery
 * and congestion control on both sides are the kernel's own; only the wire is ours. The namespaces have no name and nobody but this process holds
 * them: when it ends, in whatever way, and the programs in them have ended, they are gone.
 *
 * Says `ready a=PATH b=PATH` on standard output: enter one by `nsenter --net=PATH`. Then it obeys lines on standard input, and ends with it:
 *
 *   set both|ab|ba KEY=VALUE...   answered by `ok`, or `bad ...` (then the keys before the bad one count)
 *     delay=MS       on the way (decimals allowed)           rate=MBIT      of the wire, 0: no limit
 *     queue=KIB      before the wire, then packets are lost  ecn=KIB        so much before it: packets that know ECN are marked (0: never)
 *     loss=PERCENT   at random, seeded                       reorder=PERCENT late=MS   so many take so much longer
 *     block=udp|tcp|udp:PORT|tcp:PORT|none                   hole=0|1       nothing arrives
 *   stats             one line of JSON: what each way carried and lost since the start
 *
 * Needs root and /dev/net/tun; otherwise exit status 77 and the reason on standard output.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  CANNOT = 77, /* exit status: this machine cannot */
  VNET = 10,   /* virtio_net_hdr before each packet: lets checksums stay unfinished inside one machine */
  BATCH = 64,  /* packets taken from one side before the other has its turn */
  DEVICE_QUEUE =
      20000, /* packets in the kernel before we read them: what is lost shall be lost here, and counted */
  IN_FLIGHT = 256 * 1024, /* packets: 400 MB of a runaway sender without a rate */
  TICK_NS = 50000,
  LINE = 512
};
#define NS_MS 1000000.0

struct packet {
  struct packet *next; /* while free */
  uint64_t due, order; /* ns; of arrival, so that equals keep their order */
  size_t len;          /* with the VNET header */
  uint8_t bytes[];
};

/* One direction. */
struct way {
  const char *name;
  int from, to;
  double delay_ms, late_ms, rate_mbit, loss, reorder; /* the last two: 0..1 */
  uint64_t queue, ecn;                                /* bytes */
  int block_protocol, block_port;
  bool hole;
  uint64_t random, wire_free; /* state of the generator; when the wire has sent what is queued, ns */
  struct packet **heap;       /* in flight, the next due first */
  size_t n, room;
  struct {
    uint64_t packets, bytes, lost, overflow, blocked, hole, marked, late, runaway;
  } stats;
};

static size_t slot; /* bytes of a packet's buffer */
static struct packet *spare;
static uint64_t arrivals;

static uint64_t clock_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
  fprintf(stderr, "delaybox: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* --- chance --- */

static double draw(uint64_t *state) { /* splitmix64, 0 <= x < 1 */
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

/* --- packets in flight: a heap by when they are due --- */

static struct packet *packet_get(void) {
  struct packet *p = spare;
  if (p)
    spare = p->next;
  else if (!(p = malloc(sizeof *p + slot)))
    die("memory");
  return p;
}

static void packet_put(struct packet *p) {
  p->next = spare;
  spare = p;
}

static bool before(const struct packet *a, const struct packet *b) {
  return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static void heap_add(struct way *w, struct packet *p) {
  if (w->n == w->room) {
    w->room = w->room ? 2 * w->room : 1024;
    w->heap = realloc(w->heap, w->room * sizeof *w->heap);
    if (!w->heap)
      die("memory");
  }
  size_t i = w->n++;
  for (; i && before(p, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
    w->heap[i] = w->heap[(i - 1) / 2];
  w->heap[i] = p;
}

static struct packet *heap_take(struct way *w) {
  struct packet *first = w->heap[0], *last = w->heap[--w->n];
  size_t i = 0;
  for (size_t child; (child = 2 * i + 1) < w->n; i = child) {
    if (child + 1 < w->n && before(w->heap[child + 1], w->heap[child]))
      child++;
    if (!before(w->heap[child], last))
      break;
    w->heap[i] = w->heap[child];
  }
  w->heap[i] = last;
  return first;
}

/* --- what happens to a packet --- */

static bool is_blocked(const struct way *w, const uint8_t *ip, size_t n) {
  if (!w->block_protocol || n < 20 || ip[0] >> 4 != 4 || ip[9] != w->block_protocol)
    return false;
  const uint8_t *ports = ip + 4 * (size_t)(ip[0] & 15);
  if (!w->block_port || ports + 4 > ip + n)
    return true;
  return w->block_port == (ports[0] << 8 | ports[1]) || w->block_port == (ports[2] << 8 | ports[3]);
}

/* RFC 3168: from ECT to CE; the header's sum changes by as much (RFC 1624). */
static bool mark(uint8_t *ip, size_t n) {
  unsigned ecn = n >= 20 && ip[0] >> 4 == 4 ? ip[1] & 3 : 0;
  if (!ecn)
    return false;
  uint32_t sum = (uint32_t)(uint16_t) ~(ip[10] << 8 | ip[11]) + (3 - ecn);
  sum = (sum & 0xffff) + (sum >> 16);
  ip[1] |= 3;
  ip[10] = (uint8_t)(~sum >> 8);
  ip[11] = (uint8_t)~sum;
  return true;
}

/* When it arrives at the other side, or 0: never. */
static uint64_t fate(struct way *w, uint8_t *ip, size_t n, uint64_t now) {
  if (w->hole)
    return w->stats.hole++, 0;
  if (is_blocked(w, ip, n))
    return w->stats.blocked++, 0;
  if (w->loss > 0 && draw(&w->random) < w->loss)
    return w->stats.lost++, 0;
  uint64_t sent = now;
  if (w->rate_mbit > 0) {
    double ns_a_byte = 8000 / w->rate_mbit;
    uint64_t start = w->wire_free > now ? w->wire_free : now;
    uint64_t queued = (uint64_t)((double)(start - now) / ns_a_byte);
    if (w->queue && queued + n > w->queue)
      return w->stats.overflow++, 0;
    if (w->ecn && queued > w->ecn && mark(ip, n))
      w->stats.marked++;
    sent = w->wire_free = start + (uint64_t)((double)n * ns_a_byte);
  }
  double ms = w->delay_ms;
  if (w->reorder > 0 && draw(&w->random) < w->reorder) {
    w->stats.late++;
    ms += w->late_ms;
  }
  return sent + (uint64_t)(ms * NS_MS);
}

static void deliver(struct way *w, struct packet *p) {
  /* Or else the device puts the packet into a page, of which TCP's receive window then allows a third as many. */
  struct virtio_net_hdr h;
  memcpy(&h, p->bytes, VNET);
  h.hdr_len = (uint16_t)(p->len - VNET);
  memcpy(p->bytes, &h, VNET);
  /* The device's own reasons not to take a packet (it is going down) are losses like others. */
  if (write(w->to, p->bytes, p->len) == (ssize_t)p->len) {
    w->stats.packets++;
    w->stats.bytes += p->len - VNET;
  }
  packet_put(p);
}

/* False when there is nothing more to read. */
static bool take_in(struct way *w) {
  for (int i = 0; i < BATCH; i++) {
    struct packet *p = packet_get();
    ssize_t n = read(w->from, p->bytes, slot);
    if (n <= VNET) {
      packet_put(p);
      if (n < 0 && errno != EAGAIN && errno != EINTR)
        die("read from the device");
      return false;
    }
    uint64_t now = clock_ns();
    p->len = (size_t)n;
    p->order = arrivals++;
    p->due = fate(w, p->bytes + VNET, p->len - VNET, now);
    if (p->due && w->n >= IN_FLIGHT) {
      w->stats.runaway++;
      p->due = 0;
    }
    if (!p->due)
      packet_put(p);
    else if (p->due <= now && !w->n)
      deliver(w, p);
    else
      heap_add(w, p);
  }
  return true;
}

static void give_out(struct way *w) {
  for (int i = 0; i < 2 * BATCH && w->n && w->heap[0]->due <= clock_ns(); i++)
    deliver(w, heap_take(w));
}

/* --- the namespaces and their devices --- */

static void cannot(const char *what) {
  printf("skipped: %s: %s\n", what, strerror(errno));
  exit(CANNOT);
}

static void set_flags(int s, const char *name, int flags) {
  struct ifreq r = {0};
  memccpy(r.ifr_name, name, 0, IFNAMSIZ - 1);
  if (ioctl(s, SIOCGIFFLAGS, &r) < 0)
    die("device flags");
  r.ifr_flags = (short)(r.ifr_flags | flags);
  if (ioctl(s, SIOCSIFFLAGS, &r) < 0)
    die("device up");
}

static void set_address(int s, unsigned long request, const char *text) {
  struct ifreq r = {0};
  struct sockaddr_in a = {.sin_family = AF_INET};
  memccpy(r.ifr_name, "beam0", 0, IFNAMSIZ - 1);
  if (inet_pton(AF_INET, text, &a.sin_addr) != 1)
    abort();
  memcpy(&r.ifr_addr, &a, sizeof a);
  if (ioctl(s, request, &r) < 0)
    die("device address");
}

static void set_number(int s, unsigned long request, int value) {
  struct ifreq r = {0};
  memccpy(r.ifr_name, "beam0", 0, IFNAMSIZ - 1);
  if (request == SIOCSIFMTU)
    r.ifr_mtu = value;
  else
    r.ifr_qlen = value;
  if (ioctl(s, request, &r) < 0)
    die("device size");
}

/* Moves this process into a namespace of its own that has the device; *tun is the wire's end. Returns a descriptor of the namespace. */
static int make_side(const char *own, const char *peer, int mtu, int *tun) {
  struct ifreq r = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, .ifr_name = "beam0"};
  if (unshare(CLONE_NEWNET))
    cannot("a network namespace");
  int ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  *tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (*tun < 0)
    cannot("/dev/net/tun");
  int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (ns < 0 || s < 0)
    die("namespace");
  if (ioctl(*tun, TUNSETIFF, &r) < 0)
    cannot("a TUN device");
  if (ioctl(*tun, TUNSETOFFLOAD, TUN_F_CSUM) < 0)
    die("checksums");
  set_number(s, SIOCSIFMTU, mtu);
  set_number(s, SIOCSIFTXQLEN, DEVICE_QUEUE);
  set_address(s, SIOCSIFADDR, own);
  set_address(s, SIOCSIFDSTADDR, peer);
  set_flags(s, "beam0", IFF_UP | IFF_RUNNING);
  set_flags(s, "lo", IFF_UP);
  close(s);
  return ns;
}

/* --- what we are told --- */

static bool number(const char *text, double least, double most, double *out) {
  char *end;
  errno = 0;
  double v = strtod(text, &end);
  if (errno || end == text || *end || !(v >= least && v <= most))
    return false;
  *out = v;
  return true;
}

static bool set_block(struct way *w, const char *text) {
  double port = 0;
  if (!strcmp(text, "none"))
    return w->block_protocol = w->block_port = 0, true;
  bool udp = !strncmp(text, "udp", 3);
  if ((!udp && strncmp(text, "tcp", 3)) || (text[3] && text[3] != ':'))
    return false;
  if (text[3] && !number(text + 4, 1, 65535, &port))
    return false;
  w->block_protocol = udp ? IPPROTO_UDP : IPPROTO_TCP;
  w->block_port = (int)port;
  return true;
}

static bool set_key(struct way *w, const char *key, const char *value) {
  static const struct {
    const char *key;
    double most;
  } keys[] = {{"delay", 60000}, {"late", 60000},    {"rate", 100000}, {"loss", 100},
              {"reorder", 100}, {"queue", 1048576}, {"ecn", 1048576}, {"hole", 1}};
  if (!strcmp(key, "block"))
    return set_block(w, value);
  size_t i = 0;
  while (i < sizeof keys / sizeof *keys && strcmp(key, keys[i].key) != 0)
    i++;
  double v;
  if (i == sizeof keys / sizeof *keys || !number(value, 0, keys[i].most, &v))
    return false;
  switch (i) {
  case 0:
    w->delay_ms = v;
    break;
  case 1:
    w->late_ms = v;
    break;
  case 2:
    w->rate_mbit = v;
    w->wire_free = 0;
    break;
  case 3:
    w->loss = v / 100;
    break;
  case 4:
    w->reorder = v / 100;
    break;
  case 5:
    w->queue = (uint64_t)(v * 1024);
    break;
  case 6:
    w->ecn = (uint64_t)(v * 1024);
    break;
  default:
    w->hole = v > 0;
  }
  return true;
}

static void print_stats(const struct way ways[2]) {
  printf("{");
  for (int i = 0; i < 2; i++) {
    const struct way *w = &ways[i];
    printf("%s\"%s\":{\"packets\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"lost\":%" PRIu64
           ",\"overflow\":%" PRIu64 ",\"blocked\":%" PRIu64 ",\"hole\":%" PRIu64 ",\"marked\":%" PRIu64
           ",\"late\":%" PRIu64 ",\"runaway\":%" PRIu64 ",\"in_flight\":%zu}",
           i ? "," : "", w->name, w->stats.packets, w->stats.bytes, w->stats.lost, w->stats.overflow,
           w->stats.blocked, w->stats.hole, w->stats.marked, w->stats.late, w->stats.runaway, w->n);
  }
  printf("}\n");
}

static void obey(struct way ways[2], char *line) {
  char *save, *word = strtok_r(line, " ", &save);
  if (word && !strcmp(word, "stats")) {
    print_stats(ways);
    return;
  }
  char *which = word && !strcmp(word, "set") ? strtok_r(NULL, " ", &save) : NULL;
  if (!which || (strcmp(which, "both") != 0 && strcmp(which, "ab") != 0 && strcmp(which, "ba") != 0)) {
    printf("bad command\n");
    return;
  }
  while ((word = strtok_r(NULL, " ", &save))) {
    char *value = strchr(word, '=');
    if (value)
      *value++ = 0;
    for (int i = 0; i < 2; i++)
      if ((!strcmp(which, "both") || !strcmp(which, ways[i].name)) &&
          (!value || !set_key(&ways[i], word, value))) {
        printf("bad %s\n", word);
        return;
      }
  }
  printf("ok\n");
}

/* False at the end of standard input. */
static bool listen_to(struct way ways[2]) {
  static char line[LINE];
  static size_t n;
  ssize_t got = read(STDIN_FILENO, line + n, sizeof line - 1 - n);
  if (got <= 0)
    return got < 0 && errno == EINTR;
  n += (size_t)got;
  line[n] = 0;
  for (char *end; (end = strchr(line, '\n'));) {
    *end++ = 0;
    obey(ways, line);
    n -= (size_t)(end - line);
    memmove(line, end, n + 1);
  }
  return n < sizeof line - 1;
}

static void carry(struct way ways[2]) {
  struct pollfd p[3] = {{STDIN_FILENO, POLLIN, 0}, {ways[0].from, POLLIN, 0}, {ways[1].from, POLLIN, 0}};
  for (;;) {
    uint64_t now = clock_ns(), next = UINT64_MAX;
    for (int i = 0; i < 2; i++)
      if (ways[i].n && ways[i].heap[0]->due < next)
        next = ways[i].heap[0]->due;
    uint64_t ns = next > now ? next - now : 0;
    struct timespec wait = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    if (ppoll(p, 3, next == UINT64_MAX ? NULL : &wait, NULL) < 0 && errno != EINTR)
      die("poll");
    if (p[0].revents && !listen_to(ways))
      return;
    bool busy = false;
    for (int i = 0; i < 2; i++) {
      give_out(&ways[i]);
      busy = (p[1 + i].revents && take_in(&ways[i])) || busy;
    }
    /* A little later there are more of them: waking for each packet would take the processor from who sends them. */
    if (!busy)
      nanosleep(&(struct timespec){0, TICK_NS}, NULL);
  }
}

int main(int argc, char **argv) {
  double seed = 1, mtu = 1500;
  for (int i = 1; i < argc; i += 2)
    if (i + 1 == argc || !(!strcmp(argv[i], "--seed")  ? number(argv[i + 1], 0, 1e15, &seed)
                           : !strcmp(argv[i], "--mtu") ? number(argv[i + 1], 576, 65000, &mtu)
                                                       : false)) {
      fprintf(stderr, "delaybox [--seed N] [--mtu BYTES]\n");
      return 2;
    }
  slot = VNET + (size_t)mtu;
  int tun_a, tun_b;
  int a = make_side("192.0.2.1", "192.0.2.2", (int)mtu, &tun_a);
  int b = make_side("192.0.2.2", "192.0.2.1", (int)mtu, &tun_b);
  static struct way ways[2]; /* what is on its way at the end is nobody's leak */
  ways[0] = (struct way){.name = "ab", .from = tun_a, .to = tun_b, .random = (uint64_t)seed * 2};
  ways[1] = (struct way){.name = "ba", .from = tun_b, .to = tun_a, .random = (uint64_t)seed * 2 + 1};
  prctl(PR_SET_TIMERSLACK, 1); /* ns; packets are due to the microsecond */
  /* The wire does not wait for those who use it. */
  struct sched_param first = {sched_get_priority_min(SCHED_RR) + 9};
  if (sched_setscheduler(0, SCHED_RR, &first))
    setpriority(PRIO_PROCESS, 0, -20);
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("ready a=/proc/%d/fd/%d b=/proc/%d/fd/%d\n", getpid(), a, getpid(), b);
  carry(ways);
  return 0;
}
