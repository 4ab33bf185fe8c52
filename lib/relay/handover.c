/* The text: lines of words. "t 127.0.0.1 8443": the next socket is a TLS listener; "p": plain; "r": a TCP tunnel's port. "n KIND NAME": a name that is
 * live, KIND a number of enum route_kind. Whatever else a line begins with is for later versions. */
#include "relay/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "io/pass.h"
#include "relay/drain.h"
#include "relay/listen_quic.h"
#include "relay/raw.h"
#include "relay/tickets.h"

enum {
  ANSWER_MS = 5000,
  DRAIN_MS = 30000,
  SOCKETS_MAX = 4096,
  TEXT_MAX = 16 * 1024 * 1024,
};

static bool path_of(struct relay *r, char out[PATH_ROOM]) {
  struct sockaddr_un sa;
  return !path_join(out, r->conf.data_dir, "handover.sock", NULL) && strlen(out) < sizeof sa.sun_path;
}

/* --- the relay that goes --- */

struct handover {
  struct relay *r;
  struct stream *s;
  struct evbuffer *text;
  int fds[SOCKETS_MAX];
  unsigned n;
  unsigned next; /* worker to ask */
  bool busy;     /* a task of it is under way on some worker */
};

/* On worker 0, when no other worker has it. */
static void end(struct handover *h) {
  for (unsigned i = 0; i < h->n; i++)
    close(h->fds[i]);
  h->n = 0;
  stream_close(h->s, BEAM_ERR_CLOSED);
  h->s = NULL;
  if (h->busy)
    return;
  h->r->handover.guest = NULL;
  evbuffer_free(h->text);
  free(h);
}

static void add(struct handover *h, char kind, const char *host, struct listener *ls) {
  int fd = ls && h->n < SOCKETS_MAX ? listener_dup(ls) : -1;
  if (fd < 0)
    return;
  h->fds[h->n++] = fd;
  evbuffer_add_printf(h->text, "%c %s %u\n", kind, host, net_listener_port(h->r->net, ls));
}

static void add_port(void *user, const char *host, struct listener *ls) {
  add(user, 'r', host, ls);
}

static void add_route(void *user, const char *name, const struct route_view *route) {
  struct handover *h = user;
  if (route->state == ROUTE_LIVE)
    evbuffer_add_printf(h->text, "n %d %s\n", (int)route->kind, name);
}

static int send_all(struct handover *h) {
  struct evbuffer *b = h->text;
  size_t n = evbuffer_get_length(b);
  int fd = memfd_create("beam-handover", MFD_CLOEXEC);
  if (fd < 0)
    return err_from_errno(errno);
  int err = 0;
  while (!err && evbuffer_get_length(b))
    err = evbuffer_write(b, fd) < 0 ? BEAM_ERR_SYSTEM : 0;
  int to = sock_fd(h->s);
  if (!err)
    err = pass_send(to, &fd, 1);
  close(fd);
  for (unsigned i = 0; !err && i < h->n; i += PASS_MAX)
    err = pass_send(to, h->fds + i, h->n - i < PASS_MAX ? h->n - i : PASS_MAX);
  log_info("handover", "to a successor: sockets=%u text=%zu err=%d", h->n, n, err);
  return err;
}

static void on_collected(void *arg) {
  struct handover *h = arg;
  h->busy = false;
  if (!h->s || send_all(h)) {
    end(h);
    return;
  }
  for (unsigned i = 0; i < h->n; i++)
    close(h->fds[i]);
  h->n = 0;
}

/* Goes from worker to worker: each knows its own listeners. */
static void collect(void *arg) {
  struct handover *h = arg;
  struct worker *w = &h->r->workers[h->next++];
  for (unsigned i = 0; i < LISTEN_MAX && !w->closing; i++) {
    add(h, 't', h->r->tls_spec[i].host, w->tls_listeners[i]);
    add(h, 'p', h->r->plain_spec[i].host, w->plain_listeners[i]);
  }
  raw_ports_each(w, add_port, h);
  bool last = h->next == h->r->workers_n;
  struct worker *to = &h->r->workers[last ? 0 : h->next];
  if (loop_post(to->loop, last ? on_collected : collect, h))
    log_error("handover", "worker %u is flooded: nothing was handed over",
              to->index); /* the successor's patience ends */
}

