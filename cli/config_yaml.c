/* config_yaml.c: one document, one mapping, scalars to scalars, each pair within its own lines. Anything deeper is refused with its line. */
#include "config_yaml.h"
#include "options.h"

#ifdef BEAM_NO_YAML

int config_parse(const char *path, struct config_file *f, struct beam_error *e) {
  (void)f;
  return fail(e, BEAM_ERR_UNSUPPORTED, "use flags or BEAM_* variables",
              "this build reads no configuration file, and there is one: %.200s", path);
}

#else

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

static int add(struct config_file *f, const yaml_event_t *key, const yaml_event_t *value) {
  struct config_entry *grown = realloc(f->entries, (f->n + 1) * sizeof *grown);
  if (!grown)
    return BEAM_ERR_NOMEM;
  f->entries = grown;
  struct config_entry *entry = &grown[f->n];
  *entry = (struct config_entry){.line = key->start_mark.line + 1};
  entry->key = strdup((const char *)key->data.scalar.value);
  entry->value = strdup((const char *)value->data.scalar.value);
  if (!entry->key || !entry->value) {
    free(entry->key);
    free(entry->value);
    return BEAM_ERR_NOMEM;
  }
  /* The parser counts characters, the file has bytes: go by lines. */
  size_t line = 0, at = 0, last = value->end_mark.line;
  if (value->end_mark.column == 0 && last > value->start_mark.line)
    last--;
  for (; at < f->length && line < key->start_mark.line; at++)
    line += f->text[at] == '\n';
  entry->start = at;
  for (; at < f->length && line <= last; at++)
    line += f->text[at] == '\n';
  entry->end = at;
  f->n++;
  return 0;
}

static int wrong(const char *path, size_t line, const char *why, struct beam_error *e) {
  return fail(e, BEAM_ERR_INVALID,
              "each line is KEY: VALUE; correct it, or name another file with --config FILE",
              "the configuration %.180s is not readable at line %zu: %s", path, line + 1, why);
}

/* The pairs of the mapping, up to its end. */
static int pairs(yaml_parser_t *p, const char *path, struct config_file *f, struct beam_error *e) {
  int r = 0;
  while (r == 0) {
    yaml_event_t key, value;
    if (!yaml_parser_parse(p, &key))
      return wrong(path, p->problem_mark.line, p->problem ? p->problem : "not YAML", e);
    if (key.type == YAML_MAPPING_END_EVENT) {
      yaml_event_delete(&key);
      return 0;
    }
    if (!yaml_parser_parse(p, &value)) {
      yaml_event_delete(&key);
      return wrong(path, p->problem_mark.line, p->problem ? p->problem : "not YAML", e);
    }
    if (key.type != YAML_SCALAR_EVENT || value.type != YAML_SCALAR_EVENT)
      r = wrong(path, key.start_mark.line, "lists and nested keys are not in this version", e);
    else if (strlen((char *)value.data.scalar.value) != value.data.scalar.length)
      r = wrong(path, value.start_mark.line, "a NUL character in the value", e);
    else if (config_find(f, (char *)key.data.scalar.value))
      r = wrong(path, key.start_mark.line, "the key stands here for the second time", e);
    else if (add(f, &key, &value) != 0)
      r = fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
    yaml_event_delete(&key);
    yaml_event_delete(&value);
  }
  return r;
}

int config_parse(const char *path, struct config_file *f, struct beam_error *e) {
  yaml_parser_t p;
  if (!yaml_parser_initialize(&p))
    return fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  yaml_parser_set_input_string(&p, (const unsigned char *)f->text, f->length);
  int r = 0;
  bool done = false;
  while (r == 0 && !done) {
    yaml_event_t event;
    if (!yaml_parser_parse(&p, &event)) {
      r = wrong(path, p.problem_mark.line, p.problem ? p.problem : "not YAML", e);
      break;
    }
    yaml_event_type_t type = event.type;
    size_t line = event.start_mark.line;
    bool empty = type == YAML_SCALAR_EVENT && event.data.scalar.length == 0;
    /* {a: b, c: d} would put two keys on one line, which the writer could not take apart. */
    bool flow = type == YAML_MAPPING_START_EVENT && event.data.mapping_start.style == YAML_FLOW_MAPPING_STYLE;
    yaml_event_delete(&event);
    if (flow)
      r = wrong(path, line, "braces are not in this version", e);
    else if (type == YAML_MAPPING_START_EVENT)
      r = pairs(&p, path, f, e);
    else if ((type == YAML_SCALAR_EVENT && !empty) || type == YAML_SEQUENCE_START_EVENT ||
             type == YAML_ALIAS_EVENT)
      r = wrong(path, line, "there is no KEY: VALUE", e);
    done = type == YAML_DOCUMENT_END_EVENT || type == YAML_STREAM_END_EVENT;
  }
  yaml_parser_delete(&p);
  return r;
}

#endif
