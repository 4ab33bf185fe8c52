/* pages.c: what Beam itself says to a visitor, as HTML for people and JSON for programs. */
#include "http/pages.h"

#include <beam/beam.h>
#include <string.h>

#include "http/answer.h"
#include "obs/metrics.h"
#include "wire/h1.h"

/* --- the catalogue --- */

static const struct page_entry pages[] = {
    {PAGE_BAD_REQUEST, 400, "The request is malformed",
     "The browser or program sent a request that breaks the rules of HTTP.",
     "Check the program that sent it. A proxy or an extension in between may have altered it."},
    {PAGE_BAD_HOST, 400, "The request names no host",
     "The Host field is missing, given twice, or not a host name.",
     "Send exactly one Host field with the name of the tunnel."},
    {PAGE_BAD_BODY, 400, "The request's body is broken",
     "The body ended early, or its chunked coding is malformed.",
     "Send the request again. If it happens again, check the program that sent it."},
    {PAGE_BAD_NEWLINE, 400, "A line of the request ends wrongly",
     "A line of the request's head does not end in CR LF, or has a CR or LF within.",
     "End every line with CR LF. Field values must not contain line breaks."},
    {PAGE_BAD_FIELD, 400, "A header field of the request is malformed",
     "A field's name has a character that no name may have, a space before its colon, or its value is "
     "folded.",
     "Write each field as one line: name, colon, value."},
    {PAGE_BAD_VALUE, 400, "A header field of the request has a control character",
     "A field's value has a control character or NUL in it.",
     "Encode what is no text, for example in base64."},
    {PAGE_BAD_LENGTH, 400, "The length of the request is ambiguous",
     "Content-Length is repeated, is not a plain number, or comes with Transfer-Encoding.",
     "Send one Content-Length, or Transfer-Encoding: chunked, and never both."},
    {PAGE_BAD_CODING, 400, "The request's Transfer-Encoding is not chunked",
     "Transfer-Encoding has another value than chunked, or came with HTTP/1.0.",
     "Send Transfer-Encoding: chunked alone. Compress with Content-Encoding."},
    {PAGE_BAD_UPGRADE, 400, "A request to upgrade has a body",
     "The request asks to change the protocol and brings a body too.", "Ask to upgrade without a body."},
    {PAGE_AUTH, 401, "A password is needed",
     "The owner of this tunnel lets in who has a user name and a password.",
     "Enter them, or ask the owner for them."},
    {PAGE_ADDRESS, 403, "Not from here", "The owner of this tunnel lets nobody in from your address.",
     "Ask the owner to allow it, or come from a network that is allowed."},
    {PAGE_NO_TUNNEL, 404, "There is no tunnel here", "Nobody has a tunnel under this name.",
     "Check the spelling of the address, or start the tunnel again and use the address it prints."},
    {PAGE_GONE_TUNNEL, 404, "This tunnel is not running",
     "The name is known, but its tunnel is not running now.",
     "Whoever owns it has to start it again. If that is you: run beam with the port of your app."},
    {PAGE_NO_FILE, 404, "There is no such page",
     "The folder behind this tunnel has no file under this address.",
     "Check the address. Hidden files and links that lead outside the folder are not shown."},
    {PAGE_METHOD, 405, "Only reading is possible here", "Behind this tunnel is a folder of files.",
     "Use GET or HEAD. To take requests, share the port of a program instead of a folder."},
    {PAGE_SLOW_HEAD, 408, "The request took too long", "The head of the request did not arrive in time.",
     "Try again. If the network is slow, send fewer or smaller header fields."},
    {PAGE_SLOW_BODY, 408, "The request took too long", "The body of the request came too slowly.",
     "Try again over a faster network, or send the body in smaller requests."},
    {PAGE_BODY_TOO_LARGE, 413, "The upload is too large",
     "The owner of this tunnel takes requests only up to a certain size.",
     "Send less at once, or ask the owner for more."},
    {PAGE_MISDIRECTED, 421, "Wrong connection for this name",
     "The certificate of this connection does not cover the requested name.",
     "Try again: browsers open a fresh connection by themselves."},
    {PAGE_RATE, 429, "Too many requests",
     "The owner of this tunnel takes only so many requests from one address.",
     "Wait a little, then try again."},
    {PAGE_TOO_MANY, 429, "Too many requests at once",
     "More requests from this address are under way than this relay takes.",
     "Wait until some of them are answered, then try again."},
    {PAGE_RATE_TOTAL, 429, "Too many visitors",
     "The owner of this tunnel takes only so many requests from all visitors together, and that many came.",
     "Wait a little, then try again. If this happens often, ask the owner for a higher --rate-limit-total."},
    {PAGE_PASSWORD_TRIES, 429, "Too many wrong passwords",
     "Too many wrong passwords came from your address. For a short time none is looked at, not even the "
     "right one.",
     "Wait a little, then enter the right password, or ask the owner for it."},
    {PAGE_HEAD_TOO_LARGE, 431, "The request's header is too large",
     "The header has more than 64 KiB or more than 128 fields.",
     "Clear the cookies of this site, or send fewer header fields."},
    {PAGE_VISITOR_GONE, 499, "The visitor left", "The connection was closed before the answer was ready.",
     "Nothing to do."},
    {PAGE_INTERNAL, 500, "Beam failed", "Something went wrong inside Beam.",
     "Try again. If it happens again, please report it with the log lines of that moment."},
    {PAGE_UNSUPPORTED, 501, "Not supported", "The request uses a method that Beam does not carry.",
     "Use another method; CONNECT is for proxies, which Beam is not."},
    {PAGE_LOCAL_REFUSED, 502, "Nothing is running behind this tunnel",
     "The tunnel works, but nothing answers on the local port it leads to.",
     "Start your app (for example npm run dev), check that it listens on the port given to beam, and reload "
     "this page."},
    {PAGE_LOCAL_CLOSED, 502, "The app hung up", "The local app closed the connection before it answered.",
     "Look at the app's own log: it may have crashed or restarted. Then reload this page."},
    {PAGE_LOCAL_BAD, 502, "The app's answer is not HTTP",
     "What the local port answered is not an HTTP response.",
     "Check that the port is right. If the app there speaks HTTPS, start beam with its https address "
     "instead of the port alone."},
    {PAGE_LOCAL_UNTRUSTED, 502, "The app's certificate is not trusted",
     "The local app speaks HTTPS, and its certificate is self-signed, expired or for another name.",
     "Start beam with --upstream-ca FILE (the certificate, or the CA that signed it), or with "
     "--upstream-insecure to accept any."},
    {PAGE_LOCAL_TLS, 502, "The app does not speak HTTPS",
     "Beam was told to speak HTTPS with the local app, and no TLS connection came about.",
     "If the app speaks plain HTTP, start beam with its port alone. Else look at the app's own log."},
    {PAGE_LOCAL_H2, 502, "The app does not speak HTTP/2",
     "gRPC needs HTTP/2 on the whole way, and the local app speaks HTTP/1.1.",
     "Check that the port given to beam is the gRPC server's. For a server with TLS give its https address, "
     "for one without start beam with --upstream-protocol h2c."},
    {PAGE_LINK_LOST, 502, "The tunnel lost its connection",
     "The machine behind this tunnel went away before it answered.",
     "Reload this page: the tunnel reconnects by itself as soon as it can."},
    {PAGE_TRUNCATED, 502, "The answer was cut off", "The local app stopped in the middle of its answer.",
     "Look at the app's own log, then reload this page."},
    {PAGE_NO_LINK, 503, "The tunnel is reconnecting",
     "The machine behind this tunnel is not connected at the moment.", "Reload this page in a few seconds."},
    {PAGE_OVERLOADED, 503, "Too busy", "A limit of this relay was reached.", "Try again in a few seconds."},
    {PAGE_TUNNEL_BUSY, 503, "This tunnel is busy",
     "More requests to this tunnel are under way than this relay takes.", "Try again in a few seconds."},
    {PAGE_LOCAL_TIMEOUT, 504, "The app did not answer in time",
     "The local app accepted nothing, or did not answer, for too long.",
     "Look at the app's own log: it may be stuck, or stopped in a debugger."},
    {PAGE_VERSION, 505, "HTTP version not supported", "This address speaks HTTP/1.0 and HTTP/1.1 here.",
     "Use a program that speaks HTTP/1.1."},
};

