/* target.c: see target.h. */
#include "target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int no_target(const char *text, struct beam_error *e) {
  return fail(e, BEAM_ERR_INVALID, "give a port, as in beam 3000, or HOST:PORT",
              "\"%.100s\" is neither a command nor a port", text);
}

static bool port_of(const char *text, size_t n, unsigned *port) {
  unsigned v = 0;
  if (n == 0 || n > 5)
    return false;
  for (size_t i = 0; i < n; i++) {
    if (text[i] < '0' || text[i] > '9')
      return false;
    v = v * 10 + (unsigned)(text[i] - '0');
  }
  *port = v;
  return v >= 1 && v <= 65535;
}

/* Characters of names and addresses; the library judges the rest. */
static bool host_of(const char *text, size_t n, struct target *t) {
  if (n == 0 || n >= sizeof t->host)
    return false;
  for (size_t i = 0; i < n; i++)
    if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%", text[i]))
      return false;
  memcpy(t->host, text, n);
  t->host[n] = 0;
  return true;
}

static bool is_directory(const char *path) {
  struct stat st;
  return strspn(path, "0123456789") != strlen(path) && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int target_parse(const char *text, struct target *t, struct beam_error *e) {
  *t = (struct target){.port = 0};
  const char *p = text;
  bool url = false;
  if (strncmp(p, "https://", 8) == 0 || strncmp(p, "unix:", 5) == 0) {
    t->upstream = text;
    return 0;
  }
  if (strncmp(p, "http://", 7) == 0) {
    p += 7;
    url = true;
  }
  if (!url && (p[0] == '.' || strchr(p, '/') || is_directory(p))) {
    if (!is_directory(p))
      return fail(e, BEAM_ERR_INVALID, "build it first, or check the spelling",
                  "there is no folder \"%.100s\"", text);
    t->folder = text;
    return 0;
  }
  size_t n = strcspn(p, "/");
  if (p[n] == '/' && p[n + 1])
    return fail(e, BEAM_ERR_INVALID, "leave the path away: the whole service is shared",
                "\"%.100s\" has a path", text);
  if (port_of(p, n, &t->port))
    return 0;
  if (p[0] == '[') {
    const char *close = memchr(p, ']', n);
    if (!close || !host_of(p + 1, (size_t)(close - p - 1), t))
      return no_target(text, e);
    if (close[1] == ':' && port_of(close + 2, n - (size_t)(close + 2 - p), &t->port))
      return 0;
    return no_target(text, e);
  }
  const char *colon = memchr(p, ':', n);
  if (!colon && url && host_of(p, n, t)) {
    t->port = 80;
    return 0;
  }
  if (!colon || !host_of(p, (size_t)(colon - p), t) ||
      !port_of(colon + 1, n - (size_t)(colon + 1 - p), &t->port))
    return no_target(text, e);
  return 0;
}
