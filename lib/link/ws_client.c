/* ws_client.c: asking a relay for the upgrade.   lower ── GET /_beam/link ──► ... ── 101 ──► ws_stream      anything else: the outcome is an error */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/random.h"
#include "base/str.h"
#include "link/ws.h"
#include "wire/h1.h"
#include "wire/ws.h"

struct ws_upgrade {
  struct stream *lower;
  ws_done done;
  void *user;
  struct loop_timer timer;
  struct evbuffer *out; /* the request; in case the lower stream has no room yet */
  char key[WS_KEY_SIZE];
  size_t scanned;
};

static void release(struct ws_upgrade *u) {
  timer_stop(&u->timer);
  if (u->out)
    evbuffer_free(u->out);
  free(u);
}

void ws_cancel(struct ws_upgrade *u) {
  if (!u)
    return;
  stream_close(u->lower, BEAM_ERR_CLOSED);
  release(u);
}

static void outcome(struct ws_upgrade *u, int err, unsigned status) {
  struct stream *lower = u->lower, *s = NULL;
  ws_done done = u->done;
  void *user = u->user;
  release(u);
  if (err)
    stream_close(lower, err);
  else
    err = ws_stream(lower, WS_CLIENT, &s);
  done(user, err, s, status);
}

/* One whole head off the input. True: it was an informational one, look for the next. */
static bool read_head(struct ws_upgrade *u) {
  struct evbuffer *in = stream_input(u->lower);
  size_t n = evbuffer_get_length(in);
  if (n > LIMIT_HEAD_BYTES)
    n = LIMIT_HEAD_BYTES;
  const char *p = n ? (const char *)evbuffer_pullup(in, (ev_ssize_t)n) : NULL;
  long len = p ? h1_head_length(p, n, &u->scanned) : 0;
  if (!len && n < LIMIT_HEAD_BYTES) {
    if (u->lower->in_ended)
      outcome(u, BEAM_ERR_TRUNCATED, 0);
    return false;
  }
  struct h1_message m;
  if (len <= 0 || h1_parse_response(p, (size_t)len, SPAN("GET"), &m)) {
    outcome(u, len <= 0 ? BEAM_ERR_TOO_LARGE : BEAM_ERR_PROTOCOL, 0);
    return false;
  }
  stream_consume(u->lower, (size_t)len);
  u->scanned = 0;
  unsigned status = m.head.status;
  bool early = status >= 100 && status < 200 && status != 101;
  int err = ws_response_check(&m.head, u->key, WS_PROTOCOL);
  http_head_free(&m.head);
  if (!early)
    outcome(u, err, status);
  return early;
}

static void on_readable(void *user) {
  while (read_head(user))
    ;
}

static void on_writable(void *user) {
  struct ws_upgrade *u = user;
  stream_move(u->lower, u->out, evbuffer_get_length(u->out));
}

static void on_closed(void *user, int reason) {
  outcome(user, reason, 0);
}

static void on_late(void *arg) {
  outcome(arg, BEAM_ERR_TIMEOUT, 0);
}

static const struct stream_events events = {on_readable, on_writable, on_closed};

static int write_request(struct ws_upgrade *u, const char *authority) {
  uint8_t random[16];
  random_bytes(random, sizeof random);
  ws_key_make(u->key, random);
  struct http_field fields[] = {{SPAN("Host"), span_of(authority)},
                                {SPAN("Connection"), SPAN("Upgrade")},
                                {SPAN("Upgrade"), SPAN("websocket")},
                                {SPAN("Sec-WebSocket-Version"), SPAN("13")},
                                {SPAN("Sec-WebSocket-Key"), span_of(u->key)},
                                {SPAN("Sec-WebSocket-Protocol"), SPAN(WS_PROTOCOL)},
                                {SPAN("User-Agent"), SPAN("beam/" BEAM_VERSION)}};
  struct http_head h = {.minor = 1,
                        .method = SPAN("GET"),
                        .target = SPAN(WS_PATH),
                        .fields = fields,
                        .fields_n = sizeof fields / sizeof *fields};
  return h1_write_head(u->out, &h);
}

int ws_connect(struct stream *lower, const char *authority, ws_done done, void *user,
               struct ws_upgrade **out) {
  struct ws_upgrade *u = calloc(1, sizeof *u);
  int err = http_value_ok(span_of(authority)) ? BEAM_ERR_NOMEM : BEAM_ERR_INVALID;
  if (!u || err == BEAM_ERR_INVALID || !(u->out = evbuffer_new()))
    goto fail;
  u->lower = lower;
  u->done = done;
  u->user = user;
  timer_init(&u->timer, lower->loop, on_late, u);
  if ((err = write_request(u, authority)) || (err = timer_start(&u->timer, LIMIT_HANDSHAKE_MS)))
    goto fail;
  stream_own(lower, &events, u);
  on_writable(u);
  *out = u;
  return 0;

fail:
  if (u)
    release(u);
  stream_close(lower, err);
  return err;
}
