/* certs.h: the certificate for each name: one leaf per exact name from the relay's CA, renewed daily, or the owner's wildcard.
 * Snapshots are refcounted and immutable; every function may be called from any thread. Names are lower case, as host_fold() gives them. */
#ifndef DOMAIN_CERTS_H
#define DOMAIN_CERTS_H

#include "identity/ca.h"

struct certs;
struct tls_cert;

/* With cert_file and key_file (else NULL): validated (cert_load), and refused with text unless they cover *.base, a base of two labels or more.
 * Borrows ca. INVALID, NOT_FOUND, PERMISSION, NOMEM, INTERNAL. */
int certs_new(struct ca *ca, const char *base, const char *cert_file, const char *key_file,
              struct certs **out, struct beam_error *e);
void certs_free(struct certs *c); /* NULL accepted */
/* The owner's files, read now: renewed ones, or others, or the first. When that fails, or a bound name would lose its certificate, those of before stay. INVALID,
 * UNSUPPORTED (none any more), NOT_FOUND, PERMISSION, NOMEM. */
int certs_change(struct certs *c, const char *cert_file, const char *key_file, struct beam_error *e);

/* A name is bound: mint its leaf now (half a millisecond) unless the owner's certificate covers it. Counted: each add needs a drop. NOMEM, INVALID, INTERNAL. */
int certs_add(struct certs *c, const char *name, struct beam_error *e);
void certs_drop(struct certs *c, const char *name);

/* What to show for this SNI: a new reference, or NULL when the name is not ours (a stranger's SNI never causes minting). Renews a leaf older than a day. */
struct tls_cert *certs_get(struct certs *c, const char *name);
/* The same as bytes. */
struct cert *certs_get_cert(struct certs *c, const char *name);
/* The leaf of the beam/1 link: of the relay CA, never the public one. */
struct tls_cert *certs_get_link(struct certs *c);

/* Tests: where the seconds since 1970 come from. Before any other thread knows c. */
void certs_clock(struct certs *c, int64_t (*clock)(void));

#endif
