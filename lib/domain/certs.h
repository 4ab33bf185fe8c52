/* certs.h: the certificate for each name: one leaf per exact name from the relay's CA, renewed daily, or the owner's wildcard.
 * Snapshots are refcounted and immutable; every function may be called from any thread. */
#ifndef DOMAIN_CERTS_H
#define DOMAIN_CERTS_H

#include "identity/ca.h"

struct certs;
struct tls_cert;

/* With cert_file/key_file (else NULL): validated (cert_load) and must cover *.base or be refused with text. Borrows ca. */
int certs_new(struct ca *ca, const char *base, const char *cert_file, const char *key_file,
              struct certs **out, struct beam_error *e);
void certs_free(struct certs *c);

/* A name is bound: mint its leaf now (about a millisecond) unless the wildcard covers it. Counted: each add needs a drop. NOMEM, INTERNAL. */
int certs_add(struct certs *c, const char *name, struct beam_error *e);
void certs_drop(struct certs *c, const char *name);

/* What to show for this SNI: a new reference, or NULL when the name is not ours (a stranger's SNI never causes minting). Renews a leaf older than a day. */
struct tls_cert *certs_get(struct certs *c, const char *name);
/* The same as bytes. */
struct cert *certs_get_cert(struct certs *c, const char *name);
/* The leaf of the beam/1 link: of the relay CA, never the public one. */
struct tls_cert *certs_get_link(struct certs *c);

#endif