static void on_word(void *user) {
  struct handover *h = user;
  char c;
  if (!stream_waiting(h->s)) {
    if (h->s->in_ended)
      end(h);
    return;
  }
  evbuffer_copyout(stream_input(h->s), &c, 1);
  stream_consume(h->s, 1);
  struct relay *r = h->r;
  if (c != 'g' || h->busy || drain_begun(r))
    return;
  /* The path is the successor's from the answer on. The connection stays: its end tells when we are gone. */
  net_listener_close(r->net, r->handover.listener);
  r->handover.listener = NULL;
  tickets_save(r);
  if (drain_start(r, DRAIN_MS, true) || stream_write(h->s, "b", 1) != 1)
    log_error("handover", "out of memory: not draining");
}

static void on_gone(void *user, int reason) {
  (void)reason;
  end(user);
}
static const struct stream_events guest_events = {on_word, NULL, on_gone};

static void on_guest(void *user, struct stream *s, const struct sockaddr_storage *peer) {
  (void)peer;
  struct relay *r = user;
  bool welcome = !r->handover.guest && !drain_begun(r) && pass_trusted(sock_fd(s));
  struct handover *h = welcome ? calloc(1, sizeof *h) : NULL;
  if (!h || !(h->text = evbuffer_new())) {
    free(h);
    stream_close(s, BEAM_ERR_REFUSED);
    return;
  }
  h->r = r;
  h->s = s;
  h->busy = true;
  r->handover.guest = h;
  stream_own(s, &guest_events, h);
  tickets_save(r);
  route_each(&r->workers[0].routes, add_route, h);
  collect(h);
}

static void offer(void *arg) {
  struct relay *r = arg;
  char path[PATH_ROOM + 8] = "unix:";
  if (r->workers[0].closing || r->handover.listener)
    return;
  int err = path_of(r, path + 5)
                ? net_listen(r->net, r->workers[0].loop, path, 0, NULL, on_guest, r, &r->handover.listener)
                : BEAM_ERR_INVALID;
  if (err)
    log_warn("handover", "a successor cannot take over at %s: %s", path + 5, beam_strerror(err));
}

void handover_close(struct relay *r) {
  if (r->handover.listener)
    net_listener_close(r->net, r->handover.listener);
  r->handover.listener = NULL;
  if (r->handover.guest)
    end(r->handover.guest);
  stream_close(r->handover.host, BEAM_ERR_CLOSED);
  r->handover.host = NULL;
}

/* --- the successor --- */

struct inherited {
  struct inherited *next;
  char kind;
  char host[256];
  uint16_t port;
  int fd;
};

static void inherited_free(struct relay *r, struct inherited *i) {
  LL_DELETE(r->handover.sockets, i);
  if (i->fd >= 0)
    close(i->fd);
  free(i);
}

int handover_socket(struct relay *r, char kind, const char *host, uint16_t port) {
  struct inherited *i, *next;
  int fd = -1;
  pthread_mutex_lock(&r->handover.lock);
  LL_FOREACH_SAFE(r->handover.sockets, i, next) {
    if (i->kind != kind || strcmp(i->host, host) || (port && i->port != port))
      continue;
    if (fd >= 0 && kind != 'r')
      break;
    /* Another one of a tunnel's port would take visitors that nobody accepts: it is closed. */
    int one = i->fd;
    if (fd < 0) {
      fd = one;
      i->fd = -1;
    }
    inherited_free(r, i);
  }
  pthread_mutex_unlock(&r->handover.lock);
  return fd;
}

void handover_sweep(struct relay *r) {
  pthread_mutex_lock(&r->handover.lock);
  while (r->handover.sockets)
    inherited_free(r, r->handover.sockets);
  pthread_mutex_unlock(&r->handover.lock);
}

static int line(struct relay *r, char *text, int *fds, unsigned *used, unsigned n) {
  char kind = text[0], host[256];
  unsigned port;
  if (kind != 't' && kind != 'p' && kind != 'r')
    return 0;
  struct inherited *i = *used < n ? calloc(1, sizeof *i) : NULL;
  if (!i)
    return *used < n ? BEAM_ERR_NOMEM : BEAM_ERR_PROTOCOL;
  i->kind = kind;
  i->fd = fds[(*used)++];
  LL_APPEND(r->handover.sockets, i);
  if (sscanf(text + 1, " %255s %u", host, &port) != 2 || port > 65535)
    return BEAM_ERR_PROTOCOL;
  str_copy(i->host, sizeof i->host, host);
  i->port = (uint16_t)port;
  return 0;
}

