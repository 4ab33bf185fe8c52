/* tls.c: GnuTLS for a QUIC connection: ciphers, ALPN, certificates, the exporter. TLS 1.3 only. */
#include <beam/beam.h>
#include <ctype.h>
#include <gnutls/x509.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "quic/conn.h"

enum { CHAIN_MAX = 8, ALPN_MAX = 8, CREDENTIALS_MAX = 32 };

/* A certificate in GnuTLS's form; kept because making it costs more than a tenth of a handshake. The endpoint's list and each connection that
 * uses it hold a reference: GnuTLS holds none. */
struct quic_credential {
  struct quic_credential *next;
  unsigned refs;
  struct tls_cert *cert; /* a reference */
  gnutls_certificate_credentials_t cred;
};

/* --- ciphers --- */

static gnutls_priority_t open_ciphers, link_ciphers;
static int ciphers_err;

#define PRIORITY(ciphers)                                                                                    \
  "%DISABLE_TLS13_COMPAT_MODE:NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:" ciphers                            \
  ":-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1"

static void make_ciphers(void) {
  ciphers_err =
      gnutls_priority_init(&open_ciphers, PRIORITY("+AES-256-GCM:+AES-128-GCM:+CHACHA20-POLY1305"), NULL);
  if (!ciphers_err)
    ciphers_err = gnutls_priority_init(&link_ciphers, PRIORITY("+AES-256-GCM"), NULL);
}

static int set_ciphers(gnutls_session_t tls, bool link) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, make_ciphers);
  return ciphers_err ? ciphers_err : gnutls_priority_set(tls, link ? link_ciphers : open_ciphers);
}

/* --- certificates --- */

static int import_chain(const struct tls_cert *cert, gnutls_x509_crt_t *chain, unsigned *count) {
  const uint8_t *der;
  size_t n;
  for (*count = 0; *count < CHAIN_MAX && (der = tls_cert_chain(cert, *count, &n)); ++*count) {
    gnutls_datum_t datum = {(uint8_t *)der, (unsigned)n};
    if (gnutls_x509_crt_init(&chain[*count]))
      return BEAM_ERR_NOMEM;
    if (gnutls_x509_crt_import(chain[*count], &datum, GNUTLS_X509_FMT_DER)) {
      gnutls_x509_crt_deinit(chain[*count]);
      return BEAM_ERR_INVALID;
    }
  }
  return *count ? 0 : BEAM_ERR_INVALID;
}

static int import_key(struct tls_cert *cert, gnutls_x509_privkey_t key) {
  uint8_t der[TLS_CERT_KEY_MAX];
  size_t n;
  int err = tls_cert_key(cert, der, sizeof der, &n);
  if (err)
    return err;
  gnutls_datum_t datum = {der, (unsigned)n};
  if (gnutls_x509_privkey_import(key, &datum, GNUTLS_X509_FMT_DER))
    err = BEAM_ERR_INVALID;
  gnutls_memset(der, 0, sizeof der);
  return err;
}

static int load(gnutls_certificate_credentials_t cred, struct tls_cert *cert) {
  gnutls_x509_crt_t chain[CHAIN_MAX];
  gnutls_x509_privkey_t key = NULL;
  unsigned count;
  int err = import_chain(cert, chain, &count);
  if (!err && gnutls_x509_privkey_init(&key))
    err = BEAM_ERR_NOMEM;
  if (!err)
    err = import_key(cert, key);
  if (!err && gnutls_certificate_set_x509_key(cred, chain, (int)count, key) < 0)
    err = BEAM_ERR_INVALID;
  for (unsigned i = 0; i < count; i++)
    gnutls_x509_crt_deinit(chain[i]);
  if (key)
    gnutls_x509_privkey_deinit(key);
  return err;
}

static void credential_unref(struct quic_credential *k) {
  if (!k || --k->refs)
    return;
  if (k->cred)
    gnutls_certificate_free_credentials(k->cred);
  tls_cert_unref(k->cert);
  free(k);
}

void quic_tls_credentials_free(struct quic_credential *all) {
  for (struct quic_credential *k = all, *next; k; k = next) {
    next = k->next;
    credential_unref(k);
  }
}

/* The list has the newest use first; those nobody asked for lately go. */
static void forget_old(struct quic_credential *k) {
  for (int i = 1; k; i++, k = k->next)
    if (i == CREDENTIALS_MAX) {
      quic_tls_credentials_free(k->next);
      k->next = NULL;
    }
}

static struct quic_credential *credential_of(struct quic_endpoint *e, struct tls_cert *cert) {
  for (struct quic_credential **p = &e->credentials, *k; (k = *p); p = &k->next)
    if (k->cert == cert) {
      *p = k->next;
      k->next = e->credentials;
      return e->credentials = k;
    }
  struct quic_credential *k = calloc(1, sizeof *k);
  if (!k)
    return NULL;
  k->refs = 1;
  k->cert = tls_cert_ref(cert);
  int err = gnutls_certificate_allocate_credentials(&k->cred) ? BEAM_ERR_NOMEM : load(k->cred, cert);
  if (err) {
    log_limited(BEAM_LOG_ERROR, "quic", "certificate not usable what=\"%s\"", err_find(err)->what);
    credential_unref(k);
    return NULL;
  }
  gnutls_certificate_set_verify_function(k->cred, quic_verify_peer);
  k->next = e->credentials;
  e->credentials = k;
  forget_old(k);
  return k;
}

/* --- ALPN and server name --- */

