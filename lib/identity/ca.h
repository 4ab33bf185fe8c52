/* ca.h: the relay's own certificate authority (P-256) and its Ed25519 identity, made at its first start.
 * In dir: ca.pem (0644, for users' --relay-ca), ca.key and relay.key (0600). Processes that start at once on one dir get the same CA. */
#ifndef IDENTITY_CA_H
#define IDENTITY_CA_H

#include "identity/cert.h"
#include "identity/key.h"

struct ca;

/* Load or make it. Damaged, mismatching or readable-by-others files are errors with text and stay as they are. */
int ca_load(const char *dir, struct ca **out, struct beam_error *e);
int ca_ephemeral(struct ca **out, struct beam_error *e); /* memory only: tests, the sim */
void ca_free(struct ca *ca);

const uint8_t *ca_fingerprint(
    const struct ca
        *ca); /* SHA-256 of the certificate, 32 bytes: the relay's id on the wire and what agents pin */
const char *ca_fingerprint_text(const struct ca *ca); /* "sha256:..." */
const char *ca_file(const struct ca *ca);             /* path of ca.pem, "" when ephemeral */
const char *ca_pem(const struct ca *ca);              /* the certificate */
const struct key *ca_relay_key(const struct ca *ca);

enum ca_use {
  CA_SERVER, /* towards visitors: serverAuth, chain is the leaf alone (clients have the root or do not trust it) */
  CA_LINK,   /* beam/1: serverAuth, chain is leaf + CA, so that the agent can compare its pin */
  CA_CLIENT, /* devices: clientAuth */
};
enum { CA_LEAF_HOURS_MAX = 7 * 24 };

/* A new P-256 key and a certificate for exactly these names (DNS names or addresses, never a wildcard), valid from one hour ago for `hours`.
 * Any thread. INVALID (a wildcard or no name), NOMEM, INTERNAL. */
int ca_issue(struct ca *ca, const char *const *names, size_t n, enum ca_use use, unsigned hours,
             struct cert **out, struct beam_error *e);

#endif
