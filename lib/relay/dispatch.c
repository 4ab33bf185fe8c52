#include "relay/dispatch.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "http/forward.h"
#include "http/frames.h"
#include "http/rewrite.h"
#include "relay/admit.h"
#include "relay/answers.h"
#include "relay/drain.h"
#include "relay/handover.h"
#include "relay/interstitial.h"
#include "relay/session.h"
#include "relay/settings.h"
#include "relay/visitor.h"
#include "relay/wslink.h"
#include "wire/host.h"

/* A request whose name has no link just now: an upstream end that takes nothing until the route is LIVE again or time is up. */
struct waiting {
  struct http_end end;
  struct worker *w;
  struct waiting *prev, *next;
  struct loop_timer timer;
  struct http_head head; /* already as it goes to the agent */
  beam_StreamOpen open;
  struct admit_ticket ticket;
  struct loop_timer again; /* while there is no room, rather than no link */
  bool more, ended, no_room;
};

/* --- towards the agent --- */

/* Over the least busy link; when that opens none after all, over the next. */
static int open_best(struct worker *w, const struct route_view *route, const char *name,
                     struct stream **out) {
  int err = BEAM_AGAIN, i;
  for (unsigned tried = 0; (i = route_choose(&w->routes, name, w->index, false, tried)) >= 0;
       tried |= 1u << i) {
    const struct route_member *m = &route->members[i];
    struct link *peer = m->worker == w->index ? NULL : w->peers[m->worker];
    if (m->worker != w->index && !peer)
      continue;
    err = peer ? link_open(peer, out) : session_open(w, m->session, out);
    if (!err && peer)
      atomic_fetch_add(&w->relay->hops, 1);
    if (!err)
      return 0;
  }
  return err;
}

int dispatch_stream(struct worker *w, const struct route_view *route, const beam_StreamOpen *open,
                    struct stream **out) {
  uint8_t buf[LIMIT_STREAM_OPEN + 8];
  if (route->state != ROUTE_LIVE)
    return BEAM_AGAIN;
  int err = open_best(w, route, open->name, out);
  if (err)
    return err == BEAM_ERR_LIMIT || err == BEAM_ERR_NOMEM ? err : BEAM_AGAIN; /* NOMEM: the pool is used up */
  beam_StreamOpen o = *open;
  o.datagrams = o.kind == beam_StreamKind_STREAM_UDP && (*out)->datagrams; /* of a worker's own links alone */
  long n = stream_open_encode(&o, buf, sizeof buf);
  if (n < 0) {
    stream_close(*out, (int)n);
    return (int)n;
  }
  if (stream_write(*out, buf, (size_t)n) != (size_t)n) {
    stream_close(*out, BEAM_ERR_LIMIT);
    return BEAM_ERR_LIMIT;
  }
  return 0;
}

/* Join front and the agent; with `from` it stood waiting for that. 0, AGAIN, or a beam_err (then front is untouched). */
static int connect_agent(struct worker *w, const struct route_view *route, const beam_StreamOpen *open,
                         struct http_end **out) {
  struct stream *s;
  int err = dispatch_stream(w, route, open, &s);
  return err ? err : frames_upstream(s, out);
}

/* HTTP/3 is on the UDP side of the port the visitor came to; the number is the one it used, whatever maps it to ours. */
static void offer_h3(struct worker *w, const struct http_head *h, bool tls, char *alt, size_t cap) {
  char host[HOST_MAX];
  uint16_t port;
  alt[0] = 0;
  if (tls && w->quic[0] && !drain_begun(w->relay) && host_parse(h->authority, host, &port))
    str_fmt(alt, cap, "h3=\":%u\"; ma=86400", port ? port : 443);
}

static void on_over(struct rewrite_edge *e) {
  struct admit_ticket t = {e->held[0], e->held[1]};
  admit_return(&t);
}

