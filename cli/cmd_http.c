/* cmd_http.c: `beam 3000`, `beam tcp 5432`, `beam udp 53`, `beam tls 8443`, `beam connect db 15432`: one tunnel, with the embedded relay when none is configured.
 *
 *   connecting ──► active ◄──► reconnecting
 *        └───────────┴──────────────┴──► closed: the relay refused; the command ends with its reason
 */
#include "commands.h"
#include "control_socket.h"
#include "embedded.h"
#include "paths.h"
#include "rules.h"
#include "stop.h"
#include "target.h"
#include "tunnel_output.h"
#include <beam/tunnel.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
  LINKS_SHOWN = 64, /* four relays with eight links, and those that drain */
  FRESH_MS = 500,   /* a loop that does not answer within this has worse to do than telling its links */
};

/* What the control thread may read while the loop's thread runs. */
struct snapshot {
  pthread_mutex_t lock;
  char name[256], url[300], plain_url[300], state[16], why[320], relay[300];
  char transport[16], reason[400];
  struct timespec transport_at; /* since when */
  uint64_t requests, reconnects;
  struct link_snapshot {
    char relay[300], url[300], state[16], transport[16], reason[400], why[320];
    unsigned streams;
    bool draining;
    uint64_t since_ms;
  } links[LINKS_SHOWN];
  unsigned links_n;
  struct beam_cache_info cache;
  bool caches;
  uint64_t taken, asked; /* of the links: which asking they answer */
  pthread_cond_t fresh;
};

struct running {
  struct output *out;
  struct options *o;
  beam_loop *loop;
  beam_relay *relay; /* embedded; else NULL */
  beam_tunnel *tunnel;
  struct control *control;
  struct tunnel_output say;
  struct snapshot now;
  int status;
};

static int snapshot_init(struct snapshot *s) {
  pthread_condattr_t monotonic;
  int r = pthread_mutex_init(&s->lock, NULL);
  if (r == 0)
    r = pthread_condattr_init(&monotonic);
  if (r == 0)
    r = pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  if (r == 0)
    r = pthread_cond_init(&s->fresh, &monotonic);
  if (r == 0)
    pthread_condattr_destroy(&monotonic);
  return r;
}

static void copy(char *to, size_t cap, const char *from) {
  snprintf(to, cap, "%s", from ? from : "");
}

static void take_snapshot(struct running *run, const struct beam_tunnel_info *info,
                          const struct beam_error *error) {
  struct snapshot *s = &run->now;
  pthread_mutex_lock(&s->lock);
  copy(s->state, sizeof s->state, state_text(info->state));
  copy(s->name, sizeof s->name, info->name);
  copy(s->url, sizeof s->url, info->url);
  copy(s->plain_url, sizeof s->plain_url, info->plain_url);
  copy(s->relay, sizeof s->relay, info->relay);
  copy(s->why, sizeof s->why, error ? error->what : NULL);
  s->reconnects = info->reconnects;
  copy(s->transport, sizeof s->transport, info->state == BEAM_TUNNEL_ACTIVE ? info->transport : NULL);
  copy(s->reason, sizeof s->reason, info->transport_reason);
  clock_gettime(CLOCK_BOOTTIME, &s->transport_at);
  s->transport_at.tv_sec -= (time_t)(info->transport_since_ms / 1000);
  pthread_mutex_unlock(&s->lock);
}

