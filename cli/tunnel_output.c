/* tunnel_output.c: see tunnel_output.h. */
#include "tunnel_output.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *state_text(enum beam_tunnel_state state) {
  static const char *const names[] = {"connecting", "active", "reconnecting", "closed"};
  return (unsigned)state < 4 ? names[state] : "unknown";
}

const char *kind_text(enum beam_tunnel_kind kind) {
  switch (kind) {
  case BEAM_TUNNEL_TCP:
    return "tcp";
  case BEAM_TUNNEL_UDP:
    return "udp";
  case BEAM_TUNNEL_TLS:
    return "tls";
  case BEAM_TUNNEL_PRIVATE:
    return "private";
  case BEAM_TUNNEL_ENTRY:
    return "entry";
  default:
    return "http";
  }
}

void tunnel_output_init(struct tunnel_output *t, struct output *out, enum beam_tunnel_kind kind,
                        const struct target *target) {
  *t = (struct tunnel_output){.out = out, .kind = kind};
  const char *name = target->host[0] ? target->host : "localhost";
  const char *other = target->folder ? target->folder : target->upstream;
  if (other) {
    snprintf(t->target, sizeof t->target, "%s", other);
    snprintf(t->typed, sizeof t->typed, "%s", other);
    return;
  }
  snprintf(t->typed, sizeof t->typed, "%u", target->port);
  bool six = strchr(name, ':') != NULL;
  snprintf(t->target, sizeof t->target, "%s://%s%s%s:%u",
           kind >= BEAM_TUNNEL_PRIVATE ? "tcp" : kind_text(kind), six ? "[" : "", name, six ? "]" : "",
           target->port);
}

void say_embedded(struct tunnel_output *t, const struct beam_relay_info *relay) {
  struct json j;
  t->embedded = true;
  snprintf(t->ca, sizeof t->ca, "%s", relay->ca_file ? relay->ca_file : "");
  if (!t->out->json)
    return;
  json_open(&j);
  json_text(&j, "event", "relay");
  json_text(&j, "domain", relay->domain);
  json_text(&j, "https", relay->https);
  json_text(&j, "http", relay->http);
  json_text(&j, "ca", relay->ca_file);
  json_text(&j, "ca_fingerprint", relay->ca_fingerprint);
  json_whole(&j, "workers", relay->workers);
  json_flag(&j, "embedded", true);
  json_whole(&j, "pid", (uint64_t)getpid());
  out_json(t->out, &j);
}

/* ---- the banner --------------------------------------------------------------------------------------------------- */

static void banner_json(struct tunnel_output *t, const struct beam_tunnel_info *info) {
  struct json j;
  json_open(&j);
  json_text(&j, "event", "tunnel");
  json_text(&j, "kind", kind_text(t->kind));
  json_text(&j, "name", info->name);
  json_text(&j, "url", info->url);
  json_text(&j, "plain_url", info->plain_url);
  if (info->public_port)
    json_whole(&j, "port", info->public_port);
  json_text(&j, "dashboard", info->dashboard);
  json_text(&j, "target", t->target);
  json_text(&j, "relay", info->relay);
  json_text(&j, "relay_id", info->relay_id);
  json_text(&j, "transport", info->transport);
  json_text(&j, "transport_reason", info->transport_reason);
  json_whole(&j, "pid", (uint64_t)getpid());
  out_json(t->out, &j);
}

