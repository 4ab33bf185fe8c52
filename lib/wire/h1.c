#include "wire/h1.h"

#include <beam/beam.h>
#include <string.h>

#include "base/limits.h"
#include "wire/chars.h"
#include "wire/host.h"

const char *h1_fault_text(enum h1_fault f) {
  switch (f) {
  case H1_OK:
    return "no fault";
  case H1_FAULT_LINE:
    return "the first line is malformed";
  case H1_FAULT_VERSION:
    return "neither HTTP/1.0 nor HTTP/1.1";
  case H1_FAULT_FIELD:
    return "a header field's name is malformed, or not followed by a colon at once";
  case H1_FAULT_FOLD:
    return "a header field goes on in a line of its own";
  case H1_FAULT_CONTROL:
    return "a header field's value has a control character";
  case H1_FAULT_NEWLINE:
    return "a line does not end in CR LF";
  case H1_FAULT_HOST:
    return "Host is missing, repeated, invalid or disagrees with the target";
  case H1_FAULT_LENGTH:
    return "Content-Length is repeated or not a plain number";
  case H1_FAULT_BOTH:
    return "Content-Length and Transfer-Encoding together";
  case H1_FAULT_CODING:
    return "Transfer-Encoding is not exactly chunked";
  case H1_FAULT_UPGRADE:
    return "a request to upgrade has a body";
  case H1_FAULT_TOO_LARGE:
    return "the head is too large";
  case H1_FAULT_TOO_MANY:
    return "the head has too many fields";
  case H1_FAULT_CHUNK:
    return "a chunk is malformed";
  case H1_FAULT_NOMEM:
    return "out of memory";
  }
  return "unknown fault";
}

/* --- where a head ends --- */

/* Is p[at], an LF, the end of an empty line? Lines ended by a bare LF count, so that they are refused at once, not waited for. */
static bool ends_empty_line(const char *p, size_t at) {
  if (at == 0 || p[at - 1] == '\n')
    return true;
  return p[at - 1] == '\r' && (at == 1 || p[at - 2] == '\n');
}

/* How many bytes of at most two empty lines stand at the very beginning. */
static size_t leading_lines(const char *p, size_t n) {
  size_t eaten = 0;
  for (int i = 0; i < 2 && n - eaten >= 2 && p[eaten] == '\r' && p[eaten + 1] == '\n'; i++)
    eaten += 2;
  return eaten;
}

size_t h1_section_end(const char *p, size_t n, size_t from) {
  while (from < n) {
    const char *lf = memchr(p + from, '\n', n - from);
    if (!lf)
      break;
    if (ends_empty_line(p, (size_t)(lf - p)))
      return (size_t)(lf - p) + 1;
    from = (size_t)(lf - p) + 1;
  }
  return 0;
}

long h1_head_length(const char *p, size_t n, size_t *scanned) {
  size_t from = *scanned, skip = leading_lines(p, n);
  size_t end = h1_section_end(p, n, from > skip ? from : skip);
  if (end > LIMIT_HEAD_BYTES || (!end && n >= LIMIT_HEAD_BYTES))
    return BEAM_ERR_TOO_LARGE;
  if (!end) /* else a second look finds it again */
    *scanned = n;
  return (long)end;
}

/* --- fields --- */

/* What the fields say about framing, gathered on the way. */
struct facts {
  unsigned hosts, lengths, codings;
  struct span host, length, coding;
  bool close, keep_alive, upgrade; /* Connection has that token */
  bool upgrade_field, expect_100;
  bool slash; /* the first byte of the target stands where a "/" must be written: http://host?query */
};

static bool blank(char c) {
  return c == ' ' || c == '\t';
}

/* The next item of a comma-separated list, trimmed; false at the end. */
static bool next_item(struct span *list, struct span *item) {
  if (!list->n)
    return false;
  const char *comma = memchr(list->p, ',', list->n);
  *item = (struct span){list->p, comma ? (size_t)(comma - list->p) : list->n};
  size_t eaten = item->n + (comma != NULL);
  list->p += eaten;
  list->n -= eaten;
  while (item->n && blank(*item->p))
    item->p++, item->n--;
  while (item->n && blank(item->p[item->n - 1]))
    item->n--;
  return true;
}

static void note_connection(struct facts *f, struct span list) {
  for (struct span item; next_item(&list, &item);) {
    f->close |= span_ieq(item, SPAN("close"));
    f->keep_alive |= span_ieq(item, SPAN("keep-alive"));
    f->upgrade |= span_ieq(item, SPAN("upgrade"));
  }
}