/* On the loop, when somebody asks: streams come and go without a word. */
static void take_links(void *user) {
  struct running *run = user;
  struct snapshot *s = &run->now;
  struct beam_link_info k = {.size = sizeof k};
  pthread_mutex_lock(&s->lock);
  s->links_n = 0;
  while (run->tunnel && s->links_n < LINKS_SHOWN && !beam_tunnel_link_info(run->tunnel, s->links_n, &k)) {
    struct link_snapshot *l = &s->links[s->links_n++];
    copy(l->relay, sizeof l->relay, k.relay);
    copy(l->url, sizeof l->url, k.url);
    copy(l->state, sizeof l->state, state_text(k.state));
    copy(l->transport, sizeof l->transport, k.transport);
    copy(l->reason, sizeof l->reason, k.transport_reason);
    copy(l->why, sizeof l->why, k.why);
    l->streams = k.streams;
    l->draining = k.draining;
    l->since_ms = k.since_ms;
  }
  s->cache.size = sizeof s->cache;
  s->caches = run->tunnel && !beam_tunnel_cache_info(run->tunnel, &s->cache);
  s->taken = s->asked;
  pthread_cond_broadcast(&s->fresh);
  pthread_mutex_unlock(&s->lock);
}

static void on_state(void *user, beam_tunnel *t, const struct beam_tunnel_info *info,
                     const struct beam_error *error) {
  struct running *run = user;
  (void)t;
  take_snapshot(run, info, error);
  if (info->state != BEAM_TUNNEL_CLOSED) {
    say_state(&run->say, info, error);
    return;
  }
  struct beam_error unknown = BEAM_ERROR_INIT;
  unknown.code = BEAM_ERR_CLOSED;
  out_error(run->out, error ? error : &unknown);
  run->status = exit_for(error ? error->code : BEAM_ERR_CLOSED);
  if (run->status == CLI_USAGE) /* what this relay does not offer */
    run->status = CLI_REFUSED;
  beam_loop_stop(run->loop);
}

static void on_request(void *user, beam_tunnel *t, const struct beam_request *r) {
  struct running *run = user;
  (void)t;
  pthread_mutex_lock(&run->now.lock);
  run->now.requests++;
  pthread_mutex_unlock(&run->now.lock);
  if (!run->o->quiet)
    say_request(&run->say, r);
}

/* ---- beam status, beam stop --------------------------------------------------------------------------------------- */

static uint64_t seconds_since(const struct timespec *then) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec > then->tv_sec ? (uint64_t)(now.tv_sec - then->tv_sec) : 0;
}

static void ask_links(struct running *run) {
  struct snapshot *s = &run->now;
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += FRESH_MS * 1000000l;
  until.tv_sec += until.tv_nsec / 1000000000l;
  until.tv_nsec %= 1000000000l;
  uint64_t mine = ++s->asked;
  if (beam_loop_post(run->loop, take_links, run))
    return;
  while (s->taken < mine && !pthread_cond_timedwait(&s->fresh, &s->lock, &until))
    ;
}

static void put_links(const struct snapshot *s, struct json *j) {
  json_list(j, "links");
  for (unsigned i = 0; i < s->links_n; i++) {
    const struct link_snapshot *l = &s->links[i];
    json_item(j);
    json_text(j, "relay", l->relay);
    json_text(j, "url", l->url[0] ? l->url : NULL);
    json_text(j, "state", l->state);
    json_text(j, "transport", l->transport[0] ? l->transport : NULL);
    json_text(j, "transport_reason", l->reason[0] ? l->reason : NULL);
    json_whole(j, "since_s", l->since_ms / 1000);
    json_whole(j, "streams", l->streams);
    json_flag(j, "draining", l->draining);
    json_text(j, "why", l->why[0] ? l->why : NULL);
    json_item_end(j);
  }
  json_list_end(j);
}

static void put_cache(const struct beam_cache_info *c, struct json *j) {
  json_whole(j, "cache_hits", c->hits);
  json_whole(j, "cache_stale", c->stale);
  json_whole(j, "cache_misses", c->misses);
  json_whole(j, "cache_bypassed", c->bypassed);
  json_whole(j, "cache_revalidated", c->revalidated);
  json_whole(j, "cache_evicted", c->evicted);
  json_whole(j, "cache_bytes", c->bytes);
  json_whole(j, "cache_responses", c->responses);
}

