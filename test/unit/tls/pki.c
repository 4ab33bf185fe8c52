#include "pki.h"

#include <arpa/inet.h>
#include <mbedtls/asn1write.h>
#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>
#include <mbedtls/x509_crt.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tls/context.h"

static void make_key(struct pki_cert *c) {
  mbedtls_pk_init(&c->key);
  assert_int_equal(mbedtls_pk_setup(&c->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
  assert_int_equal(mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(c->key), tls_rng, NULL), 0);
  assert_int_equal(mbedtls_pk_write_key_pem(&c->key, (unsigned char *)c->key_pem, sizeof c->key_pem), 0);
}

static void write_cert(mbedtls_x509write_cert *w, struct pki_cert *c) {
  unsigned char der[2048], pem[4096];
  size_t pem_n = 0;
  int n = mbedtls_x509write_crt_der(w, der, sizeof der, tls_rng, NULL);
  assert_true(n > 0);
  crypto_hash_sha256(c->sha256, der + sizeof der - n, (unsigned long long)n);
  assert_int_equal(mbedtls_pem_write_buffer("-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n",
                                            der + sizeof der - n, (size_t)n, pem, sizeof pem, &pem_n),
                   0);
  memcpy(c->pem, pem, pem_n);
  mbedtls_x509write_crt_free(w);
}

static void begin(mbedtls_x509write_cert *w, struct pki_cert *subject, const char *subject_name,
                  const struct pki_cert *issuer, const char *issuer_name, bool expired) {
  static unsigned char serial = 1;
  char cn[128];
  mbedtls_x509write_crt_init(w);
  mbedtls_x509write_crt_set_version(w, MBEDTLS_X509_CRT_VERSION_3);
  mbedtls_x509write_crt_set_md_alg(w, MBEDTLS_MD_SHA256);
  mbedtls_x509write_crt_set_subject_key(w, &subject->key);
  mbedtls_x509write_crt_set_issuer_key(w, (mbedtls_pk_context *)&issuer->key);
  serial++;
  assert_int_equal(mbedtls_x509write_crt_set_serial_raw(w, &serial, 1), 0);
  snprintf(cn, sizeof cn, "CN=%s", subject_name);
  assert_int_equal(mbedtls_x509write_crt_set_subject_name(w, cn), 0);
  snprintf(cn, sizeof cn, "CN=%s", issuer_name);
  assert_int_equal(mbedtls_x509write_crt_set_issuer_name(w, cn), 0);
  assert_int_equal(
      mbedtls_x509write_crt_set_validity(w, "20200101000000", expired ? "20210101000000" : "20991231235959"),
      0);
}

void pki_ca(struct pki_cert *ca, const char *name) {
  mbedtls_x509write_cert w;
  assert_int_equal(tls_init(), 0);
  memset(ca, 0, sizeof *ca);
  make_key(ca);
  begin(&w, ca, name, ca, name, false);
  assert_int_equal(mbedtls_x509write_crt_set_basic_constraints(&w, 1, 0), 0);
  assert_int_equal(mbedtls_x509write_crt_set_key_usage(&w, MBEDTLS_X509_KU_KEY_CERT_SIGN), 0);
  write_cert(&w, ca);
}

void pki_leaf(const struct pki_cert *ca, const char *ca_name, struct pki_cert *leaf, const char *dns,
              const char *address, int flags) {
  mbedtls_x509write_cert w;
  uint8_t ip[4];
  memset(leaf, 0, sizeof *leaf);
  make_key(leaf);
  begin(&w, leaf, dns ? dns : "leaf", ca, ca_name, flags & PKI_EXPIRED);
  mbedtls_x509_san_list by_address = {.node = {.type = MBEDTLS_X509_SAN_IP_ADDRESS}},
                        by_name = {.node = {.type = MBEDTLS_X509_SAN_DNS_NAME}};
  mbedtls_x509_san_list *list = NULL;
  if (address) {
    assert_int_equal(inet_pton(AF_INET, address, ip), 1);
    by_address.node.san.unstructured_name.p = ip;
    by_address.node.san.unstructured_name.len = sizeof ip;
    list = &by_address;
  }
  if (dns) {
    by_name.node.san.unstructured_name.p = (unsigned char *)dns;
    by_name.node.san.unstructured_name.len = strlen(dns);
    by_name.next = list;
    list = &by_name;
  }
  if (list)
    assert_int_equal(mbedtls_x509write_crt_set_subject_alternative_name(&w, list), 0);
  mbedtls_asn1_sequence eku = {
      .buf = {MBEDTLS_ASN1_OID, 8,
              (unsigned char *)(flags & PKI_CLIENT ? MBEDTLS_OID_CLIENT_AUTH : MBEDTLS_OID_SERVER_AUTH)}};
  assert_int_equal(mbedtls_x509write_crt_set_ext_key_usage(&w, &eku), 0);
  write_cert(&w, leaf);
  size_t n = strlen(leaf->pem);
  snprintf(leaf->pem + n, sizeof leaf->pem - n, "%s", ca->pem);
}

void pki_free(struct pki_cert *c) {
  mbedtls_pk_free(&c->key);
}

struct tls_cert *pki_tls_cert(const struct pki_cert *c) {
  struct tls_cert *out = NULL;
  assert_int_equal(tls_cert_new(c->pem, strlen(c->pem), c->key_pem, strlen(c->key_pem), &out), 0);
  return out;
}
