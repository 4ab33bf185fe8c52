/* tunnel.c: the facade of include/beam/tunnel.h. */
#include <beam/tunnel.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "base/err.h"
#include "base/file.h"
#include "base/limits.h"

struct beam_tunnel {
  struct agent *agent;
};

static bool is_https(const struct beam_tunnel_config *c) {
  return (c->upstream && !strncmp(c->upstream, "https:", 6)) ||
         (c->upstream_protocol && !strcmp(c->upstream_protocol, "https"));
}

/* What is not HTTP goes to a port or a socket as it is. */
static int check_folder(struct beam_tunnel_config *c, struct beam_error *err) {
  if (c->folder && !*c->folder)
    c->folder = NULL;
  if (c->folder && c->kind != BEAM_TUNNEL_HTTP)
    return err_set(err, BEAM_ERR_INVALID, "share it with BEAM_TUNNEL_HTTP", "a folder has no port");
  if (c->folder && c->proxy_protocol)
    return err_set(err, BEAM_ERR_INVALID, "leave proxy_protocol at 0",
                   "a folder asks nobody who the visitor is");
  if (c->folder && (c->upstream || c->upstream_protocol))
    return err_set(err, BEAM_ERR_INVALID, "leave one of them away",
                   "the folder %.100s, and a local service beside it", c->folder);
  if (c->fallback && !c->folder)
    return err_set(err, BEAM_ERR_INVALID, "leave it away", "a fallback is for a folder");
  return 0;
}

static int check_upstream(struct beam_tunnel_config *c, struct beam_error *err) {
  if (c->upstream && !*c->upstream)
    c->upstream = NULL;
  bool local = c->upstream && !strncmp(c->upstream, "unix:", 5);
  if (c->upstream && c->kind != BEAM_TUNNEL_HTTP &&
      (!local || c->kind == BEAM_TUNNEL_UDP || c->kind == BEAM_TUNNEL_ENTRY))
    return err_set(err, BEAM_ERR_INVALID, "give the host and the port",
                   "a tunnel of this kind does not lead to \"%.100s\"", c->upstream);
  if ((c->upstream_ca || c->upstream_insecure) && !is_https(c))
    return err_set(err, BEAM_ERR_INVALID, "set upstream to https://HOST:PORT, or leave these away",
                   "upstream_ca and upstream_insecure are for a service that speaks https");
  const char *p = c->upstream_protocol;
  bool https = c->upstream && !strncmp(c->upstream, "https:", 6);
  if (p && strcmp(p, "auto") != 0 && strcmp(p, "http1") != 0 && strcmp(p, "h2c") != 0 &&
      strcmp(p, "https") != 0)
    return err_set(err, BEAM_ERR_INVALID, "auto, http1, h2c or https", "no service speaks \"%.60s\"", p);
  if (p && c->kind != BEAM_TUNNEL_HTTP)
    return err_set(err, BEAM_ERR_INVALID, "leave upstream_protocol away",
                   "what this tunnel carries is not read: its protocol does not matter");
  if (p && ((!strcmp(p, "h2c") && https) || (!strcmp(p, "https") && c->upstream && !https)))
    return err_set(err, BEAM_ERR_INVALID, "with an https address the service chooses the protocol",
                   "\"%.100s\" and the protocol %s contradict each other", c->upstream, p);
  if (c->upstream_ca && c->upstream_insecure)
    return err_set(err, BEAM_ERR_INVALID, "leave one of them away",
                   "upstream_ca says whom to trust, upstream_insecure says anybody");
  return 0;
}

/* A rule that would never be asked is a door its owner believes shut. */
static int check_policy(const struct beam_tunnel_config *c, struct beam_error *err) {
  struct beam_http_policy p = BEAM_HTTP_POLICY_INIT;
  if (!c->policy || c->kind == BEAM_TUNNEL_HTTP)
    return 0;
  memcpy(&p, c->policy, c->policy->size < sizeof p ? c->policy->size : sizeof p);
  if (c->kind == BEAM_TUNNEL_PRIVATE || c->kind == BEAM_TUNNEL_ENTRY)
    return err_set(err, BEAM_ERR_UNSUPPORTED, "leave the rules away: only your own device key gets in",
                   "a private tunnel has no visitors");
  if (p.auth || p.rate_limit || p.rate_limit_total || p.max_body || p.request_headers || p.response_headers ||
      p.cors || p.cache)
    return err_set(err, BEAM_ERR_UNSUPPORTED, "only allow and deny work with every kind of tunnel",
                   "there are rules for HTTP, and the tunnel is none");
  return 0;
}

