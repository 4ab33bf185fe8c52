#include "link/h2.h"

#include <stdlib.h>
#include <string.h>

#include "io/block.h"
#include "io/net.h"

enum { CONTROL_MAX = LIMIT_CONTROL_BYTES + 4 };

static void destroy(struct h2 *h, int reason);

/* --- error codes, PROTOCOL.md section 2 --- */

uint32_t h2_code_of(int reason) {
  switch (reason) {
  case 0:
  case BEAM_ERR_CLOSED:
    return NGHTTP2_NO_ERROR;
  case BEAM_ERR_RESET:
    return NGHTTP2_CANCEL;
  case BEAM_ERR_PROTOCOL:
    return NGHTTP2_PROTOCOL_ERROR;
  case BEAM_ERR_REFUSED:
    return NGHTTP2_REFUSED_STREAM;
  case BEAM_ERR_INTERNAL:
    return NGHTTP2_INTERNAL_ERROR;
  default:
    return reason < BEAM_AGAIN && reason >= BEAM_ERR_INTERNAL ? H2_ERROR_BASE + (uint32_t)-reason
                                                              : NGHTTP2_CANCEL;
  }
}

int h2_reason_of(uint32_t code) {
  switch (code) {
  case NGHTTP2_PROTOCOL_ERROR:
  case NGHTTP2_FLOW_CONTROL_ERROR:
  case NGHTTP2_FRAME_SIZE_ERROR:
  case NGHTTP2_COMPRESSION_ERROR:
  case NGHTTP2_STREAM_CLOSED:
    return BEAM_ERR_PROTOCOL;
  case NGHTTP2_REFUSED_STREAM:
    return BEAM_ERR_REFUSED;
  case NGHTTP2_INTERNAL_ERROR:
    return BEAM_ERR_INTERNAL;
  case NGHTTP2_ENHANCE_YOUR_CALM:
    return BEAM_ERR_LIMIT;
  default:
    return code > H2_ERROR_BASE + 1 && code <= H2_ERROR_BASE - BEAM_ERR_INTERNAL
               ? -(int)(code - H2_ERROR_BASE)
               : BEAM_ERR_RESET;
  }
}

/* --- the lower stream --- */

void h2_flush_soon(struct h2 *h) {
  loop_turn_end(h->k.loop, &h->flush);
}

/* Nobody owns the link any more: gone once everything has left. */
static bool finished(struct h2 *h) {
  if (!h->closing)
    return false;
  if (h->dead || h->low->dead)
    return true;
  if (!h->bye_said && !h->orphans && !evbuffer_get_length(h->control_out)) {
    h2_session_bye(h);
    h2_flush_soon(h);
    return false;
  }
  return h->bye_said && !evbuffer_get_length(h->out) && !nghttp2_session_want_write(h->ng);
}

/* What waits in h->out goes down; true when all of it did. */
static bool push_down(struct h2 *h) {
  size_t n = evbuffer_get_length(h->out), sent = n ? stream_move(h->low, h->out, n) : 0;
  h->k.moved += sent;
  return sent == n;
}

/* Frames into h->out, until there are as many bytes as the lower stream has room for, or none are left. */
static int fill(struct h2 *h) {
  while (evbuffer_get_length(h->out) < h->room) {
    const uint8_t *p;
    ssize_t n = h2_session_send(h, &p);
    if (n <= 0)
      return n < 0 ? BEAM_ERR_PROTOCOL : 0;
    if (buffer_put(h->out, p, (size_t)n))
      return BEAM_ERR_NOMEM;
  }
  return 0;
}

static void flush(void *arg) {
  struct h2 *h = arg;
  bool more = !h->dead || h->closing;
  while (more && push_down(h) && (h->room = stream_room(h->low)) > 0) {
    int err = fill(h);
    if (err)
      h2_die(h, err);
    more = !err && evbuffer_get_length(h->out) > 0;
  }
  if (finished(h))
    destroy(h, h->bye_said ? 0 : BEAM_ERR_RESET);
}

static void low_readable(void *user) {
  struct h2 *h = user;
  struct evbuffer *in = stream_input(h->low);
  struct evbuffer_iovec v[16];
  h->k.heard = loop_now(h->k.loop);
  while (evbuffer_get_length(in) > 0) {
    int pieces = evbuffer_peek(in, -1, NULL, v, 16), err = 0;
    size_t used = 0;
    for (int i = 0; i < pieces && i < 16; i++) {
      if (!err && !h->dead)
        err = h2_session_feed(h, v[i].iov_base, v[i].iov_len);
      used += v[i].iov_len;
    }
    h->k.moved += used;
    stream_consume(h->low, used);
    if (err)
      h2_die(h, err);
  }
  if (stream_at_end(h->low))
    h2_die(h, h->bye_heard ? BEAM_ERR_CLOSED : BEAM_ERR_RESET);
  h2_flush_soon(h);
}

static void low_writable(void *user) {
  flush(user);
}

