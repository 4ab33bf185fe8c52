/* stop.c: see stop.h. The request may come before there is a loop, and from another thread than the loop's. */
#include "stop.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct cli_stop {
  pthread_mutex_t lock;
  beam_loop *loop;
  bool requested;
  void (*drain)(void *user), (*reload)(void *user);
  void *user;
  bool draining, ending; /* cli_signal() alone */
};

struct cli_stop *cli_stop_new(void) {
  struct cli_stop *stop = calloc(1, sizeof *stop);
  if (stop && pthread_mutex_init(&stop->lock, NULL) != 0) {
    free(stop);
    return NULL;
  }
  return stop;
}

void cli_stop_free(struct cli_stop *stop) {
  if (!stop)
    return;
  pthread_mutex_destroy(&stop->lock);
  free(stop);
}

/* beam_loop_stop() counts only while the loop runs, a post waits for it: hence the post. */
static void stop_on_loop(void *arg) {
  beam_loop_stop(arg);
}

void cli_stop_request(struct cli_stop *stop) {
  pthread_mutex_lock(&stop->lock);
  stop->requested = true;
  if (stop->loop && beam_loop_post(stop->loop, stop_on_loop, stop->loop) != 0)
    beam_loop_stop(stop->loop);
  pthread_mutex_unlock(&stop->lock);
}

void stop_bind(struct cli_stop *stop, beam_loop *loop) {
  if (!stop)
    return;
  pthread_mutex_lock(&stop->lock);
  stop->loop = loop;
  if (loop && stop->requested && beam_loop_post(loop, stop_on_loop, loop) != 0)
    beam_loop_stop(loop);
  pthread_mutex_unlock(&stop->lock);
}

void stop_also(struct cli_stop *stop, void (*drain)(void *user), void (*reload)(void *user), void *user) {
  if (!stop)
    return;
  pthread_mutex_lock(&stop->lock);
  stop->drain = drain;
  stop->reload = reload;
  stop->user = user;
  pthread_mutex_unlock(&stop->lock);
}

static bool drain_request(struct cli_stop *stop) {
  pthread_mutex_lock(&stop->lock);
  bool done = stop->loop && stop->drain && !beam_loop_post(stop->loop, stop->drain, stop->user);
  pthread_mutex_unlock(&stop->lock);
  return done;
}

static bool reload_request(struct cli_stop *stop) {
  pthread_mutex_lock(&stop->lock);
  bool done = stop->loop && stop->reload && !beam_loop_post(stop->loop, stop->reload, stop->user);
  pthread_mutex_unlock(&stop->lock);
  return done;
}

bool stop_requested(struct cli_stop *stop) {
  if (!stop)
    return false;
  pthread_mutex_lock(&stop->lock);
  bool requested = stop->requested;
  pthread_mutex_unlock(&stop->lock);
  return requested;
}

/* A relay takes SIGHUP as "read your files again" and the first SIGTERM as "when you have finished"; the next one ends it now, one more at once. */
bool cli_signal(struct cli_stop *stop, int sig) {
  if (sig == SIGHUP && reload_request(stop))
    return false;
  if (stop->ending)
    return true;
  if (sig == SIGTERM && !stop->draining && (stop->draining = drain_request(stop)))
    return false;
  stop->ending = true;
  cli_stop_request(stop);
  return false;
}
