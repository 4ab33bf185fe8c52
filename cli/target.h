/* target.h: what people type for "the thing to share": 3000, localhost:3000, [::1]:3000, http://localhost:3000/. */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

#include "options.h"

struct target {
  char host[256]; /* "": not given */
  unsigned port;
};

/* INVALID with text; UNSUPPORTED for what later versions will share (folders, https services). */
int target_parse(const char *text, struct target *t, struct beam_error *e);

#endif
