#include "agent/local_flows.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "http/pages.h"
#include "io/resolve.h"
#include "io/udp_batch.h"
#include "link/flow.h"
#include "wire/datagram.h"

enum {
  ADDRS = 8,        /* of the service's name, that are tried */
  KNOWN_MS = 60000, /* a name is looked up again for a flow that begins later */
};

struct visit {
  struct flow f;
  struct local_flows *fs;
  struct visit *prev, *next;
  struct udp *u;  /* NULL: the service's address is not known yet */
  unsigned at;    /* of fs->addrs */
  unsigned tried; /* addresses that nobody answered on */
  bool answered;  /* on this socket */
  bool ever;
  struct evbuffer *
      unsure; /* framed: what was sent before any answer, should another address be the right one; NULL: nothing */
  struct loop_timer timer;
  uint64_t started, heard; /* ms */
  uint64_t in, out;        /* bytes */
};

struct local_flows {
  const struct local_conf *conf;
  struct visit *visits;
  unsigned n;
  struct udp_batch batch;
  struct resolve *resolve;
  struct sockaddr_storage addrs[ADDRS];
  unsigned addrs_n, good; /* good: where somebody answered last */
  uint64_t known_at;      /* ms; 0: never */
  bool fixed;             /* a literal, or localhost */
  uint64_t refused;       /* times that nobody was there */
};

/* --- ends --- */

static void close_socket(struct visit *v) {
  udp_batch_flush(&v->fs->batch); /* it may hold datagrams for this socket */
  udp_close(v->u);
  v->u = NULL;
}

static void free_unsure(struct visit *v) {
  if (v->unsure)
    evbuffer_free(v->unsure);
  v->unsure = NULL;
}

static void visit_free(struct visit *v) {
  struct local_flows *fs = v->fs;
  flow_close(&v->f, 0);
  close_socket(v);
  free_unsure(v);
  timer_stop(&v->timer);
  DL_DELETE(fs->visits, v);
  fs->n--;
  free(v);
}

/* For the request lines: a flow counts as one. */
static void end(struct visit *v, int reason) {
  const struct local_conf *c = v->fs->conf;
  struct http_record r = {.method = SPAN("UDP"),
                          .started_ms = v->started,
                          .total_ms = loop_now(c->loop) - v->started,
                          .body_in = v->in,
                          .body_out = v->out,
                          .failed = v->ever    ? PAGE_NONE
                                    : v->tried ? PAGE_LOCAL_REFUSED
                                    : reason   ? PAGE_TRUNCATED
                                               : PAGE_NONE};
  visit_free(v);
  if (c->finished)
    c->finished(c->user, &r);
}

static void on_timer(void *arg) {
  struct visit *v = arg;
  uint64_t silent = loop_now(v->fs->conf->loop) - v->heard;
  if (silent >= LIMIT_UDP_AGENT_IDLE_MS || timer_start(&v->timer, LIMIT_UDP_AGENT_IDLE_MS - silent))
    end(v, 0);
}

/* --- the local service --- */

static int open_socket(struct visit *v);

static void send_all_unsure(struct visit *v) {
  struct evbuffer *b = v->unsure;
  size_t at = 0, n, all = b ? evbuffer_get_length(b) : 0;
  const uint8_t *p = all ? evbuffer_pullup(b, -1) : NULL;
  for (; p && datagram_decode(p + at, all - at, &n) > 0; at += DATAGRAM_HEADER + n)
    udp_batch_add(&v->fs->batch, v->u, NULL, NULL, p + at + DATAGRAM_HEADER, n);
}

static void on_packet(void *user, const struct udp_packet *p) {
  struct visit *v = user;
  if (!v->answered) {
    v->answered = v->ever = true;
    v->fs->good = v->at;
    free_unsure(v);
  }
  v->heard = loop_now(v->fs->conf->loop);
  v->out += p->n;
  if (flow_send(&v->f, p->p, p->n))
    log_limited(BEAM_LOG_DEBUG, "agent", "no room in the link for a datagram of %zu bytes", p->n);
}

static void on_writable(void *user) {
  (void)user; /* what did not fit is lost */
}

/* Nobody is there. localhost is two addresses, and the first one says so at once: on to the next with what was said so far. */
static void on_failed(void *user, int err) {
  struct visit *v = user;
  struct local_flows *fs = v->fs;
  if (err != BEAM_ERR_REFUSED)
    return;
  fs->refused++;
  v->tried++;
  if (v->answered || v->tried % fs->addrs_n == 0) {
    log_limited(BEAM_LOG_WARN, "agent", "local service %s:%u (UDP): %s", fs->conf->host, fs->conf->port,
                beam_strerror(err));
    if (v->answered)
      return;
    free_unsure(v); /* all were tried: what comes next is tried again, beginning with the other one */
  }
  if (fs->addrs_n < 2)
    return;
  close_socket(v);
  v->at = (v->at + 1) % fs->addrs_n;
  if (!open_socket(v))
    send_all_unsure(v);
}

static const struct udp_events udp_events = {on_packet, NULL, on_writable, on_failed};

