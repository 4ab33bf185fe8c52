/* output.c: see output.h. Lines are made whole before they are written, so that threads cannot mix theirs. */
#include "output.h"
#include "options.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

static bool utf8_locale(const struct cli_env *env) {
  const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
  for (size_t i = 0; i < 3; i++) {
    const char *v = env_get(env, names[i]);
    if (v)
      return strcasestr(v, "UTF-8") != NULL || strcasestr(v, "UTF8") != NULL;
  }
  return true; /* no locale at all, as in containers: today's terminals are UTF-8 */
}

/* A descriptor may be non-blocking because another process, such as node, made it so for all that share it. */
static int write_process(int fd, const char *text, size_t n) {
  while (n) {
    ssize_t k = write(fd, text, n);
    if (k < 0 && errno == EAGAIN && poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1) >= 0)
      continue;
    if (k < 0 && errno == EINTR)
      continue;
    if (k <= 0)
      return 1;
    text += k;
    n -= (size_t)k;
  }
  return 0;
}

static int write_out(struct output *o, int fd, const char *text, size_t n) {
  return o->env->write ? o->env->write(o->env->user, fd, text, n) : write_process(fd, text, n);
}

int out_init(struct output *o, const struct cli_env *env, bool json) {
  const char *term = env_get(env, "TERM");
  bool dumb = term && strcmp(term, "dumb") == 0, plain = env_get(env, "NO_COLOR") != NULL;
  *o = (struct output){.env = env, .json = json};
  o->color = env->out_is_terminal && !dumb && !plain;
  o->error_color = env->err_is_terminal && !dumb && !plain;
  o->emoji = env->out_is_terminal && !dumb && utf8_locale(env);
  return pthread_mutex_init(&o->lock, NULL) == 0 ? 0 : BEAM_ERR_NOMEM;
}

void out_free(struct output *o) {
  free(o->waiting);
  pthread_mutex_destroy(&o->lock);
}

/* A line for later; without memory it is lost, which for a line of news is bearable. */
static void keep(struct output *o, const char *text, size_t n) {
  char *grown = realloc(o->waiting, o->n_waiting + n);
  if (!grown)
    return;
  memcpy(grown + o->n_waiting, text, n);
  o->waiting = grown;
  o->n_waiting += n;
}

static void emit(struct output *o, int fd, const char *text, size_t n) {
  bool ends = false;
  pthread_mutex_lock(&o->lock);
  if (o->held && fd == 1 && !pthread_equal(o->holder, pthread_self()))
    keep(o, text, n);
  else
    ends = !o->gone && write_out(o, fd, text, n) != 0 && fd == 1;
  if (ends)
    o->gone = true;
  pthread_mutex_unlock(&o->lock);
  if (ends && o->env->stop)
    cli_stop_request(o->env->stop);
}

void out_hold(struct output *o) {
  pthread_mutex_lock(&o->lock);
  o->held = true;
  o->holder = pthread_self();
  pthread_mutex_unlock(&o->lock);
}

void out_release(struct output *o) {
  pthread_mutex_lock(&o->lock);
  o->held = false;
  if (o->n_waiting)
    write_out(o, 1, o->waiting, o->n_waiting);
  free(o->waiting);
  o->waiting = NULL;
  o->n_waiting = 0;
  pthread_mutex_unlock(&o->lock);
}

__attribute__((format(printf, 3, 0))) static void emit_line(struct output *o, int fd, const char *fmt,
                                                            va_list ap) {
  char *text = NULL;
  size_t n = 0;
  FILE *f = open_memstream(&text, &n);
  if (!f)
    return;
  vfprintf(f, fmt, ap);
  fputc('\n', f);
  if (fclose(f) == 0)
    emit(o, fd, text, n);
  free(text);
}

void out_line(struct output *o, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  emit_line(o, 1, fmt, ap);
  va_end(ap);
}

void err_line(struct output *o, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  emit_line(o, 2, fmt, ap);
  va_end(ap);
}

void out_text(struct output *o, const char *text) {
  emit(o, 1, text, strlen(text));
}

void out_json(struct output *o, struct json *j) {
  json_close(j);
  if (!j->broken)
    emit(o, 1, j->text, j->length);
  json_free(j);
}

void out_error(struct output *o, const struct beam_error *e) {
  const char *what = e->what[0] ? e->what : beam_strerror(e->code);
  const char *hint = e->hint[0] ? e->hint : beam_err_hint(e->code);
  if (o->json) {
    struct json j;
    json_open(&j);
    json_text(&j, "event", "error");
    json_text(&j, "code", beam_err_code(e->code));
    json_text(&j, "what", what);
    json_text(&j, "hint", hint);
    out_json(o, &j);
    return;
  }
  const char *red = o->error_color ? "\033[31m" : "", *off = o->error_color ? "\033[0m" : "";
  if (hint[0])
    err_line(o, "%sbeam: %s%s (%s)\n  next: %s", red, what, off, beam_err_code(e->code), hint);
  else
    err_line(o, "%sbeam: %s%s (%s)", red, what, off, beam_err_code(e->code));
}

void out_log(void *output, enum beam_log_level level, const char *line) {
  static const char *const names[] = {"error", "warn", "info", "debug"};
  struct timespec now;
  struct tm utc;
  char when[32];
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &utc);
  strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &utc);
  err_line(output, "%s.%03ldZ %s %s", when, now.tv_nsec / 1000000, (unsigned)level < 4 ? names[level] : "?",
           line);
}

const char *printable(char *room, size_t cap, const char *text, size_t max) {
  size_t n = 0;
  if (max > cap - 4)
    max = cap - 4;
  for (; text && *text && n < max; text++) {
    unsigned char c = (unsigned char)*text;
    /* 0x80 to 0x9f would be control characters in an 8-bit terminal, and are continuation bytes in UTF-8: any byte above ASCII goes. */
    room[n++] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
  }
  if (text && *text) {
    memcpy(room + n, "...", 3);
    n += 3;
  }
  room[n] = 0;
  return room;
}
