#include "http/compress.h"

#include <beam/beam.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "http/encoder.h"
#include "io/budget.h"
#include "obs/metrics.h"

static struct budget memory = {0, LIMIT_COMPRESS_BYTES};

void *(*encoder_alloc)(size_t n) = malloc;
void (*encoder_release)(void *p) = free;

size_t compress_memory(void) {
  return memory.cap - budget_left(&memory);
}

/* --- text --- */

static struct span trim(struct span s) {
  while (s.n && (*s.p == ' ' || *s.p == '\t'))
    s.p++, s.n--;
  while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
    s.n--;
  return s;
}

/* What stands before the next `at` (the rest, if there is none); *s goes behind it. */
static struct span cut(struct span *s, char at) {
  const char *p = s->n ? memchr(s->p, at, s->n) : NULL;
  struct span item = {s->p, p ? (size_t)(p - s->p) : s->n};
  size_t used = item.n + (p != NULL);
  *s = (struct span){s->p + used, s->n - used};
  return trim(item);
}

static bool starts(struct span s, struct span with) {
  return s.n >= with.n && span_ieq((struct span){s.p, with.n}, with);
}

static bool ends(struct span s, struct span with) {
  return s.n >= with.n && span_ieq((struct span){s.p + s.n - with.n, with.n}, with);
}

/* --- the request --- */

/* RFC 9110 12.4.2: "0.5" as 500; what is no such number counts as 0: nobody is sent what it may not understand. */
static unsigned quality(struct span params) {
  while (params.n) {
    struct span p = cut(&params, ';');
    if (!starts(p, SPAN("q=")))
      continue;
    unsigned q = 0, scale = 1000;
    for (size_t i = 2; i < p.n; i++) {
      if (i == 3 && p.p[i] == '.')
        continue;
      if (p.p[i] < '0' || p.p[i] > '9' || i > 6 || (i == 2 && p.p[i] > '1'))
        return 0;
      q += (unsigned)(p.p[i] - '0') * scale;
      scale /= 10;
    }
    return p.n == 2 || q > 1000 ? 0 : q;
  }
  return 1000;
}

static void read_accept(struct compress_facts *f, const struct http_head *h) {
  int gzip = -1, brotli = -1, any = 0, plain = -1;
  for (size_t i = 0; i < h->fields_n; i++) {
    struct span list = h->fields[i].value;
    if (!span_ieq(h->fields[i].name, SPAN("accept-encoding")))
      continue;
    while (list.n) {
      struct span params = cut(&list, ','), name = cut(&params, ';');
      int q = (int)quality(params);
      if (span_ieq(name, SPAN("gzip")) || span_ieq(name, SPAN("x-gzip")))
        gzip = q;
      else if (span_ieq(name, SPAN("br")))
        brotli = q;
      else if (span_ieq(name, SPAN("identity")))
        plain = q;
      else if (span_eq(name, SPAN("*")))
        any = q;
    }
  }
  gzip = gzip < 0 ? any : gzip;
  brotli = brotli < 0 ? any : brotli;
  f->gzip = gzip > 0 && gzip >= plain; /* who likes it plain more gets it plain */
  f->brotli = brotli > 0 && brotli >= plain;
  f->gzip_first = gzip > brotli;
}

/* BREACH needs a page elsewhere that makes the visitor's browser ask, with its cookies, for a response in which a secret stands beside what that page chose, and measures
 * how long it gets. Browsers say who is asking: what is asked in somebody's name from another site is sent plain. Tunnels of one relay are "same-site", and strangers. */
static bool is_foreign(const struct http_head *h) {
  const struct http_field *site = http_field_find(h, "sec-fetch-site");
  return site && (span_ieq(site->value, SPAN("cross-site")) || span_ieq(site->value, SPAN("same-site"))) &&
         (http_field_find(h, "cookie") || http_field_find(h, "authorization"));
}

void compress_ask(struct compress_facts *f, const struct http_head *h) {
  memset(f, 0, sizeof *f);
  read_accept(f, h);
  f->forbidden = http_field_has_token(h, "cache-control", "no-transform") || is_foreign(h);
}

