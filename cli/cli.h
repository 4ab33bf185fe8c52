/* cli.h: the whole `beam` command as one function, so that a program in another language can be its front.
 *
 * It keeps no globals, never exits the process and handles no signals: the caller brings the arguments, the environment, a place for
 * the output and a way to ask for the end, and tells it of the signals it got. Only the log sink of the library is process-wide, and is given back at the end.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <beam/beam.h>
#include <stdbool.h>

/* What the command returns; beam(1) documents them. */
enum cli_exit {
  CLI_OK = 0,
  CLI_FAILED = 1,       /* anything that has no number of its own */
  CLI_USAGE = 2,        /* the command line, the environment or a value of the configuration is wrong */
  CLI_LISTEN = 3,       /* an address or port cannot be listened on */
  CLI_REFUSED = 4,      /* the relay refused, or is not the one that was trusted */
  CLI_FILES = 5,        /* a file or directory cannot be read or written: configuration, data, keys, store */
  CLI_INTERRUPTED = 130 /* ended at once by a second Ctrl-C; never returned, see cli_signal() */
};

/* A request to end, from any thread; one may outlive many runs of the command, but serves one at a time. */
struct cli_stop;
struct cli_stop *cli_stop_new(void); /* NULL: out of memory */
void cli_stop_request(struct cli_stop *stop);
/* What SIGINT, SIGTERM or SIGHUP mean to the command: end; for a relay, SIGTERM: when it has finished, SIGHUP: read the configuration again. Never from a signal
 * handler; always from the same thread. True: asked for the second time, the caller ends the process at once with CLI_INTERRUPTED. */
bool cli_signal(struct cli_stop *stop, int sig);
void cli_stop_free(struct cli_stop *stop);

struct cli_env {
  int argc;
  char *const *argv;       /* argv[0] is the program's name */
  const char *const *envp; /* "NAME=value", ended by NULL; may be NULL */
  /* Whole lines for standard output (1) or standard error (2); one call at a time, from any thread of the command.
   * Not 0: nobody reads any more, and the command ends. NULL: the process's own descriptors 1 and 2. */
  int (*write)(void *user, int fd, const char *text, size_t n);
  void *user;
  int out_is_terminal, err_is_terminal;
  struct cli_stop *stop; /* may be NULL: then only `beam stop` ends a tunnel */
};

/* Runs one command on the calling thread until it is done; the exit status. Borrows `env` for the call. */
int beam_cli_main(const struct cli_env *env);

#endif