const struct page_entry *page_find(unsigned code) {
  for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
    if ((unsigned)pages[i].page == code)
      return &pages[i];
  return NULL;
}

static const struct page_entry *entry_of(enum page page) {
  const struct page_entry *e = page_find((unsigned)page);
  return e ? e : page_find(PAGE_INTERNAL);
}

/* --- choosing --- */

static bool contains(struct span s, struct span what) {
  for (size_t i = 0; i + what.n <= s.n; i++)
    if (span_ieq((struct span){s.p + i, what.n}, what))
      return true;
  return false;
}

bool page_wants_json(const struct http_head *request) {
  bool json = false;
  for (size_t i = 0; i < request->fields_n; i++) {
    if (!span_ieq(request->fields[i].name, SPAN("accept")))
      continue;
    if (contains(request->fields[i].value, SPAN("text/html")))
      return false;
    json |= contains(request->fields[i].value, SPAN("application/json")) ||
            contains(request->fields[i].value, SPAN("+json"));
  }
  return json;
}

bool page_is_grpc(const struct http_head *request) {
  const struct http_field *f = http_field_find(request, "content-type");
  struct span grpc = SPAN("application/grpc");
  if (!f || f->value.n < grpc.n || !span_ieq((struct span){f->value.p, grpc.n}, grpc))
    return false;
  return f->value.n == grpc.n || strchr("+; \t", f->value.p[grpc.n]);
}

