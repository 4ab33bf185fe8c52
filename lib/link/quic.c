/* quic.c: beam/1 over a QUIC connection (PROTOCOL.md section 2a). QUIC has streams, windows, resets and pings of its own, so this is thin: the control
 * channel is the agent's first stream, every other stream is a data stream of the relay's.
 *
 *   link_quic_new ─► handshake, control stream there ─► READY ─┬─ an empty control message, either way ─► draining
 *                                                              ├─ connection or control stream ends ─► DEAD: closed() was told
 *                                                              └─ link_close ─► last words drain in quic/ (no owner any more)
 */
#include "quic/quic.h"

#include <stdlib.h>

#include "base/limits.h"
#include "link/link.h"
#include "obs/metrics.h"

enum {
  CONTROL_MAX = LIMIT_CONTROL_BYTES + 4,
  CONTROL_OUT = 64 * 1024, /* control messages that wait, beyond what the stream holds */
  END_MS = 3000            /* after the control stream's end the connection's follows, and says why */
};

struct quic_link {
  struct link k;
  enum link_role role;
  struct quic_conn *c; /* NULL once the link is dead by our decision */
  struct stream *control;
  struct evbuffer *control_out;
  struct loop_task tell; /* what link_quic_new found out */
  struct loop_timer end;
  bool *gone; /* set when the link is closed while its owner is told something */
  bool dead;
};

static void on_control_readable(void *user);
static void on_control_writable(void *user);
static void on_control_closed(void *user, int reason);
static const struct stream_events control_events = {on_control_readable, on_control_writable,
                                                    on_control_closed};

/* --- the end --- */

static void die(struct quic_link *q, int reason) {
  if (q->dead)
    return;
  q->dead = true;
  timer_stop(&q->end);
  quic_conn_close(q->c, reason);
  q->c = NULL;
  link_tell_closed(&q->k, reason);
}

static void on_end(void *arg) {
  die(arg, BEAM_ERR_CLOSED);
}

/* --- control --- */

/* One whole message, or 0 when there is none yet. An empty one says that the peer drains. */
static long next_control(struct quic_link *q, beam_Control *m, bool *drains) {
  struct evbuffer *in = stream_input(q->control);
  size_t n = evbuffer_get_length(in);
  if (!n)
    return 0;
  if (n > CONTROL_MAX)
    n = CONTROL_MAX;
  const uint8_t *p = evbuffer_pullup(in, (ev_ssize_t)n);
  *drains = p && !p[0];
  long used = !p ? BEAM_ERR_NOMEM : *drains ? 1 : control_decode(p, n, m);
  if (used > 0)
    stream_consume(q->control, (size_t)used);
  return used;
}

/* 0, or why the link dies. */
static int tell_controls(struct quic_link *q, const bool *gone) {
  beam_Control m;
  bool drains;
  long used = 0;
  while (!*gone && !q->dead && (used = next_control(q, &m, &drains)) > 0) {
    if (drains)
      link_tell_draining(&q->k);
    else
      link_tell_control(&q->k, &m);
  }
  return used < 0 ? (int)used : 0;
}

static void on_control_readable(void *user) {
  struct quic_link *q = user;
  bool gone = false;
  q->gone = &gone;
  int err = tell_controls(q, &gone);
  if (!gone) {
    q->gone = NULL;
    if (!err && stream_at_end(q->control) && !timer_set(&q->end) && timer_start(&q->end, END_MS))
      err = BEAM_ERR_NOMEM;
    if (err)
      die(q, err);
  }
}

static void push(struct quic_link *q) {
  size_t n = evbuffer_get_length(q->control_out);
  if (n)
    stream_move(q->control, q->control_out, n);
}

static void on_control_writable(void *user) {
  push(user);
}

/* The connection's own end is told by on_closed, with its reason. */
static void on_control_closed(void *user, int reason) {
  struct quic_link *q = user;
  if (!q->dead && !timer_set(&q->end) && timer_start(&q->end, END_MS))
    die(q, reason);
}

static void take_control(struct quic_link *q, struct stream *s) {
  q->control = s;
  quic_stream_uncount(s);
  stream_own(s, &control_events, q);
}

/* --- the connection --- */

/* The agent's control stream exists as soon as the handshake is complete; the relay's when the agent's first frame came. */
static void begin(struct quic_link *q) {
  struct stream *s;
  if (q->control || q->role != LINK_AGENT || q->dead)
    return;
  int err = quic_conn_open(q->c, true, &s);
  if (err) {
    die(q, err == BEAM_ERR_LIMIT ? BEAM_ERR_PROTOCOL : err);
    return;
  }
  take_control(q, s);
  link_tell_ready(&q->k);
}

static void on_ready(void *user) {
  struct quic_link *q = user;
  if (quic_conn_exporter(q->c, q->k.exporter))
    die(q, BEAM_ERR_TLS);
  else
    begin(q);
}

static void tell(void *arg) {
  begin(arg);
}

