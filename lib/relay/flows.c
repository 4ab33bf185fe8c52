#define HASH_NONFATAL_OOM 1 /* an add that failed leaves hh.tbl NULL */

#include "relay/flows.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "base/limits.h"
#include "io/udp_batch.h"
#include "link/flow.h"
#include "wire/datagram.h"

const char *const flow_drop_names[FLOW_DROPS] = {"full", "rate", "away", "link", "socket"};

/* Who, and which address of ours was asked. No padding: it is compared as bytes. */
struct key {
  struct udp *u;
  uint8_t peer[16], local[16];
  uint32_t scope;
  uint16_t port, family;
};
_Static_assert(sizeof(struct key) == sizeof(struct udp *) + 40, "no padding");

struct visit {
  struct flow f;
  struct flows *fs;
  struct visit *prev, *next; /* in fs->fresh or fs->talks, the one silent longest first */
  struct key key;
  UT_hash_handle hh;
  struct sockaddr_storage peer, local;
  struct loop_timer timer;
  uint64_t heard;           /* ms: when it last said something, or was answered in a conversation */
  uint64_t opened;          /* ms: its stream */
  struct evbuffer *waiting; /* framed as on the stream; NULL: nothing */
  uint64_t in, out;         /* bytes */
  bool answered, talks;     /* for good */
  bool beside, known;       /* of this stream: the agent takes datagrams beside it; has spoken on it */
};

struct flows {
  struct flows_conf conf;
  struct visit *by_key, *fresh, *talks;
  unsigned n;
  uint64_t credit, credit_at; /* new flows that may be made, in thousandths */
  struct udp_batch batch;
  uint64_t lost; /* of the batch, counted so far */
};

static void add(_Atomic uint64_t *count, uint64_t n) {
  atomic_fetch_add_explicit(count, n, memory_order_relaxed);
}

static void dropped(struct flows *fs, enum flow_drop why) {
  add(&fs->conf.counts->dropped[why], 1);
}

/* --- keys --- */

static void bytes_of(const struct sockaddr_storage *a, uint8_t out[16]) {
  if (a->ss_family == AF_INET)
    memcpy(out, &((const struct sockaddr_in *)a)->sin_addr, 4);
  else
    memcpy(out, &((const struct sockaddr_in6 *)a)->sin6_addr, 16);
}

static struct key key_of(struct udp *u, const struct udp_packet *p) {
  struct key k;
  memset(&k, 0, sizeof k);
  k.u = u;
  k.family = p->from->ss_family;
  k.port = addr_port(p->from);
  if (k.family == AF_INET6)
    k.scope = ((const struct sockaddr_in6 *)p->from)->sin6_scope_id;
  bytes_of(p->from, k.peer);
  bytes_of(p->to, k.local);
  return k;
}

/* One subscriber's: IPv4 whole, IPv6 by the /64. */
static bool same_site(const struct key *a, const struct key *b) {
  return a->family == b->family && !memcmp(a->peer, b->peer, 8);
}

/* --- ends --- */

static struct visit **list_of(struct visit *v) {
  return v->talks ? &v->fs->talks : &v->fs->fresh;
}

static void end(struct visit *v, int reason) {
  struct flows *fs = v->fs;
  flow_close(&v->f, reason);
  timer_stop(&v->timer);
  HASH_DEL(fs->by_key, v);
  DL_DELETE(*list_of(v), v);
  fs->n--;
  atomic_fetch_sub(&fs->conf.counts->now, 1);
  if (fs->conf.leave)
    fs->conf.leave(fs->conf.user, &v->peer);
  if (fs->conf.ended)
    fs->conf.ended(fs->conf.user, v->in, v->out, reason);
  if (v->waiting)
    evbuffer_free(v->waiting);
  free(v);
}

/* Nothing is written at each datagram: the timer finds out how long it was really silent. */
static void on_timer(void *arg) {
  struct visit *v = arg;
  uint64_t limit = v->talks ? v->fs->conf.idle_ms : v->fs->conf.new_ms;
  uint64_t silent = loop_now(v->fs->conf.loop) - v->heard;
  if (silent >= limit || timer_start(&v->timer, limit - silent))
    end(v, 0);
}

