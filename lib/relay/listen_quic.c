#include "relay/listen_quic.h"
#include "relay/drain.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "http/h3_front.h"
#include "quic/quic.h"
#include "relay/session.h"
#include "relay/settings.h"
#include "relay/visitor.h"

/* --- the key --- */

static const char file_name[] = "quic.key";

int quic_key_load(struct relay *r, struct beam_error *err) {
  char path[PATH_ROOM], *text;
  size_t n;
  int e = path_join(path, r->conf.data_dir, file_name, err);
  if (e)
    return e;
  if (!file_read_secret(path, 4096, &text, &n, NULL)) {
    bool whole = n == sizeof r->quic_key;
    if (whole)
      memcpy(r->quic_key, text, n);
    explicit_bzero(text, n);
    free(text);
    if (whole)
      return 0;
  }
  random_bytes(
      r->quic_key,
      sizeof r->quic_key); /* a damaged one costs agents no more than a slower notice of the restart */
  return file_write(path, 0600, r->quic_key, sizeof r->quic_key, err);
}

/* --- packets that the kernel gave to another worker than the connection's: their sender's address changed --- */

struct stray {
  struct worker *to;
  unsigned listener;
  struct sockaddr_storage from, local;
  uint8_t ecn;
  size_t n;
  uint8_t p[];
};

static void on_stray(void *arg) {
  struct stray *s = arg;
  if (!s->to->closing && s->to->quic[s->listener])
    quic_endpoint_inject(s->to->quic[s->listener], s->p, s->n, s->ecn, &s->from, &s->local);
  free(s);
}

static void forward(void *user, unsigned worker, const uint8_t *p, size_t n, uint8_t ecn,
                    const struct sockaddr_storage *from, const struct sockaddr_storage *to) {
  struct accept_ctx *a = user;
  struct relay *r = a->w->relay;
  struct stray *s = worker < r->workers_n && worker != a->w->index ? malloc(sizeof *s + n) : NULL;
  if (!s)
    return; /* a lost packet */
  s->to = &r->workers[worker];
  s->listener = (unsigned)(a - a->w->tls_ctx);
  s->from = *from;
  s->local = *to;
  s->ecn = ecn;
  s->n = n;
  memcpy(s->p, p, n);
  if (loop_post_or(s->to->loop, on_stray, free, s))
    free(s);
}

/* --- connections --- */

static const char alpn_h3[] = "h3";
static const char *const alpn_both[] = {"beam/1", alpn_h3, NULL};

static struct tls_cert *choose(void *user, const char *sni, const char *alpn) {
  struct accept_ctx *a = user;
  if (drain_begun(a->w->relay) && a->w->relay->drain.successor)
    return NULL; /* by TCP agents and visitors reach our successor */
  if (!strcmp(alpn, alpn_h3))
    return relay_cert(a->w->relay, sni);
  return certs_get_link(a->w->relay->certs);
}

static void on_accept(void *user, struct quic_conn *c) {
  struct accept_ctx *a = user;
  if (!strcmp(quic_conn_alpn(c), alpn_h3)) {
    visitor_quic(a->w, c, a->port);
    return;
  }
  struct sockaddr_storage peer = *quic_conn_peer(c);
  char addr[80];
  struct link *k;
  addr_text(&peer, true, addr, sizeof addr);
  if (!link_quic_new(c, LINK_RELAY, &k))
    session_start(a->w, k, addr, &peer);
}

int quic_listen(struct worker *w, struct beam_error *err) {
  struct relay *r = w->relay;
  if (r->handover.taken && !r->handover.alone)
    return 0; /* packets of the links that the relay before us still has would come to us */
  for (unsigned i = 0; i < r->tls_n; i++) {
    struct quic_server_conf conf = {.alpn = alpn_both,
                                    .choose = choose,
                                    .accept = on_accept,
                                    .worker = w->index,
                                    .forward = r->workers_n > 1 ? forward : NULL,
                                    .reset_key = r->quic_key,
                                    .tickets = "beam/1",
                                    .cubic = settings_now(r)->conf.congestion == BEAM_CONGESTION_CUBIC,
                                    .peer_bidi =
                                        H3_PEER_BIDI, /* an agent that opens a second one breaks beam/1 */
                                    .peer_uni = H3_PEER_UNI,
                                    .user = &w->tls_ctx[i]};
    if (w->quic[i] || !strncmp(r->tls_spec[i].host, "unix:", 5))
      continue;
    int e = quic_endpoint_server(w->loop, r->tls_spec[i].host, r->tls_spec[i].port, r->workers_n > 1, &conf,
                                 &w->quic[i]);
    if (e == BEAM_ERR_IN_USE) /* agents come by TCP then, as through any network without UDP */
      log_warn("relay", "no QUIC on %s UDP port %u: %s", r->tls_spec[i].host, r->tls_spec[i].port,
               beam_strerror(e));
    else if (e)
      return err_set(err, e, NULL, "cannot listen on %s UDP port %u: %s", r->tls_spec[i].host,
                     r->tls_spec[i].port, beam_strerror(e));
  }
  return 0;
}

void quic_congestion(struct worker *w) {
  for (unsigned i = 0; i < LISTEN_MAX; i++)
    if (w->quic[i])
      quic_endpoint_cubic(w->quic[i], settings_now(w->relay)->conf.congestion == BEAM_CONGESTION_CUBIC);
}

void quic_unlisten(struct worker *w) {
  for (unsigned i = 0; i < LISTEN_MAX; i++) {
    quic_endpoint_close(w->quic[i]);
    w->quic[i] = NULL;
  }
}
