#include "relay/answers.h"

#include <string.h>

#include "base/str.h"
#include "http/answer.h"
#include "relay/session.h"
#include "wire/h1.h"

static void send_text(struct worker *w, struct http_end *front, const struct http_head *request,
                      uint16_t status, struct http_field extra, const char *body) {
  char length[24];
  str_fmt(length, sizeof length, "%zu", strlen(body));
  struct http_field fields[4] = {
      {SPAN("Content-Length"), span_of(length)}, {SPAN("Cache-Control"), SPAN("no-store")}, extra};
  struct http_head head = {
      .status = status, .minor = 1, .reason = span_of(http_reason(status)), .fields = fields, .fields_n = 3};
  http_answer(w->loop, front, request, &head, body, strlen(body));
}

void answer_redirect(struct worker *w, struct http_end *front, const struct http_head *h, const char *host) {
  char url[300], location[8192];
  relay_url(w->relay, true, host, url, sizeof url);
  if (!str_fmt(location, sizeof location, "%s%.*s", url, SPAN_FMT(h->target)))
    str_copy(location, sizeof location, url); /* an absurdly long path: the front page will do */
  send_text(w, front, h, 308, (struct http_field){SPAN("Location"), span_of(location)}, "");
}

static void send_json(struct worker *w, struct http_end *front, const struct http_head *h, const char *body) {
  send_text(w, front, h, 200, (struct http_field){SPAN("Content-Type"), SPAN("application/json")}, body);
}

/* Only numbers and names we have checked go in: nothing needs escaping. The session's details are known to the worker that has it. */
void answer_state(struct worker *w, struct http_end *front, const struct http_head *h, const char *name,
                  const struct route_view *route) {
  static const char *const states[] = {"active", "reconnecting", "closed"};
  struct session_view s = {0};
  char body[1024], link[160] = "";
  unsigned worker = route->members_n ? route->members[0].worker : route->worker;
  for (unsigned i = 0; i < route->members_n && !s.transport; i++)
    if (route->members[i].worker == w->index && session_view(w, route->members[i].session, &s))
      str_fmt(link, sizeof link, ",\"transport\":\"%s\",\"streams\":%u,\"rtt_ms\":%u", s.transport, s.streams,
              s.rtt_ms);
  struct route_stats *st = route->stats;
  str_fmt(body, sizeof body,
          "{\"name\":\"%s\",\"status\":\"%s\",\"since_ms\":%llu,\"created_at\":%llu,\"requests\":%llu,"
          "\"errors\":%llu,"
          "\"bytes_in\":%llu,\"bytes_out\":%llu,\"links\":%u,\"worker\":%u,\"accepted_by\":%u%s}\n",
          name, states[route->state], (unsigned long long)(loop_now(w->loop) - route->since_ms),
          (unsigned long long)(st ? st->created_at : 0),
          (unsigned long long)(st ? atomic_load(&st->requests) : 0),
          (unsigned long long)(st ? atomic_load(&st->errors) : 0),
          (unsigned long long)(st ? atomic_load(&st->bytes_in) : 0),
          (unsigned long long)(st ? atomic_load(&st->bytes_out) : 0), route->members_n, worker, w->index,
          link);
  send_json(w, front, h, body);
}

void answer_control(struct worker *w, struct http_end *front, const struct http_head *h) {
  struct relay *r = w->relay;
  char body[256];
  str_fmt(body, sizeof body, "{\"relay\":\"beam/%s\",\"domain\":\"%s\",\"sessions\":%lld,\"tunnels\":%lld}\n",
          BEAM_VERSION, r->conf.domain, (long long)atomic_load(&r->sessions_now),
          (long long)atomic_load(&r->tunnels_now));
  send_json(w, front, h, body);
}