static int offer(gnutls_session_t tls, const char *const *alpn) {
  gnutls_datum_t names[ALPN_MAX];
  unsigned n = 0;
  for (; alpn && alpn[n] && n < ALPN_MAX; n++)
    names[n] = (gnutls_datum_t){(uint8_t *)alpn[n], (unsigned)strlen(alpn[n])};
  return gnutls_alpn_set_protocols(tls, names, n, GNUTLS_ALPN_MANDATORY | GNUTLS_ALPN_SERVER_PRECEDENCE);
}

void quic_tls_agreed(struct quic_conn *c) {
  gnutls_datum_t alpn;
  unsigned type;
  if (!gnutls_alpn_get_selected_protocol(c->tls, &alpn) && alpn.size < sizeof c->alpn) {
    memcpy(c->alpn, alpn.data, alpn.size);
    c->alpn[alpn.size] = 0;
  }
  size_t n = sizeof c->sni - 1;
  if (!c->server || gnutls_server_name_get(c->tls, c->sni, &n, &type, 0) || type != GNUTLS_NAME_DNS)
    n = 0;
  c->sni[n] = 0;
  for (char *p = c->sni; *p; p++)
    *p = (char)tolower((unsigned char)*p);
}

/* The server knows what the client offers: from here on what is chosen depends on it. */
static int on_client_hello(gnutls_session_t tls) {
  struct quic_conn *c = ((ngtcp2_crypto_conn_ref *)gnutls_session_get_ptr(tls))->user_data;
  struct quic_endpoint *e = c->ep;
  quic_tls_agreed(c);
  if (!c->alpn[0]) {
    c->tls_err = BEAM_ERR_PROTOCOL;
    return GNUTLS_E_NO_APPLICATION_PROTOCOL;
  }
  struct tls_cert *cert = e->conf.choose(e->conf.user, c->sni, c->alpn);
  struct quic_credential *k = cert ? credential_of(e, cert) : NULL;
  tls_cert_unref(cert);
  if (!k) {
    c->tls_err = BEAM_ERR_NAME;
    return GNUTLS_E_UNRECOGNIZED_NAME;
  }
  credential_unref(c->credential); /* of an earlier hello that was answered with a retry request */
  c->credential = k;
  k->refs++;
  int err = gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, k->cred);
  return err ? err : set_ciphers(tls, !strcmp(c->alpn, "beam/1"));
}

/* --- sessions --- */

static int tls_error(int err) {
  log_limited(BEAM_LOG_ERROR, "quic", "tls not set up what=\"%s\"", gnutls_strerror(err));
  return err == GNUTLS_E_MEMORY_ERROR ? BEAM_ERR_NOMEM : BEAM_ERR_TLS;
}

int quic_tls_server_begin(struct quic_conn *c) {
  int err = gnutls_init(&c->tls, GNUTLS_SERVER | GNUTLS_NO_AUTO_SEND_TICKET | GNUTLS_NO_END_OF_EARLY_DATA |
                                     (c->ep->ticket_key ? GNUTLS_ENABLE_EARLY_DATA : 0));
  if (err)
    return tls_error(err);
  if ((err = set_ciphers(c->tls, false)) || (err = offer(c->tls, c->ep->conf.alpn)) ||
      (err = ngtcp2_crypto_gnutls_configure_server_session(c->tls)) || (err = quic_ticket_server(c)))
    return tls_error(err);
  gnutls_handshake_set_post_client_hello_function(c->tls, on_client_hello);
  /* Until the client's hello says which certificate: none. */
  if ((err = gnutls_certificate_allocate_credentials(&c->cred)) ||
      (err = gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, c->cred)))
    return tls_error(err);
  if (c->ep->conf.client_cert)
    gnutls_certificate_server_set_request(c->tls, GNUTLS_CERT_REQUEST);
  return 0;
}

int quic_tls_client_begin(struct quic_conn *c, const struct quic_client_conf *conf) {
  const char *name = conf->tls.server_name;
  c->trust = conf->tls;
  int err = gnutls_init(&c->tls, GNUTLS_CLIENT | GNUTLS_NO_END_OF_EARLY_DATA |
                                     (conf->early_n ? GNUTLS_ENABLE_EARLY_DATA : 0));
  if (err)
    return tls_error(err);
  if ((err = set_ciphers(c->tls, conf->tls.link)) || (err = offer(c->tls, conf->tls.alpn)) ||
      (err = ngtcp2_crypto_gnutls_configure_client_session(c->tls)) ||
      (err = gnutls_certificate_allocate_credentials(&c->cred)))
    return tls_error(err);
  gnutls_certificate_set_verify_function(c->cred, quic_verify_peer);
  quic_ticket_client(c);
  if (conf->tls.cert && (err = load(c->cred, conf->tls.cert)))
    return err;
  if ((err = gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, c->cred)))
    return tls_error(err);
  bool is_name = name && *name && !strchr(name, ':') && name[strspn(name, "0123456789.")]; /* RFC 6066 3 */
  if (is_name && (err = gnutls_server_name_set(c->tls, GNUTLS_NAME_DNS, name, strlen(name))))
    return tls_error(err);
  return 0;
}

void quic_tls_end(struct quic_conn *c) {
  if (c->tls)
    gnutls_deinit(c->tls);
  if (c->cred)
    gnutls_certificate_free_credentials(c->cred);
  credential_unref(c->credential);
  c->tls = NULL;
  c->cred = NULL;
  c->credential = NULL;
}

int quic_conn_exporter(struct quic_conn *c, uint8_t out[TLS_EXPORT_BYTES]) {
  static const char label[] = "EXPORTER-beam-1";
  if (!c->up || !c->tls)
    return c->dead ? BEAM_ERR_CLOSED : BEAM_AGAIN;
  return gnutls_prf_rfc5705(c->tls, sizeof label - 1, label, 0, NULL, TLS_EXPORT_BYTES, (char *)out)
             ? BEAM_ERR_UNSUPPORTED
             : 0;
}
