#include "io/proxy.h"

#include <stdlib.h>
#include <string.h>

struct proxy_dial {
  struct net *net;
  struct proxy proxy;
  struct proxy_talk talk;
  proxy_cb cb;
  void *user;
  struct dial *dial;
  struct stream *s; /* while it talks */
  struct loop_timer timeout;
};

static void release(struct proxy_dial *d) {
  if (d->dial)
    net_dial_cancel(d->net, d->dial);
  timer_stop(&d->timeout);
  proxy_wipe(&d->proxy);
  free(d);
}

void proxy_dial_cancel(struct proxy_dial *d) {
  if (!d)
    return;
  stream_close(d->s, BEAM_ERR_CLOSED);
  release(d);
}

static void outcome(struct proxy_dial *d, struct stream *s, int err, const char *why) {
  proxy_cb cb = d->cb;
  void *user = d->user;
  char text[512] = "";
  if (err && d->proxy.kind != PROXY_NONE)
    str_fmt(text, sizeof text, strchr(d->proxy.host, ':') ? "%s ([%s]:%u)" : "%s (%s:%u)", why, d->proxy.host,
            d->proxy.port);
  if (err)
    stream_close(d->s, err);
  release(d);
  cb(user, s, err, text);
}

/* --- the talk --- */

static int say(struct proxy_dial *d) {
  char out[PROXY_SAY_MAX];
  size_t n = proxy_talk_say(&d->talk, out);
  bool sent = stream_write(d->s, out, n) == n; /* on a fresh connection there is room */
  explicit_bzero(out, sizeof out);
  return sent ? 0 : BEAM_ERR_NOMEM;
}

static void on_readable(void *user) {
  struct proxy_dial *d = user;
  for (;;) {
    struct evbuffer *in = stream_input(d->s);
    size_t n = evbuffer_get_length(in), used;
    const char *p = n ? (const char *)evbuffer_pullup(in, -1) : "";
    if (!p) {
      outcome(d, NULL, BEAM_ERR_NOMEM, "out of memory");
      return;
    }
    enum proxy_what what = proxy_talk_hear(&d->talk, p, n, &used);
    stream_consume(d->s, used);
    if (what == PROXY_SAY && !say(d))
      continue;
    if (what == PROXY_OPEN) {
      struct stream *s = d->s;
      d->s = NULL;
      stream_own(s, NULL, NULL);
      outcome(d, s, 0, "");
    } else if (what == PROXY_BAD) {
      outcome(d, NULL, d->talk.err, d->talk.why);
    } else if (what == PROXY_SAY) {
      outcome(d, NULL, BEAM_ERR_NOMEM, "out of memory");
    } else if (d->s->in_ended) {
      outcome(d, NULL, BEAM_ERR_TRUNCATED, "the proxy hung up");
    }
    return;
  }
}

static void on_closed(void *user, int reason) {
  outcome(user, NULL, reason, "the proxy hung up");
}

static void on_timeout(void *arg) {
  struct proxy_dial *d = arg;
  outcome(d, NULL, BEAM_ERR_TIMEOUT, d->s ? "the proxy does not answer" : "the proxy cannot be reached");
}

static const struct stream_events events = {on_readable, NULL, on_closed};

static void on_dialled(void *user, struct stream *s, int err) {
  struct proxy_dial *d = user;
  d->dial = NULL;
  if (err || d->proxy.kind == PROXY_NONE) {
    outcome(d, s, err, "the proxy cannot be reached");
    return;
  }
  d->s = s;
  stream_own(s, &events, d);
  if (say(d))
    outcome(d, NULL, BEAM_ERR_NOMEM, "out of memory");
}

int proxy_dial(struct net *n, struct loop *l, const struct proxy *proxy, const char *host, uint16_t port,
               uint64_t timeout_ms, proxy_cb cb, void *user, struct proxy_dial **out) {
  struct proxy_dial *d = calloc(1, sizeof *d);
  if (!d)
    return BEAM_ERR_NOMEM;
  d->net = n;
  d->proxy = *proxy;
  d->cb = cb;
  d->user = user;
  timer_init(&d->timeout, l, on_timeout, d);
  bool direct = proxy->kind == PROXY_NONE;
  int err = direct ? 0 : proxy_talk_init(&d->talk, &d->proxy, host, port);
  if (!err && !direct)
    err = timer_start(&d->timeout, timeout_ms);
  if (!err)
    err = net_dial(n, l, direct ? host : d->proxy.host, direct ? port : d->proxy.port, timeout_ms, on_dialled,
                   d, &d->dial);
  if (err) {
    release(d);
    return err;
  }
  *out = d;
  return 0;
}