/* The length of the name tells nearly every field apart before a byte of it is compared. */
static void note(struct facts *f, const struct http_field *field) {
  switch (field->name.n) {
  case 4:
    if (span_ieq(field->name, SPAN("host")))
      f->hosts++, f->host = field->value;
    break;
  case 6:
    if (span_ieq(field->name, SPAN("expect")))
      f->expect_100 = span_ieq(field->value, SPAN("100-continue"));
    break;
  case 7:
    if (span_ieq(field->name, SPAN("upgrade")))
      f->upgrade_field = true;
    break;
  case 10:
    if (span_ieq(field->name, SPAN("connection")))
      note_connection(f, field->value);
    break;
  case 14:
    if (span_ieq(field->name, SPAN("content-length")))
      f->lengths++, f->length = field->value;
    break;
  case 17:
    if (span_ieq(field->name, SPAN("transfer-encoding")))
      f->codings++, f->coding = field->value;
    break;
  }
}

/* One line without its CR LF: name ":" OWS value OWS. A blank before the name is obs-fold, one behind it a smuggler's trick; neither is a token. */
static enum h1_fault parse_field(const char *p, const char *end, struct http_field *out) {
  const char *colon = p;
  if (p < end && blank(*p))
    return H1_FAULT_FOLD;
  while (colon < end && char_is(*colon, CHAR_TOKEN))
    colon++;
  if (colon == p || colon == end || *colon != ':')
    return colon < end && *colon == '\r' ? H1_FAULT_NEWLINE : H1_FAULT_FIELD;
  const char *v = colon + 1;
  while (v < end && blank(*v))
    v++;
  while (end > v && blank(end[-1]))
    end--;
  const char *bad = char_bad_value(v, (size_t)(end - v));
  if (bad)
    return *bad == '\r' ? H1_FAULT_NEWLINE : H1_FAULT_CONTROL;
  out->name = (struct span){p, (size_t)(colon - p)};
  out->value = (struct span){v, (size_t)(end - v)};
  return H1_OK;
}

/* Takes one line off p; *line excludes its CR LF. */
static enum h1_fault take_line(const char **p, const char *end, struct span *line) {
  const char *lf = memchr(*p, '\n', (size_t)(end - *p));
  if (!lf || lf == *p || lf[-1] != '\r')
    return H1_FAULT_NEWLINE;
  *line = (struct span){*p, (size_t)(lf - 1 - *p)};
  *p = lf + 1;
  return H1_OK;
}

static enum h1_fault parse_fields(const char *p, const char *end, struct http_field *fields, size_t *n,
                                  struct facts *facts) {
  *n = 0;
  while (p < end) {
    struct span line;
    enum h1_fault fault = take_line(&p, end, &line);
    if (fault)
      return fault;
    if (*n == LIMIT_HEAD_FIELDS)
      return H1_FAULT_TOO_MANY;
    fault = parse_field(line.p, line.p + line.n, &fields[*n]);
    if (fault)
      return fault;
    note(facts, &fields[(*n)++]);
  }
  return H1_OK;
}

/* --- start lines --- */

static enum h1_fault parse_version(struct span v, uint8_t *minor) {
  if (v.n != 8 || memcmp(v.p, "HTTP/", 5) != 0 || v.p[5] < '0' || v.p[5] > '9' || v.p[6] != '.' ||
      v.p[7] < '0' || v.p[7] > '9')
    return H1_FAULT_LINE;
  if (v.p[5] != '1' || v.p[7] > '1')
    return H1_FAULT_VERSION;
  *minor = (uint8_t)(v.p[7] - '0');
  return H1_OK;
}

static enum h1_fault line_fault(struct span line) {
  return memchr(line.p, '\r', line.n) ? H1_FAULT_NEWLINE : H1_FAULT_LINE;
}

static enum h1_fault parse_request_line(struct span line, struct http_head *h) {
  const char *end = line.p + line.n;
  const char *a = memchr(line.p, ' ', line.n);
  const char *b = a ? memchr(a + 1, ' ', (size_t)(end - a - 1)) : NULL;
  if (!b)
    return line_fault(line);
  h->method = (struct span){line.p, (size_t)(a - line.p)};
  h->target = (struct span){a + 1, (size_t)(b - a - 1)};
  if (!http_name_ok(h->method) || !h->target.n || char_first_not(h->target.p, h->target.n, CHAR_TARGET))
    return line_fault(line);
  enum h1_fault fault = parse_version((struct span){b + 1, (size_t)(end - b - 1)}, &h->minor);
  return fault == H1_FAULT_LINE ? line_fault(line) : fault;
}