static void banner(struct tunnel_output *t, const struct beam_tunnel_info *info) {
  struct output *o = t->out;
  const char *bold = PAINT(o, "1"), *dim = PAINT(o, "2"), *off = PAINT(o, "0"),
             *indent = o->emoji ? "   " : "";
  if (o->json) {
    banner_json(t, info);
    return;
  }
  if (t->kind == BEAM_TUNNEL_ENTRY) {
    out_line(o, "%sConnected: %s%s%s is at %s here", o->emoji ? "🔗 " : "", bold, info->name, off, info->url);
    return;
  }
  out_line(o, "%sTunnel active: %s%s%s", o->emoji ? "🔗 " : "", bold,
           t->kind == BEAM_TUNNEL_HTTP ? info->name : info->url, off);
  if (info->dashboard) {
    out_line(o, "%sDashboard: %s", o->emoji ? "🌍 " : "", info->dashboard);
    out_line(o, "%sAnalytics: %s/stats", o->emoji ? "📊 " : "", info->dashboard);
  }
  if (t->kind == BEAM_TUNNEL_HTTP)
    out_line(o, "%sCertificate: Automatic HTTPS enabled", o->emoji ? "🔒 " : "");
  else if (t->kind == BEAM_TUNNEL_TLS)
    out_line(o, "%sCertificate: the local service's own; the relay cannot read what passes",
             o->emoji ? "🔒 " : "");
  else
    out_line(o, "%s%s to it reach %s", indent, t->kind == BEAM_TUNNEL_UDP ? "Datagrams" : "Connections",
             t->target);
  if (t->kind == BEAM_TUNNEL_PRIVATE)
    out_line(o, "%sOpen it elsewhere, with this device's key: beam connect %s PORT --relay %s", indent,
             info->name, info->relay);
  if (info->plain_url)
    out_line(o, "%s%sAlso on plain http: %s%s", indent, dim, info->plain_url, off);
  if (t->embedded) {
    if (t->kind == BEAM_TUNNEL_HTTP)
      out_line(o, "%s%sBrowsers and curl trust it once they know the CA in %s%s", indent, dim, t->ca, off);
    out_line(o,
             "%s%sOnly this machine can reach it. To share: beam %s%s%s --relay HOST, or run your own: beam "
             "relay%s",
             indent, dim, t->kind == BEAM_TUNNEL_HTTP ? "" : kind_text(t->kind),
             t->kind == BEAM_TUNNEL_HTTP ? "" : " ", t->typed, off);
  }
}

/* ---- states ------------------------------------------------------------------------------------------------------- */

static void state_json(struct tunnel_output *t, const struct beam_tunnel_info *info,
                       const struct beam_error *error) {
  struct json j;
  json_open(&j);
  json_text(&j, "event", "state");
  json_text(&j, "state", state_text(info->state));
  json_text(&j, "name", info->name);
  json_whole(&j, "reconnects", info->reconnects);
  if (info->state == BEAM_TUNNEL_ACTIVE) {
    json_text(&j, "transport", info->transport);
    json_text(&j, "transport_reason", info->transport_reason);
  }
  if (error) {
    json_text(&j, "code", beam_err_code(error->code));
    json_text(&j, "what", error->what);
    json_text(&j, "hint", error->hint);
  }
  out_json(t->out, &j);
}

/* Trying again is news only when the reason is new. */
static void trying(struct tunnel_output *t, const struct beam_tunnel_info *info,
                   const struct beam_error *error) {
  const char *why = error && error->what[0] ? error->what : error ? beam_strerror(error->code) : NULL;
  bool lost = t->is_active;
  t->is_active = false;
  if (!why && !lost)
    return;
  if (!lost && why && strncmp(t->last, why, sizeof t->last - 1) == 0)
    return;
  snprintf(t->last, sizeof t->last, "%s", why ? why : "");
  if (t->out->json) {
    state_json(t, info, error);
    return;
  }
  const char *yellow = PAINT(t->out, "33"), *off = PAINT(t->out, "0");
  if (t->was_active)
    out_line(t->out, "%sReconnecting%s: %s; the name stays", yellow, off, why ? why : "the link is lost");
  else
    out_line(t->out, "%sConnecting to %s%s: %s; trying again", yellow,
             info->relay ? info->relay : "the relay", off, why);
}

