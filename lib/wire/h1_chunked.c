/* The chunked coding (RFC 9112 7.1), byte by byte where there is framing, in one stride where there is data.
 *
 *   SIZE_1 --hex--> SIZE --CR--> SIZE_LF --LF, size > 0--> DATA --left == 0--> DATA_CR --CR--> DATA_LF --LF--> SIZE_1
 *                    |  ;            ^ CR  |
 *                    v               |     +--LF, size == 0--> TRAILERS --empty line--> DONE
 *                   EXT_NAME.. EXT_VALUE.. |                       +--fields, whole--> LAST --CR LF--> DONE
 */
#include "base/limits.h"
#include "wire/chars.h"
#include "wire/h1.h"

enum {
  SIZE_1, /* a size needs a digit */
  SIZE,
  EXT_NAME_1, /* after ";": a name needs a character */
  EXT_NAME,
  EXT_VALUE_1, /* after "=" */
  EXT_VALUE,
  EXT_QUOTED,
  EXT_ESCAPED, /* after a backslash in quotes */
  EXT_END,     /* after the closing quote */
  SIZE_LF,
  DATA,
  DATA_CR,
  DATA_LF,
  TRAILERS,
  LAST, /* the trailer section was handed out */
  DONE,
  BAD,
};

void h1_chunked_init(struct h1_chunked *c) {
  *c = (struct h1_chunked){.state = SIZE_1};
}

static int hex(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int size_digit(struct h1_chunked *c, char ch) {
  int d = hex(ch);
  if (d < 0 || c->left > (uint64_t)INT64_MAX >> 4)
    return BAD;
  c->left = c->left << 4 | (uint64_t)d;
  return SIZE;
}

/* What may follow a finished size, name or value. */
static int extension_or_end(char ch) {
  return ch == ';' ? EXT_NAME_1 : ch == '\r' ? SIZE_LF : BAD;
}

/* The state after one more byte of framing. */
static int step(struct h1_chunked *c, char ch) {
  switch (c->state) {
  case SIZE_1:
    return size_digit(c, ch);
  case SIZE:
    return ch == ';' || ch == '\r' ? extension_or_end(ch) : size_digit(c, ch);
  case EXT_NAME_1:
    return char_is(ch, CHAR_TOKEN) ? EXT_NAME : BAD;
  case EXT_NAME:
    return char_is(ch, CHAR_TOKEN) ? EXT_NAME : ch == '=' ? EXT_VALUE_1 : extension_or_end(ch);
  case EXT_VALUE_1:
    return char_is(ch, CHAR_TOKEN) ? EXT_VALUE : ch == '"' ? EXT_QUOTED : BAD;
  case EXT_VALUE:
    return char_is(ch, CHAR_TOKEN) ? EXT_VALUE : extension_or_end(ch);
  case EXT_QUOTED:
    return ch == '"' ? EXT_END : ch == '\\' ? EXT_ESCAPED : char_is(ch, CHAR_VALUE) ? EXT_QUOTED : BAD;
  case EXT_ESCAPED:
    return char_is(ch, CHAR_VALUE) ? EXT_QUOTED : BAD;
  case EXT_END:
    return extension_or_end(ch);
  case SIZE_LF:
    return ch != '\n' ? BAD : c->left ? DATA : TRAILERS;
  case DATA_CR:
    return ch == '\r' ? DATA_LF : BAD;
  case DATA_LF:
    return ch == '\n' ? SIZE_1 : BAD;
  }
  return BAD;
}

static enum h1_chunk_what bad(struct h1_chunked *c) {
  c->state = BAD;
  return H1_CHUNK_BAD;
}

/* p stands at the first trailer line, or at the empty line where there is none. */
static enum h1_chunk_what trailers(struct h1_chunked *c, const char *p, size_t n, size_t *used,
                                   size_t *data) {
  if (!n || (*p == '\r' && n < 2))
    return H1_CHUNK_MORE;
  if (*p == '\r') {
    if (p[1] != '\n')
      return bad(c);
    *used += 2;
    c->state = DONE;
    return H1_CHUNK_END;
  }
  size_t end = h1_section_end(p, n, c->scanned);
  if (end > LIMIT_HEAD_BYTES || (!end && n >= LIMIT_HEAD_BYTES))
    return bad(c);
  if (!end) {
    c->scanned = n;
    return H1_CHUNK_MORE;
  }
  if (end < 4 || p[end - 2] != '\r') /* "\n" alone, as the first line or the last */
    return bad(c);
  *data = end - 2;
  c->state = LAST;
  return H1_CHUNK_TRAILERS;
}

static enum h1_chunk_what last(struct h1_chunked *c, const char *p, size_t n, size_t *used) {
  if (n && p[0] != '\r')
    return bad(c);
  if (n < 2)
    return H1_CHUNK_MORE;
  if (p[1] != '\n')
    return bad(c);
  *used += 2;
  c->state = DONE;
  return H1_CHUNK_END;
}

enum h1_chunk_what h1_chunked_next(struct h1_chunked *c, const char *p, size_t n, size_t *used,
                                   size_t *data) {
  size_t at = 0;
  *used = *data = 0;
  while (c->state < DATA || c->state == DATA_CR || c->state == DATA_LF) {
    if (at == n) {
      *used = at;
      return H1_CHUNK_MORE;
    }
    c->state = step(c, p[at++]);
    c->line = c->state == SIZE_1 ? 0 : c->line + 1;
    if (c->line > LIMIT_CHUNK_LINE)
      return bad(c);
  }
  *used = at;
  switch (c->state) {
  case DATA:
    *data = n - at < c->left ? n - at : (size_t)c->left;
    return *data ? H1_CHUNK_DATA : H1_CHUNK_MORE;
  case TRAILERS:
    return trailers(c, p + at, n - at, used, data);
  case LAST:
    return last(c, p + at, n - at, used);
  case DONE:
    return H1_CHUNK_END;
  }
  return H1_CHUNK_BAD;
}

void h1_chunked_ate(struct h1_chunked *c, size_t n) {
  if (c->state != DATA)
    return;
  c->left -= n < c->left ? n : c->left;
  if (!c->left) {
    c->state = DATA_CR;
    c->line = 0;
  }
}
