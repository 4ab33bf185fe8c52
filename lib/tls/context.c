/* context.c: one side's settings as mbedTLS wants them. */
#include <beam/beam.h>
#include <mbedtls/ssl_ciphersuites.h>
#include <psa/crypto.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/str.h"
#include "tls/aead.h"
#include "tls/context.h"

/* --- once per process --- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int init_err;

static void init(void) {
  init_err = base_init();
  if (!init_err && psa_crypto_init() != PSA_SUCCESS)
    init_err = BEAM_ERR_SYSTEM;
}

int tls_init(void) {
  pthread_once(&once, init);
  return init_err;
}

int tls_rng(void *unused, unsigned char *out, size_t n) {
  (void)unused;
  random_bytes(out, n);
  return 0;
}

/* --- what is spoken --- */

/* Forward secrecy and an AEAD, or nothing. The order counts in 1.2, and in 1.3 for what our clients offer. */
#define SUITES_1_2_AES                                                                                       \
  MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,            \
      MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
#define SUITES_1_2_CHACHA                                                                                    \
  MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
static const int suites_aes_first[] = {MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
                                       MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
                                       MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
                                       SUITES_1_2_AES,
                                       SUITES_1_2_CHACHA,
                                       0};
static const int suites_chacha_first[] = {MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
                                          MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
                                          MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
                                          SUITES_1_2_CHACHA,
                                          SUITES_1_2_AES,
                                          0};
/* TLS 1.3 goes by the client's order, so a server gives it no choice where it likes the offer (offer.h). */
static const int suites_aes_only[] = {MBEDTLS_TLS1_3_AES_256_GCM_SHA384, SUITES_1_2_AES, SUITES_1_2_CHACHA,
                                      0};
static const int suites_chacha_only[] = {MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256, SUITES_1_2_CHACHA,
                                         SUITES_1_2_AES, 0};
static const int suites_link[] = {MBEDTLS_TLS1_3_AES_256_GCM_SHA384, 0};

static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_X25519, MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
                                  MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1, MBEDTLS_SSL_IANA_TLS_GROUP_NONE};
/* mbedTLS is half again as fast with P-256 as with X25519, and between our own ends that is all there is to it. */
static const uint16_t groups_link[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
                                       MBEDTLS_SSL_IANA_TLS_GROUP_X25519, MBEDTLS_SSL_IANA_TLS_GROUP_NONE};

/* --- life --- */

static struct tls_context *make(void) {
  struct tls_context *c = calloc(1, sizeof *c);
  if (!c)
    return NULL;
  atomic_init(&c->refs, 1);
  pthread_mutex_init(&c->lock, NULL);
  mbedtls_ssl_config_init(&c->conf);
  mbedtls_x509_crt_init(&c->ca);
  mbedtls_ssl_session_init(&c->session);
  return c;
}

struct tls_context *tls_context_ref(struct tls_context *c) {
  if (c)
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
  return c;
}

void tls_context_unref(struct tls_context *c) {
  if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
    return;
  mbedtls_ssl_config_free(&c->conf);
  mbedtls_x509_crt_free(&c->ca);
  mbedtls_ssl_session_free(&c->session);
  for (size_t i = 0; c->alpn[i]; i++)
    free((void *)c->alpn[i]);
  free(c->server_name);
  tls_tickets_unref(c->tickets);
  tls_cert_unref(c->cert);
  pthread_mutex_destroy(&c->lock);
  free(c);
}

/* --- settings both sides have --- */

struct common {
  const char *const *alpn;
  enum tls_trust trust;
  const void *ca;
  size_t ca_n;
  tls_verify verify;
  void *user;
  uint16_t min_version;
  bool link;
  bool ca_some;
};

static int set_alpn(struct tls_context *c, const char *const *alpn) {
  for (size_t i = 0; alpn && alpn[i]; i++) {
    if (i == ALPN_MAX || strlen(alpn[i]) >= sizeof((struct tls_info *)0)->alpn)
      return BEAM_ERR_INVALID;
    if (!(c->alpn[i] = str_dup(alpn[i])))
      return BEAM_ERR_NOMEM;
  }
  return c->alpn[0] && mbedtls_ssl_conf_alpn_protocols(&c->conf, c->alpn) ? BEAM_ERR_INVALID : 0;
}

static int set_common(struct tls_context *c, const struct common *k) {
  if (mbedtls_ssl_config_defaults(&c->conf, c->server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                  MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT))
    return BEAM_ERR_NOMEM;
  c->trust = k->trust;
  c->verify = k->verify;
  c->user = k->user;
  mbedtls_ssl_conf_rng(&c->conf, tls_rng, NULL);
  bool only_1_3 = k->link || k->min_version == TLS_1_3;
  mbedtls_ssl_conf_min_tls_version(&c->conf,
                                   only_1_3 ? MBEDTLS_SSL_VERSION_TLS1_3 : MBEDTLS_SSL_VERSION_TLS1_2);
  mbedtls_ssl_conf_max_tls_version(&c->conf, MBEDTLS_SSL_VERSION_TLS1_3);
  mbedtls_ssl_conf_ciphersuites(&c->conf, k->link              ? suites_link
                                          : aead_aes_is_fast() ? suites_aes_first
                                                               : suites_chacha_first);
  mbedtls_ssl_conf_groups(&c->conf, k->link ? groups_link : groups);
  int err = k->ca_n ? tls_parse_chain(&c->ca, k->ca, k->ca_n) : 0;
  if (err == BEAM_ERR_INVALID && k->ca_some && c->ca.raw.p)
    err = 0;
  mbedtls_ssl_conf_ca_chain(&c->conf, &c->ca, NULL);
  return err ? err : set_alpn(c, k->alpn);
}

