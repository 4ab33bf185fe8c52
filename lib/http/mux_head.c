/* mux_head.c: heads of HTTP/2 (RFC 9113 8) and HTTP/3 (RFC 9114 4) to the heads every front gives, and back. What nghttp2 and nghttp3 check by themselves (order of
 * pseudo fields, upper case, fields of one connection, content-length against the body) is not checked again here.
 */
#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "http/forward.h"
#include "http/mux.h"
#include "wire/host.h"
#include "wire/h1.h"
#include "wire/ws.h"

void mux_head_clear(struct mux_head *h) {
  char *texts[] = {h->method, h->scheme, h->authority, h->path, h->protocol, h->host, h->status, h->cookie};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    free(texts[i]);
  http_build_free(h->build);
  memset(h, 0, sizeof *h);
}

static void fault(struct mux_head *h, enum page page) {
  if (!h->fault)
    h->fault = page;
}

static void keep(struct mux_head *h, char **at, struct span value) {
  char *copy = *at ? NULL : malloc(value.n + 1);
  if (!copy) {
    fault(h, *at ? PAGE_BAD_REQUEST : PAGE_OVERLOADED);
    return;
  }
  if (value.n)
    memcpy(copy, value.p, value.n);
  copy[value.n] = 0;
  *at = copy;
}

static void add_pseudo(struct mux_head *h, struct span name, struct span value) {
  if (span_eq(name, SPAN(":method")))
    keep(h, &h->method, value);
  else if (span_eq(name, SPAN(":scheme")))
    keep(h, &h->scheme, value);
  else if (span_eq(name, SPAN(":authority")))
    keep(h, &h->authority, value);
  else if (span_eq(name, SPAN(":path")))
    keep(h, &h->path, value);
  else if (span_eq(name, SPAN(":protocol")))
    keep(h, &h->protocol, value);
  else if (span_eq(name, SPAN(":status")))
    keep(h, &h->status, value);
  else
    fault(h, PAGE_BAD_REQUEST);
}

/* A browser sends each cookie in a field of its own; HTTP/1 wants one. */
static void add_cookie(struct mux_head *h, struct span value) {
  char *more = realloc(h->cookie, h->cookie_n + value.n + 3);
  if (!more) {
    fault(h, PAGE_OVERLOADED);
    return;
  }
  h->cookie = more;
  if (h->cookie_n) {
    memcpy(more + h->cookie_n, "; ", 2);
    h->cookie_n += 2;
  }
  if (value.n)
    memcpy(more + h->cookie_n, value.p, value.n);
  h->cookie_n += value.n;
}

void mux_head_add(struct mux_head *h, struct span name, struct span value) {
  h->bytes += name.n + value.n + 4; /* as HTTP/1 would write it */
  h->fields++;
  if (h->bytes > LIMIT_HEAD_BYTES || h->fields > LIMIT_HEAD_FIELDS + 5)
    fault(h, PAGE_HEAD_TOO_LARGE);
  if (h->fault)
    return;
  if (!h->build && http_build_new(&h->build))
    fault(h, PAGE_OVERLOADED);
  else if (name.n && name.p[0] == ':')
    add_pseudo(h, name, value);
  else if (span_eq(name, SPAN("host")))
    keep(h, &h->host, value);
  else if (span_eq(name, SPAN("cookie")))
    add_cookie(h, value);
  else
    http_build_field(h->build, name, value);
}

static enum page page_of(int err) {
  return err == BEAM_ERR_TOO_LARGE ? PAGE_HEAD_TOO_LARGE
         : err == BEAM_ERR_NOMEM   ? PAGE_OVERLOADED
                                   : PAGE_BAD_REQUEST;
}

/* The GET that an extended CONNECT for WebSocket stands for (RFC 8441 5): what HTTP/1 needs besides is ours to make. */
static void ask_upgrade(struct mux_head *h, char **key) {
  uint8_t random[16];
  *key = malloc(WS_KEY_SIZE);
  if (!*key) {
    fault(h, PAGE_OVERLOADED);
    return;
  }
  random_bytes(random, sizeof random);
  ws_key_make(*key, random);
  http_build_field(h->build, SPAN("Connection"), SPAN("upgrade"));
  http_build_field(h->build, SPAN("Upgrade"), SPAN("websocket"));
  http_build_field(h->build, SPAN("Sec-WebSocket-Key"), span_of(*key));
}

static bool is_host(const char *text) {
  char host[HOST_MAX];
  uint16_t port;
  return host_parse(span_of(text), host, &port);
}

