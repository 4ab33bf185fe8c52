/* beam.c: the facade of include/beam/beam.h. */
#include <beam/beam.h>

#include "base/err.h"
#include "base/random.h"
#include "io/loop.h"

struct beam_loop; /* is struct loop: the public name of the same thing */

static struct loop *inner(beam_loop *l) {
  return (struct loop *)l;
}

const char *beam_strerror(int err) {
  return err_find(err)->what;
}
const char *beam_err_hint(int err) {
  return err_find(err)->hint;
}
const char *beam_err_code(int err) {
  return err_find(err)->code;
}
const char *beam_version(void) {
  return BEAM_VERSION;
}

const char *beam_features(void) {
  return "h2,ws"
#ifndef BEAM_NO_QUIC
         ",quic"
#endif
#ifndef BEAM_NO_GNUTLS
         ",gnutls-aead"
#endif
#ifndef BEAM_NO_SQLITE
         ",sqlite"
#endif
#ifndef BEAM_NO_BROTLI
         ",brotli"
#endif
#ifndef BEAM_NO_ZLIB
         ",gzip"
#endif
      ;
}

int beam_loop_new(beam_loop **out) {
  struct loop *l;
  if (!out)
    return BEAM_ERR_INVALID;
  int err = loop_new(&l);
  if (!err)
    *out = (beam_loop *)l;
  return err;
}

int beam_loop_run(beam_loop *loop) {
  return loop ? loop_run(inner(loop)) : BEAM_ERR_INVALID;
}

void beam_loop_stop(beam_loop *loop) {
  if (loop)
    loop_stop(inner(loop));
}

int beam_loop_post(beam_loop *loop, void (*fn)(void *arg), void *arg) {
  return loop && fn ? loop_post(inner(loop), fn, arg) : BEAM_ERR_INVALID;
}

/* What was closed a moment ago may still have a task to run: freeing, or a last flush. */
enum { LAST_TURNS = 8 };

void beam_loop_free(beam_loop *loop) {
  if (!loop)
    return;
  for (int i = 0; i < LAST_TURNS; i++)
    loop_turn(inner(loop), 0);
  loop_free(inner(loop));
}
