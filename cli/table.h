/* table.h: every flag and every command once; parsing, the environment, the configuration file and the help are made from these tables. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include "options.h"

enum opt_kind {
  OPT_FLAG,    /* no value on the command line; on/off elsewhere */
  OPT_TEXT,    /* as it is; not empty */
  OPT_LIST,    /* may be repeated: joined by commas */
  OPT_LINES,   /* may be repeated: joined by newlines, for values that have commas */
  OPT_PORT,    /* 1-65535 */
  OPT_NUMBER,  /* 0-64 */
  OPT_SECONDS, /* 1-600 */
  OPT_COUNT,   /* 1-99999 */
  OPT_CHOICE   /* one of `choices`, which has commas */
};

struct opt {
  const char *name, *also; /* --name, and another spelling or NULL */
  char letter;             /* 0: none */
  enum opt_kind kind;
  unsigned commands; /* of enum command */
  size_t at;         /* where in struct options */
  const char *value; /* what the help calls the value */
  const char *choices;
  bool in_file;    /* may stand in the configuration file */
  const char *env; /* variable's name; NULL: none */
  const char *help;
};

struct cmd {
  const char *name;
  enum command command;
  const char *usage, *help;
  bool hidden; /* another spelling of one that is shown */
};

extern const struct opt opt_table[];
extern const size_t opt_count;
extern const struct cmd cmd_table[];
extern const size_t cmd_count;

const struct opt *opt_find(const char *name, size_t n); /* NULL: none */
const struct cmd *cmd_find(const char *name);
/* What later versions will have: a clear answer instead of "unknown". NULL: nothing planned under this word. */
const char *cmd_later(const char *name);

#endif
