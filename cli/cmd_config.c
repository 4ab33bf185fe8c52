/* cmd_config.c: `beam config`: the configuration file, without an editor. */
#include "commands.h"
#include "config.h"
#include "paths.h"

#include <string.h>

static int wrong(struct output *out, const char *what) {
  struct beam_error e = BEAM_ERROR_INIT;
  fail(&e, BEAM_ERR_INVALID, "beam config [list|path|get KEY|set KEY VALUE|unset KEY]", "%s", what);
  return report(out, &e);
}

/* A token on the screen is a token in somebody's screenshot; `config get token` shows it. */
static const char *shown(const struct config_entry *entry) {
  return strcmp(entry->key, "token") == 0 ? "(set)" : entry->value;
}

static int list(const struct config_file *f, struct output *out) {
  struct json j;
  if (out->json)
    json_open(&j);
  for (size_t i = 0; i < f->n; i++) {
    if (out->json)
      json_text(&j, f->entries[i].key, shown(&f->entries[i]));
    else
      out_line(out, "%s: %s", f->entries[i].key, shown(&f->entries[i]));
  }
  if (out->json)
    out_json(out, &j);
  return CLI_OK;
}

static int get(const struct config_file *f, const char *key, const char *path, struct output *out,
               struct beam_error *e) {
  const struct config_entry *entry = config_find(f, key);
  if (!entry) {
    if (options_check_key(key, e) == 0)
      fail(e, BEAM_ERR_NOT_FOUND, "beam config list shows what is set", "%s is not set in %.200s", key, path);
    return report(out, e);
  }
  if (out->json) {
    struct json j;
    json_open(&j);
    json_text(&j, key, entry->value);
    out_json(out, &j);
  } else {
    out_line(out, "%s", entry->value);
  }
  return CLI_OK;
}

/* Reading failed: the value is wrong (usage) or the file cannot be read (files). */
static int file_failed(struct output *out, const struct beam_error *e) {
  int status = report(out, e);
  return status == CLI_FAILED && e->code != BEAM_ERR_NOMEM && e->code != BEAM_ERR_NOT_FOUND ? CLI_FILES
                                                                                            : status;
}

static int change(const struct options *o, const char *path, const char *value, struct output *out,
                  struct beam_error *e) {
  const char *key = o->args[1];
  /* Removing an unknown key is how a wrong file is repaired, so only setting checks it. */
  if (value && options_check(key, value, e) != 0)
    return report(out, e);
  if (config_write(path, key, value, e) != 0)
    return file_failed(out, e);
  if (!out->json && value)
    out_line(out, "%s is set in %s", key, path);
  else if (!out->json)
    out_line(out, "%s is no longer set in %s", key, path);
  return CLI_OK;
}

int cmd_config(struct options *o, const struct cli_env *env, struct output *out) {
  struct beam_error e = BEAM_ERROR_INIT;
  char path[PATH_SIZE];
  const char *verb = o->n_args ? o->args[0] : "list";
  if (path_config(o, env, path, &e) != 0)
    return report(out, &e);
  if (strcmp(verb, "path") == 0 && o->n_args == 1) {
    out_line(out, "%s", path);
    return CLI_OK;
  }
  if (strcmp(verb, "set") == 0)
    return o->n_args == 3 ? change(o, path, o->args[2], out, &e)
                          : wrong(out, "beam config set takes a key and a value");
  if (strcmp(verb, "unset") == 0)
    return o->n_args == 2 ? change(o, path, NULL, out, &e) : wrong(out, "beam config unset takes a key");
  bool is_get = strcmp(verb, "get") == 0, is_list = strcmp(verb, "list") == 0;
  if (!is_get && !is_list)
    return wrong(out, "beam config cannot do that");
  if (o->n_args > (is_get ? 2u : 1u) || (is_get && o->n_args != 2))
    return wrong(out, is_get ? "beam config get takes one key" : "beam config list takes nothing");
  struct config_file f;
  if (config_read(path, &f, &e) != 0)
    return file_failed(out, &e);
  int status = is_get ? get(&f, o->args[1], path, out, &e) : list(&f, out);
  config_free(&f);
  return status;
}
