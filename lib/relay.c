/* relay.c: the facade of include/beam/relay.h. */
#include <beam/relay.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "relay/server.h"

static struct relay *inner(beam_relay *r) {
  return (struct relay *)r;
}

void beam_relay_config_local(struct beam_relay_config *config) {
  if (config)
    relay_config_local(config);
}

static int default_data(struct beam_relay_config *c, char dir[PATH_ROOM], struct beam_error *err) {
  char base[PATH_ROOM];
  if (!dir_default(base, sizeof base))
    return err_set(err, BEAM_ERR_INVALID, "set data_dir, or BEAM_DATA_DIR in the environment",
                   "there is no home directory for the relay's keys and names");
  c->data_dir = dir;
  return path_join(dir, base, c->domain && !strcmp(c->domain, "localhost") ? "embedded" : "relay", err);
}

/* A program built against an older header gives fewer fields, a newer one more: the known prefix counts. `dir` is room for the default of data_dir. */
static int whole(struct beam_relay_config *c, const struct beam_relay_config *given, char dir[PATH_ROOM],
                 struct beam_error *err) {
  if (!given || given->size < sizeof given->size)
    return err_set(err, BEAM_ERR_INVALID, "begin with BEAM_RELAY_CONFIG_INIT",
                   "the relay's configuration is missing");
  memcpy(c, given, given->size < sizeof *c ? given->size : sizeof *c);
  c->size = sizeof *c;
  return c->data_dir ? 0 : default_data(c, dir, err);
}

int beam_relay_start(const struct beam_relay_config *config, beam_relay **out, struct beam_error *err) {
  struct beam_relay_config c = BEAM_RELAY_CONFIG_INIT;
  struct relay *r;
  char dir[PATH_ROOM];
  int e = whole(&c, config, dir, err);
  if (e || !out)
    return e ? e : BEAM_ERR_INVALID;
  e = relay_start(&c, &r, err);
  if (!e)
    *out = (beam_relay *)r;
  else if (err && err->size >= sizeof *err && !err->code)
    err_set(err, e, NULL, "the relay could not start: %s", beam_strerror(e));
  return e;
}

void beam_relay_info(beam_relay *r, struct beam_relay_info *info) {
  if (r && info && info->size)
    relay_info(inner(r), info);
}

size_t beam_relay_metrics(beam_relay *r, char *out, size_t cap) {
  return r ? relay_metrics(inner(r), out, cap) : 0;
}

int beam_relay_drain(beam_relay *r, uint32_t ms) {
  return r ? relay_drain(inner(r), ms) : BEAM_ERR_INVALID;
}

int beam_relay_reload(beam_relay *r, struct beam_error *err) {
  return r ? relay_reload(inner(r), NULL, err) : BEAM_ERR_INVALID;
}

int beam_relay_reconfigure(beam_relay *r, const struct beam_relay_config *config, struct beam_error *err) {
  struct beam_relay_config c = BEAM_RELAY_CONFIG_INIT;
  char dir[PATH_ROOM];
  int e = r ? whole(&c, config, dir, err) : BEAM_ERR_INVALID;
  return e ? e : relay_reload(inner(r), &c, err);
}

void beam_relay_stop(beam_relay *r) {
  relay_stop(inner(r));
}