static void status(void *user, struct json *j) {
  struct running *run = user;
  struct snapshot *s = &run->now;
  pthread_mutex_lock(&s->lock);
  ask_links(run);
  json_text(j, "kind", "tunnel");
  json_text(j, "speaks", kind_text(run->say.kind));
  json_whole(j, "pid", (uint64_t)getpid());
  json_text(j, "state", s->state);
  json_text(j, "name", s->name[0] ? s->name : NULL);
  json_text(j, "url", s->url[0] ? s->url : NULL);
  json_text(j, "plain_url", s->plain_url[0] ? s->plain_url : NULL);
  json_text(j, "target", run->say.target);
  json_text(j, "relay", s->relay[0] ? s->relay : NULL);
  json_flag(j, "embedded", run->relay != NULL);
  json_text(j, "transport", s->transport[0] ? s->transport : NULL);
  json_text(j, "transport_reason", s->transport[0] && s->reason[0] ? s->reason : NULL);
  if (s->transport[0])
    json_whole(j, "transport_s", seconds_since(&s->transport_at));
  json_text(j, "why", s->why[0] ? s->why : NULL);
  json_whole(j, "requests", s->requests);
  json_whole(j, "reconnects", s->reconnects);
  if (s->caches)
    put_cache(&s->cache, j);
  put_links(s, j);
  pthread_mutex_unlock(&s->lock);
}

static void stop_loop(void *loop) {
  beam_loop_stop(loop);
}

static void stop(void *user) {
  struct running *run = user;
  beam_loop_post(run->loop, stop_loop, run->loop);
}

struct purging {
  struct running *run;
  char *path; /* NULL: everything */
};

static void purge_free(struct purging *p) {
  free(p->path);
  free(p);
}

static void purge_loop(void *arg) {
  struct purging *p = arg;
  beam_tunnel_purge(p->run->tunnel, p->path);
  purge_free(p);
}

static void purge(void *user, const char *path) {
  struct running *run = user;
  struct purging *p = calloc(1, sizeof *p);
  if (!p)
    return;
  p->run = run;
  if ((path && !(p->path = strdup(path))) || beam_loop_post(run->loop, purge_loop, p))
    purge_free(p);
}

/* ---- start and end ------------------------------------------------------------------------------------------------ */

/* beam connect NAME PORT */
static int find_entry(struct options *o, struct target *t, struct beam_error *e) {
  if (o->n_args != 2)
    return fail(e, BEAM_ERR_INVALID, "beam connect db 15432", "beam connect takes a name and a local port");
  if (!o->relay)
    return fail(e, BEAM_ERR_INVALID, "give --relay HOST, or beam config set relay HOST",
                "which relay has the tunnel?");
  o->name = o->args[0];
  return target_parse(o->args[1], t, e);
}

/* A port whose service speaks https is an https address, also for who looks at what is shared. */
static int say_https(struct options *o, struct target *t, struct beam_error *e) {
  char url[300];
  const char *host = t->host[0] ? t->host : "localhost";
  if (o->command != CMD_HTTP || !o->upstream_protocol || strcmp(o->upstream_protocol, "https") != 0 ||
      t->upstream || t->folder)
    return 0;
  int n = snprintf(url, sizeof url, strchr(host, ':') ? "https://[%s]:%u" : "https://%s:%u", host, t->port);
  t->upstream = n > 0 && (size_t)n < sizeof url ? options_keep(o, url, (size_t)n) : NULL;
  return t->upstream ? 0 : fail(e, BEAM_ERR_NOMEM, NULL, "out of memory");
}

