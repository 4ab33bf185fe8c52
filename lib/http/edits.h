/* edits.h: header fields that the owner sets or takes out. */
#ifndef HTTP_EDITS_H
#define HTTP_EDITS_H

#include <beam/beam.h>

#include "wire/http.h"

struct edits;

/* "Name: value" sets, "Name:" takes out; one a line. What frames a message or belongs to one hop is not to be touched. `what` names the list in messages.
 * INVALID, LIMIT, NOMEM. */
int edits_new(const char *lines, const char *what, struct edits **out, struct beam_error *err);
void edits_free(struct edits *e);          /* NULL is accepted */
size_t edits_count(const struct edits *e); /* NULL: 0 */
/* In place; there is room for edits_count(e) fields more. The new fields borrow e. Returns how many there are now. */
size_t edits_apply(const struct edits *e, struct http_field *fields, size_t n);

#endif
