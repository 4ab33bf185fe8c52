/* udp_mem.c: packets in memory, for tests and the sim: delayed, lost, overtaken, cut off, mangled; the same seed does the same. */
#include <arpa/inet.h>
#include <beam/beam.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "io/udp.h"

struct flying {
  struct memnet *net;
  struct flying **prev, *next;
  struct loop_timer arrival;
  struct sockaddr_storage from, to;
  uint8_t ecn;
  size_t n;
  uint8_t p[];
};

struct memsock {
  struct udp u;
  struct memnet *net;
  struct memsock *next;
  bool server; /* was opened with a port */
  bool calling, closed;
};

struct memnet {
  struct udp_net n;
  struct loop *loop;
  struct udp_memnet_conf conf;
  uint64_t random;
  uint64_t free_at[2]; /* of the queue to servers and the one from them, us */
  int hole;
  uint16_t next_port;
  struct memsock *socks;
  struct flying *flying;
};

static uint64_t draw(struct memnet *m) {
  uint64_t x = (m->random += 0x9e3779b97f4a7c15u);
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

/* --- arriving --- */

static struct memsock *find(struct memnet *m, const struct sockaddr_storage *to) {
  for (struct memsock *k = m->socks; k; k = k->next)
    if (!k->closed && k->u.addr.ss_family == to->ss_family && addr_port(&k->u.addr) == addr_port(to))
      return k;
  return NULL;
}

static void reap(struct memsock *k) {
  struct memsock **p = &k->net->socks;
  while (*p != k)
    p = &(*p)->next;
  *p = k->next;
  free(k);
}

static void drop(struct flying *f) {
  timer_stop(&f->arrival);
  *f->prev = f->next;
  if (f->next)
    f->next->prev = f->prev;
  free(f);
}

static void on_arrival(void *arg) {
  struct flying *f = arg;
  struct memsock *k = find(f->net, &f->to);
  if (k) {
    struct udp_packet packet = {f->p, f->n, f->ecn, &f->from, &f->to};
    k->calling = true;
    k->u.ev->packet(k->u.user, &packet);
    if (!k->closed && k->u.ev->batch_end)
      k->u.ev->batch_end(k->u.user);
    k->calling = false;
    if (k->closed)
      reap(k);
  }
  drop(f);
}

/* --- leaving --- */

static bool is_lost(struct memnet *m, bool from_server, size_t n) {
  bool lost = m->conf.loss && draw(m) % 1000 < m->conf.loss;
  return lost || (m->hole & (from_server ? UDP_MEMNET_FROM : UDP_MEMNET_TO)) ||
         (m->conf.mtu && n > m->conf.mtu);
}

/* ms until a packet has passed the bottleneck; false: its queue is full. */
static bool queue(struct memnet *m, bool from_server, size_t n, uint64_t *ms) {
  uint64_t now = loop_now(m->loop) * 1000, *at = &m->free_at[from_server];
  *ms = 0;
  if (!m->conf.rate)
    return true;
  if (*at < now)
    *at = now;
  if (*at - now > m->conf.queue_ms * 1000ull)
    return false;
  *at += n * 1000 / m->conf.rate;
  *ms = (*at - now) / 1000;
  return true;
}

static void launch(struct memsock *k, const struct sockaddr_storage *to, uint8_t ecn, const uint8_t *p,
                   size_t n) {
  struct memnet *m = k->net;
  uint64_t waits = 0;
  bool arrives = !is_lost(m, k->server, n) && queue(m, k->server, n, &waits);
  struct flying *f = arrives ? calloc(1, sizeof *f + n) : NULL;
  if (!f)
    return;
  f->net = m;
  f->from = k->u.addr;
  f->to = *to;
  f->ecn = ecn != UDP_NOT_ECT && m->conf.mark_ms && waits > m->conf.mark_ms ? UDP_CE : ecn;
  f->n = n;
  memcpy(f->p, p, n);
  if (m->conf.mangle)
    m->conf.mangle(m->conf.user, f->p, &f->n);
  timer_init(&f->arrival, m->loop, on_arrival, f);
  uint64_t ms = waits + (m->conf.delay_ms ? m->conf.delay_ms : 1);
  if (m->conf.jitter_ms)
    ms += draw(m) % (m->conf.jitter_ms + 1);
  if (timer_start(&f->arrival, ms)) {
    free(f);
    return;
  }
  f->prev = &m->flying;
  f->next = m->flying;
  if (f->next)
    f->next->prev = &f->next;
  m->flying = f;
}

static long send_packets(struct udp *u, const struct sockaddr_storage *to,
                         const struct sockaddr_storage *from, uint8_t ecn, const uint8_t *p, size_t n,
                         size_t segment) {
  struct memnet *m = ((struct memsock *)u)->net;
  (void)from;
  if (m->conf.first_hop && (segment < n ? segment : n) > m->conf.first_hop)
    return BEAM_ERR_TOO_LARGE;
  size_t at = 0;
  do {
    launch((struct memsock *)u, to, ecn, p + at, n - at < segment ? n - at : segment);
    at += segment;
  } while (at < n);
  return (long)n;
}

/* --- life --- */

static void close_socket(struct udp *u) {
  struct memsock *k = (struct memsock *)u;
  k->closed = true;
  if (!k->calling)
    reap(k);
}

static const struct udp_ops ops = {send_packets, close_socket};

static int open_socket(struct udp_net *n, struct loop *l, const struct udp_conf *conf,
                       const struct udp_events *ev, void *user, struct udp **out) {
  struct memnet *m = (struct memnet *)n;
  struct sockaddr_storage a = {0};
  struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
  v4->sin_family = AF_INET;
  v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  v4->sin_port = htons(conf->port ? conf->port : m->next_port++);
  if (l != m->loop)
    return BEAM_ERR_INVALID;
  if (find(m, &a))
    return BEAM_ERR_IN_USE;
  struct memsock *k = calloc(1, sizeof *k);
  if (!k)
    return BEAM_ERR_NOMEM;
  k->u = (struct udp){&ops, l, ev, user, a};
  k->net = m;
  k->server = conf->port != 0;
  k->next = m->socks;
  m->socks = k;
  *out = &k->u;
  return 0;
}

int udp_memnet_new(struct loop *l, const struct udp_memnet_conf *conf, struct udp_net **out) {
  struct memnet *m = calloc(1, sizeof *m);
  if (!m)
    return BEAM_ERR_NOMEM;
  m->n.open = open_socket;
  m->loop = l;
  m->next_port = 40000;
  udp_memnet_set(&m->n, conf);
  m->random = conf->seed;
  *out = &m->n;
  return 0;
}

void udp_memnet_set(struct udp_net *n, const struct udp_memnet_conf *conf) {
  ((struct memnet *)n)->conf = *conf;
}

void udp_memnet_blackhole(struct udp_net *n, int directions) {
  ((struct memnet *)n)->hole = directions;
}

void udp_memnet_rename(struct udp_net *n, uint16_t port, uint16_t to) {
  for (struct memsock *k = ((struct memnet *)n)->socks; k; k = k->next)
    if (addr_port(&k->u.addr) == port)
      ((struct sockaddr_in *)&k->u.addr)->sin_port = htons(to);
}

void udp_memnet_free(struct udp_net *n) {
  struct memnet *m = (struct memnet *)n;
  if (!m)
    return;
  while (m->flying)
    drop(m->flying);
  free(m);
}
