/* json.c: see json.h. */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ------------------------------------------------------------------------------------------------------ */

static void put(struct json *j, const char *p, size_t n) {
  if (j->broken)
    return;
  if (j->length + n + 1 > j->room) {
    size_t room = (j->length + n + 1) * 2;
    char *text = realloc(j->text, room);
    if (!text) {
      j->broken = true;
      return;
    }
    j->text = text;
    j->room = room;
  }
  memcpy(j->text + j->length, p, n);
  j->length += n;
  j->text[j->length] = 0;
}

/* How many bytes the UTF-8 sequence at p has; 0 when it is none (overlong forms and surrogates are none). */
static size_t sequence(const unsigned char *p) {
  if (p[0] < 0x80)
    return 1;
  if (p[0] >= 0xc2 && p[0] <= 0xdf)
    return (p[1] & 0xc0) == 0x80 ? 2 : 0;
  if ((p[0] & 0xf0) == 0xe0) {
    if ((p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80)
      return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f))
      return 0;
    return 3;
  }
  if (p[0] >= 0xf0 && p[0] <= 0xf4) {
    if ((p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80)
      return 0;
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
      return 0;
    return 4;
  }
  return 0;
}

static void put_escaped(struct json *j, unsigned char c) {
  char hex[8];
  switch (c) {
  case '"':
    put(j, "\\\"", 2);
    break;
  case '\\':
    put(j, "\\\\", 2);
    break;
  case '\n':
    put(j, "\\n", 2);
    break;
  default:
    snprintf(hex, sizeof hex, "\\u%04x", (unsigned)c);
    put(j, hex, 6);
  }
}

static void put_string(struct json *j, const char *value) {
  put(j, "\"", 1);
  for (const unsigned char *p = (const unsigned char *)value; *p;) {
    if (*p < 0x20 || *p == '"' || *p == '\\' || *p == 0x7f) {
      put_escaped(j, *p++);
      continue;
    }
    size_t n = sequence(p);
    if (n == 0) {
      put(j, "\\ufffd", 6);
      p++;
    } else {
      put(j, (const char *)p, n);
      p += n;
    }
  }
  put(j, "\"", 1);
}

static void comma(struct json *j) {
  if (j->length && !strchr("{[", j->text[j->length - 1]))
    put(j, ",", 1);
}

static void put_key(struct json *j, const char *key) {
  comma(j);
  put_string(j, key);
  put(j, ":", 1);
}

void json_open(struct json *j) {
  *j = (struct json){0};
  put(j, "{", 1);
}

void json_text(struct json *j, const char *key, const char *value) {
  put_key(j, key);
  if (value)
    put_string(j, value);
  else
    put(j, "null", 4);
}

void json_whole(struct json *j, const char *key, uint64_t value) {
  char text[24];
  int n = snprintf(text, sizeof text, "%llu", (unsigned long long)value);
  put_key(j, key);
  put(j, text, (size_t)n);
}

void json_decimal(struct json *j, const char *key, double value) {
  char text[64];
  /* Not every double is a number in JSON, and no duration of ours is beyond these. */
  if (!(value >= 0 && value < 1e15))
    value = 0;
  int n = snprintf(text, sizeof text, "%.3f", value);
  put_key(j, key);
  put(j, text, (size_t)n);
}

void json_flag(struct json *j, const char *key, bool value) {
  put_key(j, key);
  put(j, value ? "true" : "false", value ? 4 : 5);
}

void json_strings(struct json *j, const char *key, const char *const *values, size_t n) {
  put_key(j, key);
  put(j, "[", 1);
  for (size_t i = 0; i < n; i++) {
    if (i)
      put(j, ",", 1);
    put_string(j, values[i]);
  }
  put(j, "]", 1);
}

void json_list(struct json *j, const char *key) {
  put_key(j, key);
  put(j, "[", 1);
}

void json_item(struct json *j) {
  comma(j);
  put(j, "{", 1);
}

void json_item_end(struct json *j) {
  put(j, "}", 1);
}

void json_list_end(struct json *j) {
  put(j, "]", 1);
}

void json_close(struct json *j) {
  put(j, "}\n", 2);
}

