/* auth.h: HTTP Basic (RFC 7617): is this one of the owner's users? */
#ifndef HTTP_AUTH_H
#define HTTP_AUTH_H

#include <beam/beam.h>

#include "wire/http.h"

struct http_auth;

/* "USER:PASSWORD", one a line; empty lines do not count. INVALID (err does not repeat a password), LIMIT, NOMEM. */
int http_auth_new(const char *lines, struct http_auth **out, struct beam_error *err);
void http_auth_free(struct http_auth *a); /* NULL is accepted */
/* One Authorization field with credentials of ours? Takes the same time whatever they are. */
bool http_auth_ok(const struct http_auth *a, const struct http_head *h);

/* Is there a password at all, right or wrong? Other schemes (Bearer) are no guess: the pages of an app behind the tunnel may send them. */
bool http_auth_tried(const struct http_head *h);

/* The WWW-Authenticate that asks for them. */
struct http_field http_auth_challenge(void);

#endif
