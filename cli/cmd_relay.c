/* cmd_relay.c: `beam relay`: the relay runs its own threads; this one waits for the end. */
#include "commands.h"
#include "control_socket.h"
#include "paths.h"
#include "stop.h"
#include <beam/relay.h>

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { DRAIN_MS = 30000 }; /* what live streams get after SIGTERM */

struct running {
  struct output *out;
  beam_relay *relay;
  beam_loop *loop;
  uint32_t drain_ms;
  atomic_bool quiet;
  const struct cli_env *env;
};

static void stop_loop(void *loop) {
  beam_loop_stop(loop);
}

static void say_event(struct output *out, const struct beam_relay_event *ev) {
  char a[128], b[128], c[256];
  if (out->json) {
    struct json j;
    json_open(&j);
    json_text(&j, "event", ev->kind);
    json_text(&j, "name", ev->name);
    json_text(&j, "agent", ev->agent);
    json_text(&j, "reason", ev->reason);
    out_json(out, &j);
    return;
  }
  const char *name = ev->name ? printable(a, sizeof a, ev->name, 100) : "";
  const char *agent = ev->agent ? printable(b, sizeof b, ev->agent, 100) : "";
  const char *reason = ev->reason ? printable(c, sizeof c, ev->reason, 200) : "";
  out_line(out, "%s%s%s%s%s%s%s", ev->kind, *name ? " " : "", name, *agent ? " agent=" : "", agent,
           *reason ? " reason=" : "", reason);
}

/* From the relay's threads; out has its own lock. */
static void on_event(void *user, const struct beam_relay_event *ev) {
  struct running *run = user;
  if (!atomic_load(&run->quiet))
    say_event(run->out, ev);
  if (!strcmp(ev->kind, "drained"))
    beam_loop_post(run->loop, stop_loop, run->loop);
}

static void drain(void *user) {
  struct running *run = user;
  if (beam_relay_drain(run->relay, run->drain_ms))
    beam_loop_stop(run->loop);
}

static struct beam_relay_config relay_config(const struct options *o, const char *data) {
  struct beam_relay_config c = BEAM_RELAY_CONFIG_INIT;
  c.domain = o->domain;
  c.control_host = o->control_host;
  c.listen = o->listen;
  c.listen_plain = o->listen_plain;
  c.plain = o->plain && strcmp(o->plain, "serve") == 0 ? BEAM_PLAIN_SERVE : BEAM_PLAIN_REDIRECT;
  c.data_dir = data;
  c.workers = o->workers;
  c.tcp_ports = o->tcp_ports;
  c.udp_ports = o->udp_ports;
  c.udp_idle_ms = o->udp_idle * 1000;
  c.congestion = congestion_of(o);
  c.tls_cert = o->tls_cert;
  c.tls_key = o->tls_key;
  c.agent_token_file = o->agent_token_file;
  c.open = o->open;
  c.interstitial = o->interstitial;
  c.visitor_connections = o->visitor_connections;
  c.visitor_requests = o->visitor_requests;
  c.tunnel_connections = o->tunnel_connections;
  c.tunnel_requests = o->tunnel_requests;
  c.proxy_from = o->proxy_from;
  c.min_body_rate = o->min_body_rate;
  c.drain_to = o->drain_to;
  c.give_descriptors = !o->give_descriptors || strcmp(o->give_descriptors, "on") == 0;
  return c;
}

/* The flags and the environment are what they were; the file may say something else now. */
static void reload(void *user) {
  struct running *run = user;
  struct beam_error e = BEAM_ERROR_INIT;
  struct options o = {0};
  char data[PATH_SIZE];
  int err = options_parse(&o, run->env, &e);
  if (!err)
    err = path_data(&o, run->env, o.data ? NULL : "relay", data, &e);
  if (!err) {
    struct beam_relay_config c = relay_config(&o, data);
    err = beam_relay_reconfigure(run->relay, &c, &e);
  }
  if (!err) {
    log_setup(&o, run->out);
    atomic_store(&run->quiet, o.quiet);
  }
  options_free(&o);
  if (err)
    out_error(run->out, &e);
  else if (run->out->json)
    say_event(run->out,
              &(struct beam_relay_event){.size = sizeof(struct beam_relay_event), .kind = "reloaded"});
  else
    out_line(run->out, "Configuration, certificates and tokens read again.");
}

