#include "http/forward.h"

#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>

/* One Connection field names one or two others in practice; whoever names more than this is not believed about the rest. */
enum { NAMED_MAX = 16 };

static bool is(struct span name, struct span what) {
  return span_ieq(name, what);
}

/* The length tells nearly every field apart before a byte is compared. */
static bool is_hop(struct span name, bool keep_upgrade) {
  switch (name.n) {
  case 2:
    return is(name, SPAN("te"));
  case 7:
    return !keep_upgrade && is(name, SPAN("upgrade"));
  case 10:
    return is(name, SPAN("connection")) || is(name, SPAN("keep-alive"));
  case 16:
    return is(name, SPAN("proxy-connection"));
  case 17:
    return is(name, SPAN("transfer-encoding"));
  }
  return false;
}

/* What routes, frames or authenticates is not Connection's to name: else a visitor could strip it on its way. */
static bool is_protected(struct span name) {
  static const struct span names[] = {{"host", 4},       {"content-length", 14}, {"authorization", 13},
                                      {"cookie", 6},     {"origin", 6},          {"content-type", 12},
                                      {"set-cookie", 10}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (is(name, names[i]))
      return true;
  return false;
}

static struct span trim(struct span s) {
  while (s.n && (*s.p == ' ' || *s.p == '\t'))
    s.p++, s.n--;
  while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
    s.n--;
  return s;
}

/* The names in all Connection fields, but the options every writer deals with itself. */
static size_t named(const struct http_head *h, struct span *out) {
  size_t n = 0;
  for (size_t i = 0; i < h->fields_n; i++) {
    struct span list = h->fields[i].value;
    if (!is(h->fields[i].name, SPAN("connection")))
      continue;
    while (list.n && n < NAMED_MAX) {
      const char *comma = memchr(list.p, ',', list.n);
      size_t len = comma ? (size_t)(comma - list.p) : list.n;
      struct span item = trim((struct span){list.p, len});
      len += comma != NULL;
      list = (struct span){list.p + len, list.n - len};
      if (item.n && !is(item, SPAN("close")) && !is(item, SPAN("keep-alive")) && !is(item, SPAN("upgrade")) &&
          !is_protected(item))
        out[n++] = item;
    }
  }
  return n;
}

size_t forward_filter(const struct http_head *in, struct http_field *out, bool keep_upgrade) {
  struct span gone[NAMED_MAX];
  size_t gone_n = named(in, gone), n = 0;
  for (size_t i = 0; i < in->fields_n; i++) {
    struct span name = in->fields[i].name;
    bool keep = !is_hop(name, keep_upgrade);
    for (size_t k = 0; keep && k < gone_n; k++)
      keep = !is(name, gone[k]);
    if (keep)
      out[n++] = in->fields[i];
  }
  return n;
}

static bool starts(struct span name, struct span with) {
  return name.n >= with.n && span_ieq((struct span){name.p, with.n}, with);
}

/* Fields by which a visitor could pretend to be a proxy in front of us. */
static bool claims_to_be_us(struct span name) {
  switch (name.p[0] | 0x20) {
  case 'x':
    return starts(name, SPAN("x-forwarded-")) || is(name, SPAN("x-real-ip"));
  case 'f':
    return is(name, SPAN("forwarded"));
  case 'b':
    return starts(name, SPAN("beam-"));
  case 'h':
    return is(name, SPAN("host"));
  }
  return false;
}

static size_t drop(struct http_field *fields, size_t n, bool (*goes)(struct span)) {
  size_t kept = 0;
  for (size_t i = 0; i < n; i++)
    if (!goes(fields[i].name))
      fields[kept++] = fields[i];
  return kept;
}

static bool is_host(struct span name) {
  return is(name, SPAN("host"));
}

static bool is_expect(struct span name) {
  return is(name, SPAN("expect"));
}

/* out = in with an array of its own, filtered, with room for `more` fields and `text` bytes behind them. */
static int begin(const struct http_head *in, size_t more, size_t text, bool keep_upgrade,
                 struct http_head *out) {
  size_t table = (in->fields_n + more) * sizeof *out->fields;
  *out = *in;
  out->block = out->fields = malloc(table + text + 1);
  if (!out->block) {
    memset(out, 0, sizeof *out);
    return BEAM_ERR_NOMEM;
  }
  out->fields_n = forward_filter(in, out->fields, keep_upgrade);
  return 0;
}

static void add(struct http_head *h, struct span name, struct span value) {
  h->fields[h->fields_n++] = (struct http_field){name, value};
}

int forward_request(const struct http_head *in, const struct forward_facts *facts, struct http_head *out) {
  enum { ADDED = 5 };
  struct span visitor = span_of(facts->visitor), proto = span_of(facts->proto), host = span_of(facts->host);
  size_t text = visitor.n + proto.n + host.n + 64;
  bool upgrade = in->minor == 1 && http_field_has_token(in, "connection", "upgrade");
  int err = begin(in, ADDED, text, upgrade, out);
  if (err)
    return err;
  out->fields_n = drop(out->fields, out->fields_n, claims_to_be_us);
  if (in->minor == 0)
    out->fields_n = drop(out->fields, out->fields_n, is_expect); /* RFC 9110 10.1.1 */
  /* RFC 7239: an IPv6 address stands in brackets and quotes, a host is quoted because of its port. */
  char *forwarded = (char *)(out->fields + in->fields_n + ADDED);
  bool v6 = strchr(facts->visitor, ':') != NULL;
  str_fmt(forwarded, text + 1, v6 ? "for=\"[%s]\";proto=%s;host=\"%s\"" : "for=%s;proto=%s;host=\"%s\"",
          facts->visitor, facts->proto, facts->host);
  add(out, SPAN("X-Forwarded-For"), visitor);
  add(out, SPAN("X-Forwarded-Proto"), proto);
  add(out, SPAN("X-Forwarded-Host"), host);
  add(out, SPAN("X-Real-IP"), visitor);
  add(out, SPAN("Forwarded"), span_of(forwarded));
  return 0;
}

int forward_to_local(const struct http_head *in, const char *host_header, struct http_head *out) {
  int err = begin(in, 0, 0, true, out);
  if (err)
    return err;
  out->fields_n = drop(out->fields, out->fields_n, is_host);
  if (host_header)
    out->authority = span_of(host_header);
  return 0;
}

int forward_response(const struct http_head *in, struct http_head *out) {
  return begin(in, 0, 0, in->status == 101, out);
}