static unsigned sockets_in(const char *text) {
  unsigned n = 0;
  for (const char *p = text; *p; p += *p == '\n') {
    n += *p == 't' || *p == 'p' || *p == 'r';
    p += strcspn(p, "\n");
  }
  return n;
}

static int read_text(int fd, char **out) {
  struct stat st;
  if (fstat(fd, &st) || st.st_size > TEXT_MAX)
    return BEAM_ERR_PROTOCOL;
  char *text = calloc(1, (size_t)st.st_size + 1);
  if (!text)
    return BEAM_ERR_NOMEM;
  if (pread(fd, text, (size_t)st.st_size, 0) != st.st_size) {
    free(text);
    return BEAM_ERR_SYSTEM;
  }
  *out = text;
  return 0;
}

static int receive(struct relay *r, int from) {
  int *fds = calloc(SOCKETS_MAX + PASS_MAX, sizeof *fds), text_fd = -1;
  unsigned n = 0, got = 0, used = 0, want = 0;
  char *text = NULL;
  int err = fds ? pass_receive(from, &text_fd, 1, &got) : BEAM_ERR_NOMEM;
  if (!err)
    err = got == 1 ? read_text(text_fd, &text) : BEAM_ERR_PROTOCOL;
  if (text_fd >= 0)
    close(text_fd);
  if (!err && (want = sockets_in(text)) > SOCKETS_MAX)
    err = BEAM_ERR_PROTOCOL;
  for (; !err && n < want; n += got)
    err = pass_receive(from, fds + n, PASS_MAX, &got);
  for (char *p = text; !err && *p; p += *p == '\n') {
    err = line(r, p, fds, &used, n);
    p += strcspn(p, "\n");
  }
  for (; used < n; used++)
    close(fds[used]);
  free(fds);
  r->handover.text = text;
  return err;
}