/* "HTTP/1.1 200 OK"; servers leave the reason out, and its space with it. */
static enum h1_fault parse_status_line(struct span line, struct http_head *h) {
  if (line.n < 12)
    return line_fault(line);
  enum h1_fault fault = parse_version((struct span){line.p, 8}, &h->minor);
  if (fault)
    return fault;
  uint64_t status;
  if (line.p[8] != ' ' || !str_u64((struct span){line.p + 9, 3}, 999, &status) || status < 100 ||
      (line.n > 12 && line.p[12] != ' '))
    return line_fault(line);
  h->status = (uint16_t)status;
  if (line.n > 13)
    h->reason = (struct span){line.p + 13, line.n - 13};
  while (h->reason.n && blank(*h->reason.p))
    h->reason.p++, h->reason.n--;
  while (h->reason.n && blank(h->reason.p[h->reason.n - 1]))
    h->reason.n--;
  return char_bad_value(h->reason.p, h->reason.n) ? line_fault(line) : H1_OK;
}

/* --- who is asked: Host and the target's own authority (RFC 9112 3.2) --- */

static bool same_authority(struct span a, struct span b, uint16_t normal_port) {
  char ha[HOST_MAX], hb[HOST_MAX];
  uint16_t pa, pb;
  if (!host_parse(a, ha, &pa) || !host_parse(b, hb, &pb))
    return false;
  return !strcmp(ha, hb) && (pa ? pa : normal_port) == (pb ? pb : normal_port);
}

/* http://host/path -> authority, and the target becomes the path. */
static enum h1_fault split_absolute(struct http_head *h, struct span *authority, uint16_t *normal_port,
                                    bool *slash) {
  struct span t = h->target;
  if (t.n > 7 && span_ieq((struct span){t.p, 7}, SPAN("http://")))
    t.p += 7, t.n -= 7, *normal_port = 80;
  else if (t.n > 8 && span_ieq((struct span){t.p, 8}, SPAN("https://")))
    t.p += 8, t.n -= 8, *normal_port = 443;
  else
    return H1_FAULT_LINE;
  size_t n = 0;
  while (n < t.n && t.p[n] != '/' && t.p[n] != '?')
    n++;
  *authority = (struct span){t.p, n};
  t.p += n;
  t.n -= n;
  if (!t.n) {
    h->target = span_eq(h->method, SPAN("OPTIONS")) ? SPAN("*") : SPAN("/");
  } else if (*t.p == '?') {
    h->target = (struct span){t.p - 1, t.n + 1};
    *slash = true;
  } else {
    h->target = t;
  }
  return H1_OK;
}

static enum h1_fault find_authority(struct http_head *h, struct facts *f) {
  struct span named = {0}; /* by the target */
  uint16_t normal_port = 0, port;
  char host[HOST_MAX];
  if (f->hosts > 1 || (f->hosts == 0 && h->minor == 1))
    return H1_FAULT_HOST;
  if (f->hosts && !host_parse(f->host, host, &port))
    return H1_FAULT_HOST;
  h->authority = f->host;
  if (span_eq(h->method, SPAN("CONNECT"))) {
    named = h->target;
    if (!host_parse(named, host, &normal_port) || !normal_port)
      return H1_FAULT_LINE;
  } else if (h->target.p[0] != '/' &&
             !(span_eq(h->target, SPAN("*")) && span_eq(h->method, SPAN("OPTIONS")))) {
    enum h1_fault fault = split_absolute(h, &named, &normal_port, &f->slash);
    if (fault)
      return fault;
    if (!host_parse(named, host, &port))
      return H1_FAULT_HOST;
  }
  if (named.n && !f->hosts)
    h->authority = named;
  else if (named.n && !same_authority(named, f->host, normal_port))
    return H1_FAULT_HOST;
  return H1_OK;
}

/* --- framing (RFC 9112 6) --- */

static enum h1_fault find_body(const struct facts *f, uint8_t minor, struct h1_message *m) {
  if (f->codings) {
    if (f->lengths)
      return H1_FAULT_BOTH;
    if (minor == 0 || f->codings > 1 || !span_ieq(f->coding, SPAN("chunked")))
      return H1_FAULT_CODING;
    m->body = HTTP_BODY_CHUNKED;
  } else if (f->lengths) {
    if (f->lengths > 1 || !str_u64(f->length, INT64_MAX, &m->length))
      return H1_FAULT_LENGTH;
    m->body = m->length ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
  }
  return H1_OK;
}

static bool keeps_alive(const struct facts *f, uint8_t minor) {
  return !f->close && (minor == 1 || f->keep_alive);
}