static void touch(struct visit *v) {
  struct visit **list = list_of(v);
  v->heard = loop_now(v->fs->conf.loop);
  if (!v->next)
    return; /* it is the last one already */
  DL_DELETE(*list, v);
  DL_APPEND(*list, v);
}

/* --- towards the agent --- */

static void send_one(struct visit *v, const uint8_t *p, size_t n) {
  uint64_t age = loop_now(v->fs->conf.loop) - v->opened;
  v->f.beside = v->beside && (v->known || age >= LIMIT_UDP_FIRST_MS);
  if (flow_send(&v->f, p, n))
    dropped(v->fs, FLOW_DROP_LINK);
}

static void keep(struct visit *v, const uint8_t *p, size_t n) {
  uint8_t head[DATAGRAM_HEADER];
  if (!v->waiting)
    v->waiting = evbuffer_new();
  struct evbuffer *b = v->waiting;
  datagram_encode(head, n);
  if (!b || evbuffer_get_length(b) + sizeof head + n > LIMIT_UDP_WAIT ||
      evbuffer_expand(b, sizeof head + n) || evbuffer_add(b, head, sizeof head) || evbuffer_add(b, p, n))
    dropped(v->fs, FLOW_DROP_AWAY);
}

static void send_kept(struct visit *v) {
  struct evbuffer *b = v->waiting;
  uint8_t head[DATAGRAM_HEADER];
  size_t n;
  while (b && evbuffer_remove(b, head, sizeof head) == sizeof head &&
         datagram_decode(head, sizeof head, &n) > 0) {
    const uint8_t *p = n ? evbuffer_pullup(b, (ev_ssize_t)n) : head;
    if (p)
      send_one(v, p, n);
    evbuffer_drain(b, n);
  }
  if (b)
    evbuffer_free(b);
  v->waiting = NULL;
}

static void on_answer(void *user, const uint8_t *p, size_t n) {
  struct visit *v = user;
  v->known = v->answered = true;
  if (v->talks)
    touch(v); /* RFC 4787 REQ-6: only a visitor who is known to hear is kept by what he is told */
  v->out += n;
  add(&v->fs->conf.counts->out, 1);
  udp_batch_add(&v->fs->batch, v->key.u, &v->peer, &v->local, p, n);
  if (v->fs->batch.lost != v->fs->lost)
    add(&v->fs->conf.counts->dropped[FLOW_DROP_SOCKET], v->fs->batch.lost - v->fs->lost);
  v->fs->lost = v->fs->batch.lost;
}

/* The agent's refusal or end is the flow's; a lost link's is not. */
static void on_closed(void *user, int reason) {
  struct visit *v = user;
  if (!reason || reason == BEAM_ERR_REFUSED || reason == BEAM_ERR_LIMIT)
    end(v, reason);
}

static const struct flow_events events = {on_answer, on_closed};

/* False: it is over. */
static bool open_stream(struct visit *v) {
  struct stream *s;
  bool beside = false;
  int err = v->fs->conf.open(v->fs->conf.user, &v->peer, &v->local, &beside, &s);
  if (err == BEAM_AGAIN)
    return true;
  if (err) {
    end(v, err);
    return false;
  }
  flow_own(&v->f, s, &events, v);
  v->beside = beside;
  v->known = false;
  v->opened = loop_now(v->fs->conf.loop);
  send_kept(v);
  return true;
}

/* --- newcomers --- */

static bool has_credit(struct flows *fs) {
  uint64_t now = loop_now(fs->conf.loop), most = fs->conf.max * 1000ull;
  fs->credit += (now - fs->credit_at) * fs->conf.rate;
  fs->credit_at = now;
  if (fs->credit > most)
    fs->credit = most;
  return fs->credit >= 1000;
}

static bool may_enter(struct flows *fs, const struct sockaddr_storage *peer) {
  return atomic_load(&fs->conf.counts->now) < (int64_t)LIMIT_UDP_FLOWS_RELAY &&
         (!fs->conf.enter || fs->conf.enter(fs->conf.user, peer));
}