/* --- rendering --- */

struct text {
  char *p;
  size_t n, cap;
};

static void put(struct text *t, const char *s) {
  size_t n = strlen(s);
  if (n > t->cap - 1 - t->n)
    n = t->cap - 1 - t->n;
  memcpy(t->p + t->n, s, n);
  t->n += n;
}

static void put_escaped(struct text *t, const char *s, bool json) {
  for (; *s; s++) {
    char one[8] = {*s, 0};
    if (json && ((unsigned char)*s < 0x20 || *s == '"' || *s == '\\'))
      str_fmt(one, sizeof one, "\\u%04x", (unsigned)(unsigned char)*s);
    else if (!json && strchr("<>&\"'", *s))
      str_fmt(one, sizeof one, "&#%u;", (unsigned)(unsigned char)*s);
    put(t, one);
  }
}

static void html_begin(struct text *t, const char *title, const char *code) {
  put(t, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
         "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"robots\" "
         "content=\"noindex\">\n<title>");
  put(t, title);
  put(t,
      "</title>\n<style>\n"
      ":root{--bg:#f7f7f5;--fg:#1d1d1f;--dim:#62626a;--line:#dcdcd8;--mark:#0a63c9}\n"
      "@media(prefers-color-scheme:dark){:root{--bg:#151517;--fg:#ececee;--dim:#a0a0a8;--line:#34343a;--mark:"
      "#7db8ff}}\n"
      "body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--bg);color:var(--fg);"
      "font:16px/1.55 system-ui,sans-serif}\n"
      "main{max-width:34rem;padding:2rem}\nh1{font-size:1.5rem;line-height:1.25;margin:0 0 "
      ".75rem}\np{margin:.5rem 0}\n"
      ".code{color:var(--mark);font:600 .85rem/1 ui-monospace,monospace;margin-bottom:1rem}\n"
      ".do{border-left:3px solid var(--mark);padding-left:.9rem;margin-top:1rem}\n"
      ".by{color:var(--dim);font-size:.85rem;border-top:1px solid "
      "var(--line);margin-top:2rem;padding-top:.8rem}\n"
      "</style>\n</head>\n<body>\n<main>\n<p class=\"code\">");
  put(t, code);
  put(t, "</p>\n<h1>");
  put(t, title);
  put(t, "</h1>\n<p>");
}