void say_state(struct tunnel_output *t, const struct beam_tunnel_info *info, const struct beam_error *error) {
  if (info->state != BEAM_TUNNEL_ACTIVE) {
    trying(t, info, error);
    return;
  }
  bool again = t->was_active && info->name && strcmp(t->shown, info->name) == 0;
  bool stays = again && t->is_active; /* it was never down */
  bool moved = stays && info->transport && strcmp(t->transport, info->transport) != 0;
  t->was_active = t->is_active = true;
  t->last[0] = 0;
  snprintf(t->transport, sizeof t->transport, "%s", info->transport ? info->transport : "");
  if (stays && !moved)
    return;
  if (!again) {
    snprintf(t->shown, sizeof t->shown, "%s", info->name ? info->name : "");
    banner(t, info);
  } else if (t->out->json) {
    state_json(t, info, NULL);
  } else if (moved) {
    out_line(t->out, "%sThe link is over %s now%s", PAINT(t->out, "2"), info->transport, PAINT(t->out, "0"));
  } else {
    out_line(t->out, "%sBack%s under the same name: %s", PAINT(t->out, "32"), PAINT(t->out, "0"),
             t->kind == BEAM_TUNNEL_HTTP ? info->name : info->url);
  }
}

/* ---- requests ----------------------------------------------------------------------------------------------------- */

static void request_json(struct tunnel_output *t, const struct beam_request *r) {
  struct json j;
  json_open(&j);
  json_text(&j, "event", "request");
  json_text(&j, "method", r->method);
  json_text(&j, "path", r->path);
  json_text(&j, "host", r->host);
  json_whole(&j, "status", r->status);
  json_decimal(&j, "ms", r->ms);
  json_decimal(&j, "ttfb_ms", r->ttfb_ms);
  json_whole(&j, "bytes_in", r->bytes_in);
  json_whole(&j, "bytes_out", r->bytes_out);
  json_text(&j, "error", r->error);
  out_json(t->out, &j);
}

/* A connection of a TCP or TLS tunnel, or a visitor of a UDP one until he was silent: there is no more to know than how long and how much. */
static void say_connection(struct tunnel_output *t, const struct beam_request *r) {
  struct output *o = t->out;
  const char *what = t->kind == BEAM_TUNNEL_UDP ? "flow" : "connection";
  if (!o->json) {
    out_line(o, "%s %.0f ms, %llu bytes in, %llu bytes out%s%s%s%s", what, r->ms,
             (unsigned long long)r->bytes_in, (unsigned long long)r->bytes_out,
             r->error ? PAINT(o, "31") : "", r->error ? " " : "", r->error ? r->error : "",
             r->error ? PAINT(o, "0") : "");
    return;
  }
  struct json j;
  json_open(&j);
  json_text(&j, "event", what);
  json_decimal(&j, "ms", r->ms);
  json_whole(&j, "bytes_in", r->bytes_in);
  json_whole(&j, "bytes_out", r->bytes_out);
  json_text(&j, "error", r->error);
  out_json(o, &j);
}

void say_request(struct tunnel_output *t, const struct beam_request *r) {
  if (t->kind != BEAM_TUNNEL_HTTP) {
    say_connection(t, r);
    return;
  }
  char method[24], path[164];
  struct output *o = t->out;
  if (o->json) {
    request_json(t, r);
    return;
  }
  const char *off = PAINT(o, "0");
  const char *paint = r->status == 0 || r->status >= 500 ? PAINT(o, "31")
                      : r->status >= 400                 ? PAINT(o, "33")
                                                         : PAINT(o, "32");
  char status[16];
  if (r->status)
    snprintf(status, sizeof status, "%u", r->status);
  else
    snprintf(status, sizeof status, "---");
  out_line(o, "%s %s %s%s%s %.0f ms%s%s", printable(method, sizeof method, r->method, 16),
           printable(path, sizeof path, r->path, 140), paint, status, off, r->ms, r->error ? " " : "",
           r->error ? r->error : "");
}

void say_end(struct tunnel_output *t) {
  if (t->out->json)
    return;
  if (t->shown[0])
    out_line(t->out, "Tunnel closed: %s", t->shown);
  else
    out_line(t->out, "Ended before the tunnel was open.");
}