void json_free(struct json *j) {
  free(j->text);
  *j = (struct json){0};
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

struct sink {
  char *out;
  size_t cap, n;
  bool full;
};

static void sink_byte(struct sink *s, unsigned c) {
  if (!s->out)
    return;
  if (s->n + 1 >= s->cap) {
    s->full = true;
    return;
  }
  s->out[s->n++] = (char)c;
}

static void sink_rune(struct sink *s, unsigned c) {
  if (c < 0x80) {
    sink_byte(s, c);
  } else if (c < 0x800) {
    sink_byte(s, 0xc0 | c >> 6);
    sink_byte(s, 0x80 | (c & 63));
  } else {
    sink_byte(s, 0xe0 | c >> 12);
    sink_byte(s, 0x80 | (c >> 6 & 63));
    sink_byte(s, 0x80 | (c & 63));
  }
}

static const char *skip_space(const char *p) {
  while (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')
    p++;
  return p;
}

/* Four hex digits; -1 when they are none. Our own writer makes no surrogates. */
static int hex4(const char *p) {
  int v = 0;
  for (int i = 0; i < 4; i++) {
    const char *digits = "0123456789abcdef";
    char c = p[i] >= 'A' && p[i] <= 'F' ? (char)(p[i] + 32) : p[i];
    const char *at = c ? strchr(digits, c) : NULL;
    if (!at)
      return -1;
    v = v * 16 + (int)(at - digits);
  }
  return v;
}

/* From the opening quote to behind the closing one; NULL when malformed. */
static const char *read_string(const char *p, struct sink *s) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  for (p++; *p && *p != '"'; p++) {
    if (*p != '\\') {
      sink_byte(s, (unsigned char)*p);
      continue;
    }
    p++;
    if (*p == 'u') {
      int v = hex4(p + 1);
      if (v < 0)
        return NULL;
      sink_rune(s, (unsigned)v);
      p += 4;
      continue;
    }
    const char *at = *p ? strchr(from, *p) : NULL;
    if (!at)
      return NULL;
    sink_byte(s, (unsigned char)to[at - from]);
  }
  return *p ? p + 1 : NULL;
}

static const char *read_value(const char *p, struct sink *s) {
  if (*p == '"')
    return read_string(p, s);
  const char *start = p;
  if (*p == '[') { /* lists are skipped whole: nobody asks for one by name */
    struct sink none = {0};
    for (p++; *p && *p != ']';) {
      const char *next = *p == '"' ? read_string(p, &none) : p + 1;
      if (!next)
        return NULL;
      p = next;
    }
    return *p ? p + 1 : NULL;
  }
  while (*p && !strchr(",} \t\r\n", *p))
    sink_byte(s, (unsigned char)*p++);
  return p == start ? NULL : p;
}

/* The i-th object from a list's opening bracket on; NULL: there is none. */
static const char *item_at(const char *p, unsigned i) {
  struct sink none = {0};
  for (p++; *p && *p != ']';) {
    if (*p == '{' && !i--)
      return p;
    const char *next = *p == '"' ? read_string(p, &none) : p + 1;
    if (!next)
      return NULL;
    p = next;
  }
  return NULL;
}

/* To the value of a top-level key; NULL: there is none. */
static const char *value_of(const char *object, const char *key) {
  const char *p = skip_space(object);
  struct sink none = {0};
  if (*p != '{')
    return NULL;
  for (p = skip_space(p + 1); *p == '"';) {
    char name[64];
    struct sink k = {name, sizeof name, 0, false};
    if (!(p = read_string(p, &k)))
      return NULL;
    name[k.n] = 0;
    p = skip_space(p);
    if (*p != ':')
      return NULL;
    p = skip_space(p + 1);
    if (!k.full && strcmp(name, key) == 0)
      return p;
    if (!(p = read_value(p, &none)))
      return NULL;
    p = skip_space(p);
    if (*p != ',')
      return NULL;
    p = skip_space(p + 1);
  }
  return NULL;
}

const char *json_get_item(const char *object, const char *key, unsigned i) {
  const char *p = value_of(object, key);
  return p && *p == '[' ? item_at(p, i) : NULL;
}

bool json_get(const char *object, const char *key, char *out, size_t cap) {
  const char *p = cap ? value_of(object, key) : NULL;
  struct sink v = {out, cap, 0, false};
  bool quoted = p && *p == '"';
  if (!p || *p == '[' || !read_value(p, &v))
    return false;
  out[v.n] = 0;
  return !v.full && (quoted || strcmp(out, "null") != 0);
}
