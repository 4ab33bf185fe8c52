#include "agent/target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/err.h"
#include "base/str.h"
#include "wire/host.h"

uint16_t target_number(const char *text) {
  uint32_t h = 2166136261u; /* FNV-1a */
  for (; *text; text++)
    h = (h ^ (uint8_t)*text) * 16777619u;
  return (uint16_t)(h % 65535 + 1);
}

int target_of(const char *host, uint16_t port, bool tls, struct target *out) {
  *out = (struct target){.port = port, .tls = tls};
  bool six = strchr(host, ':') != NULL;
  bool usual = port == (tls ? 443 : 80);
  if (!str_copy(out->host, sizeof out->host, host) ||
      !str_fmt(out->authority, sizeof out->authority, six ? "[%s]" : "%s", host))
    return BEAM_ERR_INVALID;
  size_t n = strlen(out->authority);
  return usual || str_fmt(out->authority + n, sizeof out->authority - n, ":%u", port) ? 0 : BEAM_ERR_INVALID;
}

int target_folder(const char *path, struct target *out, struct beam_error *err) {
  char *whole = realpath(path, NULL);
  if (!whole)
    return err_set(err, err_from_errno(errno), NULL, "the folder %.200s: %s", path, strerror(errno));
  *out = (struct target){.port = target_number(whole), .local = true};
  str_copy(out->authority, sizeof out->authority, "localhost");
  free(whole);
  return 0;
}

/* "unix:/path", "unix:path" or "unix:///path" */
static int unix_target(const char *text, struct target *out, struct beam_error *err) {
  const char *path = text + 5;
  if (path[0] == '/' && path[1] == '/' && path[2] == '/')
    path += 2;
  if (!*path || (path[0] == '/' && path[1] == '/'))
    return err_set(err, BEAM_ERR_INVALID, "unix:/run/app.sock", "\"%.100s\" names no socket", text);
  if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
    return err_set(err, BEAM_ERR_INVALID, "give a shorter path, or one from the current directory on",
                   "the path of a unix socket has at most %zu bytes",
                   sizeof((struct sockaddr_un *)0)->sun_path - 1);
  *out = (struct target){.port = target_number(path), .local = true};
  str_fmt(out->host, sizeof out->host, "unix:%s", path);
  str_copy(out->authority, sizeof out->authority, "localhost");
  return 0;
}

int target_parse(const char *text, struct target *out, struct beam_error *err) {
  bool tls = !strncmp(text, "https://", 8);
  uint16_t port = 0;
  char host[HOST_MAX];
  if (!strncmp(text, "unix:", 5))
    return unix_target(text, out, err);
  if (!tls && strncmp(text, "http://", 7) != 0)
    return err_set(err, BEAM_ERR_INVALID, "http://HOST:PORT, https://HOST:PORT or unix:/PATH",
                   "\"%.100s\" is no address of a local service", text);
  struct span rest = span_of(text + (tls ? 8 : 7));
  size_t n = strcspn(rest.p, "/?#");
  if (rest.n > n + 1 || (rest.n > n && rest.p[n] != '/'))
    return err_set(err, BEAM_ERR_INVALID, "leave the path away: the whole service is shared",
                   "\"%.100s\" has a path", text);
  if (!host_parse((struct span){rest.p, n}, host, &port))
    return err_set(err, BEAM_ERR_INVALID, "http://HOST:PORT, https://HOST:PORT or unix:/PATH",
                   "\"%.100s\" names no host", text);
  if (!port)
    port = tls ? 443 : 80;
  return target_of(host, port, tls, out)
             ? err_set(err, BEAM_ERR_INVALID, NULL, "\"%.100s\" is too long", text)
             : 0;
}
