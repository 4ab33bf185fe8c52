/* err.h: the catalogue of everything that can go wrong, and what a person can do about it. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <beam/beam.h>

/* One row for each beam_err. */
struct err_entry {
  int err;
  const char *code; /* stable, "BEAM-1004" */
  const char *what;
  const char *hint;
};
const struct err_entry *err_find(int err); /* never NULL */

/* Fill `e` (NULL is accepted); fmt says what happened; hint NULL takes the catalogue's. Returns err, so that callers can `return err_set(...)`. */
int err_set(struct beam_error *e, int err, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* errno -> beam_err: ECONNREFUSED -> REFUSED, EADDRINUSE -> IN_USE, EACCES -> PERMISSION, ... */
int err_from_errno(int e);

#endif
