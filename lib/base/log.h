/* log.h: one line per event, key=value, rate-limited where a stranger can cause it.
 *
 *   log_info("relay", "tunnel up name=%s agent=%s", name, addr);
 *   log_limited(BEAM_LOG_WARN, "sniff", "garbage before tls from=%s", addr);   // at most 10 a second per call site; says how many it dropped
 *
 * Never log keys, tokens, cookies, bodies or query strings.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <beam/beam.h>
#include <stdatomic.h>
#include <stdbool.h>

extern _Atomic int log_level; /* lines above this are not even formatted */

void log_write(enum beam_log_level level, const char *room, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

struct log_gate { /* one per call site */
  _Atomic uint64_t window;
  _Atomic unsigned count, dropped;
};
bool log_gate_open(struct log_gate *g, unsigned *dropped);

#define log_at(level, room, ...)                                                                             \
  do {                                                                                                       \
    if ((int)(level) <= atomic_load_explicit(&log_level, memory_order_relaxed))                              \
      log_write((level), (room), __VA_ARGS__);                                                               \
  } while (0)
#define log_error(room, ...) log_at(BEAM_LOG_ERROR, room, __VA_ARGS__)
#define log_warn(room, ...) log_at(BEAM_LOG_WARN, room, __VA_ARGS__)
#define log_info(room, ...) log_at(BEAM_LOG_INFO, room, __VA_ARGS__)
#define log_debug(room, ...) log_at(BEAM_LOG_DEBUG, room, __VA_ARGS__)

#define log_limited(level, room, ...)                                                                        \
  do {                                                                                                       \
    static struct log_gate gate_;                                                                            \
    unsigned dropped_;                                                                                       \
    if ((int)(level) <= atomic_load_explicit(&log_level, memory_order_relaxed) &&                            \
        log_gate_open(&gate_, &dropped_)) {                                                                  \
      log_write((level), (room), __VA_ARGS__);                                                               \
      if (dropped_)                                                                                          \
        log_write((level), (room), "%u lines like this one left out", dropped_);                             \
    }                                                                                                        \
  } while (0)

#endif