static int find_target(struct options *o, struct target *t, struct beam_error *e) {
  *t = (struct target){.port = o->port};
  if (o->command == CMD_CONNECT)
    return find_entry(o, t, e);
  if (o->n_args > 1)
    return fail(e, BEAM_ERR_INVALID, "start one beam for each", "more than one thing to share: \"%.80s\"",
                o->args[1]);
  if (o->n_args == 1) {
    int r = target_parse(o->args[0], t, e);
    if (r)
      return r;
  }
  bool by_port = options_typed(o, "port") && !options_typed(o, "upstream");
  if (o->upstream && o->n_args == 0 && !by_port) {
    int r = target_parse(o->upstream, t, e);
    if (r)
      return r;
  } else if (options_typed(o, "upstream")) {
    return fail(e, BEAM_ERR_INVALID, "leave one of them away", "both \"%.80s\" and --upstream", o->args[0]);
  }
  if ((t->upstream || t->folder) && options_typed(o, "local-host"))
    return fail(e, BEAM_ERR_INVALID, "leave it away", "--local-host says nothing beside %.100s",
                t->upstream ? t->upstream : t->folder);
  if (t->port == 0 && !t->upstream && !t->folder)
    return fail(e, BEAM_ERR_INVALID,
                o->command == CMD_TCP   ? "beam tcp 5432"
                : o->command == CMD_UDP ? "beam udp 53"
                : o->command == CMD_TLS ? "beam tls 8443"
                                        : "beam 3000, or beam start --port 3000",
                "which port shall be shared?");
  if (!t->host[0] && o->local_host &&
      (size_t)snprintf(t->host, sizeof t->host, "%s", o->local_host) >= sizeof t->host)
    return fail(e, BEAM_ERR_INVALID, NULL, "--local-host is too long");
  return say_https(o, t, e);
}

/* Flags of the embedded relay say nothing about another one; better told than ignored. */
static int check_flags(const struct options *o, struct beam_error *e) {
  static const char *const flags[] = {"listen",  "listen-plain", "plain",     "https",
                                      "workers", "tcp-ports",    "udp-ports", "udp-idle"};
  for (size_t i = 0; o->relay && !o->local && i < sizeof flags / sizeof *flags; i++)
    if (options_typed(o, flags[i]))
      return fail(e, BEAM_ERR_INVALID, "leave it away, or add --local for the embedded relay",
                  "--%s is for the embedded relay, and the relay is %.100s", flags[i], o->relay);
  if (o->command == CMD_TCP && !o->private && options_typed(o, "name"))
    return fail(e, BEAM_ERR_INVALID, "leave it away, or add --private",
                "a public TCP tunnel has a port, not a name");
  if (o->private && (options_typed(o, "remote-port") || options_typed(o, "tcp-ports")))
    return fail(e, BEAM_ERR_INVALID, "leave it away", "a private tunnel has no public port");
  return 0;
}

static enum beam_tunnel_kind kind_of(const struct options *o) {
  switch (o->command) {
  case CMD_TCP:
    return o->private ? BEAM_TUNNEL_PRIVATE : BEAM_TUNNEL_TCP;
  case CMD_UDP:
    return BEAM_TUNNEL_UDP;
  case CMD_TLS:
    return BEAM_TUNNEL_TLS;
  case CMD_CONNECT:
    return BEAM_TUNNEL_ENTRY;
  default:
    return BEAM_TUNNEL_HTTP;
  }
}

