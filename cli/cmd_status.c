/* cmd_status.c: `beam status` and `beam stop`: what runs on this machine, and its end. */
#include "commands.h"
#include "control_socket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- status ------------------------------------------------------------------------------------------------------- */

static const char *field(const char *status, const char *key, char room[512], const char *otherwise) {
  return json_get(status, key, room, 512) && room[0] ? room : otherwise;
}

/* A line for each link, and for each relay without one; when there is but one of them, only what there is to say about it. */
static void show_links(struct output *out, const char *status) {
  char relay[512], link[512], since[512], streams[512], text[512], draining[512];
  bool several = json_get_item(status, "links", 1) != NULL;
  const char *item;
  for (unsigned i = 0; (item = json_get_item(status, "links", i)); i++) {
    const char *why = field(item, "why", text, NULL), *over = field(item, "transport", link, NULL);
    if (!why)
      why = field(item, "transport_reason", text, NULL);
    const char *ends = strcmp(field(item, "draining", draining, ""), "true") ? "" : ", draining";
    if (several && over)
      out_line(out, "         %s over %s for %s s, %s open%s%s%s", field(item, "relay", relay, "?"), over,
               field(item, "since_s", since, "0"), field(item, "streams", streams, "0"), ends,
               why ? ": " : "", why ? why : "");
    else if (several)
      out_line(out, "         %s %s%s%s", field(item, "relay", relay, "?"), field(item, "state", link, "?"),
               why ? ": " : "", why ? why : "");
    else if (over && why)
      out_line(out, "         link over %s: %s", over, why);
  }
}

static void show(void *user, const char *path, const char *status) {
  (void)path;
  struct output *out = user;
  char kind[512], pid[512], name[512], state[512], target[512], requests[512], link[512], since[512],
      what[512];
  if (out->json) {
    out_line(out, "%s", status);
    return;
  }
  bool relay = strcmp(field(status, "kind", kind, ""), "relay") == 0;
  char over[64] = "-";
  if (field(status, "transport", link, NULL))
    snprintf(over, sizeof over, "%.15s %.20s s", link, field(status, "transport_s", since, "0"));
  out_line(
      out, "%-8s %-7s %-13s %-44s %-28s %-12s %s", relay ? "relay" : "tunnel", field(status, "pid", pid, "?"),
      field(status, "state", state, "?"), field(status, relay ? "domain" : "url", name, "-"),
      field(status, relay ? "https" : "target", target, "-"), over, field(status, "requests", requests, "0"));
  show_links(out, status);
  if (field(status, "why", what, NULL))
    out_line(out, "         %s", what);
}

static void show_first(void *user, const char *path, const char *status) {
  struct output *out = user;
  (void)path;
  (void)status;
  if (!out->json)
    out_line(out, "%-8s %-7s %-13s %-44s %-28s %-12s %s", "KIND", "PID", "STATE", "URL OR DOMAIN",
             "LOCAL SERVICE OR ADDRESS", "LINK", "REQUESTS");
}

/* The heading stands only above something. */
struct table {
  struct output *out;
  bool begun;
};

static void row(void *user, const char *path, const char *status) {
  struct table *t = user;
  if (!t->begun)
    show_first(t->out, path, status);
  t->begun = true;
  show(t->out, path, status);
}

int cmd_status(struct options *o, const struct cli_env *env, struct output *out) {
  struct beam_error e = BEAM_ERROR_INIT;
  struct table t = {out, false};
  if (o->n_args) {
    fail(&e, BEAM_ERR_INVALID, "beam status", "beam status takes no arguments");
    return report(out, &e);
  }
  int n = control_each(env, row, &t, &e);
  if (n < 0)
    return report(out, &e);
  if (n == 0 && !out->json)
    out_line(out, "Nothing runs.");
  return CLI_OK;
}

/* ---- stop --------------------------------------------------------------------------------------------------------- */

struct chosen {
  const struct options *o;
  bool found[ARGS_MAX];
  char **paths, **labels;
  size_t n;
  bool broken;
};

/* "shop" and "shop.tunnel.test" both name that tunnel. */
static bool names(const char *wanted, const char *name) {
  size_t n = strlen(wanted);
  return strcmp(wanted, name) == 0 ||
         (strncmp(wanted, name, n) == 0 && name[n] == '.' && !strchr(wanted, '.'));
}