static int check(struct beam_tunnel_config *c, char *dir, size_t cap, struct beam_error *err) {
  if (!c->relay || !*c->relay)
    return err_set(err, BEAM_ERR_INVALID, "set `relay` to HOST:PORT, or start one with beam_relay_start()",
                   "no relay was given");
  int e = check_upstream(c, err);
  if (e)
    return e;
  if ((e = check_folder(c, err)))
    return e;
  if (!c->local_port && !c->upstream && !c->folder)
    return err_set(err, BEAM_ERR_INVALID, "set the port of the program you want to share",
                   "no local port was given");
  if (c->kind == BEAM_TUNNEL_UDP && c->proxy_protocol)
    return err_set(err, BEAM_ERR_UNSUPPORTED,
                   "leave proxy_protocol at 0; the visitor's address stays with the relay",
                   "a UDP tunnel cannot say who its visitors are: there is no connection to begin with it");
  if (c->kind == BEAM_TUNNEL_HTTP && c->proxy_protocol &&
      (is_https(c) || (c->upstream_protocol && !strcmp(c->upstream_protocol, "h2c"))))
    return err_set(err, BEAM_ERR_UNSUPPORTED, "leave one of them away: X-Forwarded-For says the same",
                   "a PROXY protocol header is for a service that speaks plain HTTP/1.1");
  if (c->congestion != BEAM_CONGESTION_BBR && c->congestion != BEAM_CONGESTION_CUBIC)
    return err_set(err, BEAM_ERR_INVALID, "choose BEAM_CONGESTION_BBR or BEAM_CONGESTION_CUBIC",
                   "there is no congestion control %d", (int)c->congestion);
  if (c->links > LIMIT_LINKS_PER_NAME)
    return err_set(err, BEAM_ERR_INVALID, NULL, "%u links are more than the %u there can be", c->links,
                   LIMIT_LINKS_PER_NAME);
  e = check_policy(c, err);
  if (e)
    return e;
  if (!c->local_host || !*c->local_host)
    c->local_host = "localhost";
  if (c->data_dir && *c->data_dir)
    return 0;
  if (!dir_default(dir, cap))
    return err_set(err, BEAM_ERR_INVALID, "set data_dir, or BEAM_DATA_DIR in the environment",
                   "there is no home directory for the device key");
  c->data_dir = dir;
  return 0;
}

int beam_tunnel_open(beam_loop *loop, const struct beam_tunnel_config *config, beam_tunnel **out,
                     struct beam_error *err) {
  struct beam_tunnel_config c = BEAM_TUNNEL_CONFIG_INIT;
  char dir[4096];
  if (!loop || !config || !out || config->size < sizeof config->size)
    return err_set(err, BEAM_ERR_INVALID, "begin with BEAM_TUNNEL_CONFIG_INIT",
                   "the loop or the tunnel's configuration is missing");
  memcpy(&c, config, config->size < sizeof c ? config->size : sizeof c);
  c.size = sizeof c;
  int e = check(&c, dir, sizeof dir, err);
  if (e)
    return e;
  beam_tunnel *t = calloc(1, sizeof *t);
  e = t ? agent_new((struct loop *)loop, &net_sockets, &c, t, &t->agent, err) : BEAM_ERR_NOMEM;
  if (e) {
    free(t);
    if (err && err->size >= sizeof *err && !err->code)
      err_set(err, e, NULL, "the tunnel could not be opened: %s", beam_strerror(e));
    return e;
  }
  *out = t;
  return 0;
}

void beam_tunnel_info(beam_tunnel *t, struct beam_tunnel_info *info) {
  if (t && info && info->size)
    agent_info(t->agent, info);
}

int beam_tunnel_link_info(beam_tunnel *t, unsigned index, struct beam_link_info *info) {
  return t && info && info->size ? agent_link_info(t->agent, index, info) : BEAM_ERR_INVALID;
}

int beam_tunnel_cache_info(beam_tunnel *t, struct beam_cache_info *info) {
  return t && info && info->size ? agent_cache_info(t->agent, info) : BEAM_ERR_INVALID;
}

int beam_tunnel_purge(beam_tunnel *t, const char *path) {
  return t ? agent_purge(t->agent, path) : BEAM_ERR_INVALID;
}

void beam_tunnel_close(beam_tunnel *t) {
  if (!t)
    return;
  agent_close(t->agent);
  free(t);
}
