/* config.c: see config.h. The parser (config_yaml.c) finds keys, values and lines; everything about the file itself is here. */
#include "config.h"
#include "config_yaml.h"
#include "options.h"
#include "paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONFIG_BYTES = 64 * 1024 }; /* a hand-written file; more is a mistake in the path */

void config_free(struct config_file *f) {
  for (size_t i = 0; i < f->n; i++) {
    free(f->entries[i].key);
    free(f->entries[i].value);
  }
  free(f->entries);
  free(f->text);
  *f = (struct config_file){0};
}

static int errno_code(int err) {
  return err == EACCES || err == EPERM || err == EROFS ? BEAM_ERR_PERMISSION
         : err == ENOSPC || err == EDQUOT              ? BEAM_ERR_STORE
                                                       : BEAM_ERR_SYSTEM;
}

static int read_text(const char *path, struct config_file *f, struct beam_error *e) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
    return 0;
  if (fd < 0)
    return fail(e, errno_code(errno), "check the file's owner and mode, or name another with --config FILE",
                "cannot read the configuration %.200s: %s", path, strerror(errno));
  f->text = malloc(CONFIG_BYTES + 1);
  ssize_t n = 0;
  while (f->text && f->length < CONFIG_BYTES &&
         (n = read(fd, f->text + f->length, CONFIG_BYTES - f->length)) > 0)
    f->length += (size_t)n;
  int err = errno;
  close(fd);
  if (!f->text)
    return fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  f->text[f->length] = 0;
  if (n < 0)
    return fail(e, errno_code(err), "check the file, or name another with --config FILE",
                "cannot read the configuration %.200s: %s", path, strerror(err));
  if (f->length == CONFIG_BYTES)
    return fail(e, BEAM_ERR_TOO_LARGE, NULL, "the configuration %.200s is larger than 64 KiB", path);
  return 0;
}

int config_read(const char *path, struct config_file *f, struct beam_error *e) {
  *f = (struct config_file){0};
  int r = read_text(path, f, e);
  if (r == 0 && f->length)
    r = config_parse(path, f, e);
  if (r)
    config_free(f);
  return r;
}

const struct config_entry *config_find(const struct config_file *f, const char *key) {
  for (size_t i = 0; i < f->n; i++)
    if (strcmp(f->entries[i].key, key) == 0)
      return &f->entries[i];
  return NULL;
}

/* ---- writing ------------------------------------------------------------------------------------------------------ */

/* "dir/.beam.yml.PID" beside the file, so that the rename stays on one file system. */
static int write_whole(const char *path, const char *text, size_t n, struct beam_error *e) {
  char dir[PATH_SIZE], part[PATH_SIZE + 32];
  snprintf(dir, sizeof dir, "%s", path);
  char *slash = strrchr(dir, '/');
  if (slash == dir)
    slash++;
  if (slash)
    *slash = 0;
  else
    snprintf(dir, sizeof dir, ".");
  int r = path_make(dir, e);
  if (r)
    return r;
  snprintf(part, sizeof part, "%s.%ld.part", path, (long)getpid());
  int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0)
    return fail(e, errno_code(errno), NULL, "cannot write %.200s: %s", part, strerror(errno));
  bool ok = true;
  for (size_t done = 0; ok && done < n;) {
    ssize_t k = write(fd, text + done, n - done);
    ok = k > 0 || (k < 0 && errno == EINTR);
    done += k > 0 ? (size_t)k : 0;
  }
  ok = ok && fsync(fd) == 0;
  int err = errno;
  if (close(fd) != 0 && ok) {
    ok = false;
    err = errno;
  }
  if (ok && rename(part, path) != 0) {
    ok = false;
    err = errno;
  }
  if (!ok) {
    unlink(part);
    return fail(e, errno_code(err), NULL, "cannot write %.200s: %s", path, strerror(err));
  }
  int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (d >= 0) {
    fsync(d);
    close(d);
  }
  return 0;
}

/* A double-quoted YAML scalar: any text is safe in it. */
static void quoted(FILE *f, const char *value) {
  fputc('"', f);
  for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
    if (*p == '"' || *p == '\\')
      fprintf(f, "\\%c", *p);
    else if (*p < 0x20 || *p == 0x7f)
      fprintf(f, "\\x%02x", *p);
    else
      fputc(*p, f);
  }
  fputc('"', f);
}

int config_write(const char *path, const char *key, const char *value, struct beam_error *e) {
  struct config_file f;
  int r = config_read(path, &f, e);
  if (r)
    return r;
  const struct config_entry *old = config_find(&f, key);
  char *text = NULL;
  size_t n = 0;
  FILE *out = open_memstream(&text, &n);
  if (!out) {
    r = fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
    goto done;
  }
  if (!value && !old) {
    r = fail(e, BEAM_ERR_NOT_FOUND, "beam config list shows what is set", "%s is not set in %.200s", key,
             path);
    fclose(out);
    goto done;
  }
  size_t before = old ? old->start : f.length;
  if (f.length)
    fwrite(f.text, 1, before, out);
  if (!old && f.length && f.text[f.length - 1] != '\n')
    fputc('\n', out);
  if (value) {
    fprintf(out, "%s: ", key);
    quoted(out, value);
    fputc('\n', out);
  }
  if (old)
    fwrite(f.text + old->end, 1, f.length - old->end, out);
  bool bad = ferror(out) != 0;
  if (fclose(out) != 0 || bad)
    r = fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  else
    r = write_whole(path, text, n, e);
done:
  free(text);
  config_free(&f);
  return r;
}