static void keep(struct chosen *c, const char *path, const char *label) {
  char **paths = realloc(c->paths, (c->n + 1) * sizeof *paths);
  if (paths)
    c->paths = paths;
  char **labels = paths ? realloc(c->labels, (c->n + 1) * sizeof *labels) : NULL;
  if (labels)
    c->labels = labels;
  char *a = strdup(path), *b = strdup(label);
  if (!paths || !labels || !a || !b) {
    free(a);
    free(b);
    c->broken = true;
    return;
  }
  c->paths[c->n] = a;
  c->labels[c->n++] = b;
}

static void choose(void *user, const char *path, const char *status) {
  struct chosen *c = user;
  char kind[512], room[512];
  bool relay = strcmp(field(status, "kind", kind, ""), "relay") == 0;
  const char *name = field(status, relay ? "domain" : "name", room, "");
  bool wanted = c->o->n_args == 0 && !relay;
  for (unsigned i = 0; i < c->o->n_args; i++) {
    if (relay ? strcmp(c->o->args[i], name) == 0 : names(c->o->args[i], name))
      wanted = c->found[i] = true;
  }
  if (wanted)
    keep(c, path, name[0] ? name : "(connecting)");
}

/* What is asked of all that were chosen: their end, or to purge this path (NULL: everything). */
struct wish {
  bool purge;
  const char *path;
};

static void tell(struct output *out, const struct wish *w, const char *label) {
  struct json j;
  if (!out->json) {
    out_line(out, "%s %s%s%s", w->purge ? "Purged" : "Stopped", w->path ? w->path : "", w->path ? " of " : "",
             label);
    return;
  }
  json_open(&j);
  json_text(&j, "event", w->purge ? "purged" : "stopped");
  json_text(&j, "name", label);
  if (w->path)
    json_text(&j, "path", w->path);
  out_json(out, &j);
}

static int end(const struct chosen *c, struct output *out, const struct wish *w) {
  struct beam_error e = BEAM_ERROR_INIT;
  int status = CLI_OK;
  for (size_t i = 0; i < c->n; i++) {
    if (w->purge ? control_purge(c->paths[i], w->path, &e) : control_stop(c->paths[i], &e))
      status = report(out, &e);
    else
      tell(out, w, c->labels[i]);
  }
  return status;
}

static int each(struct options *o, const struct cli_env *env, struct output *out, const struct wish *w) {
  struct beam_error e = BEAM_ERROR_INIT;
  struct chosen c = {.o = o};
  int status, n = control_each(env, choose, &c, &e);
  if (n < 0) {
    status = report(out, &e);
  } else if (c.broken) {
    fail(&e, BEAM_ERR_NOMEM, NULL, "out of memory");
    status = report(out, &e);
  } else {
    status = end(&c, out, w);
    for (unsigned i = 0; i < o->n_args; i++) {
      if (c.found[i])
        continue;
      fail(&e, BEAM_ERR_NOT_FOUND, "beam status shows what runs",
           "nothing here runs under the name \"%.100s\"", o->args[i]);
      status = report(out, &e);
    }
    if (o->n_args == 0 && c.n == 0 && !out->json)
      out_line(out, "Nothing runs.");
  }
  for (size_t i = 0; i < c.n; i++) {
    free(c.paths[i]);
    free(c.labels[i]);
  }
  free(c.paths);
  free(c.labels);
  return status;
}

int cmd_stop(struct options *o, const struct cli_env *env, struct output *out) {
  return each(o, env, out, &(struct wish){false, NULL});
}

int cmd_purge(struct options *o, const struct cli_env *env, struct output *out) {
  struct beam_error e = BEAM_ERROR_INIT;
  struct wish w = {true, NULL};
  unsigned names = 0;
  for (unsigned i = 0; i < o->n_args; i++) { /* no name begins with a slash */
    if (o->args[i][0] != '/') {
      o->args[names++] = o->args[i];
    } else if (w.path) {
      fail(&e, BEAM_ERR_INVALID, "beam purge shop /assets", "beam purge takes one path at a time");
      return report(out, &e);
    } else {
      w.path = o->args[i];
    }
  }
  o->n_args = names;
  return each(o, env, out, &w);
}