static int open_tunnel(struct running *run, const struct cli_env *env, const struct target *t,
                       struct beam_error *e) {
  struct options *o = run->o;
  char data[PATH_SIZE], address[128];
  struct beam_tunnel_config c = BEAM_TUNNEL_CONFIG_INIT;
  struct beam_http_policy rules;
  int r = path_data(o, env, NULL, data, e);
  if (!r)
    r = rules_of(o, &rules, e);
  if (r)
    return r;
  c.relay = o->relay;
  c.relay_ca = o->relay_ca;
  c.token = o->token;
  if (!o->relay || o->local) {
    r = embedded_start(o, env, &run->relay, address, e);
    if (r)
      return r;
    struct beam_relay_info info = {.size = sizeof info};
    beam_relay_info(run->relay, &info);
    say_embedded(&run->say, &info);
    c.relay = address;
    c.relay_ca = info.ca_file;
    c.token = NULL;
    c.proxy = "none"; /* it is in this process */
  } else {
    c.proxy = o->proxy;
  }
  c.transport = o->transport;
  c.congestion = congestion_of(o);
  c.kind = kind_of(o);
  c.remote_port = (uint16_t)o->remote_port;
  c.proxy_protocol = o->proxy_protocol ? o->proxy_protocol[0] - '0' : 0;
  c.name = c.kind == BEAM_TUNNEL_TCP || c.kind == BEAM_TUNNEL_UDP ? NULL : o->name; /* its port is its name */
  c.local_host = t->host[0] ? t->host : NULL;
  c.local_port = (uint16_t)t->port;
  c.upstream = t->upstream;
  /* Set once for a service that speaks https, they do not stand in the way of another one. */
  bool https = (t->upstream && !strncmp(t->upstream, "https:", 6)) ||
               (o->upstream_protocol && !strcmp(o->upstream_protocol, "https"));
  c.upstream_protocol = t->folder && !options_typed(o, "upstream-protocol") ? NULL : o->upstream_protocol;
  c.folder = t->folder;
  if (t->folder && !options_typed(o, "proxy-protocol"))
    c.proxy_protocol = 0;
  c.fallback = t->folder || options_typed(o, "fallback") ? o->fallback : NULL;
  c.upstream_ca = https || options_typed(o, "upstream-ca") ? o->upstream_ca : NULL;
  c.upstream_insecure = o->upstream_insecure && (https || options_typed(o, "upstream-insecure"));
  c.data_dir = data;
  c.host_header = o->host_header;
  c.links = o->links ? (unsigned)(o->links[0] - '0') : 0;
  c.takeover = o->takeover;
  c.framework = o->framework;
  c.policy = o->command == CMD_CONNECT || o->private ? NULL : &rules;
  c.on_state = on_state;
  c.on_request = on_request;
  c.user = run;
  return beam_tunnel_open(run->loop, &c, &run->tunnel, e);
}

/* A value that the relay's start refuses is the user's; an address in use has its own exit status. */
static int run_tunnel(struct running *run, const struct cli_env *env, const struct target *t) {
  struct beam_error e = BEAM_ERROR_INIT;
  int r = open_tunnel(run, env, t, &e);
  if (r) {
    int code = report(run->out, &e);
    return r == BEAM_ERR_NAME ? CLI_USAGE : code;
  }
  struct control_ops ops = {status, stop, run->o->cache ? purge : NULL, run};
  if (control_open(env, &ops, &run->control, &e) != 0 && !run->o->quiet)
    err_line(run->out, "beam: no control socket, so beam status and beam stop cannot reach this tunnel: %s",
             e.what);
  stop_bind(env->stop, run->loop);
  r = beam_loop_run(run->loop);
  stop_bind(env->stop, NULL);
  if (r) {
    fail(&e, r, NULL, "the event loop failed");
    return report(run->out, &e);
  }
  if (run->status == CLI_OK)
    say_end(&run->say);
  return run->status;
}

int cmd_http(struct options *o, const struct cli_env *env, struct output *out) {
  struct beam_error e = BEAM_ERROR_INIT;
  struct running run = {.out = out, .o = o};
  struct target t;
  if (find_target(o, &t, &e) != 0 || check_flags(o, &e) != 0)
    return report(out, &e);
  log_setup(o, out);
  if (snapshot_init(&run.now) != 0 || beam_loop_new(&run.loop) != 0) {
    fail(&e, BEAM_ERR_SYSTEM, "raise the limit of open files", "cannot make an event loop");
    return report(out, &e);
  }
  copy(run.now.state, sizeof run.now.state, state_text(BEAM_TUNNEL_CONNECTING));
  tunnel_output_init(&run.say, out, kind_of(o), &t);
  int code = run_tunnel(&run, env, &t);
  control_quiet(run.control);
  beam_tunnel_close(run.tunnel);
  beam_relay_stop(run.relay);
  control_close(run.control);
  beam_loop_free(run.loop);
  pthread_cond_destroy(&run.now.fresh);
  pthread_mutex_destroy(&run.now.lock);
  return code;
}
