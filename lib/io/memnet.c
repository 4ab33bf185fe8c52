/* memnet.c: a network in memory, for test/sim: every byte, end, reset and piece of credit travels `delay` (+ jitter) ms, in order, and the same
 * seed gives the same run.
 *
 *   dial ──delay──► listener's accept_cb ──delay──► dial_cb        nobody listens, or the host is cut: REFUSED after the same time
 *
 * A connection has two lanes, one for each direction; a lane is a queue of packets with their times of arrival. In a black hole lanes stand still
 * and go on when it is gone, as TCP's retransmissions would; a cut resets what is there.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "io/block.h"
#include "io/net.h"

struct memhost { /* somebody mentioned it: its faults */
  struct memhost *next;
  char *name;
  bool cut;
  int hole; /* MEMNET_TO | MEMNET_FROM */
};

struct packet {
  struct packet *next;
  uint64_t at;
  struct evbuffer *data; /* NULL: none */
  size_t credit;
  bool fin, reset;
};

struct memconn;

struct memend {
  struct stream s;
  struct memconn *conn;
  struct packet *first, *last; /* the lane from here to the other end */
  struct loop_timer arrival;   /* of `first` */
  uint64_t last_at;
  size_t unacked; /* sent, and not taken by the other end's owner */
  bool open;      /* has an owner, or will have one */
};

struct memconn {
  struct memnet *net; /* NULL: it is gone */
  struct memconn *prev, *next;
  struct memhost *host;
  struct memend end[2]; /* the dialing one, the accepting one */
};

struct memlisten {
  struct memlisten *next;
  struct memnet *net;
  struct memhost *host;
  uint16_t port;
  accept_cb cb;
  void *user;
};

struct memdial {
  struct memdial *next;
  struct memnet *net;
  struct memhost *host;
  uint16_t port;
  dial_cb cb;
  void *user;
  struct loop_timer step, timeout;
  struct memconn *conn; /* accepted; our end waits for the answer to travel back */
  int err;
  enum { MEMDIAL_ASKING, MEMDIAL_ANSWERED } state;
};

struct net_watch {
  struct net_watch *next;
  struct memnet *net;
  struct loop_task tell;
  int what;
  net_changed_cb cb;
  void *user;
};

struct memnet {
  struct net net;
  struct loop *loop;
  struct memnet_conf conf;
  uint64_t random;
  uint16_t next_port;
  struct memhost *hosts;
  struct memlisten *listeners;
  struct memdial *dials;
  struct memconn *conns;
  struct net_watch *watches;
};

/* --- time --- */

