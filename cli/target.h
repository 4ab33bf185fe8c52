/* target.h: what people type for "the thing to share": 3000, localhost:3000, [::1]:3000, http://localhost:3000/, https://localhost:8443, unix:/run/app.sock. */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

#include "options.h"

struct target {
  char host[256]; /* "": not given */
  unsigned port;
  const char *upstream; /* the whole text, for the library to read; NULL: host and port say it */
  const char *folder;   /* NULL: no folder */
};

/* INVALID with text; What has a slash, begins with a dot, or is the name of a directory is a folder. `text` is borrowed for t's life. */
int target_parse(const char *text, struct target *t, struct beam_error *e);

#endif