/* Some proxies ask in the name of another scheme; nobody asks for anything but HTTP. */
static bool is_http(const char *scheme) {
  return !strcasecmp(scheme, "https") || !strcasecmp(scheme, "http");
}

static void check_request(struct mux_head *h) {
  bool connect = h->method && !strcmp(h->method, "CONNECT");
  if (!h->build || !h->method || h->status)
    fault(h, PAGE_BAD_REQUEST);
  else if (connect && (!h->protocol || strcmp(h->protocol, "websocket")))
    fault(h, PAGE_UNSUPPORTED);
  else if (!h->path || (!connect && h->protocol))
    fault(h, PAGE_BAD_REQUEST);
  else if (h->scheme && !is_http(h->scheme))
    fault(h, PAGE_BAD_REQUEST);
  else if ((!h->authority || !*h->authority) && (!h->host || !*h->host))
    fault(h, PAGE_BAD_HOST);
  else if (h->authority && h->host && strcasecmp(h->authority, h->host))
    fault(h, PAGE_BAD_HOST); /* two answers to one question: nobody behind us may choose */
  else if (!is_host(h->authority && *h->authority ? h->authority : h->host))
    fault(h, PAGE_BAD_HOST);
}

enum page mux_head_request(struct mux_head *h, bool tls, struct http_head *out, char **key) {
  memset(out, 0, sizeof *out);
  *key = NULL;
  check_request(h);
  if (!h->fault && h->cookie)
    http_build_field(h->build, SPAN("cookie"), (struct span){h->cookie, h->cookie_n});
  if (!h->fault && h->protocol)
    ask_upgrade(h, key);
  if (!h->fault) {
    const char *authority = h->authority && *h->authority ? h->authority : h->host;
    http_build_request(h->build, h->protocol ? SPAN("GET") : span_of(h->method),
                       tls ? SPAN("https") : SPAN("http"), span_of(authority), span_of(h->path));
    int err = http_build_done(h->build, out);
    h->build = NULL;
    if (err)
      fault(h, page_of(err));
  }
  enum page page = h->fault;
  mux_head_clear(h);
  return page;
}

enum page mux_head_response(struct mux_head *h, struct http_head *out) {
  uint64_t status = 0;
  memset(out, 0, sizeof *out);
  if (!h->build || h->method || h->scheme || h->authority || h->path || h->protocol ||
      !str_u64(span_of(h->status), 999, &status) || status < 100)
    fault(h, PAGE_LOCAL_BAD);
  if (!h->fault) {
    http_build_status(h->build, (uint16_t)status, span_of(http_reason((uint16_t)status)));
    int err = http_build_done(h->build, out);
    h->build = NULL;
    if (err)
      fault(h, page_of(err));
  }
  enum page page = h->fault;
  mux_head_clear(h);
  return page;
}

enum page mux_head_trailers(struct mux_head *h, struct http_head *out) {
  memset(out, 0, sizeof *out);
  if (!h->fault && (h->method || h->scheme || h->authority || h->path || h->protocol || h->status))
    fault(h, PAGE_BAD_REQUEST);
  if (!h->fault && h->build) {
    int err = http_build_done(h->build, out);
    h->build = NULL;
    if (err)
      fault(h, page_of(err));
  }
  enum page page = h->fault;
  mux_head_clear(h);
  return page;
}

/* --- and back --- */

int mux_head_fields(const struct http_head *h, uint16_t status, struct http_field out[MUX_FIELDS], size_t *n,
                    char **text) {
  struct http_field fields[LIMIT_HEAD_FIELDS + LIMIT_HEAD_ADDED_FIELDS];
  size_t names = 4;
  *n = 0;
  *text = NULL;
  if (h->fields_n > sizeof fields / sizeof *fields)
    return BEAM_ERR_TOO_LARGE;
  size_t fields_n = forward_filter(h, fields, false);
  for (size_t i = 0; i < fields_n; i++)
    names += fields[i].name.n;
  char *p = *text = malloc(names);
  if (!p)
    return BEAM_ERR_NOMEM;
  if (status) {
    str_fmt(p, 4, "%03u", (unsigned)status);
    out[(*n)++] = (struct http_field){SPAN(":status"), {p, 3}};
  }
  p += 4;
  for (size_t i = 0; i < fields_n; i++) {
    struct span name = fields[i].name;
    for (size_t k = 0; k < name.n; k++)
      p[k] = (char)(name.p[k] >= 'A' && name.p[k] <= 'Z' ? name.p[k] | 0x20 : name.p[k]);
    out[(*n)++] = (struct http_field){{p, name.n}, fields[i].value};
    p += name.n;
  }
  return 0;
}