static void html_end(struct text *t, const char *by) {
  put(t, "</p>\n<p class=\"by\">");
  put(t, by);
  put(t, "</p>\n</main>\n</body>\n</html>\n");
}

static void render_html(struct text *t, const struct page_entry *e, const char *code, const char *detail) {
  html_begin(t, e->title, code);
  put(t, e->cause);
  put(t, "</p>\n");
  if (detail) {
    put(t, "<p>");
    put_escaped(t, detail, false);
    put(t, "</p>\n");
  }
  put(t, "<p class=\"do\">");
  put(t, e->remedy);
  html_end(t, "Beam says this, not the site you asked for.");
}

size_t page_render_warning(const char *host, const char *path, char *out, size_t cap) {
  struct text t = {out, 0, cap};
  html_begin(&t, "Somebody shares this site from their own computer", "Beam");
  put(&t, "You are about to visit <b>");
  put_escaped(&t, host, false);
  put(&t, "</b>. Whoever runs it is not known to this relay, which only passes it on.</p>\n"
          "<p>Give it no password and nothing personal, unless you trust the person who gave you this "
          "address.</p>\n"
          "<p class=\"do\"><a href=\"");
  put_escaped(&t, path, false);
  put(&t, "\">Continue to the site</a>");
  html_end(&t, "Beam says this once in seven days. Programs pass with the header field Beam-Skip-Warning.");
  out[t.n] = 0;
  return t.n;
}

static void put_member(struct text *t, const char *name, const char *value) {
  put(t, ",\"");
  put(t, name);
  put(t, "\":\"");
  put_escaped(t, value, true);
  put(t, "\"");
}

static void render_json(struct text *t, const struct page_entry *e, const char *code, const char *detail) {
  char status[32];
  str_fmt(status, sizeof status, "{\"error\":{\"status\":%u", e->status);
  put(t, status);
  put_member(t, "code", code);
  put_member(t, "title", e->title);
  put_member(t, "cause", e->cause);
  if (detail)
    put_member(t, "detail", detail);
  put_member(t, "remedy", e->remedy);
  put(t, "}}\n");
}

size_t page_render(enum page page, bool json, const char *detail, char *out, size_t cap) {
  const struct page_entry *e = entry_of(page);
  struct text t = {out, 0, cap};
  char code[16], cut[256];
  if (!cap)
    return 0;
  str_fmt(code, sizeof code, "BEAM-%u", (unsigned)e->page);
  if (detail && !str_copy(cut, sizeof cut, detail))
    detail = cut; /* so that the page always fits */
  if (json)
    render_json(&t, e, code, detail);
  else
    render_html(&t, e, code, detail);
  out[t.n] = 0;
  return t.n;
}

