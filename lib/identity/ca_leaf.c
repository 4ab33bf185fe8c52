#include "identity/ca.h"

#include <arpa/inet.h>
#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "identity/x509.h"
#include "wire/host.h"

enum { NAMES_MAX = 16 };

size_t x509_ip(const char *host, uint8_t ip[16]) {
  if (inet_pton(AF_INET, host, ip) == 1)
    return 4;
  return inet_pton(AF_INET6, host, ip) == 1 ? 16 : 0;
}

/* The names as mbedTLS wants them; `ips` keeps the addresses' bytes. */
static int fill_names(const char *const *names, size_t n, mbedtls_x509_san_list list[NAMES_MAX],
                      uint8_t ips[NAMES_MAX][16], struct beam_error *e) {
  if (!n || n > NAMES_MAX)
    return err_set(e, BEAM_ERR_INVALID, NULL, "a certificate is for 1 to %d names, not for %zu", NAMES_MAX,
                   n);
  memset(list, 0, n * sizeof list[0]);
  for (size_t i = 0; i < n; i++) {
    mbedtls_x509_subject_alternative_name *node = &list[i].node;
    size_t ip_n = x509_ip(names[i], ips[i]);
    if (!ip_n && !host_name_ok(span_of(names[i])))
      return err_set(e, BEAM_ERR_INVALID, NULL,
                     "no certificate can be made for \"%.100s\": exact host names only", names[i]);
    node->type = ip_n ? MBEDTLS_X509_SAN_IP_ADDRESS : MBEDTLS_X509_SAN_DNS_NAME;
    node->san.unstructured_name.tag = (unsigned char)node->type;
    node->san.unstructured_name.p =
        ip_n ? ips[i] : (unsigned char *)(uintptr_t)names[i]; /* mbedTLS only reads */
    node->san.unstructured_name.len = ip_n ? ip_n : strlen(names[i]);
    list[i].next = i + 1 < n ? &list[i + 1] : NULL;
  }
  return 0;
}

static void fill_plan(struct leaf_plan *plan, const char *name, enum ca_use use, unsigned hours) {
  memset(&plan->usage, 0, sizeof plan->usage);
  plan->usage.buf.tag = MBEDTLS_ASN1_OID;
  plan->usage.buf.p =
      (unsigned char *)(uintptr_t)(use == CA_CLIENT ? MBEDTLS_OID_CLIENT_AUTH : MBEDTLS_OID_SERVER_AUTH);
  plan->usage.buf.len = use == CA_CLIENT ? MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH)
                                         : MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH);
  /* X.520 allows 64 characters; nobody looks at it any more. */
  str_fmt(plan->subject, sizeof plan->subject, "CN=%s", strlen(name) <= 64 ? name : "Beam");
  plan->seconds = (int64_t)hours * 3600;
  plan->with_ca = use == CA_LINK;
}

int ca_issue(struct ca *ca, const char *const *names, size_t n, enum ca_use use, unsigned hours,
             struct cert **out, struct beam_error *e) {
  *out = NULL;
  mbedtls_x509_san_list list[NAMES_MAX];
  uint8_t ips[NAMES_MAX][16];
  if (!hours || hours > CA_LEAF_HOURS_MAX)
    return err_set(e, BEAM_ERR_INVALID, NULL, "a certificate lasts 1 to %d hours, not %u", CA_LEAF_HOURS_MAX,
                   hours);
  int err = fill_names(names, n, list, ips, e);
  if (err)
    return err;
  struct leaf_plan plan = {.names = list};
  fill_plan(&plan, names[0], use, hours);

  mbedtls_pk_context key;
  mbedtls_x509_crt chain;
  mbedtls_pk_init(&key);
  mbedtls_x509_crt_init(&chain);
  int code = mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
  if (!code)
    code = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key), x509_random, NULL);
  if (!code)
    code = ca_sign(ca, &plan, &key, &chain);
  if (code) {
    char why[128];
    err = err_set(e, BEAM_ERR_INTERNAL, NULL, "cannot make a certificate for %.100s: %s", names[0],
                  x509_why(code, why, sizeof why));
  } else if ((err = cert_from(&chain, &key, out))) {
    err_set(e, err, NULL, "no memory for a certificate");
  }
  mbedtls_pk_free(&key);
  mbedtls_x509_crt_free(&chain);
  return err;
}