static void put_info(beam_relay *relay, struct json *j) {
  struct beam_relay_info info = {.size = sizeof info};
  beam_relay_info(relay, &info);
  json_text(j, "domain", info.domain);
  json_text(j, "https", info.https);
  json_text(j, "http", info.http);
  json_text(j, "ca", info.ca_file);
  json_text(j, "ca_fingerprint", info.ca_fingerprint);
  json_whole(j, "workers", info.workers);
  json_whole(j, "pid", (uint64_t)getpid());
}

static void announce(struct running *run) {
  struct output *out = run->out;
  if (out->json) {
    struct json j;
    json_open(&j);
    json_text(&j, "event", "relay");
    put_info(run->relay, &j);
    out_json(out, &j);
    return;
  }
  struct beam_relay_info info = {.size = sizeof info};
  beam_relay_info(run->relay, &info);
  out_line(out, "%sRelay active: *.%s", out->emoji ? "🛰️  " : "", info.domain);
  out_line(out, "%sListening: https %s%s%s", out->emoji ? "   " : "", info.https, info.http ? ", http " : "",
           info.http ? info.http : "");
  out_line(out, "%sAgents connect with: beam 3000 --relay %s --relay-ca %s", out->emoji ? "   " : "",
           info.https, info.ca_file);
}

static void status(void *user, struct json *j) {
  struct running *run = user;
  struct beam_relay_info info = {.size = sizeof info};
  beam_relay_info(run->relay, &info);
  json_text(j, "kind", "relay");
  json_text(j, "state", "active");
  put_info(run->relay, j);
  json_whole(j, "sessions", info.sessions);
  json_whole(j, "tunnels", info.tunnels);
  json_whole(j, "visitors", info.visitors);
  json_whole(j, "requests", info.requests);
}

static void stop(void *user) {
  struct running *run = user;
  beam_loop_post(run->loop, stop_loop, run->loop);
}

static int start(const struct options *o, const char *data, struct running *run, struct beam_error *e) {
  struct beam_relay_config c = relay_config(o, data);
  c.handover = o->replace ? 2 : 1;
  atomic_store(&run->quiet, o->quiet);
  c.on_event = on_event;
  c.user = run;
  return beam_relay_start(&c, &run->relay, e);
}

/* The relay's own refusal to start open to the world is a wrong command line, and a low port is one that cannot be listened on. */
static int start_failed(struct output *out, const struct beam_error *e) {
  int code = report(out, e);
  if (e->code == BEAM_ERR_DENIED)
    return CLI_USAGE;
  return e->code == BEAM_ERR_UNREACHABLE || (e->code == BEAM_ERR_PERMISSION && strstr(e->what, "listen"))
             ? CLI_LISTEN
             : code;
}

int cmd_relay(struct options *o, const struct cli_env *env, struct output *out) {
  struct beam_error e = BEAM_ERROR_INIT;
  struct running run = {.out = out, .drain_ms = DRAIN_MS, .env = env};
  struct control *control = NULL;
  char data[PATH_SIZE];
  int code;
  if (o->n_args || !o->domain) {
    fail(&e, BEAM_ERR_INVALID, "beam relay --domain DOMAIN", "%s",
         o->n_args ? "beam relay takes only flags" : "beam relay needs --domain");
    return report(out, &e);
  }
  log_setup(o, out);
  if (path_data(o, env, o->data ? NULL : "relay", data, &e) != 0)
    return report(out, &e);
  if (beam_loop_new(&run.loop) != 0) {
    fail(&e, BEAM_ERR_SYSTEM, "raise the limit of open files", "cannot make an event loop");
    return report(out, &e);
  }
  out_hold(out);
  if (start(o, data, &run, &e) != 0) {
    code = start_failed(out, &e);
    goto done;
  }
  /* Without a control socket the relay still runs: a read-only system has no place for one. */
  struct control_ops ops = {status, stop, NULL, &run};
  if (control_open(env, &ops, &control, &e) != 0)
    err_line(out, "beam: no control socket, so beam status and beam stop cannot reach this relay: %s",
             e.what);
  /* Before anybody knows that it runs: SIGHUP would still end it. */
  stop_also(env->stop, drain, reload, &run);
  stop_bind(env->stop, run.loop);
  announce(&run);
  out_release(out);
  code = beam_loop_run(run.loop) == 0 ? CLI_OK : CLI_FAILED;
  stop_bind(env->stop, NULL);
  stop_also(env->stop, NULL, NULL, NULL);
  if (!out->json)
    out_line(out, "Relay stopped.");
done:
  control_quiet(control);
  beam_relay_stop(run.relay);
  control_close(control);
  beam_loop_free(run.loop);
  return code;
}