static int open_socket(struct visit *v) {
  struct local_flows *fs = v->fs;
  struct udp_conf c = {.fragment = true, .buffer = LIMIT_UDP_FLOW_BUFFER, .peer = &fs->addrs[v->at]};
  v->answered = false;
  int err = udp_open(fs->conf->loop, &c, &udp_events, v, &v->u);
  if (err)
    log_limited(BEAM_LOG_WARN, "agent", "no socket towards %s:%u (UDP): %s", fs->conf->host, fs->conf->port,
                beam_strerror(err));
  return err;
}

/* An address whose family this machine does not have fails at once. */
static void begin(struct visit *v) {
  struct local_flows *fs = v->fs;
  v->at = fs->good < fs->addrs_n ? fs->good : 0;
  for (unsigned i = 0; i < fs->addrs_n && open_socket(v); i++)
    v->at = (v->at + 1) % fs->addrs_n;
  if (v->u)
    send_all_unsure(v);
}

/* --- its name --- */

static void on_resolved(void *user, const struct sockaddr_storage *addrs, size_t n, int err) {
  struct local_flows *fs = user;
  struct visit *v;
  fs->resolve = NULL;
  if (err)
    log_limited(BEAM_LOG_WARN, "agent", "cannot find %s: %s", fs->conf->host, beam_strerror(err));
  else
    fs->known_at = loop_now(fs->conf->loop);
  if (!err) {
    fs->addrs_n = (unsigned)(n < ADDRS ? n : ADDRS);
    for (unsigned i = 0; i < fs->addrs_n; i++)
      fs->addrs[i] = addrs[i];
    fs->good = 0;
  }
  DL_FOREACH(fs->visits, v) {
    if (!v->u && fs->addrs_n)
      begin(v);
  }
}

static void look_up(struct local_flows *fs) {
  struct sockaddr_storage now[RESOLVE_NOW];
  size_t n;
  if (fs->fixed || fs->resolve || (fs->known_at && loop_now(fs->conf->loop) - fs->known_at < KNOWN_MS))
    return;
  if ((n = resolve_now(fs->conf->host, fs->conf->port, now))) {
    fs->fixed = true;
    on_resolved(fs, now, n, 0);
  } else if (resolve_start(fs->conf->loop, fs->conf->host, fs->conf->port, on_resolved, fs, &fs->resolve)) {
    fs->resolve = NULL; /* the next datagram asks again */
  }
}

/* --- from the link --- */

static void on_datagram(void *user, const uint8_t *p, size_t n) {
  struct visit *v = user;
  struct local_flows *fs = v->fs;
  uint8_t head[DATAGRAM_HEADER];
  v->heard = loop_now(fs->conf->loop);
  v->in += n;
  if (!v->answered) {
    if (!v->unsure)
      v->unsure = evbuffer_new();
    datagram_encode(head, n);
    if (v->unsure && evbuffer_get_length(v->unsure) + sizeof head + n <= LIMIT_UDP_WAIT &&
        !evbuffer_expand(v->unsure, sizeof head + n)) {
      evbuffer_add(v->unsure, head, sizeof head);
      evbuffer_add(v->unsure, p, n);
    }
  }
  if (v->u) {
    udp_batch_add(&fs->batch, v->u, NULL, NULL, p, n);
    return;
  }
  look_up(fs);
  if (!v->u && fs->addrs_n) /* no socket could be had a moment ago */
    begin(v);
}

static void on_closed(void *user, int reason) {
  end(user, reason);
}

static const struct flow_events events = {on_datagram, on_closed};

void local_flows_serve(struct local_flows *fs, struct stream *s, const beam_StreamOpen *open) {
  struct visit *v = fs->n < LIMIT_LINK_STREAMS ? calloc(1, sizeof *v) : NULL;
  if (!v) {
    stream_close(s, BEAM_ERR_LIMIT);
    return;
  }
  v->fs = fs;
  v->started = v->heard = loop_now(fs->conf->loop);
  timer_init(&v->timer, fs->conf->loop, on_timer, v);
  flow_own(&v->f, s, &events, v);
  v->f.beside = open->datagrams; /* the relay opened the flow, so it knows it */
  DL_APPEND(fs->visits, v);
  fs->n++;
  if (timer_start(&v->timer, LIMIT_UDP_AGENT_IDLE_MS)) {
    end(v, BEAM_ERR_NOMEM);
    return;
  }
  look_up(fs);
  if (!v->u && fs->addrs_n)
    begin(v);
}

/* --- life --- */

int local_flows_new(const struct local_conf *conf, struct local_flows **out) {
  struct local_flows *fs = calloc(1, sizeof *fs);
  if (!fs)
    return BEAM_ERR_NOMEM;
  fs->conf = conf;
  udp_batch_init(&fs->batch, conf->loop);
  *out = fs;
  return 0;
}

void local_flows_free(struct local_flows *fs) {
  if (!fs)
    return;
  while (fs->visits)
    visit_free(fs->visits);
  if (fs->resolve)
    resolve_cancel(fs->resolve);
  udp_batch_fini(&fs->batch);
  free(fs);
}
