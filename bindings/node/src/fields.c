/* fields.c: see addon.h. */
#include "addon.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int error_set(struct beam_error *e, int code, const char *hint, const char *format, ...) {
  va_list ap;
  e->code = code;
  va_start(ap, format);
  vsnprintf(e->what, sizeof e->what, format, ap);
  va_end(ap);
  snprintf(e->hint, sizeof e->hint, "%s", hint ? hint : beam_err_hint(code));
  return code;
}

int text_read(napi_env env, napi_value value, const char *what, char **out, struct beam_error *e) {
  size_t n = 0;
  *out = NULL;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &n) != napi_ok)
    return error_set(e, BEAM_ERR_INVALID, "give a string", "%.60s is not a string", what);
  char *text = malloc(n + 1);
  if (!text)
    return error_set(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  if (napi_get_value_string_utf8(env, value, text, n + 1, &n) != napi_ok || strlen(text) != n) {
    free(text);
    return error_set(e, BEAM_ERR_INVALID, "leave it out", "%.60s has a zero byte in it", what);
  }
  *out = text;
  return 0;
}

napi_value text_write(napi_env env, const char *text) {
  napi_value v;
  if (!text || napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &v) != napi_ok)
    napi_get_null(env, &v);
  return v;
}

/* ---- JavaScript to C ---------------------------------------------------------------------------------------------- */

static int read_number(napi_env env, napi_value value, const struct field *f, void *at,
                       struct beam_error *e) {
  double d = 0, max = f->type == F_U16   ? 65535
                      : f->type == F_INT ? 2147483647
                      : f->type == F_U64 ? 9007199254740991 /* beyond it JavaScript's numbers have gaps */
                                         : 4294967295;
  if (napi_get_value_double(env, value, &d) != napi_ok)
    return error_set(e, BEAM_ERR_INVALID, "give a number", "%s is not a number", f->key);
  if (!(d >= 0 && d <= max) || d != floor(d))
    return error_set(e, BEAM_ERR_INVALID, NULL, "%s is %g: it must be a whole number from 0 to %.0f", f->key,
                     d, max);
  if (f->type == F_U16)
    *(uint16_t *)at = (uint16_t)d;
  else if (f->type == F_INT)
    *(int *)at = (int)d;
  else if (f->type == F_U64)
    *(uint64_t *)at = (uint64_t)d;
  else
    *(uint32_t *)at = (uint32_t)d;
  return 0;
}

static int read_name(napi_env env, napi_value value, const struct field *f, int *at, struct beam_error *e) {
  char *text, all[200] = "";
  int err = text_read(env, value, f->key, &text, e), i = 0;
  if (!text)
    return err;
  while (f->names[i] && strcmp(f->names[i], text))
    i++;
  *at = i;
  if (!f->names[i]) {
    for (i = 0; f->names[i]; i++)
      snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "one of ", f->names[i]);
    err = error_set(e, BEAM_ERR_INVALID, all, "%s cannot be \"%.60s\"", f->key, text);
  }
  free(text);
  return err;
}

static int read_field(napi_env env, napi_value value, const struct field *f, char *to, struct beam_error *e) {
  napi_valuetype type;
  bool flag;
  napi_typeof(env, value, &type);
  if (type == napi_undefined || type == napi_null)
    return 0;
  switch (f->type) {
  case F_TEXT:
    return text_read(env, value, f->key, (char **)(to + f->at), e);
  case F_NAME:
    return read_name(env, value, f, (int *)(to + f->at), e);
  case F_FLAG:
    if (napi_get_value_bool(env, value, &flag) != napi_ok)
      return error_set(e, BEAM_ERR_INVALID, "give true or false", "%s is not a boolean", f->key);
    *(int *)(to + f->at) = flag;
    return 0;
  default:
    return read_number(env, value, f, to + f->at, e);
  }
}

static int check_keys(napi_env env, napi_value object, const struct field *table, struct beam_error *e) {
  napi_value keys, key;
  uint32_t n = 0;
  char *text;
  if (napi_get_property_names(env, object, &keys) != napi_ok)
    return error_set(e, BEAM_ERR_INVALID, "give an object: { port: 3000 }", "the options are not an object");
  napi_get_array_length(env, keys, &n);
  for (uint32_t i = 0; i < n; i++) {
    int known = 0;
    if (napi_get_element(env, keys, i, &key) != napi_ok || text_read(env, key, "an option", &text, e) ||
        !text)
      return error_set(e, BEAM_ERR_INVALID, NULL, "the options are not a plain object");
    for (const struct field *f = table; f->key && !known; f++)
      known = !strcmp(f->key, text);
    if (!known)
      error_set(e, BEAM_ERR_INVALID, "check the spelling; the types of the package list all options",
                "there is no option \"%.60s\"", text);
    free(text);
    if (!known)
      return BEAM_ERR_INVALID;
  }
  return 0;
}

int fields_read(napi_env env, napi_value object, const struct field *table, void *to, struct beam_error *e) {
  int err = check_keys(env, object, table, e);
  for (const struct field *f = table; f->key && !err; f++) {
    napi_value value;
    if (napi_get_named_property(env, object, f->key, &value) != napi_ok)
      err = error_set(e, BEAM_ERR_INVALID, NULL, "%s cannot be read", f->key);
    else
      err = read_field(env, value, f, to, e);
  }
  return err;
}

/* ---- C to JavaScript ---------------------------------------------------------------------------------------------- */

static napi_value write_number(napi_env env, double d) {
  napi_value v = NULL;
  napi_create_double(env, d, &v);
  return v;
}

static napi_value write_field(napi_env env, const struct field *f, const char *from) {
  napi_value v = NULL;
  const void *at = from + f->at;
  switch (f->type) {
  case F_TEXT:
    return text_write(env, *(const char *const *)at);
  case F_NAME:
    return text_write(env, f->names[*(const int *)at]);
  case F_FLAG:
    napi_get_boolean(env, *(const int *)at != 0, &v);
    return v;
  case F_INT:
    return write_number(env, *(const int *)at);
  case F_U16:
    return write_number(env, *(const uint16_t *)at);
  case F_U32:
    return write_number(env, *(const uint32_t *)at);
  case F_U64:
    return write_number(env, (double)*(const uint64_t *)at);
  case F_I64:
    return write_number(env, (double)*(const int64_t *)at);
  case F_DOUBLE:
    return write_number(env, *(const double *)at);
  }
  return NULL;
}

napi_value fields_write(napi_env env, const struct field *table, const void *from) {
  napi_value object = NULL;
  napi_create_object(env, &object);
  for (const struct field *f = table; f->key; f++)
    napi_set_named_property(env, object, f->key, write_field(env, f, from));
  return object;
}

bool fields_own(const struct field *table, void *of) {
  bool whole = true;
  for (const struct field *f = table; f->key; f++) {
    char **text = (char **)((char *)of + f->at);
    if (f->type == F_TEXT && *text)
      whole = (*text = strdup(*text)) && whole;
  }
  return whole;
}

void fields_free(const struct field *table, void *of) {
  for (const struct field *f = table; f->key; f++) {
    char **text = (char **)((char *)of + f->at);
    if (f->type == F_TEXT) {
      free(*text);
      *text = NULL;
    }
  }
}
