/* config.h: beam.yml, flat `key: value` lines. Reading goes through a YAML parser; writing changes one line and leaves the rest, comments too, as it stands. */
#ifndef CLI_CONFIG_H
#define CLI_CONFIG_H

#include <beam/beam.h>
#include <stdbool.h>
#include <stddef.h>

struct config_entry {
  char *key, *value;
  size_t line;       /* from 1 */
  size_t start, end; /* the line's bytes in the file, newline included */
};

struct config_file {
  char *text;
  size_t length;
  struct config_entry *entries;
  size_t n;
};

/* A file that does not exist is an empty one. PERMISSION, SYSTEM, NOMEM, TOO_LARGE; INVALID with the line; UNSUPPORTED: a build without YAML and a file that is there. */
int config_read(const char *path, struct config_file *f, struct beam_error *e);
void config_free(struct config_file *f);
const struct config_entry *config_find(const struct config_file *f, const char *key);

/* Set (value NULL: remove) one key and write the file, 0600, whole or not at all. NOT_FOUND: nothing to remove. */
int config_write(const char *path, const char *key, const char *value, struct beam_error *e);

#endif
