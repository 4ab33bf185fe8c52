/* json.h: one JSON object a line, written and read: all that the command's --json output and its control socket need. Flat, but for lists of flat objects. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An object under construction. Out of memory makes `broken` true and everything after it a no-operation. */
struct json {
  char *text;
  size_t length, room;
  bool broken;
};

void json_open(struct json *j);
/* NULL values become null. Bytes that are no UTF-8 become U+FFFD, so that what a visitor sends cannot break a reader. */
void json_text(struct json *j, const char *key, const char *value);
void json_whole(struct json *j, const char *key, uint64_t value);
void json_decimal(struct json *j, const char *key, double value); /* three places */
void json_flag(struct json *j, const char *key, bool value);
void json_strings(struct json *j, const char *key, const char *const *values, size_t n);
/* "key":[{...},{...}]: json_list, for each item json_item, its members, json_item_end; json_list_end. */
void json_list(struct json *j, const char *key);
void json_item(struct json *j);
void json_item_end(struct json *j);
void json_list_end(struct json *j);
void json_close(struct json *j); /* "}" and a newline */
void json_free(struct json *j);

/* The value of a top-level key of a flat object: strings decoded, numbers and literals as they stand. False: absent, null, malformed or too long. */
bool json_get(const char *object, const char *key, char *out, size_t cap);
/* The i-th object of the list `key`, to be given to json_get; NULL: there is none. */
const char *json_get_item(const char *object, const char *key, unsigned i);

#endif
