/* dialer.c: TCP or a unix socket, then TLS where the service speaks it. ALPN says which HTTP it will be. */
#include "agent/dialer.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "tls/tls.h"

enum { CA_MAX = 4 * 1024 * 1024 }; /* a system's collection has 220 KiB */

struct dialer {
  struct http_dialer http;
  struct http_dialer_net plain;
  struct dialer_conf conf;
  char *ca;
  size_t ca_n;
  bool ca_system;
  struct tls_context *ctx[4]; /* by what the caller speaks; made when first used */
};

/* One connection on its way. */
struct way {
  struct dialer *d;
  struct dial *dial;
  struct tls *tls;
  struct tls_context *ctx;
  dial_cb cb;
  void *user;
};

/* --- one connection --- */

static void tell(struct way *w, struct stream *s, bool h2, int err) {
  struct dialer *d = w->d;
  dial_cb cb = w->cb;
  void *user = w->user;
  free(w);
  d->http.h2 = h2;
  cb(user, s, err);
}

static void on_tls(void *user, int err, struct stream *s, const struct tls_info *info) {
  struct way *w = user;
  w->tls = NULL;
  if (err)
    log_limited(BEAM_LOG_WARN, "agent", "local service https://%s port %u: %s", w->d->conf.host,
                w->d->conf.port, beam_strerror(err));
  /* Whoever hangs up on a ClientHello does not speak TLS. */
  if (err == BEAM_ERR_TRUNCATED || err == BEAM_ERR_RESET || err == BEAM_ERR_CLOSED)
    err = BEAM_ERR_TLS;
  tell(w, s, !err && span_eq(span_of(info->alpn), SPAN("h2")), err);
}

static void on_dialled(void *user, struct stream *s, int err) {
  struct way *w = user;
  w->dial = NULL;
  if (!err)
    err = tls_connect(s, w->ctx, on_tls, w, &w->tls);
  if (err)
    tell(w, NULL, false, err);
}

static int context(struct dialer *d, unsigned speaks, struct tls_context **out) {
  static const char *const alpn[4][3] = {{NULL}, {"http/1.1", NULL}, {"h2", NULL}, {"h2", "http/1.1", NULL}};
  struct tls_client_config c = {.alpn = alpn[speaks],
                                .alpn_required = speaks == HTTP_DIAL_2,
                                .server_name = d->conf.host,
                                .trust = d->conf.insecure ? TLS_TRUST_ANY : TLS_TRUST_CA,
                                .ca = d->ca,
                                .ca_n = d->ca_n,
                                .ca_some = d->ca_system,
                                .resume = true};
  int err = d->ctx[speaks] ? 0 : tls_client_context(&c, &d->ctx[speaks]);
  *out = d->ctx[speaks];
  return err;
}

static int dial(struct http_dialer *h, unsigned speaks, dial_cb cb, void *user, struct dial **out) {
  struct dialer *d = (struct dialer *)h;
  struct way *w = calloc(1, sizeof *w);
  int err = w ? context(d, speaks & 3, &w->ctx) : BEAM_ERR_NOMEM;
  if (!err) {
    w->d = d;
    w->cb = cb;
    w->user = user;
    err = net_dial(d->conf.net, d->conf.loop, d->conf.host, d->conf.port, LIMIT_UPSTREAM_DIAL_MS, on_dialled,
                   w, &w->dial);
  }
  if (err)
    free(w);
  else
    *out = (struct dial *)w;
  return err;
}

static void cancel(struct http_dialer *h, struct dial *dial) {
  struct way *w = (struct way *)dial;
  if (w->dial)
    net_dial_cancel(((struct dialer *)h)->conf.net, w->dial);
  if (w->tls)
    tls_cancel(w->tls);
  free(w);
}

/* --- whom to trust --- */

/* Where systems keep what they trust: Debian and most others, Red Hat, Alpine. */
static const char *system_ca(void) {
  static const char *const files[] = {"/etc/ssl/certs/ca-certificates.crt",
                                      "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};
  const char *own = getenv("SSL_CERT_FILE");
  if (own && *own)
    return own;
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    if (!access(files[i], R_OK))
      return files[i];
  return NULL;
}

static int read_ca(struct dialer *d, struct beam_error *err) {
  const char *file = d->conf.ca ? d->conf.ca : system_ca();
  d->ca_system = !d->conf.ca;
  if (!file)
    return err_set(err, BEAM_ERR_NOT_FOUND,
                   "install ca-certificates, or give the certificate with --upstream-ca",
                   "this machine has no certificates to trust");
  int e = file_read(file, CA_MAX, &d->ca, &d->ca_n, err);
  if (e)
    return e;
  struct tls_context *ctx;
  e = context(d, HTTP_DIAL_1, &ctx);
  return e ? err_set(err, e, "give a PEM file: -----BEGIN CERTIFICATE-----",
                     "%.200s: no certificates can be read from it", file)
           : 0;
}

/* --- life --- */

int dialer_new(const struct dialer_conf *conf, struct dialer **out, struct beam_error *err) {
  struct dialer *d = calloc(1, sizeof *d);
  if (!d)
    return err_set(err, BEAM_ERR_NOMEM, NULL, "out of memory");
  d->conf = *conf;
  d->http = (struct http_dialer){dial, cancel, false};
  http_dialer_net_init(&d->plain, conf->net, conf->loop, conf->host, conf->port);
  int e = conf->tls && !conf->insecure ? read_ca(d, err) : 0;
  if (e) {
    dialer_free(d);
    return e;
  }
  d->conf.ca = NULL; /* borrowed for this call */
  *out = d;
  return 0;
}

struct http_dialer *dialer_http(struct dialer *d) {
  return d->conf.tls ? &d->http : &d->plain.d;
}

void dialer_free(struct dialer *d) {
  if (!d)
    return;
  for (size_t i = 0; i < 4; i++)
    tls_context_unref(d->ctx[i]);
  free(d->ca);
  free(d);
}