static void low_closed(void *user, int reason) {
  struct h2 *h = user;
  h2_die(h, reason);
  h2_flush_soon(h);
}

static const struct stream_events low_events = {low_readable, low_writable, low_closed};

/* --- what the owner is told --- */

void h2_tell_soon(struct h2 *h) {
  loop_soon(h->k.loop, &h->tell);
}

/* One whole control message, or 0 when there is none yet. */
static long next_control(struct h2 *h, beam_Control *m) {
  size_t n = evbuffer_get_length(h->control_in);
  if (!n)
    return 0;
  if (n > CONTROL_MAX)
    n = CONTROL_MAX;
  const uint8_t *p = evbuffer_pullup(h->control_in, (ev_ssize_t)n);
  long used = p ? control_decode(p, n, m) : BEAM_ERR_NOMEM;
  if (used > 0) {
    evbuffer_drain(h->control_in, (size_t)used);
    if (!h->dead && nghttp2_session_consume_stream(h->ng, h->control_id, (size_t)used))
      return BEAM_ERR_NOMEM;
  }
  return used;
}

static void tell_controls(struct h2 *h, bool *gone) {
  beam_Control m;
  long used;
  while (!*gone && (used = next_control(h, &m)) != 0) {
    if (used < 0) {
      h2_die(h, (int)used);
      return;
    }
    link_tell_control(&h->k, &m);
  }
  if (!*gone && !h->dead && nghttp2_session_want_write(h->ng))
    h2_flush_soon(h);
}

static void tell_streams(struct h2 *h, bool *gone) {
  while (!*gone && h->fresh) {
    struct h2_stream *st = h->fresh;
    h2_stream_stale(st);
    link_tell_stream(&h->k, &st->s);
  }
}

/* In the order: ready, control, streams, draining, closed. After each call the link may be gone. */
static void tell(void *arg) {
  struct h2 *h = arg;
  bool gone = false;
  if (h->closing) {
    evbuffer_drain(h->control_in, evbuffer_get_length(h->control_in));
    return;
  }
  h->gone = &gone;
  if (h->tell_ready) {
    h->tell_ready = 0;
    link_tell_ready(&h->k);
  }
  if (!gone && h->k.ready)
    tell_controls(h, &gone);
  if (!gone && h->k.ready)
    tell_streams(h, &gone);
  if (!gone && h->tell_draining) {
    h->tell_draining = 0;
    link_tell_draining(&h->k);
  }
  if (!gone && h->tell_closed) {
    h->tell_closed = 0;
    link_tell_closed(&h->k, h->closed);
  }
  if (!gone)
    h->gone = NULL;
}

/* --- the end --- */

enum { ABANDON_OWNED = 0, ABANDON_ORPHANS = 1, ABANDON_FRESH = 2 };

/* Besides the streams that have an owner: those without one, and those that are whole although nobody was told of them yet. */
static void abandon_streams(struct h2 *h, int reason, int also) {
  for (struct h2_stream *st = h->streams, *next; st; st = next) {
    next = st->next;
    bool skip =
        (st->orphan && !(also & ABANDON_ORPHANS)) || (st->is_fresh && st->mute && !(also & ABANDON_FRESH));
    if (!skip)
      h2_stream_abandon(st, reason);
  }
}

/* May be called from the engine's callbacks. */
void h2_die(struct h2 *h, int reason) {
  if (h->dead)
    return;
  h->dead = 1;
  h->closed = reason;
  h->tell_closed = !h->closing;
  abandon_streams(h, reason == BEAM_ERR_CLOSED ? BEAM_ERR_RESET : reason, ABANDON_ORPHANS);
  h2_tell_soon(h);
  h2_flush_soon(h);
}

static void destroy(struct h2 *h, int reason) {
  task_cancel(&h->flush);
  task_cancel(&h->tell);
  task_cancel(&h->over);
  timer_stop(&h->timer);
  abandon_streams(h, BEAM_ERR_RESET, ABANDON_ORPHANS | ABANDON_FRESH);
  if (h->ng)
    nghttp2_session_del(h->ng);
  if (h->out)
    evbuffer_free(h->out);
  if (h->control_in)
    evbuffer_free(h->control_in);
  if (h->control_out)
    evbuffer_free(h->control_out);
  stream_close(h->low, reason);
  free(h);
}

static void on_timer(void *arg) {
  struct h2 *h = arg;
  if (h->closing)
    destroy(h, BEAM_ERR_TIMEOUT);
  else if (!h->dead)
    h2_window_trim(h);
}

static void end_of_loop(void *arg) {
  destroy(arg, BEAM_ERR_RESET);
}

