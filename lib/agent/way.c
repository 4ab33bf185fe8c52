#include "agent/way.h"

#include <beam/beam.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"

/* Lines of "RELAY NETWORK WORD", the newest first. */
#define FILE_NAME "transports"
enum { LINES = 64, LINE_MAX = 512, FILE_MAX = LINES * LINE_MAX, ROUTES_MAX = 256 * 1024 };

/* --- the network --- */

/* One line of /proc/net/route: interface, destination, gateway, flags, refcount, use, metric, mask, ... in hex. */
static bool default_route(const char *line, char *out, size_t cap, unsigned *metric) {
  char interface[32];
  unsigned destination, gateway, flags, mask;
  if (sscanf(line, "%31s %x %x %x %*d %*u %u %x", interface, &destination, &gateway, &flags, metric, &mask) !=
      6)
    return false;
  return !destination && !mask && flags & 1 && str_fmt(out, cap, "%s/%08x", interface, gateway);
}

/* One line of /proc/net/ipv6_route: destination, its length, source, its length, next hop, metric, refcount, use, flags, interface. */
static bool default_route6(const char *line, char *out, size_t cap, unsigned *metric) {
  char destination[33], length[3], hop[33], interface[32];
  unsigned flags;
  if (sscanf(line, "%32s %2s %*s %*s %32s %x %*x %*x %x %31s", destination, length, hop, metric, &flags,
             interface) != 6)
    return false;
  return !strcmp(length, "00") && strspn(destination, "0") == 32 && flags & 1 && !(flags & 0x200) &&
         strspn(hop, "0") < 32 && str_fmt(out, cap, "%s/%s", interface, hop);
}

static bool best_route(const char *text, bool (*parse)(const char *, char *, size_t, unsigned *),
                       char out[WAY_NETWORK]) {
  char found[WAY_NETWORK], line[256];
  unsigned metric, best = 0;
  bool any = false;
  for (const char *p = text; p && *p;) {
    size_t n = strcspn(p, "\n");
    str_fmt(line, sizeof line, "%.*s", (int)(n < sizeof line ? n : sizeof line - 1), p);
    if (parse(line, found, sizeof found, &metric) && (!any || metric < best)) {
      str_copy(out, WAY_NETWORK, found);
      best = metric;
      any = true;
    }
    p += n + (p[n] != 0);
  }
  return any;
}

void way_network_of(const char *routes, const char *routes6, char out[WAY_NETWORK]) {
  if (!best_route(routes, default_route, out) && !best_route(routes6, default_route6, out))
    str_copy(out, WAY_NETWORK, "-");
}

static char *slurp(const char *path) {
  char *text = NULL;
  size_t n;
  return file_read(path, ROUTES_MAX, &text, &n, NULL) ? NULL : text;
}

void way_network(char out[WAY_NETWORK]) {
  char *routes = slurp("/proc/net/route"), *routes6 = slurp("/proc/net/ipv6_route");
  way_network_of(routes, routes6, out);
  free(routes);
  free(routes6);
}

/* --- the file --- */

static bool is_word(const char *s) {
  return *s && !strpbrk(s, " \t\r\n") && strlen(s) < LINE_MAX / 4;
}

/* "RELAY NETWORK " at the start of a line: what follows it, or NULL. */
static const char *after_key(const char *line, const char *key) {
  size_t n = strlen(key);
  return strncmp(line, key, n) ? NULL : line + n;
}

static bool key_of(const char *relay, const char *network, char out[LINE_MAX]) {
  return is_word(relay) && is_word(network) && str_fmt(out, LINE_MAX, "%s %s ", relay, network);
}

static const char *find(const char *text, const char *key) {
  const char *word = NULL;
  for (const char *p = text; *p && !word; p += strcspn(p, "\n"), p += *p != 0)
    word = after_key(p, key);
  return word;
}

int way_recall(const char *dir, const char *relay, const char *network, char *out, size_t cap) {
  char path[PATH_ROOM], key[LINE_MAX], *text;
  size_t n;
  if (!key_of(relay, network, key))
    return BEAM_ERR_INVALID;
  int err = path_join(path, dir, FILE_NAME, NULL);
  if (err || (err = file_read(path, FILE_MAX, &text, &n, NULL)))
    return err;
  const char *word = find(text, key);
  bool fits = word && str_fmt(out, cap, "%.*s", (int)strcspn(word, "\r\n"), word);
  free(text);
  return fits ? 0 : BEAM_ERR_NOT_FOUND;
}

int way_remember(const char *dir, const char *relay, const char *network, const char *word) {
  char path[PATH_ROOM], key[LINE_MAX], known[LINE_MAX], *old = NULL;
  char *fresh = malloc(FILE_MAX + LINE_MAX);
  size_t n = 0, len = 0;
  int err = fresh ? 0 : BEAM_ERR_NOMEM;
  if (!err && (!key_of(relay, network, key) || !is_word(word)))
    err = BEAM_ERR_INVALID;
  if (!err && !way_recall(dir, relay, network, known, sizeof known) && !strcmp(known, word))
    goto out;
  if (!err)
    err = path_join(path, dir, FILE_NAME, NULL);
  if (err)
    goto out;
  if (file_read(path, FILE_MAX, &old, &n, NULL)) /* absent, or too large to be ours: begin anew */
    old = NULL;
  str_fmt(fresh, LINE_MAX, "%s%s\n", key, word);
  len = strlen(fresh);
  unsigned lines = 1;
  for (const char *p = old; p && *p && lines < LINES;) {
    size_t k = strcspn(p, "\n");
    k += p[k] != 0;
    if (!after_key(p, key) && len + k < FILE_MAX) {
      memcpy(fresh + len, p, k);
      len += k;
      lines++;
    }
    p += k;
  }
  err = file_write(path, 0600, fresh, len, NULL);

out:
  free(old);
  free(fresh);
  return err;
}