/* A tunnel is nobody we trust: what it says for everybody's names does not pass. The ticket is the exchange's from now on. */
static int join(struct worker *w, const struct http_head *h, bool tls, struct admit_ticket *t,
                struct http_end *front, struct http_end *up) {
  struct rewrite_edge e = {.base = w->relay->conf.domain, .over = on_over, .held = {t->guest, t->stats}};
  offer_h3(w, h, tls, e.alt, sizeof e.alt);
  int err = rewrite_edge_join(w->loop, &e, front, up);
  if (err) {
    up->ops->abort(up, PAGE_OVERLOADED);
    admit_return(t);
  }
  *t = (struct admit_ticket){0};
  return err;
}

static enum page page_of(int err) {
  return err == BEAM_ERR_LIMIT || err == BEAM_ERR_NOMEM ? PAGE_OVERLOADED : PAGE_INTERNAL;
}

/* --- waiting --- */

static void waiting_free(struct waiting *q) {
  DL_DELETE(q->w->waiting, q);
  timer_stop(&q->timer);
  timer_stop(&q->again);
  admit_return(&q->ticket);
  http_head_free(&q->head);
  free(q);
}

static void waiting_refuse(struct waiting *q, enum page page) {
  struct http_end *front = q->end.peer;
  struct http_head head = q->head;
  memset(&q->head, 0, sizeof q->head);
  struct loop *l = q->w->loop;
  if (front) {
    q->end.peer = NULL;
    front->peer = NULL;
  }
  waiting_free(q);
  if (front)
    page_answer(l, front, &head, page, NULL);
  http_head_free(&head);
}

static void waiting_late(void *arg) {
  struct waiting *q = arg;
  waiting_refuse(q, q->no_room ? PAGE_OVERLOADED : PAGE_NO_LINK);
}

static void waiting_go(struct waiting *q, const struct route_view *route) {
  struct worker *w = q->w;
  struct http_end *up;
  int err = connect_agent(q->w, route, &q->open, &up);
  q->no_room = err == BEAM_ERR_NOMEM;
  if (err == BEAM_AGAIN || (q->no_room && !timer_start(&q->again, LIMIT_ROOM_MS)))
    return;
  if (err) {
    waiting_refuse(q, page_of(err));
    return;
  }
  struct http_end *front = q->end.peer;
  struct http_head head = q->head;
  memset(&q->head, 0, sizeof q->head);
  bool more = q->more, ended = q->ended, open_tls = q->open.tls;
  struct admit_ticket ticket = q->ticket;
  q->ticket = (struct admit_ticket){0};
  q->end.peer = NULL;
  waiting_free(q);
  if (join(w, &head, open_tls, &ticket, front, up)) {
    front->peer = NULL;
    page_answer(w->loop, front, &head, PAGE_OVERLOADED, NULL);
    http_head_free(&head);
    return;
  }
  http_send_head(front, &head, more);
  http_head_free(&head);
  if (ended)
    http_send_end(front);
  else if (more && front->peer)
    http_send_want(front->peer);
}

/* Those who stall make room meanwhile (visitors_make_room). */
static void waiting_again(void *arg) {
  struct waiting *q = arg;
  struct route_view route;
  visitors_make_room(q->w);
  if (route_find(&q->w->routes, q->open.name, &route) && route.state == ROUTE_LIVE)
    waiting_go(q, &route);
}

static void on_head(struct http_end *e, const struct http_head *h, bool more) {
  (void)e, (void)h, (void)more; /* the head was passed when the wait began */
}
static void on_info(struct http_end *e, const struct http_head *h) {
  (void)e, (void)h;
}
static size_t on_room(struct http_end *e) {
  (void)e;
  return 0;
}
static size_t on_body(struct http_end *e, struct evbuffer *from, size_t n) {
  (void)e, (void)from, (void)n;
  return 0;
}
static void on_trailers(struct http_end *e, const struct http_head *h) {
  (void)e,
      (void)h; /* trailers of an empty body, before a link was there: optional by RFC 9110 6.5, dropped */
}
static void on_end(struct http_end *e) {
  ((struct waiting *)e)->ended = true;
}
static void on_none(struct http_end *e) {
  (void)e;
}
static void on_abort(struct http_end *e, enum page page) {
  (void)page;
  waiting_free((struct waiting *)e); /* nobody of ours is on the stack: we never call our peer from an op */
}

