#include "relay/peers.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/log.h"
#include "io/pipe.h"
#include "relay/session.h"
#include "wire/control.h"
#include "wire/frame.h"
#include "http/pages.h"

/* A stream that another worker opened, until its StreamOpen says where it wants to go. */
struct peer_visit {
  struct worker *w;
  struct peer_visit *prev, *next;
  struct stream *s;
  struct loop_timer timer;
};

static void visit_free(struct peer_visit *p) {
  DL_DELETE(p->w->peer_visits, p);
  timer_stop(&p->timer);
  free(p);
}

static void visit_close(struct peer_visit *p, int reason) {
  struct stream *s = p->s;
  visit_free(p);
  stream_close(s, reason);
}

/* The route changed while the stream was on its way: the worker that has the visitor renders the page. */
static void refuse(struct peer_visit *p, enum page page) {
  uint8_t f[FRAME_HEADER + 2];
  frame_encode(f, FRAME_ERROR, 2);
  f[FRAME_HEADER] = (uint8_t)(page >> 8);
  f[FRAME_HEADER + 1] = (uint8_t)page;
  stream_write(p->s, f, sizeof f);
  visit_close(p, 0);
}

static void on_readable(void *user) {
  struct peer_visit *p = user;
  struct evbuffer *in = stream_input(p->s);
  size_t n = evbuffer_get_length(in);
  if (n > LIMIT_STREAM_OPEN + 8)
    n = LIMIT_STREAM_OPEN + 8;
  uint8_t *b = n ? evbuffer_pullup(in, (ev_ssize_t)n) : NULL;
  beam_StreamOpen open;
  long used = b ? stream_open_decode(b, n, &open) : 0;
  if (used == 0) {
    if (p->s->in_ended)
      visit_close(p, BEAM_ERR_TRUNCATED);
    return;
  }
  if (used < 0) {
    visit_close(p, (int)used);
    return;
  }
  struct route_view route;
  struct stream *to;
  int i = route_find(&p->w->routes, open.name, &route)
              ? route_choose(&p->w->routes, open.name, p->w->index, true, 0)
              : -1;
  if (i < 0 || session_open(p->w, route.members[i].session, &to)) {
    refuse(p, PAGE_NO_LINK);
    return;
  }
  struct stream *from = p->s;
  visit_free(p);
  pipe_start(from, to, NULL, NULL, NULL); /* StreamOpen was only looked at: it goes along */
}

static void on_closed(void *user, int reason) {
  visit_close(user, reason);
}
static void on_slow(void *arg) {
  visit_close(arg, BEAM_ERR_TIMEOUT);
}

static const struct stream_events events = {on_readable, NULL, on_closed};

static void on_stream(void *user, struct stream *s) {
  struct worker *w = user;
  struct peer_visit *p = calloc(1, sizeof *p);
  if (!p) {
    stream_close(s, BEAM_ERR_NOMEM);
    return;
  }
  p->w = w;
  p->s = s;
  timer_init(&p->timer, w->loop, on_slow, p);
  DL_APPEND(w->peer_visits, p);
  stream_own(s, &events, p);
  if (timer_start(&p->timer, LIMIT_HELLO_MS))
    visit_close(p, BEAM_ERR_NOMEM);
}

/* Only when the other worker ends, which the whole relay does then. */
static void on_link_closed(void *user, int reason) {
  struct worker *w = user;
  log_debug("peers", "worker %u lost a link to another: %s", w->index, beam_strerror(reason));
}

static const struct link_events link_events = {.stream = on_stream, .closed = on_link_closed};

/* The far end of a pair arrives on its own loop. */
struct far_end {
  struct worker *w;
  unsigned from;
};

static void on_given(void *user, struct link *k) {
  struct far_end *f = user;
  f->w->peers[f->from] = k;
  link_own(k, &link_events, f->w);
  free(f);
}

int peers_connect(struct worker *w) {
  struct relay *r = w->relay;
  for (unsigned i = w->index + 1; i < r->workers_n; i++) {
    struct far_end *f = malloc(sizeof *f);
    if (!f)
      return BEAM_ERR_NOMEM;
    *f = (struct far_end){&r->workers[i], w->index};
    int err = link_local_pair(w->loop, r->workers[i].loop, &w->peers[i], on_given, f);
    if (err) {
      free(f);
      return err;
    }
    link_own(w->peers[i], &link_events, w);
  }
  return 0;
}

void peers_close(struct worker *w) {
  while (w->peer_visits)
    visit_close(w->peer_visits, BEAM_ERR_CLOSED);
  for (unsigned i = 0; i < w->relay->workers_n; i++) {
    link_close(w->peers[i], BEAM_ERR_CLOSED);
    w->peers[i] = NULL;
  }
}
