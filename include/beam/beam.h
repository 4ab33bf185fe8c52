/* beam.h: what every part of Beam shares: errors, version, log, loop.
 *
 * Threads: everything made on a loop lives on the thread that runs that loop. Only beam_loop_post() and beam_loop_stop() may be
 * called from another thread. Strings in configs are copied; strings given out are borrowed and say for how long.
 */
#ifndef BEAM_BEAM_H
#define BEAM_BEAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define BEAM_API __attribute__((visibility("default")))
#else
#define BEAM_API
#endif

#define BEAM_VERSION_MAJOR 0
#define BEAM_VERSION_MINOR 1
#define BEAM_VERSION_PATCH 0
#define BEAM_VERSION "0.1.0"

/* Results. 0 is success, errors are negative; beam_strerror() says what happened, beam_err_hint() what to do next. */
enum beam_err {
  BEAM_OK = 0,
  BEAM_AGAIN = -1,            /* not now: flow, not failure */
  BEAM_ERR_NOMEM = -2,        /* out of memory, or a memory ceiling was reached */
  BEAM_ERR_INVALID = -3,      /* an argument or a configuration value is wrong */
  BEAM_ERR_SYSTEM = -4,       /* the operating system refused; the log line has errno */
  BEAM_ERR_CLOSED = -5,       /* the other side closed in order, or the object is closed already */
  BEAM_ERR_RESET = -6,        /* the other side aborted */
  BEAM_ERR_REFUSED = -7,      /* connection refused */
  BEAM_ERR_UNREACHABLE = -8,  /* no route, or the name does not resolve */
  BEAM_ERR_TIMEOUT = -9,      /* too slow */
  BEAM_ERR_PROTOCOL = -10,    /* the other side broke the protocol */
  BEAM_ERR_TLS = -11,         /* TLS failed: see the log line */
  BEAM_ERR_UNTRUSTED = -12,   /* the certificate or the pinned identity does not match */
  BEAM_ERR_DENIED = -13,      /* trust refused: token missing, wrong or too narrow */
  BEAM_ERR_TAKEN = -14,       /* the name belongs to someone else, or is live elsewhere */
  BEAM_ERR_NAME = -15,        /* not a valid or permitted name */
  BEAM_ERR_NOT_FOUND = -16,   /* no such thing */
  BEAM_ERR_LIMIT = -17,       /* a limit was reached; the limit's name is in the log line */
  BEAM_ERR_IN_USE = -18,      /* the address or port is in use */
  BEAM_ERR_PERMISSION = -19,  /* not permitted by the operating system (file mode, low port) */
  BEAM_ERR_STORE = -20,       /* the store failed: disk full, corrupt, locked */
  BEAM_ERR_TRUNCATED = -21,   /* the peer ended before the message was whole */
  BEAM_ERR_TOO_LARGE = -22,   /* a head, message or record exceeds its limit */
  BEAM_ERR_UNSUPPORTED = -23, /* this build or this peer lacks the feature */
  BEAM_ERR_DRAINING = -24,    /* going away: open nothing new here */
  BEAM_ERR_SUPERSEDED = -25,  /* a newer session of the same device took the name over */
  BEAM_ERR_LOCAL = -26,       /* the local service is not there or failed */
  BEAM_ERR_INTERNAL = -27,    /* a defect in Beam: please report it with the log line */
};

/* What happened, for a person. `code` is one of beam_err, `what` says what and why, `hint` what to do next. Fill size by BEAM_ERROR_INIT. */
struct beam_error {
  size_t size;
  int code;
  char what[320];
  char hint[320];
};
#define BEAM_ERROR_INIT                                                                                      \
  {                                                                                                          \
    sizeof(struct beam_error), 0, {0}, {                                                                     \
      0                                                                                                      \
    }                                                                                                        \
  }

/* One short sentence for an error, without a final stop. Static; any thread. */
BEAM_API const char *beam_strerror(int err);
/* What to do next. Static, never NULL; any thread. */
BEAM_API const char *beam_err_hint(int err);
/* The stable code, "BEAM-1004" style; codes never change their meaning. Static; any thread. */
BEAM_API const char *beam_err_code(int err);

/* The version of the library that runs, "0.1.0". Static. */
BEAM_API const char *beam_version(void);
/* Comma-separated features of this build, such as "h2,sqlite,gnutls-aead". Static. */
BEAM_API const char *beam_features(void);

enum beam_log_level { BEAM_LOG_ERROR = 0, BEAM_LOG_WARN = 1, BEAM_LOG_INFO = 2, BEAM_LOG_DEBUG = 3 };

/* Called for each log line: `line` is one line without newline, key=value style, with no secrets; borrowed for the call. May come from any of Beam's threads. */
typedef void (*beam_log_fn)(void *user, enum beam_log_level level, const char *line);
/* Where log lines go (NULL: nowhere, the default) and from which level on. Process-wide; call before anything else is made. */
BEAM_API void beam_log_to(beam_log_fn fn, void *user, enum beam_log_level level);

/* How a sender over QUIC finds out what a path carries. BBR goes by what arrives and how long it takes, and is fast where packets are lost for other reasons than
 * too much of them; CUBIC goes by losses, as most of the network does. */
enum beam_congestion { BEAM_CONGESTION_BBR = 0, BEAM_CONGESTION_CUBIC = 1 };

/* An event loop: one thread's. */
typedef struct beam_loop beam_loop;

/* Make a loop. Errors: NOMEM; SYSTEM (out of descriptors: raise the limit). */
BEAM_API int beam_loop_new(beam_loop **out);
/* Run on the calling thread until beam_loop_stop(). Returns 0, or SYSTEM when polling fails. */
BEAM_API int beam_loop_run(beam_loop *loop);
/* Any thread: beam_loop_run() returns after its current turn. */
BEAM_API void beam_loop_stop(beam_loop *loop);
/* Any thread: run fn(arg) on the loop's thread. Posts of one thread keep their order. Errors: NOMEM; CLOSED once the loop is being freed. */
BEAM_API int beam_loop_post(beam_loop *loop, void (*fn)(void *arg), void *arg);
/* Free a loop that is not running; what was made on it must be closed first. NULL is accepted. */
BEAM_API void beam_loop_free(beam_loop *loop);

#ifdef __cplusplus
}
#endif
#endif