/* The lines of a head lie in p[0..n) with the empty line at the end: cut that off. */
static enum h1_fault cut_end(const char *p, size_t *n) {
  if (*n > LIMIT_HEAD_BYTES)
    return H1_FAULT_TOO_LARGE;
  if (*n < 2 || p[*n - 2] != '\r' || p[*n - 1] != '\n')
    return H1_FAULT_NEWLINE;
  *n -= 2;
  return H1_OK;
}

static enum h1_fault refuse(struct h1_message *m, enum h1_fault fault) {
  memset(m, 0, sizeof *m); /* nothing of a refused head is left to be believed */
  return fault;
}

enum h1_fault h1_parse_request(const char *p, size_t n, struct h1_message *m) {
  struct http_field fields[LIMIT_HEAD_FIELDS];
  struct facts f = {0};
  struct span line;
  memset(m, 0, sizeof *m);
  enum h1_fault fault = cut_end(p, &n);
  if (fault)
    return fault;
  const char *at = p + leading_lines(p, n), *end = p + n;
  if (at == end || (fault = take_line(&at, end, &line)))
    return fault ? fault : H1_FAULT_LINE;
  m->head.fields = fields;
  if ((fault = parse_request_line(line, &m->head)) ||
      (fault = parse_fields(at, end, fields, &m->head.fields_n, &f)) ||
      (fault = find_body(&f, m->head.minor, m)) || (fault = find_authority(&m->head, &f)))
    return refuse(m, fault);
  bool newer = m->head.minor == 1;
  m->keep_alive = keeps_alive(&f, m->head.minor);
  m->expect_100 = newer && f.expect_100;
  m->upgrade = newer && f.upgrade && f.upgrade_field;
  if (m->upgrade && m->body != HTTP_BODY_NONE)
    return refuse(m, H1_FAULT_UPGRADE);
  if (http_head_own(&m->head))
    return refuse(m, H1_FAULT_NOMEM);
  if (f.slash)
    ((char *)m->head.block)[m->head.target.p - (char *)m->head.block] = '/';
  return H1_OK;
}

/* --- responses --- */

/* What the status and the request's method say about the body before the fields may (RFC 9112 6.3). */
static void find_response_body(struct span method, struct h1_message *m, bool framed) {
  uint16_t status = m->head.status;
  bool connect = span_eq(method, SPAN("CONNECT")) && status >= 200 && status < 300;
  if (status == 101 || connect) {
    m->upgrade = status == 101;
    m->body = HTTP_BODY_UPGRADE;
  } else if (status < 200 || status == 204 || status == 304 || span_eq(method, SPAN("HEAD"))) {
    m->body = HTTP_BODY_NONE;
  } else if (!framed) {
    m->body = HTTP_BODY_CLOSE;
  }
  if (m->body != HTTP_BODY_LENGTH)
    m->length = 0;
}

enum h1_fault h1_parse_response(const char *p, size_t n, struct span method, struct h1_message *m) {
  struct http_field fields[LIMIT_HEAD_FIELDS];
  struct facts f = {0};
  struct span line;
  memset(m, 0, sizeof *m);
  enum h1_fault fault = cut_end(p, &n);
  if (fault)
    return fault;
  const char *at = p, *end = p + n;
  if (at == end || (fault = take_line(&at, end, &line)))
    return fault ? fault : H1_FAULT_LINE;
  m->head.fields = fields;
  if ((fault = parse_status_line(line, &m->head)) ||
      (fault = parse_fields(at, end, fields, &m->head.fields_n, &f)) ||
      (fault = find_body(&f, m->head.minor, m)))
    return refuse(m, fault);
  find_response_body(method, m, f.codings || f.lengths);
  m->keep_alive =
      keeps_alive(&f, m->head.minor) && m->body != HTTP_BODY_CLOSE && m->body != HTTP_BODY_UPGRADE;
  return http_head_own(&m->head) ? refuse(m, H1_FAULT_NOMEM) : H1_OK;
}

/* --- trailers --- */

enum h1_fault h1_parse_trailers(const char *p, size_t n, struct http_head *out) {
  struct http_field fields[LIMIT_HEAD_FIELDS];
  struct facts f = {0};
  memset(out, 0, sizeof *out);
  if (n > LIMIT_HEAD_BYTES)
    return H1_FAULT_TOO_LARGE;
  struct http_head h = {.minor = 1, .fields = fields};
  enum h1_fault fault = parse_fields(p, p + n, fields, &h.fields_n, &f);
  if (fault)
    return fault;
  if (f.hosts || f.lengths ||
      f.codings) /* framing and routing are over: whoever sends them now wants two readers to disagree (RFC 9110 6.5.1) */
    return H1_FAULT_FIELD;
  if (http_head_own(&h))
    return H1_FAULT_NOMEM;
  *out = h;
  return H1_OK;
}
