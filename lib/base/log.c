#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

_Atomic int log_level = -1; /* nobody listens */

static beam_log_fn sink;
static void *sink_user;

/* At most this many lines a second from one call site that strangers can reach. */
enum { LINES_PER_SECOND = 10 };

void beam_log_to(beam_log_fn fn, void *user, enum beam_log_level level) {
  atomic_store(&log_level, -1);
  sink = fn;
  sink_user = user;
  atomic_store(&log_level, fn ? (int)level : -1);
}

void log_write(enum beam_log_level level, const char *room, const char *fmt, ...) {
  if (!sink)
    return;
  char line[1024];
  int said = snprintf(line, sizeof line, "%s: ", room);
  size_t n = said < 0 ? 0 : (size_t)said < sizeof line ? (size_t)said : sizeof line - 1;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(line + n, sizeof line - n, fmt, ap);
  va_end(ap);
  for (char *c = line; *c; c++) /* one event is one line, whatever a stranger put into a name */
    if ((unsigned char)*c < 0x20 || *c == 0x7f)
      *c = '?';
  sink(sink_user, level, line);
}

bool log_gate_open(struct log_gate *g, unsigned *dropped) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
  uint64_t now = (uint64_t)ts.tv_sec + 1; /* 0 is "never" */
  *dropped = 0;
  if (atomic_load(&g->window) != now) {
    atomic_store(&g->window, now);
    atomic_store(&g->count, 0);
    *dropped = atomic_exchange(&g->dropped, 0);
  }
  if (atomic_fetch_add(&g->count, 1) < LINES_PER_SECOND)
    return true;
  atomic_fetch_add(&g->dropped, 1);
  return false;
}
