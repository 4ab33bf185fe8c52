/* output.h: everything the command says: for a person at a terminal, as plain lines, or as JSON for a program. Any thread. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include "cli.h"
#include "json.h"
#include <pthread.h>
#include <stdbool.h>

struct output {
  const struct cli_env *env;
  bool json;
  bool color, emoji; /* of standard output */
  bool error_color;
  bool gone; /* nobody reads any more */
  bool held; /* see out_hold() */
  pthread_t holder;
  char *waiting;
  size_t n_waiting;
  pthread_mutex_t lock;
};

int out_init(struct output *o, const struct cli_env *env, bool json);
void out_free(struct output *o);

/* From now on only this thread's lines go out; those of others wait for out_release(). So the first line can be the one that programs expect first. */
void out_hold(struct output *o);
void out_release(struct output *o);

/* One line of standard output (the newline is added), or of standard error. */
void out_line(struct output *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_line(struct output *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Text as it stands, to standard output. */
void out_text(struct output *o, const char *text);
/* Closes, writes and frees the object. */
void out_json(struct output *o, struct json *j);
/* What happened and what to do: two lines on standard error, or one {"event":"error"} on standard output. */
void out_error(struct output *o, const struct beam_error *e);
/* The library's log lines: standard error, also with --json. */
void out_log(void *output, enum beam_log_level level, const char *line);

/* A string a stranger sent, made safe for a terminal: control characters become '?', and it is cut to `max` columns with "...". */
const char *printable(char *room, size_t cap, const char *text, size_t max);

#define PAINT(o, code) ((o)->color ? "\033[" code "m" : "")

#endif