/* Room for one more: the oldest that only ever asked goes, one of the newcomer's own site if that is what is full. */
static bool make_room(struct flows *fs, const struct key *k, const struct sockaddr_storage *peer) {
  struct visit *v;
  if (fs->n >= fs->conf.max) {
    if (!fs->fresh)
      return false;
    end(fs->fresh, 0);
  }
  if (may_enter(fs, peer))
    return true;
  DL_FOREACH(fs->fresh, v) {
    if (same_site(&v->key, k))
      break;
  }
  if (!v)
    return false;
  end(v, 0);
  return may_enter(fs, peer);
}

static struct visit *newcomer(struct flows *fs, const struct key *k, const struct udp_packet *p) {
  if (!has_credit(fs)) {
    dropped(fs, FLOW_DROP_RATE);
    return NULL;
  }
  bool room = make_room(fs, k, p->from);
  struct visit *v = room ? calloc(1, sizeof *v) : NULL;
  if (!v) {
    if (room && fs->conf.leave)
      fs->conf.leave(fs->conf.user, p->from);
    dropped(fs, FLOW_DROP_FULL);
    return NULL;
  }
  fs->credit -= 1000;
  v->fs = fs;
  v->key = *k;
  v->peer = *p->from;
  v->local = *p->to;
  v->heard = loop_now(fs->conf.loop);
  timer_init(&v->timer, fs->conf.loop, on_timer, v);
  HASH_ADD(hh, fs->by_key, key, sizeof v->key, v);
  if (!v->hh.tbl) {
    if (fs->conf.leave)
      fs->conf.leave(fs->conf.user, &v->peer);
    free(v);
    return NULL;
  }
  DL_APPEND(fs->fresh, v);
  fs->n++;
  add(&fs->conf.counts->flows, 1);
  atomic_fetch_add(&fs->conf.counts->now, 1);
  if (!timer_start(&v->timer, fs->conf.new_ms))
    return v;
  end(v, BEAM_ERR_NOMEM);
  return NULL;
}

void flows_packet(struct flows *fs, struct udp *u, const struct udp_packet *p) {
  struct key k = key_of(u, p);
  struct visit *v;
  add(&fs->conf.counts->in, 1);
  HASH_FIND(hh, fs->by_key, &k, sizeof k, v);
  if (!v && !(v = newcomer(fs, &k, p)))
    return;
  if (v->answered && !v->talks) {
    DL_DELETE(fs->fresh, v);
    v->talks = true;
    DL_APPEND(fs->talks, v);
  }
  touch(v);
  v->in += p->n;
  if (!v->f.s && !open_stream(v)) {
    dropped(fs, FLOW_DROP_AWAY);
    return;
  }
  if (v->f.s)
    send_one(v, p->p, p->n);
  else
    keep(v, p->p, p->n);
}

void flows_wake(struct flows *fs) {
  struct visit *v, *next;
  HASH_ITER(hh, fs->by_key, v, next) {
    if (!v->f.s && v->waiting)
      open_stream(v);
  }
}

/* --- life --- */

unsigned flows_count(const struct flows *fs) {
  return fs->n;
}

int flows_new(const struct flows_conf *conf, struct flows **out) {
  struct flows *fs = calloc(1, sizeof *fs);
  if (!fs)
    return BEAM_ERR_NOMEM;
  struct flows_conf *c = &fs->conf;
  *c = *conf;
  c->idle_ms = c->idle_ms ? c->idle_ms : LIMIT_UDP_IDLE_MS;
  c->new_ms = c->new_ms ? c->new_ms : LIMIT_UDP_NEW_MS;
  c->new_ms = c->new_ms < c->idle_ms ? c->new_ms : c->idle_ms;
  c->max = c->max ? c->max : LIMIT_UDP_FLOWS;
  c->rate = c->rate ? c->rate : LIMIT_UDP_FLOW_RATE;
  fs->credit = c->max * 1000ull;
  fs->credit_at = loop_now(c->loop);
  udp_batch_init(&fs->batch, c->loop);
  *out = fs;
  return 0;
}

void flows_free(struct flows *fs) {
  if (!fs)
    return;
  while (fs->fresh)
    end(fs->fresh, BEAM_ERR_CLOSED);
  while (fs->talks)
    end(fs->talks, BEAM_ERR_CLOSED);
  udp_batch_fini(&fs->batch);
  free(fs);
}