void page_head_make(struct page_head *out, enum page page, bool json, size_t body_length) {
  const struct page_entry *e = entry_of(page);
  size_t n = 0;
  memset(out, 0, sizeof *out);
  metric_page((unsigned)e->page);
  str_fmt(out->code, sizeof out->code, "BEAM-%u", (unsigned)e->page);
  str_fmt(out->length, sizeof out->length, "%zu", body_length);
  out->fields[n++] = (struct http_field){SPAN("Content-Type"),
                                         json ? SPAN("application/json") : SPAN("text/html; charset=utf-8")};
  out->fields[n++] = (struct http_field){SPAN("Content-Length"), span_of(out->length)};
  out->fields[n++] = (struct http_field){SPAN("Cache-Control"), SPAN("no-store")};
  out->fields[n++] = (struct http_field){SPAN("X-Content-Type-Options"), SPAN("nosniff")};
  out->fields[n++] = (struct http_field){SPAN("Content-Security-Policy"),
                                         SPAN("default-src 'none'; style-src 'unsafe-inline'")};
  out->fields[n++] = (struct http_field){SPAN("Referrer-Policy"), SPAN("no-referrer")};
  out->fields[n++] = (struct http_field){SPAN("Beam-Error"), span_of(out->code)};
  if (e->status == 503 || e->page == PAGE_TOO_MANY) {
    str_copy(out->retry, sizeof out->retry, "2"); /* seconds: an agent is back within one or two */
    out->fields[n++] = (struct http_field){SPAN("Retry-After"), span_of(out->retry)};
  }
  out->head.status = e->status;
  out->head.minor = 1;
  out->head.reason = span_of(http_reason(e->status));
  out->head.fields = out->fields;
  out->head.fields_n = n;
}

/* By gRPC's own table for answers of HTTP. */
static const char *grpc_status(unsigned status) {
  switch (status) {
  case 400:
    return "13"; /* INTERNAL */
  case 401:
    return "16"; /* UNAUTHENTICATED */
  case 403:
    return "7"; /* PERMISSION_DENIED */
  case 404:
    return "12"; /* UNIMPLEMENTED */
  case 429:
  case 502:
  case 503:
  case 504:
    return "14"; /* UNAVAILABLE: it may be tried again */
  default:
    return "2"; /* UNKNOWN */
  }
}

void page_head_make_grpc(struct page_head *out, enum page page) {
  const struct page_entry *e = entry_of(page);
  size_t n = 0;
  memset(out, 0, sizeof *out);
  metric_page((unsigned)e->page);
  str_fmt(out->code, sizeof out->code, "BEAM-%u", (unsigned)e->page);
  str_copy(out->status, sizeof out->status, grpc_status(e->status));
  str_fmt(out->message, sizeof out->message, "%s: %s", out->code, e->title);
  out->fields[n++] = (struct http_field){SPAN("Content-Type"), SPAN("application/grpc")};
  out->fields[n++] = (struct http_field){SPAN("Grpc-Status"), span_of(out->status)};
  out->fields[n++] = (struct http_field){SPAN("Grpc-Message"), span_of(out->message)};
  out->fields[n++] = (struct http_field){SPAN("Beam-Error"), span_of(out->code)};
  out->head.status = 200;
  out->head.minor = 1;
  out->head.reason = span_of(http_reason(200));
  out->head.fields = out->fields;
  out->head.fields_n = n;
}

void page_answer_with(struct loop *l, struct http_end *front, const struct http_head *request, enum page page,
                      const char *detail, const struct http_field *more, size_t more_n) {
  char text[PAGE_BYTES];
  bool json = page_wants_json(request);
  struct page_head head;
  if (page_is_grpc(request)) {
    page_head_make_grpc(&head, page);
    for (size_t i = 0; i < more_n && i < PAGE_MORE_FIELDS; i++)
      head.fields[head.head.fields_n++] = more[i];
    http_answer(l, front, request, &head.head, NULL, 0);
    return;
  }
  size_t n = page_render(page, json, detail, text, sizeof text);
  page_head_make(&head, page, json, n);
  for (size_t i = 0; i < more_n && i < PAGE_MORE_FIELDS; i++)
    head.fields[head.head.fields_n++] = more[i];
  http_answer(l, front, request, &head.head, text, n);
}

void page_answer(struct loop *l, struct http_end *front, const struct http_head *request, enum page page,
                 const char *detail) {
  page_answer_with(l, front, request, page, detail, NULL, 0);
}
