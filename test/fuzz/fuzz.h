/* What the fuzz targets share: a check that stops the run, and sameness of heads. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/http.h"

#define MUST(x)                                                                                              \
  do {                                                                                                       \
    if (!(x)) {                                                                                              \
      fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #x);                                     \
      abort();                                                                                               \
    }                                                                                                        \
  } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Everything but minor and scheme, which HTTP/1 text does not say. */
static inline void must_be_same_head(const struct http_head *a, const struct http_head *b) {
  MUST(a->status == b->status);
  MUST(span_eq(a->method, b->method));
  MUST(span_eq(a->authority, b->authority));
  MUST(span_eq(a->target, b->target));
  MUST(span_eq(a->reason, b->reason));
  MUST(a->fields_n == b->fields_n);
  for (size_t i = 0; i < a->fields_n; i++) {
    MUST(span_eq(a->fields[i].name, b->fields[i].name));
    MUST(span_eq(a->fields[i].value, b->fields[i].value));
  }
}

/* Text that was taken may be written anywhere: no byte of it starts a new line. */
static inline void must_be_one_line(struct span s) {
  MUST(!s.n || (!memchr(s.p, '\r', s.n) && !memchr(s.p, '\n', s.n) && !memchr(s.p, 0, s.n)));
}

static inline void must_be_clean(const struct http_head *h) {
  must_be_one_line(h->method);
  must_be_one_line(h->authority);
  must_be_one_line(h->target);
  must_be_one_line(h->reason);
  for (size_t i = 0; i < h->fields_n; i++) {
    MUST(http_name_ok(h->fields[i].name));
    MUST(http_value_ok(h->fields[i].value));
  }
}

#endif
