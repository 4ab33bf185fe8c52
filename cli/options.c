/* options.c: flags beat the environment, the environment beats the file. Each value is checked the same way wherever it came from. */
#include "options.h"
#include "config.h"
#include "paths.h"
#include "table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Strings with the life of the options, newest first. */
struct kept {
  struct kept *next;
  char text[];
};

int fail(struct beam_error *e, int code, const char *hint, const char *fmt, ...) {
  e->code = code;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(e->what, sizeof e->what, fmt, ap);
  va_end(ap);
  snprintf(e->hint, sizeof e->hint, "%s", hint ? hint : beam_err_hint(code));
  return code;
}

const char *env_get(const struct cli_env *env, const char *name) {
  size_t n = strlen(name);
  for (const char *const *p = env->envp; p && *p; p++)
    if (strncmp(*p, name, n) == 0 && (*p)[n] == '=')
      return (*p)[n + 1] ? *p + n + 1 : NULL;
  return NULL;
}

const char *options_keep(struct options *o, const char *text, size_t n) {
  struct kept *k = malloc(sizeof *k + n + 1);
  if (!k)
    return NULL;
  memcpy(k->text, text, n);
  k->text[n] = 0;
  k->next = o->kept;
  o->kept = k;
  return k->text;
}

void options_free(struct options *o) {
  for (struct kept *k = o->kept, *next; k; k = next) {
    next = k->next;
    free(k);
  }
  *o = (struct options){0};
}

/* ---- one value ---------------------------------------------------------------------------------------------------- */

static bool parse_number(const char *text, unsigned max, unsigned *out) {
  unsigned v = 0;
  if (!*text || strlen(text) > 5)
    return false;
  for (const char *p = text; *p; p++) {
    if (*p < '0' || *p > '9')
      return false;
    v = v * 10 + (unsigned)(*p - '0');
  }
  *out = v;
  return v <= max;
}

static bool parse_flag(const char *text, bool *out) {
  static const char *const yes[] = {"1", "true", "yes", "on"}, *const no[] = {"0", "false", "no", "off"};
  for (size_t i = 0; i < 4; i++) {
    if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
      *out = strcmp(text, yes[i]) == 0;
      return true;
    }
  }
  return false;
}