static const struct http_end_ops waiting_ops = {.kind = "waiting",
                                                .head = on_head,
                                                .info = on_info,
                                                .room = on_room,
                                                .body = on_body,
                                                .trailers = on_trailers,
                                                .end = on_end,
                                                .stop = on_none,
                                                .abort = on_abort,
                                                .want = on_none};

static unsigned waiting_count(struct worker *w) {
  struct waiting *q;
  unsigned n;
  DL_COUNT(w->waiting, q, n);
  return n;
}

static bool is_event_source(const struct http_head *h) {
  const struct http_field *accept = http_field_find(h, "accept");
  return accept && span_eq(accept->value, SPAN("text/event-stream"));
}

/* How long a request waits. Event sources leave half of the places to others. */
static uint32_t wait_ms(struct worker *w, const struct http_head *h) {
  bool patient = is_event_source(h) && waiting_count(w) < LIMIT_PENDING_REQUESTS / 2;
  return patient ? LIMIT_EVENTS_WAIT_MS : handover_wait_ms(w);
}

static void wait_for_link(struct worker *w, struct http_end *front, struct http_head *head, bool more,
                          const beam_StreamOpen *open, struct admit_ticket *t, bool no_room) {
  struct waiting *q = waiting_count(w) < LIMIT_PENDING_REQUESTS ? calloc(1, sizeof *q) : NULL;
  if (!q) {
    page_answer(w->loop, front, head, PAGE_OVERLOADED, NULL);
    return;
  }
  q->end.ops = &waiting_ops;
  q->w = w;
  q->open = *open;
  q->more = more;
  timer_init(&q->timer, w->loop, waiting_late, q);
  timer_init(&q->again, w->loop, waiting_again, q);
  q->no_room = no_room && !timer_start(&q->again, LIMIT_ROOM_MS);
  if (http_head_copy(&q->head, head) || timer_start(&q->timer, wait_ms(w, head))) {
    http_head_free(&q->head);
    timer_stop(&q->again);
    free(q);
    page_answer(w->loop, front, head, PAGE_OVERLOADED, NULL);
    return;
  }
  q->ticket = *t;
  *t = (struct admit_ticket){0};
  DL_APPEND(w->waiting, q);
  http_join(front, &q->end);
}

void dispatch_wake(struct worker *w, const char *name) {
  struct route_view route;
  if (!w->waiting || !route_find(&w->routes, name, &route))
    return;
  struct waiting *q, *next;
  DL_FOREACH_SAFE(w->waiting, q, next) {
    if (strcmp(q->open.name, name))
      continue;
    if (route.state == ROUTE_LIVE)
      waiting_go(q, &route);
    else if (route.state == ROUTE_GONE && !is_event_source(&q->head))
      waiting_refuse(q, PAGE_NO_LINK);
  }
}

void dispatch_close(struct worker *w) {
  while (w->waiting)
    waiting_refuse(w->waiting, PAGE_NO_LINK);
}

/* --- a request --- */

static void fill_open(beam_StreamOpen *o, const struct visit *v, const char *name) {
  *o = (beam_StreamOpen)beam_StreamOpen_init_zero;
  o->kind = beam_StreamKind_STREAM_HTTP;
  str_copy(o->name, sizeof o->name, name);
  str_copy(o->visitor, sizeof o->visitor, v->addr_port);
  str_copy(o->local, sizeof o->local, v->local);
  str_copy(o->sni, sizeof o->sni, v->sni);
  o->tls = v->tls;
  o->trace_id.size = 16;
  random_id(o->trace_id.bytes);
}

