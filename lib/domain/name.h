/* name.h: what names look like: friendly ones by chance, wanted ones checked. */
#ifndef DOMAIN_NAME_H
#define DOMAIN_NAME_H

#include <beam/beam.h>
#include <stdbool.h>

#include "base/str.h"

enum { LABEL_MAX = 64 }; /* 63 and the terminator */

void name_draw(char out[LABEL_MAX]);     /* "swift-otter-123" */
void name_draw_hex(char out[LABEL_MAX]); /* eight random hex digits: when the friendly ones are taken */

bool name_reserved(struct span label);
/* 0, or NAME with text: not a label, or reserved. */
int name_check(struct span label, struct beam_error *e);

#endif
