#include "agent/ticket.h"

#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/str.h"

/* Lines of "RELAY CA SESSION", the last two in hex, the newest first. */
#define FILE_NAME "sessions"
enum {
  LINES = 16,
  RELAY_MAX = 300,
  CA_HEX = 64,
  LINE_MAX = RELAY_MAX + CA_HEX + 2 * (int)LIMIT_QUIC_SESSION + 4,
  FILE_MAX = LINES * LINE_MAX
};

static bool is_word(const char *s) {
  return *s && !strpbrk(s, " \t\r\n") && strlen(s) < RELAY_MAX;
}

static size_t line_length(const char *p) {
  size_t n = strcspn(p, "\n");
  return n + (p[n] != 0);
}

static bool is_of(const char *line, const char *relay) {
  size_t n = strlen(relay);
  return !strncmp(line, relay, n) && line[n] == ' ';
}

static void wipe(char *text, size_t n) {
  if (text)
    explicit_bzero(text, n);
  free(text);
}

/* The file's text without the lines of `relay`, after `head`. */
static int rewrite(const char *path, const char *head, size_t head_n, const char *old, const char *relay) {
  char *fresh = malloc(FILE_MAX + LINE_MAX);
  if (!fresh)
    return BEAM_ERR_NOMEM;
  size_t n = head_n;
  unsigned lines = head_n > 0;
  memcpy(fresh, head, head_n);
  for (const char *p = old; p && *p && lines < LINES; p += line_length(p)) {
    size_t k = line_length(p);
    if (is_of(p, relay) || k > LINE_MAX || p[k - 1] != '\n' || n + k > FILE_MAX)
      continue;
    memcpy(fresh + n, p, k);
    n += k;
    lines++;
  }
  int err = file_write(path, 0600, fresh, n, NULL);
  wipe(fresh, FILE_MAX + LINE_MAX);
  return err;
}

/* "RELAY CA SESSION" */
static int parse(const char *line, size_t n, uint8_t ca[32], uint8_t **out, size_t *out_n) {
  const char *hex = memchr(line, ' ', n), *end = line + n;
  hex = hex ? hex + 1 : end;
  if (end - hex < CA_HEX + 3 || hex[CA_HEX] != ' ' || !hex_decode(ca, 32, (struct span){hex, CA_HEX}))
    return BEAM_ERR_NOT_FOUND;
  hex += CA_HEX + 1;
  *out_n = (size_t)(end - hex) / 2;
  if (!(*out = malloc(*out_n)))
    return BEAM_ERR_NOMEM;
  if (hex_decode(*out, *out_n, (struct span){hex, (size_t)(end - hex)}))
    return 0;
  free(*out);
  return BEAM_ERR_NOT_FOUND;
}

int ticket_take(const char *dir, const char *relay, uint8_t ca[32], uint8_t **out, size_t *n) {
  char path[PATH_ROOM], *text;
  size_t len;
  int err = path_join(path, dir, FILE_NAME, NULL);
  if (err || (err = file_read_secret(path, FILE_MAX, &text, &len, NULL)))
    return err;
  err = BEAM_ERR_NOT_FOUND;
  for (const char *p = text; *p && err; p += line_length(p))
    if (is_of(p, relay)) {
      if (!(err = parse(p, strcspn(p, "\r\n"), ca, out, n)) && (err = rewrite(path, "", 0, text, relay))) {
        explicit_bzero(*out, *n); /* it would be used twice */
        free(*out);
      }
      break;
    }
  wipe(text, len);
  return err;
}

int ticket_keep(const char *dir, const char *relay, const uint8_t ca[32], const uint8_t *p, size_t n) {
  char path[PATH_ROOM], *old = NULL, *line;
  size_t len = 0;
  if (!is_word(relay) || !n || n > LIMIT_QUIC_SESSION)
    return BEAM_ERR_INVALID;
  int err = path_join(path, dir, FILE_NAME, NULL);
  if (err)
    return err;
  if (!(line = malloc(LINE_MAX)))
    return BEAM_ERR_NOMEM;
  size_t at = strlen(relay);
  memcpy(line, relay, at);
  line[at++] = ' ';
  hex_encode(line + at, ca, 32);
  at += CA_HEX;
  line[at++] = ' ';
  hex_encode(line + at, p, n);
  at += 2 * n;
  line[at++] = '\n';
  if (file_read_secret(path, FILE_MAX, &old, &len, NULL)) /* absent, or not ours: begin anew */
    old = NULL;
  err = rewrite(path, line, at, old, relay);
  wipe(old, len);
  wipe(line, LINE_MAX);
  return err;
}