static void to_agent(const struct visit *v, const char *name, const struct route_view *route,
                     struct http_end *front, const struct http_head *h, bool more, struct admit_ticket *t) {
  struct worker *w = v->w;
  char authority[300];
  span_copy(authority, sizeof authority, h->authority);
  struct forward_facts facts = {v->addr, v->tls ? "https" : "http", authority};
  struct http_head head;
  if (forward_request(h, &facts, &head)) {
    page_answer(w->loop, front, h, PAGE_OVERLOADED, NULL);
    return;
  }
  beam_StreamOpen open;
  fill_open(&open, v, name);
  struct http_end *up;
  int gone = is_event_source(h) ? BEAM_AGAIN : BEAM_ERR_NOT_FOUND;
  int err = route->state == ROUTE_GONE ? gone : connect_agent(w, route, &open, &up);
  if (!err)
    err = join(w, h, v->tls, t, front, up);
  if (!err) {
    http_send_head(front, &head, more);
  } else if (err == BEAM_AGAIN || err == BEAM_ERR_NOMEM) {
    wait_for_link(w, front, &head, more, &open, t, err == BEAM_ERR_NOMEM);
  } else {
    page_answer(w->loop, front, h, err == BEAM_ERR_NOT_FOUND ? PAGE_NO_LINK : page_of(err), NULL);
  }
  http_head_free(&head);
}

/* As many at once as one address, and one tunnel, may have. */
static void admitted(const struct visit *v, const char *name, const struct route_view *route,
                     struct http_end *front, const struct http_head *h, bool more) {
  struct relay *r = v->w->relay;
  const struct beam_relay_config *c = &settings_now(r)->conf;
  struct admit_ticket t;
  visitors_make_room(v->w);
  enum page page = admit_request(v->guest, c->visitor_requests, route->stats, c->tunnel_requests, &t);
  if (page) {
    admit_refused(r, page == PAGE_TOO_MANY ? ADMIT_REQUESTS : ADMIT_TUNNEL);
    page_answer(v->w->loop, front, h, page, NULL);
    return;
  }
  to_agent(v, name, route, front, h, more, &t);
  admit_return(&t); /* unless somebody has it */
}

static bool is_state_page(struct span target) {
  static const char path[] = "/_beam";
  size_t n = sizeof path - 1;
  return target.n >= n && !memcmp(target.p, path, n) &&
         (target.n == n || target.p[n] == '/' || target.p[n] == '?');
}

static bool is_covered(const struct visit *v, const char *host) {
  if (!v->cert || !strcmp(v->covered, host))
    return true;
  if (!cert_covers(v->cert, host))
    return false;
  str_copy(v->covered, HOST_MAX, host);
  return true;
}

void dispatch_request(const struct visit *v, struct http_end *front, struct http_head *h, bool more) {
  struct worker *w = v->w;
  struct relay *r = w->relay;
  atomic_fetch_add(&r->requests, 1);
  char host[HOST_MAX];
  uint16_t port;
  struct route_view route;
  if (!host_parse(h->authority, host, &port))
    page_answer(w->loop, front, h, PAGE_BAD_HOST, NULL);
  else if (wslink_asked(h))
    wslink_request(v, front, h, more);
  else if (!v->tls && settings_now(r)->conf.plain == BEAM_PLAIN_REDIRECT)
    answer_redirect(w, front, h, host);
  else if (r->conf.control_host && !strcmp(host, r->conf.control_host))
    answer_control(w, front, h);
  else if (!route_find(&w->routes, host, &route) || route.kind != ROUTE_HTTP)
    page_answer(w->loop, front, h, PAGE_NO_TUNNEL, NULL);
  else if (!is_covered(v, host))
    page_answer(w->loop, front, h, PAGE_MISDIRECTED, NULL);
  else if (interstitial_request(v, front, h, host))
    return;
  else if (is_state_page(h->target))
    answer_state(w, front, h, host, &route);
  else
    admitted(v, host, &route, front, h, more);
}

void dispatch_finished(struct worker *w, const struct http_record *rec) {
  char host[HOST_MAX];
  uint16_t port;
  struct route_view route;
  if (wslink_was(rec) || !host_parse(rec->authority, host, &port) || !route_find(&w->routes, host, &route) ||
      !route.stats)
    return;
  atomic_fetch_add(&route.stats->requests, 1);
  atomic_fetch_add(&route.stats->bytes_in, rec->body_in);
  atomic_fetch_add(&route.stats->bytes_out, rec->body_out);
  if (rec->failed)
    atomic_fetch_add(&route.stats->errors, 1);
}