/* --- the response --- */

static bool is_text(struct span type) {
  static const char *const known[] = {"application/javascript",
                                      "application/x-javascript",
                                      "application/ecmascript",
                                      "application/json",
                                      "application/xml",
                                      "application/wasm",
                                      "application/yaml",
                                      "application/x-yaml",
                                      "application/toml",
                                      "application/rtf",
                                      "application/x-ndjson",
                                      "application/ndjson",
                                      "application/jsonl",
                                      "application/graphql",
                                      "application/x-sh",
                                      "application/vnd.ms-fontobject",
                                      "application/x-font-ttf",
                                      "font/ttf",
                                      "font/otf",
                                      "font/collection",
                                      "image/bmp",
                                      "image/x-icon",
                                      "image/vnd.microsoft.icon",
                                      "model/obj"};
  if (starts(type, SPAN("text/")))
    return !span_ieq(type, SPAN("text/event-stream"));
  if (starts(type, SPAN("application/grpc")))
    return false;
  if (ends(type, SPAN("+json")) || ends(type, SPAN("+xml")) || ends(type, SPAN("+yaml")) ||
      ends(type, SPAN("+text")))
    return true;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (span_ieq(type, span_of(known[i])))
      return true;
  return false;
}

/* A digest of the plain bytes would be of something nobody gets (RFC 9530). */
static bool keeps_plain(const struct http_head *h) {
  static const char *const names[] = {"content-encoding", "content-range",  "content-md5",
                                      "digest",           "content-digest", "repr-digest"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (http_field_find(h, names[i]))
      return true;
  return http_field_has_token(h, "cache-control", "no-transform");
}

bool compress_fits(const struct http_head *h) {
  const struct http_field *type = http_field_find(h, "content-type");
  uint64_t length;
  if (h->status < 200 || h->status == 204 || h->status == 205 || h->status == 206 || h->status == 304 ||
      !type || keeps_plain(h))
    return false;
  int err = http_length(h, &length);
  if (err ? err != BEAM_ERR_NOT_FOUND : length < LIMIT_COMPRESS_LEAST)
    return false;
  struct span value = type->value;
  return is_text(cut(&value, ';'));
}

enum coding compress_choose(const struct compress_facts *f, const struct http_head *response) {
  if (f->forbidden || (!f->gzip && !f->brotli) || !compress_fits(response))
    return CODING_NONE;
  return f->brotli && !(f->gzip && f->gzip_first) ? CODING_BROTLI : CODING_GZIP;
}

static bool varies(const struct http_head *h) {
  return http_field_has_token(h, "vary", "accept-encoding") || http_field_has_token(h, "vary", "*");
}

static bool is_strong(const struct http_field *f) {
  return span_ieq(f->name, SPAN("etag")) && f->value.n && f->value.p[0] == '"';
}

int compress_head(enum coding coding, const struct http_head *in, struct http_head *out) {
  size_t table = (in->fields_n + 2) * sizeof *in->fields, text = 0;
  bool vary = !varies(in);
  if (!coding && !vary)
    return 0;
  for (size_t i = 0; i < in->fields_n; i++)
    text += is_strong(&in->fields[i]) ? in->fields[i].value.n + 2 : 0;
  *out = *in;
  out->block = out->fields = malloc(table + text);
  if (!out->block) {
    memset(out, 0, sizeof *out);
    return BEAM_ERR_NOMEM;
  }
  char *to = (char *)out->block + table;
  size_t n = 0;
  for (size_t i = 0; i < in->fields_n; i++) {
    struct http_field f = in->fields[i];
    if (coding && (span_ieq(f.name, SPAN("content-length")) || span_ieq(f.name, SPAN("accept-ranges"))))
      continue;
    if (coding && is_strong(&f)) { /* the bytes are others, what they say is the same: RFC 9110 8.8.1 */
      memcpy(to, "W/", 2);
      memcpy(to + 2, f.value.p, f.value.n);
      f.value = (struct span){to, f.value.n + 2};
      to += f.value.n;
    }
    out->fields[n++] = f;
  }
  if (coding)
    out->fields[n++] =
        (struct http_field){SPAN("Content-Encoding"), coding == CODING_BROTLI ? SPAN("br") : SPAN("gzip")};
  if (vary)
    out->fields[n++] = (struct http_field){SPAN("Vary"), SPAN("Accept-Encoding")};
  out->fields_n = n;
  return 1;
}

/* --- between a front and an upstream --- */

struct compressor {
  struct http_filter filter;
  struct compress_facts facts;
  struct encode_share *share;
  struct encoder *encoder;
  size_t charged; /* of the budget */
  void (*gone)(void *owner);
  void *owner;
  bool is_head;
};

static bool start(struct compressor *c, enum coding coding, uint64_t length) {
  size_t cost = coding == CODING_BROTLI ? ENCODER_BROTLI_BYTES : ENCODER_GZIP_BYTES;
  int err = BEAM_ERR_UNSUPPORTED;
  if (!budget_take(&memory, cost, 0))
    return false;
  c->charged = cost;
  (void)length;
#ifndef BEAM_NO_BROTLI
  if (coding == CODING_BROTLI)
    err = encoder_brotli(length, &c->encoder);
#endif
#ifndef BEAM_NO_ZLIB
  if (coding == CODING_GZIP)
    err = encoder_gzip(&c->encoder);
#endif
  if (!err && !http_filter_encode(&c->filter, c->share))
    return true;
  if (!err)
    c->encoder->ops->free(c->encoder);
  c->encoder = NULL;
  budget_give(&memory, cost);
  c->charged = 0;
  return false;
}

/* The coding it gets, and its encoder if a body follows. Memory for Brotli may be used up when there is some for gzip. */
static enum coding begin(struct compressor *c, const struct http_head *in) {
  enum coding coding = compress_choose(&c->facts, in);
  uint64_t length = 0;
  if (http_length(in, &length))
    length = 0;
  if (!c->filter.body_follows && !c->is_head)
    return CODING_NONE;
  if (coding == CODING_NONE || c->is_head || start(c, coding, length))
    return coding;
  coding = coding == CODING_BROTLI ? CODING_GZIP : CODING_BROTLI;
  bool takes = coding == CODING_GZIP ? c->facts.gzip : c->facts.brotli;
  return takes && start(c, coding, length) ? coding : CODING_NONE;
}

static int on_response(struct http_filter *f, const struct http_head *in, struct http_head *out) {
  struct compressor *c = (struct compressor *)f;
  if (!compress_fits(in))
    return 0;
  return compress_head(begin(c, in), in, out);
}

static int on_encode(struct http_filter *f, const void *p, size_t n, enum encode_what what,
                     struct evbuffer *out) {
  struct encoder *e = ((struct compressor *)f)->encoder;
  size_t before = evbuffer_get_length(out);
  int err = e->ops->run(e, p, n, what, out);
  metric_add(METRIC_COMPRESS_IN, (int64_t)n);
  metric_add(METRIC_COMPRESS_OUT, (int64_t)(evbuffer_get_length(out) - before));
  return err;
}

static void on_free(struct http_filter *f) {
  struct compressor *c = (struct compressor *)f;
  if (c->encoder)
    c->encoder->ops->free(c->encoder);
  if (c->charged)
    budget_give(&memory, c->charged);
  c->gone(c->owner);
  free(c);
}

int compress_join(struct loop *l, struct encode_share *share, struct http_end *front,
                  const struct http_head *request, void (*gone)(void *owner), void *owner) {
  static const struct http_filter_ops ops = {.response = on_response, .encode = on_encode, .free = on_free};
  struct compressor *c = calloc(1, sizeof *c);
  if (!c)
    return BEAM_ERR_NOMEM;
  compress_ask(&c->facts, request);
#ifdef BEAM_NO_BROTLI
  c->facts.brotli = false;
#endif
#ifdef BEAM_NO_ZLIB
  c->facts.gzip = false;
#endif
  c->is_head = span_eq(request->method, SPAN("HEAD"));
  c->share = share;
  c->gone = gone;
  c->owner = owner;
  http_filter_join(l, &c->filter, &ops, front, front->peer);
  return 0;
}
