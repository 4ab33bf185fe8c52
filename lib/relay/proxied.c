#include "relay/proxied.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "base/str.h"
#include "relay/admit.h"
#include "relay/raw.h"
#include "relay/settings.h"
#include "relay/visitor.h"
#include "wire/cidr.h"
#include "wire/proxyline.h"

struct proxied {
  struct worker *w;
  struct proxied *prev, *next;
  struct stream *s;
  struct loop_timer timer;
  struct sockaddr_storage peer; /* the balancer's, then the visitor's */
  char local[80], name[ROUTE_NAME];
  uint16_t port;
  bool tls;
};

static void give_on(struct worker *w, struct stream *s, const struct sockaddr_storage *peer,
                    const char *local, const char *tunnel, uint16_t port, bool tls) {
  if (tunnel)
    raw_forward(w, s, tunnel, "", peer, local);
  else
    visitor_new(w, s, peer, local, port, tls, false);
}

static void proxied_end(struct proxied *p, int reason) {
  DL_DELETE(p->w->proxied, p);
  timer_stop(&p->timer);
  stream_close(p->s, reason);
  atomic_fetch_sub(&p->w->relay->visitors_now, 1);
  free(p);
}

static void refuse(struct proxied *p, int reason, const char *what) {
  char from[64];
  addr_text(&p->peer, false, from, sizeof from);
  log_limited(BEAM_LOG_WARN, "visitor", "closed from=%s reason=%s", from, what);
  atomic_fetch_add(&p->w->relay->refused, 1);
  proxied_end(p, reason);
}

static void to_sockaddr(const struct addr *a, uint16_t port, struct sockaddr_storage *out) {
  memset(out, 0, sizeof *out);
  if (a->n == 4) {
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    memcpy(&in->sin_addr, a->bytes, 4);
  } else {
    struct sockaddr_in6 *in = (struct sockaddr_in6 *)out;
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    memcpy(&in->sin6_addr, a->bytes, 16);
  }
}

static void done(struct proxied *p, const struct proxyline *line, bool told) {
  struct proxied known = *p;
  if (told) {
    struct sockaddr_storage local;
    to_sockaddr(&line->visitor, line->visitor_port, &known.peer);
    to_sockaddr(&line->local, line->local_port, &local);
    addr_text(&local, true, known.local, sizeof known.local);
  }
  stream_consume(p->s, line->used);
  p->s = NULL;
  proxied_end(p, 0);
  give_on(known.w, known.s, &known.peer, known.local, known.name[0] ? known.name : NULL, known.port,
          known.tls);
}

static void on_readable(void *user) {
  struct proxied *p = user;
  struct evbuffer *in = stream_input(p->s);
  size_t n = evbuffer_get_length(in);
  if (n > LIMIT_PROXY_HEADER + 16)
    n = LIMIT_PROXY_HEADER + 16;
  uint8_t *bytes = n ? evbuffer_pullup(in, (ev_ssize_t)n) : NULL;
  struct proxyline line;
  switch (bytes ? proxyline_read(bytes, n, &line) : PROXYLINE_MORE) {
  case PROXYLINE_MORE:
    if (p->s->in_ended && !n)
      proxied_end(p, 0); /* a balancer that only looks whether we are there */
    else if (p->s->in_ended)
      refuse(p, BEAM_ERR_TRUNCATED, "ended within the PROXY protocol header");
    return;
  case PROXYLINE_BAD:
    refuse(p, BEAM_ERR_PROTOCOL, "a load balancer that says no PROXY protocol header");
    return;
  case PROXYLINE_PROXY:
    done(p, &line, true);
    return;
  case PROXYLINE_LOCAL:
    done(p, &line, false);
    return;
  }
}

static void on_closed(void *user, int reason) {
  proxied_end(user, reason);
}

static void on_slow(void *arg) {
  refuse(arg, BEAM_ERR_TIMEOUT, "no PROXY protocol header in time");
}

static const struct stream_events events = {on_readable, NULL, on_closed};

static bool is_balancer(struct worker *w, const struct sockaddr_storage *peer) {
  const struct cidr_list *from = &settings_now(w->relay)->proxy_from;
  char text[64];
  struct addr a;
  if (!from->n)
    return false;
  addr_text(peer, false, text, sizeof text);
  return addr_parse(span_of(text), &a) && cidr_list_has(from, &a);
}

/* The visitor behind it is counted by its own address later; until then by the relay's own limit. */
static void wait(struct worker *w, struct stream *s, const struct proxied *with) {
  bool full = atomic_load(&w->relay->visitors_now) >= (int64_t)LIMIT_VISITORS;
  struct proxied *p = full ? NULL : malloc(sizeof *p);
  if (!p) {
    admit_refused(w->relay, ADMIT_RELAY);
    atomic_fetch_add(&w->relay->refused, 1);
    stream_close(s, BEAM_ERR_LIMIT);
    return;
  }
  *p = *with;
  DL_APPEND(w->proxied, p);
  atomic_fetch_add(&w->relay->visitors_now, 1);
  timer_init(&p->timer, w->loop, on_slow, p);
  stream_own(s, &events, p);
  if (timer_start(&p->timer, LIMIT_HANDSHAKE_MS))
    proxied_end(p, BEAM_ERR_NOMEM);
}

void proxied_accept(struct worker *w, struct stream *s, const struct sockaddr_storage *peer,
                    const char *tunnel, uint16_t port, bool tls) {
  struct proxied p = {.w = w, .s = s, .peer = *peer, .port = port, .tls = tls};
  sock_local(s, p.local, sizeof p.local);
  str_copy(p.name, sizeof p.name, tunnel ? tunnel : "");
  if (is_balancer(w, peer))
    wait(w, s, &p);
  else
    give_on(w, s, peer, p.local, tunnel, port, tls);
}

void proxied_close_all(struct worker *w) {
  while (w->proxied)
    proxied_end(w->proxied, BEAM_ERR_CLOSED);
}
