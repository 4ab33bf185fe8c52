/* domain.h: the names a relay hands out: draw one, check one, and look after a relay's record of who owns what.
 *
 *   struct beam_domain_config c = BEAM_DOMAIN_CONFIG_INIT;
 *   c.base = "tunnel.test";
 *   c.data_dir = "relay-data";
 *   beam_domain_open(&c, &domain, &err);
 *   beam_domain_list(domain, NULL, print_row, NULL, &err);
 *
 * The relay whose directory it is may be running (builds with SQLite: see beam_features()). These functions wait for the disk; a domain
 * may be used from one thread at a time. Errors of the record: STORE (damaged, locked, disk full: err says which), PERMISSION, NOMEM, SYSTEM.
 */
#ifndef BEAM_DOMAIN_H
#define BEAM_DOMAIN_H

#include <beam/beam.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BEAM_LABEL_SIZE = 64, BEAM_NAME_SIZE = 256 }; /* with the terminating NUL */

/* A friendly random label such as "swift-otter-123" into label (BEAM_LABEL_SIZE bytes). Whether it is free only beam_domain_allocate() knows. Any
 * thread. SYSTEM: no source of random numbers. */
BEAM_API int beam_domain_generate(char *label);

/* May this label be a tunnel's name? 0, or NAME; err (may be NULL) says why not. Any thread. */
BEAM_API int beam_domain_check(const char *label, struct beam_error *err);

typedef struct beam_domain beam_domain;

struct beam_domain_config {
  size_t size;          /* set by BEAM_DOMAIN_CONFIG_INIT */
  const char *base;     /* the base domain: names are LABEL.base. Required */
  const char *data_dir; /* the relay's data directory; made when it is not there. Required */
};
#define BEAM_DOMAIN_CONFIG_INIT                                                                              \
  { .size = sizeof(struct beam_domain_config) }

/* Open the record. INVALID: base or data_dir missing or wrong. */
BEAM_API int beam_domain_open(const struct beam_domain_config *config, beam_domain **out,
                              struct beam_error *err);
/* NULL is accepted. */
BEAM_API void beam_domain_close(beam_domain *d);

/* A name for `principal` (the id of a device: 20 characters, as relays log it). wanted is a label or a full name; NULL: the principal's name
 * for this local port again, or a fresh one. The full name goes to name (BEAM_NAME_SIZE bytes). NAME: not permitted; TAKEN: somebody else's;
 * LIMIT: as many names as one may have; INVALID. */
BEAM_API int beam_domain_allocate(beam_domain *d, const char *principal, const char *wanted, uint16_t port,
                                  char *name, struct beam_error *err);

/* Give a full name up, so that others may have it. NOT_FOUND; DENIED: it is not the principal's; INVALID. */
BEAM_API int beam_domain_release(beam_domain *d, const char *principal, const char *name,
                                 struct beam_error *err);

/* One name of the record; strings are borrowed for the call. */
struct beam_domain_row {
  size_t size;
  const char *name;            /* full name */
  const char *owner;           /* principal */
  int drawn;                   /* 1: by the generator, 0: its owner wanted it */
  uint16_t port;               /* the local port it was last used for */
  int64_t created_at, used_at; /* seconds since 1970 */
};
typedef void (*beam_domain_row_fn)(void *user, const struct beam_domain_row *row);

/* Call fn for each name of principal (NULL: of all), in alphabetical order, from inside this call; at most 1000. */
BEAM_API int beam_domain_list(beam_domain *d, const char *principal, beam_domain_row_fn fn, void *user,
                              struct beam_error *err);

/* Walk the relay's audit chain; rows (may be NULL) gets the number of rows that are in order. STORE: a row was changed, removed or put in
 * between; err says which. */
BEAM_API int beam_domain_verify(beam_domain *d, uint64_t *rows, struct beam_error *err);

#ifdef __cplusplus
}
#endif
#endif
