/* verify.c: what is asked of a peer's certificate chain beyond what mbedTLS checks. mbedTLS builds the chain and calls once for each certificate,
 * from the top down to the leaf, with the faults it found; here is decided which faults count. */
#include <arpa/inet.h>
#include <beam/beam.h>
#include <sodium.h>
#include <string.h>

#include "tls/context.h"

bool name_is_address(const char *name) {
  uint8_t a[16];
  return inet_pton(AF_INET, name, a) == 1 || inet_pton(AF_INET6, name, a) == 1;
}

/* mbedTLS compares server_name with DNS names, but sends it as SNI too, where addresses must not be (RFC 6066 3): those are compared here. */
static bool covers_address(const mbedtls_x509_crt *leaf, const char *name) {
  enum { IP_ADDRESS = 7 };
  uint8_t a[16];
  size_t n = inet_pton(AF_INET, name, a) == 1 ? 4 : inet_pton(AF_INET6, name, a) == 1 ? 16 : 0;
  for (const mbedtls_x509_sequence *san = &leaf->subject_alt_names; n && san; san = san->next)
    if ((san->buf.tag & 0x1f) == IP_ADDRESS && san->buf.len == n && !memcmp(san->buf.p, a, n))
      return true;
  return false;
}

static bool same_name(const mbedtls_x509_buf *a, const mbedtls_x509_buf *b) {
  return a->len == b->len && !memcmp(a->p, b->p, a->len);
}

static uint32_t faults_that_count(const struct verdict *v, const mbedtls_x509_crt *crt, bool top,
                                  uint32_t faults) {
  const struct tls_context *ctx = v->ctx;
  if (ctx->trust == TLS_TRUST_ANY)
    return 0;
  /* The end of the chain is trusted or not by verify(), which knows the pin. */
  if (ctx->trust == TLS_TRUST_CHAIN && top && same_name(&crt->issuer_raw, &crt->subject_raw))
    faults &= ~(uint32_t)MBEDTLS_X509_BADCERT_NOT_TRUSTED;
  if (ctx->trust == TLS_TRUST_CHAIN || ctx->name_any)
    faults &= ~(uint32_t)MBEDTLS_X509_BADCERT_CN_MISMATCH;
  return faults;
}

static int ask_owner(struct verdict *v, const mbedtls_x509_crt *leaf) {
  struct tls_peer peer = {0};
  const mbedtls_x509_crt *c = leaf, *last;
  do {
    peer.chain[peer.count].der = c->raw.p;
    peer.chain[peer.count++].n = c->raw.len;
    last = c;
  } while ((c = c->next) && peer.count < TLS_CHAIN_MAX);
  crypto_hash_sha256(v->leaf_sha256, leaf->raw.p, leaf->raw.len);
  if (v->ctx->trust == TLS_TRUST_ANY)
    crypto_hash_sha256(v->ca_sha256, last->raw.p, last->raw.len);
  memcpy(peer.leaf_sha256, v->leaf_sha256, sizeof peer.leaf_sha256);
  memcpy(peer.ca_sha256, v->ca_sha256, sizeof peer.ca_sha256);
  return v->ctx->verify ? v->ctx->verify(v->ctx->user, &peer) : 0;
}

int verdict_on_certificate(void *arg, mbedtls_x509_crt *crt, int depth, uint32_t *flags) {
  struct verdict *v = arg;
  bool top = !v->seen;
  v->seen = true;
  if (top)
    crypto_hash_sha256(v->ca_sha256, crt->raw.p, crt->raw.len);
  *flags = faults_that_count(v, crt, top, *flags);
  const struct tls_context *ctx = v->ctx;
  if (!depth && ctx->trust == TLS_TRUST_CA && ctx->server_name && !ctx->name_any &&
      name_is_address(ctx->server_name) && !covers_address(crt, ctx->server_name))
    *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
  if (*flags)
    v->broken = true;
  if (depth)
    return 0;
  if (v->broken)
    v->err = BEAM_ERR_UNTRUSTED;
  else
    v->err = ask_owner(v, crt);
  /* Flags alone would not end a handshake where the certificate is optional. For a fault they choose the alert, so keep them there. */
  if (!v->err || (*flags && ctx->cert_required))
    return 0;
  return MBEDTLS_ERR_X509_FATAL_ERROR;
}