/* Is it one of "a,b,c"? */
static bool is_choice(const char *choices, const char *text) {
  size_t n = strlen(text);
  for (const char *p = choices; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
    if (strncmp(p, text, n) == 0 && (p[n] == 0 || p[n] == ','))
      return n > 0;
  return false;
}

/* Put one value into its field; `append`: behind what is there, with this between them. `where` names its origin for the message: "--port", "BEAM_PORT", "beam.yml line 3: port". */
static int set_value(struct options *o, const struct opt *opt, const char *text, char append,
                     const char *where, struct beam_error *e) {
  void *field = (char *)o + opt->at;
  unsigned number;
  switch (opt->kind) {
  case OPT_FLAG:
    if (!parse_flag(text, field))
      return fail(e, BEAM_ERR_INVALID, "use on or off", "%s: \"%.60s\" is neither on nor off", where, text);
    return 0;
  case OPT_PORT:
    if (!parse_number(text, 65535, &number) || number == 0)
      return fail(e, BEAM_ERR_INVALID, "give a number from 1 to 65535", "%s: \"%.60s\" is no port", where,
                  text);
    *(unsigned *)field = number;
    return 0;
  case OPT_NUMBER:
    if (!parse_number(text, 64, &number))
      return fail(e, BEAM_ERR_INVALID, "give a number from 0 to 64", "%s: \"%.60s\" is no such number", where,
                  text);
    *(unsigned *)field = number;
    return 0;
  case OPT_SECONDS:
    if (!parse_number(text, 600, &number) || number == 0)
      return fail(e, BEAM_ERR_INVALID, "give a number of seconds from 1 to 600",
                  "%s: \"%.60s\" is no such number", where, text);
    *(unsigned *)field = number;
    return 0;
  case OPT_COUNT:
    if (!parse_number(text, 99999, &number) || number == 0)
      return fail(e, BEAM_ERR_INVALID, "give a number from 1 to 99999", "%s: \"%.60s\" is no such number",
                  where, text);
    *(unsigned *)field = number;
    return 0;
  case OPT_CHOICE:
    if (!is_choice(opt->choices, text))
      return fail(e, BEAM_ERR_INVALID, NULL, "%s: \"%.60s\" is none of %s", where, text, opt->choices);
    break;
  default:
    if (!*text)
      return fail(e, BEAM_ERR_INVALID, NULL, "%s: the value is empty", where);
  }
  const char *old = *(const char **)field;
  if (append && old) {
    size_t n = strlen(old), m = strlen(text);
    char *both = malloc(n + m + 2);
    if (!both)
      return fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
    memcpy(both, old, n);
    both[n] = append;
    memcpy(both + n + 1, text, m + 1);
    text = options_keep(o, both, n + m + 1);
    free(both);
  } else {
    text = options_keep(o, text, strlen(text));
  }
  if (!text)
    return fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  *(const char **)field = text;
  return 0;
}

/* ---- the command line --------------------------------------------------------------------------------------------- */

enum { FLAGS_MAX = 64 };
struct given {
  const struct opt *opt;
  const char *value; /* "on" for a bare flag */
};
struct line {
  struct given flags[FLAGS_MAX];
  unsigned n;
};

static int give(struct line *line, const struct opt *opt, const char *value, struct beam_error *e) {
  if (line->n == FLAGS_MAX)
    return fail(e, BEAM_ERR_INVALID, NULL, "more than %d flags", FLAGS_MAX);
  line->flags[line->n++] = (struct given){opt, value};
  return 0;
}

/* One argument that begins with "-"; may take the next one as its value. */
static int read_flag(struct line *line, const struct cli_env *env, int *i, struct beam_error *e) {
  const char *arg = env->argv[*i], *value = NULL;
  const struct opt *opt = NULL;
  if (arg[1] == '-') {
    size_t n = strcspn(arg + 2, "=");
    opt = opt_find(arg + 2, n);
    value = arg[2 + n] == '=' ? arg + 3 + n : NULL;
  } else {
    for (size_t k = 0; k < opt_count && !opt; k++)
      if (opt_table[k].letter == arg[1])
        opt = &opt_table[k];
    if (opt && arg[2] != 0) { /* -p3000, -p=3000; bare flags are not bundled: -qv is -q and then nonsense */
      value = arg + 2 + (arg[2] == '=');
      if (opt->kind == OPT_FLAG)
        opt = NULL;
    }
  }
  if (!opt)
    return fail(e, BEAM_ERR_INVALID, "beam help shows what there is", "unknown flag %.80s", arg);
  if (opt->kind == OPT_FLAG)
    return give(line, opt, value ? value : "on", e);
  if (!value) {
    if (*i + 1 >= env->argc)
      return fail(e, BEAM_ERR_INVALID, NULL, "--%s needs a value: %s", opt->name, opt->value);
    value = env->argv[++*i];
  }
  return give(line, opt, value, e);
}

static int read_line(struct options *o, struct line *line, const struct cli_env *env, struct beam_error *e) {
  bool only_args = false;
  for (int i = 1; i < env->argc; i++) {
    const char *arg = env->argv[i];
    if (!only_args && strcmp(arg, "--") == 0) {
      only_args = true;
      continue;
    }
    if (!only_args && arg[0] == '-' && arg[1]) {
      int r = read_flag(line, env, &i, e);
      if (r)
        return r;
      continue;
    }
    if (!o->command && !only_args) {
      const struct cmd *cmd = cmd_find(arg);
      if (cmd) {
        o->command = cmd->command;
        o->command_name = cmd->name;
        continue;
      }
      const char *later = cmd_later(arg);
      if (later)
        return fail(e, BEAM_ERR_UNSUPPORTED, "beam help shows what this version can do",
                    "beam %s (%s) is not in this version", arg, later);
      o->command = CMD_HTTP;
      o->command_name = "http";
    }
    if (o->n_args == ARGS_MAX)
      return fail(e, BEAM_ERR_INVALID, NULL, "too many arguments: \"%.80s\"", arg);
    o->args[o->n_args++] = arg;
  }
  return 0;
}

/* ---- the three sources -------------------------------------------------------------------------------------------- */

static int from_file(struct options *o, const struct cli_env *env, struct beam_error *e) {
  char path[PATH_SIZE];
  struct beam_error none = BEAM_ERROR_INIT;
  if (path_config(o, env, path, &none) != 0)
    return o->config ? (*e = none, none.code) : 0;
  struct config_file f;
  int r = config_read(path, &f, e);
  if (r)
    return r;
  for (size_t i = 0; i < f.n && r == 0; i++) {
    char where[PATH_SIZE + 128];
    snprintf(where, sizeof where, "%.120s line %zu: %.60s", path, f.entries[i].line, f.entries[i].key);
    const struct opt *opt = opt_find(f.entries[i].key, strlen(f.entries[i].key));
    if (!opt || !opt->in_file)
      r = fail(e, BEAM_ERR_INVALID, "beam help config lists the keys", "%s is not a key that Beam knows",
               where);
    else if (opt->commands & o->command)
      r = set_value(o, opt, f.entries[i].value, 0, where, e);
  }
  config_free(&f);
  return r;
}

static int from_env(struct options *o, const struct cli_env *env, struct beam_error *e) {
  for (size_t i = 0; i < opt_count; i++) {
    const struct opt *opt = &opt_table[i];
    const char *value = opt->env ? env_get(env, opt->env) : NULL;
    if (!value || !(opt->commands & o->command))
      continue;
    int r = set_value(o, opt, value, 0, opt->env, e);
    if (r)
      return r;
  }
  return 0;
}

static int from_line(struct options *o, const struct line *line, struct beam_error *e) {
  for (unsigned i = 0; i < line->n; i++) {
    const struct opt *opt = line->flags[i].opt;
    bool *typed = &o->typed[opt - opt_table];
    char between = opt->kind == OPT_LIST ? ',' : opt->kind == OPT_LINES ? '\n' : 0;
    char where[64];
    snprintf(where, sizeof where, "--%s", opt->name);
    if (!(opt->commands & o->command))
      return fail(e, BEAM_ERR_INVALID, NULL, "%s is not a flag of beam %s", where, o->command_name);
    int r = set_value(o, opt, line->flags[i].value, *typed ? between : 0, where, e);
    if (r)
      return r;
    *typed = true;
  }
  return 0;
}

/* These three steer everything else, so they are known before the rest is read (and before it may fail). */
static void early(struct options *o, const struct line *line, const struct cli_env *env) {
  o->config = env_get(env, "BEAM_CONFIG");
  const char *json = env_get(env, "BEAM_JSON");
  if (json)
    parse_flag(json, &o->json);
  for (unsigned i = 0; i < line->n; i++) {
    const char *name = line->flags[i].opt->name;
    if (strcmp(name, "config") == 0)
      o->config = line->flags[i].value;
    if (strcmp(name, "json") == 0)
      parse_flag(line->flags[i].value, &o->json);
    if (strcmp(name, "help") == 0)
      o->help = true;
    if (strcmp(name, "version") == 0)
      o->version = true;
  }
}

int options_parse(struct options *o, const struct cli_env *env, struct beam_error *e) {
  struct line line = {.n = 0};
  *o = (struct options){0};
  int r = read_line(o, &line, env, e);
  early(o, &line, env);
  for (int i = 1; r && i < env->argc;
       i++) /* a program that asked for JSON gets it also when the rest is nonsense */
    o->json = o->json || strcmp(env->argv[i], "--json") == 0;
  if (r)
    return r;
  if (!o->command) {
    o->command = line.n && !o->help && !o->version ? CMD_HTTP : CMD_HELP;
    o->command_name = o->command == CMD_HTTP ? "http" : "help";
  }
  if (o->help || o->version || o->command == CMD_HELP)
    return 0;
  /* `beam config` must work on a file that is wrong: it is how one repairs it. */
  if (o->command != CMD_CONFIG && (r = from_file(o, env, e)))
    return r;
  r = from_env(o, env, e);
  return r ? r : from_line(o, &line, e);
}

bool options_typed(const struct options *o, const char *name) {
  const struct opt *opt = opt_find(name, strlen(name));
  return opt && o->typed[opt - opt_table];
}

int options_check_key(const char *key, struct beam_error *e) {
  const struct opt *opt = opt_find(key, strlen(key));
  if (!opt || !opt->in_file || strcmp(opt->name, key) != 0)
    return fail(e, BEAM_ERR_INVALID, "beam help config lists the keys",
                "\"%.60s\" is not a key of the configuration", key);
  return 0;
}

int options_check(const char *key, const char *value, struct beam_error *e) {
  int r = options_check_key(key, e);
  if (r)
    return r;
  struct options scratch = {0};
  r = set_value(&scratch, opt_find(key, strlen(key)), value, 0, key, e);
  options_free(&scratch);
  return r;
}
