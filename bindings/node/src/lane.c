/* lane.c: see addon.h. */
#include "addon.h"

#include <signal.h>
#include <stdlib.h>

int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg) {
  sigset_t all, before;
  sigfillset(&all);
  /* Threads inherit the mask, so those that libbeam starts take no signal either. */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int r = pthread_create(thread, NULL, run, arg);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return r ? BEAM_ERR_SYSTEM : 0;
}

static void *run(void *arg) {
  beam_loop_run(arg);
  return NULL;
}

int lane_start(struct lane *lane) {
  if (lane->loop)
    return 0;
  int err = beam_loop_new(&lane->loop);
  if (err)
    return err;
  err = thread_start(&lane->thread, run, lane->loop);
  if (err) {
    beam_loop_free(lane->loop);
    lane->loop = NULL;
  }
  return err;
}

struct last {
  struct lane *lane;
  void (*fn)(void *arg);
  void *arg;
};

static void end(void *arg) {
  struct last *last = arg;
  last->fn(last->arg);
  beam_loop_stop(last->lane->loop);
}

void lane_end(struct lane *lane, void (*fn)(void *arg), void *arg) {
  struct last last = {lane, fn, arg};
  if (!lane->loop)
    return;
  /* Without memory for the post the thread still ends; what is open is left to the end of the process. */
  if (beam_loop_post(lane->loop, end, &last))
    beam_loop_stop(lane->loop);
  pthread_join(lane->thread, NULL);
  beam_loop_free(lane->loop);
  lane->loop = NULL;
}
