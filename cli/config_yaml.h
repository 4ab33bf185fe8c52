/* config_yaml.h: the one file that knows a YAML parser. */
#ifndef CLI_CONFIG_YAML_H
#define CLI_CONFIG_YAML_H

#include "config.h"

/* Fill f->entries from f->text. INVALID with the line; NOMEM; UNSUPPORTED in a build without YAML. */
int config_parse(const char *path, struct config_file *f, struct beam_error *e);

#endif