static void on_stream(void *user, struct stream *s, bool bidi) {
  struct quic_link *q = user;
  if (bidi && q->role == LINK_AGENT) {
    quic_stream_datagrams(s);
    link_tell_stream(&q->k, s);
  } else if (bidi && !q->control) {
    take_control(q, s);
    link_tell_ready(&q->k);
  } else {
    stream_close(s, BEAM_ERR_PROTOCOL);
    die(q, BEAM_ERR_PROTOCOL);
  }
}

/* What no stream wants came before or after its flow, or is somebody's mischief: it is lost, as datagrams are. */
static void on_datagram(void *user, const uint8_t *p, size_t n) {
  struct quic_link *q = user;
  if (q->c && quic_conn_deliver(q->c, p, n))
    metric_add(METRIC_DATAGRAMS_STRAY, 1);
}

static void on_closed(void *user, int reason) {
  struct quic_link *q = user;
  die(q, reason);
}

static const struct quic_conn_events conn_events = {
    .ready = on_ready, .stream = on_stream, .datagram = on_datagram, .closed = on_closed};

/* --- the link --- */

static int open_stream(struct link *k, struct stream **out) {
  struct quic_link *q = (struct quic_link *)k;
  if (q->dead)
    return BEAM_ERR_CLOSED;
  if (!k->ready)
    return BEAM_AGAIN;
  if (q->role == LINK_AGENT)
    return BEAM_ERR_UNSUPPORTED;
  if (k->draining)
    return BEAM_ERR_DRAINING;
  int err = k->streams >= LIMIT_LINK_STREAMS ? BEAM_ERR_LIMIT : quic_conn_open(q->c, true, out);
  if (!err)
    quic_stream_datagrams(*out);
  return err;
}

static int queue(struct quic_link *q, const void *p, size_t n) {
  if (evbuffer_get_length(q->control_out) + n > CONTROL_OUT)
    return BEAM_ERR_LIMIT;
  if (evbuffer_add(q->control_out, p, n))
    return BEAM_ERR_NOMEM;
  push(q);
  return 0;
}

static int send_control(struct link *k, const beam_Control *m) {
  struct quic_link *q = (struct quic_link *)k;
  uint8_t buf[CONTROL_MAX];
  if (q->dead || (q->control && stream_dead(q->control)))
    return BEAM_ERR_CLOSED;
  if (!k->ready)
    return BEAM_AGAIN;
  long n = control_encode(m, buf, sizeof buf);
  return n < 0 ? (int)n : queue(q, buf, (size_t)n);
}

static void drain(struct link *k) {
  struct quic_link *q = (struct quic_link *)k;
  if (k->draining)
    return;
  k->draining = true;
  if (!q->dead && q->control)
    queue(q, "", 1); /* full: the peer reads nothing, and learns nothing */
}

static void close_link(struct link *k, int reason) {
  struct quic_link *q = (struct quic_link *)k;
  if (q->gone)
    *q->gone = true;
  task_cancel(&q->tell);
  timer_stop(&q->end);
  if (q->control && q->c)
    push(q);
  stream_close(q->control, q->c ? 0 : BEAM_ERR_RESET);
  quic_conn_close(q->c, reason);
  evbuffer_free(q->control_out);
  free(q);
}

/* The connection goes on from the new address (RFC 9000 section 9); too early for that: get another. */
static enum link_way network_changed(struct link *k) {
  struct quic_link *q = (struct quic_link *)k;
  if (q->dead)
    return LINK_WAY_DOUBT;
  enum link_way way = link_way_of(quic_conn_local(q->c), quic_conn_peer(q->c));
  if (way == LINK_WAY_LEFT && !quic_conn_rebind(q->c))
    way = LINK_WAY_DOUBT;
  return way;
}

static size_t queued(struct link *k) {
  struct quic_link *q = (struct quic_link *)k;
  return q->dead ? 0 : quic_conn_queued(q->c);
}

static const struct link_ops ops = {"quic",     open_stream,     send_control, drain,
                                    close_link, network_changed, queued};

int link_quic_new(struct quic_conn *c, enum link_role role, struct link **out) {
  struct quic_link *q = calloc(1, sizeof *q);
  if (q && !(q->control_out = evbuffer_new())) {
    free(q);
    q = NULL;
  }
  if (!q) {
    quic_conn_close(c, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  q->k.ops = &ops;
  q->k.loop = quic_conn_loop(c);
  q->role = role;
  q->c = c;
  task_init(&q->tell, tell, q);
  timer_init(&q->end, q->k.loop, on_end, q);
  quic_conn_watch(c, &q->k.streams, &q->k.heard);
  quic_conn_count(c, &q->k.moved);
  quic_conn_own(c, &conn_events, q);
  if (!quic_conn_exporter(c, q->k.exporter))
    loop_soon(q->k.loop, &q->tell);
  *out = &q->k;
  return 0;
}

int link_quic_session(struct link *k, const uint8_t **p, size_t *n) {
  struct quic_link *q = (struct quic_link *)k;
  return k->ops == &ops && q->c ? quic_conn_session(q->c, p, n) : BEAM_ERR_NOT_FOUND;
}
