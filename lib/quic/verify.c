/* verify.c: the peer's certificate chain: sound by GnuTLS, then whatever the owner's verify() makes of it. The same rules as on TLS over TCP
 * (tls/tls.h, enum tls_trust).
 */
#include <arpa/inet.h>
#include <beam/beam.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "quic/conn.h"

struct chain {
  gnutls_x509_crt_t crt[TLS_CHAIN_MAX];
  unsigned count;
  struct tls_peer peer;
};

static int import(struct chain *k, const gnutls_datum_t *der, unsigned count) {
  if (!count || count > TLS_CHAIN_MAX)
    return BEAM_ERR_UNTRUSTED;
  for (; k->count < count; k->count++) {
    gnutls_x509_crt_t *crt = &k->crt[k->count];
    if (gnutls_x509_crt_init(crt))
      return BEAM_ERR_NOMEM;
    if (gnutls_x509_crt_import(*crt, &der[k->count], GNUTLS_X509_FMT_DER)) {
      gnutls_x509_crt_deinit(*crt);
      return BEAM_ERR_UNTRUSTED;
    }
    k->peer.chain[k->count].der = der[k->count].data;
    k->peer.chain[k->count].n = der[k->count].size;
  }
  k->peer.count = count;
  hash_sha256(k->peer.leaf_sha256, der[0].data, der[0].size);
  hash_sha256(k->peer.ca_sha256, der[count - 1].data, der[count - 1].size);
  return 0;
}

static bool covers(gnutls_x509_crt_t leaf, const char *name) {
  uint8_t a[16];
  unsigned n = inet_pton(AF_INET, name, a) == 1 ? 4 : inet_pton(AF_INET6, name, a) == 1 ? 16 : 0;
  return n ? gnutls_x509_crt_check_ip(leaf, a, n, 0) != 0 : gnutls_x509_crt_check_hostname(leaf, name) != 0;
}

/* Which certificate the chain was verified up to. */
static void note_anchor(struct chain *k, gnutls_x509_trust_list_t anchors) {
  gnutls_x509_crt_t ca;
  gnutls_datum_t der;
  if (gnutls_x509_trust_list_get_issuer(anchors, k->crt[k->count - 1], &ca, 0))
    return; /* the last one is itself trusted: noted already */
  if (!gnutls_x509_crt_export2(ca, GNUTLS_X509_FMT_DER, &der)) {
    hash_sha256(k->peer.ca_sha256, der.data, der.size);
    gnutls_free(der.data);
  }
}

static bool has_anchor(gnutls_x509_trust_list_t anchors, struct chain *k,
                       const struct tls_client_config *trust) {
  if (trust->trust == TLS_TRUST_CA) {
    gnutls_datum_t ca = {(uint8_t *)trust->ca, (unsigned)trust->ca_n};
    bool pem = memmem(trust->ca, trust->ca_n, "-----BEGIN ", 11) != NULL;
    return gnutls_x509_trust_list_add_trust_mem(anchors, &ca, NULL,
                                                pem ? GNUTLS_X509_FMT_PEM : GNUTLS_X509_FMT_DER, 0, 0) > 0;
  }
  /* The chain's own end, if it is an end; verify() knows whether that one is ours. */
  gnutls_x509_crt_t last = k->crt[k->count - 1];
  return gnutls_x509_crt_check_issuer(last, last) &&
         gnutls_x509_trust_list_add_cas(anchors, &last, 1, 0) == 1;
}

static int check(struct chain *k, const struct tls_client_config *trust, bool server) {
  gnutls_x509_trust_list_t anchors;
  unsigned faults = GNUTLS_CERT_INVALID;
  gnutls_typed_vdata_st purpose = {
      .type = GNUTLS_DT_KEY_PURPOSE_OID,
      .data = (uint8_t *)(server ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT)};
  if (trust->trust == TLS_TRUST_ANY)
    return 0;
  if (gnutls_x509_trust_list_init(&anchors, 0))
    return BEAM_ERR_NOMEM;
  bool sound =
      has_anchor(anchors, k, trust) &&
      !gnutls_x509_trust_list_verify_crt2(anchors, k->crt, k->count, &purpose, 1, 0, &faults, NULL) &&
      !faults;
  if (sound)
    note_anchor(k, anchors);
  gnutls_x509_trust_list_deinit(anchors, trust->trust == TLS_TRUST_CA); /* else they are of the chain */
  if (sound && trust->trust == TLS_TRUST_CA && trust->server_name && !trust->name_any)
    sound = covers(k->crt[0], trust->server_name);
  if (!sound)
    log_limited(BEAM_LOG_INFO, "quic", "certificate refused faults=0x%x", faults);
  return sound ? 0 : BEAM_ERR_UNTRUSTED;
}

static int note_client(struct quic_conn *c, const struct chain *k) {
  gnutls_x509_crt_t leaf = k->crt[0];
  struct quic_client *client = c->client ? c->client : calloc(1, sizeof *client);
  if (!client)
    return BEAM_ERR_NOMEM;
  c->client = client;
  memcpy(client->sha256, k->peer.leaf_sha256, sizeof client->sha256);
  client->not_after = gnutls_x509_crt_get_expiration_time(leaf);
  size_t n = sizeof client->name - 1;
  int type = gnutls_x509_crt_get_subject_alt_name(leaf, 0, client->name, &n, NULL);
  if (type != GNUTLS_SAN_DNSNAME) {
    n = sizeof client->name - 1;
    if (gnutls_x509_crt_get_dn_by_oid(leaf, GNUTLS_OID_X520_COMMON_NAME, 0, 0, client->name, &n))
      n = 0;
  }
  client->name[n] = 0;
  if (strlen(client->name) != n)
    client->name[0] = 0; /* a name with a NUL in it is a trick */
  return 0;
}

bool quic_verify_can(const struct quic_server_conf *conf) {
  return !conf->client_cert || (conf->ca ? conf->ca_n > 0 : conf->verify != NULL);
}

const struct quic_client *quic_conn_client(const struct quic_conn *c) {
  return c->up ? c->client : NULL;
}

int quic_verify_peer(gnutls_session_t tls) {
  struct quic_conn *c = ((ngtcp2_crypto_conn_ref *)gnutls_session_get_ptr(tls))->user_data;
  struct tls_client_config of_client = {.trust = c->ep->conf.ca ? TLS_TRUST_CA : TLS_TRUST_CHAIN,
                                        .ca = c->ep->conf.ca,
                                        .ca_n = c->ep->conf.ca_n,
                                        .verify = c->ep->conf.verify,
                                        .user = c->ep->conf.user};
  const struct tls_client_config *trust = c->server ? &of_client : &c->trust;
  struct chain k = {.count = 0};
  unsigned count = 0;
  const gnutls_datum_t *der = gnutls_certificate_get_peers(tls, &count);
  if (c->server && !count)
    return 0; /* none was shown */
  int err = import(&k, der, der ? count : 0);
  if (!err)
    err = check(&k, trust, !c->server);
  if (!err && trust->verify)
    err = trust->verify(trust->user, &k.peer);
  if (!err && c->server)
    err = note_client(c, &k);
  for (unsigned i = 0; i < k.count; i++)
    gnutls_x509_crt_deinit(k.crt[i]);
  c->tls_err = err;
  return err ? GNUTLS_E_CERTIFICATE_ERROR : 0;
}
