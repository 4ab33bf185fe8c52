/* main.c: the program `beam`: the process's signals and descriptors around beam_cli_main(). */
#include "cli.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct ending {
  struct cli_stop *stop;
  sigset_t signals;
  atomic_bool over; /* the command has ended: the next signal is our own */
};

/* Signals are taken by waiting, not by a handler: nothing of ours ever runs in the middle of something else. */
static void *wait_for_signals(void *arg) {
  struct ending *ending = arg;
  int sig;
  while (sigwait(&ending->signals, &sig) == 0 && !atomic_load(&ending->over))
    if (cli_signal(ending->stop, sig))
      _exit(CLI_INTERRUPTED);
  return NULL;
}

int main(int argc, char **argv) {
  struct ending ending = {.stop = cli_stop_new()};
  pthread_t thread;
  if (!ending.stop) {
    fprintf(stderr, "beam: out of memory\n");
    return CLI_FAILED;
  }
  /* Freed pages go back to the system early and big buffers do not move the threshold: a tunnel's memory shall show its load. */
  mallopt(M_TRIM_THRESHOLD, 4 * 1024 * 1024);
  mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
  sigemptyset(&ending.signals);
  sigaddset(&ending.signals, SIGINT);
  sigaddset(&ending.signals, SIGTERM);
  sigaddset(&ending.signals, SIGHUP);
  /* Blocked before there are threads, so that all of them inherit it and only the waiting one sees the signals. */
  pthread_sigmask(SIG_BLOCK, &ending.signals, NULL);
  signal(SIGPIPE, SIG_IGN);
  int r = pthread_create(&thread, NULL, wait_for_signals, &ending);
  if (r) {
    fprintf(stderr, "beam: cannot start a thread: %s\n", strerror(r));
    return CLI_FAILED;
  }
  struct cli_env env = {
      .argc = argc,
      .argv = argv,
      .envp = (const char *const *)environ,
      .out_is_terminal = isatty(1),
      .err_is_terminal = isatty(2),
      .stop = ending.stop,
  };
  int status = beam_cli_main(&env);
  atomic_store(&ending.over, true);
  pthread_kill(thread, SIGHUP);
  pthread_join(thread, NULL);
  cli_stop_free(ending.stop);
  return status;
}