int handover_take(struct relay *r, struct beam_error *err) {
  char path[PATH_ROOM];
  struct sockaddr_un sa = {.sun_family = AF_UNIX};
  struct timeval limit = {.tv_sec = ANSWER_MS / 1000};
  if (r->conf.handover != 2 || !path_of(r, path))
    return 0;
  str_copy(sa.sun_path, sizeof sa.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return err_set(err, err_from_errno(errno), NULL, "cannot make a socket: %s", strerror(errno));
  if (connect(fd, (struct sockaddr *)&sa, sizeof sa)) {
    close(fd);
    return 0; /* nobody runs */
  }
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  r->handover.fd = fd;
  int e = receive(r, fd);
  if (e)
    return err_set(err, e, "end it, or start without --replace",
                   "the relay that runs on %s did not hand over: %s", r->conf.data_dir, beam_strerror(e));
  r->handover.taken = true;
  return 0;
}

/* The relay before us had more workers: its other sockets are served by ours. */
static int spare(struct relay *r, struct worker *w, unsigned i, bool tls) {
  struct listen_spec *spec = tls ? &r->tls_spec[i] : &r->plain_spec[i];
  int fd;
  while ((fd = handover_socket(r, tls ? 't' : 'p', spec->host, spec->port)) >= 0) {
    struct listener *ls;
    if (w->spares_n == SPARES_MAX) {
      log_warn("handover", "too many sockets: one is closed");
      close(fd);
      continue;
    }
    int err = worker_adopt(w, fd, i, tls, &ls);
    if (err)
      return err;
    w->spares[w->spares_n++] = ls;
  }
  return 0;
}

static int learn(struct relay *r, char *text, struct beam_error *err) {
  int kind;
  char name[ROUTE_NAME];
  if (sscanf(text, "n %d %255s", &kind, name) != 2 || kind < ROUTE_HTTP || kind > ROUTE_PRIVATE)
    return 0;
  if (kind == ROUTE_HTTP && certs_add(r->certs, name, err))
    return err->code;
  struct route_stats *stats = route_stats_new();
  if (!stats)
    return BEAM_ERR_NOMEM;
  struct route_change c = {.kind = (enum route_kind)kind};
  str_copy(c.name, sizeof c.name, name);
  for (unsigned i = 0; i < r->workers_n; i++) {
    uint64_t now = loop_now(r->workers[i].loop);
    c.state = ROUTE_LIVE;
    c.generation = atomic_fetch_add(&r->generation, 1) + 1;
    c.stats = route_stats_ref(stats);
    route_apply(&r->workers[i].routes, &c, now, NULL);
    c.state = ROUTE_AWAY;
    c.generation = atomic_fetch_add(&r->generation, 1) + 1;
    c.stats = NULL;
    route_apply(&r->workers[i].routes, &c, now, NULL);
  }
  route_stats_unref(stats);
  return 0;
}

int handover_apply(struct relay *r, struct beam_error *err) {
  struct beam_error e = BEAM_ERROR_INIT;
  int bad = 0;
  if (!r->handover.taken)
    return 0;
  r->handover.at = loop_now(r->workers[0].loop);
  for (unsigned i = 0; !bad && i < r->tls_n; i++)
    bad = spare(r, &r->workers[i % r->workers_n], i, true);
  for (unsigned i = 0; !bad && i < r->plain_n; i++)
    bad = spare(r, &r->workers[i % r->workers_n], i, false);
  for (char *p = r->handover.text; !bad && *p; p += *p == '\n') {
    bad = learn(r, p, &e);
    p += strcspn(p, "\n");
  }
  free(r->handover.text);
  r->handover.text = NULL;
  return bad ? err_set(err, bad, NULL, "cannot take over: %s", beam_strerror(bad)) : 0;
}

/* --- the relay before us ends --- */

static void udp_is_free(void *arg) {
#ifndef BEAM_NO_QUIC
  struct worker *w = arg;
  if (!w->closing && quic_listen(w, NULL))
    log_warn("handover", "no QUIC on worker %u", w->index);
#else
  (void)arg;
#endif
}

static void host_gone(struct relay *r) {
  stream_close(r->handover.host, BEAM_ERR_CLOSED);
  r->handover.host = NULL;
  r->handover.alone = true;
  log_info("handover", "the relay before this one has ended");
  relay_event(r, "alone", NULL, NULL, NULL);
  for (unsigned i = 0; i < r->workers_n; i++)
    if (loop_post(r->workers[i].loop, udp_is_free, &r->workers[i]))
      log_warn("handover", "no QUIC on worker %u: it is flooded", i);
}

static void on_host_word(void *user) {
  struct relay *r = user;
  stream_consume(r->handover.host, stream_waiting(r->handover.host));
  if (r->handover.host->in_ended)
    host_gone(r);
}
static void on_host_gone(void *user, int reason) {
  (void)reason;
  host_gone(user);
}
static const struct stream_events host_events = {on_host_word, NULL, on_host_gone};

static void watch(void *arg) {
  struct relay *r = arg;
  int fd = r->handover.fd;
  r->handover.fd = -1;
  fcntl(fd, F_SETFL, O_NONBLOCK);
  if (sock_adopt(r->workers[0].loop, fd, NULL, &r->handover.host))
    log_warn("handover", "out of memory: no QUIC until the next start");
  else
    stream_own(r->handover.host, &host_events, r);
}

void handover_go(struct relay *r) {
  if (r->handover.taken) {
    char c = 0;
    bool told = send(r->handover.fd, "g", 1, MSG_NOSIGNAL) == 1 && recv(r->handover.fd, &c, 1, 0) == 1;
    if (!told || c != 'b')
      log_warn("handover", "the relay before this one does not answer: end it by hand");
    relay_event(r, "took_over", NULL, NULL, NULL);
    if (loop_post(r->workers[0].loop, watch, r))
      log_warn("handover", "worker 0 is flooded");
  }
  if (r->conf.handover && loop_post(r->workers[0].loop, offer, r))
    log_warn("handover", "worker 0 is flooded: no successor can take over");
}

void handover_fini(struct relay *r) {
  handover_sweep(r);
  free(r->handover.text);
  if (r->handover.fd >= 0)
    close(r->handover.fd);
  pthread_mutex_destroy(&r->handover.lock);
}

uint32_t handover_wait_ms(struct worker *w) {
  struct relay *r = w->relay;
  bool fresh = r->handover.taken && loop_now(w->loop) - r->handover.at < HANDOVER_FOR_MS;
  return fresh ? HANDOVER_WAIT_MS : LIMIT_LINK_WAIT_MS;
}
