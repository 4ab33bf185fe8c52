/* help.c: the help, made from the tables, so that it cannot forget a flag. */
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void flag_line(FILE *f, const struct opt *o) {
  char left[64];
  int n = snprintf(left, sizeof left, "  %c%c%s --%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                   o->letter ? "," : " ", o->name);
  if (o->value && n > 0 && (size_t)n < sizeof left)
    snprintf(left + n, sizeof left - (size_t)n, " %s", o->value);
  fprintf(f, "%-34s %s", left, o->help);
  if (o->also)
    fprintf(f, "; also --%s", o->also);
  fputc('\n', f);
}

static void overview(FILE *f) {
  fputs("Beam puts a port of this machine on an HTTPS name.\n\n"
        "  beam 3000                          share http://localhost:3000\n\n"
        "Commands:\n",
        f);
  for (size_t i = 0; i < cmd_count; i++)
    if (!cmd_table[i].hidden)
      fprintf(f, "  %-34s %s\n", cmd_table[i].name, cmd_table[i].help);
  fputs("\nFlags of beam PORT:\n", f);
  for (size_t i = 0; i < opt_count; i++)
    if (opt_table[i].commands & CMD_HTTP)
      flag_line(f, &opt_table[i]);
  fputs("\nbeam help COMMAND tells more; beam(1) has the exit statuses and the environment.\n", f);
}

static void config_keys(FILE *f) {
  fputs("\nKeys:\n", f);
  for (size_t i = 0; i < opt_count; i++)
    if (opt_table[i].in_file)
      fprintf(f, "  %-34s %s\n", opt_table[i].name, opt_table[i].help);
  fputs("\nA flag beats the environment, the environment beats the file.\n", f);
}

static void of_command(FILE *f, const struct cmd *cmd) {
  fprintf(f, "%s: %s\n\nFlags:\n", cmd->usage, cmd->help);
  for (size_t i = 0; i < opt_count; i++)
    if (opt_table[i].commands & cmd->command)
      flag_line(f, &opt_table[i]);
  if (cmd->command == CMD_CONFIG)
    config_keys(f);
}

int options_help(const char *topic, char **out, struct beam_error *e) {
  const struct cmd *cmd = topic ? cmd_find(topic) : NULL;
  if (topic && !cmd) {
    const char *later = cmd_later(topic);
    if (later)
      return fail(e, BEAM_ERR_UNSUPPORTED, "beam help shows what this version can do",
                  "beam %s (%s) is not in this version", topic, later);
    return fail(e, BEAM_ERR_INVALID, "beam help shows the commands", "there is no command \"%.60s\"", topic);
  }
  size_t n = 0;
  *out = NULL;
  FILE *f = open_memstream(out, &n);
  if (!f)
    return fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  if (cmd)
    of_command(f, cmd);
  else
    overview(f);
  int bad = ferror(f);
  if (fclose(f) != 0 || bad || !*out) {
    free(*out);
    *out = NULL;
    return fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
  }
  return 0;
}