static uint64_t random_next(struct memnet *n) { /* splitmix64 */
  uint64_t z = n->random += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static uint64_t travel(struct memnet *n) {
  return n->conf.delay_ms + (n->conf.jitter_ms ? random_next(n) % (n->conf.jitter_ms + 1) : 0);
}

/* --- lanes --- */

static struct memend *other(struct memend *e) {
  return &e->conn->end[e == &e->conn->end[0]];
}

static bool swallowed(struct memend *e) {
  struct memconn *c = e->conn;
  return c->host->hole & (e == &c->end[0] ? MEMNET_TO : MEMNET_FROM);
}

static void drop_lane(struct memend *e) {
  timer_stop(&e->arrival);
  for (struct packet *p = e->first, *next; p; p = next) {
    next = p->next;
    if (p->data)
      evbuffer_free(p->data);
    free(p);
  }
  e->first = e->last = NULL;
}

static void conn_free(struct memconn *c) {
  if (c->next)
    c->next->prev = c->prev;
  if (c->prev)
    c->prev->next = c->next;
  else if (c->net && c->net->conns == c)
    c->net->conns = c->next;
  drop_lane(&c->end[0]);
  drop_lane(&c->end[1]);
  free(c);
}

/* Both ends learn of it at once, and what was under way is lost. */
static void conn_break(struct memconn *c, int reason) {
  for (int i = 0; i < 2; i++) {
    drop_lane(&c->end[i]);
    if (c->end[i].open)
      stream_tell_closed(&c->end[i].s, reason);
  }
}

static void schedule(struct memend *e) {
  uint64_t now = loop_now(e->s.loop);
  if (!e->first || swallowed(e) || timer_set(&e->arrival))
    return;
  if (timer_start(&e->arrival, e->first->at > now ? e->first->at - now : 0))
    conn_break(e->conn, BEAM_ERR_NOMEM);
}

/* A packet that leaves now, or the one that left at the same time. NULL: out of memory, and the connection is broken. */
static struct packet *packet_now(struct memend *e) {
  uint64_t at = loop_now(e->s.loop) + travel(e->conn->net);
  if (at < e->last_at)
    at = e->last_at; /* jitter does not change the order */
  if (e->last && e->last->at == at && !e->last->fin && !e->last->reset)
    return e->last;
  struct packet *p = calloc(1, sizeof *p);
  if (!p) {
    conn_break(e->conn, BEAM_ERR_NOMEM);
    return NULL;
  }
  p->at = e->last_at = at;
  if (e->last)
    e->last->next = p;
  else
    e->first = p;
  e->last = p;
  return p;
}

/* A packet of e's lane has arrived at the other end. */
static void arrive(struct memend *e, struct packet *p) {
  struct memend *to = other(e);
  size_t n = p->data ? evbuffer_get_length(p->data) : 0;
  bool news = n || p->fin;
  if (!to->open) {
    to->s.ops->consumed(&to->s, n); /* its owner closed in order: bytes go nowhere */
    return;
  }
  if (to->s.dead)
    return;
  if (n && evbuffer_add_buffer(to->s.in, p->data)) {
    conn_break(e->conn, BEAM_ERR_NOMEM);
    return;
  }
  to->unacked -= p->credit;
  if (p->fin)
    to->s.in_ended = 1;
  if (news)
    stream_tell_readable(&to->s);
  if (p->credit)
    stream_tell_writable(&to->s);
  if (p->reset)
    stream_tell_closed(&to->s, BEAM_ERR_RESET);
}

static void on_arrival(void *arg) {
  struct memend *e = arg;
  uint64_t now = loop_now(e->s.loop);
  while (e->first && e->first->at <= now && !swallowed(e)) {
    struct packet *p = e->first;
    e->first = p->next;
    if (!e->first)
      e->last = NULL;
    arrive(e, p);
    if (p->data)
      evbuffer_free(p->data);
    free(p);
  }
  schedule(e);
}

/* --- the stream --- */

static void consumed(struct stream *s, size_t n) {
  struct memend *e = (struct memend *)s;
  if (!n || !e->conn->net || !other(e)->open)
    return;
  struct packet *p = packet_now(e);
  if (p) {
    p->credit += n;
    schedule(e);
  }
}

static size_t room(struct stream *s) {
  struct memend *e = (struct memend *)s;
  return e->unacked < LIMIT_MEM_PIPE ? LIMIT_MEM_PIPE - e->unacked : 0;
}

static size_t move(struct stream *s, struct evbuffer *from, size_t n) {
  struct memend *e = (struct memend *)s;
  size_t r = room(s);
  struct packet *p = r ? packet_now(e) : NULL;
  if (!p)
    return 0;
  if (!p->data && !(p->data = evbuffer_new())) {
    conn_break(e->conn, BEAM_ERR_NOMEM);
    return 0;
  }
  n = buffer_move(p->data, from, n < r ? n : r);
  e->unacked += n;
  schedule(e);
  return n;
}

static void finish(struct stream *s) {
  struct memend *e = (struct memend *)s;
  struct packet *p = packet_now(e);
  if (p) {
    p->fin = true;
    schedule(e);
  }
}

static void close_end(struct stream *s, int reason) {
  struct memend *e = (struct memend *)s;
  struct memconn *c = e->conn;
  e->open = false;
  if (reason && c->net && !s->dead && other(e)->open) {
    struct packet *p = packet_now(e);
    if (p) {
      p->reset = true;
      schedule(e);
    }
  }
  size_t unread = evbuffer_get_length(s->in);
  if (!other(e)->open) {
    stream_fini(s);
    conn_free(c);
    return;
  }
  if (!reason)
    consumed(s, unread);
  stream_fini(s);
}

static const struct stream_ops ops = {"memnet", consumed, room, move, finish, close_end};

static struct memconn *conn_new(struct memnet *n, struct memhost *host) {
  struct memconn *c = calloc(1, sizeof *c);
  if (!c)
    return NULL;
  c->net = n;
  c->host = host;
  for (int i = 0; i < 2; i++) {
    struct memend *e = &c->end[i];
    e->conn = c;
    timer_init(&e->arrival, n->loop, on_arrival, e);
    e->open = true;
  }
  if (stream_init(&c->end[0].s, &ops, n->loop) || stream_init(&c->end[1].s, &ops, n->loop)) {
    stream_fini(&c->end[0].s);
    stream_fini(&c->end[1].s);
    free(c);
    return NULL;
  }
  if ((c->next = n->conns))
    c->next->prev = c;
  n->conns = c;
  return c;
}

/* --- hosts --- */

static struct memhost *host_of(struct memnet *n, const char *name) {
  for (struct memhost *h = n->hosts; h; h = h->next)
    if (!strcmp(h->name, name))
      return h;
  struct memhost *h = calloc(1, sizeof *h);
  if (!h || !(h->name = str_dup(name))) {
    free(h);
    return NULL;
  }
  h->next = n->hosts;
  return n->hosts = h;
}

void memnet_cut(struct net *net, const char *host, bool on) {
  struct memnet *n = (struct memnet *)net;
  struct memhost *h = host_of(n, host);
  if (!h)
    return;
  h->cut = on;
  for (struct memconn *c = n->conns; on && c; c = c->next)
    if (c->host == h)
      conn_break(c, BEAM_ERR_RESET);
}

void memnet_blackhole(struct net *net, const char *host, int directions) {
  struct memnet *n = (struct memnet *)net;
  struct memhost *h = host_of(n, host);
  if (!h)
    return;
  h->hole = directions;
  for (struct memconn *c = n->conns; c; c = c->next)
    for (int i = 0; i < 2; i++)
      if (c->host == h)
        schedule(&c->end[i]);
  for (struct memdial *d = n->dials; d; d = d->next)
    if (d->host == h && !timer_set(&d->step) && timer_start(&d->step, travel(n)))
      d->err = BEAM_ERR_NOMEM; /* its timeout tells */
}

/* --- dialing --- */

static void dial_free(struct memdial *d) {
  for (struct memdial **p = &d->net->dials; *p; p = &(*p)->next)
    if (*p == d) {
      *p = d->next;
      break;
    }
  timer_stop(&d->step);
  timer_stop(&d->timeout);
  free(d);
}

static void dial_tell(struct memdial *d, struct stream *s, int err) {
  dial_cb cb = d->cb;
  void *user = d->user;
  if (!s && d->conn)
    stream_close(&d->conn->end[0].s, BEAM_ERR_TIMEOUT);
  dial_free(d);
  cb(user, s, err);
}

static void dial_timeout(void *arg) {
  struct memdial *d = arg;
  dial_tell(d, NULL, d->err ? d->err : BEAM_ERR_TIMEOUT);
}

static void reach_listener(struct memdial *d) {
  struct memnet *n = d->net;
  struct memlisten *ls = n->listeners;
  while (ls && (ls->host != d->host || ls->port != d->port))
    ls = ls->next;
  if (!ls || d->host->cut) {
    d->err = BEAM_ERR_REFUSED;
    return;
  }
  if (!(d->conn = conn_new(n, d->host))) {
    d->err = BEAM_ERR_NOMEM;
    return;
  }
  struct sockaddr_storage peer = {0};
  struct sockaddr_in *in4 = (struct sockaddr_in *)&peer;
  in4->sin_family = AF_INET;
  in4->sin_addr.s_addr = htonl(0x0a000001);
  in4->sin_port = htons(n->next_port++);
  ls->cb(ls->user, &d->conn->end[1].s, &peer);
}

/* The question has arrived, or the answer. In a black hole this stops here until it is gone. */
static void dial_step(void *arg) {
  struct memdial *d = arg;
  if (d->state == MEMDIAL_ASKING && !(d->host->hole & MEMNET_TO)) {
    d->state = MEMDIAL_ANSWERED;
    if (timer_start(&d->step, travel(d->net)))
      d->err = BEAM_ERR_NOMEM;
    reach_listener(d); /* last: the callback may cancel this dial */
    return;
  }
  if (d->state != MEMDIAL_ANSWERED || d->host->hole & MEMNET_FROM)
    return;
  if (d->conn && stream_dead(&d->conn->end[0].s))
    d->err = BEAM_ERR_RESET;
  dial_tell(d, d->conn && !d->err ? &d->conn->end[0].s : NULL, d->err);
}

static int memnet_dial(struct net *net, struct loop *l, const char *host, uint16_t port, uint64_t timeout_ms,
                       dial_cb cb, void *user, struct dial **out) {
  struct memnet *n = (struct memnet *)net;
  struct memdial *d = calloc(1, sizeof *d);
  if (!d)
    return BEAM_ERR_NOMEM;
  *d = (struct memdial){
      .net = n, .host = host_of(n, host), .port = port, .cb = cb, .user = user, .next = n->dials};
  n->dials = d;
  timer_init(&d->step, l, dial_step, d);
  timer_init(&d->timeout, l, dial_timeout, d);
  if (!d->host || timer_start(&d->timeout, timeout_ms) || timer_start(&d->step, travel(n))) {
    dial_free(d);
    return BEAM_ERR_NOMEM;
  }
  *out = (struct dial *)d;
  return 0;
}

static void memnet_dial_cancel(struct dial *dial) {
  struct memdial *d = (struct memdial *)dial;
  if (!d)
    return;
  if (d->conn)
    stream_close(&d->conn->end[0].s, BEAM_ERR_CLOSED);
  dial_free(d);
}

/* --- listening --- */

static int memnet_listen(struct net *net, struct loop *l, const char *host, uint16_t port,
                         const void *siblings, accept_cb cb, void *user, struct listener **out) {
  struct memnet *n = (struct memnet *)net;
  struct memhost *h = host_of(n, host);
  (void)l;
  (void)siblings;
  for (struct memlisten *ls = n->listeners; port && ls; ls = ls->next)
    if (ls->host == h && ls->port == port)
      return BEAM_ERR_IN_USE;
  struct memlisten *ls = h ? calloc(1, sizeof *ls) : NULL;
  if (!ls)
    return BEAM_ERR_NOMEM;
  *ls = (struct memlisten){n->listeners, n, h, port ? port : n->next_port++, cb, user};
  n->listeners = ls;
  *out = (struct listener *)ls;
  return 0;
}

static uint16_t memnet_port(struct listener *ls) {
  return ((struct memlisten *)ls)->port;
}

static void memnet_unlisten(struct listener *listener) {
  struct memlisten *ls = (struct memlisten *)listener;
  if (!ls)
    return;
  for (struct memlisten **p = &ls->net->listeners; *p; p = &(*p)->next)
    if (*p == ls) {
      *p = ls->next;
      break;
    }
  free(ls);
}

/* --- watching --- */

static void tell_watch(void *arg) {
  struct net_watch *w = arg;
  int what = w->what;
  w->what = 0;
  w->cb(w->user, what);
}

static int memnet_watch(struct net *net, struct loop *l, net_changed_cb cb, void *user,
                        struct net_watch **out) {
  struct memnet *n = (struct memnet *)net;
  struct net_watch *w = calloc(1, sizeof *w);
  (void)l;
  if (!w)
    return BEAM_ERR_NOMEM;
  *w = (struct net_watch){.next = n->watches, .net = n, .cb = cb, .user = user};
  task_init(&w->tell, tell_watch, w);
  n->watches = w;
  *out = w;
  return 0;
}

static void memnet_unwatch(struct net_watch *w) {
  struct net_watch **p = &w->net->watches;
  while (*p != w)
    p = &(*p)->next;
  *p = w->next;
  task_cancel(&w->tell);
  free(w);
}

void memnet_change(struct net *net, int what) {
  struct memnet *n = (struct memnet *)net;
  for (struct net_watch *w = n->watches; w; w = w->next) {
    w->what |= what;
    loop_soon(n->loop, &w->tell);
  }
}

/* --- the net --- */

static const struct net_ops memnet_ops = {memnet_dial,     memnet_dial_cancel, memnet_listen, memnet_port,
                                          memnet_unlisten, memnet_watch,       memnet_unwatch};

int memnet_new(struct loop *l, const struct memnet_conf *conf, struct net **out) {
  struct memnet *n = calloc(1, sizeof *n);
  if (!n)
    return BEAM_ERR_NOMEM;
  n->net.ops = &memnet_ops;
  n->loop = l;
  n->conf = *conf;
  n->random = conf->seed;
  n->next_port = 40000;
  *out = &n->net;
  return 0;
}

void memnet_free(struct net *net) {
  struct memnet *n = (struct memnet *)net;
  if (!n)
    return;
  while (n->dials)
    memnet_dial_cancel((struct dial *)n->dials);
  while (n->listeners)
    memnet_unlisten((struct listener *)n->listeners);
  while (n->watches)
    memnet_unwatch(n->watches);
  for (struct memconn *c = n->conns, *next; c; c = next) { /* freed when their owners close them */
    next = c->next;
    conn_break(c, BEAM_ERR_CLOSED);
    c->prev = c->next = NULL;
    c->net = NULL;
  }
  for (struct memhost *h = n->hosts, *next; h; h = next) {
    next = h->next;
    free(h->name);
    free(h);
  }
  free(n);
}