/* Resumption goes through a fresh key exchange always; a link's does not happen at all. */
static void set_resumption(struct tls_context *c, bool on) {
  mbedtls_ssl_conf_session_tickets(&c->conf, on ? MBEDTLS_SSL_SESSION_TICKETS_ENABLED
                                                : MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
  mbedtls_ssl_conf_tls13_key_exchange_modes(&c->conf,
                                            on ? MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL |
                                                     MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_PSK_EPHEMERAL
                                               : MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL);
}

/* A chain that ends in anybody's certificate proves nothing until somebody compares a pin. */
static bool trust_makes_sense(enum tls_trust trust, size_t ca_n, tls_verify verify) {
  return trust == TLS_TRUST_CA ? ca_n > 0 : trust == TLS_TRUST_CHAIN ? verify != NULL : true;
}

/* --- the two sides --- */

static int server_settings(struct tls_context *c, const struct tls_server_config *config) {
  if (!config->choose)
    return BEAM_ERR_INVALID;
  if (config->client_cert && !trust_makes_sense(config->trust, config->ca_n, config->verify))
    return BEAM_ERR_INVALID;
  struct common common = {config->alpn, config->trust,       config->ca,   config->ca_n, config->verify,
                          config->user, config->min_version, config->link, false};
  int err = set_common(c, &common);
  if (err)
    return err;
  c->choose = config->choose;
  c->cert_required = config->client_cert == TLS_CLIENT_CERT_REQUIRED;
  mbedtls_ssl_conf_authmode(&c->conf, !config->client_cert ? MBEDTLS_SSL_VERIFY_NONE
                                      : c->cert_required   ? MBEDTLS_SSL_VERIFY_REQUIRED
                                                           : MBEDTLS_SSL_VERIFY_OPTIONAL);
  mbedtls_ssl_conf_cert_cb(&c->conf, handshake_choose_cert);
  bool resume = config->tickets && !config->link;
  set_resumption(c, resume);
  if (resume) {
    c->tickets = tls_tickets_ref(config->tickets);
    mbedtls_ssl_conf_session_tickets_cb(&c->conf, tickets_write, tickets_parse, c->tickets);
    mbedtls_ssl_conf_new_session_tickets(&c->conf, 2); /* two: a browser opens two connections next time */
  } else {
    mbedtls_ssl_conf_new_session_tickets(&c->conf, 0);
  }
  if (config->link)
    return 0;
  bool aes = aead_aes_is_fast();
  c->conf_first = c->conf;
  c->suite_first = aes ? MBEDTLS_TLS1_3_AES_256_GCM_SHA384 : MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256;
  mbedtls_ssl_conf_ciphersuites(&c->conf_first, aes ? suites_aes_only : suites_chacha_only);
  return 0;
}

int tls_server_context(const struct tls_server_config *config, struct tls_context **out) {
  int err = tls_init();
  struct tls_context *c = err ? NULL : make();
  if (!c)
    return err ? err : BEAM_ERR_NOMEM;
  c->server = true;
  err = server_settings(c, config);
  if (err) {
    tls_context_unref(c);
    return err;
  }
  *out = c;
  return 0;
}

static int client_settings(struct tls_context *c, const struct tls_client_config *config) {
  if (!trust_makes_sense(config->trust, config->ca_n, config->verify) ||
      (config->trust == TLS_TRUST_CA && !config->server_name && !config->name_any))
    return BEAM_ERR_INVALID;
  struct common common = {config->alpn, config->trust,       config->ca,   config->ca_n,   config->verify,
                          config->user, config->min_version, config->link, config->ca_some};
  int err = set_common(c, &common);
  if (err)
    return err;
  c->alpn_required = config->alpn_required;
  c->name_any = config->name_any;
  c->cert_required = true;
  c->resume = config->resume && !config->link;
  if (config->server_name && !(c->server_name = str_dup(config->server_name)))
    return BEAM_ERR_NOMEM;
  /* Optional where nothing counts: else mbedTLS would still refuse odd key usages. */
  mbedtls_ssl_conf_authmode(&c->conf, config->trust == TLS_TRUST_ANY ? MBEDTLS_SSL_VERIFY_OPTIONAL
                                                                     : MBEDTLS_SSL_VERIFY_REQUIRED);
  set_resumption(c, c->resume);
  mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(
      &c->conf, c->resume ? MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED
                          : MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_DISABLED);
  if (!config->cert)
    return 0;
  c->cert = tls_cert_ref(config->cert);
  return mbedtls_ssl_conf_own_cert(&c->conf, &c->cert->chain, &c->cert->key) ? BEAM_ERR_NOMEM : 0;
}

int tls_client_context(const struct tls_client_config *config, struct tls_context **out) {
  int err = tls_init();
  struct tls_context *c = err ? NULL : make();
  if (!c)
    return err ? err : BEAM_ERR_NOMEM;
  err = client_settings(c, config);
  if (err) {
    tls_context_unref(c);
    return err;
  }
  *out = c;
  return 0;
}
