/* nomem.h: malloc of this program, which fails once where a test says so, and counts what lives. Not under sanitizers: they own malloc. */
#ifndef TEST_NOMEM_H
#define TEST_NOMEM_H

#include <stdatomic.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INTERPOSE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define INTERPOSE 0
#endif
#endif
#ifndef INTERPOSE
#define INTERPOSE 1
#endif

static _Atomic long fail_at, count, live; /* fail_at 0: never */

#if INTERPOSE
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);
void *malloc(size_t n);
void *calloc(size_t n, size_t m);
void *realloc(void *p, size_t n);
void free(void *p);

static bool fails(void) {
  return fail_at && atomic_fetch_add(&count, 1) + 1 == fail_at;
}

void *malloc(size_t n) {
  void *p = fails() ? NULL : __libc_malloc(n);
  live += p != NULL;
  return p;
}
void *calloc(size_t n, size_t m) {
  void *p = fails() ? NULL : __libc_calloc(n, m);
  live += p != NULL;
  return p;
}
void *realloc(void *old, size_t n) {
  if (fails())
    return NULL;
  void *p = __libc_realloc(old, n);
  live += !old && p;
  return p;
}
void free(void *p) {
  live -= p != NULL;
  __libc_free(p);
}
#endif

#endif
