#include "identity/tokens.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/random.h"
#include "base/str.h"

enum { FILE_MAX = 1024 * 1024, TOKEN_MIN = 16, TOKEN_MAX = 1024, SUM = crypto_generichash_BYTES };

struct tokens {
  uint8_t salt[crypto_generichash_KEYBYTES]; /* so that the sums in memory are of no use elsewhere */
  uint8_t (*sums)[SUM];
  size_t n;
};

static void sum_of(const struct tokens *t, struct span token, uint8_t out[SUM]) {
  crypto_generichash(out, SUM, (const uint8_t *)token.p, token.n, t->salt, sizeof t->salt);
}

static struct span trim(struct span s) {
  while (s.n && strchr(" \t\r", s.p[0]) && s.p[0])
    s.p++, s.n--;
  while (s.n && strchr(" \t\r", s.p[s.n - 1]) && s.p[s.n - 1])
    s.n--;
  return s;
}

static bool printable(struct span s) {
  for (size_t i = 0; i < s.n; i++)
    if (s.p[i] <= 0x20 || s.p[i] >= 0x7f)
      return false;
  return true;
}

/* What is wrong with a token, or NULL. The token itself is never shown. */
static const char *complaint(struct span s) {
  if (s.n < TOKEN_MIN)
    return "shorter than 16 characters: it could be guessed";
  if (s.n > TOKEN_MAX)
    return "longer than 1024 characters";
  return printable(s) ? NULL : "not of printable characters without spaces";
}

static int parse(struct tokens *t, struct span text, const char *file, struct beam_error *e) {
  size_t lines = 1, number = 0;
  for (size_t i = 0; i < text.n; i++)
    lines += text.p[i] == '\n';
  t->sums = calloc(lines, SUM);
  if (!t->sums)
    return err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for %zu tokens", lines);
  while (text.n) {
    const char *end = memchr(text.p, '\n', text.n);
    size_t len = end ? (size_t)(end - text.p) : text.n;
    struct span line = trim((struct span){text.p, len});
    text.p += len + (end != NULL);
    text.n -= len + (end != NULL);
    number++;
    if (!line.n || line.p[0] == '#')
      continue;
    const char *bad = complaint(line);
    if (bad)
      return err_set(e, BEAM_ERR_INVALID, "one token a line; `openssl rand -hex 24` makes a good one",
                     "line %zu of %s is %s", number, file, bad);
    sum_of(t, line, t->sums[t->n++]);
  }
  return t->n ? 0
              : err_set(e, BEAM_ERR_INVALID,
                        "put one token a line into it; `openssl rand -hex 24` makes a good one",
                        "%s has no token in it", file);
}

int tokens_load(const char *file, struct tokens **out, struct beam_error *e) {
  char *text;
  size_t len;
  *out = NULL;
  if (base_init())
    return err_set(e, BEAM_ERR_SYSTEM, NULL, "no source of random numbers");
  int err = file_read_secret(file, FILE_MAX, &text, &len, e);
  if (err)
    return err;
  struct tokens *t = calloc(1, sizeof *t);
  if (t)
    random_bytes(t->salt, sizeof t->salt);
  err = t ? parse(t, (struct span){text, len}, file, e)
          : err_set(e, BEAM_ERR_NOMEM, NULL, "no memory for tokens");
  sodium_memzero(text, len);
  free(text);
  if (err)
    tokens_free(t);
  else
    *out = t;
  return err;
}

bool tokens_match(const struct tokens *t, const char *token) {
  uint8_t sum[SUM];
  struct span s = span_of(token);
  if (s.n > TOKEN_MAX)
    return false;
  sum_of(t, s, sum);
  int hit = 0;
  for (size_t i = 0; i < t->n; i++) /* all of them, whichever fits */
    hit |= sodium_memcmp(sum, t->sums[i], SUM) == 0;
  return hit;
}

size_t tokens_count(const struct tokens *t) {
  return t->n;
}

void tokens_free(struct tokens *t) {
  if (!t)
    return;
  free(t->sums);
  sodium_memzero(t, sizeof *t);
  free(t);
}
