/* files.h: a folder as an upstream: GET and HEAD of its regular files, index.html for a directory, parts, validators. Nothing hidden, nothing outside. */
#ifndef HTTP_FILES_H
#define HTTP_FILES_H

#include "http/exchange.h"
#include "io/loop.h"

struct files;

struct files_conf {
  struct loop *loop;
  const char *
      root; /* a directory. What is there under that name when a request comes counts: it may be made anew meanwhile */
  const char *
      fallback; /* a file beneath it, "index.html": the answer for paths that lead nowhere and have no ending; NULL: 404 */
};
/* Copies. Errors with text: NOT_FOUND, PERMISSION, INVALID (no directory; the fallback is no path), NOMEM. */
int files_new(const struct files_conf *conf, struct files **out, struct beam_error *err);
const char *files_root(const struct files *f); /* the whole path */
void files_free(struct files *f);              /* exchanges in flight go on. NULL is accepted */
/* An upstream end for one request. Files are read on the loop, a piece at a time as the visitor takes it. NOMEM. */
int files_request(struct files *f, struct http_end **out);

#endif
