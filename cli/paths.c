/* paths.c: see paths.h. */
#include "paths.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int join(char out[PATH_SIZE], const char *a, const char *b, struct beam_error *e) {
  int n = snprintf(out, PATH_SIZE, "%s/%s", a, b);
  if (n < 0 || n >= PATH_SIZE)
    return fail(e, BEAM_ERR_INVALID, "use a shorter path", "the path %.100s... is too long", a);
  return 0;
}

/* $HOME, else what the user database says; NULL for a user without any, as in some containers. */
static const char *home(const struct cli_env *env, char room[PATH_SIZE]) {
  const char *dir = env_get(env, "HOME");
  if (dir)
    return dir[0] == '/' ? dir : NULL;
  struct passwd pw, *found = NULL;
  static const size_t need = 2048;
  char strings[2048];
  if (getpwuid_r(getuid(), &pw, strings, need, &found) != 0 || !found || !found->pw_dir ||
      found->pw_dir[0] != '/')
    return NULL;
  int n = snprintf(room, PATH_SIZE, "%s", found->pw_dir);
  return n > 0 && n < PATH_SIZE ? room : NULL;
}

/* XDG: a base directory that is not absolute is to be ignored. */
static const char *xdg(const struct cli_env *env, const char *name) {
  const char *dir = env_get(env, name);
  return dir && dir[0] == '/' ? dir : NULL;
}

int path_config(const struct options *o, const struct cli_env *env, char out[PATH_SIZE],
                struct beam_error *e) {
  if (o->config) {
    int n = snprintf(out, PATH_SIZE, "%s", o->config);
    return n < PATH_SIZE ? 0 : fail(e, BEAM_ERR_INVALID, NULL, "--config: the path is too long");
  }
  const char *dir = xdg(env, "XDG_CONFIG_HOME");
  if (dir)
    return join(out, dir, "beam/beam.yml", e);
  char room[PATH_SIZE];
  if (!(dir = home(env, room)))
    return fail(e, BEAM_ERR_NOT_FOUND, "set HOME, or name the file with --config FILE",
                "there is no home directory for the configuration");
  return join(out, dir, ".config/beam/beam.yml", e);
}

int path_data(const struct options *o, const struct cli_env *env, const char *below, char out[PATH_SIZE],
              struct beam_error *e) {
  char room[PATH_SIZE], base[PATH_SIZE];
  const char *dir;
  int r = 0;
  if (o->data) {
    int n = snprintf(base, sizeof base, "%s", o->data);
    r = n < PATH_SIZE ? 0 : fail(e, BEAM_ERR_INVALID, NULL, "--data: the path is too long");
  } else if ((dir = xdg(env, "XDG_DATA_HOME"))) {
    r = join(base, dir, "beam", e);
  } else if ((dir = home(env, room))) {
    r = join(base, dir, ".local/share/beam", e);
  } else {
    return fail(e, BEAM_ERR_INVALID, "set HOME, or give a directory with --data DIR",
                "there is no home directory to keep keys and names in");
  }
  if (r)
    return r;
  if (below)
    return join(out, base, below, e);
  memcpy(out, base, PATH_SIZE);
  return 0;
}

int path_make(const char *dir, struct beam_error *e) {
  char part[PATH_SIZE];
  size_t n = strlen(dir);
  if (n == 0 || n >= sizeof part)
    return fail(e, BEAM_ERR_INVALID, NULL, "not a directory's name: \"%.100s\"", dir);
  memcpy(part, dir, n + 1);
  for (size_t i = 1; i <= n; i++) {
    if (part[i] != '/' && part[i] != 0)
      continue;
    char kept = part[i];
    part[i] = 0;
    if (mkdir(part, 0700) != 0 && errno != EEXIST && errno != EISDIR) {
      int err = errno;
      int code = err == EACCES || err == EPERM || err == EROFS ? BEAM_ERR_PERMISSION
                 : err == ENOSPC                               ? BEAM_ERR_STORE
                                                               : BEAM_ERR_SYSTEM;
      return fail(e, code, NULL, "cannot make the directory %.200s: %s", part, strerror(err));
    }
    part[i] = kept;
  }
  struct stat st;
  if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
    return fail(e, BEAM_ERR_INVALID, "move the file away or choose another directory",
                "%.200s is not a directory", dir);
  return 0;
}

/* Sockets in it take orders, so it must be ours and closed to everyone else: another user may have made it first in /tmp. */
static int private_dir(const char *dir, struct beam_error *e) {
  if (mkdir(dir, 0700) != 0 && errno != EEXIST)
    return fail(e, BEAM_ERR_PERMISSION, "set XDG_RUNTIME_DIR to a directory of yours",
                "cannot make %.200s: %s", dir, strerror(errno));
  struct stat st;
  if (lstat(dir, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid())
    return fail(e, BEAM_ERR_PERMISSION, "set XDG_RUNTIME_DIR to a directory of yours",
                "%.200s belongs to somebody else", dir);
  if ((st.st_mode & 077) && chmod(dir, 0700) != 0)
    return fail(e, BEAM_ERR_PERMISSION, NULL, "%.200s is open to others: %s", dir, strerror(errno));
  return 0;
}

int path_runtime(const struct cli_env *env, char out[PATH_SIZE], struct beam_error *e) {
  const char *base = xdg(env, "XDG_RUNTIME_DIR");
  struct stat st;
  /* 80: a socket's address has 108 bytes, and the rest is for "/beam/4194304-16.sock". A runtime directory that is not ours (sudo keeps the variable) is passed over. */
  if (base && strlen(base) <= 80 && stat(base, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == getuid()) {
    int r = join(out, base, "beam", e);
    return r ? r : private_dir(out, e);
  }
  snprintf(out, PATH_SIZE, "/tmp/beam-%u", (unsigned)getuid());
  return private_dir(out, e);
}