static void close_link(struct link *k, int reason) {
  struct h2 *h = (struct h2 *)k;
  if (h->gone)
    *h->gone = true;
  h->gone = NULL;
  abandon_streams(h, reason ? reason : BEAM_ERR_RESET, ABANDON_FRESH | (reason ? ABANDON_ORPHANS : 0));
  bool silent = reason == BEAM_ERR_TIMEOUT || reason == BEAM_ERR_RESET || h->low->dead;
  if (silent || timer_start(&h->timer, H2_CLOSE_MS)) {
    destroy(h, reason ? reason : BEAM_ERR_RESET);
    return;
  }
  /* When the peer broke the protocol or the engine, the words still leave: h->dead only means that nothing is told any more. */
  h->dead = 0;
  h->closing = 1;
  h->bye = h2_code_of(reason);
  loop_at_free(h->k.loop, &h->over);
  h2_flush_soon(h);
}

/* --- the link --- */

static int open_stream(struct link *k, struct stream **out) {
  struct h2 *h = (struct h2 *)k;
  struct h2_stream *st;
  if (h->dead)
    return BEAM_ERR_CLOSED;
  if (!k->ready)
    return BEAM_AGAIN;
  if (h->role == LINK_AGENT)
    return BEAM_ERR_UNSUPPORTED;
  if (k->draining || h->bye_heard)
    return BEAM_ERR_DRAINING;
  uint32_t peers = nghttp2_session_get_remote_settings(h->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
  if (h->live >= LIMIT_LINK_STREAMS || h->live + 1 >= peers)
    return BEAM_ERR_LIMIT;
  if (!h2_window_fits())
    return BEAM_ERR_NOMEM;
  int err = h2_stream_new(h, &st);
  if (!err && (err = h2_session_open(h, st)))
    h2_stream_free(st);
  if (err)
    return err;
  if (st->id >= H2_ID_LAST && !k->draining) {
    h->tell_draining = 1;
    h2_tell_soon(h);
  }
  *out = &st->s;
  return 0;
}

static int send_control(struct link *k, const beam_Control *m) {
  struct h2 *h = (struct h2 *)k;
  uint8_t buf[CONTROL_MAX];
  if (h->dead)
    return BEAM_ERR_CLOSED;
  if (!k->ready)
    return BEAM_AGAIN;
  long n = control_encode(m, buf, sizeof buf);
  if (n < 0)
    return (int)n;
  if (evbuffer_get_length(h->control_out) + (size_t)n > H2_CONTROL_OUT)
    return BEAM_ERR_LIMIT;
  if (evbuffer_add(h->control_out, buf, (size_t)n))
    return BEAM_ERR_NOMEM;
  if (h->control_deferred) {
    h->control_deferred = false;
    h2_session_resume(h, h->control_id);
  }
  h2_flush_soon(h);
  return 0;
}

static void drain(struct link *k) {
  struct h2 *h = (struct h2 *)k;
  if (k->draining)
    return;
  k->draining = true;
  if (!h->dead)
    h2_session_drain(h);
}

/* TCP is bound to its addresses. */
static enum link_way network_changed(struct link *k) {
  struct h2 *h = (struct h2 *)k;
  struct sockaddr_storage local, peer;
  return h->dead || !sock_ends(h->low, &local, &peer) ? LINK_WAY_DOUBT : link_way_of(&local, &peer);
}

/* Beside the frames here what the lower stream holds: TLS has no word of it, and it is at most LIMIT_SOCK_SHARED. */
static size_t queued(struct link *k) {
  struct h2 *h = (struct h2 *)k;
  size_t n = evbuffer_get_length(h->out);
  for (const struct h2_stream *st = h->streams; st; st = st->next)
    n += evbuffer_get_length(st->out);
  return n;
}

static const struct link_ops ops = {"h2",       open_stream,     send_control, drain,
                                    close_link, network_changed, queued};
static const struct link_ops ops_ws = {"ws",       open_stream,     send_control, drain,
                                       close_link, network_changed, queued};

int link_h2_new(struct stream *tls, enum link_role role, const uint8_t exporter[32], struct link **out) {
  struct h2 *h = calloc(1, sizeof *h);
  if (!h) {
    stream_close(tls, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  h->k.ops = tls->via && !strcmp(tls->via, ops_ws.transport) ? &ops_ws : &ops;
  h->k.loop = tls->loop;
  h->k.heard = loop_now(tls->loop);
  memcpy(h->k.exporter, exporter, sizeof h->k.exporter);
  h->role = role;
  h->low = tls;
  h->fresh_tail = &h->fresh;
  task_init(&h->flush, flush, h);
  task_init(&h->tell, tell, h);
  task_init(&h->over, end_of_loop, h);
  timer_init(&h->timer, h->k.loop, on_timer, h);
  h->out = evbuffer_new();
  h->control_in = evbuffer_new();
  h->control_out = evbuffer_new();
  if (!h->out || !h->control_in || !h->control_out || h2_session_new(h)) {
    destroy(h, BEAM_ERR_NOMEM);
    return BEAM_ERR_NOMEM;
  }
  sock_share(tls);
  stream_own(tls, &low_events, h);
  h2_flush_soon(h);
  *out = &h->k;
  return 0;
}
