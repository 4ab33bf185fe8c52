#include "identity/pins.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/str.h"
#include "identity/cert.h"

/* Lines of "host:port sha256:HEX", # comments kept as they are. Enough for thousands of relays. */
enum { FILE_MAX = 1024 * 1024 };
#define FILE_NAME "known_relays"

struct line {
  struct span whole; /* with its newline */
  struct span relay; /* empty: a comment or an empty line */
  uint8_t fp[32];
};

static int damaged(const char *path, size_t number, struct beam_error *e) {
  return err_set(e, BEAM_ERR_INVALID, "correct or delete that line; each is: HOST:PORT sha256:HEX",
                 "line %zu of %s is damaged", number, path);
}

/* Cut the next line off rest. False: malformed. */
static bool next_line(struct span *rest, struct line *out) {
  const char *end = memchr(rest->p, '\n', rest->n);
  size_t n = end ? (size_t)(end - rest->p) : rest->n;
  *out = (struct line){.whole = {rest->p, n + (end != NULL)}};
  struct span s = {rest->p, n};
  rest->p += out->whole.n;
  rest->n -= out->whole.n;
  if (!s.n || s.p[0] == '#')
    return true;
  const char *space = memchr(s.p, ' ', s.n);
  if (!space || space == s.p)
    return false;
  struct span fp = {space + 1, s.n - (size_t)(space + 1 - s.p)};
  if (fp.n != FINGERPRINT_TEXT - 1 || memcmp(fp.p, "sha256:", 7))
    return false;
  out->relay = (struct span){s.p, (size_t)(space - s.p)};
  return hex_decode(out->fp, 32, (struct span){fp.p + 7, 64});
}

/* The file's text; an absent file is an empty one. */
static int load(const char *path, char **text, size_t *n, struct beam_error *e) {
  int err = file_read_secret(path, FILE_MAX, text, n, e);
  if (err != BEAM_ERR_NOT_FOUND)
    return err;
  *n = 0;
  *text = calloc(1, 1);
  return *text ? 0 : err_set(e, BEAM_ERR_NOMEM, NULL, "no memory to read %s", path);
}

static int compare(const char *path, const char *relay, const uint8_t known[32], const uint8_t seen[32],
                   struct beam_error *e) {
  if (!sodium_memcmp(known, seen, 32))
    return PIN_KNOWN;
  char a[FINGERPRINT_TEXT], hint[320];
  fingerprint_text(a, seen);
  str_fmt(hint, sizeof hint,
          "if its owner set it up anew, give its CA with --relay-ca or remove its line from %s; else "
          "somebody may be in the middle",
          path);
  return err_set(e, BEAM_ERR_UNTRUSTED, hint, "%s is not the relay it was before: its CA is now %s", relay,
                 a);
}

int pins_check(const char *dir, const char *host_port, const uint8_t fp[32], struct beam_error *e) {
  char path[PATH_ROOM], *text;
  size_t n, number = 0;
  int err = path_join(path, dir, FILE_NAME, e);
  if (err || (err = load(path, &text, &n, e)))
    return err;
  err = PIN_NEW;
  for (struct span rest = {text, n}; rest.n && err == PIN_NEW;) {
    struct line l;
    number++;
    if (!next_line(&rest, &l))
      err = damaged(path, number, e);
    else if (span_ieq(l.relay, span_of(host_port)))
      err = compare(path, host_port, l.fp, fp, e);
  }
  free(text);
  return err;
}

/* Write the file again without the relay's line, and with `add` at its end. Returns the lines taken out, or an error. */
static int rewrite(const char *path, const char *relay, const char *add, struct beam_error *e) {
  char *text, *out;
  size_t n, len = 0, number = 0, add_n = strlen(add);
  int err = load(path, &text, &n, e), gone = 0;
  if (err)
    return err;
  if (!(out = malloc(n + 1 + add_n + 1))) {
    free(text);
    return err_set(e, BEAM_ERR_NOMEM, NULL, "no memory to write %s", path);
  }
  for (struct span rest = {text, n}; rest.n && !err;) {
    struct line l;
    number++;
    if (!next_line(&rest, &l)) {
      err = damaged(path, number, e);
    } else if (l.relay.n && span_ieq(l.relay, span_of(relay))) {
      gone++;
    } else {
      memcpy(out + len, l.whole.p, l.whole.n);
      len += l.whole.n;
    }
  }
  if (len && out[len - 1] != '\n')
    out[len++] = '\n';
  memcpy(out + len, add, add_n);
  if (!err && (gone || add_n))
    err = file_write(path, 0600, out, len + add_n, e);
  free(out);
  free(text);
  return err ? err : gone;
}

static int locked_rewrite(const char *dir, const char *relay, const char *add, struct beam_error *e) {
  char path[PATH_ROOM];
  int err = path_join(path, dir, FILE_NAME, e);
  if (err || (err = dir_make_private(dir, e)))
    return err;
  int lock = file_lock(dir, "keys.lock", e);
  if (lock < 0)
    return lock;
  err = rewrite(path, relay, add, e);
  close(lock);
  return err;
}

static bool host_port_ok(const char *s) {
  return *s && *s != '#' && !strpbrk(s, " \t\r\n") && strlen(s) < 512;
}

int pins_remember(const char *dir, const char *host_port, const uint8_t fp[32], struct beam_error *e) {
  char text[FINGERPRINT_TEXT], add[640];
  fingerprint_text(text, fp);
  if (!host_port_ok(host_port) || !str_fmt(add, sizeof add, "%s %s\n", host_port, text))
    return err_set(e, BEAM_ERR_INVALID, NULL, "not a relay's address: %.100s", host_port);
  int n = locked_rewrite(dir, host_port, add, e);
  return n < 0 ? n : 0;
}

int pins_forget(const char *dir, const char *host_port, struct beam_error *e) {
  int n = locked_rewrite(dir, host_port, "", e);
  if (n == 0)
    return err_set(e, BEAM_ERR_NOT_FOUND, NULL, "%s is not among the known relays", host_port);
  return n < 0 ? n : 0;
}
